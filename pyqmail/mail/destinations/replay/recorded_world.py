"""The mail of a log, played to an engine with other rules, on a clock of its own.

Messages arrive when they did.  A try takes as long as the log has it and ends as it did there: the first try of a
recipient as its first, and so on; after the last one that is logged mail is accepted.  So what is found out is what
limits and waiting make of the same mail.  What the log does not know is taken for granted: name servers answer at once;
every host answers, and tries that reached none are left out; a server refuses sessions beyond the number at which the
log has it refuse more, and greets as fast as there.  Times are seconds since the log began.
"""

import heapq

from pyqmail.mail.destinations.engine import Engine
from pyqmail.mail.destinations.orders import CLOSE, DELIVER, MORE, NO_LIMITS, OPEN, REPORT, RESOLVE
from pyqmail.mail.destinations.outcome import CONNECT, GREETING, LOOKUP, Outcome
from pyqmail.mail.destinations.replay.waits import Waits
from pyqmail.mail.destinations.sites import organisation_of, site_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random
    from typing import Any

    from pyqmail.mail.destinations.replay.log_records import LoggedRecipient, LogRecords
    from pyqmail.mail.destinations.rules.lookup import RuleSet

    Tries = list[tuple[float, float, bytes]]  # when, how long, report
    Hosts = Sequence[tuple[int, bytes, Sequence[bytes]]]
    Places = Mapping[bytes, tuple[Hosts, bytes]]

GREETING_SECONDS, CLOSING_SECONDS = 0.2, 0.05  # where the log has none
STEP_SECONDS = 0.01  # what is due already is looked at again so much later, as a loop would
TIMEOUTS = (100.0, 100.0, 100.0)  # nothing takes so long
ACCEPTED = Outcome(b"K192.0.2.1 accepted message.\nRemote host said: 250 ok\n", "message", 250)
TOO_MANY = b"ZRemote host said: 421 too many connections\n"
_NOT_REACHED = (LOOKUP, CONNECT, GREETING)
ANSWER_SECONDS = 86400.0  # how long an answer of name servers holds


class Server:
    """A site of the log: the sessions it has greeted, how many it refused, and when it took how many at once."""

    __slots__ = ("name", "greeted", "refused", "_times", "_ceilings")

    def __init__(self, name: bytes, ceilings: "Sequence[tuple[float, int]]") -> None:
        self.name, self.refused, self.greeted = name, 0, dict[int, None]()
        self._times, self._ceilings = [when for when, _ in ceilings], [number for _, number in ceilings]

    def takes_one_more(self, now: float) -> bool:
        """Return whether a session is greeted: as the log had it last, or will have it first."""
        if not self._times:
            return True
        return len(self.greeted) < self._ceilings[max(0, sum(when <= now for when in self._times) - 1)]


class RecordedWorld:
    """places: domain -> (hosts, relay or empty), of each domain of the log.  total: sessions and deliveries at once.
    lifetime: seconds until mail is too old.  registrable: as the engine has it.

    run() plays all of it; then servers, waits (seconds from arrival to the first try), delivered, deferrals, given_up
    (not tried until they were too old), sessions, most_sessions, last (when the last mail was delivered) and held_back
    tell what came of it.
    """

    def __init__(
        self,
        records: "LogRecords",
        rules: "RuleSet",
        places: "Places",
        *,
        total: int,
        lifetime: int,
        registrable: "Callable[[bytes], bytes]",
        random: "Random",
    ) -> None:
        assert records.first is not None
        self._records, self._places, self._registrable, self._start = records, places, registrable, records.first
        self.engine = Engine(
            *(total, rules),
            registrable=registrable,
            random=random,
            now=0.0,
            date=self._start,
            lifetime=lifetime,
            timeouts=TIMEOUTS,
        )
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0
        self._recipients: list[list[tuple[bytes, Tries]]] = []
        self._server_of: dict[bytes, Server] = {}  # by address
        self._place_of = {address: place for place in places.values() for _, _, some in place[0] for address in some}
        self.servers: dict[bytes, Server] = {}  # by name of the site
        self._sessions: dict[int, tuple[Server, int]] = {}  # number -> its server, messages carried
        self._tries: dict[tuple[int, int], int] = {}
        self.waits: list[float] = []
        self.delivered = self.deferrals = self.sessions = self.most_sessions = self.given_up = 0
        self.last = 0.0
        self.held_back = Waits(self.engine, records.last - self._start)
        self._ceilings: dict[bytes, list[tuple[float, int]]] = {}
        for when, name, number in sorted(records.ceilings):
            self._ceilings.setdefault(name, []).append((when - self._start, number))

    def run(self) -> None:
        for number, message in enumerate(self._records.messages):
            played = [(one.domain, tries) for one in message.recipients.values() if (tries := played_tries(one))]
            self._recipients.append(played)
            if played:
                self._at(message.when - self._start, self._arrive, number)
        while True:
            times = [event[0] for event in self._events[:1]]
            own = self.engine.next_time()
            if own is not None and (times or self.engine.waiting_count):
                times.append(max(own, self.now + STEP_SECONDS))
            if not times:
                return
            self.now = max(self.now, min(times))
            self._turn()

    def _turn(self) -> None:
        """Do what is due at this moment."""
        self.held_back.look(self.now)
        self.engine.advance(self._start + self.now, self.now)
        self._obey()
        while self._events and self._events[0][0] <= self.now:
            _, _, action, words = heapq.heappop(self._events)
            action(*words)
            self._obey()

    def _at(self, when: float, action: "Callable[..., None]", *words: "Any") -> None:
        self._serial += 1
        heapq.heappush(self._events, (max(when, self.now), self._serial, action, words))

    def _arrive(self, number: int) -> None:
        message = self._records.messages[number]
        recipients = [(offset, domain) for offset, (domain, _) in enumerate(self._recipients[number])]
        birth = int(message.when)
        self.engine.arrived(number + 1, message.sender, message.size, birth, recipients, now=self.now)

    def _obey(self) -> None:
        while orders := self.engine.take_orders():
            self.engine.log_lines(self.now)
            for order in orders:
                if order[0] in _ORDERS:
                    _ORDERS[order[0]](self, *order[1:])

    def _resolve(self, domain: bytes) -> None:
        hosts, relay = self._places[domain]
        self.engine.resolved(domain, hosts, ANSWER_SECONDS, False, route=relay, now=self.now)

    def _open(self, session: int, opening: "Any") -> None:
        server = self._server_of.get(opening.address)
        if server is None:
            server = self._new_server(opening.address)
        if session not in self._sessions:
            self.sessions += 1
            self._sessions[session] = server, 0
            self.most_sessions = max(self.most_sessions, len(self._sessions))
        seconds = self._records.greetings.get(server.name, GREETING_SECONDS)
        self._at(self.now + seconds, self._greet, session, opening)

    def _new_server(self, address: bytes) -> Server:
        """Return the server of an address: those of one site are one."""
        hosts, relay = self._place_of[address]
        name = site_name(hosts, organisation_of(hosts, self._registrable), relay)
        server = self.servers.get(name)
        if server is None:
            server = self.servers[name] = Server(name, self._ceilings.get(name, ()))
        self._server_of[address] = server
        return server

    def _greet(self, session: int, opening: "Any") -> None:
        if session not in self._sessions:
            return
        server = self._sessions[session][0]
        if server.takes_one_more(self.now):
            server.greeted[session] = None
            self.engine.ready(session, opening.host, opening.address, NO_LIMITS, self.now)
        else:
            server.refused += 1
            outcome = Outcome(TOO_MANY, GREETING, 421, opening.host, opening.address)
            self.engine.refused(session, outcome, self.now)

    def _deliver(self, session: int, number: int, recipients: "Sequence[tuple[int, int]]") -> None:
        for handle, offset in recipients:
            (_, tries), key = self._recipients[number - 1][offset], (number, offset)
            count = self._tries.get(key, 0)
            self._tries[key] = count + 1
            if not count:
                self.waits.append(self.now + self._start - self._records.messages[number - 1].when)
            seconds, outcome = _try_of(tries, count)
            self._at(self.now + seconds, self._end, session, handle, outcome)

    def _end(self, session: int, handle: int, outcome: Outcome) -> None:
        server, carried = self._sessions[session]
        letter = self.engine.result(handle, outcome, carried=carried, now=self.now)
        self._sessions[session] = server, carried + (outcome.letter == b"K")
        self.deferrals += letter == b"Z"
        if letter == b"K":
            self.delivered += 1
            self.last = self.now

    def _report(self, number: int, recipients: "Sequence[tuple[int, int]]", outcome: Outcome) -> None:
        if outcome.letter == b"D":
            self.given_up += len(recipients)

    def _close(self, session: int) -> None:
        self._at(self.now + CLOSING_SECONDS, self._closed, session)

    def _closed(self, session: int) -> None:
        gone = self._sessions.pop(session, None)
        if gone is not None:
            gone[0].greeted.pop(session, None)
            self.engine.closed(session, None, self.now, carried=gone[1])


_ORDERS: "dict[str, Callable[..., None]]" = {
    RESOLVE: RecordedWorld._resolve,
    OPEN: RecordedWorld._open,
    MORE: RecordedWorld._open,
    DELIVER: RecordedWorld._deliver,
    CLOSE: RecordedWorld._close,
    REPORT: RecordedWorld._report,
}


def played_tries(recipient: "LoggedRecipient") -> "Tries":
    """Return the tries of a recipient that reached a server; the log may have them in another order."""
    return sorted(one for one in recipient.tries if one[2] == b"K" or Outcome(one[2]).stage not in _NOT_REACHED)


def _try_of(tries: "Tries", count: int) -> tuple[float, Outcome]:
    """Return (how long it takes, how it ends) of a try; count: how many came before."""
    if count >= len(tries):
        return tries[-1][1], ACCEPTED
    _, seconds, report = tries[count]
    return seconds, ACCEPTED if report == b"K" else Outcome(report)
