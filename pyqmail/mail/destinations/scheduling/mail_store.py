"""Mail in memory: how it comes, waits for its time, and goes.

A parcel is in one place: in the queue of its lane or among the returned of its door (no mark), on the wheel (ON_WHEEL),
or in flight (IN_FLIGHT).  IS_PARKED is on the wheel for a reason that is not its own: it has no date on disk.
"""

from pyqmail.mail.destinations.orders import DONE, REPORT
from pyqmail.mail.destinations.outcome import Outcome
from pyqmail.mail.destinations.retry import REMOTE_CONSTANT, retry_time
from pyqmail.mail.destinations.scheduling.core import (
    IN_FLIGHT,
    IS_BULK,
    IS_FORGOTTEN,
    IS_MORE_TO_COME,
    IS_PARKED,
    IS_TOO_OLD,
    ON_WHEEL,
    WAS_TRIED,
)
from pyqmail.mail.destinations.scheduling.due_dates import DueDates
from pyqmail.mail.destinations.waiting.expiries import Expiries
from pyqmail.mail.destinations.waiting.flows import BULK, NORMAL, URGENT
from pyqmail.mail.destinations.waiting.rows import IS_STRUCK
from pyqmail.mail.destinations.waiting.untried import last_outcome
from pyqmail.mail.destinations.waiting.wheel import Wheel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyqmail.mail.destinations.doors import Lane
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.ways import Ways

MANY_PARCELS = 200  # a message of as many is bulk
UNTRIED_SECONDS = 60  # mail that is due later after its birth was deferred
EXPIRED_AGAIN_SECONDS = 3600  # an expired message whose last try has not come yet is looked at again
_CLASSES = {b"urgent": URGENT, b"normal": NORMAL, b"bulk": BULK}


class MailStore:
    """ways: where a parcel goes that is ready."""

    def __init__(self, core: "Core", ways: "Ways", now: float) -> None:
        self._core, self._ways, self._rows = core, ways, core.rows
        start = core.clock.second(now)
        self._wheel = Wheel(self._rows.p_next, self._rows.p_due, start)
        self.expiries = Expiries(start)
        self.due_dates = DueDates(core)
        ways.sort_again, ways.sources.make_ready = self.sort_again, self.make_ready
        self.grey_since: dict[int, int] = {}  # parcel -> the second of its first try

    def arrived(
        self,
        number: int,
        sender: bytes,
        size: int,
        birth: int,
        recipients: "Sequence[tuple[int, bytes]]",
        due: int,
        flags: int,
        now: float,
    ) -> None:
        rows, clock = self._rows, self._core.clock
        message = rows.find(number)
        if not message:
            message = rows.add_message(number, self._core.senders.take(sender), size, birth, flags)
            if due > birth + UNTRIED_SECONDS:
                rows.m_flags[message] |= WAS_TRIED
            end = birth + self._core.lifetime
            if clock.date(now) > end:
                rows.m_flags[message] |= IS_TOO_OLD
            self.expiries.set(message, clock.second_of_date(end, now) + 1)
        else:
            rows.m_flags[message] = rows.m_flags[message] & ~IS_MORE_TO_COME | flags
        when = clock.second_of_date(due, now) if due > clock.date(now) else 0
        if when:
            self.due_dates.is_told(message, when)
        lanes = self._by_key(recipients)
        if len(lanes) >= MANY_PARCELS:
            rows.m_flags[message] |= IS_BULK
        for key, offsets in lanes.items():
            lane = self._ways.lane_of(key, now)
            parcel = rows.add_parcel(message, lane.number, offsets)
            lane.left += len(offsets)
            if when:
                self.put_on_wheel(parcel, when)
            else:
                self.make_ready(parcel, now)
        if not rows.m_left[message]:
            self.settle(message)

    def _by_key(self, recipients: "Sequence[tuple[int, bytes]]") -> dict[bytes, list[int]]:
        if len(recipients) == 1:
            return {recipients[0][1]: [recipients[0][0]]}
        found: dict[bytes, list[int]] = {}
        for offset, key in recipients:
            offsets = found.get(key)
            if offsets is None:
                found[key] = [offset]
            else:
                offsets.append(offset)
        return found

    def forget(self, number: int) -> bool:
        """Leave out all of a message that has not started; return whether there is such a message."""
        message = self._rows.find(number)
        if message:
            self._rows.m_flags[message] |= IS_FORGOTTEN
            self._rows.m_flags[message] &= ~IS_MORE_TO_COME
            for parcel in self._rows.parcels(message):
                if not self._rows.p_flags[parcel] & IN_FLIGHT:
                    self.remove_parcel(parcel)
            self.settle(message)
        return message > 0

    def make_ready(self, parcel: int, now: float, *, at_head: bool = False, is_placed: bool = False) -> None:
        """A parcel that is nowhere goes to the queue of its lane; is_placed: though another may have it."""
        rows = self._rows
        lane = self._ways.lanes[rows.p_lane[parcel]]
        if not is_placed and self._may_fall(lane):
            lane = self._ways.fallbacks.place(parcel, lane, now)  # type: ignore[union-attr]
        message = rows.p_message[parcel]
        if lane.front is not None:
            lane = self._ways.sources.lane_for(parcel, lane, now)
        door = lane.door
        block = door.site.soft_block if door is not None else None
        if door is not None and block is not None and block.is_blocked and rows.p_tries[parcel]:
            self._ways.add_first(door, parcel, now)  # if it is accepted now, it was a greylist
            return
        if door is not None and door.site.organisation.flow_faults is not None:
            until = self.held_until(lane, message)
            if until > now:
                self.put_on_wheel(parcel, self._core.clock.second(until) + 1, is_parked=True)
                return
        written = self.written_lifetime(lane, message)
        if written is not None and written < self._core.lifetime:
            self.expiries.set(message, self._core.clock.second_of_date(rows.m_birth[message] + written, now) + 1)
        self._ways.add(lane, parcel, self.class_of(lane, message), rows.m_sender[message], at_head, now)

    def _may_fall(self, lane: "Lane") -> bool:
        """Return whether a relay may have to do with the mail of a lane."""
        if self._ways.fallbacks is None:
            return False
        return lane.home is not None or bool(lane.trouble) or getattr(lane.policy, "fallback", None) is not None

    def sort_again(self, lane: "Lane", now: float) -> None:
        """What is ready in a lane has another class or lifetime than it came with."""
        for parcel in self._ways.drain(lane):
            self.make_ready(parcel, now)

    def class_of(self, lane: "Lane", message: int) -> int:
        policy = (lane.home or lane).policy
        written = policy.klass if policy is not None else b""
        if self._ways.has_sender_rules:
            sender = self._ways.sender_policy(self._rows.m_sender[message])
            written = sender.klass if sender is not None and sender.klass else written
        if written:
            return _CLASSES[written]
        return BULK if self._rows.m_flags[message] & IS_BULK else NORMAL

    def held_until(self, lane: "Lane", message: int) -> float:
        """Return until when the flow of a message is paused where a lane leads."""
        faults = lane.door.site.organisation.flow_faults if lane.door is not None else None
        if faults is None:
            return 0.0
        return faults.paused_until(self._core.senders.name(self._rows.m_sender[message]))

    def put_on_wheel(self, parcel: int, second: int, *, is_parked: bool = False) -> None:
        """A parcel that is nowhere waits for a second of the wheel."""
        rows = self._rows
        rows.p_flags[parcel] |= ON_WHEEL | IS_PARKED if is_parked else ON_WHEEL
        self._wheel.add(parcel, second)
        if not is_parked:
            self.due_dates.changed(rows.p_message[parcel])

    def advance(self, now: float) -> None:
        """What has become due is ready; what is too old is tried for the last time, or ends."""
        second = self._core.clock.second(now)
        for parcel in self._wheel.advance(second):
            self._take_off(parcel, now)
        if self.expiries.are_due(second):
            for message in self.expiries.advance(second):
                self._expire(message, second, now)
        if self._ways.fallbacks is not None:
            self._ways.fallbacks.advance(second, now)

    def make_due(self, now: float) -> None:
        """Everything on the wheel is due, but for what is parked for a reason of its destination's."""
        rows, second = self._rows, self._core.clock.second(now)
        for parcel in self._wheel.drain():
            if rows.p_flags[parcel] & (IS_PARKED | IS_STRUCK) == IS_PARKED:
                self._wheel.add(parcel, max(rows.p_due[parcel], second))
            else:
                self._take_off(parcel, now)

    def next_time(self) -> float | None:
        falls = self._ways.fallbacks.next_second() if self._ways.fallbacks is not None else None
        times = [time for time in (self._wheel.next_time(), self.expiries.next_second(), falls) if time is not None]
        return self._core.clock.time_of_second(min(times)) if times else None

    def written_lifetime(self, lane: "Lane", message: int) -> float | None:
        """Return how long mail of a message for a lane lives, in seconds; None: as long as any."""
        if self._ways.has_sender_rules:
            sender = self._ways.sender_policy(self._rows.m_sender[message])
            if sender is not None and sender.lifetime_seconds is not None:
                return sender.lifetime_seconds
        policy = (lane.home or lane).policy
        return policy.lifetime_seconds if policy is not None else None

    def is_too_old(self, lane: "Lane", message: int, now: float) -> bool:
        """Return whether a deferral of the message counts as a failure."""
        written = self.written_lifetime(lane, message)
        if written is not None:
            return self._core.clock.date(now) > self._rows.m_birth[message] + written
        if self._rows.m_flags[message] & IS_TOO_OLD:
            return True
        return self.expiries.second(message) <= self._core.clock.second(now)

    def report(self, parcel: int, outcome: "Outcome") -> None:
        """A parcel that is nowhere ends without having been tried."""
        rows = self._rows
        message = rows.p_message[parcel]
        recipients = [(row, rows.r_offset[row]) for row in rows.recipients(parcel)]
        self._core.orders.append((REPORT, rows.m_number[message], recipients, outcome))

    def remove_recipient(self, recipient: int) -> None:
        """A recipient in flight is done."""
        rows = self._rows
        lane = self._ways.lanes[rows.p_lane[rows.r_parcel[recipient]]]
        rows.remove_recipient(recipient)
        self.count_out(lane, 1)

    def count_out(self, lane: "Lane", count: int) -> None:
        """So many recipients of a lane are done."""
        lane.left -= count
        front = lane.front
        if front is not None and front is not lane:
            self._ways.sources.count_out(lane, count)
        elif not lane.left:
            self._ways.may_forget(lane)

    def drop_parcel(self, parcel: int) -> None:
        """Leave out a parcel that is nowhere."""
        self._count_out(parcel)
        self._rows.remove_parcel(parcel)

    def end_lane(self, lane: "Lane", outcome: "Outcome", now: float) -> None:
        """All that is ready in a lane without sessions ends so: it has failed, or is deferred."""
        rows, clock = self._rows, self._core.clock
        self._core.replies.note(lane.domain, outcome.text)
        for parcel in self._ways.drain(lane):
            message = rows.p_message[parcel]
            if outcome.letter == b"D" or self.is_too_old(lane, message, now):
                self.report(parcel, outcome if outcome.letter == b"D" else Outcome(b"D" + outcome.text, outcome.stage))
                self.drop_parcel(parcel)
                self.settle(message)
                continue
            self.report(parcel, outcome)
            rows.p_tries[parcel] = min(255, rows.p_tries[parcel] + 1)
            when = retry_time(rows.m_birth[message], int(clock.date(now)), REMOTE_CONSTANT)
            self.put_on_wheel(parcel, max(clock.second_of_date(when, now), clock.second(now) + 1))

    def remove_parcel(self, parcel: int) -> None:
        """Take out a parcel wherever it waits."""
        self._count_out(parcel)
        if self._rows.p_flags[parcel] & ON_WHEEL:
            self._rows.strike(parcel)
        else:
            self._ways.take_out(parcel)

    def _count_out(self, parcel: int) -> None:
        self.grey_since.pop(parcel, None)
        lane = self._ways.lanes[self._rows.p_lane[parcel]]
        self.count_out(lane, self._rows.count(parcel))

    def _take_off(self, parcel: int, now: float) -> None:
        """A parcel has come off the wheel."""
        rows = self._rows
        if rows.p_flags[parcel] & IS_STRUCK:
            rows.free_struck(parcel)
        else:
            rows.p_flags[parcel] &= ~(ON_WHEEL | IS_PARKED)
            self.make_ready(parcel, now)

    def _expire(self, message: int, second: int, now: float) -> None:
        """A message is too old: what cannot be tried now ends, the rest has its last try."""
        rows, clock = self._rows, self._core.clock
        following = second + EXPIRED_AGAIN_SECONDS
        if clock.date(now) > rows.m_birth[message] + self._core.lifetime:
            rows.m_flags[message] |= IS_TOO_OLD
        else:
            following = clock.second_of_date(rows.m_birth[message] + self._core.lifetime, now) + 1
        for parcel in rows.parcels(message):
            flags = rows.p_flags[parcel]
            if flags & IN_FLIGHT:
                continue
            lane = self._ways.lanes[rows.p_lane[parcel]]
            if self._core.is_us or self._ways.is_open(lane, now) or not self.is_too_old(lane, message, now):
                continue  # it has its last try, when it is due
            self.report(parcel, last_outcome(self._core, lane.home or lane, now))
            self.remove_parcel(parcel)
        if rows.m_parcels[message]:
            self.expiries.set(message, max(second + 1, following))
        self.settle(message)

    def settle(self, message: int) -> None:
        """See whether anything is left of a message."""
        rows = self._rows
        if rows.m_left[message]:
            return
        if not rows.m_flags[message] & IS_MORE_TO_COME and not rows.m_parcels[message]:
            if not rows.m_flags[message] & IS_FORGOTTEN:
                self._core.orders.append((DONE, rows.m_number[message]))
            self._core.senders.give_back(rows.m_sender[message])
            self.expiries.clear(message)
            if self._ways.fallbacks is not None:
                self._ways.fallbacks.message_gone(message)
            self.due_dates.clear(message)
            rows.remove_message(message)
