"""A real pysend between fake spawners, the real cleaner, and a queue on disk: log lines and files, byte for byte.

Not here: the real spawners (tests of pystart), and a loss of power.
"""

import os
import re
import select
import signal
import stat
import threading
import time

import pytest

from pyqmail.mail.queue.files import pull_trigger
from pyqmail.protocol.wires import native_dialect, resolve_wire
from pyqmail.protocol.wires.queue_wire import ANSWER, INLINE, Unpacker, answer_body, pack, split_inline
from tests.mail.queue import on_memory
from tests.mail.queue.stores import STORES
from tests.processes import is_stopped, needs_system_calls, wait_ms
from tests.waiting import until

NOW = 0
on_both_stores = pytest.mark.parametrize("rig", STORES, indirect=True)
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Queue:
    """A pyqueued of the test: takes what is queued inline, or says no."""

    def __init__(self, home, exit_code=0):
        import socket

        self.taken, self._exit_code = [], exit_code
        self.gate = threading.Event()  # while it is clear, nothing is answered
        self.gate.set()
        self._news = threading.Condition()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.bind(home.queue_socket)
        self._sock.listen(5)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                peer, _ = self._sock.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer):
        unpacker = Unpacker()
        while data := peer.recv(65536):
            for kind, number, body in unpacker.receive(data):
                assert kind == INLINE
                with self._news:
                    self.taken.append(split_inline(body))
                    self._news.notify_all()
                self.gate.wait(60)
                peer.sendall(pack(ANSWER, number, answer_body(self._exit_code, 4711 if not self._exit_code else 0)))

    def wait(self, count):
        with self._news:
            assert self._news.wait_for(lambda: len(self.taken) >= count, 20)
        return self.taken

    def close(self):
        self._sock.close()


@pytest.fixture
def queue(home):
    one = Queue(home)
    yield one
    one.close()


def lines(rig):
    return [line.decode() for line in rig.log.lines]


# both channels, the words of the log


@on_both_stores
def test_log_of_one_message(rig):
    number = rig.inject(b"s d%@x", [b"ann@here.example", b"bob y@far.example"], b"hello\n")
    rig.start(
        local=rig.stock(lambda recipient: b"Kdid 1+0+0\n"),
        remote=rig.stock(lambda recipient: None),
    )
    rig.remote.ordered(1)
    rig.log.wait_some(b"success")
    assert rig.remote.orders == [(0, b"%d/%d" % (number % 23, number), b"s d%@x", b"bob y@far.example")]
    rig.remote.release(b"K\xe9 accepted\tmessage.\n")
    rig.gone(number)
    assert rig.stop() == 0
    assert lines(rig) == [
        "status: local 0/10 remote 0/20",
        f"new msg {number}",
        f"info msg {number}: bytes 6 from <s_d_@x> qp 77 uid 1000",
        f"starting delivery 1: msg {number} to local ann@here.example",
        "status: local 1/10 remote 0/20",
        f"starting delivery 2: msg {number} to remote bob_y@far.example",
        "status: local 1/10 remote 1/20",
        "delivery 1: success: did_1+0+0/",
        "status: local 0/10 remote 1/20",
        "delivery 2: success: __accepted_message./",
        "status: local 0/10 remote 0/20",
        f"end msg {number}",
        "status: exiting",
    ]


@pytest.mark.parametrize(
    "report, line",
    [
        (b"K", "delivery 1: success: "),
        (b"Zlater\n", "delivery 1: deferral: later/"),
        (b"", "delivery 1: report mangled, will defer"),
        (b"xhm\n", "delivery 1: report mangled, will defer"),
    ],
)
def test_words_of_reports(rig, report, line):
    rig.inject(b"s@x", [b"ann@here.example"])
    rig.start(local=rig.stock(lambda recipient: report))
    rig.log.wait(line.encode())
    assert rig.stop() == 0


@on_both_stores
def test_a_message_without_recipients_ends_at_once(rig):
    number = rig.inject(b"s@x", [])
    rig.start()
    rig.gone(number)
    assert rig.stop() == 0
    assert lines(rig)[1:] == [
        f"new msg {number}",
        f"info msg {number}: bytes 6 from <s@x> qp 77 uid 1000",
        f"end msg {number}",
        "status: exiting",
    ]


def test_recipients_are_rewritten(rig):
    rig.control("virtualdomains", b"virtual.example:virt\n")
    rig.control("percenthack", b"pct\n")
    rig.control("envnoathost", b"noat.example\n")
    number = rig.inject(b"l-@x-@[]", [b"a@virtual.example", b"b%far.example@pct", b"c"])
    rig.start()
    rig.gone(number)
    assert rig.stop() == 0
    assert [order[2:] for order in rig.local.orders] == [(b"l-virt-a=virtual.example@x", b"virt-a@virtual.example")]
    assert sorted(order[2:] for order in rig.remote.orders) == [
        (b"l-b=far.example@x", b"b@far.example"),
        (b"l-c=noat.example@x", b"c@noat.example"),
    ]


def test_trigger_wakes_it(rig):
    rig.start()
    rig.log.wait(b"status: local 0/10 remote 0/20")
    for _ in range(3):
        rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    assert rig.stop() == 0


# slots and limits


def test_lowest_free_slot_and_limits(rig):
    rig.control("concurrencylocal", b"3\n")
    for _ in range(5):
        rig.inject(b"s@x", [b"ann@here.example"])
    rig.start(local=rig.stock(lambda recipient: None, limit=2))
    rig.local.ordered(2)
    assert sorted(order[0] for order in rig.local.orders) == [0, 1]
    rig.log.wait(b"status: local 2/2 remote 0/20")
    for count in (3, 4, 5):
        slot = rig.local.held.pop()
        rig.local.report(slot, b"Kok\n")
        rig.local.ordered(count)
        assert rig.local.orders[-1][0] == slot
    rig.local.release()
    assert rig.stop() == 0


def test_a_limit_that_becomes_another_is_said(rig):
    rig.control("concurrencylocal", b"12x\n")
    rig.control("concurrencyremote", b"50000\n")
    rig.start(
        local=rig.stock(lambda recipient: b"Kok\n", limit=20), remote=rig.stock(lambda recipient: b"Kok\n", limit=120)
    )
    rig.log.wait(b"warning: control/concurrencylocal: 12x is read as 12")
    rig.log.wait(b"warning: concurrencyremote: of 50000 its spawner takes only 120 at once")
    rig.log.wait(b"status: local 0/12 remote 0/120")
    assert rig.stop() == 0


def test_concurrency_zero_holds(rig):
    rig.control("concurrencylocal", b"0\n")
    held = rig.inject(b"s@x", [b"ann@here.example"])
    other = rig.inject(b"s@x", [b"bob@far.example"])
    rig.start()
    rig.gone(other)
    assert rig.stop() == 0
    assert not rig.local.orders and rig.names.state(held) == "S5"


def test_wide_dialect(rig):
    number = rig.inject(b"s@x", [b"ann@here.example"])
    rig.start(
        local=rig.stock(lambda recipient: b"Kok\n", 1000, 2),
        remote=rig.stock(lambda recipient: b"Kok\n", 1000, 2),
        options=["--wide"],
    )
    rig.gone(number)
    assert rig.stop() == 0


@on_both_stores
def test_one_large_message_does_not_hold_up_the_next(rig):
    rig.control("concurrencylocal", b"2\n")
    rig.inject(b"s@x", [b"u%d@here.example" % i for i in range(50)])
    rig.start(local=rig.stock(lambda recipient: None))
    rig.local.ordered(2)
    rig.inject(b"s@x", [b"quick@here.example"])
    rig.log.wait(*[b"info msg %d: bytes 6 from <s@x> qp 77 uid 1000" % _number(line) for line in _new(rig, 2)])
    rig.local.release()
    rig.local.ordered(4)
    assert b"quick@here.example" in [order[3] for order in rig.local.orders[:4]]
    rig.local.answer = lambda recipient: b"Kok\n"
    rig.local.release()
    assert rig.stop() == 0


def _new(rig, count):
    def found():
        return [line for line in rig.log.lines if line.startswith(b"new msg")]

    until(lambda: len(found()) >= count, found)
    return found()


def _number(line):
    return int(line.rpartition(b" ")[2])


@on_both_stores
def test_a_thousand_recipients_over_two_channels(rig):
    recipients = [b"u%d@%b" % (i, (b"here.example", b"far.example")[i % 2]) for i in range(1000)]
    number = rig.inject(b"s@x", recipients)
    rig.start()
    rig.gone(number)
    assert rig.stop() == 0
    assert sorted(order[3] for order in rig.local.orders + rig.remote.orders) == sorted(recipients)


@on_both_stores
def test_a_message_with_more_recipients_than_stay_in_memory(rig):
    recipients = [b"user-with-a-long-name-%d@far.example" % i for i in range(5000)]
    number = rig.inject(b"s@x", recipients)
    rig.control("concurrencyremote", b"100\n")
    rig.start()
    rig.gone(number)
    assert rig.stop() == 0
    assert sorted(order[3] for order in rig.remote.orders) == sorted(recipients)


# deferral, marks, schedule


@on_both_stores
def test_deferral_keeps_files_marks_and_due_time(rig):
    number = rig.inject(b"s@x", [b"a@far.example", b"b@far.example", b"ann@here.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Zlater\n" if recipient.startswith(b"a") else b"Kok\n"))
    rig.log.wait_some(b": deferral: later/")
    before = int(time.time())
    assert rig.stop() == 0
    assert rig.names.state(number) == "S5"
    with open(rig.names.info(number), "rb") as file:
        assert file.read() == b"Fs@x\0"
    with open(rig.names.remote(number), "rb") as file:
        assert file.read() == b"Ta@far.example\0Db@far.example\0"
    assert not os.path.exists(rig.names.local(number))
    birth = os.stat(rig.names.info(number)).st_mtime
    assert birth == int(birth) and before - 20 <= birth <= before
    assert os.stat(rig.names.remote(number)).st_mtime == birth + 400
    assert stat.S_IMODE(os.stat(rig.names.remote(number)).st_mode) == 0o600


def test_takes_over_marks_and_due_times(rig):
    now = int(time.time())
    due = rig.preprocessed(b"s@x", (), (b"Da@far.example", b"Tb@far.example"), age=500, due=now - 5)
    later = rig.preprocessed(b"s@x", (b"Tann@here.example",), (), age=500, due=now + 3000)
    rig.start()
    rig.gone(due)
    assert rig.stop() == 0
    assert [order[3] for order in rig.remote.orders] == [b"b@far.example"] and not rig.local.orders
    assert os.stat(rig.names.local(later)).st_mtime == now + 3000


def test_second_deferral_goes_by_the_age(rig):
    number = rig.preprocessed(b"s@x", (), (b"Tb@far.example",), age=1600)
    rig.start(remote=rig.stock(lambda recipient: b"Zno\n"))
    rig.log.wait(b"delivery 1: deferral: no/", b"status: local 0/10 remote 0/20")
    assert rig.stop() == 0
    birth = os.stat(rig.names.info(number)).st_mtime
    assert os.stat(rig.names.remote(number)).st_mtime in (birth + 3600, birth + 3721)


@on_both_stores
def test_alarm_makes_everything_due(rig):
    now = int(time.time())
    number = rig.preprocessed(b"s@x", (b"Tann@here.example",), (b"Tb@far.example",), age=500, due=now + 3000)
    rig.start()
    rig.gone(rig.inject(b"s@x", [b"first@here.example"]))
    rig.signal(signal.SIGALRM)
    rig.gone(number)
    assert rig.stop() == 0


def test_alarm_while_it_still_reads_the_queue(rig):
    now = int(time.time())
    numbers = [rig.preprocessed(b"s@x", (b"Tann@here.example",), due=now + 3000) for _ in range(300)]
    rig.start()
    rig.log.wait(b"status: local 0/10 remote 0/20")
    rig.signal(signal.SIGALRM)
    for number in numbers:
        rig.gone(number)
    assert rig.stop() == 0


# bounces


@on_both_stores
def test_bounce(rig, queue):
    rig.control("bouncehost", b"bounces.example\n")
    rig.control("virtualdomains", b"v.example:virt\n")
    number = rig.inject(b"send er@x", [b"a@v.example", b"b@far.example", b"c@far.example"], b"Subject: hm\n\n\0\xff\n")
    rig.start(
        local=rig.stock(lambda recipient: b"DNo such user.\n\n"),
        remote=rig.stock(lambda recipient: b"Kok\n" if recipient.startswith(b"c") else b"Dno\nway"),
    )
    rig.gone(number)
    assert rig.stop() == 0
    [(envelope, message)] = queue.taken
    assert envelope == b"F\0Tsend er@x\0\0"
    date, rest = message.split(b"\n", 1)
    assert date.startswith(b"Date: ") and date.endswith(b" -0000")
    paragraphs = [b"<a@v.example>:\nNo such user.\n\n\n", b"<b@far.example>:\nno\nway\n\n"]
    head = (
        b'From: MAILER-DAEMON@bounces.example\nTo: "send er"@x\nSubject: failure notice\n\n'
        b"Hi. This is the qmail-send program at bounces.example.\n"
        b"I'm afraid I wasn't able to deliver your message to the following addresses.\n"
        b"This is a permanent error; I've given up. Sorry it didn't work out.\n\n"
    )
    tail = b'--- Below this line is a copy of the message.\n\nReturn-Path: <"send er"@x>\nSubject: hm\n\n\0\xff\n'
    assert rest in (head + b"".join(paragraphs) + tail, head + b"".join(reversed(paragraphs)) + tail)
    assert lines(rig)[-3:] == [f"bounce msg {number} qp 4711", f"end msg {number}", "status: exiting"]
    assert not os.path.exists(rig.names.bounce(number))


LONG = b"Subject: long\n\n" + b"x" * 60 + b"\n"
CUTS = [
    # control/bouncemaxbytes, the message, what stands of it in the bounce
    (b"50\n", LONG, LONG[:50] + b"\n\n--- End of message stripped.\n"),
    (b"1\n", LONG, b"S\n\n--- End of message stripped.\n"),
    (b"%d\n" % len(LONG), LONG, LONG),
    (b"%d\n" % (len(LONG) - 1), LONG, LONG[:-1] + b"\n\n--- End of message stripped.\n"),
    (b"0\n", b"x" * 400_000, b"x" * 400_000),
    (None, b"x" * 50_000, b"x" * 50_000),
    (None, b"x" * 50_001, b"x" * 50_000 + b"\n\n--- End of message stripped.\n"),
    (b"300000\n", b"x" * 400_000, b"x" * 300_000 + b"\n\n--- End of message stripped.\n"),
]


@pytest.mark.parametrize("sender, mark", [(b"s@x", b"copy of the message"), (b"", b"original bounce")])
@pytest.mark.parametrize("limit, message, copy", CUTS)
def test_a_bounce_has_so_much_of_the_message(rig, queue, sender, mark, limit, message, copy):
    if limit is not None:
        rig.control("bouncemaxbytes", limit)
    number = rig.inject(sender, [b"b@far.example"], message)
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n"))
    rig.gone(number)
    assert rig.stop() == 0
    head, _, rest = queue.taken[0][1].partition(b"--- Below this line is " + (b"a " if sender else b"the ") + mark)
    assert b"<b@far.example>:\nno\n" in head
    assert rest == b".\n\nReturn-Path: <" + sender + b">\n" + copy


def test_a_bounce_about_a_message_that_has_been_removed(rig, queue):
    number = rig.inject(b"s@x", [b"b@far.example"])
    rig.start(remote=rig.stock(lambda recipient: None))
    rig.remote.ordered(1)
    os.unlink(rig.names.mess(number))
    rig.remote.release(b"Dno\n")
    rig.gone(number)
    assert rig.stop() == 0
    end = b"<b@far.example>:\nno\n\n--- The message itself is no longer in the queue.\n"
    assert queue.taken[0][1].endswith(end)


@pytest.mark.parametrize("control, to", [(None, b"postmaster"), (b"bounces\n", b"bounces")])
def test_double_bounce(rig, queue, control, to):
    rig.control("doublebouncehost", b"double.example\n")
    if control is not None:
        rig.control("doublebounceto", control)
    number = rig.inject(b"", [b"b@far.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n"))
    rig.gone(number)
    assert rig.stop() == 0
    [(envelope, message)] = queue.taken
    assert envelope == b"F#@[]\0T%b@double.example\0\0" % to
    assert b"\nTo: %b@double.example\n" % to in message
    assert b"I tried to deliver a bounce message to this address, but the bounce bounced!\n" in message
    assert b"--- Below this line is the original bounce.\n\nReturn-Path: <>\nhello\n" in message


def test_triple_bounce(rig, queue):
    number = rig.inject(b"#@[]", [b"b@far.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n"))
    rig.gone(number)
    assert rig.stop() == 0
    assert not queue.taken
    assert lines(rig)[-3:] == [f"triple bounce: discarding bounce/{number}", f"end msg {number}", "status: exiting"]


def test_bounce_about_verp_goes_to_the_plain_sender(rig, queue):
    number = rig.inject(b"owner-l-@x-@[]", [b"b@far.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n"))
    rig.gone(number)
    assert rig.stop() == 0
    assert queue.taken[0][0] == b"F\0Towner-l-@x\0\0"


@on_both_stores
@pytest.mark.parametrize("control, age", [(None, 700000), (b"3600\n", 4000)])
def test_expiry(rig, queue, control, age):
    if control is not None:
        rig.control("queuelifetime", control)
    number = rig.preprocessed(b"s@x", (), (b"Tb@far.example",), age=age)
    rig.start(remote=rig.stock(lambda recipient: b"Zlater\n"))
    rig.gone(number)
    assert rig.stop() == 0
    assert (
        b"delivery 1: failure: later/I'm_not_going_to_try_again;_this_message_has_been_in_the_queue_too_long./"
        in rig.log.lines
    )
    assert (
        b"<b@far.example>:\nlater\nI'm not going to try again; this message has been in the queue too long.\n\n"
        in queue.taken[0][1]
    )


def test_nobody_queues_the_bounce(rig):
    number = rig.inject(b"s@x", [b"b@far.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n"))
    rig.log.wait(b"warning: unable to start qmail-queue, will try later")
    assert rig.stop() == 0
    assert rig.names.state(number) == "S5"
    with open(rig.names.bounce(number), "rb") as file:
        assert file.read() == b"<b@far.example>:\nno\n\n"


def test_the_queue_says_no_to_the_bounce(rig, home):
    queue = Queue(home, 53)
    number = rig.inject(b"s@x", [b"b@far.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n"))
    rig.log.wait(b"warning: trouble injecting bounce message, will try later")
    assert rig.stop() == 0
    queue.close()
    assert rig.names.state(number) == "S5" and os.path.exists(rig.names.bounce(number))
    os.unlink(home.queue_socket)
    queue = Queue(home)
    rig.start()  # finds it done but for the bounce
    rig.gone(number)
    assert rig.stop() == 0
    queue.close()
    assert len(queue.taken) == 1


def test_why_the_bounce_is_not_queued_is_said(rig):
    number = rig.inject(b"s@x", [b"b@far.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n"))
    rig.log.wait(b"warning: unable to start qmail-queue, will try later")
    rig.log.wait(b"warning: bounce/%d: no pyqueued at run/pyqueued" % number)
    assert rig.stop() == 0


LACKS = [
    "socket:error=EMFILE",
    "socket:error=ENFILE",
    "connect:error=EAGAIN",
    "connect:error=ENOMEM",
]


@pytest.mark.parametrize("fault", LACKS)
def test_nothing_here_to_queue_the_bounce_with(rig, queue, faults, fault, tmp_path):
    """It goes out once the lack is over; pysend lives, and asks nobody else meanwhile."""
    os.mkdir(f"{rig.home.path}/bin")
    (tmp_path / "home/bin/qmail-queue").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "home/bin/qmail-queue").chmod(0o755)
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n"))
    rig.log.wait(b"status: local 0/10 remote 0/20")
    faults.attach(rig.pid, fault)
    number = rig.inject(b"s@x", [b"b@far.example"])
    rig.log.wait_some(b"unable to reach pyqueued at run/pyqueued: ")
    faults.detach()
    rig.signal(signal.SIGALRM)
    rig.gone(number)
    assert rig.stop() == 0
    assert len(queue.taken) == 1 and not (tmp_path / "ran").exists()


PASSING = [
    "openat:error=EMFILE:when=1",
    "openat:error=ENOMEM:when=3..9+3",
    "openat:error=EIO:when=4..12+4",
    "newfstatat,stat,fstat:error=ENOMEM:when=1..9+4",
    "unlink:error=EIO:when=1..2",
    "read:error=EIO:when=1..9+4",
    "read:error=ENOMEM:when=2",
    "write:error=EIO:when=1..9+3",
    "write:error=ENOSPC:when=3..6",
    "epoll_ctl:error=ENOMEM:when=1..9+2",
    "getdents64:error=EIO:when=1",
    "fsync,fdatasync,io_submit:error=EIO:when=1",
    "connect:error=EAGAIN:when=1",
]


@pytest.mark.parametrize("fault", PASSING)
def test_an_error_that_passes_ends_nothing_and_is_charged_to_no_message(rig, queue, faults, fault):
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n" if recipient.startswith(b"no") else b"Kok\n"))
    rig.log.wait(b"status: local 0/10 remote 0/20")
    rig.gone(rig.inject(b"s@x", [b"first@here.example"]))
    faults.attach(rig.pid, fault)
    numbers = [
        rig.inject(b"s@x", [b"ann@here.example", b"bob@far.example"]),
        rig.inject(b"s@x", [b"no@far.example", b"ann@here.example"]),
    ]
    rig.log.wait_some(b"failure")
    until(lambda: faults.count)
    faults.detach()

    def hurry(seconds):
        pull_trigger(rig.names)
        rig.signal(signal.SIGALRM)
        select.select([], [], [], 0.1)  # a signal in each turn of the loop would leave it no time for mail

    until(lambda: all(rig.names.state(number) == "S1" for number in numbers), lambda: str(rig.log.lines), wait=hurry)
    assert rig.stop() == 0
    assert sorted(envelope for envelope, _ in queue.taken) == [b"F\0Ts@x\0\0"]
    assert not [line for line in rig.log.lines if b"deferral" in line or b"dying" in line or b"Traceback" in line]


def test_nowhere_to_make_a_long_bounce_in(rig, pyqueued, faults):
    rig.control("bouncemaxbytes", b"0\n")
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n" if recipient == b"b@far.example" else b"Kok\n"))
    rig.log.wait(b"status: local 0/10 remote 0/20")
    faults.attach(rig.pid, "memfd_create:error=EMFILE:when=1")
    number = rig.inject(b"s@far.example", [b"b@far.example"], content=b"line\n" * 400_000)
    rig.log.wait_some(b", will try later")
    rig.signal(signal.SIGALRM)
    rig.gone(number)
    rig.remote.ordered(2)
    assert rig.stop() == 0
    assert [order[2:] for order in rig.remote.orders] == [(b"s@far.example", b"b@far.example"), (b"", b"s@far.example")]


def test_qmailqueue_takes_the_bounce(rig, home, tmp_path):
    script = tmp_path / "queue"
    script.write_text(f"#!/bin/sh\ncat > {tmp_path}/message\ncat <&1 > {tmp_path}/envelope\n")
    script.chmod(0o755)
    rig.environ[b"QMAILQUEUE"] = os.fsencode(script)
    number = rig.inject(b"s@x", [b"b@far.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n"))
    rig.gone(number)
    assert rig.stop() == 0
    assert (tmp_path / "envelope").read_bytes() == b"F\0Ts@x\0\0"
    assert (tmp_path / "message").read_bytes().endswith(b"Return-Path: <s@x>\nhello\n")


def test_a_bounce_that_qmailqueue_does_not_read_is_kept(rig, home, tmp_path):
    script = tmp_path / "queue"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    rig.environ[b"QMAILQUEUE"] = os.fsencode(script)
    number = rig.inject(b"s@x", [b"b@far.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n"))
    rig.log.wait_some(b"warning: bounce/%d: the program of QMAILQUEUE did not read the message to its end" % number)
    assert rig.stop() == 0
    assert os.path.exists(rig.names.bounce(number))


def test_among_the_originals_qmail_queue_takes_the_bounce(rig, home, tmp_path):
    os.mkdir(f"{home.path}/bin")
    script = tmp_path / "home/bin/qmail-queue"
    script.write_text("#!/bin/sh\nexec cat >/dev/null\n")
    script.chmod(0o755)
    number = rig.inject(b"s@x", [b"b@far.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n"))
    rig.gone(number)
    assert rig.stop() == 0
    assert any(line.startswith(f"bounce msg {number} qp ") for line in lines(rig))


# todo entries that cannot be used


@pytest.mark.parametrize(
    "todo, warning",
    [
        (b"u1\0p2\0Fs@x\0Xhm\0Tann@here.example\0", "unknown record type in"),
        (b"u1\0p2\0Fs@x\0\0", "unknown record type in"),
        (b"u1\0p2\0Fs@x\0Tann@here.example", "trouble reading"),
        (b"u1\0p2\0", "trouble reading"),
        (b"", "trouble reading"),
    ],
)
def test_poison_stays_and_does_no_harm(rig, todo, warning):
    poison = rig.inject(b"", [], todo=todo)
    rig.start()
    rig.log.wait(f"warning: {warning} todo/{poison}".encode())
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    assert rig.stop() == 0
    assert lines(rig).count(f"warning: {warning} todo/{poison}") == 1
    assert rig.names.state(poison) == "S4" and len(rig.local.orders) == 2


def test_files_that_cannot_be_made_leave_todo_in_charge(rig):
    number = rig.inject(b"s@x", [b"a@far.example"])
    os.rmdir(f"{rig.home.queue}/info/{number % 23}")
    rig.start(remote=rig.stock(lambda recipient: None))
    rig.log.wait(f"warning: unable to create info/{number % 23}/{number}".encode())
    assert rig.names.state(number) == "S4"
    rig.remote.release()
    rig.gone(number)  # it ends all the same
    assert rig.stop() == 0


def test_files_that_cannot_be_made_at_the_end(rig):
    number = rig.inject(b"s@x", [b"a@far.example"])
    os.rmdir(f"{rig.home.queue}/info/{number % 23}")
    rig.start(remote=rig.stock(lambda recipient: b"Zlater\n"))
    rig.log.wait_some(b"deferral")
    assert rig.stop() == 0
    assert rig.names.state(number) == "S4"


def test_a_store_that_cannot_commit_leaves_todo_in_charge(rig):
    rig.is_on_memory, rig.environ[b"MEMORY_STORE"] = True, b"commit=refuse,pass"
    number = rig.inject(b"s@x", [b"a@far.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Zlater\n"))
    rig.log.wait(b"warning: trouble fsyncing info")
    assert rig.names.state(number) == "S4" and not os.path.exists(rig.names.info(number))
    until(lambda: rig.names.state(number) == "S5")  # a second later it can
    assert rig.stop() == 0


def test_a_crash_at_the_commit_leaves_todo_in_charge(rig):
    rig.is_on_memory, rig.environ[b"MEMORY_STORE"] = True, b"commit=crash"
    number = rig.inject(b"s@x", [b"a@far.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Zlater\n"))
    assert rig.wait() == on_memory.CRASHED
    assert rig.names.state(number) == "S4" and not os.path.exists(rig.names.info(number))
    del rig.environ[b"MEMORY_STORE"]
    rig.start()
    rig.gone(number)
    assert rig.stop() == 0 and [order[3] for order in rig.remote.orders] == [b"a@far.example"]


@pytest.mark.long
def test_more_new_mail_than_stays_unsettled(rig):
    numbers = [rig.inject(b"s@x", [b"a@far.example"], trigger=False) for _ in range(5000)]
    rig.start(remote=rig.stock(lambda recipient: None))
    until(lambda: sum(line.startswith(b"info msg") for line in list(rig.log.lines)) == 5000)
    rig.remote.answer = lambda recipient: b"Kok\n"
    rig.remote.release()
    for number in numbers:
        rig.gone(number)
    assert rig.stop() == 0


def test_todo_without_message(rig):
    number = rig.inject(b"s@x", [b"ann@here.example"])
    os.unlink(rig.names.mess(number))
    rig.start()
    rig.log.wait(f"warning: unable to stat mess/{number % 23}/{number}".encode())
    assert rig.stop() == 0


def test_names_that_are_no_messages_are_left_alone(rig, home):
    for name in ("todo/x1", "todo/12x", "info/0/a", "mess/1/.b"):
        with open(f"{home.queue}/{name}", "wb"):
            pass
    rig.start()
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    assert rig.stop() == 0
    assert os.path.exists(f"{home.queue}/todo/x1") and os.path.exists(f"{home.queue}/mess/1/.b")


def test_unknown_record_in_a_channel_file(rig):
    number = rig.preprocessed(b"s@x", (), (b"Ta@far.example", b"Qhm", b"Tb@far.example"))
    rig.start()
    rig.log.wait(f"warning: unknown record type in remote/{number % 23}/{number}!".encode())
    rig.log.wait_some(b"success")
    assert rig.stop() == 0
    with open(rig.names.remote(number), "rb") as file:
        assert file.read() == b"Da@far.example\0Qhm\0Tb@far.example\0"


def test_no_info_to_go_with_a_channel_file(rig):
    number = rig.preprocessed(b"s@x", (), (b"Ta@far.example",))
    with open(rig.names.info(number), "wb"):
        pass
    rig.start()
    rig.log.wait(f"warning: trouble opening info/{number % 23}/{number}; will try again later".encode())
    assert rig.stop() == 0


PASSING = [
    # system call: error, what it is about, what is said
    ("openat:error=ENFILE", "lock/trigger", "warning: unable to open lock/trigger: system cannot open more files; ..."),
    ("openat:error=ENOENT", "lock/trigger", "warning: unable to open lock/trigger: file does not exist; ..."),
    ("openat:error=EMFILE", "todo/N", "warning: unable to open todo/N"),
    ("openat:error=EIO", "todo/N", "warning: unable to open todo/N"),
    ("read:error=EIO", "todo/N", "warning: trouble reading todo/N"),
    ("newfstatat:error=ENOMEM", "mess/S/N", "warning: unable to stat mess/S/N"),
    ("unlink:error=EIO", "info/S/N", "warning: unable to unlink info/S/N"),
    ("getdents64:error=EIO", "todo", "warning: trouble reading todo; will try again later"),
]  # fmt: skip


@pytest.mark.parametrize("fault, about, warning", PASSING)
def test_what_fails_once_is_tried_again_in_a_second(rig, faults, fault, about, warning):
    rig.start()
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))  # it waits for the trigger now
    number = rig.inject(b"s@x", [b"ann@here.example"], trigger=False)

    def named(text):
        return text.replace("N", str(number)).replace("S", str(number % 23)) if "/N" in text else text

    warning = named(warning).replace("...", "trying again")
    paths = [f"queue/{named(about)}", f"{rig.home.queue}/{named(about)}"]
    faults.attach(rig.pid, f"{fault}:when=1", paths=paths)
    pull_trigger(rig.names)
    rig.gone(number)
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    assert rig.stop() == 0
    assert lines(rig).count(warning) == 1 and sum("warning" in line for line in lines(rig)) == 1


@pytest.mark.parametrize("kind", ["remote", "info"])
@pytest.mark.parametrize("fault", ["openat:error=EMFILE", "openat:error=EIO", "openat:error=ENOMEM"])
def test_a_pass_that_cannot_be_opened_twice_is_opened_in_seconds(rig, faults, kind, fault):
    number = rig.preprocessed(b"s@x", (), (b"Ta@far.example",), due=int(time.time()) + 100)
    rig.start()
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    path = getattr(rig.names, kind)(number)
    paths = [path, os.path.relpath(path, rig.home.path)]
    faults.attach(rig.pid, f"{fault}:when=1..2", paths=paths)
    rig.signal(signal.SIGALRM)
    rig.gone(number)
    assert rig.stop() == 0
    warning = f"warning: trouble opening {kind}/{number % 23}/{number}; will try again later"
    assert lines(rig).count(warning) == 2


def test_a_mark_that_fails_once_is_made_again(rig, faults):
    rig.control("destinations.now", b":c=1000,learn=no\n")
    number = rig.preprocessed(b"s@x", (), (b"Ta@far.example", b"Tb@far.example"))
    rig.start(remote=rig.stock(lambda recipient: None))
    rig.remote.ordered(2)
    path = rig.names.remote(number)
    paths = [path, os.path.relpath(path, rig.home.path)]
    faults.attach(rig.pid, "openat:error=EMFILE:when=1", paths=paths)
    rig.remote.report(0, b"Kok\n")
    rig.remote.report(1, b"Zlater\n")
    rig.log.wait(f"warning: trouble marking remote/{number % 23}/{number}; will try again later".encode())
    marked = b"Da@far.example\0Tb@far.example\0", b"Ta@far.example\0Db@far.example\0"
    until(lambda: open(path, "rb").read() in marked)
    assert rig.stop() == 0 and os.stat(path).st_mtime >= time.time() + 300
    assert not [line for line in lines(rig) if "twice" in line]


def test_a_slice_that_cannot_be_read_once_is_read_later(rig, faults):
    rig.control("destinations.now", b":c=1000,learn=no\n")
    recipients = [b"user-with-a-long-name-%d@far.example" % i for i in range(1500)]
    rig.control("concurrencyremote", b"100\n")
    number = rig.preprocessed(b"s@x", (), [b"T" + recipient for recipient in recipients])
    path = rig.names.remote(number)
    paths = [path, os.path.relpath(path, rig.home.path)]
    rig.prefix = faults.prefix("pread64:error=EIO:when=1", paths=paths)
    rig.start()
    rig.gone(number)
    assert rig.stop() == 0 and sorted(order[3] for order in rig.remote.orders) == sorted(recipients)
    assert lines(rig).count(f"warning: trouble reading remote/{number % 23}/{number}; will try again later") == 1


def test_a_trigger_that_is_none_is_said_once_and_mail_still_moves(rig):
    os.unlink(rig.names.trigger)
    rig.start()
    rig.log.wait(b"warning: unable to open lock/trigger: file does not exist; trying again")
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"], trigger=False))
    os.mkfifo(rig.names.trigger)
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    assert rig.stop() == 0
    assert sum("warning" in line for line in lines(rig)) == 1


# crash states


def every_state(rig):
    """Make a message in each state a crash can leave; returns {number: what must be delivered}."""
    names, made = rig.names, {}
    number = rig.inject(b"s@x", [b"s2@here.example"], trigger=False)  # S2
    os.unlink(names.todo(number))
    os.unlink(names.intd(number))
    made[number] = []
    number = rig.inject(b"s@x", [b"s3@here.example"], trigger=False)  # S3
    os.unlink(names.todo(number))
    made[number] = []
    made[rig.inject(b"s@x", [b"s4@here.example"], trigger=False)] = [b"s4@here.example"]
    number = rig.inject(b"s@x", [b"s4-no-intd@here.example"], trigger=False)
    os.unlink(names.intd(number))
    made[number] = [b"s4-no-intd@here.example"]
    number = rig.inject(b"s@x", [b"s4-half@here.example"], trigger=False)
    for path, content in ((names.info(number), b"Fs@"), (names.local(number), b"Tx"), (names.bounce(number), b"old")):
        with open(path, "wb") as file:
            file.write(content)
    made[number] = [b"s4-half@here.example"]
    number = rig.preprocessed(b"s@x", (b"Ts5-a@here.example", b"Ds5-b@here.example"), (b"Ts5-c@far.example",))
    made[number] = [b"s5-a@here.example", b"s5-c@far.example"]
    made[rig.preprocessed(b"s@x", (b"Ds5-all@here.example",))] = []
    made[rig.preprocessed(b"s@x")] = []  # both channel files gone
    return made


@on_both_stores
def test_every_state_at_the_start(rig, queue):
    made = every_state(rig)
    kept = list(made)[:2]  # no 36 hours old
    rig.start()
    for number in made:
        if number not in kept:
            rig.gone(number)
    assert rig.stop() == 0
    assert sorted(order[3] for order in rig.local.orders + rig.remote.orders) == sorted(sum(made.values(), []))
    assert [rig.names.state(number) for number in kept] == ["S2", "S3"] and not queue.taken


def test_a_bounce_left_by_a_crash_is_sent(rig, queue):
    number = rig.preprocessed(b"s@x")
    with open(rig.names.bounce(number), "wb") as file:
        file.write(b"<a@b>:\nno\n\n")
    rig.start()
    rig.gone(number)
    assert rig.stop() == 0
    assert b"<a@b>:\nno\n\n" in queue.taken[0][1]


def left_of(rig, number):
    paths = rig.names.info, rig.names.local, rig.names.remote, rig.names.bounce, rig.names.todo
    return [path(number) for path in paths if os.path.exists(path(number))]


@pytest.mark.parametrize("age", [0, 700000])
def test_what_has_no_mess_at_the_start_was_finished(rig, queue, age):
    """btrfs after a crash: mess has gone and info has not.

    Tried for ever; too old, its bounce could never be queued.
    """
    whole = rig.preprocessed(b"s@x", (), (b"Twhole@far.example",))
    kinds = [((), (b"Ta@far.example",)), ((b"Ta@here.example",), (b"Tb@far.example",)), ((), ())]
    numbers = [rig.preprocessed(b"s@x", *records, age=age, due=time.time() + 9000) for records in kinds]
    for number in numbers:
        with open(rig.names.bounce(number), "wb") as file:
            file.write(b"<a@b>:\nno\n\n")
        os.unlink(rig.names.mess(number))
    rig.start()
    rig.gone(whole)
    for number in numbers:
        rig.log.wait(
            b"warning: no file mess/%d/%d: finished before a crash, or lost; removing what is left of it"
            % (number % 23, number),
            b"end msg %d" % number,
        )
        rig.gone(number)
    assert rig.stop() == 0
    assert not queue.taken and not any(left_of(rig, number) for number in numbers)
    assert [order[3] for order in rig.local.orders + rig.remote.orders] == [b"whole@far.example"]


@pytest.mark.parametrize("spoil", ["no directory", "a symlink to nowhere", "a loop", "nearly all"])
def test_nothing_is_removed_if_mess_itself_may_be_missing(rig, home, queue, spoil):
    later = time.time() + 9000
    count = 150 if spoil == "nearly all" else 3
    numbers = [rig.preprocessed(b"s@x", (), (b"Ta@far.example",), due=later) for _ in range(count)]
    parts = {number % 23 for number in numbers}
    for part in parts:
        place = f"{home.queue}/mess/{part}"
        os.rename(place, f"{home.path}/elsewhere-{part}")
        if spoil == "a symlink to nowhere":
            os.symlink("/nowhere/mess", place)
        elif spoil == "a loop":
            os.symlink(place, place)
        elif spoil == "nearly all":
            os.mkdir(place)
    for part in {0, 1} - parts:
        os.makedirs(f"{home.queue}/mess/{part}", exist_ok=True)
    rig.start()
    if spoil == "nearly all":
        rig.log.wait(b"alert: 150 messages are not in mess, only 0 are: is it mounted?")
        assert rig.stop() == 0
    elif spoil == "no directory":
        rig.log.wait(b"status: local 0/10 remote 0/20")
        assert rig.stop() == 0
    else:
        assert rig.wait() == 111  # how the queue is split cannot be known
    assert all(left_of(rig, number) == [rig.names.info(number), rig.names.remote(number)] for number in numbers)
    assert not [line for line in rig.log.lines if b"removing" in line or b"end msg" in line]


def test_old_leftovers_are_swept(rig):
    names, swept = rig.names, []
    for kind in ("S2", "S3", "unsettled"):
        number = rig.inject(b"s@x", [], trigger=False)
        os.unlink(names.todo(number))
        if kind == "S2":
            os.unlink(names.intd(number))
        if kind != "unsettled":
            long_ago = time.time() - 129700
            os.utime(names.mess(number), (long_ago, time.time()))
            swept.append(number)
    rig.start()
    for gone in swept:
        rig.gone(gone)
    assert rig.stop() == 0
    assert names.state(number) == "S3"
    assert not [line for line in lines(rig) if "warning" in line]


@on_both_stores
@pytest.mark.parametrize("moment", ["unsettled", "settled"])
def test_killed_in_the_middle(rig, moment):
    """What was not reported is delivered again; nothing is lost."""
    number = rig.inject(b"s@x", [b"a@far.example", b"b@far.example", b"ann@here.example"])
    rig.start(remote=rig.stock(lambda recipient: None if recipient.startswith(b"b") else b"Kok\n"))
    rig.log.wait_some(b"success")
    rig.remote.ordered(2)
    if moment == "settled":
        until(lambda: rig.names.state(number) == "S5")
        until(lambda: open(rig.names.remote(number), "rb").read() == b"Da@far.example\0Tb@far.example\0")
    rig.kill()
    rig.start()
    rig.gone(number)
    assert rig.stop() == 0
    again = sorted(order[3] for order in rig.remote.orders)
    assert again == ([b"b@far.example"] if moment == "settled" else [b"a@far.example", b"b@far.example"])


# removed by hand, and the number given to another


def remove_by_hand(rig, number):
    names = rig.names
    os.link(names.mess(number), f"{rig.home.path}/{number}")  # so that no file of the test gets its inode
    for path in (names.mess, names.info, names.local, names.remote, names.bounce, names.todo, names.intd):
        try:
            os.unlink(path(number))
        except FileNotFoundError:
            pass


def arrive_as(rig, number, recipients, content=b"another\n", trigger=True, todo=None):
    """A new message whose inode has that number again.  todo: a file whose inode its envelope has."""
    with open(rig.names.mess(number), "wb") as file:
        file.write(content)
    if todo is not None:
        os.link(todo, rig.names.intd(number))
    with open(rig.names.intd(number), "wb") as file:
        file.write(b"u1\0p1\0Fother@x\0" + b"".join(b"T" + recipient + b"\0" for recipient in recipients))
    os.link(rig.names.intd(number), rig.names.todo(number))
    if trigger:
        pull_trigger(rig.names)


def settled(rig, number):
    """Wait until a message has its files and nothing else."""
    until(lambda: rig.names.state(number) == "S5" and not os.path.exists(rig.names.intd(number)))


def test_a_ghost_is_not_delivered_beside_who_has_its_number_now(rig):
    number = rig.inject(b"s@x", [b"old@far.example", b"old@here.example"])
    rig.start(local=rig.stock(lambda recipient: b"Zno\n"), remote=rig.stock(lambda recipient: b"Zno\n"))
    rig.log.wait(b"delivery 1: deferral: no/", b"delivery 2: deferral: no/")
    settled(rig, number)
    remove_by_hand(rig, number)
    arrive_as(rig, number, [b"new@far.example", b"new@here.example"])
    rig.log.wait_some(b"<other@x>")
    # a try that is under way when the signal comes is not made due by it
    rig.log.wait(b"delivery 3: deferral: no/", b"delivery 4: deferral: no/")
    settled(rig, number)
    rig.local.answer = rig.remote.answer = lambda recipient: None
    rig.signal(signal.SIGALRM)
    rig.remote.ordered(3), rig.local.ordered(3)
    rig.gone(rig.inject(b"s@x", []))  # all that was due has been looked at
    rig.remote.release(), rig.local.release()
    rig.gone(number)
    assert rig.stop() == 0
    assert [order[3] for order in rig.remote.orders] == [b"old@far.example"] + 2 * [b"new@far.example"]
    assert [order[3] for order in rig.local.orders] == [b"old@here.example"] + 2 * [b"new@here.example"]


@pytest.fixture
def cleaner(rig):
    """A FakeCleaner that removes envelopes but does not answer that it has, until release(b"+")."""
    return rig.cleaner(rig.names, lambda command: None if command.startswith(b"todo/") else b"+")


@pytest.mark.parametrize("inode", ["the same", "another"])
@pytest.mark.parametrize("report", [b"Zno\n", b"Kok\n"])
def test_a_late_answer_about_a_ghost_is_not_about_who_has_its_number_now(rig, cleaner, report, inode):
    """Z: it would not be known any more, and delivered once more.  K: its mess would be removed, by number."""
    number, spare = rig.inject(b"s@x", [b"old@far.example"]), f"{rig.home.path}/spare"
    os.link(rig.names.todo(number), spare)  # so that it keeps its inode
    rig.start(remote=rig.stock(lambda recipient: report if recipient.startswith(b"old") else None), clean=cleaner)
    until(lambda: cleaner.held)
    remove_by_hand(rig, number)
    arrive_as(rig, number, [b"new@far.example"], todo=spare if inode == "the same" else None)
    rig.inject(b"s@x", [b"ann@here.example"])
    rig.local.ordered(1)  # todo has been looked at
    if inode == "another":
        rig.remote.ordered(2)  # it is known already
    cleaner.answer = lambda command: b"+"
    cleaner.release(b"+")
    rig.remote.ordered(2)
    rig.inject(b"s@x", [b"joe@here.example"])
    rig.local.ordered(2)  # and once more
    with open(rig.names.mess(number), "rb") as file:
        assert file.read() == b"another\n"
    rig.remote.release()
    rig.gone(number)
    assert rig.stop() == 0
    assert [order[3] for order in rig.remote.orders] == [b"old@far.example", b"new@far.example"]
    assert rig.log.lines.count(b"new msg %d" % number) == 2


def test_what_was_wrong_with_a_ghost_is_not_wrong_with_who_has_its_number_now(rig):
    number = rig.inject(b"s@x", [], todo=b"u1\0p1\0Fs@x\0Qodd\0")
    rig.start()
    rig.log.wait_some(b"unknown record type")
    remove_by_hand(rig, number)
    arrive_as(rig, number, [b"new@far.example"])
    rig.remote.ordered(1)
    rig.gone(number)
    assert rig.stop() == 0


def test_an_alarm_makes_due_what_has_just_ended(rig, cleaner):
    """The signal comes in the turn in which a pass ends, before that turn has put it into the heap."""
    number = rig.inject(b"s@x", [b"a@far.example", b"ann@here.example"])
    rig.start(rig.stock(lambda recipient: b"Zno\n"), rig.stock(lambda recipient: b"Zno\n"), clean=cleaner)
    until(lambda: cleaner.held)
    rig.signal(signal.SIGSTOP)
    until(lambda: is_stopped(rig.pid))
    cleaner.release(b"+")
    rig.signal(signal.SIGALRM)
    rig.signal(signal.SIGCONT)
    rig.remote.ordered(2), rig.local.ordered(2)
    assert rig.stop() == 0
    assert rig.names.state(number) == "S5"


def test_a_pass_under_way_leaves_alone_who_has_its_number_now(rig, queue):
    """Its marks would be written into another's file, its end would remove that, its recipients get another's mail."""
    rig.control("concurrencyremote", b"1\n")
    old = [b"old%d@far.example" % i for i in range(5)]
    number = rig.preprocessed(b"s@x", (), [b"T" + address for address in old])
    rig.start(remote=rig.stock(lambda recipient: None))
    rig.remote.ordered(1)
    remove_by_hand(rig, number)
    arrive_as(rig, number, [b"new%d@far.example" % i for i in range(3)])
    rig.log.wait_some(b"<other@x>")
    rig.remote.answer = lambda recipient: b"Zno\n" if recipient.startswith(b"new0") else b"Kok\n"
    rig.remote.release(b"Dno\n")
    rig.remote.ordered(4)
    settled(rig, number)
    until(lambda: open(rig.names.remote(number), "rb").read().count(b"D") == 2)
    assert rig.stop() == 0
    assert sorted(order[3] for order in rig.remote.orders[1:]) == [b"new%d@far.example" % i for i in range(3)]
    with open(rig.names.remote(number), "rb") as file:
        assert file.read() == b"Tnew0@far.example\0Dnew1@far.example\0Dnew2@far.example\0"
    with open(rig.names.info(number), "rb") as file:
        assert file.read() == b"Fother@x\0"
    assert not os.path.exists(rig.names.bounce(number)) and not queue.taken


def test_a_bounce_under_way_leaves_alone_who_has_the_number_now(rig, home):
    queue = Queue(home)
    queue.gate.clear()
    number = rig.preprocessed(b"s@x", (), [b"Told@far.example"])
    rig.start(remote=rig.stock(lambda recipient: b"Dno\n"))
    queue.wait(1)
    remove_by_hand(rig, number)
    rig.remote.answer = lambda recipient: b"Zno\n"
    arrive_as(rig, number, [b"new@far.example"])
    settled(rig, number)
    queue.gate.set()
    rig.gone(rig.inject(b"s@x", []))
    assert rig.stop() == 0
    queue.close()
    assert rig.names.state(number) == "S5" and open(rig.names.remote(number), "rb").read() == b"Tnew@far.example\0"


@pytest.mark.parametrize("report", [b"Kok\n", b"Zno\n", b"Dno\n"])
def test_a_message_that_is_removed_before_it_has_files_leaves_alone_who_has_its_number(rig, queue, report):
    number = rig.inject(b"s@x", [b"old@far.example"])
    rig.start(remote=rig.stock(lambda recipient: None))
    rig.remote.ordered(1)
    remove_by_hand(rig, number)
    arrive_as(rig, number, [b"new@here.example"], trigger=False)
    rig.remote.release(report)
    rig.log.wait(b"warning: msg %d has been removed by somebody else" % number)
    rig.gone(number)
    assert rig.stop() == 0
    assert [order[3] for order in rig.local.orders] == [b"new@here.example"] and len(rig.remote.orders) == 1
    assert not queue.taken


def test_a_scan_sees_that_another_message_stands_in_todo(rig):
    number = rig.inject(b"s@x", [b"old@far.example"])
    rig.start(remote=rig.stock(lambda recipient: None))
    rig.remote.ordered(1)
    os.link(rig.names.todo(number), f"{rig.home.path}/old-envelope")  # its inode is not free
    remove_by_hand(rig, number)
    arrive_as(rig, number, [b"new@here.example"])
    rig.local.ordered(1)
    assert rig.local.orders[0][3] == b"new@here.example"
    rig.gone(number)
    rig.remote.release()
    assert rig.stop() == 0


@pytest.mark.parametrize("when", ["unsettled", "waiting", "under way"])
def test_a_message_removed_by_hand_is_forgotten(rig, when):
    """No line about it every two minutes for ever, and nothing of it on disk again."""
    if when == "unsettled":
        number = rig.inject(b"s@x", [b"old@far.example"])
        rig.start(remote=rig.stock(lambda recipient: None))
        rig.remote.ordered(1)
        remove_by_hand(rig, number)
        rig.remote.release(b"Zno\n")
        rig.log.wait(b"warning: msg %d has been removed by somebody else" % number)
    else:
        number = rig.preprocessed(b"s@x", (), [b"Told@far.example"])
        rig.start(remote=rig.stock(lambda recipient: None if when == "under way" else b"Zno\n"))
        rig.remote.ordered(1)
        if when == "waiting":
            rig.log.wait(b"delivery 1: deferral: no/")
            until(lambda: os.stat(rig.names.remote(number)).st_mtime > time.time())
        remove_by_hand(rig, number)
        rig.remote.release(b"Zno\n")
        if when == "under way":
            rig.log.wait_some(b"warning: unable to utime")
        rig.signal(signal.SIGALRM)
        rig.log.wait(b"warning: no file remote/%d/%d: removed by somebody else" % (number % 23, number))
    count = len(rig.log.lines)
    rig.signal(signal.SIGALRM)
    rig.gone(rig.inject(b"s@x", []))
    assert rig.stop() == 0
    assert not [line for line in rig.log.lines[count:] if b"warning" in line or b"starting" in line]
    assert rig.names.state(number) == "S1"


def test_a_directory_that_is_away_for_a_while_forgets_nobody(rig):
    number = rig.preprocessed(b"s@x", (), [b"Ta@far.example"], due=time.time() + 9000)
    rig.start()
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    place = f"{rig.home.queue}/remote/{number % 23}"
    os.rename(place, f"{rig.home.path}/away")
    rig.signal(signal.SIGALRM)
    rig.log.wait(b"warning: trouble opening remote/%d/%d; will try again later" % (number % 23, number))
    os.rename(f"{rig.home.path}/away", place)
    rig.signal(signal.SIGALRM)
    rig.gone(number)
    assert rig.stop() == 0 and len(rig.remote.orders) == 1


# signals, the end, what cannot start


@on_both_stores
def test_term_waits_for_deliveries(rig):
    number = rig.inject(b"s@x", [b"a@far.example", b"b@far.example"])
    rig.control("concurrencyremote", b"1\n")
    rig.start(remote=rig.stock(lambda recipient: None))
    rig.remote.ordered(1)
    rig.signal(signal.SIGTERM)
    until(lambda: not _has_reader(rig.names.trigger))  # it has seen the signal
    rig.inject(b"s@x", [b"late@far.example"])
    rig.remote.release()
    assert rig.wait() == 0
    assert lines(rig)[-3:] == [
        "delivery 1: success: ok/",
        "status: local 0/10 remote 0/1 exitasap",
        "status: exiting",
    ]
    assert len(rig.remote.orders) == 1 and rig.names.state(number) == "S5"
    with open(rig.names.remote(number), "rb") as file:
        assert sorted(file.read().split(b"\0")) == [b"", b"Da@far.example", b"Tb@far.example"]


@on_both_stores
@pytest.mark.parametrize("report", [b"Kok\n", b"Dno\n"])
def test_what_ends_after_term_is_brought_to_its_end(rig, queue, report):
    """As seen of the original: the bounce is queued and the message removed before it exits."""
    number = rig.inject(b"s@x", [b"a@far.example"])
    rig.start(remote=rig.stock(lambda recipient: None))
    rig.remote.ordered(1)
    rig.signal(signal.SIGTERM)
    until(lambda: not _has_reader(rig.names.trigger))
    rig.remote.release(report)
    assert rig.wait() == 0
    end = [f"end msg {number}", "status: exiting"]
    assert lines(rig)[-2:] == end and (report[:1] == b"K" or lines(rig)[-3] == f"bounce msg {number} qp 4711")
    assert rig.names.state(number) == "S1"


def _has_reader(fifo):
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def test_hangup_rereads_locals(rig):
    rig.start()
    rig.gone(rig.inject(b"s@x", [b"a@new.example"]))
    assert len(rig.remote.orders) == 1
    rig.control("locals", b"new.example\n")
    rig.control("virtualdomains", b"virt.example:v\n")
    rig.signal(signal.SIGHUP)  # silent when it works, so ask until it has
    until(lambda: rig.gone(rig.inject(b"s@x", [b"a@new.example"])) or rig.local.orders)
    rig.gone(rig.inject(b"s@x", [b"b@virt.example"]))
    assert rig.local.orders[-1][3] == b"v-b@virt.example"
    assert rig.stop() == 0


def test_hangup_that_fails_keeps_the_old(rig):
    rig.start()
    rig.gone(rig.inject(b"s@x", [b"a@here.example"]))
    os.mkdir(f"{rig.home.control}/locals")
    rig.signal(signal.SIGHUP)
    rig.log.wait(b"alert: unable to reread control/locals")
    rig.gone(rig.inject(b"s@x", [b"a@here.example"]))
    assert rig.stop() == 0 and len(rig.local.orders) == 2


def test_lost_spawner(rig):
    number = rig.inject(b"s@x", [b"a@far.example"])
    rig.start(remote=rig.stock(lambda recipient: None))
    rig.remote.ordered(1)
    rig.remote.lose()
    assert rig.wait() == 0
    assert "alert: oh no! lost spawn connection! dying..." in lines(rig) and lines(rig)[-1] == "status: exiting"
    assert rig.names.state(number) == "S5"


def test_lost_cleaner(rig):
    rig.start()
    rig.log.wait(b"status: local 0/10 remote 0/20")
    os.kill(rig.clean_pid, signal.SIGKILL)
    assert rig.wait() == 0
    assert "alert: oh no! lost qmail-clean connection! dying..." in lines(rig)


def test_report_out_of_range(rig):
    rig.start()
    rig.log.wait(b"status: local 0/10 remote 0/20")
    rig.local.report(7, b"Kok\n")
    rig.log.wait(b"warning: internal error: delivery report out of range")
    assert rig.stop() == 0


def test_second_one(rig, home):
    import fcntl

    with open(rig.names.sendmutex, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        rig.start()
        assert rig.wait() == 111
    assert lines(rig) == ["alert: cannot start: qmail-send is already running"]


def test_no_fire(rig):
    rig.start(remote=NoFire())
    assert rig.wait() == 111
    assert lines(rig) == ["alert: cannot start: hath the daemon spawn no fire?"]


class NoFire:
    """A spawner that ended before it said anything."""

    def __init__(self):
        read, self.commands = os.pipe()
        self.reports, write = os.pipe()
        os.close(read)
        os.close(write)

    def start(self):
        pass


@pytest.mark.parametrize(
    "spoil, reason, which",
    [
        (
            lambda home: os.unlink(f"{home.control}/me"),
            "unable to read controls",
            ["warning: there is neither control/me nor control/locals"],
        ),
        (
            lambda home: os.mkdir(f"{home.control}/locals"),
            "unable to read controls",
            ["warning: unable to read CONTROL/locals: is a directory"],
        ),
        (lambda home: os.rename(home.queue, f"{home.path}/elsewhere"), "unable to switch to queue directory", []),
        (lambda home: os.unlink(f"{home.queue}/lock/sendmutex"), "unable to open mutex", []),
        (lambda home: os.rename(home.path, f"{home.path}-elsewhere"), "unable to switch to home directory", []),
    ],
)
def test_cannot_start(rig, home, spoil, reason, which):
    spoil(home)
    rig.start()
    assert rig.wait() == 111
    which = [line.replace("CONTROL", home.control) for line in which]
    assert lines(rig) == [*which, f"alert: cannot start: {reason}"]


def test_mutex_is_not_inherited_and_is_released(rig):
    rig.start()
    rig.log.wait(b"status: local 0/10 remote 0/20")
    assert rig.stop() == 0
    rig.start()
    rig.log.wait(b"status: local 0/10 remote 0/20")
    assert rig.stop() == 0


def test_a_log_that_nobody_reads_does_not_hold_up_mail(rig):
    rig.start()
    rig.log.wait(b"status: local 0/10 remote 0/20")
    rig.log.pause()
    numbers = [rig.inject(b"s@x", [b"u%d@here.example" % i for i in range(200)]) for _ in range(5)]
    for number in numbers:
        rig.gone(number)
    rig.log.go_on()
    assert rig.stop() == 0
    assert sum(b"success" in line for line in rig.log.lines) == 1000 and rig.log.lines[-1] == b"status: exiting"


WRITES = ["ENOMEM", "EIO", "ENOBUFS", "EINTR", "ENOSPC"]


@pytest.mark.parametrize("error", WRITES)
def test_no_failed_write_is_the_end_of_the_log_or_of_a_pipe(rig, faults, error):
    """Every pipe of pysend's is met: the log, the cleaner, both spawners, and files of the queue."""
    rig.prefix = faults.prefix(f"write:error={error}:when=1..9+2")
    rig.start()
    numbers = [rig.inject(b"s@x", [b"ann@here.example", b"bob@far.example"]) for _ in range(3)]
    for number in numbers:
        rig.gone(number)
        rig.log.wait(f"end msg {number}".encode())
    assert rig.stop() == 0
    assert faults.count >= 5
    assert rig.log.lines[-1] == b"status: exiting"
    assert sum(line.startswith(b"delivery") and b": success: " in line for line in rig.log.lines) == 6


def test_a_log_on_a_full_disk_holds_up_neither_mail_nor_the_end(rig):
    rig.start(log=os.open("/dev/full", os.O_WRONLY))
    rig.gone(rig.inject(b"s@x", [b"ann@here.example", b"bob@far.example"]))
    assert rig.stop() == 0


@pytest.mark.parametrize("error", ["EIO", "ENOMEM", "EINTR"])
def test_no_failed_read_is_the_end_of_a_pipe(rig, faults, error):
    rig.start()
    rig.log.wait(b"status: local 0/10 remote 0/20")
    faults.attach(rig.pid, f"read:error={error}:when=1..5+2")
    for _ in range(3):
        rig.gone(rig.inject(b"s@x", [b"ann@here.example", b"bob@far.example"]))
    assert rig.stop() == 0 and faults.count >= 3


# the native dialect

FOUND = resolve_wire.hosts_body(
    3600, False, [(10, b"mx.far.example", b"192.0.2.7"), (20, b"mx2.far.example", b"192.0.2.8")]
)


def found_at(name):
    """A domain with an exchanger of its own, in a network of its own."""
    number = int("".join(character for character in name.decode() if character.isdigit()) or 0)
    hosts = [(10, b"mx." + name, b"198.18.%d.1" % number)]
    return resolve_wire.HOSTS_FOUND, resolve_wire.hosts_body(3600, False, hosts)


NO_LIMIT = b":c=1000,learn=no\n"  # control/destinations.now


def natively(rig, remote=None, answer=lambda name: (resolve_wire.HOSTS_FOUND, FOUND), more=(), words=(), **options):
    rig.start(
        local=rig.native(lambda recipient: b"Kok\n"),
        remote=remote or rig.native(lambda recipient: b"Kaccepted\n", **options),
        resolver=rig.resolver(answer),
        options=["--native", "--sessions", str(1 + len(more)), *words],
        more=more,
    )


def test_native(rig):
    number = rig.inject(b"s@x", [b"ann@here.example", b"bob@Far.example"])
    natively(rig)
    rig.gone(number)
    assert rig.stop() == 0
    assert rig.remote.opened == [(b"mx.far.example", b"192.0.2.7", 25)]
    assert "status: local 0/10 remote 0/20" in lines(rig) and f"end msg {number}" in lines(rig)


def test_native_groups_recipients_and_reuses_sessions(rig):
    first = rig.inject(b"s@x", [b"u%d@far.example" % i for i in range(10)])
    natively(rig)
    rig.gone(first)
    rig.gone(rig.inject(b"s@x", [b"next@far.example"]))
    assert rig.stop() == 0
    assert rig.remote.delivers == [[b"u%d@far.example" % i for i in range(10)], [b"next@far.example"]]
    assert len(rig.remote.opened) == 1
    assert "status: local 0/10 remote 10/20" in lines(rig)


def test_native_spreads_sessions(rig):
    more = rig.native(lambda recipient: b"Kok\n", 1000)
    number = rig.inject(b"s@x", [b"u@d%d.example" % i for i in range(20)])
    natively(rig, answer=found_at, more=[more])
    rig.gone(number)
    assert rig.stop() == 0
    assert len(rig.remote.opened) + len(more.opened) == 20 and min(len(rig.remote.opened), len(more.opened)) >= 5


@pytest.mark.parametrize("kind", [native_dialect.REFUSED, native_dialect.FAILED])
def test_native_mail_waits_for_a_destination_that_cannot_be_reached(rig, kind):
    """Nothing of it is deferred; what is known of the destination outlasts a restart, and is no more than a cache."""
    numbers = [rig.inject(b"s@x", [b"u%d@far.example" % i]) for i in range(3)]
    report = b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
    natively(rig, greet=lambda host: (kind, report))
    until(lambda: len(rig.remote.opened) >= 2)  # both hosts
    until(lambda: all(rig.names.state(number) == "S5" for number in numbers))
    assert rig.stop() == 0
    assert not [line for line in lines(rig) if "delivery" in line]
    for number in numbers:
        birth = os.stat(rig.names.info(number)).st_mtime
        assert os.stat(rig.names.remote(number)).st_mtime == birth
    learned = f"{rig.home.path}/var/destinations.state"
    assert b"far.example" in open(learned, "rb").read()
    natively(rig)
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    assert rig.stop() == 0 and not rig.remote.opened
    os.unlink(learned)
    natively(rig)
    for number in numbers:
        rig.gone(number)
    assert rig.stop() == 0
    assert not [line for line in lines(rig) if "deferral" in line]


@pytest.mark.parametrize(
    "kind, line",
    [
        # a name that is young may not be known everywhere: it is asked for again before that is believed
        (resolve_wire.NO_HOST, "deferral: Sorry,_I_couldn't_find_any_host_named_far.example._(#5.1.2)/"),
        (resolve_wire.NO_RECORD, "deferral: Sorry,_I_couldn't_find_a_mail_exchanger_or_IP_address._(#5.4.4)/"),
        (resolve_wire.NO_MAIL, "failure: Sorry,_that_domain_takes_no_mail:_it_has_a_null_MX._(#5.1.10)/"),
    ],
)
def test_native_domains_without_hosts(rig, queue, kind, line):
    number = rig.inject(b"s@x", [b"u@far.example"])
    natively(rig, answer=lambda name: (kind, b""))
    rig.log.wait(f"delivery 1: {line}".encode())
    assert rig.stop() == 0
    start = lines(rig).index(f"starting delivery 1: msg {number} to remote u@far.example")
    assert lines(rig)[start + 1 : start + 4] == [
        *("status: local 0/10 remote 1/20", f"delivery 1: {line}", "status: local 0/10 remote 0/20"),
    ]


def test_native_mail_waits_while_name_servers_fail(rig):
    number, answer = rig.inject(b"s@x", [b"u@far.example"]), {"is": (resolve_wire.SOFT, b"timed out\0")}
    natively(rig, answer=lambda name: answer["is"])
    until(lambda: rig.names.state(number) == "S5")
    assert not [line for line in lines(rig) if "delivery" in line]
    answer["is"] = found_at(b"far.example")
    rig.signal(signal.SIGALRM)
    rig.gone(number)
    assert rig.stop() == 0


def test_native_mail_for_ourselves(rig, queue):
    rig.inject(b"s@x", [b"u@far.example"])
    ours = resolve_wire.hosts_body(3600, False, [(10, b"me", b"127.0.0.1"), (20, b"other", b"192.0.2.1")])
    natively(rig, answer=lambda name: (resolve_wire.HOSTS_FOUND, ours))
    assert b"best-preference_MX" in rig.log.wait_some(b"delivery 1: failure:")
    assert rig.stop() == 0 and not rig.remote.opened


def test_native_routes(rig):
    rig.control("smtproutes", b"far.example:[127.0.0.1]:2525\n.sub.example:relay.example\n")
    number = rig.inject(b"s@x", [b"u@far.example", b"v@a.sub.example", b"w@[192.0.2.9]"])
    found = resolve_wire.hosts_body(3600, False, [(0, b"relay.example", b"192.0.2.5")])
    natively(rig, answer=lambda name: (resolve_wire.HOSTS_FOUND, found))
    rig.gone(number)
    assert rig.stop() == 0
    assert sorted(rig.remote.opened) == [
        (b"127.0.0.1", b"127.0.0.1", 2525),
        (b"192.0.2.9", b"192.0.2.9", 25),
        (b"relay.example", b"192.0.2.5", 25),
    ]


def test_native_rules_route(rig):
    """A rule wins over a line of smtproutes that names the domain no more closely."""
    rig.control("smtproutes", b"far.example:192.0.2.77\na.sub.example:192.0.2.78\n")
    rig.control("destinations.now", b"far.example:route=[127.0.0.1]:2525\n.sub.example:route=relay.example\n")
    number = rig.inject(b"s@x", [b"u@Far.example", b"v@a.sub.example", b"w@b.sub.example"])
    found = resolve_wire.hosts_body(3600, False, [(0, b"relay.example", b"192.0.2.5")])
    natively(rig, answer=lambda name: (resolve_wire.HOSTS_FOUND, found))
    rig.gone(number)
    assert rig.stop() == 0
    assert sorted(rig.remote.opened) == [
        (b"127.0.0.1", b"127.0.0.1", 2525),
        (b"192.0.2.78", b"192.0.2.78", 25),
        (b"relay.example", b"192.0.2.5", 25),
    ]


def test_native_behind_another_client_nothing_is_looked_up(rig):
    """It finds hosts in its own way: neither DNS nor our routes say what may be delivered."""
    rig.control("smtproutes", b"far.example:[127.0.0.1]:2525\n")
    rig.control("destinations.now", b"far.example:route=192.0.2.9,fall=192.0.2.8\n")
    recipients = [b"u@Far.example", b"v@host.internal", b"w@[127.0.0.1]", b"x@"]
    number = rig.inject(b"s@x", recipients)
    natively(rig, answer=lambda name: (resolve_wire.NO_HOST, b""), words=["--agent"])
    rig.gone(number)
    assert rig.stop() == 0
    domains = [b"", b"[127.0.0.1]", b"far.example", b"host.internal"]
    assert sorted(rig.remote.opened) == [(domain, domain, 25) for domain in domains]
    said = "rules: destinations.now line 1: {}= is not obeyed: the program that delivers finds hosts by itself"
    assert [line for line in lines(rig) if "obeyed" in line] == [said.format(key) for key in ("route", "fall")]
    assert not any("failure" in line or "deferral" in line for line in lines(rig))


def silent(destination):
    return "silent"


def test_native_what_connects_is_seen(rig):
    """Numbers that changed are shown within a second or so, and a delivery starts when its session has greeted."""
    for i in range(3):
        rig.inject(b"s@x", [b"u@far%d.example" % i])
    natively(rig, remote=rig.native(lambda recipient: None, greet=silent), answer=found_at)
    rig.log.wait(b"status: local 0/10 remote 3/20")
    assert not [line for line in lines(rig) if "delivery" in line]
    rig.remote.greet_all()
    rig.remote.ordered(3)
    start = lines(rig).index("status: local 0/10 remote 3/20")
    rig.remote.release()
    rig.log.wait(b"status: local 0/10 remote 0/20", count=2)
    assert rig.stop() == 0
    got = [
        re.sub("msg [0-9]+|far[0-9]", "X", line)
        for line in lines(rig)[start:]
        if not line.startswith(("end msg", "site "))
    ]
    assert got == [
        "status: local 0/10 remote 3/20",
        "starting delivery 1: X to remote u@X.example",
        "status: local 0/10 remote 3/20",
        "starting delivery 2: X to remote u@X.example",
        "status: local 0/10 remote 3/20",
        "starting delivery 3: X to remote u@X.example",
        "status: local 0/10 remote 3/20",
        "delivery 1: success: ok/",
        "status: local 0/10 remote 2/20",
        "delivery 2: success: ok/",
        "status: local 0/10 remote 1/20",
        "delivery 3: success: ok/",
        "status: local 0/10 remote 0/20",  # sessions kept idle do not count
        "status: exiting",
    ]


def test_native_what_no_longer_connects_is_seen_too(rig):
    """After TERM nothing is opened: the log says that none connects any more, though it waits for a local delivery."""
    rig.inject(b"s@x", [b"u@far.example", b"ann@here.example"])
    rig.start(
        local=rig.native(lambda recipient: None),
        remote=rig.native(lambda recipient: None, greet=silent),
        resolver=rig.resolver(lambda name: (resolve_wire.HOSTS_FOUND, FOUND)),
        options=["--native"],
    )
    rig.log.wait(b"status: local 1/10 remote 1/20")
    rig.signal(signal.SIGTERM)
    rig.log.wait(b"status: local 1/10 remote 0/20 exitasap")
    rig.local.release()
    assert rig.wait() == 0


def test_native_a_slow_connection_and_a_slow_look_up_are_said(rig):
    rig.inject(b"s@x", [b"u@far.example", b"v@dead.example"])
    answer = {b"far.example": (resolve_wire.HOSTS_FOUND, FOUND)}
    rig.control("smtproutes", b"relayed.example:relay.example\n")
    rig.inject(b"s@x", [b"w@relayed.example"])
    remote = rig.native(lambda recipient: None, greet=silent)
    natively(rig, remote=remote, answer=answer.get)
    rig.log.wait(b"connecting: mx.far.example: sessions 1, seconds 5")
    rig.log.wait(b"looking up: dead.example: domains 1, seconds 5", b"looking up: relay.example: domains 1, seconds 5")
    assert rig.stop() == 0


def test_native_verp_recipients_of_one_domain_go_at_once(rig):
    rig.control("concurrencyremote", b"30\n")
    rig.control("destinations.now", NO_LIMIT)
    rig.inject(b"list-@x-@[]", [b"u%d@far.example" % i for i in range(20)])
    natively(rig, remote=rig.native(lambda recipient: None))
    rig.remote.ordered(20)
    rig.log.wait(b"status: local 0/10 remote 20/30")
    rig.remote.release()
    assert rig.stop() == 0
    assert rig.remote.delivers and all(len(some) == 1 for some in rig.remote.delivers)


def test_native_a_route_to_an_address_waits_for_no_question(rig):
    """Three thousand domains whose name servers are silent; the resolver answers nothing at all."""
    rig.control("smtproutes", b"far.example:[127.0.0.1]:2525\n")
    for part in range(3):
        rig.inject(b"s@x", [b"u@dead%d.example" % i for i in range(1000 * part, 1000 * part + 1000)])
    natively(rig, answer=lambda name: None)
    rig.log.wait_some(b"info msg")
    number = rig.inject(b"s@x", [b"u@far.example", b"v@[192.0.2.9]"])
    rig.gone(number)
    assert rig.stop() == 0


def test_native_what_cannot_be_looked_up_here_is_looked_up_again(rig):
    os.mkdir(f"{rig.home.control}/smtproutes")
    number = rig.inject(b"s@x", [b"u@far.example"])
    natively(rig)
    rig.log.wait(b"warning: unable to look up hosts: is a directory; trying again")
    os.rmdir(f"{rig.home.control}/smtproutes")
    rig.gone(number)
    assert rig.stop() == 0 and not [line for line in lines(rig) if "deferral" in line]


def test_native_nonsense_from_a_session_process(rig):
    rig.start(
        local=rig.native(lambda recipient: b"Kok\n"),
        remote=rig.native(lambda recipient: b"Kok\n"),
        resolver=rig.resolver(lambda name: (resolve_wire.HOSTS_FOUND, FOUND)),
        options=["--native"],
    )
    rig.log.wait(b"status: local 0/10 remote 0/20")
    rig.remote.say(native_dialect.pack(native_dialect.CLOSED, 99, b"h\0a\0"))
    assert rig.wait() == 0
    assert "alert: oh no! lost spawn connection! dying..." in lines(rig)


def test_native_one_of_two_session_processes_is_lost(rig):
    """Only what it had under way is deferred, and the other one goes on."""
    more = rig.native(lambda recipient: None, 1000)
    number = rig.inject(b"s@x", [b"u@d%d.example" % i for i in range(4)])
    natively(rig, remote=rig.native(lambda recipient: None), answer=found_at, more=[more])
    rig.remote.ordered(2)
    more.ordered(2)
    more.lose()
    until(lambda: sum(": deferral: " in line for line in lines(rig)) == 2)
    rig.remote.answer = lambda recipient: b"Kok\n"
    rig.remote.release()
    rig.gone(rig.inject(b"s@x", [b"u@d9.example"]))
    rig.signal(signal.SIGALRM)
    rig.gone(number)
    assert rig.stop() == 0
    assert "warning: lost a session process: what it had under way is delivered again" in lines(rig)


def test_native_the_last_session_process_is_lost(rig):
    natively(rig)
    rig.log.wait(b"status: local 0/10 remote 0/20")
    rig.remote.lose()
    assert rig.wait() == 0
    assert "alert: oh no! lost spawn connection! dying..." in lines(rig)


@needs_system_calls
def test_idle_does_not_wake_up(rig):
    """Not for a day's worth of looks: the sweep of the queue is what it waits for."""
    rig.start()
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    rig.log.wait_some(b"end msg")
    until(lambda: (wait_ms(rig.pid) or 0) > 60_000)
    assert rig.stop() == 0
