"""Which relay control/smtproutes names for a domain."""

import pytest

from pyqmail.mail.routing.smtproutes import route_for

ROUTES = {
    b"a.b.c": b"full:1",
    b".b.c": b"suffix:2",
    b".c": b"",
    b"": b"any",
    b"[10.0.0.1]": b"literal",
}

ROUTED = [
    # domain       route
    (b"a.b.c", (b"full", 1)),
    (b"A.B.C", (b"full", 1)),
    (b"x.b.c", (b"suffix", 2)),
    (b"x.y.b.c", (b"suffix", 2)),
    (b"b.c", None),  # `.c` says: as usual
    (b"c", (b"any", 25)),
    (b"x.c.d", (b"any", 25)),
    (b"[10.0.0.1]", (b"literal", 25)),
]


@pytest.mark.parametrize("domain, route", ROUTED)
def test_route(domain, route):
    assert route_for(domain, ROUTES) == route


VALUES = [
    # what stands behind the domain      relay, port
    (b"r", (b"r", 25)),
    (b"r:", (b"r", 25)),
    (b"r:x", (b"r", 25)),
    (b"r:26x", (b"r", 26)),
    (b"r:26:27", (b"r", 26)),
    (b":26", (b"", 26)),
    (b"r:65561", (b"r", 25)),
    (b"[10.0.0.1]:26", (b"[10.0.0.1]", 26)),
    (b"[::1]", (b"[::1]", 25)),
    (b"[::1]:26", (b"[::1]", 26)),
]


@pytest.mark.parametrize("value, route", VALUES)
def test_relay_and_port(value, route):
    assert route_for(b"d.test", {b"d.test": value}) == route


def test_no_routes():
    assert route_for(b"d.test", {}) is None
