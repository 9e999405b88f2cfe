"""The lanes there are, by domain: made when mail comes, forgotten once they have nothing to do and know nothing new."""

import collections

from pyqmail.mail.destinations.old.lanes import Lane

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Plan = tuple[bool, bytes, bytes]  # is_strange, destination, name of a Lane


class KnownLanes:
    """replaced(old, new) is called when a domain's mail goes another way by now: what waits in old goes to new."""

    def __init__(self, replaced: "Callable[[Lane, Lane], None]") -> None:
        self.by_domain: dict[bytes, Lane] = {}
        self._replaced = replaced
        self._listed: collections.deque[tuple[float, Lane]] = collections.deque()  # when to forget it, if it is unused

    def find(self, domain: bytes, plan: "Plan") -> Lane:
        """Return the lane of a domain: another one if control/smtproutes sends its mail another way by now."""
        lane = self.by_domain.get(domain)
        if lane is not None and (lane.is_asked or plan == (lane.is_strange, lane.destination, lane.name)):
            return lane
        new = self.by_domain[domain] = Lane(domain, *plan)
        if lane is not None:
            self._replaced(lane, new)
        return new

    def forget_if_unused(self, lane: Lane, now: float) -> None:
        """Forget a lane that has nothing to do any more, once what it knows is old."""
        if not lane.is_unused or lane.is_listed:
            return
        if lane.candidates is None or lane.known_until <= now:
            self._forget(lane)
        else:
            lane.is_listed = True
            self._listed.append((lane.known_until, lane))

    def forget_old(self, now: float) -> None:
        """Forget the lanes whose time has come; a lane that has mail again stays."""
        while self._listed and self._listed[0][0] <= now:
            lane = self._listed.popleft()[1]
            lane.is_listed = False
            if lane.is_unused:
                self._forget(lane)

    def next_time(self) -> float | None:
        """Return when forget_old() may find one."""
        return self._listed[0][0] if self._listed else None

    def _forget(self, lane: Lane) -> None:
        if self.by_domain.get(lane.domain) is lane:  # a session that is still closing may hold on to an older one
            del self.by_domain[lane.domain]
