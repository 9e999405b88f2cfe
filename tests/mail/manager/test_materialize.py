"""How long a message is unsettled, and what it remembers meanwhile; the rest is in tests/programs/test_pysend.py."""

import time

import pytest

from pyqmail.mail.manager.marks import OpenMessage
from pyqmail.mail.manager.materialize import UNSETTLED_SECONDS, UnsettledMessage


def unsettled(record):
    """An unsettled message of one channel: (message, what its deliveries are noted in)."""
    message = UnsettledMessage(50, b"s@x", 0, 100, {"local": bytearray(record)}, (1, 1))
    opened = OpenMessage(50, "local")
    opened.unsettled = message
    opened.running = record.count(b"\0")
    message.opened.append(opened)
    return message, opened


def end_delivery(opened, offset, report, is_done=False):
    """A delivery ends: what deliveries.py notes, and the engine says of it."""
    opened.running -= 1
    opened.has_result, opened.is_done = True, is_done
    if report == b"D":
        opened.paragraphs.append(b"<joe>:\n")
    if report != b"Z":
        opened.marks.append(offset)


@pytest.mark.parametrize("report", [b"K", b"D"])
def test_a_message_is_unsettled_for_a_second_after_its_first_result_but_longer_before_it(report):
    message, opened = unsettled(b"Tjoe@x\0Tann@x\0")
    assert not message.note_progress(opened)  # it was added: no result
    assert message.due > time.monotonic() + UNSETTLED_SECONDS + 1
    end_delivery(opened, 0, report)
    assert not message.note_progress(opened)
    first = message.due
    assert first <= time.monotonic() + UNSETTLED_SECONDS
    end_delivery(opened, 7, report, is_done=True)
    # a bounce text is put on disk when there are files
    assert message.note_progress(opened) == (report == b"K") and message.due == first
    assert message.records["local"] == (b"Djoe@x\0Dann@x\0" if report == b"K" else b"Tjoe@x\0Tann@x\0")


def test_it_is_not_over_while_a_delivery_runs_or_the_other_channel_goes_on():
    message, opened = unsettled(b"Tjoe@x\0")
    other = OpenMessage(50, "remote")
    message.opened.append(other)
    opened.is_done = True
    assert not message.note_progress(opened)  # one runs
    end_delivery(opened, 0, b"K", is_done=True)
    assert not message.note_progress(opened)  # the other channel
    other.is_done = True
    assert message.note_progress(opened)


def test_a_deferral_of_all_is_a_result():
    message, opened = unsettled(b"Tjoe@x\0")
    end_delivery(opened, 0, b"Z")
    assert not message.note_progress(opened) and message.due <= time.monotonic() + UNSETTLED_SECONDS


def test_what_could_not_be_materialized_is_not_tried_again_before_its_time():
    message, opened = unsettled(b"Tjoe@x\0Tann@x\0")
    for _ in range(8):
        message.materialize_later()  # each time after a longer pause
    end_delivery(opened, 0, b"K")
    assert not message.note_progress(opened) and message.due > time.monotonic() + 90
