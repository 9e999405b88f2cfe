"""The wheel, against a dictionary of times."""

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from pyqmail.mail.destinations.waiting.wheel import Wheel

ROWS = 60
AHEAD = st.sampled_from((-5, 0, 1, 255, 256, 257, 65535, 65536, 65537)) | st.integers(0, 300) | st.integers(0, 2**25)
STARTS = st.sampled_from((0, 1, 255, 256, 65535, 16777215, 2**31))


def new_wheel(start):
    return Wheel(array("I", bytes(4 * (ROWS + 1))), array("I", bytes(4 * (ROWS + 1))), start)


@settings(deadline=None)
@given(STARTS, st.lists(st.tuples(st.sampled_from(("add", "add", "go", "step")), AHEAD), max_size=120))
def test_each_row_comes_up_once_at_its_time(start, steps):
    wheel, now, times, free = new_wheel(start), start, {}, list(range(1, ROWS + 1))
    for what, seconds in steps:
        if what == "add":
            if free:
                row = free.pop()
                times[row] = max(0, now + seconds)
                wheel.add(row, times[row])
            continue
        when = wheel.next_time()
        assert (when is None) == (not times)
        if when is not None:
            assert when <= max(now, min(times.values()))
        now = max(now, when or now) if what == "step" else now + max(0, seconds)
        due = wheel.advance(now)
        assert set(due) == {row for row, time in times.items() if time <= now}
        assert len(due) == len(set(due))
        for row in due:
            del times[row]
        free += due
        assert len(wheel) == len(times)


def test_rows_of_one_second_come_in_their_order():
    wheel = new_wheel(0)
    for row in (3, 1, 2):
        wheel.add(row, 70_000)
    assert wheel.advance(69_999) == []
    assert wheel.advance(70_000) == [3, 1, 2]


def test_earlier_seconds_come_first():
    wheel = new_wheel(0)
    for row, when in ((1, 900), (2, 30), (3, 0), (4, 500)):
        wheel.add(row, when)
    assert wheel.advance(1000) == [3, 2, 4, 1]


def test_a_century_costs_few_steps():
    wheel = new_wheel(0)
    wheel.add(1, 2**32 - 1)
    steps, when = 0, wheel.next_time()
    while when is not None:
        steps += 1
        if wheel.advance(when):
            break
        when = wheel.next_time()
    assert (when, steps) == (2**32 - 1, 4)
