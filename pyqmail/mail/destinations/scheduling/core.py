"""What the parts of an engine have in common: the rows of mail, the budgets, the clock, what is ordered."""

from pyqmail.mail.destinations.faults.hosts import HostTable
from pyqmail.mail.destinations.limits.admission import Admission
from pyqmail.mail.destinations.scheduling.budget_table import BudgetTable
from pyqmail.mail.destinations.scheduling.log import EngineLog
from pyqmail.mail.destinations.views.day_counts import DayCounts
from pyqmail.mail.destinations.views.last_replies import LastReplies
from pyqmail.mail.destinations.views.rate_texts import blocking_rate, limit_of_rate, limits_of_door
from pyqmail.mail.destinations.views.recent import RecentCounts
from pyqmail.mail.destinations.waiting.flows import FlowRows
from pyqmail.mail.destinations.waiting.rows import MailRows
from pyqmail.mail.destinations.waiting.senders import SenderKeys
from pyqmail.mail.destinations.waiting.timers import Clock, Timers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from random import Random
    from typing import Any

    from pyqmail.mail.destinations.doors import Door, Lane, Site
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.limits.rates import LearnedRate
    from pyqmail.mail.destinations.outcome import Outcome
    from pyqmail.mail.destinations.rules.lookup import RuleSet
    from pyqmail.mail.destinations.scheduling.ways import Ways
    from pyqmail.mail.destinations.sessions import DeliverySession

# of p_flags, beside those of mail/destinations/waiting/rows.py: where a parcel is, if not in the queue of its lane
ON_WHEEL, IN_FLIGHT, IS_PARKED = 16, 32, 128
# of m_flags
WAS_TRIED = 8  # before this engine began
IS_BULK, IS_MORE_TO_COME, IS_FORGOTTEN, IS_TOO_OLD = 16, 32, 64, 128


class Core:
    """is_local: the local channel.  has_sessions: sessions of our own, which are opened and asked about.

    max_together: how many deliveries to one local recipient count as one.
    obeys_routes: whoever delivers can be told of a relay.  clock: and the time now.
    """

    def __init__(
        self,
        total: int,
        rules: "RuleSet",
        max_together: int,
        *,
        is_local: bool,
        has_sessions: bool,
        obeys_routes: bool,
        random: "Random",
        lifetime: int,
        clock: tuple[Clock, float],
        open_session: "Callable[[Door, tuple[Budget, ...], float], None]",
        choose: "Callable[[Door, float], tuple[Budget, ...]] | None",
    ) -> None:
        self.is_local, self.has_sessions, self.is_stopped = is_local, has_sessions, False
        self.max_together, self.obeys_routes = max_together, obeys_routes
        self.rules, self.random, self.lifetime, self.clock = rules, random, lifetime, clock[0]
        self.rows = MailRows()
        self.flows = FlowRows(self.rows)
        self.senders = SenderKeys()
        self.timers = Timers(clock[1])
        self.budgets = BudgetTable(total, is_local=is_local, has_sessions=has_sessions)
        self.admission = Admission(open_session, choose, is_deferred=True)  # type: ignore[arg-type]
        self.hosts = HostTable()
        self.learned_rates: dict[Budget, LearnedRate] = {}
        self.orders: list[tuple[Any, ...]] = []
        self.log = EngineLog()
        self.admission.full = self._full  # type: ignore[assignment]
        self.recent, self.days, self.replies = RecentCounts(), DayCounts(*clock), LastReplies()
        self.closing = 0  # sessions that were told to end, and have not
        self.is_us = False  # our own network is suspected, or down
        self.failed_doors: list[tuple[Door, Outcome]] = []  # none of their hosts takes mail: what waits there fails
        self.shut_budgets: list[Budget] = []  # of sources: what waits there may have to move
        self.released: list[Site] = []  # their soft block is over: their doors may want sessions

    def _full(self, door: "Door", budget: "Budget") -> None:
        """A door stands before a budget that is used up, or paused, or at the next time of a rate."""
        lane = next(iter(door.lanes), None)
        if lane is not None:
            self.note_full(budget, door, lane)

    def note_full(self, budget: "Budget", door: "Door", lane: "Lane") -> None:
        """A limit holds mail of a lane back: the log names the line that allows more, the first time."""
        if budget.used >= budget.limit:
            self.log.held_back(budget, door, lane.domain)
        elif budget.not_before > budget.paused_until and self.log.may_tell_rate(budget):
            limit = limit_of_rate(blocking_rate(budget), limits_of_door(self.rules, door, lane.policy))
            self.log.held_back_by_rate(budget, limit, door, lane.domain)

    def note(self, door: "Door", what: int, now: float) -> None:
        """Count what has just happened at a door's organisation; what: as RecentCounts.add has it."""
        if self.has_sessions:
            name = door.site.organisation.name
            self.recent.add(name, what, now)
            self.days.add(name, what, now)


class EngineTables:
    """What explain.py reads of an engine, and changes nothing of.

    sessions(): all that there are, those of agents and of the local channel included.  grey_since: the parcels that
    a greylist has deferred.
    """

    __slots__ = ("core", "ways", "sessions", "grey_since")

    def __init__(
        self,
        core: Core,
        ways: "Ways",
        sessions: "Callable[[], list[DeliverySession]]",
        grey_since: "Container[int]",
    ) -> None:
        self.core, self.ways, self.sessions, self.grey_since = core, ways, sessions, grey_since
