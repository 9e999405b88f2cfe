"""route=: which route counts beside control/smtproutes, and what the engine asks and opens for it."""

import pytest

from pyqmail.mail.destinations.orders import DELIVER, OPEN, RESOLVE
from pyqmail.mail.destinations.outcome import LOOKUP, Outcome
from pyqmail.mail.destinations.relays.routes import written_route
from pyqmail.mail.destinations.rules.lookup import RuleSet
from tests.mail.destinations.play import Play, words

RELAY = (b"relay.example", 25)
WHICH = [
    # rules                                      the key in smtproutes   the rule counts
    (b"a.b.example:route=relay.example",         None,                   True),
    (b"a.b.example:route=relay.example",         b"a.b.example",         True),
    (b"a.b.example:route=relay.example",         b".b.example",          True),
    (b".b.example:route=relay.example",          b"a.b.example",         False),
    (b".b.example:route=relay.example",          b".b.example",          True),
    (b".example.net:c=1\n.b.example:route=relay.example", b".example",   True),
    (b".b.example:route=relay.example",          b"",                    True),
    (b":route=relay.example",                    b".example",            False),
    (b":route=relay.example",                    b"",                    True),
    (b":route=relay.example",                    None,                   True),
    (b"a.*:route=relay.example",                 b".example",            True),
    (b"a.*:route=relay.example",                 b"a.example",           False),
    (b"a.b.example:@g\n@g:route=relay.example",  b"a.b.example",         True),
    (b".b.example:@g\n@g:route=relay.example",   b"a.b.example",         False),
    (b".b.example:@g\n@g:@h\n@h:route=relay.example", b".b.example",     True),
    (b"a.b.example:c=1",                         None,                   False),
]  # fmt: skip


@pytest.mark.parametrize("rules, key, counts", WHICH)
def test_the_line_that_names_the_destination_more_closely_counts(rules, key, counts):
    domain = b"a.example" if b"a.*" in rules else b"a.b.example"
    policy = RuleSet.of_text(rules).for_site(domain)
    found = written_route(policy, None if key is None else (key, b"other.example", b"other.example:25"))
    assert found == (RELAY if counts else None)


def asked(rules, domain=b"a.example", **options):
    """Return a play to which a message for a domain has come, and its first orders."""
    play = Play(20, rules, **options)
    play.arrive(domain)
    return play, play.orders()


def target(orders):
    return [(order[2].host, order[2].address, order[2].port) for order in words(orders, OPEN)]


@pytest.mark.parametrize(
    "route, host, address, port",
    [
        (b"192.0.2.9", b"192.0.2.9", b"192.0.2.9", 25),
        (b"[192.0.2.9]:2525", b"192.0.2.9", b"192.0.2.9", 2525),
        (b"[2001:db8::1]:26", b"2001:db8::1", b"2001:db8::1", 26),
    ],
)
def test_an_address_is_followed_without_a_question(route, host, address, port):
    _, orders = asked(b"a.example:route=" + route)
    assert target(orders) == [(host, address, port)] and words(orders, RESOLVE) == []


@pytest.mark.parametrize("route, relay", [(b"R.example", (b"r.example", 25)), (b"r.example:26", (b"r.example", 26))])
def test_the_name_of_a_relay_is_looked_up(route, relay):
    play, orders = asked(b"a.example:route=" + route)
    assert orders == [(RESOLVE, b"a.example", relay)]
    play.resolved(b"a.example", [(0, b"r.example", [b"192.0.2.9"])], port=relay[1], route=relay[0])
    assert target(play.orders()) == [(b"r.example", b"192.0.2.9", relay[1])]


@pytest.mark.parametrize("route, port", [(b"", 25), (b":", 25), (b":2525", 2525)])
def test_without_a_host_the_mx_hosts_are_used(route, port):
    smtp_route = b".example", b"other.example", b"other.example:25"
    play, orders = asked(b"a.example:route=" + route, route_of=lambda domain: smtp_route)
    assert orders == [(RESOLVE, b"a.example", (b"", port))]
    play.resolved(b"a.example", port=port)
    assert target(play.orders()) == [(b"mx.example", b"192.0.2.1", port)]


def test_a_literal_domain_has_a_route_too():
    assert asked(b"[10.0.0.1]:route=:2525", b"[10.0.0.1]")[1] == [(RESOLVE, b"[10.0.0.1]", (b"", 2525))]
    assert target(asked(b":route=192.0.2.9", b"[10.0.0.1]")[1]) == [(b"192.0.2.9", b"192.0.2.9", 25)]


def test_a_line_of_smtproutes_that_is_closer_counts():
    _, orders = asked(b":route=r.example", route_of=lambda domain: (domain, b"", b"192.0.2.7:26"))
    assert target(orders) == [(b"192.0.2.7", b"192.0.2.7", 26)]
    _, orders = asked(b":route=r.example", route_of=lambda domain: (domain, b"", b""))
    assert orders == [(RESOLVE, b"a.example")]


def test_a_line_of_mx_hosts_routes_once_they_are_known():
    play, orders = asked(b"mx=.big.example:@big\n@big:route=r.example:26\n")
    assert orders == [(RESOLVE, b"a.example")]
    play.resolved(b"a.example", [(10, b"mx.big.example", [b"192.0.2.1"])])
    assert play.orders() == [(RESOLVE, b"a.example", (b"r.example", 26))]
    play.resolved(b"a.example", [(0, b"r.example", [b"192.0.2.9"])], port=26, route=b"r.example")
    assert target(play.orders()) == [(b"r.example", b"192.0.2.9", 26)]


@pytest.mark.parametrize(
    "route, wanted",
    [(b"192.0.2.9:26", (b"192.0.2.9", b"192.0.2.9", 26)), (b":26", (b"mx.big.example", b"192.0.2.1", 26))],
)
def test_a_line_of_mx_hosts_with_nothing_to_look_up(route, wanted):
    play, _ = asked(b"mx=.big.example:route=" + route)
    play.resolved(b"a.example", [(10, b"mx.big.example", [b"192.0.2.1"])])
    orders = play.orders()
    assert target(orders) == [wanted] and words(orders, RESOLVE) == []


def test_the_relays_own_line_counts_for_it():
    rules = b"a.example:route=192.0.2.9\n192.0.2.9:c=3\n:c=20,i=20,k=1000/s~1000\n"
    play = Play(100, rules)
    for _ in range(9):
        play.arrive(b"a.example")
    count = 0
    for _ in range(4):
        found = words(play.orders(), OPEN)
        count += len(found)
        for order in found:
            play.ready(order[1], order[2].host, order[2].address)
    assert count == 3


def test_other_rules_route_what_waits_already():
    play, orders = asked(b"a.example:route=192.0.2.9\n")
    play.engine.use_rules(RuleSet.of_text(b"a.example:route=192.0.2.8:26\n"), play.now)
    assert (b"192.0.2.8", b"192.0.2.8", 26) in target(play.run(120))
    play.engine.use_rules(RuleSet.of_text(b"\n"), play.now)
    assert (RESOLVE, b"a.example") in play.orders()


def test_a_relay_that_nobody_can_look_up_is_asked_about_again():
    play, _ = asked(b"a.example:route=r.example\n")
    play.trouble(b"a.example", b"timeout")
    assert words(play.run(70), RESOLVE) == [(RESOLVE, b"a.example", (b"r.example", 25))]
    play.nowhere(b"a.example", Outcome(b"DSorry, no such host. (#5.1.2)\n", LOOKUP))
    assert [order[3].letter for order in play.orders() if order[0] == "report"] == [b"Z"]


ONCE = b"rules: destinations line 1: route= is not obeyed: the program that delivers finds hosts by itself"


@pytest.mark.parametrize("options", [{"opens_sessions": False}, {"obeys_routes": False}])
def test_agents_are_told_of_no_relay_and_the_log_says_so_once(options):
    play = Play(20, b".d.example:route=r.example:26\n", **options)
    for domain in (b"a.d.example", b"b.d.example"):
        play.arrive(domain)
    orders = play.orders()
    assert play.engine.log_lines(play.now) == [ONCE]
    assert orders[0] == (RESOLVE, b"a.d.example") if "obeys_routes" in options else words(orders, DELIVER)
