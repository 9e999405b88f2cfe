"""kill -9 of each part of the queue manager, under load: it comes back, and the queue manager goes on.

A running private home; half of the mail goes to a Maildir, half to a server of ours.  More kills, and of the other
processes too: test_kill.py.
"""

import os
import signal

import pytest

from tests.interop.test_kill import Load, is_empty, processes_of, subjects_in, system  # noqa: F401
from tests.waiting import until

PARTS = ["pylspawn", "pyrspawn", "pyclean", "pyresolve"]
ROUNDS = 2
IN_FLIGHT = 30  # at once, at the most: 20 deliveries to the server, 10 local ones


@pytest.fixture
def load(system):  # noqa: F811
    _, port, me, _ = system
    clients = [Load(port, f"client{number}", me) for number in range(4)]
    for client in clients:
        client.start()
    yield clients
    for client in clients:
        client.stopping.set()


def test_what_is_killed_comes_back_and_all_else_goes_on(system, load):  # noqa: F811
    home, _, _, sink = system

    def delivered():
        return len(sink.subjects), len(subjects_in(home))

    def has_gone_on(before, count):
        return all(now >= was + count for was, now in zip(before, delivered(), strict=True))

    (manager,) = until(lambda: processes_of(home, "pysend"))
    for part in PARTS * ROUNDS:
        before = delivered()
        until(lambda before=before: has_gone_on(before, 10), f"before {part} is killed")
        (victim,) = until(lambda part=part: processes_of(home, part))
        os.kill(victim, signal.SIGKILL)
        until(lambda part=part, victim=victim: set(processes_of(home, part)) - {victim}, part)
    before = delivered()
    until(lambda: has_gone_on(before, 10))
    for client in load:
        client.stopping.set()
    for client in load:
        client.join(30)
    until(lambda: is_empty(home), "the queue does not become empty", seconds=120)
    assert processes_of(home, "pysend") == [manager]
    acknowledged = {subject for client in load for subject in client.acknowledged}
    arrived = subjects_in(home) + sink.subjects
    assert acknowledged <= set(arrived)
    assert len(arrived) - len(set(arrived)) <= len(PARTS) * ROUNDS * IN_FLIGHT
    assert os.listdir(f"{home}/queue/bounce") == []
