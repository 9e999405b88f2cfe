"""What a fault holds back or ends beside what is in flight: soft blocks, paused flows, sites that take no mail at all.

A site that is soft-blocked is paused, for a minute at a time: each session that is opened in it begins another minute,
and carries one message.  What a paused flow has ready is parked on the wheel, a part at a time; what becomes ready of
it goes there at once (MailStore.make_ready).
"""

from pyqmail.mail.destinations.limits.budgets import Pause
from pyqmail.mail.destinations.outcome import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Door, Organisation, Site
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.mail_store import MailStore
    from pyqmail.mail.destinations.scheduling.ways import Ways

SOFT_BLOCKED = b"soft-blocked"  # reason of a pause
SPREAD_SECONDS = 6.0  # sites that began together do not go on together
PART = 500  # parcels that are parked in one turn


class SiteFaults:
    """block() and hold_flow() begin; note_opening() is told of each session; end_turn() ends what core collected."""

    def __init__(self, core: "Core", ways: "Ways", store: "MailStore") -> None:
        self._core, self._ways, self._store = core, ways, store

    # soft blocks

    def block(self, site: "Site", now: float) -> None:
        """A site gets one message a minute from now on."""
        assert site.soft_block is not None
        when = site.soft_block.next_time()
        if when is None:
            return
        pause = Pause(when + SPREAD_SECONDS * self._core.random.random(), SOFT_BLOCKED)
        for door in site.doors.values():
            if door.site_budget is not None:
                door.site_budget.pause(pause)

    def note_opening(self, site: "Site", now: float) -> None:
        """A session is opened: in a blocked site it is the one of this minute."""
        assert site.soft_block is not None
        if site.soft_block.is_blocked:
            site.soft_block.sent(now)
            self.block(site, now)

    def _release(self, site: "Site", now: float) -> None:
        for door in site.doors.values():
            budget = door.site_budget
            if budget is not None and budget.pause_reason == SOFT_BLOCKED:
                budget.lift()
                self._core.admission.changed(budget, now)

    # flows

    def hold_flow(self, organisation: "Organisation", flow: bytes, now: float) -> None:
        """Park what a flow has ready at an organisation where it is paused now."""
        self._hold_part((organisation, flow), now)

    def _hold_part(self, subject: "tuple[Organisation, bytes]", now: float) -> None:
        organisation, flow = subject
        until = organisation.flow_faults.paused_until(flow) if organisation.flow_faults is not None else 0.0
        key = self._core.senders.find(flow)
        if key is None or until <= now:
            return
        second, left = self._core.clock.second(until) + 1, PART
        for door in organisation.doors:
            left = self._hold_at(door, key, second, left)
            if left <= 0:
                self._core.timers.at(now, self._hold_part, subject)
                return

    def _hold_at(self, door: "Door", key: int, second: int, left: int) -> int:
        """Park what a sender has ready in the lanes of a door; return how many of `left` more may be parked now."""
        for lane in list(door.lanes):
            parcels = lane.queue.take_flow(key, left)
            for parcel in parcels:
                self._store.put_on_wheel(parcel, second, is_parked=True)
            if parcels:
                self._ways.recount(lane)
            left -= len(parcels)
            if left <= 0:
                break
        return left

    # sites without hosts that take mail

    def end_turn(self, now: float) -> None:
        core = self._core
        failed, core.failed_doors = core.failed_doors, []
        for door, outcome in failed:
            end = Outcome(b"D" + outcome.text, outcome.stage, outcome.code, outcome.host, outcome.address)
            rows = core.rows
            lanes = dict.fromkeys([*door.lanes, *(self._ways.lanes[rows.p_lane[parcel]] for parcel in door.returned)])
            for lane in lanes:
                self._store.end_lane(lane, end, now)
        released, core.released = core.released, []
        for site in released:
            self._release(site, now)
        if core.shut_budgets:
            self._ways.sources.end_turn(now)
