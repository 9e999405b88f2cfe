"""What load tools count: percentiles within a sixteenth, and several processes added up."""

import json

import pytest

from pyqmail.load_tools.tally import Latencies, Tally


@pytest.mark.parametrize("seconds", [0.0, 0.000001, 0.000017, 0.00033, 0.0047, 0.1, 1.0, 59.9, 3600.0])
def test_a_bucket_is_a_sixteenth_wide(seconds):
    times = Latencies()
    times.add(seconds)
    times.add(seconds * 4 + 1)  # so that the maximum is another
    assert seconds <= times.percentile(50) <= seconds * 1.0625 + 0.000002


def test_percentiles_of_a_thousand():
    times = Latencies()
    for millis in range(1, 1001):
        times.add(millis / 1000)
    assert times.count == 1000 and times.maximum == 1.0
    for percent in (50, 90, 99, 99.9):
        assert percent / 100 <= times.percentile(percent) <= percent / 100 * 1.07
    assert times.percentile(100) == 1.0
    assert Latencies().percentile(99) == 0.0


def test_what_several_processes_counted_is_added():
    tallies = []
    for number in (1, 2):
        tally = Tally("messages")
        tally.counts["messages"] = 10 * number
        tally.refuse("RCPT 452")
        tally.fail("timeout")
        tally.time("message").add(float(number))
        tally.seconds = 3.0 * number
        tallies.append(Tally.unpacked(json.loads(json.dumps(tally.packed()))))
    tallies[0].merge(tallies[1])
    shown = tallies[0].summary()
    assert (shown["messages"], shown["seconds"], shown["messages_per_second"]) == (30, 6.0, 5.0)
    assert (shown["refused"], shown["failed"]) == ({"RCPT 452": 2}, {"timeout": 2})
    assert shown["latency_seconds"]["message"]["max"] == 2.0
    assert tallies[0].text().splitlines() == [
        "30 messages in 6.0 s: 5.0 messages a second",
        "refused: RCPT 452: 2",
        "failed: timeout: 2",
        "message: p50 1015.8 ms  p90 2000.0 ms  p99 2000.0 ms  p99.9 2000.0 ms  max 2000.0 ms",
    ]


def test_nothing_counted_is_no_division_by_zero():
    assert Tally("messages").summary()["messages_per_second"] == 0.0
