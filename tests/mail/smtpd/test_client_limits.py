"""Limits of clients: a model of the counters beside them, in any pieces; delays, times, files, variables, the log.

Whole conversations: tests/transcripts/smtp-limits-*, which test_session.py plays.  Floods against the real server:
tests/interop/test_client_limits.py.
"""

import os
import pathlib
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyqmail.mail.queue.client import QueueOutcome
from pyqmail.mail.smtpd import client_limits, session
from pyqmail.mail.smtpd.client_limits import (
    MAX_DELAY_SECONDS,
    MAX_LINES,
    NO_MESSAGE,
    NUMBERS,
    TOO_MANY_ERRORS,
    ClientLimits,
    Conduct,
    read_client_limits,
    shown,
)
from pyqmail.mail.smtpd.policy import TOO_MANY
from pyqmail.mail.smtpd.session import LIMITS_SECONDS, MAX_COMPLAINTS, SmtpService
from pyqmail.protocol.smtp.server import OK, RCPT, TIMEOUT, UNIMPLEMENTED
from pyqmail.system.controls import Controls
from pyqmail.system.coroutines import Promise, TimedOut
from pyqmail.system.driver import BlockingDriver, EventDriver, drive
from pyqmail.system.loop import Loop
from pyqmail.system.peer import QUANTUM_BYTES, WrappedPeer
from tests.waiting import turn_until

GOOD = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\n"
GREETING = b"220 here.example ESMTP\r\n"


class Queue:
    """Takes each message but those whose sender says how it fails."""

    CODES = {b"Frefuse": 31, b"Ffull": 53}

    async def queue(self, message, envelope, environ):
        return QueueOutcome(self.CODES.get(envelope.partition(b"\0")[0], 0), 7)


class Clock:
    """The time, which a test sets."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Unhurried(BlockingDriver):
    """Notes (how much the client has heard, for how long it waits)."""

    def __init__(self):
        self.slept, self.peer = [], None

    async def sleep(self, seconds):
        self.slept.append((len(self.peer.heard), seconds))


class Script:
    """A peer that says pieces, then goes; what is a number lets so many seconds pass, as far as it is waited for."""

    client_meter = None

    def __init__(self, pieces, clock=None):
        self.timeout_seconds, self.pause_seconds, self.flush_seconds = 0, 0, 0
        self.heard, self._pending, self._clock = b"", b"", clock
        self._pieces, self.asked = iter(pieces), []

    def put(self, data):
        self._pending += data

    async def flush(self):
        self.heard, self._pending = self.heard + self._pending, b""

    async def read(self):
        left = self.timeout_seconds
        self.asked.append(left)
        while True:
            piece = next(self._pieces, b"")
            if isinstance(piece, bytes):
                return piece
            self._clock.now += min(piece, left)
            left -= piece
            if left <= 0:
                raise TimedOut


def set_controls(home, **controls):
    for name, content in controls.items():
        (pathlib.Path(home.control) / name).write_bytes(content)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def receive(home, clock, monkeypatch):
    """receive(pieces, environ={}) -> the Script, with `slept` and `code`, by one SmtpService."""
    monkeypatch.chdir(home.path)
    driver = Unhurried()
    handler = SmtpService(driver, home, Queue(), clock)

    def run(pieces, environ=None):
        peer = driver.peer = Script(pieces, clock)
        driver.slept = peer.slept = []
        peer.code = drive(handler(peer, environ or {}))
        return peer

    return run


# the model: what each line leads to, told from the manual's table

LINES = {
    # a line                     reply when it is not too late
    b"NOOP\r\n":                 b"250 ok\r\n",
    b"RSET\r\n":                 b"250 flushed\r\n",
    b"HELO x\r\n":               b"250 here.example\r\n",
    b"XXXX\r\n":                 b"502 unimplemented (#5.5.1)\r\n",
    b"MAIL FROM:<a@b>\r\n":      b"250 ok\r\n",
    b"MAIL FROM:<refuse>\r\n":   b"250 ok\r\n",
    b"MAIL FROM:<full>\r\n":     b"250 ok\r\n",
    b"RCPT TO:<c@d>\r\n":        None,
    b"RCPT TO:<c@no>\r\n":       None,
    b"DATA\r\n":                 None,
}  # fmt: skip
NOT_OURS = b"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)\r\n"
MAIL_FIRST, RCPT_FIRST = b"503 MAIL first (#5.5.1)\r\n", b"503 RCPT first (#5.5.1)\r\n"
FULL = b"452 qq write error or disk full (#4.3.0)\r\n"
REFUSED = b"554 mail server permanently rejected message (#5.3.0)\r\n"


class Model:
    """A session as the manual has it, a line at a time; `said` holds (reply, seconds that it waits)."""

    def __init__(self, limits):
        self.limits, self.said, self.ended = limits, [(GREETING, 0)], False
        self.errors = self.junk = 0
        self.sender, self.added, self.asked, self.tarpit = None, 0, 0, 0

    def hear(self, line):
        if self.ended:
            return
        reply, wait = LINES[line], 0
        is_junk = line[:4] in (b"NOOP", b"RSET", b"HELO") or (line[:4] == b"MAIL" and self.sender is not None)
        is_error = False
        if line[:4] == b"RCPT":
            reply, wait = self.recipient(line)
            is_error = reply not in (OK, TOO_MANY)
        elif line == b"DATA\r\n":
            if self.sender is not None and self.added:
                self.say(b"354 go ahead\r\n", 0)
                self.message()
                return
            reply, is_error = (RCPT_FIRST if self.sender is not None else MAIL_FIRST), True
        elif line[:4] == b"XXXX":
            is_error = True
        elif line[:4] == b"MAIL":
            self.sender, self.added, self.asked, self.tarpit = line, 0, 0, 0
        elif line[:4] in (b"RSET", b"HELO"):
            self.sender = None
        if is_junk:
            self.junk += 1
            is_error = 0 < self.limits["junklimit"] < self.junk
        self.errors += is_error
        self.say(reply, wait)

    def recipient(self, line):
        wait = 0
        self.asked += self.sender is not None
        if self.sender is not None and 0 < self.limits["tarpitcount"] < self.asked:
            wait = min(self.limits["tarpitdelay"], 60 - self.tarpit)
            self.tarpit += wait
        if self.sender is None:
            return MAIL_FIRST, wait
        if line.endswith(b"@no>\r\n"):
            return NOT_OURS, wait
        if self.added == self.limits["maxrcpt"] > 0:
            return TOO_MANY, wait
        self.added += 1
        return OK, wait

    def message(self):
        sender, self.sender = self.sender, None
        if b"full" in sender:
            self.say(FULL, 0)
        elif b"refuse" in sender:
            self.errors += 1
            self.say(REFUSED, 0)
        else:
            self.errors = self.junk = 0
            self.say(b"250 ok TIME qp 7\r\n", 0)

    def say(self, reply, wait):
        if 0 < self.limits["softerrorlimit"] <= self.errors:
            wait += self.limits["errordelay"]
        self.said.append((reply, wait))
        if 0 < self.limits["errorlimit"] <= self.errors:
            self.said.append((TOO_MANY_ERRORS, 0))
            self.ended = True


def told(heard):
    """Return a conversation with TIME for the time of an accepted message."""
    replies = heard.split(b"\r\n")
    return b"\r\n".join(b"250 ok TIME qp 7" if reply.endswith(b" qp 7") else reply for reply in replies)


def the_model_says(lines, limits):
    """Return (all that is said, [(replies before and with the one that waits, seconds)])."""
    model = Model(limits)
    for line in lines:
        model.hear(line)
    waits = [(count, seconds) for count, (_, seconds) in enumerate(model.said, 1) if seconds]
    return b"".join(reply for reply, _ in model.said), waits


def ours(home, lines, limits, sizes):
    """Return the same of the real session, fed in pieces of these sizes, again and again."""
    sent = b"".join(lines)
    pieces, at, turn = [], 0, 0
    while at < len(sent):
        pieces.append(sent[at : at + sizes[turn % len(sizes)]])
        at, turn = at + len(pieces[-1]), turn + 1
    driver = Unhurried()
    handler = SmtpService(driver, home, Queue(), Clock())
    peer = driver.peer = Script(pieces)
    waits = []

    async def sleep(seconds):
        waits.append([seconds, peer.heard])

    driver.sleep = sleep
    drive(handler(peer, {}))
    return told(peer.heard), waits


def as_sent(lines, limits):
    """Return the lines a client of the model would send: content behind each DATA that is accepted."""
    model, sent = Model(limits), []
    for line in lines:
        sent.append(line)
        is_taken = line == b"DATA\r\n" and model.sender is not None and model.added and not model.ended
        model.hear(line)
        if is_taken:
            sent.append(b"x\r\n.\r\n")
    return sent


@pytest.fixture
def model_home(home, monkeypatch):
    monkeypatch.chdir(home.path)
    set_controls(home, rcpthosts=b"d\n")
    return home


LIMITS = st.fixed_dictionaries(
    {
        "softerrorlimit": st.integers(0, 4),
        "errordelay": st.integers(0, 3),
        "errorlimit": st.integers(0, 6),
        "junklimit": st.integers(0, 4),
        "maxrcpt": st.integers(0, 3),
        "tarpitcount": st.integers(0, 3),
        "tarpitdelay": st.sampled_from([0, 1, 25]),
    }
)
WORDS = st.lists(st.sampled_from(sorted(LINES)), max_size=30)


def compare_with_model(home, lines, limits, sizes):
    for name, value in limits.items():
        (pathlib.Path(home.control) / name).write_bytes(b"%d\n" % value)
    said, waits = ours(home, as_sent(lines, limits), limits, sizes)
    wanted, wanted_waits = the_model_says(lines, limits)
    assert said == wanted
    assert [seconds for seconds, _ in waits] == [seconds for _, seconds in wanted_waits]
    for (_, heard), (count, _) in zip(waits, wanted_waits, strict=True):
        assert heard.count(b"\r\n") == count - 1  # all before the one that waits have been heard


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORDS, LIMITS, st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_a_session_does_what_the_model_does_in_any_pieces(model_home, lines, limits, sizes):
    compare_with_model(model_home, lines, limits, sizes)


SHORT = [b"XXXX\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", b"XXXX\r\n", b"NOOP\r\n", b"NOOP\r\n"]
TIGHT = {"softerrorlimit": 1, "errordelay": 1, "errorlimit": 2, "junklimit": 1, "maxrcpt": 1, "tarpitcount": 0,
         "tarpitdelay": 0}  # fmt: skip


def test_every_place_to_split_gives_the_same(model_home):
    """Each cut in two, and each in three with a byte in the middle."""
    whole = len(b"".join(as_sent(SHORT, TIGHT)))
    for at in range(1, whole):
        compare_with_model(model_home, SHORT, TIGHT, [at, whole])
        compare_with_model(model_home, SHORT, TIGHT, [at, 1, whole])


# delays


def test_a_reply_waits_and_what_follows_is_not_read(receive, home):
    set_controls(home, softerrorlimit=b"2", errordelay=b"3", errorlimit=b"0")
    peer = receive([b"NOOP\r\nXXXX\r\nXXXX\r\nNOOP\r\n", b"NOOP\r\nQUIT\r\n"])
    assert [seconds for _, seconds in peer.slept] == [3, 3, 3, 3]
    heard = [peer.heard[:size].count(b"\r\n") for size, _ in peer.slept]
    assert heard == [3, 4, 5, 6] and peer.heard.endswith(b"221 here.example\r\n") and peer.code == 0


def test_an_accepted_message_ends_the_delays(receive, home):
    set_controls(home, softerrorlimit=b"1", errorlimit=b"3")
    peer = receive([b"XXXX\r\nXXXX\r\n", GOOD, b"NOOP\r\nXXXX\r\nXXXX\r\nNOOP\r\nQUIT\r\n"])
    # two errors; MAIL, RCPT and DATA of the good message; then two errors, and NOOP and QUIT after them
    assert len(peer.slept) == 2 + 3 + 4 and peer.code == 0


def test_a_refused_message_is_an_error(receive, home):
    set_controls(home, softerrorlimit=b"0", errorlimit=b"2")
    peer = receive([GOOD.replace(b"a@b", b"refuse") * 3])
    assert peer.heard.count(b"554 ") == 2 and peer.heard.endswith(TOO_MANY_ERRORS) and peer.code == 1


def test_what_is_lacking_here_is_no_error_of_the_client(receive, home):
    """A full disk neither slows a good client down nor turns it away; nor does it forget what the client did before."""
    set_controls(home, softerrorlimit=b"2", errorlimit=b"2")
    peer = receive([b"XXXX\r\n" + GOOD.replace(b"a@b", b"full") * 30 + b"XXXX\r\n"])
    assert peer.heard.count(FULL) == 30 and len(peer.slept) == 1 and peer.heard.endswith(TOO_MANY_ERRORS)


def test_the_tarpit_holds_a_minute_of_a_message_at_most(receive, home):
    set_controls(home, tarpitcount=b"2", tarpitdelay=b"25")
    mail = b"MAIL FROM:<a@b>\r\n" + b"RCPT TO:<c@d>\r\n" * 8
    peer = receive([mail, mail])
    assert [seconds for _, seconds in peer.slept] == [25, 25, 10] * 2


def test_no_reply_waits_so_long_that_a_client_gives_up(receive, home):
    set_controls(home, softerrorlimit=b"1", errordelay=b"2147483648")
    assert receive([b"XXXX\r\n"]).slept == [(len(GREETING), MAX_DELAY_SECONDS)]


def test_a_thousand_recipients_too_many_are_no_errors(receive, home):
    set_controls(home, maxrcpt=b"1", errorlimit=b"1", softerrorlimit=b"1")
    mail = b"MAIL FROM:<a@b>\r\n" + b"RCPT TO:<c@d>\r\n" * 1001
    peer = receive([mail + mail + b"NOOP\r\n"])
    assert peer.slept == [] and peer.heard.endswith(TOO_MANY + OK * 2 + TOO_MANY * 1000 + OK)
    peer = receive([mail + b"RCPT TO:<c@d>\r\n" * 2 + b"NOOP\r\n"])
    assert peer.heard.count(TOO_MANY) == 1001 and peer.heard.endswith(TOO_MANY + TOO_MANY_ERRORS)


def test_a_client_that_sends_ahead_during_a_delay_is_not_read(home, monkeypatch):
    """A worker does not wait: its loop turns on, and what the client sends stays in the kernel."""
    monkeypatch.chdir(home.path)
    set_controls(home, softerrorlimit=b"1", errorlimit=b"0")
    loop, waits = Loop(), []

    class Driver(EventDriver):
        async def sleep(self, seconds):
            waits.append(Promise())
            await waits[-1]

    reader, client = socket.socketpair()
    client.setblocking(False)

    class Counted(WrappedPeer):
        async def read(self):
            reads.append(await super().read())
            return reads[-1]

    driver = Driver(loop)
    peer, reads = Counted(driver.peer(reader.fileno(), reader.fileno())), []
    task = loop.start(SmtpService(driver, home, Queue())(peer, {}))
    client.send(b"XXXX\r\n" * 1000)
    turn_until(loop, lambda: waits)
    for _ in range(100):
        loop.turn(0)
    assert len(reads) == 1 and len(reads[0]) == QUANTUM_BYTES and len(waits) == 1
    assert client.recv(1000) == GREETING
    waits[0].keep()
    turn_until(loop, lambda: len(waits) == 2)
    assert client.recv(1000) == UNIMPLEMENTED and len(reads) == 1
    task.cancel()
    loop.abandon()
    reader.close()
    client.close()


def test_a_client_that_reads_no_replies_is_left(home, monkeypatch):
    """Even if no number of commands is too many: what it does not take has a time, and is little."""
    monkeypatch.chdir(home.path)
    set_controls(home, errorlimit=b"0", junklimit=b"0", timeoutsmtpd=b"1")
    loop = Loop()
    driver = EventDriver(loop)
    reader, client = socket.socketpair()
    client.setblocking(False)
    peer = driver.peer(reader.fileno(), reader.fileno())
    put, sizes = peer._pieces, []
    task = loop.start(SmtpService(driver, home, Queue())(peer, {}))

    def is_over():
        sizes.append(sum(map(len, put)))
        try:
            client.send(b"EHLO\r\n" * 1000)
        except BlockingIOError:
            pass
        return task.promise.done

    turn_until(loop, is_over)
    assert task.promise.value == 1 and max(sizes) < 32768
    loop.abandon()
    reader.close()
    client.close()


# time


def test_a_session_has_an_hour_for_each_message(receive, home, clock):
    """What it says in between does not count, and an accepted message gives it the hour again."""
    peer = receive([1000, *[b"NOOP\r\n", 1000] * 2, GOOD, 1000, *[b"NOOP\r\n", 1000] * 3])
    assert peer.heard.endswith(b" qp 7\r\n" + OK * 3 + NO_MESSAGE) and peer.code == 1
    assert clock.now == 1000 + 3000 + 3600


def test_a_session_that_never_waits_ends_too(receive, home, clock):
    set_controls(home, sessionidle=b"5", junklimit=b"0")
    pieces = (piece for _ in range(100) for piece in (1, b"NOOP\r\n"))
    assert receive(pieces).heard == GREETING + OK * 4 + NO_MESSAGE


def test_a_message_that_comes_fast_enough_is_not_cut_off(receive, home, clock):
    set_controls(home, sessionidle=b"100", timeoutsmtpd=b"50")
    slow = [piece for _ in range(20) for piece in (20, (b"x" * 998 + b"\r\n") * 10)]
    peer = receive([GOOD[:-6], *slow, b".\r\n", b"QUIT\r\n"])
    assert peer.code == 0 and b" qp 7\r\n" in peer.heard and clock.now == 1000 + 400
    set_controls(home, mindatarate=b"0")
    clock.now += LIMITS_SECONDS
    peer = receive([GOOD[:-6], *slow, b".\r\n", b"QUIT\r\n"])
    assert peer.heard.endswith(b"354 go ahead\r\n" + NO_MESSAGE)


RATES = [
    # control/mindatarate, pieces after DATA                                        how it ends
    (b"500",   [piece for _ in range(9) for piece in (10, b"x" * 5000)],            b" qp 7\r\n"),
    (b"500",   [piece for _ in range(9) for piece in (10, b"x" * 100)],             TIMEOUT),
    (b"0",     [piece for _ in range(99) for piece in (10, b"x")],                  b" qp 7\r\n"),
    (b"500",   [31],                                                                TIMEOUT),
    (b"0",     [31],                                                                TIMEOUT),
    # bytes that came early do not count for later: never more than the timeout from now
    (b"500",   [b"x" * 100_000, 31],                                                TIMEOUT),
    (b"500",   [b"x" * 100_000, 29],                                                b" qp 7\r\n"),
]  # fmt: skip


@pytest.mark.parametrize("rate, pieces, ending", RATES)
def test_a_message_has_to_come_with_a_least_rate(rate, pieces, ending, receive, home):
    set_controls(home, mindatarate=rate, timeoutsmtpd=b"30", sessionidle=b"0")
    assert receive([GOOD[:-6], *pieces, b"\r\n.\r\n"]).heard.endswith(ending)


def test_a_command_has_the_timeout_as_a_whole(receive, home):
    set_controls(home, timeoutsmtpd=b"30")
    letters = [piece for letter in b"NOOP\r\n" * 3 for piece in (4, bytes([letter]))]
    assert receive(letters).heard == GREETING + OK * 3  # 24 seconds each
    letters = [piece for letter in b"NOOP xx\r\n" for piece in (4, bytes([letter]))]
    assert receive(letters).heard == GREETING + TIMEOUT
    set_controls(home, mindatarate=b"0")


def test_the_timeout_of_each_read_without_a_rate(receive, home):
    set_controls(home, timeoutsmtpd=b"30", mindatarate=b"0", sessionidle=b"0")
    letters = [piece for letter in b"NOOP xx\r\n" for piece in (29, bytes([letter]))]
    peer = receive([*letters, b"QUIT\r\n"])
    assert peer.code == 0 and set(peer.asked) == {30} and peer.flush_seconds is None


def test_replies_have_the_timeout_as_a_whole(receive, home):
    set_controls(home, timeoutsmtpd=b"30")
    peer = receive([b"QUIT\r\n"])
    assert (peer.timeout_seconds, peer.flush_seconds) == (30, 30)


# files and variables

ODD = [
    # what the file says      what counts of errorlimit      what is said
    (b"7\n",                  7,     None),
    (b"0\n",                  0,     None),
    (b"007 \t\n",             7,     None),
    (b"2147483648",           1 << 31, None),
    (b"2147483649\n",         20,    "2147483649"),
    (b"-1\n",                 20,    "-1"),
    (b"7x\n",                 20,    "7x"),
    (b"\n",                   20,    ""),
    (b"\x1b[2J\n",            20,    "?[2J"),
]  # fmt: skip


@pytest.mark.parametrize("text, number, said", ODD)
def test_what_is_no_number_is_the_default_and_reported_once(text, number, said, home):
    lines = []
    controls = Controls(home.control, client_limits.CONTROLS, complain=lines.append)
    set_controls(home, errorlimit=text)
    for _ in range(3):
        assert read_client_limits(controls).errorlimit == number
    wanted = f"control/errorlimit: {said} is no number up to 2147483648, so the default counts"
    assert lines == ([] if said is None else [wanted])


def test_the_defaults(home):
    """Those of the manual's table."""
    limits = read_client_limits(Controls(home.control, client_limits.CONTROLS))
    assert {name: getattr(limits, name) for name in NUMBERS} == {
        "softerrorlimit": 10, "errordelay": 1, "errorlimit": 20, "junklimit": 100, "maxrcpt": 1000, "tarpitcount": 0,
        "tarpitdelay": 5, "earlytalkers": 1, "sessionidle": 3600, "mindatarate": 500, "brtlimit": 0,
    }  # fmt: skip


@pytest.mark.parametrize("entry, is_odd", [
    (b"^local.*", True), (b"!@example.org", True), (b"x[0-9]@b", True), (b"*@b", True), (b"[1.2.3.4]", False),
    (b"a@[1.2.3.4]", False), (b"a+b@c", False), (b".example.org", False),
])  # fmt: skip
@pytest.mark.parametrize("name", client_limits.LISTS)
def test_a_pattern_in_a_list_is_reported(name, entry, is_odd, home):
    lines = []
    set_controls(home, **{name: b"a.b\n" + entry + b"\n"})
    read_client_limits(Controls(home.control, client_limits.CONTROLS, complain=lines.append))
    assert lines == [f"control/{name}: {entry.decode()} is read as it stands: there are no patterns"] * is_odd


def test_an_address_literal_and_a_long_name_in_badhelo():
    limits = ClientLimits(badhelo=[b"[1.2.3.4]", b".bad"])
    assert limits.is_bad_helo(b"[1.2.3.4]") and limits.is_bad_helo(b"x." * 30000 + b"bad")
    assert not limits.is_bad_helo(b"[1.2.3.5]") and not limits.is_bad_helo(b"bad") and not limits.is_bad_helo(None)


@pytest.mark.parametrize("name", NUMBERS)
def test_each_limit_is_a_variable(name):
    ours, lines = ClientLimits(**{name: 3}), []
    given = ours.for_client({name.upper().encode(): b"0"}, lines.append)
    assert (getattr(ours, name), getattr(given, name)) == (3, 0) and lines == []
    given = ours.for_client({name.upper().encode(): b"2147483649"}, lines.append)
    assert getattr(given, name) == 3
    assert lines == [f"{name.upper()}=2147483649 is no number up to 2147483648, so control/{name} counts"]


def test_an_empty_variable_empties_a_list():
    ours = ClientLimits(badhelo=[b"x"], badrcptto=[b"a@b"])
    assert not ours.for_client({b"BADHELO": b""}, None).is_bad_helo(b"x")
    assert ours.for_client({b"BADHELO": b""}, None).is_bad_recipient(b"A@B")
    assert ours.for_client({b"PATH": b"/bin"}, None) is ours


def test_a_client_that_does_not_hold_its_variables_cannot_fill_the_log(receive, capfd):
    for number in range(3 * MAX_COMPLAINTS):
        for _ in range(2):
            receive([b"QUIT\r\n"], {b"ERRORLIMIT": b"x%d" % number})
    assert len(capfd.readouterr().err.splitlines()) == MAX_COMPLAINTS


@pytest.mark.parametrize("early, relay, limit, is_refused", [
    (b"1", None, b"1", True), (b"1", None, b"0", False), (b"1", b"", b"1", False), (b"0", None, b"1", False),
    (None, None, b"1", False),
])  # fmt: skip
def test_who_counts_as_an_early_talker(early, relay, limit, is_refused, receive, home):
    set_controls(home, earlytalkers=limit)
    variables = {b"EARLYTALKER": early, b"RELAYCLIENT": relay}
    peer = receive([b"QUIT\r\n"], {name: value for name, value in variables.items() if value is not None})
    assert (peer.heard == b"554 SMTP protocol violation\r\n", peer.code) == (is_refused, int(is_refused))


def test_a_changed_limit_counts_within_ten_seconds(receive, home, clock, monkeypatch):
    monkeypatch.setattr(session.Controls, "is_settled", lambda self, stamps: True)  # the clock is not ours to wait for
    set_controls(home, errordelay=b"0")
    sent = [b"XXXX\r\n" * 25]
    for limit in (1, 7, 2, 20):
        set_controls(home, errorlimit=b"%d" % limit)
        clock.now += LIMITS_SECONDS
        assert receive(sent).heard.count(UNIMPLEMENTED) == limit
    assert LIMITS_SECONDS < 10


def test_limits_are_not_looked_at_for_each_client(receive, home, clock, monkeypatch):
    monkeypatch.setattr(session.Controls, "is_settled", lambda self, stamps: True)
    seen = []
    real = session.Controls.have_changed
    monkeypatch.setattr(
        session.Controls, "have_changed", lambda self, stamps: seen.append("errorlimit" in stamps) or real(self, stamps)
    )
    for _ in range(50):
        receive([b"QUIT\r\n"])
    assert seen == [False] * 49
    clock.now += LIMITS_SECONDS
    receive([b"QUIT\r\n"])
    assert seen.count(True) == 1


def test_a_limit_that_cannot_be_read_is_no_default(receive, home, capfd):
    os.mkdir(f"{home.control}/errorlimit")
    assert receive([b"QUIT\r\n"]).heard == b"421 unable to read controls (#4.3.0)\r\n"
    assert capfd.readouterr().err.startswith("qmail-smtpd: warning: unable to read ")


# the log

CLIENT = {b"TCPREMOTEIP": b"192.0.2.1"}
ENDS = [
    # what is sent, controls, variables                                      the line
    ([b"XXXX \x1b[2J\xff\r\n" * 20], {"errordelay": b"0"}, {},
     r"too many errors, last refused: XXXX \x1b[2J\xff"),
    ([b"GET / HTTP/1.1\r\nHost: x\r\n"], {}, {}, "it speaks HTTP, last refused: GET / HTTP/1.1"),
    ([5000], {"timeoutsmtpd": b"9000"}, {}, "no message for too long"),
    ([b"NOO", 5000], {}, {}, "too slow"),
    ([b"x"], {}, {b"EARLYTALKER": b"1"}, "it spoke before the greeting"),
    ([GOOD], {"badrcptto": b"c@d"}, {}, "badrcptto refuses a recipient: c@d"),
    ([b"HELO h\r\n" + GOOD], {"badhelo": b"h"}, {}, "badhelo refuses it: h"),
    ([b"MAIL\r\n" + b"RCPT TO:<a@b>\r\n" * 9], {"maxrcpt": b"1"}, {}, "too many recipients: a@b"),
    ([b"MAIL\r\n" + b"RCPT TO:<c@d>\r\n" * 3], {"badrcptto": b"c@d", "brtlimit": b"1"}, {},
     "badrcptto refuses a recipient: c@d\nqmail-smtpd: client 192.0.2.1: too many invalid addresses, "
     "last refused: RCPT TO:<c@d>"),
]  # fmt: skip


@pytest.mark.parametrize("sent, controls, variables, line", ENDS)
def test_the_log_says_what_a_client_did_wrong(sent, controls, variables, line, receive, home, capfd):
    set_controls(home, **controls)
    receive(sent, CLIENT | variables)
    assert capfd.readouterr().err == f"qmail-smtpd: client 192.0.2.1: {line}\n"


@pytest.mark.parametrize("sent", [[b"QUIT\r\n"], [GOOD, b"QUIT\r\n"], [b"XXXX\r\n"], [5000]])
def test_nothing_is_logged_of_usual_clients(sent, receive, capfd):
    receive(sent, CLIENT)
    assert capfd.readouterr().err == ""


def test_one_session_cannot_fill_the_log(receive, home, capfd):
    set_controls(home, badrcptto=b"c@d", errordelay=b"0", errorlimit=b"0")
    receive([b"MAIL\r\n" + b"RCPT TO:<c@d>\r\n" * 1000], CLIENT)
    assert len(capfd.readouterr().err.splitlines()) == MAX_LINES


def test_a_long_command_is_cut_in_the_log():
    conduct = Conduct(ClientLimits(), 30)
    conduct.count(RCPT, b"555 syntax error\r\n", b"x" * 60000)
    assert len(conduct.refused) < 200 and shown(conduct.refused).endswith("xxx...")
    assert shown(b"'\n\t\0") == "'\\n\\t\\x00"
