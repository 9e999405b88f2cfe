"""Which domains ask a name server, and how often; with real pipes in place of the resolver process."""

import errno
import os
import time

import pytest

from pyqmail.mail.routing.lookup import DomainLookup
from pyqmail.protocol.wires import resolve_wire
from pyqmail.system.controls import Controls
from pyqmail.system.loop import Loop
from tests.waiting import turn_until


class Channel:
    """What the queue manager's channel is told."""

    def __init__(self):
        self.told = []

    def resolved(self, domain, candidates):
        self.told.append((domain, candidates))

    def unroutable(self, domain, report):
        self.told.append((domain, report))


class Setting:
    def __init__(self, home, starter=None):
        self.loop, self.channel, self.lines = Loop(), Channel(), []
        self._questions, write_fd = os.pipe()
        read_fd, self._answers = os.pipe()
        self._unpacker = resolve_wire.Unpacker()
        self.own = lambda: {b"127.0.0.1"}
        arguments = write_fd, read_fd, Controls(home.control), lambda: self.own(), time.monotonic
        self.resolving = DomainLookup(self.loop, *arguments, self.lines.append, starter)
        self.resolving.listen(None)

    def asked(self):
        """Return (kind, number, name) of the questions that were asked until now."""
        self.loop.turn(0)
        os.set_blocking(self._questions, False)
        try:
            data = os.read(self._questions, 65536)
        except BlockingIOError:
            return []
        return [(kind, number, body[:-1]) for kind, number, body in self._unpacker.receive(data)]

    def answer(self, kind, number, body=b""):
        os.write(self._answers, resolve_wire.pack(kind, number, body))
        self.loop.turn(1)

    def lose(self):
        """End the resolver."""
        os.close(self._answers)
        self._answers = None

    def close(self):
        self.resolving.close()
        os.close(self._questions)
        if self._answers is not None:
            os.close(self._answers)


class NoStarter:
    """Starts no resolver, for want of descriptors."""

    def start(self, got, lost):
        got(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))


def test_why_no_resolver_can_be_started_is_in_the_log(home):
    setting = Setting(home, NoStarter())
    setting.lose()
    while len(setting.lines) < 2:
        setting.loop.turn(10)
    assert setting.lines == [
        b"warning: lost pyresolve; starting it again in 1 seconds",
        b"warning: unable to start pyresolve: process cannot open more files; starting it again in 2 seconds",
    ]
    setting.close()


@pytest.fixture
def setting(home):
    with open(f"{home.control}/smtproutes", "wb") as file:
        file.write(b"to-address:192.0.2.7:2525\n.to-relay:Relay.example\nto-itself:\n")
    one = Setting(home)
    yield one
    one.close()


@pytest.mark.parametrize(
    "domain, wanted",
    [
        (b"far.example", (True, b"far.example", b"far.example")),
        (b"to-itself", (True, b"to-itself", b"to-itself")),
        (b"to-address", (False, b"192.0.2.7:2525", b"")),
        (b"a.to-relay", (False, b"Relay.example:25", b"relay.example")),
        (b"[192.0.2.9]", (False, b"[192.0.2.9]", b"")),
        (b"[IPv6:2001:db8::1]", (False, b"[IPv6:2001:db8::1]", b"")),
    ],
)
def test_plans(setting, domain, wanted):
    assert setting.resolving.plan_of(domain) == wanted


def test_a_route_to_an_address_and_a_literal_are_answered_at_once(setting):
    for domain in (b"to-address", b"[192.0.2.9]"):
        setting.resolving.resolve(domain, setting.channel)
    assert setting.asked() == []
    assert setting.channel.told == [
        (b"to-address", [(b"192.0.2.7", b"192.0.2.7", 2525)]),
        (b"[192.0.2.9]", [(b"192.0.2.9", b"192.0.2.9", 25)]),
    ]


def test_a_relay_is_asked_about_once_for_all_its_domains(setting):
    domains = [b"d%d.to-relay" % i for i in range(100)]
    for domain in domains:
        setting.resolving.resolve(domain, setting.channel)
    [(kind, number, name)] = setting.asked()
    assert (kind, name) == (resolve_wire.ADDRESSES, b"Relay.example")
    setting.answer(resolve_wire.FOUND, number, b"192.0.2.5\0")
    assert setting.channel.told == [(domain, [(b"Relay.example", b"192.0.2.5", 25)]) for domain in domains]
    setting.resolving.resolve(domains[0], setting.channel)
    assert len(setting.asked()) == 1  # the answer was for those who had asked


def test_what_fails_here_is_no_answer_about_a_domain(setting):
    own = setting.own

    def no_descriptor():
        raise OSError(24, "EMFILE")

    setting.own = no_descriptor
    for domain in (b"to-address", b"[192.0.2.9]"):
        setting.resolving.resolve(domain, setting.channel)
    assert [domain for domain, _ in setting.channel.told] == [b"to-address"]  # nothing to compare with
    assert setting.lines == [b"warning: unable to look up hosts: process cannot open more files; trying again"]
    setting.own = own
    turn_until(setting.loop, lambda: len(setting.channel.told) >= 2)
    assert setting.channel.told[1] == (b"[192.0.2.9]", [(b"192.0.2.9", b"192.0.2.9", 25)]) and len(setting.lines) == 1
