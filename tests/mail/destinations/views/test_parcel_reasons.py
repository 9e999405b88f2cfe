"""Why mail waits, in each state that an engine can be in: the one reason, who set it, and when it should go."""

import errno

import pytest

from pyqmail.mail.destinations import explain
from pyqmail.mail.destinations.engine import LOCAL
from pyqmail.mail.destinations.limits.budgets import Pause
from pyqmail.mail.destinations.orders import DELIVER, NO_LIMITS, OPEN
from pyqmail.mail.destinations.outcome import CONNECT, GREETING, LOOKUP, RECIPIENTS, Outcome
from pyqmail.protocol.wires import send_status_wire as wire
from tests.mail.destinations.play import LATER, Play, words

FAST = b"i=99,k=1000/s~1000"
ONE = ((10, b"mx.one.example", [b"192.0.2.1"]),)
TWO = ((10, b"mx.two.example", [b"198.51.100.1"]),)
SAME_NET = ((10, b"mx.three.example", [b"192.0.2.2"]),)
SAME_ORGANISATION = ((10, b"other.one.example", [b"203.0.113.1"]),)
TOO_MANY = Outcome(b"Z192.0.2.1 refused\nRemote host said: 421 too many connections\n", GREETING, 421)
GREY = Outcome(b"Z192.0.2.1 does not like recipient.\nRemote host said: 451 4.7.1 greylisted\n", RECIPIENTS, 451)


def play_of(rules, *places, total=50, mail=9, **options):
    """Return a play with mail for each domain (hosts as given), and as many sessions as are allowed delivering."""
    play = Play(total, rules, **options)
    for domain, _ in places:
        for _ in range(mail):
            play.arrive(domain)
    play.orders()
    for domain, hosts in places:
        play.resolved(domain, hosts)
    open_all(play)
    return play


def open_all(play):
    """Let all sessions greet that are opened; keep what is delivered as play.flying."""
    play.flying = []
    for _ in range(12):
        orders = play.orders()
        play.flying += [(order[1], recipient) for order in words(orders, DELIVER) for recipient, _ in order[3]]
        for _, session, opening in words(orders, OPEN):
            play.engine.ready(session, opening.host, opening.address, NO_LIMITS, play.now)


def why(play, kind, name):
    fields = explain.why([play.engine], kind, name, play.now, play.date)
    return wire.unpack(wire.WHY, wire.pack({**fields, "pid": 1, "now": 0.0}))["entries"]


def full_door():
    return play_of(b":c=2,%b\n" % FAST, (b"a.test", ONE))


def full_domain():
    return play_of(b":%b\na.test:c=2\n" % FAST, (b"a.test", ONE))


def full_organisation():
    return play_of(b":%b\nmx=.one.example:c=3/org\n" % FAST, (b"b.test", SAME_ORGANISATION), (b"a.test", ONE))


def full_organisation_by_default():
    return play_of(b":%b\n" % FAST, (b"b.test", SAME_ORGANISATION), (b"a.test", ONE), mail=20)


def full_group():
    rules = b":%b\na.test:@g\nb.test:@g\n@g:C=4\n" % FAST
    return play_of(rules, (b"b.test", TWO), (b"a.test", ONE))


def full_reserve():
    return play_of(b":c=99,%b\n" % FAST, (b"b.test", TWO), (b"a.test", ONE), total=4, mail=20)


def full_total():
    play = Play(2, b"", channel=LOCAL)
    for name in (b"jim@a.test", b"jane@a.test", b"joe@a.test"):
        play.arrive(name)
    play.orders()
    return play


def full_net():
    return play_of(b":%b\nip=192.0.2.0/24:c=5/net\n" % FAST, (b"b.test", SAME_NET), (b"a.test", ONE))


def full_host():
    play = Play(50, b":%b\nmx=mx.one.example:c=2/host\n" % FAST)
    for _ in range(9):
        play.arrive(b"a.test")
    play.orders()
    play.resolved(b"a.test", ONE)
    open_all(play)
    return play


def full_unproven():
    play = Play(4, b":%b\n" % FAST)
    for number in range(3):
        play.arrive(b"s%d.test" % number)
    play.arrive(b"a.test")
    play.orders()
    for number in range(3):
        play.resolved(b"s%d.test" % number, ((10, b"mx.s%d.test" % number, [b"10.0.%d.1" % number]),))
    play.resolved(b"a.test", ONE)
    play.orders()
    return play


def not_greeted_yet():
    play = Play(50, b":%b\n" % FAST)
    for _ in range(3):
        play.arrive(b"a.test")
    play.orders()
    play.resolved(b"a.test", ONE)
    play.orders()
    return play


def window():
    return play_of(b":i=2,k=1000/s~1000\n", (b"a.test", ONE))


def ceiling():
    play = play_of(b":c=9,%b\n" % FAST, (b"a.test", ONE), mail=20)
    budget = play.engine.tables.ways.find(b"a.test").door.site_budget
    budget.window.refused(play.now, 3, None)
    budget.learned_owner = b"421 too many connections"
    budget.refresh(play.now)
    return play


def rate():
    return play_of(b":i=99,k=6/m~2\n", (b"a.test", ONE))


def rate_of_recipients():
    return play_of(b":%b\na.test:r=6/m~2\n" % FAST, (b"a.test", ONE))


def learned_rate():
    play = full_door()
    budget = play.engine.tables.ways.find(b"a.test").door.site_budget
    rate = play.engine._consequences.rate_of(budget)
    rate.refused(play.now)
    budget.pause(Pause(play.now + 1, b"rate", b"450 slow down"))
    budget.limit = 9
    budget.refresh(play.now)
    rate.gcra.take(play.now, 3)
    budget.use_rates(budget.connect_rates, (rate.gcra,))
    play.now += 2
    play.arrive(b"a.test")
    play.orders()
    return play


def pause(reason=b"rule 9", text=b"421 OFR_999\n", until=7200.0):
    def build():
        play = full_door()
        play.engine.tables.ways.find(b"a.test").door.site_budget.pause(Pause(play.now + until, reason, text))
        return play

    return build


def after_a_pause():
    play = full_door()
    play.engine.tables.ways.find(b"a.test").door.site_budget.be_cautious(True)
    return play


def hold(rule):
    def build():
        play = Play(20, b":%b\n%b\n" % (FAST, rule))
        play.arrive(b"a.test")
        play.orders()
        return play

    return build


def dead(probing=False):
    def build():
        play = Play(20, b"")
        play.arrive(b"a.test")
        play.orders()
        play.resolved(b"a.test", ONE)
        [order] = words(play.orders(), OPEN)
        outcome = Outcome(b"Zconnect timed out\n", CONNECT, errno.ETIMEDOUT, b"mx.one.example", b"192.0.2.1")
        play.engine.failed(order[1], outcome, play.now)
        play.engine.closed(order[1], None, now=play.now)
        play.orders(90 if probing else 10)
        return play

    return build


def greylisted():
    play = play_of(b":%b\n" % FAST, (b"a.test", ONE), mail=1)
    play.result(play.flying[0][1], GREY)
    play.orders()
    return play


def deferred(rules=b"", outcome=LATER):
    def build():
        play = play_of(b":%b\n%b" % (FAST, rules), (b"a.test", ONE), mail=1)
        play.result(play.flying[0][1], outcome)
        play.orders()
        return play

    return build


def deferred_and_then_held():
    play = deferred()()
    play.engine.use_rules(play.engine._core.rules.of_text(b"a.test:hold\n"), play.now)
    play.resolved(b"a.test", ONE)
    return play


def flow_fault():
    play = deferred()()
    lane = play.engine.tables.ways.find(b"a.test")
    play.engine._consequences._flow_faults(lane.door).pause(b"s.example", play.now + 900)
    play.arrive(b"a.test")
    play.orders()
    return play


def soft_block():
    play = full_door()
    site = play.engine.tables.ways.find(b"a.test").door.site
    from pyqmail.mail.destinations.faults.flow_faults import SoftBlock

    site.soft_block = SoftBlock()
    for number in range(20):
        site.soft_block.deferred(451, b"flow%d" % number, play.now)
    play.engine._site_faults.block(site, play.now)
    return play


def no_such_domain():
    play = Play(20, b"")
    play.arrive(b"a.test")
    play.orders()
    play.engine.nowhere(b"a.test", Outcome(b"DSorry, no host named a.test. (#5.1.2)\n", LOOKUP), play.now)
    return play


def asked():
    play = Play(20, b"")
    play.arrive(b"a.test")
    play.orders()
    return play


def no_answer():
    play = asked()
    play.engine.trouble(b"a.test", b"SERVFAIL", play.now)
    return play


def our_network():
    play = full_door()
    play.engine.tables.core.is_us = True
    return play


def our_source():
    play = full_door()
    play.engine.tables.ways.find(b"a.test").door.site_budget.pause(Pause(float("inf"), b"our network"))
    return play


def stopped():
    play = full_door()
    play.engine.stop(play.now)
    return play


def local_recipient():
    play = Play(20, b"", channel=LOCAL)
    for _ in range(3):
        play.arrive(b"joe@a.test")
    play.orders()
    return play


def local_rate():
    play = Play(20, b"rcpt=joe@a.test:r=1/m\n", channel=LOCAL)
    for _ in range(3):
        play.arrive(b"joe@a.test")
    play.orders()
    return play


def local_hold():
    play = Play(20, b"rcpt=joe@a.test:hold=2027-01-15T09:00Z\n", channel=LOCAL)
    play.arrive(b"joe@a.test")
    play.orders()
    return play


DOMAIN, WHOLE = ("domain", b"a.test"), ("recipient", b"joe@a.test")
STATES = [
    # state          built by, of which subject      reason
    ("full", full_door, DOMAIN, "full: site one.example#mx 2/2 (:c=2 (destinations line 1))"),
    ("full", full_domain, DOMAIN, "full: domain a.test 2/2 (a.test:c=2 (destinations line 2))"),
    (
        *("full", full_organisation, DOMAIN),
        "full: organisation one.example 3/3 (mx=.one.example:c=3/org (destinations line 2))",
    ),
    (
        *("full", full_organisation_by_default, DOMAIN),
        "full: organisation one.example 10/10 (built in: 2 for each address of its hosts, 10 or more)",
    ),
    ("full", full_group, DOMAIN, "full: @g 4/4 (@g:C=4 (destinations line 4))"),
    (
        *("full", full_reserve, DOMAIN),
        "full: total but its reserve 3/3 "
        "(control/concurrencyremote; a tenth of it is kept for destinations without a session)",
    ),
    ("full", full_total, WHOLE, "full: total 2/2 (control/concurrencylocal)"),
    ("full", full_net, DOMAIN, "full: net 192.0.2.0/24 5/5 (ip=192.0.2.0/24:c=5/net (destinations line 2))"),
    ("full", full_host, DOMAIN, "full: host mx.one.example 2/2 (mx=mx.one.example:c=2/host (destinations line 2))"),
    ("full", full_unproven, DOMAIN, "full: sites that have not greeted 2/2 (built in: half of the total)"),
    ("full", not_greeted_yet, DOMAIN, "full: site one.example#mx 1/1 (one session until it has greeted)"),
    (
        *("full", window, DOMAIN),
        "full: site one.example#mx 2/2 (a window that grows with each mail accepted, up to 10 (:c=10 (built in)))",
    ),
    (
        *("full", ceiling, DOMAIN),
        "full: site one.example#mx 9/3 (ceiling 3, one more is tried in 10m00s: 421 too many connections)",
    ),
    (
        *("rate", rate, DOMAIN),
        "rate of site one.example#mx: 6 connections in 60 s, 2 at once from each source, for each site "
        "(:k=6/m~2, destinations line 1); next in 10s",
    ),
    (
        *("rate", rate_of_recipients, DOMAIN),
        "rate of domain a.test: 6 recipients in 60 s, 2 at once from each source, for each domain "
        "(a.test:r=6/m~2, destinations line 2); next in 10s",
    ),
    (
        *("rate", learned_rate, DOMAIN),
        "rate of site one.example#mx: learned, 1.0 recipients a minute: 450 slow down; next in 2m58s",
    ),
    ("paused", pause(), DOMAIN, "site one.example#mx paused for 2h00m more, responses line 9: 421 OFR_999"),
    (
        *("paused", pause(b"refused", b"421 busy"), DOMAIN),
        "site one.example#mx paused for 2h00m more, it refused a session while none was up: 421 busy",
    ),
    (
        *("full", after_a_pause, DOMAIN),
        "full: site one.example#mx 2/1 (one session until mail is accepted, since it was paused)",
    ),
    ("held", hold(b"a.test:hold"), DOMAIN, "held, destinations line 2"),
    ("held", hold(b"a.test:hold=2027-01-15T09:00Z"), DOMAIN, "held for 1h00m more, destinations line 2"),
    ("dead", dead(), DOMAIN, "dead for 10s, next probe in 55s: connect timed out"),
    ("dead", dead(probing=True), DOMAIN, "dead for 1m30s, a probe is on its way: connect timed out"),
    ("retry", greylisted, DOMAIN, "greylisted: tried again in 5m31s"),
    ("retry", deferred(), DOMAIN, "deferred: tried again in 6m40s"),
    ("retry", deferred(b"a.test:try=5m;1h\n"), DOMAIN, "deferred: tried again in 5m13s (try= of destinations line 2)"),
    ("retry", no_such_domain, DOMAIN, "deferred: tried again in 6m40s"),
    ("held", deferred_and_then_held, DOMAIN, "held, destinations line 1"),
    (
        *("paused", flow_fault, ("message", b"2")),
        "mail of s.example is paused there for 15m00s more: it alone is deferred by policy",
    ),
    ("soft-blocked", soft_block, DOMAIN, "all are deferred with 451: one message a minute"),
    ("resolving", asked, DOMAIN, "the name servers are being asked"),
    ("resolving", no_answer, DOMAIN, "no answer of name servers (SERVFAIL); asked again in 1m00s"),
    ("frozen", our_network, DOMAIN, "our own network is suspected, or down"),
    ("frozen", our_source, DOMAIN, "the network of site one.example#mx is suspected, or down"),
    ("stopped", stopped, DOMAIN, "stopped: no session is opened any more"),
    ("flying", full_door, ("message", b"1"), "in delivery now, to mx.one.example 192.0.2.1"),
    ("full", local_recipient, WHOLE, "full: recipient joe@a.test 2/2 (rcpt=:c=2 (built in))"),
    (
        *("rate", local_rate, WHOLE),
        "rate of recipient joe@a.test: 1 delivery in 60 s, 1 at once, to each recipient "
        "(rcpt=joe@a.test:r=1/m, destinations line 1); next in 1m00s",
    ),
    ("held", local_hold, WHOLE, "held for 1h00m more, destinations line 1"),
]


@pytest.mark.parametrize("state, build, subject, reason", STATES, ids=[f"{one[0]}: {one[3][:40]}" for one in STATES])
def test_the_one_reason(state, build, subject, reason):
    play = build()
    [entry] = why(play, *subject)
    assert (entry["state"], entry["reason"]) == (state, reason)
