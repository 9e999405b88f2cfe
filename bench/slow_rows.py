"""Peers that hold each delivery for seconds, thousands at once: messages a second, and what a delivery in flight costs.

The peers are processes of bench/servers, which share the connections.  Their work is a figure of its own, since they
have the same processors as what is measured.
"""

import time

from bench.machine import memory_kb, session_pids, until
from bench.networked import networked
from bench.servers.staged import Staged
from bench.staged_rows import filled, host, staged
from bench.systems import OursInNetwork, Postfix, Postfix300

PROCESSES = 6  # of the peers
GIVEN_UP = 900.0
POSTFIX_SHARE = 10  # Postfix gets one message in so many: its rate does not depend on how many there are
RELAY = "198.18.0.1"


class OursToRelay(OursInNetwork):
    """With as many sessions for each destination as in all."""

    places = 5000
    rules = ":c=5000,i=5000,n=1000,k=1000000/m~100000,c=20000/net,learn=no\n"


class OursToLargeRelay(OursToRelay):
    places = 22300
    rules = ":c=20000,i=20000,n=1000,k=1000000/m~100000,c=20000/net,learn=no\n"
    options = ("--sessions", "3")


class OursToMany(OursInNetwork):
    """Under the defaults; a tenth of the places is for those that have no session."""

    places = 22300
    options = ("--sessions", "3")


def one_second(folder, scale):
    """Messages a second through peers that take a second for each, 5,000 at once."""
    return _slow(folder, int(20000 * scale), 1.0, OursToRelay)


def five_seconds(folder, scale):
    """Messages a second through peers that take five seconds for each, 20,000 at once."""
    return _slow(folder, int(60000 * scale), 5.0, OursToLargeRelay)


def _slow(folder, count, seconds, ours):
    figures, more, before = {}, {}, _idle_memory(ours, folder)
    for make, share in ((ours, 1), (Postfix300, POSTFIX_SHARE)):
        peers = Peers(seconds, [[RELAY]] * PROCESSES, is_shared=True)
        recipients = [f"u{n}@{host(RELAY, 'd')}" for n in range(count // share)]
        system = filled(make, folder, recipients)
        try:
            began = time.monotonic()
            system.deliver()
            most = _watch(system, peers, len(recipients), before)
            figures[system.name] = len(recipients) / (time.monotonic() - began)
            if make is ours:
                more = {**most, "CPU of the peers %": 100 * peers.cpu_seconds() / (time.monotonic() - began)}
        finally:
            system.stop()
            peers.close()
    return figures | more


def hold_many(folder, scale):
    """Sessions at once to 2,000 destinations in networks of their own, under the defaults; each at most ten."""
    sites = int(2000 * scale)
    addresses = [f"10.{n >> 8}.{n & 255}.1" for n in range(sites)]
    peers = Peers(20.0, [addresses[n::PROCESSES] for n in range(PROCESSES)], is_shared=False)
    recipients = [f"u{n}@{host(address, 'd')}" for n in range(40) for address in addresses]
    before = _idle_memory(OursToMany, folder)
    system = filled(OursToMany, folder, recipients, each=100)
    try:
        system.deliver()
        most = _watch(system, peers, len(recipients), before, 10 * sites)
        return {**most, "most at one": max(counts["most"] for counts in peers.counts())}
    finally:
        system.stop()
        peers.close()


class Peers:
    """Processes that take `seconds` for each message, each at its own addresses or all at the same ones."""

    def __init__(self, seconds, addresses, is_shared):
        first, *others = (f"takes-all each seconds={seconds} {' '.join(some)}" for some in addresses)
        self._processes = [staged(first, is_shared=is_shared)]
        self._processes += [Staged(line, port=25, is_shared=is_shared) for line in others]

    def counts(self):
        return [counts for process in self._processes for counts in process.counts().values()]

    def cpu_seconds(self):
        return sum(process.cpu_seconds() for process in self._processes)

    def close(self):
        for process in self._processes:
            process.close()


def _watch(system, peers, count, before, enough=1 << 30):
    """Wait until all is delivered, or so many sessions are there; return their maximum, and what each cost then."""
    most, memory_each, deadline = 0, 0.0, time.monotonic() + GIVEN_UP
    while time.monotonic() < deadline:
        counts = peers.counts()
        now = sum(one["now"] for one in counts)
        if now > most * 1.05:
            most, memory_each = now, (_memory(system) - before) / now
        if most >= enough:
            break
        if sum(one["messages"] for one in counts) >= count:
            until(lambda: system.queued() == 0, 60.0)
            break
        time.sleep(0.2)
    return {"sessions at once": most, "KB each": memory_each}


def _idle_memory(make, folder):
    """Return KB of a system of ours that has nothing to do."""
    system = make(folder)
    try:
        system.deliver()
        until(lambda: b"status: local 0" in open(system.log, "rb").read())  # noqa: SIM115
        return _memory(system)
    finally:
        system.stop()


def _memory(system):
    """Return KB of all that belongs to a system that is ours; 0 for another."""
    if isinstance(system, Postfix) or not hasattr(system, "sender"):
        return 0
    return memory_kb(session_pids(system.sender.pid))


SLOW_ROWS = {
    "slow-peers-1s": (networked(one_second), ">= 6 x Postfix with 300"),
    "slow-peers-5s": (networked(five_seconds), ">= 2000, 20 KB each"),
    "slow-peers-many": (networked(hold_many), "20000, 10 at one"),
}
