"""Extensions in a whole session: a row with a command that starts again over a wrapped peer, over both drivers.

The wrapped peer stands for one that encrypts: what is not masked comes out of it as garbage.
"""

import socket
import threading

import pytest

from pyqmail.mail.queue.client import QueueOutcome
from pyqmail.mail.smtpd import extensions, session
from pyqmail.mail.smtpd.extensions import COMMANDS, MAIL_CHECKS, RECIPIENT_CHECKS, check_size, offered
from pyqmail.mail.smtpd.policy import TOO_BIG
from pyqmail.mail.smtpd.session import SmtpService
from pyqmail.protocol.smtp.extensions import PIPELINING, SIZE, Extension, ExtensionTable
from pyqmail.protocol.smtp.server import FREE, Server
from pyqmail.system.driver import BlockingDriver, EventDriver, drive
from pyqmail.system.loop import Loop
from pyqmail.system.peer import WrappedPeer

MASK = bytes(byte ^ 0x55 for byte in range(256))
READY = b"220 go on masked\r\n"
MASKED = Extension(b"MASK", commands={b"MASK": {FREE: FREE}})
BEFORE, AFTER = ExtensionTable(PIPELINING, MASKED), ExtensionTable(PIPELINING, SIZE)


class MaskedPeer(WrappedPeer):
    def put(self, data):
        super().put(data.translate(MASK))

    async def read(self):
        return (await super().read()).translate(MASK)


async def mask(session, command):
    session.engine.answer(command, READY)
    await session.send_replies()
    session.restart(AFTER, MaskedPeer(session.peer))


class Queue:
    def __init__(self):
        self.envelopes = []

    async def queue(self, message, envelope, environ):
        self.envelopes.append(envelope)
        return QueueOutcome(0, 7)


@pytest.fixture
def queue(monkeypatch, home):
    monkeypatch.chdir(home.path)
    monkeypatch.setattr(session, "offered", lambda environ: BEFORE)
    monkeypatch.setitem(COMMANDS, b"MASK", mask)
    return Queue()


def over(kind, home, queue, ours):
    fd = ours.fileno()
    if kind == "blocking":
        driver = BlockingDriver()
        return drive(SmtpService(driver, home, queue)(driver.peer(fd, fd), {}))
    loop = Loop()
    driver = EventDriver(loop)
    task = loop.start(SmtpService(driver, home, queue)(driver.peer(fd, fd), {}))
    while not task.promise.done:
        loop.turn(10)
    loop.abandon()
    return task.promise.value


def hear(sock, end, table=bytes(range(256))):
    heard = b""
    while not heard.endswith(end):
        data = sock.recv(65536)
        assert data, heard
        heard += data.translate(table)
    return heard


@pytest.mark.parametrize("kind", ["blocking", "event"])
@pytest.mark.parametrize("ahead", [b"", b"MAIL FROM:<evil>\r\nRCPT TO:<a@b>\r\nDATA\r\n.\r\n", b"RCPT TO:<half"])
def test_a_session_goes_on_over_a_wrapped_peer(kind, ahead, home, queue):
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    said = []

    def client():
        theirs.sendall(b"EHLO plain\r\nMAIL FROM:<x>\r\nMASK\r\nRSET\r\nMASK\r\n" + ahead)
        said.append(hear(theirs, READY))
        mail = b"MASK\r\nEHLO c\r\nRCPT TO:<c@d>\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
        theirs.sendall(mail.translate(MASK))
        said.append(hear(theirs, b"221 here.example\r\n", MASK))

    thread = threading.Thread(target=client)
    thread.start()
    assert over(kind, home, queue, ours) == 0
    thread.join()
    plain, masked = (each.split(b"\r\n") for each in said)
    assert plain == [b"220 here.example ESMTP", b"250-here.example", b"250-PIPELINING", b"250 MASK", b"250 ok",
                     b"503 not now (#5.5.1)", b"250 flushed", READY.strip(), b""]  # fmt: skip
    assert masked[:8] == [b"502 unimplemented (#5.5.1)", b"250-here.example", b"250-PIPELINING", b"250 SIZE 0",
                          b"503 MAIL first (#5.5.1)", b"250 ok", b"250 ok", b"354 go ahead"]  # fmt: skip
    assert masked[8].startswith(b"250 ok ") and masked[9:] == [b"221 here.example", b""]
    assert queue.envelopes == [b"Fa@b\0Tc@d\0\0"]
    for sock in (ours, theirs):
        sock.close()


def test_every_word_of_the_rows_has_its_place():
    """A command or parameter that is offered is handled; what no row brings has no handler."""
    table = offered({})
    assert set(table.verbs) == set(COMMANDS)
    assert set(table.mail_parameters) == set(MAIL_CHECKS)
    assert set(table.recipient_parameters) == set(RECIPIENT_CHECKS)


PARAMETERS = [
    # rows                    MAIL                                   reply
    ((SIZE,),                 b"MAIL FROM:<a> SIZE=101\r\n",        TOO_BIG),
    ((SIZE,),                 b"MAIL FROM:<a> SIZE=100 BODY=X\r\n", b"250 ok\r\n"),
    ((PIPELINING,),           b"MAIL FROM:<a> SIZE=101\r\n",        b"250 ok\r\n"),  # no row: a word like others
]  # fmt: skip


class Script:
    """A peer that says one piece, then goes."""

    timeout_seconds = 0
    client_meter = None

    def __init__(self, piece):
        self._pieces, self.heard = iter([piece]), b""

    def put(self, data):
        self.heard += data

    async def flush(self):
        pass

    async def read(self):
        return next(self._pieces, b"")


@pytest.mark.parametrize("rows, command, reply", PARAMETERS)
def test_a_parameter_counts_if_its_row_is_offered(rows, command, reply, home, queue, monkeypatch):
    monkeypatch.setattr(session, "offered", lambda environ: ExtensionTable(*rows))
    peer = Script(command)
    drive(SmtpService(BlockingDriver(), home, queue)(peer, {b"DATABYTES": b"100"}))
    assert peer.heard == b"220 here.example ESMTP\r\n" + reply


def test_a_parameter_of_a_recipient(home, queue, monkeypatch):
    monkeypatch.setattr(
        session, "offered", lambda environ: ExtensionTable(Extension(b"X", recipient_parameters=(b"X",)))
    )
    monkeypatch.setitem(RECIPIENT_CHECKS, b"X", lambda value, engine: b"501 " + value + b"\r\n" if value else None)
    peer = Script(b"MAIL FROM:<a>\r\nRCPT TO:<b> X=no\r\nRCPT TO:<b> X\r\nRCPT TO:<b> X=\r\n")
    drive(SmtpService(BlockingDriver(), home, queue)(peer, {}))
    assert peer.heard.endswith(b"ESMTP\r\n250 ok\r\n501 no\r\n250 ok\r\n250 ok\r\n")


def test_the_size_that_is_refused_is_the_sessions():
    assert check_size(b"11", Server(b"h", 10)) == TOO_BIG
    assert check_size(b"11", Server(b"h", 0)) is None and extensions.accept_body(b"8BITMIME", None) is None
