"""Names of clients, by a resolver in this process and by one of its own: real pyresolve, real name server."""

import os
import resource
import socket
import subprocess
import sys
import threading

import pytest

from pyqmail.system import resolver
from pyqmail.system.driver import BlockingDriver, EventDriver, drive
from pyqmail.system.loop import Loop
from pyqmail.tcp.access.client_names import BlockingNames, ChannelNames, Unable, ask_ident, find_name
from pyqmail.tcp.access.decide import ConnectionPolicy, Drop, _found

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
A, PTR, AAAA = 1, 12, 28


def blocking(environ, ip, is_paranoid):
    names = BlockingNames(Here(environ))
    return drive(find_name(names, ip, is_paranoid))


class Here:
    """system/resolver.py with servers of our own."""

    Soft, Lack, TooManyRecords = resolver.Soft, resolver.Lack, resolver.TooManyRecords

    def __init__(self, environ):
        self._environ = environ

    def name_of(self, ip):
        return resolver.name_of(ip, self._environ, (2,))

    def addresses_of(self, host, kinds):
        return resolver.addresses_of(host, self._environ, (2,), kinds)


def by_channel(environ, ip, is_paranoid):
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, f"{ROOT}/bin/pyresolve"],
        stdin=theirs,
        stdout=theirs,
        env={**os.environ, **{os.fsdecode(k): os.fsdecode(v) for k, v in environ.items()}},
    )
    theirs.close()
    loop, found = Loop(), []
    names = ChannelNames(loop)
    names.use(ours)

    async def ask():
        found.append(await find_name(names, ip, is_paranoid))
        loop.stop()

    loop.start(ask())
    loop.run()
    ours.close()
    process.wait(timeout=20)
    return found[0]


@pytest.fixture(params=[blocking, by_channel])
def find(request, name_server):
    return lambda ip, is_paranoid: request.param(name_server.environ(), ip, is_paranoid)


CLIENTS = [
    # client, its name without -p, with -p
    (b"127.0.0.1", b"both.test", b"both.test"),
    (b"::1", b"both.test", b"both.test"),  # its name has an A record, too
    (b"127.0.0.2", b"both.test", None),
    (b"::2", b"both.test", None),
    (b"::3", b"six.test", b"six.test"),
    (b"127.0.0.3", b"six.test", None),
    (b"127.0.0.4", None, None),
    (b"::4", b"gone.test", None),
]


@pytest.mark.parametrize("ip, name, sure_name", CLIENTS)
def test_a_name_is_confirmed_by_an_address_of_the_clients_own_kind(find, name_server, ip, name, sure_name):
    for word, host in ((b"1", b"both"), (b"2", b"both"), (b"3", b"six"), (b"4", b"gone")):
        if word != b"4":
            name_server.zone[word + b".0.0.127.in-addr.arpa", PTR] = [name_server.name(host + b".test")]
        name_server.zone[word + b"." + b"0." * 31 + b"ip6.arpa", PTR] = [name_server.name(host + b".test")]
    name_server.zone[b"both.test", A] = [b"\x7f\0\0\1"]
    name_server.zone[b"both.test", AAAA] = [bytes(15) + b"\1"]
    name_server.zone[b"six.test", AAAA] = [bytes(15) + b"\3"]
    assert find(ip, False) == name
    assert find(ip, True) == sure_name


def test_a_name_that_has_very_many_addresses_is_confirmed(find, name_server):
    name_server.zone |= {
        (b"1.0.0.127.in-addr.arpa", PTR): [name_server.name(b"many.test"), *[name_server.name(b"x.test")] * 50],
        b"many.test": "cut",
        (b"many.test", A): [number.to_bytes(4, "big") for number in range(3000)] + [b"\x7f\0\0\1"],
    }
    assert find(b"127.0.0.1", True) == b"many.test"


def test_a_name_that_may_come_later_is_none(find, name_server):
    name_server.zone[b"1.0.0.127.in-addr.arpa"] = "servfail"
    assert find(b"127.0.0.1", False) is None


async def unable():
    raise Unable("out of memory")


def test_only_rules_make_a_look_up_that_could_not_be_made_matter():
    assert drive(_found(None, unable())) is None
    with pytest.raises(Drop, match="^unable to look up the client: out of memory$"):
        drive(_found(ConnectionPolicy(rules=object()).rules, unable()))


def test_without_a_resolver_nothing_is_known_and_nothing_unknown():
    with pytest.raises(Unable, match="^no resolver$"):
        drive(find_name(ChannelNames(Loop()), b"127.0.0.1", False))


def test_without_a_descriptor_neither_name_nor_ident_server_was_asked(name_server):
    assert blocking(name_server.environ(), b"127.0.0.1", False) is None
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open("/dev/null", os.O_RDONLY)
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))
        os.close(spare)
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        with pytest.raises(Unable, match="^process cannot open more files$"):
            blocking(name_server.environ(), b"127.0.0.1", False)
        with pytest.raises(Unable, match="^process cannot open more files$"):
            drive(ask_ident(BlockingDriver(), (b"127.0.0.1", b"1", b"127.0.0.1", b"2"), 5))
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def in_a_loop(ask):
    loop, found = Loop(), []

    async def work():
        found.append(await ask(EventDriver(loop)))
        loop.stop()

    loop.start(work())
    loop.run()
    return found[0]


def alone(ask):
    return drive(ask(BlockingDriver()))


@pytest.mark.parametrize("way", [alone, in_a_loop])
@pytest.mark.parametrize("endless", [b" " * 65536, b"1,2,USERID" * 4096])
def test_an_ident_server_that_never_stops_talking_is_left(way, endless):
    sent = []

    def talk(listener):
        with listener.accept()[0] as sock:
            try:
                while len(sent) < 10000:
                    sock.sendall(endless)
                    sent.append(1)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        talking = threading.Thread(target=talk, args=(listener,))
        talking.start()
        ends = b"127.0.0.1", b"1", b"127.0.0.1", b"2"
        assert way(lambda driver: ask_ident(driver, ends, 600, listener.getsockname()[1])) is None
        talking.join()
    assert len(sent) < 1000
