"""Several processes: what one of them meets is reported, and what the others counted stays."""

import os
import signal

import pytest

from pyqmail.load_tools import processes
from pyqmail.load_tools.tally import Tally


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in processes.ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def fail():
    raise OSError(98, "address already used")


@pytest.mark.parametrize("end, complaint", [
    (fail, "a process failed: [Errno 98] address already used"),
    (lambda: os._exit(3), "a process ended with exit code 3"),
    (lambda: os.kill(os.getpid(), signal.SIGKILL), "a process was killed by signal 9"),
])  # fmt: skip
def test_one_that_fails_is_reported_and_the_others_count(end, complaint):
    def work(index, report):
        tally = Tally("messages")
        tally.counts["messages"] = 5
        report(tally)
        if index == 1:
            end()
        return tally, ""

    tally, said = processes.run(3, work, lambda tally: None)
    assert (said, tally.counts) == (complaint, {"messages": 15})
