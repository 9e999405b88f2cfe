import pytest

from pyqmail.base.literals import literal_address
from pyqmail.mail.routing import exchangers
from pyqmail.mail.routing.exchangers import Unroutable, plan_for, settle_found, settle_literal
from pyqmail.protocol.wires import resolve_wire as wire

ROUTES = {
    b"a.b.c": b"full:1",
    b".b.c": b"suffix:2",
    b".c": b"",
    b"": b"any",
    b"[10.0.0.1]": b"literal",
}

LITERALS = [
    (b"10.0.0.1", b"10.0.0.1"),
    (b"[10.0.0.1]", b"10.0.0.1"),
    (b"010.0.0.001", b"10.0.0.1"),
    (b"[IPv6:2001:DB8::0001]", b"2001:db8::1"),
    (b"::1", b"::1"),
    (b"10.0.0.256", None),
    (b"10.0.0", None),
    (b"10.0.0.1.", None),
    (b"10.0.0.+1", None),
    (b"a:b", None),
    (b"", None),
    (b"[]", None),
    (b"\xff:1", None),
]


@pytest.mark.parametrize("text, address", LITERALS)
def test_literal_address(text, address):
    assert literal_address(text) == address


OWN = {b"127.0.0.1", b"10.0.0.9", b"2001:db8::9"}


def hosts_of(plan, found):
    """Return (host, address, port) of what may be tried; both forms of a plan's answer have the same."""
    body = wire.hosts_body(300, False, found)
    try:
        hosts = exchangers.hosts_of(plan, wire.HOSTS_FOUND, body, OWN)
    except Unroutable as nowhere:
        assert why(settle_found, plan, wire.FOUND, found, OWN) == nowhere.report
        raise
    flat = [(host, address, hosts.port) for _, host, addresses in hosts.hosts for address in addresses]
    assert settle_found(plan, wire.FOUND, found, OWN) == flat
    return flat


def why(call, *arguments):
    with pytest.raises(Unroutable) as failure:
        call(*arguments)
    return failure.value.report


FOUND = [(10, b"a", b"10.0.0.1"), (10, b"b", b"10.0.0.2"), (20, b"me", b"10.0.0.9"), (30, b"c", b"10.0.0.3")]


def test_only_what_is_preferred_to_ourselves():
    plan = plan_for(b"d.test", {})
    assert (plan.question, plan.name) == (wire.EXCHANGERS, b"d.test")
    assert hosts_of(plan, FOUND) == [(b"a", b"10.0.0.1", 25), (b"b", b"10.0.0.2", 25)]
    assert hosts_of(plan, FOUND[:2]) == [(b"a", b"10.0.0.1", 25), (b"b", b"10.0.0.2", 25)]
    assert why(hosts_of, plan, FOUND[2:]) == exchangers.BEST_IS_ME
    assert why(hosts_of, plan, [(5, b"x", b"0.0.0.0"), (5, b"y", b"10.0.0.1")]) == exchangers.BEST_IS_ME


OURS = b"""
127.0.0.1 127.0.0.2 127.1.2.3 127.255.255.255 0.0.0.0 0.1.2.3 10.0.0.9 224.0.0.1 239.255.255.255 255.255.255.255
:: ::1 ::ffff:127.0.0.1 ::ffff:127.0.0.2 ::ffff:10.0.0.9 ::ffff:0.0.0.0 ::ffff:7f00:5 ::127.0.0.1 ::7f00:1 ::10.0.0.9
::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::7f00:1 64:ff9b::10.0.0.9 64:ff9b:1::127.0.0.1 ::ffff:224.0.0.1
::ffff:255.255.255.255 ff02::1 ff0e::1 2001:db8::9 2001:DB8:0::9 0:0:0:0:0:0:0:1 0::1 ::FFFF:127.0.0.1
"""
NOT_OURS = b"""
126.255.255.255 128.0.0.1 1.0.0.0 10.0.0.1 223.255.255.255 12.7.0.0 198.18.0.1 2001:db8::1 2001:db8::7f00:1
::ffff:10.0.0.1 64:ff9b::10.0.0.1 64:ff9b::192.0.2.1 64:ff9c::127.0.0.1 fe80::127.0.0.1 f00::1 1::1
"""


def settled(address):
    """Return how to settle an address: an exchanger's, the domain's own, a literal."""
    plan = plan_for(b"d.test", {})
    literal = plan_for(b"[%b%b]" % (b"IPv6:" * (b":" in address), address), {})
    return (
        lambda: hosts_of(plan, [(5, b"x", address)]),
        lambda: hosts_of(plan, [(0, b"d.test", address)]),
        lambda: settle_literal(literal, OWN),
    )


@pytest.mark.parametrize("address", OURS.split())
def test_what_leads_to_ourselves(address):
    for settling in settled(address):
        assert why(settling) == exchangers.BEST_IS_ME
    found = [(3, b"y", b"10.0.0.1"), (5, b"x", address), (5, b"z", b"10.0.0.2"), (7, b"w", b"10.0.0.3")]
    assert hosts_of(plan_for(b"d.test", {}), found) == [(b"y", b"10.0.0.1", 25)]


@pytest.mark.parametrize("address", NOT_OURS.split())
def test_what_does_not_lead_to_ourselves(address):
    for settling in settled(address):
        assert len(settling()) == 1


@pytest.mark.parametrize("address", OURS.split())
def test_a_route_may_lead_to_any_address(address):
    literal = b"[%b]" % address if b":" in address else address
    plan = plan_for(b"d.test", {b"d.test": literal + b":26"})
    assert [host[2] for host in settle_literal(plan, OWN)] == [26]
    plan = plan_for(b"d.test", {b"d.test": b"relay.test:26"})
    assert hosts_of(plan, [(0, b"relay.test", address)]) == [(b"relay.test", address, 26)]
    plan = plan_for(b"d.test", {b"d.test": b"", b"": b"relay.test"})  # as usual
    assert why(hosts_of, plan, [(5, b"x", address)]) == exchangers.BEST_IS_ME


def test_a_route_may_lead_to_ourselves():
    plan = plan_for(b"d.test", {b"": b"[127.0.0.1]:2525"})
    assert plan.question is None
    assert settle_literal(plan, OWN) == [(b"127.0.0.1", b"127.0.0.1", 2525)]
    plan = plan_for(b"d.test", {b"": b"relay.test:2525"})
    assert (plan.question, plan.name) == (wire.ADDRESSES, b"relay.test")
    assert hosts_of(plan, [(0, b"relay.test", b"10.0.0.9"), (0, b"relay.test", b"10.0.0.1")]) == [
        (b"relay.test", b"10.0.0.9", 2525),
        (b"relay.test", b"10.0.0.1", 2525),
    ]


def test_a_literal_of_ours_is_not_mailed_to():
    assert settle_literal(plan_for(b"[10.0.0.1]", {}), OWN) == [(b"10.0.0.1", b"10.0.0.1", 25)]
    assert why(settle_literal, plan_for(b"[127.0.0.1]", {}), OWN) == exchangers.BEST_IS_ME


NAMED_RELAY = {b"": b"re lay:1"}

FAILURES = [
    # routes, kind of answer, report
    ({}, wire.SOFT, b"ZSorry, I couldn't find any host by that name. (#4.1.2)\n"),
    ({}, wire.NO_HOST, b"DSorry, I couldn't find any host named d?.test. (#5.1.2)\n"),
    ({}, wire.NO_RECORD, b"DSorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n"),
    (NAMED_RELAY, wire.NO_HOST, b"DSorry, I couldn't find any host named re?lay. (#5.1.2)\n"),
    (NAMED_RELAY, wire.NO_RECORD, b"DSorry, I couldn't find any host named re?lay. (#5.1.2)\n"),
    (NAMED_RELAY, wire.SOFT, b"ZSorry, I couldn't find any host by that name. (#4.1.2)\n"),
]


@pytest.mark.parametrize("routes, kind, report", FAILURES)
def test_failures(routes, kind, report):
    plan = plan_for(b"d\xe9.test", routes)
    assert why(settle_found, plan, kind, [], OWN) == why(exchangers.hosts_of, plan, kind, b"", OWN) == report


def test_a_domain_that_takes_no_mail():
    report = b"DSorry, that domain takes no mail: it has a null MX. (#5.1.10)\n"
    assert why(exchangers.hosts_of, plan_for(b"d.test", {}), wire.NO_MAIL, b"", OWN) == report


@pytest.mark.parametrize(
    "routes, seconds, wanted, route",
    [
        ({}, 3600, 3600, b""),
        ({b"": b"Relay.test:26"}, 3600, exchangers.ROUTE_SECONDS, b"relay.test"),  # the route may change
        ({b"": b"Relay.test:26"}, 20, 20, b"relay.test"),
    ],
)
def test_hosts_say_how_long_they_hold(routes, seconds, wanted, route):
    plan = plan_for(b"d.test", routes)
    found = [(1, b"a", b"10.0.0.1"), (1, b"a", b"10.0.0.2"), (1, b"b", b"10.0.0.3"), (2, b"a", b"10.0.0.1")]
    hosts = exchangers.hosts_of(plan, wire.HOSTS_FOUND, wire.hosts_body(seconds, True, found), OWN)
    assert (hosts.seconds, hosts.is_stale, hosts.route) == (wanted, True, route)
    assert hosts.hosts == [
        *((1, b"a", [b"10.0.0.1", b"10.0.0.2"]), (1, b"b", [b"10.0.0.3"]), (2, b"a", [b"10.0.0.1"])),
    ]
