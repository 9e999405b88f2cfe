"""Where to deliver a domain's mail: smtproutes, the resolver process, the check against our own addresses.

Each look-up ends with channel.resolved(domain, candidates) or channel.unroutable(domain, report).
"""

from pyqmail.mail.remote.exchangers import SOFT_DNS, Unroutable, plan_for, settle, settle_literal
from pyqmail.mail.sending.pipe import Pipe
from pyqmail.protocol import resolve_wire

OWN_SECONDS = 60  # how long the list of our own addresses is used
NO_RESOURCES = b"ZSystem resources temporarily unavailable. (#4.3.0)\n"
NO_CONTROLS = b"ZUnable to read control files. (#4.3.0)\n"


class Resolving:
    """controls is the directory's Controls; own() returns our addresses as texts; lost() once the resolver has gone."""

    def __init__(self, loop, write_fd: int, read_fd: int, controls, own, clock, lost) -> None:
        self._controls, self._own, self._clock = controls, own, clock
        self._addresses, self._addresses_until = frozenset(), 0.0
        self._unpacker, self._number, self._open = resolve_wire.Unpacker(), 0, {}
        self._lost = lost
        self._pipe = Pipe(loop, write_fd, read_fd, self._received, lost)
        self._pipe.listen()

    def resolve(self, domain: bytes, channel) -> None:
        try:
            plan = plan_for(domain, self._controls.get("smtproutes"))
        except OSError:
            channel.unroutable(domain, NO_CONTROLS)
            return
        if plan.question is None:
            self._tell(domain, channel, lambda: settle_literal(plan, self._own_addresses()))
            return
        if b"\0" in plan.name or self._pipe.gone:
            channel.unroutable(domain, SOFT_DNS)
            return
        self._number = self._number % 0xFFFFFFFF + 1
        self._open[self._number] = domain, channel, plan
        self._pipe.put(resolve_wire.pack(plan.question, self._number, resolve_wire.strings(plan.name)))

    def close(self) -> None:
        self._pipe.close()

    def _received(self, data):
        try:
            answers = self._unpacker.receive(data)
        except resolve_wire.Malformed:
            self._pipe.close()
            self._lost()
            return
        for kind, number, body in answers:
            domain, channel, plan = self._open.pop(number, (None, None, None))
            if plan is not None:
                self._tell(domain, channel, lambda: settle(plan, kind, body, self._own_addresses()))

    def _tell(self, domain, channel, find):
        try:
            candidates = find()
        except Unroutable as nowhere:
            channel.unroutable(domain, nowhere.report)
        except resolve_wire.Malformed:
            channel.unroutable(domain, SOFT_DNS)
        except OSError:
            channel.unroutable(domain, NO_RESOURCES)
        else:
            channel.resolved(domain, candidates)

    def _own_addresses(self):
        if self._addresses_until <= self._clock():
            self._addresses, self._addresses_until = self._own(), self._clock() + OWN_SECONDS
        return self._addresses
