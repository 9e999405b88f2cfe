"""What the status and the details say at each moment of a service's life."""

import os

from pyqmail.supervise import service as states
from pyqmail.supervise.details import Details, read_details
from pyqmail.supervise.service import Service
from pyqmail.supervise.state_record import StateRecord
from pyqmail.supervise.status import ONCE, WANT_UP, Status
from pyqmail.system.process_start import begun

NO_PROCESS = 0


def said(record, pid, service, wait_seconds=1):
    return Status(record.status(pid, service)), read_details(record.details(pid, service, wait_seconds))


def test_a_life():
    record, service = StateRecord(), Service(WANT_UP)
    status, details = said(record, NO_PROCESS, service)
    assert (status.pid, status.paused, status.wish, details.state) == (0, False, WANT_UP, "down")
    assert (details.starts, details.ended, details.wait, record.ended) == (0, None, None, (0, 0))
    record.run_was_started(os.getpid())
    service.state = states.FRESH
    before, (status, details) = status, said(record, os.getpid(), service)
    assert status.label > before.label and status.label == details.label
    assert (details.state, details.starts, details.begun) == ("up", 1, begun(os.getpid()))
    record.run_is_ready()
    assert said(record, os.getpid(), service)[1].ready is not None
    service.state = states.PAUSED
    assert said(record, os.getpid(), service)[0].paused
    record.run_has_ended(3, 0)
    service.state = states.WAITING
    before, (status, details) = status, said(record, NO_PROCESS, service, 8)
    assert status.label > before.label and not status.paused
    assert (details.state, details.wait, details.ready, details.begun) == ("waiting", 8, None, None)
    assert details.ended == record.ended == (3, 0)


def test_a_script_can_be_found_again():
    record, service = StateRecord(), Service(WANT_UP)
    record.script_was_started(os.getpid())
    assert said(record, NO_PROCESS, service)[1].script == (os.getpid(), *begun(os.getpid()))
    record.script_has_ended()
    assert said(record, NO_PROCESS, service)[1].script is None


def test_a_run_that_cannot_be_executed_counts():
    record = StateRecord()
    record.run_was_started(NO_PROCESS)
    service = Service(ONCE)
    for service.state in (states.FRESH, states.UP, states.PAUSED):
        details = said(record, NO_PROCESS, service)[1]
        assert (details.state, details.starts, details.begun) == ("waiting", 1, None)


def test_it_goes_on_with_what_is_known_of_a_survivor():
    left = Details()
    left.label, left.ended, left.begun = b"\x40" + bytes(11), (256, 9), (7, b"boot")
    status, details = said(StateRecord(left), 5, Service(WANT_UP))
    assert (status.label, status.pid) == (left.label, 5)
    assert (details.starts, details.ended, details.begun) == (0, (256, 9), (7, b"boot"))
