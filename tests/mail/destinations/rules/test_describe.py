"""What applies, in words."""

import pytest

from pyqmail.mail.destinations.rules import describe
from pyqmail.mail.destinations.rules.lookup import RuleSet

TEXTS = [
    (b"a:c=5", "5 sessions at once from each source, for each domain"),
    (b"a:C=5/site", "5 sessions at once over all sources, for each site"),
    (b"a:r=10/m~3/org", "10 recipients in 60 s, 3 at once from each source, for each organisation"),
    (b"a:R=1/s", "1 recipient in 1 s, 1 at once over all sources, for each domain"),
    (b"a:k=2/h", "2 connections in 3600 s, 1 at once from each source, for each domain"),
    (b"a:@g\n@g:C=9", "9 sessions at once over all sources, for @g together"),
]


@pytest.mark.parametrize("text, words", TEXTS)
def test_a_limit_in_words(text, words):
    limits = RuleSet.of_text(text).for_site(b"a").limits
    assert [describe.limit_text(limit) for limit in limits if not limit.is_default] == [words]


def test_a_site():
    policy = RuleSet.of_text(b"mx=.g.example:@g\n@g:c=5,n=50\n:m=7\n").for_site(b"a", [b"mx.g.example"])
    lines = describe.site_lines(policy)
    assert lines[:4] == [
        "lines that match, the one that wins first:",
        "  destinations line 1: mx=.g.example:@g",
        "  destinations line 2: @g:c=5,n=50",
        "  destinations line 3: :m=7",
    ]
    assert lines[4].startswith("  built in: :c=10,")
    assert "  5 sessions at once from each source, for @g together: destinations line 2" in lines
    assert "  n=50: destinations line 2" in lines and "  m=7: destinations line 3" in lines
    assert not any("organisation" in line for line in lines)


@pytest.mark.parametrize("text, least, most", [(b"", 10, 200), (b"a:c=30", 30, 200), (b"a:c=500", 500, 500)])
def test_an_organisation(text, least, most):
    lines = describe.site_lines(RuleSet.of_text(text).for_site(b"a"))
    words = f"  {least} to {most} sessions at once from each source, for each organisation"
    assert f"{words}: 2 for each address of its hosts: built in" in lines


def test_an_address():
    rules = RuleSet.of_text(b"ip=10.0.0.1:n=1,m=2,c=3")
    lines = describe.address_lines(rules.for_address(b"mx", b"10.0.0.1", rules.for_site(b"a", [b"mx"])))
    assert lines == [
        "  3 sessions at once from each source, for each address: destinations line 1",
        "  100 sessions at once from each source, for each network: built in",
        "  n=1: destinations line 1",
        "  m=2: destinations line 1",
    ]


def test_a_recipient():
    lines = describe.recipient_lines(RuleSet.of_text(b"rcpt=a@b:r=5/m,die=1d").for_recipient(b"a@b"))
    assert lines[1:] == [
        "  destinations line 1: rcpt=a@b:r=5/m,die=1d",
        "  built in: rcpt=:c=2",
        "limits:",
        "  5 deliveries in 60 s, 1 at once, to each recipient: destinations line 1",
        "  2 deliveries at once to each recipient: built in",
        "otherwise:",
        "  die=1d: destinations line 1",
    ]
