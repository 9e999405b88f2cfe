"""Workers that end before they say how a delivery went; deliveries are in tests/programs/test_pylspawn.py."""

import os

import pytest

from pyqmail.mail.local import worker_main
from pyqmail.mail.local.delivery_tasks import CRASHED, REPORTS, WorkerDelivery, WorkerTask
from pyqmail.mail.local.users import ROOT
from pyqmail.mail.local.worker_pool import WorkerPool
from pyqmail.mail.spawners.server import Order
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
