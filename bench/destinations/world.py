"""Carry out an engine's orders against models of servers, network and names, and tell it what came of them."""

import errno
import random

from bench.destinations.clock import Clock
from bench.destinations.network import NameService, Network, Zone
from bench.destinations.servers import NOT_HERE, SILENT, Answer, Server
from bench.destinations.sessions import ModelAgent, ModelLocalDelivery, ModelSession
from pyqmail.mail.destinations.engine import LOCAL, Engine
from pyqmail.mail.destinations.orders import CLOSE, DELIVER, DONE, DUE, MORE, OPEN, REPORT, RESOLVE
from pyqmail.mail.destinations.rules.lookup import RuleSet

LIFETIME = 604_800
RESPONSES = b"""\
:421:too many connections:ceiling
:45:rate limited due to ip reputation:rate
:421:rate limited due to ip reputation:rate
:45:greylist:grey
"""
TIMEOUTS = (60.0, 60.0, 1200.0)
_MOST_TURNS = 10_000  # of the engine at one time, before it is called a busy loop
WAITS, FLIES, DELIVERED, FAILED = "waits", "flies", "delivered", "failed"


class Broken(AssertionError):
    """The engine did what no engine may."""


class Mail:
    """A message.  left: recipients not yet delivered or failed."""

    __slots__ = ("number", "sender", "arrived", "birth", "left", "domains", "done")

    def __init__(self, number, sender, arrived, birth, domains):
        self.number, self.sender, self.arrived, self.birth = number, sender, arrived, birth
        self.left, self.domains, self.done = len(domains), domains, False


class World:
    """rules: text of control/destinations.  Other arguments are the engine's.

    What happened stands in: delivered and failures [(time, number, offset)], deferrals and reports (so, with the
    outcome), opened [(time, address)], sources {(number, offset): [of each try]}, log [(time, line)]; timeouts
    is how many addresses were waited for in vain.  is_hedged: sessions tell that an address keeps them waiting.
    """

    def __init__(
        self,
        rules=b"",
        *,
        total=10_000,
        seed=1,
        responses=RESPONSES,
        opens_sessions=True,
        lifetime=LIFETIME,
        engine=Engine,
        **other,
    ):
        self.clock, self.random, self.seed = Clock(), random.Random(seed), seed
        self.network, self.names, self.servers, self.quit_seconds = Network(), NameService(), {}, 0.0
        self.is_hedged = True
        self._engine_arguments = {
            "total": total, "opens_sessions": opens_sessions, "lifetime": lifetime, "timeouts": TIMEOUTS, **other
        }  # fmt: skip
        self._responses, self.rules, self._make_engine = responses, rules, engine
        self.mail, self.states, self.tries, self.in_flight, self.sessions = {}, {}, {}, {}, {}
        self.delivered, self.deferrals, self.failures, self.reports, self.opened = [], [], [], [], []
        self.sources = {}
        self.unsent_count, self.timeouts, self.log, self.left, self.dues, self.after_each = 0, 0, [], 0, {}, []
        self._next_number, self._next_address = 1, 0
        self.is_local, self.local_delivery = other.get("channel") == LOCAL, lambda address: (0.1, b"K")
        self.engine = self._new_engine()

    def _new_engine(self):
        return self._make_engine(
            rules=RuleSet.of_text(self.rules, self._responses),
            random=random.Random(self.seed),
            now=self.clock.now,
            date=self.clock.date,
            **self._engine_arguments,
        )

    # what a scenario sets up

    def new_address(self) -> bytes:
        """Return an address in a network that has no other."""
        self._next_address += 1
        return b"10.%d.%d.1" % divmod(self._next_address, 256)

    def place(self, domain: bytes, *servers: Server, ttl=3600, hosts=None) -> list[bytes]:
        """Give a domain an MX host for each server, all of one preference; return the addresses.

        hosts names them; otherwise they are mx1 and so on of the domain.
        """
        addresses = [self.new_address() for _ in servers]
        names = hosts or [b"mx%d.%b" % (i + 1, domain) for i in range(len(servers))]
        self.servers.update(zip(addresses, servers, strict=True))
        zone = [(10, name, [address]) for name, address in zip(names, addresses, strict=True)]
        self.names.zones[domain] = Zone(zone, ttl)
        return addresses

    def send(self, domains, sender=b"sender.example", size=3000, **other) -> int:
        """Let a message arrive, with a recipient for each domain; return its number."""
        number, self._next_number = self._next_number, self._next_number + 1
        date = int(self.clock.date)
        self.mail[number] = Mail(number, sender, self.clock.now, date, list(domains))
        recipients = list(enumerate(self.mail[number].domains))
        for offset, _ in recipients:
            self.states[number, offset] = WAITS
        self.left += len(recipients)
        self.engine.arrived(number, sender, size, date, recipients, now=self.clock.now, **other)
        self._obey()
        return number

    def use_rules(self, rules: bytes):
        self.engine.use_rules(RuleSet.of_text(rules, self._responses), self.clock.now)
        self._obey()

    def restart(self, has_state=True):
        """Kill the queue manager and its sessions, and start again with the state file of this moment, or without."""
        state = self.engine.snapshot(self.clock.now) if has_state else None
        for session in self.sessions.values():
            session.kill()
        self.sessions.clear()
        self.in_flight.clear()
        self.engine = self._new_engine()
        if state is not None:
            self.engine.restore(state, self.clock.now)
        for number, mail in self.mail.items():
            offsets = [i for i in range(len(mail.domains)) if self.states[number, i] in (WAITS, FLIES)]
            for offset in offsets:
                self.states[number, offset] = WAITS
            if offsets:
                recipients = [(offset, mail.domains[offset]) for offset in offsets]
                due = self.dues.get(number, 0)
                self.engine.arrived(number, mail.sender, 3000, mail.birth, recipients, due=due, now=self.clock.now)
        self._obey()

    def lose(self, count: int):
        """Let the process die that has the first sessions."""
        numbers = list(self.sessions)[:count]
        for number in numbers:
            session = self.sessions.pop(number)
            session.kill()
            handles = [*(session.in_hand[0].values() if session.in_hand else ())]
            handles += [handle for _, recipients in session.orders for handle, _ in recipients]
            for handle in handles:
                self.states[self.in_flight.pop(handle)[:2]] = WAITS
        self.engine.lost(numbers, self.clock.now)
        self._obey()

    # time

    def run(self, seconds: float | None = None, *, until_done=False):
        """Let time pass: for so many seconds, or until no recipient is left."""
        until = None if seconds is None else self.clock.now + seconds
        turns, last = 0, -1.0
        while not (until_done and not self.left):
            event, own = self.clock.next_time(), self.engine.next_time()
            times = [time for time in (event, own) if time is not None]
            if not times or (until is not None and min(times) > until):
                break
            if own is not None and (event is None or own <= event):
                self.clock.now = max(self.clock.now, own)
                self.engine.advance(self.clock.date, self.clock.now)
                self._obey()
                turns = turns + 1 if self.clock.now == last else 0
                last = self.clock.now
                if turns > _MOST_TURNS:
                    raise Broken(f"next_time() stays at {own}, and advance() does nothing about it")
            else:
                self.clock.run_next()
            for check in self.after_each:
                check(self)
        if until is not None and not (until_done and not self.left):
            self.clock.now = max(self.clock.now, until)

    def finish(self, seconds: float):
        """Run until every recipient has ended, so many seconds at most, and then until all sessions are closed."""
        self.run(seconds, until_done=True)
        if not self.left:
            self.run(400.0)

    # what the models report

    def report(self, event: str, *arguments):
        self.timeouts += event == "failed" and arguments[1].code == errno.ETIMEDOUT
        getattr(self.engine, event)(*arguments, self.clock.now)
        self._obey()

    def answer(self, event: str, arguments, words):
        if event == "resolved":
            self.engine.resolved(*arguments, now=self.clock.now, **words)
        else:
            getattr(self.engine, event)(*arguments, self.clock.now)
        self._obey()

    def result(self, handle, outcome, carried, accepted):
        if handle not in self.in_flight:
            return  # its session is lost, or the queue manager was killed
        number, offset = self.in_flight.pop(handle)
        letter = self.engine.result(handle, outcome, carried=carried, accepted=accepted, now=self.clock.now)
        self._ended(number, offset, letter, outcome)
        self._obey()

    def unsent(self, handle):
        if handle in self.in_flight:
            self.states[self.in_flight.pop(handle)] = WAITS
            self.unsent_count += 1
            self.engine.unsent(handle, self.clock.now)
            self._obey()

    def closed(self, session, outcome, carried):
        if self.sessions.pop(session, None):
            self.engine.closed(session, outcome, carried=carried, now=self.clock.now)
            self._obey()

    def connect(self, opening) -> Answer:
        if opening.source in self.network.absent:
            return Answer(NOT_HERE, 0)
        self.opened.append((self.clock.now, opening.address))
        server = self.servers.get(opening.address)
        if server is None or not self.network.reaches(opening.source):
            return Answer(SILENT, 0)
        return server.connect(self.clock.now, opening.source)

    def _ended(self, number, offset, letter, outcome):
        mail, now = self.mail[number], self.clock.now
        if letter == b"Z":
            self.states[number, offset] = WAITS
            self.deferrals.append((now, number, offset, outcome))
            return
        self.states[number, offset] = DELIVERED if letter == b"K" else FAILED
        (self.delivered if letter == b"K" else self.failures).append((now, number, offset))
        mail.left -= 1
        self.left -= 1

    # what the engine orders

    def _obey(self):
        orders = self.engine.take_orders()
        while orders:
            for order in orders:
                _OBEY[order[0]](self, *order[1:])
            orders = self.engine.take_orders()
        for line in self.engine.log_lines(self.clock.now):
            self.log.append((self.clock.now, line))

    def _resolve(self, domain, route=None):
        seconds, event, arguments, words = self.names.ask(domain, route)
        self.clock.after(seconds, self.answer, event, arguments, words)

    def _open(self, session, opening):
        if session in self.sessions:
            raise Broken(f"session {session} is opened twice")
        self.sessions[session] = ModelSession(self, session, opening)

    def _more(self, session, opening):
        if session in self.sessions:
            self.sessions[session].begin(opening)

    def _deliver(self, session, number, recipients):
        for handle, offset in recipients:
            if self.states.get((number, offset)) != WAITS:
                raise Broken(f"recipient {number}, {offset} {self.states.get((number, offset))} and is delivered again")
            if handle in self.in_flight:
                raise Broken(f"handle {handle} is given twice")
            self.states[number, offset] = FLIES
            self.in_flight[handle] = (number, offset)
            self.tries[number, offset] = self.tries.get((number, offset), 0) + 1
            if session is not None:
                self.sources.setdefault((number, offset), []).append(self.sessions[session].source)
        if session is None:
            for handle, offset in recipients:
                key = self.mail[number].domains[offset]
                if self.is_local:
                    ModelLocalDelivery(self, handle, key)
                else:
                    ModelAgent(self, number, handle, offset, key)
        else:
            self.sessions[session].deliver(number, recipients)

    def _close(self, session):
        if session in self.sessions:
            self.sessions[session].close()

    def _report(self, number, recipients, outcome):
        for handle, offset in recipients:
            self.in_flight.pop(handle, None)
            self.reports.append((self.clock.now, number, offset, outcome))
            self._ended(number, offset, outcome.letter, outcome)

    def _due(self, number, date):
        self.dues[number] = date

    def _done(self, number):
        mail = self.mail[number]
        if mail.left:
            raise Broken(f"message {number} is done and has {mail.left} recipients left")
        if mail.done:
            raise Broken(f"message {number} is done twice")
        mail.done = True


_OBEY = {
    RESOLVE: World._resolve,
    OPEN: World._open,
    MORE: World._more,
    DELIVER: World._deliver,
    CLOSE: World._close,
    REPORT: World._report,
    DUE: World._due,
    DONE: World._done,
}
