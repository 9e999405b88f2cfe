"""The longest turn of the last minute, at given times."""

import pytest

from pyqmail.system.loop import Loop
from pyqmail.system.turn_meter import TurnMeter

TURNS = [
    # (start, end) of turns                          asked at    longest
    ([],                                              1000.0,     0.0),
    ([(100.0, 100.5)],                                100.5,      0.5),
    ([(100.0, 100.5), (101.0, 101.25)],               110.0,      0.5),
    ([(100.0, 100.5), (130.0, 130.25)],               154.9,      0.5),
    ([(100.0, 100.5), (130.0, 130.25)],               160.0,      0.25),
    ([(100.0, 100.5)],                                160.0,      0.0),
    ([(100.0, 100.5)],                                9999.0,     0.0),
    ([(100.0, 100.5), (500.0, 500.125)],              500.5,      0.125),
]  # fmt: skip


@pytest.mark.parametrize("turns, now, longest", TURNS)
def test_the_longest_turn(turns, now, longest):
    meter = TurnMeter()
    for turn in turns:
        meter.note(*turn)
    assert meter.longest(now) == longest


def test_a_loop_that_has_a_meter_tells_it_of_each_turn():
    noted, loop = [], Loop()
    loop.meter = TurnMeter()
    loop.meter.note = lambda start, end: noted.append(end >= start)
    loop.turn(0)
    loop.soon(lambda: None)
    loop.turn(0)
    loop.abandon()
    assert noted == [True, True]
