"""How long a message is unsettled, and what it remembers meanwhile; the rest is in tests/programs/test_pysend.py."""

import time

import pytest

from pyqmail.mail.manager.materialize import UNSETTLED_SECONDS, UnsettledMessage
from pyqmail.mail.manager.passes import Pass


def unsettled(record):
    """An unsettled message of one local pass: (message, pass, its recipients)."""
    message = UnsettledMessage(50, b"s@x", 0, {"local": bytearray(record)}, (1, 1))
    pass_ = Pass(50, "local", b"s@x", 0, 0, 604800)
    message.passes.append(pass_)
    recipients = pass_.parse_slice(record)
    pass_.at_end = True
    return message, pass_, recipients


def end_delivery(pass_, recipient, report):
    """A delivery ends: what dispatch.py does to the pass."""
    if report == b"D":
        pass_.paragraphs.append(b"<joe>:\n")
    if report != b"Z":
        pass_.marks.append(recipient.offset)
        pass_.undone -= 1
    pass_.running -= 1


@pytest.mark.parametrize("report", [b"K", b"D"])
def test_a_message_is_unsettled_for_a_second_after_its_first_result_but_longer_before_it(report):
    message, pass_, recipients = unsettled(b"Tjoe@x\0Tann@x\0")
    assert not message.note_progress(pass_)  # it was added: no result
    assert message.due > time.monotonic() + UNSETTLED_SECONDS + 1
    end_delivery(pass_, recipients[0], report)
    assert not message.note_progress(pass_)
    first = message.due
    assert first <= time.monotonic() + UNSETTLED_SECONDS
    end_delivery(pass_, recipients[1], report)
    # a bounce text is put on disk when there are files
    assert message.note_progress(pass_) == (report == b"K") and message.due == first
    assert message.records["local"] == (b"Djoe@x\0Dann@x\0" if report == b"K" else b"Tjoe@x\0Tann@x\0")


def test_a_deferral_of_all_is_a_result():
    message, pass_, recipients = unsettled(b"Tjoe@x\0")
    end_delivery(pass_, recipients[0], b"Z")
    assert not message.note_progress(pass_) and message.due <= time.monotonic() + UNSETTLED_SECONDS


def test_what_could_not_be_materialized_is_not_tried_again_before_its_time():
    message, pass_, recipients = unsettled(b"Tjoe@x\0Tann@x\0")
    for _ in range(8):
        message.materialize_later()  # each time after a longer pause
    end_delivery(pass_, recipients[0], b"K")
    assert not message.note_progress(pass_) and message.due > time.monotonic() + 90
