"""fall=: mail that its destination does not take goes to a relay, and back; engines in the model world."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.destinations.network import NO_ANSWER, NO_SUCH_DOMAIN, SERVER_FAILURE, Zone
from bench.destinations.servers import GREETS, REFUSES, RESETS, SILENT, Server
from pyqmail.mail.destinations import explain
from tests.mail.destinations.engine_checks import CheckedWorld

SITE, RELAY, AT = b"site.example", b"relay.example", b"10.200.0.9"
NOW, LATER = b"site.example:fall=relay.example:26\n", b"site.example:fall=relay.example:26~2h\n"
HOUR = 3600


def staged(rules=NOW, kind=SILENT, relay_kind=GREETS, total=50, **server):
    """Return (world, the destination's server, the relay's)."""
    world = CheckedWorld(rules, total=total)
    site, relay = Server(0.2, kind=kind, **server), Server(0.2, kind=relay_kind)
    world.place(SITE, site)
    world.servers[AT] = relay
    world.names.zones[RELAY] = Zone([(0, RELAY, [AT])])
    return world, site, relay


def lines(world, word=b"domain "):
    return [line for _, line in world.log if line.startswith(word)]


def why(world):
    return explain.why([world.engine], "domain", SITE, world.clock.now, world.clock.date)["entries"]


@pytest.mark.parametrize("kind", [SILENT, REFUSES, RESETS])
def test_without_an_age_mail_falls_when_every_host_has_failed_once(kind):
    world, site, relay = staged(kind=kind)
    for _ in range(9):
        world.send([SITE])
    world.finish(300)
    world.check_end()
    assert (site.accepted, relay.accepted, len(world.delivered)) == (0, 9, 9)
    assert world.deferrals == [] and lines(world)[0].startswith(b"domain site.example: falls to relay.example:26: ")


def test_a_host_that_works_is_enough():
    world, _, relay = staged()
    good = Server(0.2)
    world.place(SITE, Server(kind=SILENT), good)
    for _ in range(9):
        world.send([SITE])
    world.finish(300)
    assert (good.accepted, relay.accepted) == (9, 0)


def test_new_mail_goes_to_the_destination_again_once_it_greets():
    world, site, relay = staged()
    world.send([SITE])
    world.run(120)
    site.kind = GREETS
    world.send([SITE])
    world.run(4000)
    before = relay.accepted
    world.send([SITE])
    world.finish(60)
    assert (relay.accepted, before, site.accepted) == (2, 2, 1)
    assert world.left == 0


@pytest.mark.parametrize("kind", [SILENT, REFUSES, RESETS])
def test_with_an_age_mail_falls_when_it_is_so_old(kind):
    world, site, relay = staged(LATER, kind)
    world.send([SITE])
    world.run(2 * HOUR - 5)
    assert relay.connections == 0
    world.run(330)
    assert (site.accepted, relay.accepted, world.left) == (0, 1, 0)


def test_what_is_deferred_all_that_time_falls_too():
    world, site, relay = staged(LATER, GREETS)
    site.recipient_reply = lambda sender, recipient: b"450 not now"
    world.send([SITE])
    world.run(2 * HOUR - 5)
    assert relay.connections == 0 and world.deferrals
    world.run(60)
    assert (site.accepted, relay.accepted, world.left) == (0, 1, 0)


def test_without_an_age_a_deferral_is_an_answer():
    world, site, relay = staged(NOW, GREETS)
    site.recipient_reply = lambda sender, recipient: b"450 not now"
    world.send([SITE])
    world.run(6 * HOUR)
    assert relay.connections == 0 and world.left == 1


def test_what_only_waits_for_its_turn_does_not_fall():
    """The destination works, and gets one message a minute: that is no trouble of its own."""
    world, site, relay = staged(b"site.example:fall=relay.example:26~1m,r=1/m,c=1\n", GREETS)
    for _ in range(60):
        world.send([SITE])
    world.run(3700)
    assert (site.accepted, relay.connections) == (60, 0)


@pytest.mark.parametrize("rules", [NOW, LATER])
def test_a_failure_never_falls(rules):
    world, site, relay = staged(rules, GREETS)
    site.recipient_reply = lambda sender, recipient: b"550 nobody"
    world.send([SITE])
    world.run(10)
    assert len(world.failures) == 1 and relay.connections == 0


def test_nor_does_mail_for_hosts_that_take_none():
    world, site, relay = staged(kind=REFUSES)
    site.refusal = b"521 no mail here"
    world.send([SITE])
    world.run(300)
    assert len(world.failures) == 1 and relay.connections == 0


@pytest.mark.parametrize("kind, falls", [(NO_SUCH_DOMAIN, False), (SERVER_FAILURE, True), (NO_ANSWER, True)])
def test_name_servers_that_fail_are_hosts_that_fail_and_a_domain_that_is_none_is_none(kind, falls):
    world, _, relay = staged()
    world.names.zones[SITE].kind = kind
    world.send([SITE])
    world.run(120)
    assert relay.accepted == falls
    if falls:
        world.names.zones[SITE].kind = "answers"
        world.check_end()


def test_a_domain_whose_name_servers_answer_again_gets_its_mail():
    world, site, relay = staged(kind=GREETS, relay_kind=SILENT)
    world.names.zones[SITE].kind = SERVER_FAILURE
    world.send([SITE])
    world.run(200)
    assert world.left == 1
    world.names.zones[SITE].kind = "answers"
    world.finish(600)
    world.check_end()
    assert (site.accepted, relay.accepted) == (1, 0)


@pytest.mark.parametrize("back", ["site", "relay"])
@pytest.mark.parametrize("rules", [NOW, LATER])
def test_if_the_relay_fails_too_mail_waits_for_both(rules, back):
    world, site, relay = staged(rules, relay_kind=SILENT)
    for _ in range(5):
        world.send([SITE])
    world.run(8 * HOUR)
    assert world.left == 5 and world.deferrals == [] and site.connections > 5 and relay.connections > 5
    (site if back == "site" else relay).kind = GREETS
    world.finish(HOUR)
    world.check_end()
    assert (site.accepted, relay.accepted) == ((5, 0) if back == "site" else (0, 5))


def test_a_dead_relay_is_charged_to_nobody_else():
    """One session at once for the domain: one that hangs at the relay takes no place of the destination's."""
    world, site, relay = staged(b":c=1/dom,fall=relay.example\n", relay_kind=SILENT)
    world.send([SITE])
    world.run(100)
    site.kind = GREETS
    world.finish(HOUR)
    world.check_end()
    assert site.accepted == 1
    world.send([SITE])
    world.finish(30)
    assert site.accepted == 2
    site.kind = SILENT
    other = Server(0.2)
    world.place(b"other.example", other)
    world.send([b"other.example"])
    world.run(5)
    assert other.accepted == 1


def test_the_relays_own_line_counts_for_it_and_its_deferrals_have_retry_times():
    world, _, relay = staged(NOW + b"relay.example:c=1,n=1\n")
    relay.recipient_reply = lambda sender, recipient: b"450 later"
    for _ in range(3):
        world.send([SITE])
    world.run(100)
    assert len(world.deferrals) == 3
    relay.recipient_reply = None
    world.finish(HOUR)
    assert relay.accepted == 3 and relay.greeted >= 6


def test_a_restart_does_not_begin_again():
    world, site, relay = staged(LATER)
    world.send([SITE])
    world.run(HOUR)
    world.restart()
    world.run(HOUR - 10)
    assert relay.connections == 0
    world.run(400)
    assert relay.accepted == 1


@pytest.mark.parametrize("has_state", [True, False])
def test_what_is_old_after_a_restart_falls_soon(has_state):
    world, site, relay = staged(LATER, relay_kind=SILENT)
    world.send([SITE])
    world.run(3 * HOUR)
    relay.kind = GREETS
    world.restart(has_state)
    world.finish(2 * HOUR)
    world.check_end()
    assert (site.accepted, relay.accepted) == (0, 1)


def test_while_our_own_network_is_down_nothing_is_blamed_and_all_comes_back():
    rules = b":fall=relay.example\n"
    world, _, relay = staged(rules, GREETS)
    domains = [b"d%d.example" % number for number in range(40)]
    for domain in domains:
        world.place(domain, Server(0.2))
        world.send([domain])
    world.finish(60)
    world.network.is_up = False
    for domain in domains:
        world.send([domain])
    world.run(300)
    world.network.is_up = True
    world.finish(120)
    world.check_end()
    assert relay.accepted == 0 and len(world.delivered) == 80


def test_an_exchanger_of_the_domain_hands_nothing_over():
    """The relay would give it back to us."""
    world, _, relay = staged()
    original = world.names.ask

    def ask(domain, route=None):
        seconds, event, arguments, words = original(domain, route)
        return seconds, event, arguments, words | {"is_ours": True} if domain == SITE else words

    world.names.ask = ask
    world.send([SITE])
    world.run(HOUR)
    assert relay.connections == 0 and world.left == 1


def test_other_rules_name_another_relay_or_none():
    world, site, relay = staged(relay_kind=SILENT)
    other = Server(0.2)
    world.servers[b"10.200.0.8"] = other
    world.send([SITE])
    world.run(200)
    world.use_rules(b"site.example:hold\n")
    world.run(HOUR)
    assert world.left == 1
    world.use_rules(b"site.example:fall=[10.200.0.8]\n")
    world.run(200)
    assert other.accepted == 1
    world.send([SITE])
    world.use_rules(b"\n")
    world.run(200)
    site.kind = GREETS
    world.finish(HOUR)
    world.check_end()
    assert site.accepted + other.accepted == 2


@pytest.mark.parametrize("held", [b"relay.example:hold\n", b"mx=relay.example:hold\n", b"ip=10.200.0.0/16:hold\n"])
def test_a_relay_may_be_held_by_a_line_of_its_own(held):
    world, site, relay = staged(relay_kind=SILENT)
    world.send([SITE])
    world.run(200)
    world.use_rules(NOW + held)
    relay.kind = GREETS
    world.run(2 * HOUR)
    assert relay.accepted == 0 and why(world)[0]["state"] == "held"
    world.use_rules(NOW)
    world.finish(HOUR)
    assert relay.accepted == 1


def test_a_relay_that_nobody_finds_returns_no_mail():
    world, site, _ = staged()
    world.names.zones[RELAY].kind = NO_SUCH_DOMAIN
    world.send([SITE])
    world.run(10 * HOUR)
    assert world.left == 1 and len(lines(world, b"relay ")) == 1
    site.kind = GREETS
    world.finish(HOUR)
    world.check_end()
    assert site.accepted == 1


def test_it_is_said_that_mail_fell():
    world, _, _ = staged(relay_kind=SILENT)
    world.send([SITE])
    world.run(200)
    [entry] = why(world)
    assert entry["site"] == "relay.example:26"
    assert entry["reason"].startswith("handed over to relay.example:26, destinations line 1; ")


KINDS = st.sampled_from([GREETS, GREETS, SILENT, REFUSES, RESETS])
CHANGES = st.one_of(
    st.tuples(st.just("kind"), st.integers(0, 3), KINDS),
    st.tuples(st.just("defers"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("send"), st.integers(0, 2), st.integers(1, 4)),
    st.tuples(st.just("rules"), st.integers(0, 4), st.none()),
    st.tuples(st.just("names"), st.integers(0, 2), st.sampled_from(["answers", SERVER_FAILURE, NO_ANSWER])),
    st.tuples(st.just("restart"), st.booleans(), st.none()),
    st.tuples(st.just("date"), st.just(0), st.none()),
)
RULES = [
    b":fall=relay.example\n",
    b":fall=relay.example~20m\nd0.example:c=1/dom\n",
    b"d0.example:fall=[10.200.0.8]~5m,c=1\nd1.example:fall=relay.example,n=1\n",
    b"\n",
    b"d0.example:hold\n:fall=relay.example,try=5m*2<1h\n",
]


@settings(max_examples=40, deadline=None)
@given(first=st.integers(0, 4), changes=st.lists(st.tuples(CHANGES, st.integers(1, 2000)), max_size=14))
def test_nothing_is_lost_or_delivered_twice_whoever_fails(first, changes):
    world = CheckedWorld(RULES[first], total=20)
    servers = [Server(0.2) for _ in range(4)]
    domains = [b"d%d.example" % number for number in range(3)]
    for domain, server in zip(domains, servers, strict=False):
        world.place(domain, server, ttl=300)
    world.servers[AT] = servers[3]
    world.servers[b"10.200.0.8"] = servers[3]
    world.names.zones[RELAY] = Zone([(0, RELAY, [AT])])
    for (what, number, value), seconds in changes:
        if what == "kind":
            servers[number].kind = value
        elif what == "defers":
            servers[number].recipient_reply = (lambda sender, recipient: b"450 later") if value else None
        elif what == "send":
            for _ in range(value):
                world.send([domains[number], domains[(number + 1) % 3]])
        elif what == "rules":
            world.use_rules(RULES[number])
        elif what == "names":
            world.names.zones[domains[number]].kind = value
        elif what == "restart":
            world.restart(number)
        else:
            world.engine.make_due(world.clock.now)
        world.run(seconds)
    for server in servers:
        server.kind, server.recipient_reply = GREETS, None
    for domain in domains:
        world.names.zones[domain].kind = "answers"
    world.use_rules(b"\n")
    world.finish(40 * HOUR)
    world.check_end()
    assert len(world.delivered) == sum(len(mail.domains) for mail in world.mail.values())


@pytest.mark.parametrize("age", [b"", b"~1h"])
def test_two_that_are_each_other_s_relay_hand_mail_over_once(age):
    """Mail of one that the other has is the other's no more than any relay's: its fall= does not send it back."""
    other, at = b"other.example", b"10.200.0.8"
    rules = b"site.example:fall=other.example%b\nother.example:fall=site.example%b\n" % (age, age)
    world, site, _ = staged(rules)
    second = Server(0.2, kind=SILENT)
    world.servers[at] = second
    world.names.zones[other] = Zone([(0, other, [at])])
    for _ in range(4):
        world.send([SITE, other])
    world.run(6 * HOUR)
    assert (world.left, site.accepted, second.accepted) == (8, 0, 0)
    assert max(site.connections, second.connections) < 100
    site.kind = second.kind = GREETS
    world.finish(12 * HOUR)
    world.check_end()
    assert (world.left, len(world.delivered)) == (0, 8)


@pytest.mark.parametrize("age", [b"", b"~1h"])
def test_a_destination_that_is_its_own_relay_is_tried_as_often_as_any(age):
    world, site, _ = staged(b"site.example:fall=site.example%b\n" % age)
    world.send([SITE])
    world.run(6 * HOUR)
    assert world.left == 1 and site.connections < 100
    site.kind = GREETS
    world.finish(12 * HOUR)
    assert (world.left, site.accepted) == (0, 1)
