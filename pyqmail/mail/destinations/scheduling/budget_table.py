"""The budgets there are, by what they count; and the chain of a door.

The key of a budget is the scope of its lines, the thing counted (or the name of the group), and the source, unless it
counts over all of them.  Chains go from the most specific to the total: the domain, the site, its organisation, groups
by size, the source, the class of the unproven, what is shared of the total, the total.
"""

from pyqmail.mail.destinations.limits.budgets import (
    ADDRESS,
    DOMAIN,
    GROUP,
    HOST,
    NET,
    ORGANISATION,
    SITE,
    SOURCE,
    TOTAL,
    UNLIMITED,
    UNPROVEN,
    Budget,
    SharedBudget,
)
from pyqmail.mail.destinations.limits.rates import WrittenRate
from pyqmail.mail.destinations.limits.windows import Window
from pyqmail.mail.destinations.rules import policies
from pyqmail.mail.destinations.rules.defaults import organisation_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.doors import Door, Organisation, Site
    from pyqmail.mail.destinations.limits.rates import Gcra
    from pyqmail.mail.destinations.rules.policies import Limit

    Key = tuple[str, bytes, bytes | None]  # scope, thing or name, source: None for all

_KINDS = {
    policies.DOMAIN: DOMAIN,
    policies.ADDRESS: ADDRESS,
    policies.HOST: HOST,
    policies.SITE: SITE,
    policies.NET: NET,
    policies.ORGANISATION: ORGANISATION,
    policies.RULE: GROUP,
}


class BudgetTable:
    """Made at first use; drop_unused() forgets those that nobody uses.  made(key, budget, now): there is a new one."""

    def __init__(self, total: int, *, is_local: bool, has_sessions: bool) -> None:
        control = b"control/concurrencylocal" if is_local else b"control/concurrencyremote"
        self.total = Budget(b"total", TOTAL, total, owner=control)
        self.shared = SharedBudget(self.total)
        self.unproven = Budget(b"unproven", UNPROVEN, max(1, total // 2))
        self._is_local, self._has_sessions = is_local, has_sessions
        self._budgets: dict[Key, Budget] = {}
        self._windows: dict[tuple[int, int, int], Window] = {}  # of sites that have shown nothing
        self._rates: dict[tuple[float, int], tuple[WrittenRate]] = {}  # as lines write them, shared until used
        self._owners: dict[Limit, bytes] = {}
        self._fresh: list[Budget] = []
        self.learned_gcras: dict[Gcra, None] = {}  # rates that no rule wrote
        self._stale: dict[Budget, None] = {}  # they have what earlier rules said
        self.made: Callable[[Key, Budget, float], None] | None = None

    def forget_rules(self) -> None:
        """The rules are others: what a budget has of them is forgotten when a line names it again."""
        self._stale = dict.fromkeys(self._budgets.values())
        self._owners, self._rates = {}, {}

    def chain_of(self, door: "Door", domain: bytes) -> "tuple[Budget, ...]":
        """Return the budgets of a door itself: all but the class of the unproven, shared, and the total."""
        site, source = door.site, door.source.address if door.source else b""
        found: dict[Budget, None] = {}
        for limit in door.policy.limits:
            if limit.scope == policies.DOMAIN:
                found[self._apply(limit, domain, source, domain)] = None
        if not self._is_local:
            found[self._site_budget(door, site, source)] = None
        for limit in door.policy.limits:
            if limit.scope == policies.SITE:
                found[self._apply(limit, site.key, source, site.name)] = None
        self._add_organisation(found, door, source)
        for limit in door.policy.limits:
            if limit.scope == policies.RULE:
                found[self._apply(limit, limit.name, source, limit.name)] = None
        if source:
            found[self.find((SOURCE, source, source), source, SOURCE)] = None
        return tuple(found)

    def for_host(self, limit: "Limit", thing: bytes, source: bytes) -> Budget:
        """Return the budget of a host, an address or a net."""
        return self._apply(limit, limit.name or thing, source, limit.name or thing)

    def of_limit(self, limit: "Limit", thing: bytes, source: bytes, name: bytes) -> Budget:
        """Return the budget of a limit, with what the limit says."""
        return self._apply(limit, thing, source, name)

    def find(self, key: "Key", name: bytes, kind: str) -> Budget:
        """Return a budget, a new one without a limit."""
        budget = self._budgets.get(key)
        if budget is None:
            budget = self._budgets[key] = Budget(name, kind)
            budget.key = key
            self._fresh.append(budget)
        elif budget in self._stale:
            del self._stale[budget]
            budget.limit, budget.owner = UNLIMITED, b""
            learned = tuple(rate for rate in budget.recipient_rates if rate in self.learned_gcras)
            budget.use_rates((), learned)
        return budget

    def known(self, key: "Key") -> Budget | None:
        """Return a budget that is there, None if it is not."""
        return self._budgets.get(key)

    def announce(self, now: float) -> None:
        """Tell `made` of the budgets that were made."""
        fresh, self._fresh = self._fresh, []
        if self.made is not None:
            for budget in fresh:
                if budget.key is not None:
                    self.made(budget.key, budget, now)

    def all_budgets(self) -> "list[tuple[Key, Budget]]":
        return list(self._budgets.items())

    def organisation_of(self, organisation: "Organisation", source: bytes) -> Budget:
        return self.find((ORGANISATION, organisation.name, source), organisation.name, ORGANISATION)

    def drop_unused(self, budget: Budget, now: float) -> None:
        """Forget a budget that nobody uses or waits for, unless it remembers something."""
        if budget.used or budget.room is not None or budget.learned is not None or budget.not_before > now:
            return
        self._stale.pop(budget, None)
        key, budget.key = budget.key, None
        if key is not None:
            del self._budgets[key]

    def _site_budget(self, door: "Door", site: "Site", source: bytes) -> Budget:
        """Return the budget that carries the window of a site through a source."""
        budget = self.find((policies.SITE, site.key, source), site.name, SITE)
        policy = door.policy
        if budget.window is None and isinstance(policy, policies.SitePolicy) and policy.learns:
            kind = policy.initial, policy.floor, policy.dead_after
            window = self._windows.get(kind)
            if window is None:
                window = self._windows[kind] = Window(*kind)
                window.is_shared = True
            budget.window = window
            budget.learned = 1
        door.site_budget = budget
        return budget

    def _add_organisation(self, found: "dict[Budget, None]", door: "Door", source: bytes) -> None:
        policy, organisation = door.policy, door.site.organisation
        for limit in policy.limits:
            if limit.scope == policies.ORGANISATION:
                found[self._apply(limit, organisation.name, source, organisation.name)] = None
        least = getattr(policy, "organisation_least", None)
        if self._has_sessions and organisation.name:
            budget = self.organisation_of(organisation, source)
            if least is not None:
                most = max(organisation_limit(len(organisation.addresses)), least)
                budget.limit = most if budget.limit == UNLIMITED else max(budget.limit, most)
            found[budget] = None

    def _apply(self, limit: "Limit", thing: bytes, source: bytes, name: bytes) -> Budget:
        """Return the budget of a limit, with what the limit says."""
        key = limit.scope, thing, None if limit.kind.isupper() else source
        budget = self.find(key, name, _KINDS[limit.scope])
        if limit.kind in b"cC":
            is_larger = budget.limit != UNLIMITED and limit.is_default and limit.value < budget.limit
            if not is_larger:
                budget.owner = self._owner(limit)
                if budget.limit != limit.value:
                    budget.limit = limit.value
        elif self._has_sessions or limit.kind != b"k" or not limit.is_default:
            # connects are messages for an agent that connects by itself: the built-in rate would limit those
            self._add_rate(budget, limit)
        return budget

    def _add_rate(self, budget: Budget, limit: "Limit") -> None:
        kind = interval, burst = limit.interval_seconds, limit.burst
        rates = budget.connect_rates if limit.kind == b"k" else budget.recipient_rates
        for one in rates:
            if one.interval == interval and one.burst == burst:
                return
        written = self._rates.get(kind)
        if written is None:
            written = self._rates[kind] = (WrittenRate(interval, burst),)
        if limit.kind == b"k":
            budget.use_rates((*rates, *written) if rates else written, budget.recipient_rates)
        else:
            budget.use_rates(budget.connect_rates, (*rates, *written) if rates else written)

    def _owner(self, limit: "Limit") -> bytes:
        """Return what is shown of a limit: one text for all budgets that it sets."""
        text = self._owners.get(limit)
        if text is None:
            text = self._owners[limit] = _owner(limit)
        return text


def _owner(limit: "Limit") -> bytes:
    if not limit.line:
        return limit.owner
    if limit.where == policies.BUILT_IN_FILE:
        return b"%b (built in)" % limit.owner
    return b"%b (%b line %d)" % (limit.owner, limit.where.encode(), limit.line)
