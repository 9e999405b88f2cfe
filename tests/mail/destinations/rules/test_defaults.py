"""What is built in, and the files that a new home gets."""

import re

import pytest

from pyqmail.mail.destinations.rules import defaults
from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.destinations.rules.tables import compile_rules
from pyqmail.system.public_suffixes import PublicSuffixes


@pytest.mark.parametrize("addresses, limit", [(0, 10), (1, 10), (5, 10), (8, 16), (100, 200), (1000, 200)])
def test_an_organisation_gets_more_if_it_shows_more_machines(addresses, limit):
    assert defaults.organisation_limit(addresses) == limit


def test_the_shipped_files_compile_without_a_word():
    suffixes = PublicSuffixes()
    compiled = compile_rules(
        defaults.SHIPPED,
        defaults.SHIPPED_RESPONSES,
        shipped=defaults.SHIPPED,
        is_public_suffix=suffixes.is_public,
        most_sessions=1024,
    )
    assert [one.text for one in compiled.warnings] == []
    assert len(compiled.records) > 35


def test_each_shipped_line_says_where_it_is_from_and_since_when():
    lines = defaults.SHIPPED.decode().splitlines()
    rules = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    comments = [lines[number - 1] for number in rules]
    assert [one for one in comments if not re.search(r"^# .*\((20\d\d-\d\d|2011)\)", one)] == []
    assert len(rules) > 35


PROVIDERS = [
    # domain, MX hosts                                                     sessions, messages, recipients
    (b"gmail.com", [b"gmail-smtp-in.l.google.com", b"alt1.gmail-smtp-in.l.google.com"], 5, 50, 100),
    (b"customer.example", [b"aspmx.l.google.com", b"aspmx2.googlemail.com"], 5, 50, 100),
    (b"hotmail.com", [b"hotmail-com.olc.protection.outlook.com"], 5, 50, 50),
    (b"tenant.example", [b"tenant-example.mail.protection.outlook.com"], 5, 50, 50),
    (b"yahoo.com", [b"mta5.am0.yahoodns.net", b"mta6.am0.yahoodns.net"], 10, 20, 50),
    (b"yahoo.co.jp", [b"mx1.mail.yahoo.co.jp"], 2, 20, 50),
    (b"icloud.com", [b"mx01.mail.icloud.com"], 10, 5, 50),
    (b"comcast.net", [b"mx1.comcast.net"], 25, 1000, 100),
    (b"web.de", [b"mx-ha02.web.de"], 4, 20, 50),
    (b"t-online.de", [b"mx00.t-online.de"], 3, 50, 50),
    (b"anybody.example", [b"mx.anybody.example"], 10, 100, 50),
]


@pytest.mark.parametrize("domain, hosts, sessions, messages, recipients", PROVIDERS)
def test_what_a_provider_gets(domain, hosts, sessions, messages, recipients):
    suffixes = PublicSuffixes()
    policy = RuleSet.of_text(defaults.SHIPPED, registrable=suffixes.registrable).for_site(domain, hosts)
    least = min(limit.value for limit in policy.limits if limit.kind == b"c")
    assert (least, policy.messages, policy.recipients) == (sessions, messages, recipients)


def test_a_star_is_a_public_suffix():
    rules = RuleSet.of_text(b"yahoo.*:n=1", registrable=PublicSuffixes().registrable)
    names = (b"yahoo.com", b"yahoo.co.uk", b"yahoo.evil.example", b"mail.yahoo.com", b"notyahoo.com")
    assert [rules.for_site(name).messages for name in names] == [1, 1, 100, 100, 100]
