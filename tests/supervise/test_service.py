"""The table of a service's states: complete, and what the original does in each."""

import itertools

import pytest

from pyqmail.supervise import service as table
from pyqmail.supervise.service import DOWN, FRESH, LEFT, PAUSED, UP, Service
from pyqmail.supervise.status import ONCE, WANT_DOWN, WANT_UP


def test_every_pair_is_listed_or_impossible():
    pairs = set(itertools.product(table.STATES, table.EVENTS))
    assert set(table.NEXT) | table.IMPOSSIBLE == pairs
    assert set(table.NEXT) & table.IMPOSSIBLE == set()
    assert set(table.AFTER_END) == set(itertools.product((WANT_UP, WANT_DOWN, ONCE), (False, True)))


def test_every_state_can_be_reached_and_every_order_is_known():
    reached = {state for state, _ in (*table.NEXT.values(), *table.AFTER_END.values())}
    assert reached == set(table.STATES)
    orders = {order for _, orders in (*table.NEXT.values(), *table.AFTER_END.values()) for order in orders}
    assert all(order.startswith("SIG") or order in ("start", "status", "leave") for order in orders)


def test_whoever_leaves_was_told_to_and_is_down():
    leaving = {pair for pair, (state, _) in table.NEXT.items() if state == LEFT}
    assert leaving == {(DOWN, b"x")}
    assert {is_told for (_, is_told), (state, _) in table.AFTER_END.items() if state == LEFT} == {True}


STORIES = [
    # wish at start, events, orders of the last event, state, wish
    (WANT_UP, [], ("start",), FRESH, b"u"),
    (WANT_DOWN, [], (), DOWN, b"d"),
    (WANT_UP, ["rested", "ended"], ("status", "start"), FRESH, b"u"),
    (WANT_UP, ["rested", b"d"], ("SIGTERM", "SIGCONT", "status"), UP, b"d"),
    (WANT_UP, ["rested", b"d", "ended"], ("status",), DOWN, b"d"),
    (WANT_UP, ["rested", b"d", b"u", "ended"], ("status", "start"), FRESH, b"u"),
    (WANT_UP, ["rested", b"o", "ended"], ("status",), DOWN, b"\0"),
    (WANT_UP, ["rested", b"x"], ("status",), UP, b"u"),
    (WANT_UP, ["rested", b"x", "ended"], ("status", "status", "leave"), LEFT, b"u"),
    (WANT_UP, ["rested", b"d", b"x", "ended"], ("status", "status", "leave"), LEFT, b"d"),
    (WANT_UP, ["rested", b"p"], ("SIGSTOP", "status"), PAUSED, b"u"),
    (WANT_UP, ["rested", b"p", b"c"], ("SIGCONT", "status"), UP, b"u"),
    (WANT_UP, ["rested", b"p", b"d"], ("SIGTERM", "SIGCONT", "status"), UP, b"d"),
    (WANT_UP, ["rested", b"p", b"t"], ("SIGTERM",), PAUSED, b"u"),
    (WANT_UP, ["rested", b"p", "ended"], ("status", "start"), FRESH, b"u"),
    (WANT_DOWN, [b"p"], ("status",), DOWN, b"d"),
    (WANT_DOWN, [b"t"], (), DOWN, b"d"),
    (WANT_DOWN, [b"o"], ("status", "start"), FRESH, b"\0"),
    (WANT_DOWN, [b"u"], ("status", "start"), FRESH, b"u"),
    (WANT_DOWN, [b"x"], ("status", "leave"), LEFT, b"d"),
    (WANT_DOWN, [b"z"], (), DOWN, b"d"),
]


@pytest.mark.parametrize("wish, events, orders, state, last_wish", STORIES)
def test_a_story(wish, events, orders, state, last_wish):
    service = Service(wish)
    got = service.begin()
    for event in events:
        got = service.receive(event)
    assert (got, service.state, service.wish) == (orders, state, last_wish)


def test_what_cannot_happen_is_our_bug():
    with pytest.raises(KeyError):
        Service(WANT_DOWN).receive("ended")
