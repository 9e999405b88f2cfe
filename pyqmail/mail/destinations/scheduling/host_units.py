"""The budgets of the host that is tried: its own ceiling, its address, its net, and what rules say of them; and holds.

An address that a rule holds is none that a session may try; a site of which all are held waits.
"""

from pyqmail.mail.destinations.limits.budgets import FOREVER, HOST
from pyqmail.mail.destinations.rules import policies
from pyqmail.mail.destinations.rules.policies import SitePolicy
from pyqmail.mail.destinations.sites import network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyqmail.mail.destinations.doors import Candidates, Door
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.scheduling.core import Core


class HostUnits:
    """of() for each address that may be tried.  What nobody uses any more is dropped at the end of the turn."""

    def __init__(self, core: "Core") -> None:
        self._core = core
        self._given_back: dict[Budget, None] = {}

    def of(self, door: "Door", host: bytes, address: bytes, now: float) -> "tuple[Budget, ...]":
        """Return the budgets of an address, as they are now."""
        source = door.source.address if door.source else b""
        table, found = self._core.budgets, dict["Budget", None]()
        policy = door.policy
        if isinstance(policy, SitePolicy):
            for limit in self._core.rules.for_address(host, address, policy).limits:
                budget = table.for_host(limit, _thing(limit.scope, host, address), source)
                found[budget] = None
        cap = self._core.hosts.get(host).cap(now)
        if cap:
            budget = table.find((policies.HOST, host, source), host, HOST)
            budget.learned = cap
            found[budget] = None
        self._given_back.update(found)  # those of a host that is not chosen are used by nobody
        return tuple(found)

    def given_back(self, units: "Iterable[Budget]") -> None:
        """A session holds these no more; who waits for them may take them yet."""
        for budget in units:
            self._given_back[budget] = None

    def drop_unused(self, now: float) -> None:
        """Forget those that were given back, if nobody uses or waits for them, and they remember nothing."""
        if self._given_back:
            units, self._given_back = self._given_back, {}
            for budget in units:
                self._core.budgets.drop_unused(budget, now)


class Holds:
    """Whether a rule holds a door, or some of its addresses.  seek(door, now): one may want a session again."""

    def __init__(self, core: "Core", seek: "Callable[[Door, float], None]") -> None:
        self._core, self._seek = core, seek

    def obey(self, door: "Door", now: float) -> None:
        """Obey `hold`: no session while it lasts, and none with an address that is held."""
        was_held = door.is_held
        seconds = door.policy.held_until - self._core.clock.date(now)
        if seconds > 0:
            door.is_held = True
        else:
            door.open_hosts, seconds = self._open_hosts(door, now)
            door.is_held = door.open_hosts == []
        if 0 < seconds < FOREVER:
            self._core.timers.at(now + seconds, self._is_over, door)
        if was_held and not door.is_held:
            self._seek(door, now)

    def _is_over(self, door: "Door", now: float) -> None:
        self.obey(door, now)
        self._seek(door, now)

    def _open_hosts(self, door: "Door", now: float) -> "tuple[Candidates | None, float]":
        """Return (the candidates that no line of a network holds, None if it holds none; when the first hold ends)."""
        policy, rules = door.policy, self._core.rules
        if not rules.has_network_lines or not isinstance(policy, SitePolicy):
            return None, 0.0
        date, found, first = self._core.clock.date(now), [], FOREVER
        for preference, name, addresses in door.site.candidates:
            untils = {one: rules.for_address(name, one, policy).held_until - date for one in addresses}
            first = min([first, *(seconds for seconds in untils.values() if seconds > 0)])
            if usable := [one for one in addresses if untils[one] <= 0]:
                found.append((preference, name, usable))
        return (None, 0.0) if found == door.site.candidates else (found, first)


def _thing(scope: str, host: bytes, address: bytes) -> bytes:
    if scope == policies.NET:
        return network_of(address)
    return address if scope == policies.ADDRESS else host
