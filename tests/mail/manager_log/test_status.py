"""When a status line is due though nothing started or ended, with given times."""

from pyqmail.mail.manager_log.status import QUIET_SECONDS, QuietChange


def test_nothing_is_due_while_the_last_line_is_true():
    status = QuietChange()
    status.shown((0, 0), 100.0)
    assert status.due((0, 0)) is None


def test_a_change_is_due_a_second_after_the_last_line():
    status = QuietChange()
    status.shown((0, 0), 100.0)
    assert status.due((0, 3)) == 100.0 + QUIET_SECONDS
    status.shown((0, 3), 100.5)  # a delivery line was followed by one
    assert status.due((0, 3)) is None and status.due((1, 3)) == 101.5


def test_what_changed_back_is_not_due():
    status = QuietChange()
    status.shown((0, 0), 100.0)
    assert status.due((0, 1)) is not None and status.due((0, 0)) is None
