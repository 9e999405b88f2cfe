"""Workers that end before they say how a delivery went; deliveries are in tests/programs/test_pylspawn.py."""

import os
import signal

import pytest

from pyqmail.mail.local import worker_main
from pyqmail.mail.local.delivery_tasks import CRASHED, REPORTS, WorkerDelivery, WorkerTask
from pyqmail.mail.local.users import ROOT
from pyqmail.mail.local.worker_pool import WorkerPool
from pyqmail.mail.spawners.server import REPORT_LIMIT, Order
from pyqmail.protocol.wires import local_wire
from pyqmail.system.loop import Loop
from tests.waiting import turn_until


class Deliveries:
    """What a pool and its tasks ask of the spawner.  reports is what was reported."""

    max_workers, open_files = 1, 64

    def __init__(self, home):
        self.loop, self.home, self.reports = Loop(), home, []

    def finish(self, order, report, is_stored=False):
        self.reports.append((order.number, report))

    def forget_pool(self, key):
        pass


def end_without_a_word(code):
    """What a worker does that is given a delivery and ends."""
    os.read(worker_main.SOCKET, local_wire.PACKET_LIMIT)
    return code


ENDS = [
    # exit code  report
    (0, CRASHED),
    (111, b"Z"),
    (ROOT, REPORTS[ROOT]),
]


@pytest.mark.parametrize("code, report", ENDS)
def test_a_worker_that_ends_without_a_word_has_not_delivered(home, code, report):
    deliveries, order = Deliveries(home), Order(7, b"0/1", b"s@x", b"joe@here.example")
    order.message = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    fields = local_wire.message_fields((b"joe", b"/", b"joe", b"", b"", b"here.example"), b"s@x")
    pool = WorkerPool(deliveries, None, lambda: end_without_a_word(code))
    pool.submit(WorkerTask([WorkerDelivery(deliveries, order, fields)]))
    turn_until(deliveries.loop, lambda: deliveries.reports)
    assert deliveries.reports == [(7, report)] and order.message is None
    pool.close()


def say(*packets):
    """What a worker does that is given deliveries, says this, and stays."""
    os.read(worker_main.SOCKET, local_wire.PACKET_LIMIT)
    for packet in packets:
        try:
            os.write(worker_main.SOCKET, packet)
        except OSError:
            return 0  # it is not listened to any more
    signal.pause()
    return 0


def done(number, text=b"", code=0):
    return local_wire.pack(local_wire.DONE, local_wire.code_body(code, text), number)


NEED = local_wire.pack(local_wire.NEED, b"", 1)
K = b"K"
LIES = [
    # what it says, and what becomes of the three deliveries that it has
    ([done(3)], [CRASHED] * 3),
    ([done(0), done(0)], [K, CRASHED, CRASHED]),
    ([local_wire.stored([(0, b""), (0, b"")])], [K, CRASHED, CRASHED]),
    ([local_wire.stored([(1, b""), (7, b"")])], [CRASHED, K, CRASHED]),
    ([done(1), local_wire.stored([(0, b""), (1, b"")])], [K, K, CRASHED]),
    ([local_wire.pack(local_wire.STORED)], [CRASHED] * 3),
    ([local_wire.pack(local_wire.STORED, b"0\0")], [CRASHED] * 3),
    ([local_wire.pack(local_wire.STORED, b"-1\0\0")], [CRASHED] * 3),
    ([local_wire.pack(local_wire.STORED, b"9" * 5000 + b"\0\0")], [CRASHED] * 3),
    ([local_wire.pack(local_wire.DONE)], [CRASHED] * 3),
    ([local_wire.pack(local_wire.ACCOUNT, b"\0")], [CRASHED] * 3),
    ([local_wire.pack(local_wire.NEED, b"", 9)], [CRASHED] * 3),
    ([done(2), local_wire.pack(local_wire.NEED, b"", 2)], [CRASHED, CRASHED, K]),
    ([done(0) + done(1)], [CRASHED] * 3),
    ([done(0)[:-1]], [CRASHED] * 3),
    ([b"\xff" * 60_000], [CRASHED] * 3),
    ([done(0), done(1), done(2), done(0)], [K] * 3),
    ([NEED] * 1000, [CRASHED] * 3),
]


@pytest.mark.parametrize("packets, reports", LIES)
def test_a_worker_that_lies_is_ended_and_each_delivery_is_reported_once(home, packets, reports):
    deliveries, members = Deliveries(home), []
    for number in range(3):
        order = Order(number, b"0/1", b"s@x", b"joe@here.example")
        order.message = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        fields = local_wire.message_fields((b"joe", b"/", b"joe", b"", b"", b"here.example"), b"s@x")
        members.append(WorkerDelivery(deliveries, order, fields))
    lost, pool = [], WorkerPool(deliveries, None, lambda: say(*packets))
    deliveries.forget_pool = lost.append
    pool.submit(WorkerTask(members))
    turn_until(deliveries.loop, lambda: len(deliveries.reports) >= 3 and lost)
    assert sorted(deliveries.reports) == list(enumerate(reports))
    pool.close()


def test_what_a_worker_says_at_length_is_cut(home):
    deliveries, order = Deliveries(home), Order(0, b"0/1", b"s@x", b"joe@here.example")
    order.message = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    fields = local_wire.message_fields((b"joe", b"/", b"joe", b"", b"", b"here.example"), b"s@x")
    pool = WorkerPool(deliveries, None, lambda: say(done(0, b"x" * 69_000, 100)))
    pool.submit(WorkerTask([WorkerDelivery(deliveries, order, fields)]))
    turn_until(deliveries.loop, lambda: deliveries.reports)
    [(_, report)] = deliveries.reports
    assert report.startswith(b"Dxxx") and len(report) <= REPORT_LIMIT + 1
    pool.close()
