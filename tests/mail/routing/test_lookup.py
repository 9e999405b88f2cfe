"""Which domains ask a name server, and how often; with real pipes in place of the resolver process."""

import os
import time

import pytest

from pyqmail.mail.routing.exchangers import BEST_IS_ME, NO_EXCHANGER, NULL_MX
from pyqmail.mail.routing.lookup import NO_ANSWER, DomainLookup
from pyqmail.protocol.wires import resolve_wire
from pyqmail.system.controls import Controls
from pyqmail.system.loop import Loop
from tests.waiting import turn_until


class Channel:
    """What the queue manager's channel is told."""

    def __init__(self):
        self.told = []

    def resolved(self, domain, hosts):
        assert not hosts.is_stale
        self.told.append((domain, hosts.hosts, hosts.port, hosts.route))

    def nowhere(self, domain, report):
        self.told.append((domain, report))

    def trouble(self, domain, reason):
        self.told.append((domain, "trouble", reason))


class Setting:
    def __init__(self, home):
        self.loop, self.channel, self.lines = Loop(), Channel(), []
        self._questions, write_fd = os.pipe()
        read_fd, self._answers = os.pipe()
        self._unpacker = resolve_wire.Unpacker()
        self.own = lambda: {b"127.0.0.1"}
        arguments = write_fd, read_fd, Controls(home.control), lambda: self.own(), time.monotonic
        self.resolving = DomainLookup(self.loop, *arguments, self.lines.append)
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
        (b"far.example", None),
        (b"to-itself", (b"to-itself", b"", b"")),
        (b"to-address", (b"to-address", b"", b"192.0.2.7:2525")),
        (b"a.to-relay", (b".to-relay", b"relay.example", b"relay.example:25")),
        (b"[192.0.2.9]", None),
    ],
)
def test_routes(setting, domain, wanted):
    assert setting.resolving.route_of(domain) == wanted


def test_a_route_to_an_address_and_a_literal_are_answered_at_once(setting):
    for domain in (b"to-address", b"[192.0.2.9]"):
        setting.resolving.resolve(domain, setting.channel)
    assert setting.asked() == []
    assert setting.channel.told == [
        (b"to-address", [(0, b"192.0.2.7", [b"192.0.2.7"])], 2525, b"192.0.2.7"),
        (b"[192.0.2.9]", [(0, b"192.0.2.9", [b"192.0.2.9"])], 25, b""),
    ]


def test_a_relay_is_asked_about_once_for_all_its_domains(setting):
    domains = [b"d%d.to-relay" % i for i in range(100)]
    for domain in domains:
        setting.resolving.resolve(domain, setting.channel)
    [(kind, number, name)] = setting.asked()
    assert (kind, name) == (resolve_wire.RELAY, b"Relay.example")
    found = [(0, b"Relay.example", b"192.0.2.5")]
    setting.answer(resolve_wire.HOSTS_FOUND, number, resolve_wire.hosts_body(300, False, found))
    hosts = [(0, b"relay.example", [b"192.0.2.5"])]
    assert setting.channel.told == [(domain, hosts, 25, b"relay.example") for domain in domains]
    setting.resolving.resolve(domains[0], setting.channel)
    assert len(setting.asked()) == 1  # the answer was for those who had asked


def test_what_fails_here_is_no_answer_about_a_domain(setting):
    own = setting.own

    def no_descriptor():
        raise OSError(24, "EMFILE")

    setting.own = no_descriptor
    for domain in (b"to-address", b"[192.0.2.9]"):
        setting.resolving.resolve(domain, setting.channel)
    assert [told[0] for told in setting.channel.told] == [b"to-address"]  # nothing to compare with
    assert setting.lines == [b"warning: unable to look up hosts: process cannot open more files; trying again"]
    setting.own = own
    turn_until(setting.loop, lambda: len(setting.channel.told) >= 2)
    assert setting.channel.told[1][0] == b"[192.0.2.9]" and len(setting.lines) == 1


@pytest.mark.parametrize(
    "kind, body, told",
    [
        (resolve_wire.SOFT, b"timed out\0", ("trouble", b"timed out")),
        (resolve_wire.UNABLE, b"out of memory\0", ("trouble", b"out of memory")),
        (resolve_wire.HOSTS_FOUND, b"nonsense", ("trouble", NO_ANSWER)),
        (resolve_wire.NO_HOST, b"", (b"DSorry, I couldn't find any host named far.example. (#5.1.2)\n",)),
        (resolve_wire.NO_RECORD, b"", (NO_EXCHANGER,)),
        (resolve_wire.NO_MAIL, b"", (NULL_MX,)),
        (resolve_wire.HOSTS_FOUND, resolve_wire.hosts_body(60, False, [(1, b"me", b"127.0.0.1")]), (BEST_IS_ME,)),
    ],
)
def test_only_an_answer_says_something_about_a_domain(setting, kind, body, told):
    setting.resolving.resolve(b"far.example", setting.channel)
    [(question, number, _)] = setting.asked()
    setting.answer(kind, number, body)
    assert question == resolve_wire.HOSTS and setting.channel.told == [(b"far.example", *told)]
