"""control/destinations.now: lines that hold for a while.  How they win is in test_lookup.py."""

import pytest

from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.destinations.rules.overlay import Overlay
from pyqmail.mail.destinations.rules.policies import FOR_EVER, NOT_HELD
from pyqmail.mail.destinations.rules.tables import compile_rules
from pyqmail.mail.destinations.rules.text import BadRules

BASE = dict(compile_rules(b"yahoo.*:@yahoo\n@yahoo:C=100\na:src=%p\n%p:10.0.0.1", None).records)
NOON = 1793534400.0  # 2026-11-01T12:00Z


def test_a_line_ends_at_its_time():
    overlay = Overlay.of_text(b"@yahoo:hold,until=2026-11-01T12:00Z\na:n=1\nb:n=1,until=2026-11-02", BASE)
    held = RuleSet(BASE, overlay.table(NOON - 1)).for_site(b"yahoo.example")
    after = RuleSet(BASE, overlay.table(NOON)).for_site(b"yahoo.example")
    assert (held.held_until, after.held_until) == (FOR_EVER, NOT_HELD)
    assert [overlay.next_change(date) for date in (0, NOON - 1, NOON, NOON + 86400)] == [
        NOON,
        NOON,
        NOON + 43200,
        None,
    ]
    assert RuleSet(BASE, overlay.table(NOON * 2)).for_site(b"a").messages == 1


@pytest.mark.parametrize("text", [b"", b"# nothing", b"a:n=1,until=2026-11-01"])
def test_nothing_holds(text):
    assert Overlay.of_text(text, BASE).table(NOON) is None


def test_the_line_that_holds_is_named():
    policy = RuleSet(BASE, Overlay.of_text(b"\n@yahoo:c=1", BASE).table(0)).for_site(b"yahoo.example")
    assert [(one.where, one.line) for one in policy.limits if one.kind == b"c"] == [("destinations.now", 2)]


WRONG = [
    (b"a:@google", 1, "no line defines @google"),
    (b"a:src=%q", 1, "no line defines %q"),
    (b"@google:hold", 1, "no line is in the group @google"),
    (b"a:tls=no", 3, "unknown key: tls"),
    (b"a:until=never", 9, "until=never: not a date, for example 2026-11-01 or 2026-11-01T14:05Z"),
]


@pytest.mark.parametrize("text, column, said", WRONG)
def test_what_is_wrong(text, column, said):
    with pytest.raises(BadRules) as bad:
        Overlay.of_text(text, BASE)
    assert [(one.column, one.text) for one in bad.value.problems] == [(column, said)]


@pytest.mark.parametrize("text", [b"a:@yahoo", b"@yahoo/10.0.0.1:hold", b"a:src=%p", b"a:@g\n@g:c=1"])
def test_what_is_known_below_may_be_named(text):
    assert Overlay.of_text(text, BASE).table(0)
