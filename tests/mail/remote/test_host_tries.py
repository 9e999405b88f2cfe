"""Which host is taken, and what a failed try means; servers are scripts."""

import errno

import pytest

from pyqmail.mail.remote.habits import KnownServers
from pyqmail.mail.remote.host_tries import CONNECT, DIALOGUE, HERE, ClientSettings, HostTries
from pyqmail.mail.routing.exchangers import NO_CONNECTION
from pyqmail.protocol.smtp.report import GREETING, NAME, NO_RESOURCES, died, refused
from pyqmail.system.coroutines import TimedOut
from pyqmail.system.driver import CannotBind, drive

SETTINGS = ClientSettings(b"h.example", 7, 8, 9)


class ScriptedPeer:
    """Says one reply for each flush, then has closed."""

    timeout_seconds = None

    def __init__(self, replies):
        self._replies, self.said, self.is_closed = list(replies), b"", False

    def put(self, data):
        self.said += data

    async def flush(self):
        pass

    async def read(self):
        return self._replies.pop(0) if self._replies else b""

    def has_input(self):
        return False

    def close(self):
        self.is_closed = True


class ScriptedDriver:
    """servers: address -> replies, or what connecting raises; one after the other, if it is a tuple of these."""

    def __init__(self, servers):
        self._servers, self.tried, self.peers = servers, [], []

    async def connect(self, where, seconds, source=None):
        assert seconds == SETTINGS.connect_seconds
        self.tried.append(where)
        answer = self._servers[where[0]]
        if isinstance(answer, tuple):
            answer = answer[len(self.tried) - 1]
        if isinstance(answer, Exception):
            raise answer
        self.peers.append(ScriptedPeer(answer))
        return self.peers[-1]


class Memory:
    """What tcpto remembers."""

    def __init__(self, *dead):
        self._dead, self.noted = dead, []

    def is_dead(self, address, now):
        return address in self._dead

    def note(self, address, timed_out, now):
        self.noted.append((address, timed_out))


GOOD = [b"220 x\r\n", b"250 x\r\n"]
A, B = b"192.0.2.1", b"192.0.2.2"
HOSTS = [(b"a.example", A, 25), (b"b.example", B, 2525)]


def open_one_of(first, second=GOOD, memory=None, **options):
    driver = ScriptedDriver({A.decode(): first, B.decode(): second})
    tries = HostTries(driver, KnownServers(), memory)
    return driver, drive(tries.open_one_of(HOSTS, SETTINGS, **options))


FAILURES = [
    # the server                              stage, code, report
    (TimedOut(), (CONNECT, errno.ETIMEDOUT, NO_CONNECTION)),
    (ConnectionRefusedError(errno.ECONNREFUSED, "x"), (CONNECT, errno.ECONNREFUSED, NO_CONNECTION)),
    (OSError(errno.EMFILE, "x"), (HERE, errno.EMFILE, NO_RESOURCES)),
    (OSError(errno.EADDRNOTAVAIL, "no port is left"), (HERE, errno.EADDRINUSE, NO_CONNECTION)),
    (CannotBind(errno.EADDRNOTAVAIL, "x"), (HERE, errno.EADDRNOTAVAIL, NO_CONNECTION)),
    ([], (DIALOGUE, 0, died(A, False))),
    ([b"554 no\r\n"], (GREETING, 554, refused(GREETING, A, 554, b"554 no\n"))),
    ([b"220 x\r\n", b"550 no\r\n", b"550 no\r\n"], (NAME, 550, refused(NAME, A, 550, b"550 no\n"))),
]


SECOND_TRIES = [
    # what connecting for HELO raises          stage, code, report
    (TimedOut(), (DIALOGUE, 0, died(A, False))),
    (OSError(errno.EMFILE, "x"), (HERE, errno.EMFILE, NO_RESOURCES)),
]


@pytest.mark.parametrize("error, wanted", SECOND_TRIES)
def test_a_server_that_hung_up_at_ehlo_is_not_to_blame_for_what_is_lacking_here(error, wanted):
    driver, tried = open_one_of(([b"220 x\r\n"], error), is_end=lambda tried: True)
    assert (tried.stage, tried.code, tried.report) == wanted
    assert driver.tried == [(A.decode(), 25)] * 2 and driver.peers[0].is_closed


@pytest.mark.parametrize("server, wanted", FAILURES)
def test_what_a_failed_try_means(server, wanted):
    driver, tried = open_one_of(server, is_end=lambda tried: True)
    assert (tried.stage, tried.code, tried.report) == wanted
    assert (tried.host, tried.address, tried.connection) == (b"a.example", A, None)
    assert driver.tried == [(A.decode(), 25)] and all(peer.is_closed for peer in driver.peers)


@pytest.mark.parametrize("server", [server for server, _ in FAILURES])
def test_the_next_host_is_tried(server):
    driver, tried = open_one_of(server)
    assert (tried.host, tried.port, tried.connection.address) == (b"b.example", 2525, B)
    assert not driver.peers[-1].is_closed and driver.peers[-1].timeout_seconds == SETTINGS.talk_seconds


def test_an_address_of_ipv6_that_none_of_ours_reaches_is_no_lack_of_ports():
    driver = ScriptedDriver({"2001:db8::1": OSError(errno.EADDRNOTAVAIL, "x")})
    tried = drive(HostTries(driver, KnownServers()).open(b"six.example", b"2001:db8::1", 25, SETTINGS))
    assert (tried.stage, tried.code) == (CONNECT, errno.EADDRNOTAVAIL)


@pytest.mark.parametrize("server, has_greeted", [(GOOD, 1), ([b"220 x\r\n"], 1), ([b"554 no\r\n"], 0), ([], 0)])
def test_a_greeting_is_told_before_our_name(server, has_greeted):
    driver, told = ScriptedDriver({A.decode(): (server, TimedOut())}), []

    def greeted():
        told.append(driver.peers[-1].said)

    drive(HostTries(driver, KnownServers()).open_if_welcome(b"a.example", A, 25, SETTINGS, greeted))
    assert told == [b""] * has_greeted


def test_one_that_refuses_is_the_callers_to_part_from():
    driver = ScriptedDriver({A.decode(): REFUSED})
    tried = drive(HostTries(driver, KnownServers()).open_if_welcome(b"a.example", A, 25, SETTINGS))
    assert tried.refusing.peer is driver.peers[0] and not driver.peers[0].is_closed and not driver.peers[0].said
    drive(tried.refusing.part())
    assert driver.peers[0].said == b"QUIT\r\n"


REFUSED = [b"554 no\r\n"]


@pytest.mark.parametrize(
    "first, second, host",
    [(TimedOut(), [], b"a.example"), (TimedOut(), REFUSED, b"b.example"), (REFUSED, TimedOut(), b"a.example")],
)
def test_of_several_failures_the_first_counts_but_before_it_what_a_server_said(first, second, host):
    assert open_one_of(first, second)[1].host == host


def test_an_address_that_timed_out_lately_is_passed_over():
    memory = Memory(A)
    driver, tried = open_one_of(GOOD, memory=memory)
    assert driver.tried == [(B.decode(), 2525)] and tried.connection is not None
    assert memory.noted == [(B, False)]
    assert open_one_of(GOOD, memory=Memory(A, B))[1] is None


@pytest.mark.parametrize("server, timed_out", [(TimedOut(), True), (REFUSED, False), ([], False)])
def test_what_is_remembered_of_an_address(server, timed_out):
    memory = Memory()
    open_one_of(server, memory=memory)
    assert memory.noted == [(A, timed_out), (B, False)]
