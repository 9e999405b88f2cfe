"""Sources through which nothing goes for a while: paused by replies, not usable here, or cut off.

A source that this machine does not have (no interface has the address) is that source's trouble alone: its budget is
paused, nobody is blamed, and the log says so once.  After each pause one session shows whether the address is there
again.  What waits for a source waits, unless the rules let it move (`spill`, parts.py).
"""

from pyqmail.base.printable import logsafe
from pyqmail.mail.destinations.limits.budgets import ORGANISATION, SOURCE, Pause
from pyqmail.mail.destinations.limits.windows import DEAD_REASON
from pyqmail.mail.destinations.rules.policies import SITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Site
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.scheduling.core import Core

UNUSABLE_SECONDS = 60.0
NOT_HERE = b"not an address of this machine"  # reason of a pause
NO_FAMILY = b"no host has an address of its family"
# reasons of pauses that say nothing about a source: the site's, or our network's
_OF_OTHERS = (DEAD_REASON, b"hosts off", b"soft-blocked", b"our network", NO_FAMILY)


class ShutSources:
    """frozen: sources that are known to reach nobody (guards.py); unusable: since when, by address."""

    def __init__(self, core: "Core") -> None:
        self._core = core
        self.frozen: dict[bytes, None] = {}
        self.unusable: dict[bytes, float] = {}

    def is_shut(self, address: bytes, site: "Site", now: float) -> bool:
        """Return whether nothing may go to a site through a source now, for a reason that is the source's."""
        if address in self.frozen or address in self.unusable:
            return True
        table = self._core.budgets
        keys = (ORGANISATION, site.organisation.name, address), (SITE, site.key, address)
        return any((budget := table.known(key)) is not None and _is_paused(budget, now) for key in keys)

    def freeze(self, address: bytes) -> None:
        """A source reaches nobody: its guard is sure."""
        self.frozen[address] = None
        self._core.shut_budgets.append(self._budget(address))

    def thaw(self, address: bytes) -> None:
        self.frozen.pop(address, None)

    def cannot_be_used(self, address: bytes, now: float) -> None:
        """The system did not let a session connect with a source's address."""
        budget = self._budget(address)
        if address not in self.unusable:
            self.unusable[address] = now
            line = b"source %b: %b: its mail waits, or goes through others where a rule says spill"
            self._core.log.add(line % (logsafe(address), NOT_HERE))
            self._core.shut_budgets.append(budget)
        if budget.paused_until <= now:
            budget.pause(Pause(now + UNUSABLE_SECONDS, NOT_HERE))
            budget.be_cautious(True)
            self._core.admission.changed(budget, now)

    def is_used(self, address: bytes, now: float) -> None:
        """The system let a session connect with a source's address."""
        since = self.unusable.pop(address, None)
        if since is None:
            return
        self._core.log.add(b"source %b: usable again after %d" % (logsafe(address), now - since))
        budget = self._budget(address)
        if budget.pause_reason == NOT_HERE:
            budget.lift()
        budget.be_cautious(False)
        self._core.admission.changed(budget, now)

    def _budget(self, address: bytes) -> "Budget":
        return self._core.budgets.find((SOURCE, address, address), address, SOURCE)


def _is_paused(budget: "Budget", now: float) -> bool:
    return budget.paused_until > now and budget.pause_reason not in _OF_OTHERS
