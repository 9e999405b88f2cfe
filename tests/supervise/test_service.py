"""The table of a service's states: complete, what the original does in each, and what scripts add."""

import itertools

import pytest

from pyqmail.supervise import service as table
from pyqmail.supervise.diagram import diagram
from pyqmail.supervise.service import (
    ABANDONING,
    BROKEN,
    DONE,
    DOWN,
    DUE,
    ENDED,
    FAILED,
    FINISHING,
    FRESH,
    LEFT,
    OVERDUE,
    PAUSED,
    RESTED,
    STARTING,
    STOPPING,
    UP,
    WAITING,
    Choice,
    Service,
)
from pyqmail.supervise.status import ONCE, WANT_DOWN, WANT_UP


def outcomes(pair):
    outcome = table.NEXT[pair]
    return outcome.all() if isinstance(outcome, Choice) else (outcome,)


EVERY = [(pair, *outcome) for pair in table.NEXT for outcome in outcomes(pair)]


def test_every_pair_is_listed_or_impossible():
    pairs = set(itertools.product(table.STATES, table.EVENTS))
    assert set(table.NEXT) | table.IMPOSSIBLE == pairs
    assert set(table.NEXT) & table.IMPOSSIBLE == set()


def test_every_state_can_be_reached_and_every_order_is_known():
    assert {state for _, state, _ in EVERY} == set(table.STATES)
    known = {"status", "leave", "./start", "./run", "./finish", "./stop", "pause", "down-signal"}
    assert {order for _, _, orders in EVERY for order in orders if not order.startswith("SIG")} == known


def test_what_is_started_and_the_state_belong_together():
    of_order = {"./start": STARTING, "./run": FRESH, "./finish": FINISHING, "./stop": STOPPING, "pause": WAITING}
    for pair, state, orders in EVERY:
        started = [order for order in orders if order in of_order]
        if state in of_order.values() and pair[0] != state:
            assert [of_order[order] for order in started] == [state], pair
            assert orders[-1] == started[0], pair  # what follows from it at once comes after all else
        else:
            assert started == [], pair


def test_whoever_leaves_is_down_and_nobody_else_is_left():
    assert {pair for pair, state, _ in EVERY if state == LEFT} == {
        (DOWN, b"x"),
        (FAILED, b"x"),
        (STOPPING, DONE),
        (STARTING, BROKEN),
        (FINISHING, BROKEN),
    }
    assert all(("leave" in orders) == (state == LEFT) for _, state, orders in EVERY)


PLAIN = [
    # wish at start, events, orders that follow, state, wish: with no script but run and no pause, as the original
    (WANT_UP, [], "./run", FRESH, b"u"),
    (WANT_DOWN, [], "", DOWN, b"d"),
    (WANT_UP, [RESTED, ENDED], "status ./run", FRESH, b"u"),
    (WANT_UP, [RESTED, b"d"], "SIGTERM SIGCONT status", UP, b"d"),
    (WANT_UP, [RESTED, b"d", ENDED], "status", DOWN, b"d"),
    (WANT_UP, [RESTED, b"d", b"u", ENDED], "status ./run", FRESH, b"u"),
    (WANT_UP, [RESTED, b"o", ENDED], "status", DOWN, b"\0"),
    (WANT_UP, [RESTED, b"x"], "status", UP, b"u"),
    (WANT_UP, [RESTED, b"x", ENDED], "status status leave", LEFT, b"u"),
    (WANT_UP, [RESTED, b"d", b"x", ENDED], "status status leave", LEFT, b"d"),
    (WANT_UP, [RESTED, b"p"], "SIGSTOP status", PAUSED, b"u"),
    (WANT_UP, [RESTED, b"p", b"c"], "SIGCONT status", UP, b"u"),
    (WANT_UP, [RESTED, b"p", b"d"], "SIGTERM SIGCONT status", UP, b"d"),
    (WANT_UP, [RESTED, b"p", b"t"], "SIGTERM", PAUSED, b"u"),
    (WANT_UP, [RESTED, b"p", ENDED], "status ./run", FRESH, b"u"),
    (WANT_DOWN, [b"p"], "status", DOWN, b"d"),
    (WANT_DOWN, [b"t"], "", DOWN, b"d"),
    (WANT_DOWN, [b"o"], "status ./run", FRESH, b"\0"),
    (WANT_DOWN, [b"o", RESTED, ENDED], "status", DOWN, b"\0"),
    (WANT_DOWN, [b"u"], "status ./run", FRESH, b"u"),
    (WANT_DOWN, [b"x"], "status leave", LEFT, b"d"),
    (WANT_DOWN, [b"z"], "", DOWN, b"d"),
]


def carried_out(service, orders):
    """Return the orders as a supervisor carries them out that finds no script and no pause."""
    done = []
    for order in orders:
        if order in ("./start", "./finish", "./stop"):
            done += carried_out(service, service.receive(DONE))
        elif order == "pause":
            done += carried_out(service, service.receive(DUE))
        else:
            done.append("SIGTERM" if order == "down-signal" else order)
    return done


@pytest.mark.parametrize("wish, events, orders, state, last_wish", PLAIN)
def test_a_plain_story(wish, events, orders, state, last_wish):
    service = Service(wish)
    got = carried_out(service, service.first_orders())
    for event in events:
        got = carried_out(service, service.receive(event))
    assert (got, service.state, service.wish) == (orders.split(), state, last_wish)


TO_UP = [DONE, RESTED]
STORIES = [
    # events after a start with the wish up, orders that follow the last, state, wish
    ([], "./start", STARTING, b"u"),
    ([DONE], "./run", FRESH, b"u"),
    ([BROKEN], "status", FAILED, b"d"),
    ([BROKEN, b"u"], "status ./start", STARTING, b"u"),
    ([BROKEN, b"d"], "status", DOWN, b"d"),
    ([BROKEN, b"x"], "status leave", LEFT, b"d"),
    ([b"x", BROKEN], "status leave", LEFT, b"u"),
    ([b"d"], "SIGTERM SIGCONT status", ABANDONING, b"d"),
    ([b"d", DONE], "./stop", STOPPING, b"d"),
    ([b"d", BROKEN], "./stop", STOPPING, b"d"),
    ([b"d", b"u"], "status", ABANDONING, b"u"),
    ([b"d", b"u", BROKEN, DONE], "./start", STARTING, b"u"),
    ([b"d", b"u", b"d", BROKEN, DONE], "", DOWN, b"d"),
    ([b"d", b"x", BROKEN, DONE], "status leave", LEFT, b"d"),
    ([b"x", DONE], "./stop", STOPPING, b"u"),
    ([b"t"], "SIGTERM", STARTING, b"u"),
    ([*TO_UP, ENDED], "status ./finish", FINISHING, b"u"),
    ([*TO_UP, ENDED, DONE], "pause", WAITING, b"u"),
    ([*TO_UP, ENDED, DONE, DUE], "./run", FRESH, b"u"),
    ([*TO_UP, ENDED, DONE, b"u"], "status ./run", FRESH, b"u"),
    ([*TO_UP, ENDED, DONE, b"t"], "", WAITING, b"u"),
    ([*TO_UP, ENDED, DONE, b"d"], "status ./stop", STOPPING, b"d"),
    ([*TO_UP, ENDED, DONE, b"x"], "status ./stop", STOPPING, b"u"),
    ([*TO_UP, ENDED, DONE, b"x", DONE], "status leave", LEFT, b"u"),
    ([*TO_UP, ENDED, BROKEN], "status", FAILED, b"d"),
    ([*TO_UP, ENDED, OVERDUE], "SIGKILL", FINISHING, b"u"),
    ([*TO_UP, b"x", ENDED, BROKEN], "status leave", LEFT, b"u"),
    ([*TO_UP, b"d", OVERDUE], "SIGKILL", UP, b"d"),
    ([*TO_UP, b"d", ENDED, DONE], "./stop", STOPPING, b"d"),
    ([*TO_UP, b"d", ENDED, DONE, DONE], "", DOWN, b"d"),
    ([*TO_UP, b"d", ENDED, DONE, b"u", DONE], "./start", STARTING, b"u"),
    ([*TO_UP, b"d", ENDED, b"u", DONE], "pause", WAITING, b"u"),
    ([*TO_UP, b"d", ENDED, b"o", DONE, DUE, RESTED, ENDED, DONE], "./stop", STOPPING, b"\0"),
    ([*TO_UP, b"d", ENDED, DONE, b"o", DONE], "./start", STARTING, b"\0"),
    ([*TO_UP, b"d", ENDED, DONE, b"o", b"d", DONE], "", DOWN, b"d"),
    ([*TO_UP, b"o", ENDED, DONE], "./stop", STOPPING, b"\0"),
]


@pytest.mark.parametrize("events, orders, state, wish", STORIES)
def test_a_story_with_scripts(events, orders, state, wish):
    service = Service(WANT_UP)
    got = service.first_orders()
    for event in events:
        got = service.receive(event)
    assert (got, service.state, service.wish) == (tuple(orders.split()), state, wish)


@pytest.mark.parametrize("state", [UP, PAUSED])
def test_what_runs_already(state):
    service = Service(WANT_UP)
    service.take_over(state)
    assert service.state == state
    assert carried_out(service, service.receive(ENDED)) == ["status", "./run"]


@pytest.mark.parametrize("pair", sorted(table.IMPOSSIBLE, key=str))
def test_what_cannot_happen_is_our_bug(pair):
    service = Service(ONCE)
    service.state = pair[0]
    with pytest.raises(KeyError):
        service.receive(pair[1])
    assert (service.state, service.wish, service.is_leaving) == (pair[0], ONCE, False)


def test_the_diagram_has_every_outcome():
    lines = [line.replace(",", " ").split() for line in diagram().split("\n") if line]
    state, drawn = None, set()
    for words in lines:
        if words[0] in table.STATES and words[1] != "->":
            state, *words = words
        at = words.index("->")
        events = [word for word in words[:at] if word not in ("leaving", "again")]
        drawn |= {(state, event, words[at + 1]) for event in events}
    as_text = {(s, e.decode() if isinstance(e, bytes) else e, to) for (s, e), to, _ in EVERY}
    assert drawn == as_text
    assert max(map(len, diagram().split("\n"))) <= 78
