import pytest

from pyqmail.protocol.smtp.report import ACCEPTED, compose, compose_one, ended, refused

# Source: report() of qmail-rspawn
REPORTS = [
    # exit code, output of qmail-remote            report
    (None, b"r\0Kx\n\0", b"Zqmail-remote crashed.\n"),
    (111, b"r\0Kx\n\0", b"ZUnable to run qmail-remote.\n"),
    (126, b"sh: 1: exec: pyremote: Permission denied", b"ZUnable to run qmail-remote.\n"),
    (127, b"env: python3: No such file or directory", b"ZUnable to run qmail-remote.\n"),
    (100, b"", b"DUnable to run qmail-remote.\n"),
    (1, b"Kx\0", b"DUnable to run qmail-remote.\n"),
    (0, b"", b"Zqmail-remote produced no output.\n"),
    (0, b"r\0Kyes\n\0", b"Kyes\n"),
    (0, b"rgood \0Kyes\n\0", b"Kgood yes\n"),
    (0, b"r\0Zlater\n\0", b"Zlater\n"),
    (0, b"r\0Dno\n\0", b"Dno\n"),
    (0, b"hbad\n\0Dno\n\0", b"Dbad\nno\n"),
    (0, b"hbad\n\0Kyes\n\0", b"Dbad\n"),
    (0, b"hbad\n\0Zlater\n\0", b"Dbad\n"),
    (0, b"sbusy\n\0Zlater\n\0", b"Zbusy\nlater\n"),
    (0, b"sbusy\n\0Dno\n\0", b"Zbusy\nno\n"),
    (0, b"sbusy\n\0Kyes\n\0", b"Zbusy\n"),
    (0, b"Zlater\n\0", b"Zlater\n"),
    (0, b"Dno\n\0", b"Dno\n"),
    (0, b"Kyes\n\0", b"Kyes\n"),
    (0, b"rhm\n\0", b"Dhm\n"),
    (0, b"no NUL at all\n", b"D"),
    (0, b"Kno NUL at all\n", b"D"),
    (0, b"r\0Kyes\n\0Dno\n\0", b"Kyes\n"),
    (0, b"r\0x\0Kyes\n\0", b"K"),
    # seen of the original: a NUL at the head counts as the first record's letter
    (0, b"\0r\0", b"Dr"),
    (0, b"\0Zlater\0q\0Z\0", b"ZZlater"),
    (0, b"\0K\0D\0", b"KK"),
    (0, b"\0Kok\0stext\0Dno\0", b"KKok"),
    (0, b"\0sbusy\0Dno\0", b"Dsbusyno"),
]


@pytest.mark.parametrize("exit_code, output, report", REPORTS)
def test_compose(exit_code, output, report):
    assert compose(exit_code, output) == report


ONE = [
    # recipient          message            report
    (ACCEPTED, b"Kyes\n", b"Kyes\n"),
    (ACCEPTED, b"Zdied\n", b"Zdied\n"),
    (None, b"Zdied\n", b"Zdied\n"),
    (b"hbad\n", b"Kyes\n", b"Dbad\nGiving up on 1.2.3.4.\n"),
    (b"sbusy\n", b"Kyes\n", b"Zbusy\nGiving up on 1.2.3.4.\n"),
    (b"sbusy\n", b"DGiving up on 1.2.3.4.\n", b"Zbusy\nGiving up on 1.2.3.4.\n"),
]


@pytest.mark.parametrize("recipient, message, report", ONE)
def test_one_of_several_recipients_is_reported_as_if_alone(recipient, message, report):
    assert compose_one(b"1.2.3.4", recipient, message) == report


def test_a_refusal_without_words_quotes_none():
    assert refused("greeting", b"1.2.3.4", 0, b"") == b"ZConnected to 1.2.3.4 but greeting failed.\n"


ENDS = [
    # situation, code, reply, report
    ("sender", 554, b"554 enough\n", b"ZConnected to 1.2.3.4 but sender was rejected.\nRemote host said: 554 enough\n"),
    ("recipients", 452, b"452 no\n", b"Z1.2.3.4 does not like recipient.\nRemote host said: 452 no\n"),
    ("data", 421, b"421 bye\n", b"Z1.2.3.4 failed on DATA command.\nRemote host said: 421 bye\n"),
    ("nothing", 421, b"421 bye\n",
     b"ZConnected to 1.2.3.4 but connection died. (#4.4.2)\nRemote host said: 421 bye\n"),
    ("nothing", 0, b"", b"ZConnected to 1.2.3.4 but connection died. (#4.4.2)\n"),
]  # fmt: skip


@pytest.mark.parametrize("situation, code, reply, report", ENDS)
def test_the_end_of_a_connection_is_a_deferral(situation, code, reply, report):
    assert ended(situation, b"1.2.3.4", code, reply) == report
