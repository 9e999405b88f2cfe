"""Sessions over a scripted peer, and over both drivers with a real socket; the queue only notes what it is given.

Untested here: the real queue and the real program (tests/programs/test_pysmtpd.py).
"""

import glob
import os
import pathlib
import random
import socket
import threading

import pytest

from pyqmail.mail.queue.client import MEMORY_BYTES, MessageBuffer, MessageMemory, QueueOutcome
from pyqmail.mail.smtpd import policy, session, transaction
from pyqmail.mail.smtpd.client_limits import NUMBERS
from pyqmail.mail.smtpd.session import SmtpService
from pyqmail.mail.smtpd.transaction import Share, Shares, client_of, received_line
from pyqmail.system.channel import Gone
from pyqmail.system.coroutines import TimedOut
from pyqmail.system.driver import BlockingDriver, EventDriver, drive
from pyqmail.system.loop import Loop

TESTS = os.path.abspath(f"{os.path.dirname(__file__)}/../..")
NAMES = sorted(os.path.basename(path) for path in glob.glob(f"{TESTS}/transcripts/smtp-*.txt"))
SEND = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
QUIT = b"QUIT\r\n"
NO_LIMITS = dict.fromkeys(NUMBERS, b"0\n")


class Queue:
    """Keeps [envelope, message without our Received line]; outcome is what it answers."""

    def __init__(self):
        self.queued, self.outcome, self.environ, self.received = [], QueueOutcome(0, 7), None, b""

    async def queue(self, message, envelope, environ):
        content = read(message)
        lines = content.split(b"\n", 2)
        assert lines[0].startswith(b"Received: from ") and lines[1].startswith(b"  by ")
        self.received, self.environ = b"\n".join(lines[:2]), environ
        self.queued.append([envelope, lines[2]])
        return self.outcome


def read(spool):
    if spool.in_memory:
        return spool.content()
    with open(os.dup(spool.descriptor()), "rb") as file:
        return file.read()


class Script:
    """A peer that says pieces, then goes; `before_read` sees what it has heard each time it is listened to."""

    client_meter = None

    def __init__(self, pieces, before_read=lambda heard: None, ending=b""):
        self.timeout_seconds, self.heard, self._pending = 0, b"", b""
        self._pieces, self._before_read, self._ending = iter(pieces), before_read, ending

    def put(self, data):
        self._pending += data

    async def flush(self):
        self.heard, self._pending = self.heard + self._pending, b""

    async def read(self):
        assert not self._pending
        self._before_read(self.heard)
        piece = next(self._pieces, self._ending)
        if isinstance(piece, Exception):
            raise piece
        return piece


@pytest.fixture
def queue():
    return Queue()


class Unhurried(BlockingDriver):
    """Notes in `slept` how long a session would have waited."""

    def __init__(self):
        self.slept = []

    async def sleep(self, seconds):
        self.slept.append(seconds)


@pytest.fixture
def driver():
    return Unhurried()


@pytest.fixture
def receive(home, queue, driver, monkeypatch):
    """receive(peer, environ={}) -> exit code, by one SmtpService."""
    monkeypatch.chdir(home.path)
    handler = SmtpService(driver, home, queue)
    return lambda peer, environ=None: drive(handler(peer, environ or {}))


def set_controls(home, controls):
    for name, content in controls.items():
        (pathlib.Path(home.control) / name).write_bytes(content)


def cut(data, sizes):
    at = 0
    while at < len(data):
        size = sizes()
        yield data[at : at + size]
        at += size


# without limits the bytes are those of before there were any; the transcripts about limits are left out there
PLAYED = [
    pytest.param(name, limits, id=f"{name} {'without limits' if limits else 'by default'}")
    for name in NAMES
    for limits in ({}, NO_LIMITS)
    if not (limits and name.startswith("smtp-limits-"))
]


@pytest.mark.parametrize("name, limits", PLAYED)
@pytest.mark.parametrize("size", [1, 2, 3, 100, 1 << 20, None])
def test_transcript_in_any_pieces(name, limits, size, home, queue, receive, transcript):
    told = transcript(name)
    set_controls(home, limits | told.controls)
    dice = random.Random(3)
    peer = Script(cut(told.client(), lambda: size or dice.randrange(1, 12)))
    assert receive(peer, told.environ) == told.code
    assert transcript.matches(peer.heard, told.server())
    assert queue.queued == told.queued


@pytest.mark.parametrize("name, limits", PLAYED)
def test_transcript_step_by_step_nothing_is_held_back(name, limits, home, receive, transcript):
    told = transcript(name)
    set_controls(home, limits | told.controls)
    due = []
    sofar = b""
    for who, said in told.steps:
        if who == b"S":
            sofar += said
        else:
            due.append(sofar)
    due = iter(due)
    peer = Script(
        [said for who, said in told.steps if who == b"C"],
        before_read=lambda heard: transcript.matches(heard, next(due, told.server())) or pytest.fail(repr(heard)),
    )
    assert receive(peer, told.environ) == told.code


@pytest.mark.parametrize("outcome, reply", [
    (QueueOutcome(0, 5, b"Dnot read"), b"250 ok TIME qp 5"),
    (QueueOutcome(31), b"554 mail server permanently rejected message (#5.3.0)"),
    (QueueOutcome(53), b"452 qq write error or disk full (#4.3.0)"),
    (QueueOutcome(82, 0, b"Dno thanks\n"), b"554 no thanks"),
    (QueueOutcome(82, 0, b"Zlater\r\n250 ok"), b"451 later  250 ok"),
    (QueueOutcome(82, 0, b"?later"), b"451 later"),
    (QueueOutcome(-1), b"451 qq crashed (#4.3.0)"),
])  # fmt: skip
def test_what_the_queue_says_is_the_reply(outcome, reply, queue, receive, transcript):
    queue.outcome = outcome
    peer = Script([SEND + b"x\r\n.\r\n" + QUIT])
    assert receive(peer) == 0
    assert transcript.matches(peer.heard.split(b"354 go ahead\r\n")[1], reply + b"\r\n221 here.example\r\n")


RECEIVED = [
    # environment, HELO (None: not said)                                 Received line up to the date
    ({}, None, b"Received: from unknown (unknown)\n  by unknown with SMTP; "),
    ({b"TCPREMOTEHOST": b"c.example", b"TCPREMOTEIP": b"192.0.2.9", b"TCPLOCALHOST": b"me"}, b"C.Example",
     b"Received: from c.example (192.0.2.9)\n  by me with SMTP; "),
    ({b"TCPREMOTEINFO": b"jo e", b"TCPREMOTEIP": b"::1", b"TCPLOCALIP": b"192.0.2.1"}, b"[1.2.3.4] x_\xff",
     b"Received: from unknown (HELO [1.2.3.4]?x??) (jo?e@::1)\n  by 192.0.2.1 with SMTP; "),
    ({b"TCPREMOTEINFO": b"", b"TCPLOCALHOST": b"", b"TCPLOCALIP": b"x"}, b"",
     b"Received: from unknown (HELO ) (@unknown)\n  by  with SMTP; "),
]  # fmt: skip


@pytest.mark.parametrize("environ, helo, line", RECEIVED)
def test_received_line(environ, helo, line):
    assert received_line(environ, helo, 820631134) == line + b"3 Jan 1996 01:05:34 -0000\n"


def test_the_helo_of_a_session_and_its_environment_reach_the_queue(queue, receive):
    environ = {b"TCPREMOTEHOST": b"c.example", b"SOMETHING": b"else"}
    receive(Script([b"EHLO first\r\nHELO second\r\n" + SEND + b".\r\n"]), environ)
    assert queue.received.startswith(b"Received: from c.example (HELO second) (unknown)\n  by unknown with SMTP; ")
    assert queue.environ is environ


def test_a_silent_client_is_told_and_left(queue, receive):
    peer = Script([SEND, b"half\r\n"], ending=TimedOut())
    assert receive(peer) == 1
    assert peer.heard.endswith(b"354 go ahead\r\n451 timeout (#4.4.2)\r\n") and not queue.queued


def test_timeoutsmtpd_is_the_peers_limit(home, receive):
    set_controls(home, {"timeoutsmtpd": b"17\n"})
    peer = Script([QUIT])
    receive(peer)
    assert peer.timeout_seconds == 17


@pytest.mark.parametrize("ending", [b"", Gone("reset")])
def test_a_client_that_vanishes_at_any_point_leaves_nothing(ending, queue, receive):
    whole = b"EHLO c\r\n" + SEND + b"Subject: x\r\n\r\nbody\r\n.\r\n"
    for at in range(len(whole)):
        assert receive(Script([whole[:at]], ending=ending)) == 1
    assert not queue.queued
    receive(Script([whole], ending=ending))
    assert len(queue.queued) == 1


def test_a_client_that_does_not_listen_is_a_failure(receive):
    class Deaf(Script):
        async def flush(self):
            raise TimedOut

    assert receive(Deaf([QUIT])) == 1


def test_a_thousand_recipients(queue, receive):
    lines = b"".join(b"RCPT TO:<user%d@d>\r\n" % number for number in range(1000))
    peer = Script(cut(b"MAIL FROM:<a@b>\r\n" + lines + b"DATA\r\nx\r\n.\r\n" + QUIT, lambda: 4096))
    assert receive(peer) == 0
    assert peer.heard.count(b"250 ok\r\n") == 1001
    assert queue.queued[0][0] == b"Fa@b\0" + b"".join(b"Tuser%d@d\0" % number for number in range(1000)) + b"\0"


LIMITS = [
    # control/maxrcpt   recipients   of which are refused
    (None,              1002,        2),
    (b"3",              5,           2),
    (b"1",              1,           0),
    (b"0",              1500,        0),
]  # fmt: skip


@pytest.mark.parametrize("text, count, refused", LIMITS)
def test_the_recipients_of_a_message_are_counted(text, count, refused, home, queue, receive):
    """Those above the limit are not added; each message begins anew, whatever ended the one before."""
    set_controls(home, {"maxrcpt": text} if text else {})
    mail = b"MAIL\r\n" + b"".join(b"RCPT TO:<%d>\r\n" % number for number in range(count)) + b"DATA\r\n.\r\n"
    peer = Script([mail + b"MAIL\r\nRCPT TO:<a>\r\nRSET\r\n" + mail + b"MAIL\r\nRCPT TO:<b>\r\n" + mail + QUIT])
    assert receive(peer) == 0
    assert peer.heard.count(b"452 sorry, too many recipients (#4.5.3)\r\n") == 3 * refused
    envelope = b"F\0" + b"".join(b"T%d\0" % number for number in range(count - refused)) + b"\0"
    assert [queued for queued, _ in queue.queued] == [envelope] * 3


def test_a_refused_recipient_does_not_count(home, queue, receive):
    set_controls(home, {"maxrcpt": b"2", "rcpthosts": b"ours"})
    peer = Script([b"MAIL\r\n" + b"RCPT TO:<a@theirs>\r\n" * 5 + b"RCPT TO:<a@ours>\r\n" * 3])
    receive(peer)
    assert (peer.heard.count(policy.NOT_OURS), peer.heard.count(policy.TOO_MANY)) == (5, 1)


def test_the_envelope_has_a_bound(home, queue, receive, monkeypatch):
    monkeypatch.setattr(transaction, "FLOOR_BYTES", 10)
    monkeypatch.setattr(transaction, "MAX_BYTES", 40)
    peer = Script([b"MAIL\r\n" + b"RCPT TO:<0123456789>\r\n" * 5 + b"DATA\r\n.\r\n"])
    receive(peer)
    assert peer.heard.count(policy.TOO_MANY) == 2
    assert queue.queued[0][0].count(b"T") == 3


def test_what_all_clients_are_sending_has_a_bound(home, queue, monkeypatch):
    """Whatever becomes of a transaction, what it held is given back."""
    endings = (b"", b"DATA\r\nx\r\n.\r\n", b"RSET\r\n", b"MAIL\r\n", b"DATA\r\nx\n", b"DATA\r\nx")
    monkeypatch.chdir(home.path)
    monkeypatch.setattr(transaction, "FLOOR_BYTES", 100)
    handler = SmtpService(None, home, queue)
    handler._shares = Shares(MessageMemory(400))
    for ending in endings * 3:
        peer = Script([b"MAIL\r\n" + b"RCPT TO:<" + b"x" * 98 + b">\r\n", b"RCPT TO:<x>\r\n" * 200 + ending])
        drive(handler(peer, {}))
        assert peer.heard.count(policy.TOO_MANY) == 200 - 133
    assert handler._shares.memory.reserve(400) and not handler._shares.of_address


@pytest.mark.parametrize("end", [b"RSET\r\n", b"EHLO x\r\n", b"HELO x\r\n"])
def test_what_a_client_gave_up_is_free_while_it_stays(end, home, queue, monkeypatch):
    monkeypatch.chdir(home.path)
    monkeypatch.setattr(transaction, "FLOOR_BYTES", 0)
    handler, seen = SmtpService(None, home, queue), []
    handler._shares = Shares(MessageMemory(400))
    see = lambda heard: seen.append(handler._shares.memory._free)  # noqa: E731
    drive(handler(Script([b"MAIL\r\nRCPT TO:<x>\r\n", end, QUIT], see), {}))
    assert seen == [400, 397, 400]


def test_others_leave_each_transaction_its_floor(home, queue, monkeypatch):
    monkeypatch.chdir(home.path)
    handler = SmtpService(None, home, queue)
    assert handler._shares.memory.reserve(MEMORY_BYTES)
    lines = b"".join(b"RCPT TO:<%d@%b>\r\n" % (number, b"x" * 50) for number in range(1000))
    peer = Script([b"MAIL\r\n" + lines + b"DATA\r\n.\r\n"])
    drive(handler(peer, {}))
    assert policy.TOO_MANY not in peer.heard and queue.queued[0][0].count(b"T") == 1000


CLIENTS = [
    # one environment                               another                                          are the same client
    ({b"TCPREMOTEIP": b"192.0.2.1"},                {b"TCPREMOTEIP": b"192.0.2.1"},                  True),
    ({b"TCPREMOTEIP": b"192.0.2.1"},                {b"TCPREMOTEIP": b"192.0.2.2"},                  False),
    ({b"TCPREMOTEIP": b"2001:db8::1"},              {b"TCPREMOTEIP": b"2001:db8::ffff:0:0:2"},       True),
    ({b"TCPREMOTEIP": b"2001:db8::1"},              {b"TCPREMOTEIP": b"2001:db8:0:1::1"},            False),
    ({b"TCPREMOTEIP": b"fe80::1%eth0"},             {b"TCPREMOTEIP": b"fe80::2"},                    True),
    ({b"TCPREMOTEIP": b"what:a rule set"},          {b"TCPREMOTEIP": b"what:a rule set"},            True),
    ({b"UNIXREMOTEEUID": b"1000"},                  {b"UNIXREMOTEEUID": b"1000"},                    True),
    ({b"UNIXREMOTEEUID": b"1000"},                  {b"UNIXREMOTEEUID": b"1001"},                    False),
    ({b"UNIXREMOTEEUID": b"1000"},                  {b"TCPREMOTEIP": b"1000"},                       False),
    ({},                                            {},                                              True),
]  # fmt: skip


@pytest.mark.parametrize("one, other, are_same", CLIENTS)
def test_who_counts_as_one_client(one, other, are_same):
    assert (client_of(one) == client_of(other)) is are_same


def test_a_client_has_a_share_of_what_all_have(monkeypatch):
    monkeypatch.setattr(transaction, "FLOOR_BYTES", 100)
    monkeypatch.setattr(transaction, "ADDRESS_BYTES", 200)
    common = Shares(MessageMemory(1000))
    first, second, other = (Share(common, client) for client in (b"a", b"a", b"b"))
    assert first.take(250) and second.take(150)
    assert not second.take(1) and not first.take(1) and other.take(250)
    first.clear()
    assert second.take(1)
    for share in (second, other):
        share.clear()
    assert common.memory.reserve(1000) and not common.of_address


def test_messages_go_to_their_files_before_recipients_are_refused(monkeypatch):
    monkeypatch.setattr(transaction, "FLOOR_BYTES", 0)
    common = Shares(MessageMemory(1000))
    spools = [MessageBuffer(memory=common.memory) for _ in range(3)]
    for size, spool in zip((300, 500, 200), spools, strict=True):
        spool.write(b"x" * size)
    share = Share(common, b"a")
    assert share.take(400) and any(not spool.in_memory for spool in spools)
    for size, spool in zip((300, 500, 200), spools, strict=True):
        spool.write(b"y")
        assert read(spool) == b"x" * size + b"y" and not spool.failed
        spool.close()
    assert share.take(600) and not share.take(1)


def test_recipients_are_refused_rather_than_messages_lost(monkeypatch, tmp_path):
    monkeypatch.setattr(transaction, "FLOOR_BYTES", 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    common = Shares(MessageMemory(1000))
    spool = MessageBuffer(memory=common.memory)
    spool.write(b"x" * 1000)
    assert not Share(common, b"a").take(1)
    assert spool.in_memory and spool.content() == b"x" * 1000 and not spool.failed


class NoSpace:
    """A SpoolSpace of so many bytes."""

    def __init__(self, size):
        self.left = size

    def reserve(self, size, fd):
        if size > self.left:
            return False
        self.left -= size
        return True

    def release(self, size):
        self.left += size


def test_a_message_for_which_there_is_no_space_gets_452(home, queue, monkeypatch):
    """It is read to its end, and nothing of it is kept; the next one finds what there was."""
    monkeypatch.chdir(home.path)
    handler = SmtpService(None, home, queue)
    handler._space = NoSpace(2_500_000)
    line = b"x" * 998 + b"\r\n"
    sizes = (3000, 2000, 3000, 2400, 1)
    peer = Script(cut(b"".join(SEND + line * size + b".\r\n" for size in sizes) + QUIT, lambda: 65536))
    assert drive(handler(peer, {})) == 0
    codes = [line[:3] for line in peer.heard.split(b"\r\n") if line.startswith((b"250 ok ", b"452"))]
    assert codes == [b"452", b"250", b"452", b"250", b"250"]
    assert b"452 sorry, I have no room for your message now (#4.3.1)\r\n" in peer.heard
    assert [len(message) for _, message in queue.queued] == [2_000_000 - 2000, 2_400_000 - 2400, 999]
    assert handler._space.left == 2_500_000


def test_a_small_message_needs_no_space(home, queue, monkeypatch):
    monkeypatch.chdir(home.path)
    handler = SmtpService(None, home, queue)
    handler._space = NoSpace(0)
    assert handler._shares.memory.reserve(MEMORY_BYTES)
    peer = Script([SEND + (b"x" * 998 + b"\r\n") * 50 + b".\r\n" + SEND + (b"x" * 998 + b"\r\n") * 70 + b".\r\n"])
    drive(handler(peer, {}))
    assert len(queue.queued) == 1 and peer.heard.endswith(b"(#4.3.1)\r\n")


@pytest.mark.parametrize("mail, pauses", [(b"", session.PAUSE_SECONDS), (SEND, 0), (SEND + b".\r\n", 0)])
def test_whoever_only_keeps_us_busy_is_read_from_now_and_then(mail, pauses, home, receive):
    """Until a message is accepted."""
    set_controls(home, NO_LIMITS)
    peer, seen = Script([b"NOOP\r\n" * session.FRUITLESS_COMMANDS, mail or b"NOOP\r\n", QUIT]), []
    peer._before_read = lambda heard: seen.append(peer.pause_seconds)
    receive(peer)
    assert seen[:3] == [0, session.PAUSE_SECONDS, pauses]


def test_the_pause_grows():
    assert [session.pause_after(1000 * count) for count in (0, 1, 2, 10, 1000)] == [0, 0.1, 0.2, 1, 1]


def test_a_changed_control_file_is_seen_by_the_next_client(home, receive):
    def greeting():
        peer = Script([b"MAIL\r\nRCPT TO:<a@b>\r\n"])
        receive(peer)
        return peer.heard.split(b"\r\n")[0], peer.heard.split(b"\r\n")[2][:3]

    assert greeting() == (b"220 here.example ESMTP", b"250")
    for turn in range(30):
        set_controls(home, {"smtpgreeting": b"turn%d" % (turn % 10), "rcpthosts": (b"b", b"c")[turn % 2]})
        assert greeting() == (b"220 turn%d ESMTP" % (turn % 10), (b"250", b"553")[turn % 2])


def test_control_files_are_read_only_when_they_changed(home, queue, monkeypatch):
    monkeypatch.chdir(home.path)
    old = 1_000_000_000
    os.utime(f"{home.control}/me", (old, old))
    handler, times = SmtpService(BlockingDriver(), home, queue), []
    real = session.read_policy
    monkeypatch.setattr(session, "read_policy", lambda *values: times.append(1) or real(*values))
    monkeypatch.setattr(session.Controls, "is_settled", lambda self, stamp: True)  # the clock is not ours to wait for
    for _ in range(5):
        drive(handler(Script([QUIT]), {}))
    assert len(times) == 1


def test_unreadable_controls_are_told_until_they_can_be_read(home, queue, receive, capfd):
    os.mkdir(f"{home.control}/badmailfrom")
    for _ in range(2):
        peer = Script([QUIT])
        assert (receive(peer), peer.heard) == (1, b"421 unable to read controls (#4.3.0)\r\n")
        # the client is told no more than that, the log is told which
        wanted = f"qmail-smtpd: warning: unable to read {home.control}/badmailfrom: is a directory\n"
        assert capfd.readouterr().err == wanted
    os.rmdir(f"{home.control}/badmailfrom")
    assert receive(Script([QUIT])) == 0


def test_a_home_that_is_not_there_yet(home, queue, monkeypatch):
    monkeypatch.chdir("/")
    os.rename(home.path, home.path + ".away")
    handler = SmtpService(BlockingDriver(), home, queue)
    peer = Script([QUIT])
    assert (drive(handler(peer, {})), peer.heard) == (1, b"421 unable to read controls (#4.3.0)\r\n")
    os.rename(home.path + ".away", home.path)
    assert drive(handler(Script([QUIT]), {})) == 0


def test_a_home_without_a_name(home, receive, capfd):
    os.unlink(f"{home.control}/me")
    peer = Script([QUIT])
    assert (receive(peer), peer.heard) == (1, b"421 unable to read controls (#4.3.0)\r\n")
    assert capfd.readouterr().err == "qmail-smtpd: warning: there is neither control/me nor control/smtpgreeting\n"


def test_a_damaged_cdb_ends_the_session(home, receive):
    set_controls(home, {"rcpthosts": b"", "morercpthosts.cdb": b"\xff" * 10})
    peer = Script([b"MAIL\r\nRCPT TO:<a@b>\r\nNOOP\r\n"])
    assert receive(peer) == 1
    assert peer.heard.endswith(b"250 ok\r\n421 unable to read controls (#4.3.0)\r\n")


def test_addresses_that_cannot_be_found_out_end_the_session(receive, monkeypatch):
    def fail():
        raise OSError

    monkeypatch.setattr(session, "own_addresses", fail)
    peer = Script([b"MAIL FROM:<a@[1.2.3.4]>\r\nNOOP\r\n"])
    assert receive(peer) == 1
    assert peer.heard == b"220 here.example ESMTP\r\n421 unable to figure out my IP addresses (#4.3.0)\r\n"


def test_our_own_address_becomes_our_name(home, queue, receive):
    set_controls(home, {"rcpthosts": b"here.example"})
    receive(Script([b"MAIL FROM:<a@[127.0.0.1]>\r\nRCPT TO:<b@[127.0.0.1]>\r\nDATA\r\n.\r\n"]))
    assert queue.queued[0][0] == b"Fa@here.example\0Tb@here.example\0\0"


def over(kind, handler_of, ours, environ):
    if kind == "blocking":
        driver = BlockingDriver()
        return drive(handler_of(driver)(driver.peer(ours.fileno(), ours.fileno()), environ))
    loop = Loop()
    driver = EventDriver(loop)
    peer = driver.peer(ours.fileno(), ours.fileno())
    task = loop.start(handler_of(driver)(peer, environ))
    while not task.promise.done:
        loop.turn(10)
    peer.close()
    loop.abandon()
    return task.promise.value


@pytest.mark.parametrize("kind", ["blocking", "event"])
def test_both_drivers(kind, home, queue, monkeypatch, transcript):
    monkeypatch.chdir(home.path)
    told = transcript("smtp-pipelined.txt")
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    heard = []

    def client():
        theirs.sendall(told.client())
        theirs.shutdown(socket.SHUT_WR)
        while data := theirs.recv(65536):
            heard.append(data)
            if b"221 here" in data:  # 221 alone may be the end of a time
                break

    thread = threading.Thread(target=client)
    thread.start()
    code = over(kind, lambda driver: SmtpService(driver, home, queue), ours, {})
    thread.join()
    for sock in (ours, theirs):
        sock.close()
    assert code == 0 and transcript.matches(b"".join(heard), told.server()) and queue.queued == told.queued


def test_fifty_megabytes_stay_out_of_memory(receive, queue, monkeypatch):
    import resource

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def take(message, envelope, environ):
        queue.queued.append((envelope, message.size, message.in_memory))
        return QueueOutcome(0, 7)

    monkeypatch.setattr(queue, "queue", take)
    piece = (b"." + b"x" * 70 + b"\r\n") * 900
    count = 50_000_000 // len(piece)
    before = peak()
    receive(Script([SEND, b"\r\n", *(piece for _ in range(count)), b"\r\n.\r\n"]))
    assert peak() - before < 16_000
    envelope, size, in_memory = queue.queued[0]
    assert not in_memory and 0 < size - count * 900 * 71 < 200
