"""What the queue manager's clients of spawners make of the bytes that come: over real pipes."""

import os

import pytest

from pyqmail.mail.destinations import outcome as stages
from pyqmail.mail.spawners.native_client import NativeLocal, NativeRemote
from pyqmail.mail.spawners.stock_client import StockSpawner
from pyqmail.protocol.wires import native_dialect as wire
from pyqmail.protocol.wires import stock_dialect
from pyqmail.protocol.wires.frames import strings
from pyqmail.system.loop import Loop

REPORT = b"D192.0.2.1 does not like recipient.\nRemote host said: 550 5.1.1 no\nGiving up on 192.0.2.1.\n"
SILENT = b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
REFUSED = b"ZConnected to 192.0.2.1 but greeting failed.\nRemote host said: 554 5.7.1 no\n"


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
    ends.client.open_session(1, b"x", [(b"mx.x", b"192.0.2.1", 25)])
    return ends


@pytest.mark.parametrize("kind, stage, code, report, wanted", [
    (wire.FAILED, b"connect", b"110", SILENT, (stages.CONNECT, 110, b"4.4.1")),
    (wire.FAILED, b"dialogue", b"0", b"Z\n", (stages.DIALOGUE, 0, b"")),
    (wire.REFUSED, b"greeting", b"554", REFUSED, (stages.GREETING, 554, b"5.7.1")),
    (wire.REFUSED, b"helo", b"421", b"Z\n", (stages.NAME, 421, b"")),
    (wire.REFUSED, b"later", b"x", b"Z\n", (stages.UNKNOWN, 0, b"")),
])  # fmt: skip
def test_a_session_that_was_not_opened(remote, kind, stage, code, report, wanted):
    [(name, session, outcome)] = remote.say(wire.pack(kind, 1, strings(stage, code, b"mx.x", b"192.0.2.1", report)))
    assert (name, session, outcome.report) == ("failed", 1, report)
    assert (outcome.stage, outcome.code, outcome.enhanced) == wanted
    assert (outcome.host, outcome.address) == (b"mx.x", b"192.0.2.1")
    assert remote.say(wire.pack(wire.CLOSED, 1, strings(b"mx.x", b"192.0.2.1"))) == [("closed", 1)]


def test_a_delivery_knows_the_host_that_greeted(remote):
    assert remote.say(wire.pack(wire.READY, 1, strings(b"mx.x", b"192.0.2.9"))) == [("ready", 1, b"192.0.2.9")]
    [(name, slot, outcome)] = remote.say(wire.result(1, 7, REPORT))
    assert (name, slot, outcome.report, outcome.host, outcome.address) == ("reported", 7, REPORT, b"mx.x", b"192.0.2.9")
    assert (outcome.stage, outcome.code, outcome.enhanced) == (stages.RECIPIENTS, 550, b"5.1.1")
    assert remote.say(wire.pack(wire.UNSENT, 1, strings(b"8"))) == [("unsent", 8)]


def test_a_session_that_is_not_there_is_a_lost_spawner(remote):
    assert remote.say(wire.result(2, 7, REPORT)) == [] and remote.lost == [True]


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
