"""Deliveries: parcels in flight, and where each of their recipients goes when it has ended.

A recipient in flight ends once: it is gone (success, failure, dropped), or it has one of the ends below.  When all of a
transaction have ended, what is left of the parcel goes where the ends say; recipients with different ends part.
"""

from pyqmail.mail.destinations.orders import DELIVER
from pyqmail.mail.destinations.scheduling.core import IN_FLIGHT, IS_FORGOTTEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.mail_store import MailStore
    from pyqmail.mail.destinations.scheduling.ways import Ways
    from pyqmail.mail.destinations.sessions import DeliverySession

MAX_RETURNS = 3  # how often a recipient comes back untouched before that counts as a deferral
# ends: (DEFERRED, second of the wheel) and, with second 0, what follows
DEFERRED, AT_HEAD, FRESH, FLYING, FALLS = "deferred", "at head", "fresh", "flying", "falls"
End = tuple[str, int]


class Deliveries:
    """The transactions in flight, by parcel.  finished(session, now): all of a transaction have ended."""

    def __init__(
        self, core: "Core", store: "MailStore", ways: "Ways", finished: "Callable[[DeliverySession, float], None]"
    ) -> None:
        self._finished = finished
        self._core, self._store, self._ways, self._rows = core, store, ways, core.rows
        self._sessions: dict[int, DeliverySession] = {}  # by parcel
        self._ends: dict[int, End] = {}  # by recipient: those that have ended and are not gone

    def start(self, session: "DeliverySession", parcel: int, now: float) -> None:
        """Bind a parcel, which is nowhere, to a session."""
        rows = self._rows
        r_offset, recipient = rows.r_offset, rows.p_first[parcel]
        if rows.r_next[recipient]:
            offsets = [(one, r_offset[one]) for one in rows.recipients(parcel)]
        else:
            offsets = [(recipient, r_offset[recipient])]
        count = len(offsets)
        rows.p_flags[parcel] |= IN_FLIGHT
        session.parcel, session.flying, session.messages = parcel, count, session.messages + 1
        self._sessions[parcel] = session
        number = rows.m_number[rows.p_message[parcel]]
        if count > 1:
            session.extra = self._core.admission.take((self._core.budgets.total,), count - 1, now)
        for budget in session.all_units:
            if budget.recipient_rates:
                budget.send(count, now)
        to = session.number if session.batch is None else session.batch.number
        self._core.orders.append((DELIVER, to, number, offsets))

    def running(self) -> "list[DeliverySession]":
        """Return the sessions that have a transaction in flight."""
        return list(self._sessions.values())

    def session_of(self, recipient: int) -> "DeliverySession | None":
        """Return the session that a recipient is in flight in; None if it is not, or has ended."""
        rows = self._rows
        if not 0 < recipient < len(rows.r_parcel) or recipient in self._ends:
            return None
        return self._sessions.get(rows.r_parcel[recipient])

    def gone(self, session: "DeliverySession", recipient: int, now: float) -> None:
        """A recipient has ended for good."""
        rows, parcel = self._rows, session.parcel
        if rows.p_first[parcel] == recipient and not rows.r_next[recipient]:
            self._end_parcel(session, parcel, now)  # the last of its parcel, and mostly the only one
            return
        self._store.remove_recipient(recipient)
        self._landed(session, now)

    def _end_parcel(self, session: "DeliverySession", parcel: int, now: float) -> None:
        """The last recipient of a transaction has ended for good, and so have the others."""
        store, rows = self._store, self._rows
        message, session.parcel, session.flying = rows.p_message[parcel], 0, 0
        if session.extra:
            self._core.admission.give((self._core.budgets.total,), session.extra, now)
            session.extra = 0
        del self._sessions[parcel]
        if store.grey_since:
            store.grey_since.pop(parcel, None)
        store.count_out(self._ways.lanes[rows.p_lane[parcel]], 1)
        rows.remove_parcel(parcel)
        if not rows.m_left[message]:
            store.settle(message)
        self._finished(session, now)

    def ended(self, session: "DeliverySession", recipient: int, end: End, now: float) -> None:
        """A recipient has ended, and is not done."""
        if end[0] in (DEFERRED, FALLS):
            self._rows.r_returns[recipient] = 0
        self._ends[recipient] = end
        self._landed(session, now)

    def count_return(self, recipient: int) -> bool:
        """It came back untouched; return whether that may go on."""
        times = self._rows.r_returns[recipient] = min(MAX_RETURNS, self._rows.r_returns[recipient] + 1)
        return times < MAX_RETURNS

    def flying(self, session: "DeliverySession") -> list[int]:
        """Return the recipients of a session that have not ended."""
        if not session.parcel:
            return []
        return [recipient for recipient in self._rows.recipients(session.parcel) if recipient not in self._ends]

    def _landed(self, session: "DeliverySession", now: float) -> None:
        session.flying -= 1
        if session.extra:
            session.extra -= 1
            self._core.admission.give((self._core.budgets.total,), 1, now)
        if not session.flying:
            self._finish(session, now)

    def _finish(self, session: "DeliverySession", now: float) -> None:
        """All of the transaction have ended."""
        rows, parcel = self._rows, session.parcel
        message = rows.p_message[parcel]
        session.parcel = 0
        since = self._store.grey_since.get(parcel)
        del self._sessions[parcel]
        rows.p_flags[parcel] &= ~IN_FLIGHT
        if not rows.p_first[parcel]:
            self._store.grey_since.pop(parcel, None)
            rows.remove_parcel(parcel)
        elif rows.m_flags[message] & IS_FORGOTTEN:
            for recipient in rows.recipients(parcel):
                self._ends.pop(recipient, None)
            self._store.drop_parcel(parcel)
        else:
            self._part(session, parcel, since, now)
        self._store.settle(message)
        self._finished(session, now)

    def _part(self, session: "DeliverySession", parcel: int, since: int | None, now: float) -> None:
        rows = self._rows
        recipients = rows.recipients(parcel)
        groups: dict[End, list[int]] = {}
        for recipient in recipients:
            groups.setdefault(self._ends.pop(recipient), []).append(recipient)
        most = max(groups, key=lambda end: len(groups[end]))
        for end, some in groups.items():
            if end != most:
                for recipient in some:
                    part = rows.split_off(recipient)
                    if since is not None:
                        self._store.grey_since[part] = since
                    self._place(session, part, end, now)
        self._place(session, parcel, most, now)

    def _place(self, session: "DeliverySession", parcel: int, end: End, now: float) -> None:
        kind, second = end
        rows = self._rows
        rows.p_flags[parcel] &= ~IN_FLIGHT
        if kind == DEFERRED:
            rows.p_tries[parcel] = min(255, rows.p_tries[parcel] + 1)
            self._store.put_on_wheel(parcel, second)
        elif kind == FALLS and self._ways.fallbacks is not None:
            rows.p_tries[parcel] = min(255, rows.p_tries[parcel] + 1)
            self._ways.fallbacks.hand_over(parcel, now)
        elif kind == FRESH and self._ways.lanes[rows.p_lane[parcel]].door is session.door:
            session.door.returned.append(parcel)
            session.door.ready += 1
        else:
            is_fallen = self._ways.lanes[rows.p_lane[parcel]].home is not None
            self._store.make_ready(parcel, now, at_head=True, is_placed=is_fallen)
