"""The engine of one channel: which mail goes where, when, and over how many sessions.

Pure: events come in by method, orders (orders.py) go out by take_orders(), the time is an argument.  `now` is monotonic
seconds; a date is Unix seconds.  Domains, hosts and names of groups are bytes in lower case.

    arrived -> lane -> RESOLVE -> site, door -> a unit of every budget -> OPEN -> ready -> DELIVER -> result
                 ^      (questions)   (ways)      or a room (admission)     (openings)    (feeding)      |
                 +-- due (wheel) <-- deferred; unsent, parked: ready at once --------------- (results) --+

What is kept true, and why it suffices:

- A parcel is in one place: a queue, the returned of a door, the wheel, or in flight; or it was reported and is gone.
- A session has one unit of each budget of its chain, and of the host it tries, from OPEN to closed(), which alone frees
  it: servers count a connection until it is gone.  A recipient in flight takes one more of the total.
- Mail is bound to a session that has greeted.  So a server that refuses, is slow or dead changes no parcel's time.
- Nobody is let in before an event has been applied as a whole: what it gives back is offered at the end of the turn.
- A door that wants a session and has none coming stands before a budget that is not free.  So whatever makes a door
  want (mail, a smaller m, a session that ends) seeks, and whatever frees a budget tells Admission.
- A greeting is believed unless the last sessions greeted and then ended with nothing answered.
- A timer is a promise only: it looks at what is so when its time comes, and may come late or for nothing.
"""

from pyqmail.mail.destinations.events.agents import AgentGrants
from pyqmail.mail.destinations.events.consequences import Consequences
from pyqmail.mail.destinations.events.feeding import Feeding
from pyqmail.mail.destinations.events.guards import Guards
from pyqmail.mail.destinations.events.learning import Learning
from pyqmail.mail.destinations.events.memory import EngineMemory
from pyqmail.mail.destinations.events.openings import Openings
from pyqmail.mail.destinations.events.results import Results
from pyqmail.mail.destinations.events.session_ends import SessionEnds
from pyqmail.mail.destinations.events.site_faults import SiteFaults
from pyqmail.mail.destinations.events.trials import Trials
from pyqmail.mail.destinations.limits.budgets import FOREVER, Pause
from pyqmail.mail.destinations.relays.fallbacks import Fallbacks
from pyqmail.mail.destinations.scheduling.binding import Binding
from pyqmail.mail.destinations.scheduling.core import IS_BULK, IS_MORE_TO_COME, Core, EngineTables
from pyqmail.mail.destinations.scheduling.deliveries import Deliveries
from pyqmail.mail.destinations.scheduling.host_units import HostUnits
from pyqmail.mail.destinations.scheduling.mail_store import MailStore
from pyqmail.mail.destinations.scheduling.renewal import RuleRenewal
from pyqmail.mail.destinations.scheduling.resolving import Resolving
from pyqmail.mail.destinations.scheduling.ways import Ways
from pyqmail.mail.destinations.sessions import OPENED
from pyqmail.mail.destinations.sites import last_two_labels
from pyqmail.mail.destinations.waiting.rows import IS_ALONE
from pyqmail.mail.destinations.waiting.timers import Clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random
    from typing import Any

    from pyqmail.mail.destinations.doors import Door
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.orders import Limits
    from pyqmail.mail.destinations.outcome import Outcome
    from pyqmail.mail.destinations.relays.routes import SmtpRoute
    from pyqmail.mail.destinations.rules.lookup import RuleSet
    from pyqmail.mail.destinations.sessions import DeliverySession
    from pyqmail.mail.destinations.state_file import State

    Hosts = Sequence[tuple[int, bytes, Sequence[bytes]]]  # preference, name, addresses

REMOTE, LOCAL = "remote", "local"
MAX_RECIPIENTS = 5_000_000  # in memory


class Engine:
    """total: sessions and deliveries at once.  rules: a RuleSet.

    max_together     deliveries to one local recipient in a batch, the number of which DELIVER has then; 1: no batches
    opens_sessions   False: DELIVER has session None and one recipient, and there is no RESOLVE, OPEN or CLOSE: the
                     local channel, and agents that connect by themselves
    registrable      the registrable domain of a host, by the public suffixes
    lifetime         seconds after which a message's deferrals count as failures
    timeouts         seconds to connect, for the greeting, for a reply
    route_of(domain) what control/smtproutes says of it (SmtpRoute of mail/destinations/relays/routes.py), or None
    obeys_routes     False: whoever delivers finds the hosts by itself, and can be told of no relay
    """

    _openings: Openings
    _feeding: Feeding

    def __init__(
        self,
        total: int,
        rules: "RuleSet",
        *,
        channel: str = REMOTE,
        opens_sessions: bool = True,
        max_together: int = 1,
        registrable: "Callable[[bytes], bytes]" = last_two_labels,
        random: "Random",
        now: float,
        date: float,
        lifetime: int,
        timeouts: tuple[float, float, float],
        route_of: "Callable[[bytes], SmtpRoute | None] | None" = None,
        obeys_routes: bool = True,
    ) -> None:
        core = self._core = Core(
            *(total, rules, max_together),
            is_local=channel == LOCAL,
            has_sessions=opens_sessions and channel == REMOTE,
            obeys_routes=opens_sessions and obeys_routes,
            random=random,
            lifetime=lifetime,
            clock=(Clock(now, date), now),
            open_session=self._open_session,
            choose=(lambda *grant: self._openings.choose(*grant)) if opens_sessions and channel == REMOTE else None,
        )
        self._ways = Ways(core, registrable)
        self._store = MailStore(core, self._ways, now)
        self._resolving, self._binding = Resolving(core, self._ways, self._store, route_of), Binding(core, self._ways)
        self._deliveries = Deliveries(core, self._store, self._ways, self._finished)
        self._learning, self._site_faults = Learning(core, self._store), SiteFaults(core, self._ways, self._store)
        self._consequences = Consequences(core, core.log, self._ways.recount_door, self._site_faults)
        self._results = Results(
            *(core, self._store, self._ways, self._deliveries, self._consequences, self._learning),
            lambda session, now: self._openings.answered(session, now),
        )
        self._make_memory(core, self._ways)
        self._make_sessions(core, self._ways, timeouts)

    def _make_memory(self, core: Core, ways: Ways) -> None:
        self._renewal = RuleRenewal(core, ways)
        self._memory = EngineMemory(core, ways, self._consequences)
        ways.note_rules()
        ways.table.site_made, core.budgets.made = self._memory.site_is_there, self._memory.budget_is_there

    def _make_sessions(self, core: Core, ways: Ways, timeouts: tuple[float, float, float]) -> None:
        self._moves = 0  # of admission, when it was last looked who gives way
        self._agents = AgentGrants(core, ways, self._binding, self._deliveries)
        self._trials, self._guards = Trials(core, self._close), Guards(core, ways)
        self._openings = Openings(
            *(core, ways, HostUnits(core), self._trials, self._consequences, self._learning),
            *(self._guards, timeouts, lambda session, now: self._feeding.feed(session, now)),
        )
        self._guards.open_test, self._guards.blame = self._openings.open_test, self._openings.count_failure
        self._feeding = Feeding(core, ways, self._binding, self._deliveries, self._close)
        self._ends = SessionEnds(
            *(core, ways, self._openings, self._feeding, self._trials, self._deliveries, self._results),
            self._consequences,
        )
        if core.has_sessions:
            ways.fallbacks = Fallbacks(core, ways, self._store, core.timers.now)
            ways.need, ways.feed_idle = self._resolving.need, self._feeding.feed_idle

    @property
    def total(self) -> int:
        """How many sessions and deliveries there may be now."""
        return self._core.budgets.total.cap

    @property
    def used(self) -> int:
        """How many of them are taken."""
        return self._core.budgets.total.used

    @property
    def connecting(self) -> int:
        """How many sessions have not greeted yet."""
        return self._openings.connecting

    @property
    def moves(self) -> int:
        """How often a door was placed before a budget that had no room."""
        return self._core.admission.moves

    @property
    def waiting_count(self) -> int:
        """How many recipients are in memory."""
        return self._core.rows.recipient_count

    @property
    def has_room(self) -> bool:
        """False once there are more than MAX_RECIPIENTS."""
        return self._core.rows.recipient_count < MAX_RECIPIENTS

    @property
    def tables(self) -> EngineTables:
        """What explain.py reads, and changes nothing of."""
        return EngineTables(self._core, self._ways, self._all_sessions, self._store.grey_since)

    # mail

    def arrived(
        self,
        number: int,
        sender: bytes,
        size: int,
        birth: int,
        recipients: "Sequence[tuple[int, bytes]]",
        *,
        due: int = 0,
        is_alone: bool = False,
        is_bulk: bool = False,
        is_more_to_come: bool = False,
        now: float,
    ) -> None:
        """Recipients of message number: (offset, key), key a domain, or on the local channel a whole address.

        sender is the flow: the domain of the envelope sender, empty for the null sender.  size is bytes, birth a date,
        and so is due, before which nothing of it is tried.  is_alone: one recipient a transaction.  A large message
        arrives in several calls, all but the last with is_more_to_come.
        """
        flags = is_alone * IS_ALONE | is_bulk * IS_BULK | is_more_to_come * IS_MORE_TO_COME
        self._store.arrived(number, sender, size, birth, recipients, due, flags, now)
        self._end_turn(now)

    def forget(self, number: int, now: float) -> None:
        """Somebody else removed the message: nothing more of it starts; what is in flight ends without effect."""
        if self._store.forget(number):
            self._end_turn(now)

    # sessions

    def waiting(self, session: int, now: float) -> None:
        """The address has not answered after the hedge delay."""
        self._openings.waiting(session, now)
        self._end_turn(now)

    def ready(self, session: int, host: bytes, address: bytes, limits: "Limits", now: float) -> None:
        """A session has greeted: host and address are those that won."""
        self._openings.ready(session, host, address, limits, now)
        self._end_turn(now)

    def refused(self, session: int, outcome: "Outcome", now: float) -> None:
        """An address's server answered, and not with a greeting; the session goes on: MORE or CLOSE is the answer."""
        self._openings.ended_address(session, outcome, now)
        self._end_turn(now)

    def failed(self, session: int, outcome: "Outcome", now: float) -> None:
        """An address could not be reached; the session goes on.  At stage HERE nobody but this machine is blamed."""
        self._openings.ended_address(session, outcome, now)
        self._end_turn(now)

    def closed(self, session: int, outcome: "Outcome | None", now: float, *, carried: int = 0) -> None:
        """The session is gone: once for each OPEN, last.  outcome is what the server said as it went, if anything."""
        self._ends.closed(session, outcome, carried, now)
        self._end_turn(now)

    def lost(self, sessions: "Sequence[int]", now: float) -> None:
        """Their process died: what was in flight is deferred, and nobody is blamed."""
        self._ends.lost(sessions, now)
        self._end_turn(now)

    def lacking(self, now: float) -> None:
        """An OPEN could not be obeyed for want of something here: the total is lowered by a tenth for 60 s."""
        self._ends.lacking(now)
        self._end_turn(now)

    # deliveries

    def result(self, recipient: int, outcome: "Outcome", *, carried: int = 0, accepted: int = 0, now: float) -> bytes:
        """A delivery has ended.  Returns how it counts: K, D or Z; a Z past the lifetime is a D.

        carried is how many messages the connection had carried before, accepted how many recipients of the transaction
        the server accepted.
        """
        letter = self._results.result(recipient, outcome, carried, accepted, now)
        self._end_turn(now)
        return letter

    def unsent(self, recipient: int, now: float) -> None:
        """A delivery came back untouched."""
        self._results.unsent(recipient, now)
        self._end_turn(now)

    def dropped(self, recipient: int, now: float) -> None:
        """A recipient needs no delivery after all: it is marked already, or its message is gone."""
        self._results.dropped(recipient, now)
        self._end_turn(now)

    def put_off(self, recipient: int, seconds: float, now: float) -> None:
        """A delivery could not start for a reason of our own; it is tried again after so long, and nobody is blamed."""
        self._results.put_off(recipient, seconds, now)
        self._end_turn(now)

    # answers to RESOLVE

    def resolved(
        self,
        domain: bytes,
        hosts: "Hosts",
        ttl: float,
        is_stale: bool,
        *,
        port: int = 25,
        route: bytes = b"",
        is_ours: bool = False,
        now: float,
    ) -> None:
        """hosts are (preference, name, addresses), without our own (is_ours: there were some); ttl is seconds."""
        self._resolving.resolved(domain, hosts, ttl, is_stale, (port, route, is_ours), now)
        self._end_turn(now)

    def nowhere(self, domain: bytes, outcome: "Outcome", now: float) -> None:
        """There is no host: no such domain, a null MX, or all of them are ourselves."""
        self._resolving.nowhere(domain, outcome, now)
        self._end_turn(now)

    def trouble(self, domain: bytes, reason: bytes, now: float) -> None:
        """The name servers gave no answer: the lane waits, and nothing is deferred."""
        self._resolving.trouble(domain, reason, now)
        self._end_turn(now)

    # everything else

    def make_due(self, now: float) -> None:
        """Everything deferred is due, and each dead site gets a probe.  Source: SIGALRM of qmail-send."""
        self._store.make_due(now)
        self._trials.probe_dead_sites(self._ways.sites(), now)
        self._end_turn(now)

    def use_rules(self, rules: "RuleSet", now: float) -> None:
        """The rules have changed.  Running sessions are not touched."""
        self._renewal.use(rules, now)
        self._end_turn(now)

    def advance(self, date: float, now: float) -> None:
        """Do what is due.  The date is compared with the last one: a jump of more than 5 minutes is no passing time."""
        core = self._core
        if jump := core.clock.set_date(date, now):
            core.log.date_set(jump)
        self._store.advance(now)
        core.timers.run(now)
        core.admission.due(now)
        self._end_turn(now)

    def stop(self, now: float) -> None:
        """No OPEN and no MORE any more: sessions that connect are closed, what is in flight ends."""
        self._core.is_stopped = True
        self._core.budgets.total.pause(Pause(FOREVER, b"stopped"))
        for session in self._openings.sessions.all():
            if not session.flying:
                self._close(session, now)

    def next_time(self) -> float | None:
        """Return when advance() must be called even if nothing happens."""
        parts = self._store, self._core.timers, self._core.admission, self._trials, self._resolving.questions
        return min((when for part in parts if (when := part.next_time()) is not None), default=None)

    def take_orders(self) -> "list[tuple[Any, ...]]":
        """Return the orders (orders.py) that were not taken before."""
        self._store.due_dates.flush()
        orders, self._core.orders = self._core.orders, []
        return orders

    def log_lines(self, now: float) -> list[bytes]:
        """Return the lines that the log should have and has not yet."""
        return self._core.log.take()

    def snapshot(self, now: float) -> "State":
        """Return what was learned, as a State of state_file."""
        return self._memory.snapshot(now)

    def restore(self, state: "State", now: float) -> None:
        """Take over what an earlier engine had learned."""
        self._memory.restore(state, now)

    def _end_turn(self, now: float) -> None:
        """After each event: let in whom it lets in, let those give way whom others wait for, ask what may be asked."""
        core = self._core
        if core.failed_doors or core.released or core.shut_budgets:
            self._site_faults.end_turn(now)
        core.admission.settle(now)
        if core.has_sessions and not core.is_stopped:
            if core.admission.moves != self._moves:
                self._moves = core.admission.moves
                self._feeding.give_way(now)
            if self._trials.look_at <= now:
                self._trials.yield_places(now)
            if self._resolving.questions.quiet_until <= now:
                self._resolving.ask(now)
            core.admission.settle(now)
        self._openings.end_turn(now)
        if self._ways.doomed:
            self._ways.forget_unused(now)

    def _all_sessions(self) -> "list[DeliverySession]":
        return self._openings.sessions.all() if self._core.has_sessions else self._deliveries.running()

    def _open_session(self, door: "Door", units: "tuple[Budget, ...]", now: float) -> None:
        if door.site.soft_block is not None:
            self._site_faults.note_opening(door.site, now)
        (self._openings if self._core.has_sessions else self._agents).open_session(door, units, now)

    def _finished(self, session: "DeliverySession", now: float) -> None:
        if not self._core.has_sessions:
            self._agents.finished(session, now)
        elif session.state == OPENED and not session.is_dying:
            self._feeding.feed(session, now)

    def _close(self, session: "DeliverySession", now: float) -> None:
        self._feeding.gone(session)
        self._openings.close(session, now)
