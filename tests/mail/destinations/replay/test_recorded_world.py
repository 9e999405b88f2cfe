"""The mail of a log under other rules: what they refuse, defer, and let wait, and which of them."""

import random

from pyqmail.mail.destinations.replay.recorded_world import RecordedWorld
from pyqmail.mail.destinations.replay.report import recipients_by_domain, report_lines
from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.destinations.sites import last_two_labels
from tests.mail.destinations.replay.test_log_records import records

BIG = b"big.example"
FAST = b"i=99,k=1000/s~1000"


def mailing(count=40, seconds=2.0, *, extra=(), result=b"success: 192.0.2.9_accepted_message./"):
    """The log of so many messages to one domain that were all delivered at once."""
    lines = [*extra]
    for number in range(count):
        lines += [
            (0, b"info msg %d: bytes 100 from <l@s.example> qp 1 uid 0" % number),
            (0, b"starting delivery %d: msg %d to remote u%d@big.example" % (number, number, number)),
            (seconds, b"delivery %d: %b" % (number, result)),
        ]
    return records(*lines)


def played(log, rules, *, relay=b"", total=500):
    compiled = RuleSet.of_text(rules)
    hosts = [(0, relay or b"mx.big.example", [b"192.0.2.9"])]
    places = {domain: (hosts, relay) for domain in recipients_by_domain(log)}
    world = RecordedWorld(
        *(log, compiled, places), total=total, lifetime=604800, registrable=last_two_labels, random=random.Random(1)
    )
    world.run()
    return world, report_lines(log, world, compiled, places)


def test_a_limit_makes_mail_wait_and_is_named():
    world, lines = played(mailing(), b":c=4,%b\n" % FAST)
    assert (world.delivered, world.most_sessions, world.deferrals) == (40, 4, 0)
    assert 18 < max(world.waits) < 25  # ten rounds of 2 s
    [waited] = [line for line in lines if "(:c=4 (destinations line 1))" in line]
    assert waited.startswith("  36, ") and "full: site big.example#mx" in waited
    assert "  1, 40: 4 sessions at once from each source, for each site: destinations line 1" in lines


def test_what_is_allowed_does_not_wait():
    world, lines = played(mailing(), b":c=99,%b\n" % FAST)
    assert (world.delivered, world.most_sessions) == (40, 40)
    assert max(world.waits) < 1
    assert "40 recipients in 1 domains" in lines[0]


def test_a_server_refuses_beyond_what_the_log_tells():
    log = mailing(extra=[(1, b"site big.example#mx: ceiling 5 for 600: 421_too_many_connections")])
    assert played(log, b":c=5,%b\n" % FAST)[0].servers[b"big.example#mx"].refused == 0
    world, lines = played(log, b":c=20,%b\n" % FAST)
    assert world.servers[b"big.example#mx"].refused > 0
    assert world.delivered == 40
    assert [line.split() for line in lines if line.startswith("sessions refused")][0][:3] == [
        "sessions",
        "refused",
        "1",
    ]


def test_deferrals_of_the_log_come_again_and_then_mail_is_taken():
    log = mailing(4, result=b"deferral: 192.0.2.9_does_not_like_recipient./Remote_host_said:_450_full/")
    world, _ = played(log, b":%b\n" % FAST)
    assert (world.deferrals, world.delivered) == (4, 4)
    assert world.last > 300  # the retry time of a greylist


def test_a_relay_has_its_line():
    world, lines = played(mailing(), b":c=99,%b\nrelay.example:c=3\n" % FAST, relay=b"relay.example")
    assert world.most_sessions == 3
    assert any("(relay.example:c=3 (destinations line 2))" in line for line in lines)


def test_a_hold_keeps_mail_until_it_is_too_old():
    world, lines = played(mailing(3), b"big.example:hold\n")
    assert (world.delivered, world.given_up) == (0, 3)
    assert any(line.endswith(": held, destinations line 1") for line in lines)


def test_tries_that_reached_no_server_are_not_played():
    text = b"deferral: Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/"
    log = mailing(2, result=text)
    assert recipients_by_domain(log) == {}


def test_a_log_of_a_hundred_years_and_a_server_that_greets_late_are_played_to_their_end():
    late = b"site big.example#mx: greeting inf s"
    assert played(mailing(2, extra=[(1, late), (2_000_000_000, b"end msg 0")]), b":%b\n" % FAST)[0].delivered == 2
