"""The budgets of the host that is tried: its own ceiling, its address, its net, and what rules say of them."""

from pyqmail.mail.destinations.limits.budgets import HOST
from pyqmail.mail.destinations.rules import policies
from pyqmail.mail.destinations.rules.policies import SitePolicy
from pyqmail.mail.destinations.sites import network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyqmail.mail.destinations.doors import Door
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.scheduling.core import Core


class HostUnits:
    """of() for each address that may be tried.  What nobody uses any more is dropped."""

    def __init__(self, core: "Core") -> None:
        self._core = core

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
        return tuple(found)

    def drop(self, units: "Iterable[Budget]", now: float) -> None:
        """Forget those of units that nobody uses or waits for, and that remember nothing."""
        for budget in units:
            self._core.budgets.drop_unused(budget, now)


def _thing(scope: str, host: bytes, address: bytes) -> bytes:
    if scope == policies.NET:
        return network_of(address)
    return address if scope == policies.ADDRESS else host
