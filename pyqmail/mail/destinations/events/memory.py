"""What was learned, for the state file, and back.

A record that was read waits until its site or budget is there again; until then it is written again as it was.
"""

from pyqmail.mail.destinations.faults.greylist import Bracket
from pyqmail.mail.destinations.faults.hosts import Host
from pyqmail.mail.destinations.limits.budgets import NEVER
from pyqmail.mail.destinations.limits.records import budget_record, restore_budget
from pyqmail.mail.destinations.limits.windows import Window
from pyqmail.mail.destinations.state_file import KEPT_SECONDS, BudgetRecord, DayRecord, HostRecord, SiteRecord, State
from pyqmail.mail.destinations.views.day_counts import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Site
    from pyqmail.mail.destinations.events.consequences import Consequences
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.ways import Ways

    Key = tuple[str, bytes, bytes | None]

ALL_SOURCES = b"*"
MAX_RECORDS = 200_000  # of each kind that wait
_TIMES = (("off_until", "off"), ("helo_until", "helo"), ("single_until", "single"), ("ceiling_until", "ceiling_until"))
_NUMBERS = ("penalty", "greeting_seconds", "ceiling", "ceiling_seconds")


class EngineMemory:
    """snapshot() and restore()."""

    def __init__(self, core: "Core", ways: "Ways", consequences: "Consequences") -> None:
        self._core, self._ways, self._consequences = core, ways, consequences
        self._sites: dict[bytes, SiteRecord] = {}
        self._budgets: dict[tuple[bytes, bytes, bytes], BudgetRecord] = {}

    def snapshot(self, now: float) -> State:
        date = self._core.clock.date(now)
        state = State(date)
        for site in self._ways.sites():
            record = _site_record(site, date)
            if record is not None:
                state.sites.append(record)
        for key, budget in self._core.budgets.all_budgets():
            found = budget_record(_words(key), budget, self._core.learned_rates.get(budget), now, date)
            if found is not None:
                found.seen = _last_seen(budget, now, date)
                state.budgets.append(found)
        state.sites += [one for one in self._sites.values() if date - one.seen <= KEPT_SECONDS]
        state.budgets += [one for one in self._budgets.values() if date - one.seen <= KEPT_SECONDS]
        state.days = [_day_record(name, counts, self._core.days.began) for name, counts in self._core.days.items(now)]
        state.warm_ups = self._ways.sources.warm_ups.records(date)
        state.hosts = [_host_record(host, now, date) for host in self._core.hosts.items() if _is_known(host, now)]
        return state

    def restore(self, state: State, now: float) -> None:
        offset = self._core.clock.date(now) - now
        self._sites = {record.key: record for record in state.sites[:MAX_RECORDS]}
        self._budgets = {(one.scope, one.thing, one.source): one for one in state.budgets[:MAX_RECORDS]}
        self._ways.sources.warm_ups.restore(state.warm_ups)
        for record in state.hosts:
            host = Host(record.name)
            for name in _NUMBERS:
                setattr(host, name, getattr(record, name))
            for name, field in _TIMES:
                when = getattr(record, field)
                setattr(host, name, when - offset if when else 0.0)
            self._core.hosts.put(host)
        for day in state.days:
            self._core.days.restore(day.name, day.began, [getattr(day, name) for name in NAMES], now)
        for site in self._ways.sites():
            self.site_is_there(site)
        for key, budget in self._core.budgets.all_budgets():
            self.budget_is_there(key, budget, now)

    def site_is_there(self, site: "Site") -> None:
        """A site was made: give it what is known of it."""
        record = self._sites.pop(site.key, None)
        if record is not None:
            site.learn()
            site.messages.value, site.recipients.value = record.messages, record.recipients
            site.last_text = record.text
            if record.grey_lo or record.grey_hi:
                site.bracket = Bracket(record.grey_lo, record.grey_hi)

    def budget_is_there(self, key: "Key", budget: "Budget", now: float) -> None:
        """A budget was made, with its window if it has one."""
        record = self._budgets.pop(_words(key), None) if self._budgets else None
        if record is None:
            return
        if budget.window is None and record.size:
            budget.window = Window()
        rate = self._consequences.rate_of(budget) if record.rate else None
        restore_budget(budget, rate, record, now, self._core.clock.date(now))
        if rate is not None:
            budget.use_rates(budget.connect_rates, budget.recipient_rates)


def _site_record(site: "Site", date: float) -> SiteRecord | None:
    """Return what a site has taught; None: nothing."""
    bracket = site.bracket
    if not (site.messages.value or site.recipients.value or bracket is not None or site.last_text):
        return None
    record = SiteRecord(site.key)
    record.name, record.organisation, record.seen = site.name, site.organisation.shown, date
    record.messages, record.recipients, record.text = site.messages.value, site.recipients.value, site.last_text
    if bracket is not None:
        record.grey_lo, record.grey_hi = bracket.lo, bracket.hi
    return record


def _host_record(host: Host, now: float, date: float) -> HostRecord:
    record = HostRecord(host.name)
    record.seen = date
    for name in _NUMBERS:
        setattr(record, name, getattr(host, name))
    for name, field in _TIMES:
        when = getattr(host, name)
        setattr(record, field, date + when - now if when > now else 0)
    return record


def _day_record(name: bytes, counts: list[int], began: float) -> DayRecord:
    record = DayRecord(name)
    record.began = began
    for field, count in zip(NAMES, counts, strict=True):
        setattr(record, field, count)
    return record


def _is_known(host: Host, now: float) -> bool:
    return bool(host.penalty or host.ceiling or host.greeting_seconds or max(host.helo_until, host.single_until) > now)


def _last_seen(budget: "Budget", now: float, date: float) -> float:
    """Return when a budget was last of use: at a greeting, if it has a window."""
    window = budget.window
    if window is None or budget.used or window.greeted_at == NEVER:
        return date
    return min(date, window.greeted_at + date - now)


def _words(key: "Key") -> tuple[bytes, bytes, bytes]:
    scope, thing, source = key
    return scope.encode(), thing, ALL_SOURCES if source is None else source
