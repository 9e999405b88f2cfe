"""Every conversation of tests/transcripts/remote-*, played to the client in pieces of several sizes.

Untested here: time limits and real sockets (tests/programs/test_pyremote.py).
"""

import glob
import os

import pytest

from pyqmail.mail.remote.smtp_connection import Died, SmtpConnection
from pyqmail.mail.remote.smtp_delivery import SMALL, MessageFile
from pyqmail.protocol.smtp import report as smtp_report
from pyqmail.system.driver import BlockingDriver, drive

TESTS = os.path.abspath(f"{os.path.dirname(__file__)}/../..")
NAMES = sorted(os.path.basename(path) for path in glob.glob(f"{TESTS}/transcripts/remote-*.txt"))
ADDRESS = b"127.0.0.1"


class Scripted:
    """A peer that says what a transcript's server says, in pieces, once the client has said its part."""

    def __init__(self, steps, size):
        self._steps, self._size, self._pieces = list(steps), size, []
        self.timeout_seconds = 1

    def put(self, data):
        self._pieces.append(data)

    async def flush(self):
        said, self._pieces = b"".join(self._pieces), []
        while said:
            who, wanted = self._steps.pop(0) if self._steps else (b"nobody", b"")
            assert who == b"C", said
            assert said[: len(wanted)] == wanted[: len(said)]
            if len(said) < len(wanted):
                self._steps.insert(0, (b"C", wanted[len(said) :]))
            said = said[len(wanted) :]

    async def read(self):
        if not self._steps or self._steps[0][0] == b"C":
            return b""
        said = self._steps.pop(0)[1]
        if len(said) > self._size:
            self._steps.insert(0, (b"S", said[self._size :]))
        return said[: self._size]

    def has_input(self):
        return bool(self._steps) and self._steps[0][0] == b"S"

    def is_through(self):
        return not self._steps


def message_of(data):
    fd = os.memfd_create("message")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return MessageFile(fd)


async def converse(peer, sender, recipients, message):
    connection = SmtpConnection(BlockingDriver(), peer, ADDRESS, b"h.example")
    try:
        refusal = await connection.greet()
    except Died:
        return [smtp_report.died(ADDRESS, False)]
    if refusal is not None:
        await connection.quit()
        return [smtp_report.refused(refusal[0], ADDRESS, *refusal[1:])]
    outcome = await connection.deliver(sender, recipients, message)
    await connection.quit()
    return [record for record in outcome.recipients if record is not None] + [outcome.message]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
@pytest.mark.parametrize("name", NAMES)
def test_conversation(transcript, name, size):
    script = transcript(name)
    peer = Scripted(script.steps, size)
    message = message_of(script.message)
    records = drive(converse(peer, script.args[1], script.args[2:], message))
    message.close()
    assert b"".join(record + b"\0" for record in records) == script.report
    assert peer.is_through()


GREETING = [(b"S", b"220 x\r\n"), (b"C", b"EHLO h.example\r\n"), (b"S", b"250-x\r\n250 PIPELINING\r\n")]


def open_connection(steps):
    peer = Scripted(GREETING + steps, 4096)
    connection = SmtpConnection(BlockingDriver(), peer, ADDRESS, b"h.example")
    assert drive(connection.greet()) is None
    return peer, connection


def deliver(connection, data=b"x\n", recipients=(b"a@d.test",), sender=b"s@x.test"):
    message = message_of(data)
    try:
        return drive(connection.deliver(sender, list(recipients), message))
    finally:
        message.close()


ORDER = b"MAIL FROM:<s@x.test>\r\nRCPT TO:<a@d.test>\r\nDATA\r\n"


def test_a_failed_transaction_is_reset_together_with_the_next():
    peer, connection = open_connection(
        [
            (b"C", ORDER),
            (b"S", b"250 ok\r\n550 no\r\n503 no\r\n"),
            (b"C", b"RSET\r\n" + ORDER),
            (b"S", b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
            (b"C", b"x\r\n.\r\n"),
            (b"S", b"250 one\r\n"),
            (b"C", ORDER),
            (b"S", b"250 ok\r\n250 ok\r\n354 go\r\n"),
            (b"C", b"x\r\n.\r\n"),
            (b"S", b"250 two\r\n"),
        ]
    )
    assert deliver(connection).message == b"DGiving up on 127.0.0.1.\n"
    assert deliver(connection).message.endswith(b"said: 250 one\n")
    assert deliver(connection).message.endswith(b"said: 250 two\n")
    assert connection.is_usable and peer.is_through()


@pytest.mark.parametrize("answer", [b"", b"421 idle for too long\r\n"])
def test_a_server_that_gave_up_a_kept_connection_has_not_seen_the_mail(answer):
    _, connection = open_connection([(b"C", ORDER), (b"S", answer)] if answer else [(b"C", ORDER)])
    outcome = deliver(connection)
    assert outcome.is_untouched and not connection.is_usable


@pytest.mark.parametrize("size", [7, 4096])
def test_a_server_that_says_more_than_it_was_asked_gets_no_more_mail(size):
    """Else its replies would be one behind: its 354 for an acceptance, and the message lost."""
    script = [(b"C", ORDER), (b"S", b"250 ok\r\n250 ok\r\n354 go\r\n"), (b"C", b"x\r\n.\r\n")]
    peer, connection = open_connection([*script, (b"S", b"250 one\r\n250 and one more\r\n"), *script])
    peer._size = size
    assert deliver(connection).message.endswith(b"said: 250 one\n")
    outcome = deliver(connection)
    assert outcome.is_untouched and not connection.is_usable and not peer.is_through()


def test_a_server_that_dies_in_a_transaction_has_seen_it():
    _, connection = open_connection([(b"C", ORDER), (b"S", b"250 ok\r\n")])
    outcome = deliver(connection)
    assert not outcome.is_untouched and not connection.is_usable


def test_a_thousand_recipients_are_sent_a_hundred_commands_at_a_time():
    recipients = [b"u%d@d.test" % i for i in range(1000)]
    commands = [b"MAIL FROM:<s@x.test>\r\n", *(b"RCPT TO:<%b>\r\n" % r for r in recipients), b"DATA\r\n"]
    steps = []
    for at in range(0, len(commands), 100):
        batch = commands[at : at + 100]
        steps.append((b"C", b"".join(batch)))
        steps.append((b"S", b"".join(b"354 go\r\n" if c == b"DATA\r\n" else b"250 ok\r\n" for c in batch)))
    peer, connection = open_connection([*steps, (b"C", b"x\r\n.\r\n"), (b"S", b"250 ok\r\n")])
    outcome = deliver(connection, recipients=recipients)
    assert outcome.recipients == [b"r"] * 1000 and outcome.message[:1] == b"K" and peer.is_through()


@pytest.mark.parametrize("bad", [b"a\nRCPT TO:<x>@d.test", b"a@d.test>\r\nDATA", b"a\r@d.test"])
def test_a_line_break_in_an_address_is_never_sent(bad):
    peer, connection = open_connection([])
    assert deliver(connection, recipients=[bad]).recipients == [smtp_report.RECIPIENT_BREAK]
    assert deliver(connection, sender=bad).message == smtp_report.SENDER_BREAK
    assert connection.is_usable and peer.is_through()


def test_a_message_that_cannot_be_read_is_not_completed(tmp_path):
    _, connection = open_connection([(b"C", ORDER), (b"S", b"250 ok\r\n250 ok\r\n354 go\r\n")])
    message = MessageFile(os.open(tmp_path, os.O_RDONLY))  # reading a folder fails
    outcome = drive(connection.deliver(b"s@x.test", [b"a@d.test"], message))
    message.close()
    assert outcome.message == smtp_report.UNREADABLE and connection.is_broken


@pytest.mark.parametrize("size", [0, 1, 5, SMALL - 1, SMALL, SMALL + 1, 200_000])
@pytest.mark.parametrize("end, is_whole", [(b"\n", True), (b"\r", True), (b"x", False)])
def test_whole_lines_are_told_without_sending(size, end, is_whole):
    data = (b"line\n" * (size // 5 + 1))[: max(0, size - 1)] + end if size else b""
    message = message_of(data)
    assert message.has_whole_lines() == (is_whole or not size)
    assert b"".join(iter(message.read, b"")) == data
    message.close()


TOO_MANY_AND_LEAVING = [
    # what the server says to the second recipient     postponed
    (b"421 too much", [1]),
    (b"421 4.5.3 too many recipients", [1]),  # both are said: it is postponed once
    (b"452 4.5.3 too many recipients", [1]),
    (b"450 later", []),
]


@pytest.mark.parametrize("answer, postponed", TOO_MANY_AND_LEAVING)
def test_one_recipient_too_many_is_postponed(answer, postponed):
    order = b"MAIL FROM:<s@x.test>\r\nRCPT TO:<a@d.test>\r\nRCPT TO:<b@d.test>\r\nDATA\r\n"
    answers = b"250 ok\r\n250 ok\r\n" + answer + b"\r\n"
    _, connection = open_connection([(b"C", order), (b"S", answers + (b"" if answer[:3] == b"421" else b"450 no\r\n"))])
    outcome = deliver(connection, recipients=[b"a@d.test", b"b@d.test"])
    assert sorted({*outcome.postponed, *outcome.returned} - {0}) == postponed


@pytest.mark.parametrize("content", [b"", b"short\n", b"x" * (SMALL - 2) + b"\n", b"x" * SMALL + b"\n"])
def test_a_message_is_in_memory_only_until_it_is_sent_and_is_opened_again_for_the_next(content, tmp_path):
    path, opened = tmp_path / "message", []
    path.write_bytes(content)

    def open_again():
        opened.append(os.open(path, os.O_RDONLY))
        return opened[-1]

    message = MessageFile(os.open(path, os.O_RDONLY), open_again=open_again)
    assert message.has_whole_lines()
    for _ in range(3):
        message.rewind()
        blocks = []
        while block := message.read():
            blocks.append(block)
        assert b"".join(blocks) == content
        if len(content) < SMALL:
            assert message._whole == b""
    assert len(opened) == (1 if len(content) < SMALL else 0)
    message.close()


def test_a_message_that_is_gone_at_the_second_transaction(tmp_path):
    (tmp_path / "message").write_bytes(b"short\n")

    def open_again():
        raise FileNotFoundError

    message = MessageFile(os.open(tmp_path / "message", os.O_RDONLY), open_again=open_again)
    assert message.has_whole_lines() and message.read() == b"short\n" and message.read() == b""
    with pytest.raises(FileNotFoundError):
        message.rewind()
