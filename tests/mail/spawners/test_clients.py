"""What the queue manager's clients of spawners make of the bytes that come: over real pipes."""

import errno
import os

import pytest

from pyqmail.mail.destinations import outcome as stages
from pyqmail.mail.destinations.orders import Opening
from pyqmail.mail.spawners.native_client import NativeLocal, NativeRemote
from pyqmail.mail.spawners.stock_client import StockSpawner
from pyqmail.protocol.wires import native_dialect as wire
from pyqmail.protocol.wires import stock_dialect
from pyqmail.system.loop import Loop

REPORT = b"D192.0.2.1 does not like recipient.\nRemote host said: 550 5.1.1 no\nGiving up on 192.0.2.1.\n"
SILENT = b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
REFUSED = b"ZConnected to 192.0.2.1 but greeting failed.\nRemote host said: 554 5.7.1 no\n"


OPENING = Opening(b"mx.x", b"192.0.2.1", connect_seconds=1, greeting_seconds=1, reply_seconds=1)


class Heard:
    """Keeps what is told."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))


class Ends:
    """A client's pipes; say() has the spawner write."""

    def __init__(self, make, hello):
        self.loop, self.heard, self.lost = Loop(), Heard(), []
        orders, write_fd = os.pipe()
        read_fd, self._reports = os.pipe()
        self._fds = [orders, write_fd, read_fd, self._reports]
        self.client = make(self.loop, write_fd, read_fd)
        os.write(self._reports, hello)
        assert self.client.greet()
        self.client.listen(self.heard, lambda: self.lost.append(True))

    def say(self, data):
        os.write(self._reports, data)
        return self.turn()

    def hang_up(self):
        os.close(self._reports)

    def turn(self):
        self.loop.turn(1)
        calls, self.heard.calls = self.heard.calls, []
        return calls

    def close(self):
        self.client.close()
        for fd in self._fds:
            try:
                os.close(fd)
            except OSError:
                pass  # the client's own


@pytest.fixture
def make():
    made = []

    def make(*arguments):
        made.append(Ends(*arguments))
        return made[-1]

    yield make
    for ends in made:
        ends.close()


@pytest.fixture
def remote(make):
    ends = make(lambda loop, *pair: NativeRemote(loop, [pair]), wire.pack(wire.HELLO, 5))
    ends.client.open_session(1, OPENING)
    return ends


@pytest.mark.parametrize("kind, name, stage, code, report, wanted", [
    (wire.FAILED, "failed", "connect", 110, SILENT, (stages.CONNECT, 110, b"4.4.1")),
    (wire.FAILED, "failed", "connect", errno.ECANCELED, SILENT, (stages.CONNECT, errno.ECANCELED, b"4.4.1")),
    (wire.FAILED, "failed", "dialogue", 0, b"Z\n", (stages.DIALOGUE, 0, b"")),
    (wire.FAILED, "failed", "here", errno.EADDRNOTAVAIL, b"Z\n", (stages.HERE, errno.EADDRNOTAVAIL, b"")),
    (wire.REFUSED, "refused", "greeting", 554, REFUSED, (stages.GREETING, 554, b"5.7.1")),
    (wire.REFUSED, "refused", "helo", 421, b"Z\n", (stages.NAME, 421, b"")),
    (wire.REFUSED, "refused", "later", 0, b"Z\n", (stages.UNKNOWN, 0, b"")),
])  # fmt: skip
def test_an_address_that_failed_is_told_and_ends_nothing(remote, kind, name, stage, code, report, wanted):
    [(told, session, outcome)] = remote.say(wire.failure(kind, 1, stage, code, b"mx.x", b"192.0.2.1", report))
    assert (told, session, outcome.report) == (name, 1, report)
    assert (outcome.stage, outcome.code, outcome.enhanced) == wanted
    assert (outcome.host, outcome.address) == (b"mx.x", b"192.0.2.1")
    assert remote.say(wire.closed(1)) == [("closed", 1, None, 0)]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.EADDRINUSE])
def test_what_runs_out_here_is_told_first(remote, code):
    calls = remote.say(wire.failure(wire.FAILED, 1, "here", code, b"mx.x", b"192.0.2.1", b"Z\n"))
    assert [name for name, *_ in calls] == ["lacking", "failed"]


def test_a_delivery_knows_the_host_that_greeted(remote):
    assert remote.say(wire.pack(wire.WAITING, 1)) == [("waiting", 1)]
    [(name, session, host, address, limits)] = remote.say(wire.ready(1, b"mx.x", b"192.0.2.9", 10, 100, False, True))
    assert (name, session, host, address) == ("ready", 1, b"mx.x", b"192.0.2.9")
    assert (limits.messages, limits.recipients) == (10, 100)
    assert (limits.has_helo_only, limits.has_no_pipelining) == (False, True)
    [(name, slot, outcome, carried, accepted)] = remote.say(wire.result(1, 7, REPORT, 3, 5))
    assert (name, slot, carried, accepted) == ("reported", 7, 3, 5)
    assert (outcome.report, outcome.host, outcome.address) == (REPORT, b"mx.x", b"192.0.2.9")
    assert (outcome.stage, outcome.code, outcome.enhanced) == (stages.RECIPIENTS, 550, b"5.1.1")
    assert remote.say(wire.unsent(1, 8)) == [("unsent", 8)]


@pytest.mark.parametrize("stage, code, report, wanted", [
    ("sender", 452, b"ZConnected to 192.0.2.9 but sender was rejected.\nRemote host said: 452 4.5.3 enough\n",
     (stages.SENDER, 452, b"4.5.3")),
    ("dialogue", 0, b"ZConnected to 192.0.2.9 but connection died. (#4.4.2)\n", (stages.DIALOGUE, 0, b"4.4.2")),
    ("dialogue", 421, b"ZConnected to 192.0.2.9 but connection died. (#4.4.2)\nRemote host said: 421 4.3.2 idle\n",
     (stages.DIALOGUE, 421, b"4.3.2")),
    ("other", 0, b"Z\n", (stages.UNKNOWN, 0, b"")),
])  # fmt: skip
def test_why_a_session_ends(remote, stage, code, report, wanted):
    remote.say(wire.ready(1, b"mx.x", b"192.0.2.9"))
    [(name, session, outcome, carried)] = remote.say(wire.closed(1, stage, code, report, 10))
    assert (name, session, carried, outcome.host, outcome.address) == ("closed", 1, 10, b"mx.x", b"192.0.2.9")
    assert (outcome.stage, outcome.code, outcome.enhanced, outcome.letter) == (*wanted, b"Z")


def test_an_order_that_crosses_the_end_of_its_session_is_unsent(remote):
    remote.say(wire.ready(1, b"mx.x", b"192.0.2.9"))
    remote.client.deliver(1, b"0/7", b"s@x", [(4, b"a@x"), (5, b"b@x")])
    remote.client.deliver(1, b"0/7", b"s@x", [(6, b"a@x"), (7, b"b@x")])
    remote.say(wire.result(1, 4, b"Kok\n", 0, 0) + wire.unsent(1, 5))
    assert remote.say(wire.closed(1)) == [("unsent", 6), ("unsent", 7), ("closed", 1, None, 0)]
    for about in (remote.client.more, remote.client.open_session):
        about(1, OPENING)  # the number is free again; for one that is over, nothing happens
    remote.client.close_session(2)
    remote.client.deliver(2, b"0/7", b"s@x", [(8, b"a@x")])
    assert remote.say(wire.closed(1)) == [("closed", 1, None, 0)]


def test_a_session_without_room_is_told_in_the_next_turn(remote):
    for session in range(2, 7):
        remote.client.open_session(session, OPENING)
    assert remote.heard.calls == []
    assert remote.say(wire.pack(wire.WAITING, 1)) == [("lacking",), ("closed", 6, None), ("waiting", 1)]


NONSENSE = [wire.result(2, 7, REPORT, 0, 0), wire.pack(99, 1), wire.pack(wire.HELLO, 1), b"no frame of this wire", b""]


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_process_that_is_lost_takes_its_own_sessions_along(make, nonsense):
    pairs = []

    def start(loop, *pair):
        pairs.append(os.pipe() + os.pipe())
        orders, write_fd, read_fd, reports = pairs[0]
        os.write(reports, wire.pack(wire.HELLO, 5))
        return NativeRemote(loop, [pair, (write_fd, read_fd)])

    ends = make(start, wire.pack(wire.HELLO, 5))
    for session in (1, 2, 3, 4):
        ends.client.open_session(session, OPENING)
    if nonsense:
        assert ends.say(nonsense) == [("lost_process", [1, 3], False)]
    else:
        ends.hang_up()
        assert ends.turn() == [("lost_process", [1, 3], False)]
    assert ends.lost == [] and ends.client.limit == 5
    ends.client.close_session(1)
    ends.client.open_session(5, OPENING)
    orders, _, _, reports = pairs[0]
    os.write(reports, wire.closed(2) + wire.closed(5))
    assert ends.turn() == [("closed", 2, None, 0), ("closed", 5, None, 0)]
    os.close(reports)
    assert ends.turn() == [("lost_process", [4], False)]
    assert ends.lost == [True] and ends.client.limit == 0
    os.close(orders)


def test_a_local_delivery(make):
    local = make(NativeLocal, wire.pack(wire.HELLO, 5))
    [(name, slot, outcome)] = local.say(wire.result(3, 3, REPORT))
    assert (name, slot, outcome.stage, outcome.code, local.client.limit) == ("reported", 3, stages.LOCAL, 0, 5)


@pytest.mark.parametrize("stage, wanted", [("", stages.RECIPIENTS), (stages.LOCAL, stages.LOCAL)])
def test_the_stock_dialect(make, stage, wanted):
    width = stock_dialect.NARROW
    ends = make(lambda loop, *pair: StockSpawner(loop, *pair, width, None, stage), stock_dialect.hello(5, width))
    [(name, slot, outcome)] = ends.say(stock_dialect.report(4, REPORT, width))
    assert (name, slot, outcome.report, outcome.stage, ends.client.limit) == ("reported", 4, REPORT, wanted, 5)
