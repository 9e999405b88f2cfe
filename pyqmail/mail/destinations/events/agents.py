"""Deliveries without sessions of our own: the local channel, and agents that connect by themselves.

A session that is granted is one delivery to one recipient at once; it ends when that does.  A batch to a local
recipient is several such sessions: the first has the units, which come back when the last has ended.
"""

from pyqmail.mail.destinations.sessions import OPENED, DeliverySession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Door
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.scheduling.binding import Binding
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.deliveries import Deliveries
    from pyqmail.mail.destinations.scheduling.ways import Ways


class AgentGrants:
    """open_session of Admission, and what follows when its delivery has ended."""

    def __init__(self, core: "Core", ways: "Ways", binding: "Binding", deliveries: "Deliveries") -> None:
        self._core, self._ways, self._binding, self._deliveries = core, ways, binding, deliveries

    def open_session(self, door: "Door", units: "tuple[Budget, ...]", now: float) -> None:
        session = DeliverySession(None, door, units, now)
        session.state = OPENED
        door.sessions += 1
        door.working += 1
        local = self._ways.local
        if local is None:
            door.chain = self._ways.chain(door, now)
            parcel = self._binding.next_parcel(session, now)
        else:
            parcel = local.next_parcel(session, now)
        if not parcel:
            self.finished(session, now)
            return
        self._deliveries.start(session, parcel, now)
        if local is not None and session.batch is not None:
            for other, more in local.companions(session, parcel, now):
                self._deliveries.start(other, more, now)

    def finished(self, session: "DeliverySession", now: float) -> None:
        """Its delivery has ended."""
        if session.batch is not None:
            session.batch.running -= 1
            if session.batch.running:
                return
            session = session.batch.first
        door = session.door
        door.sessions -= 1
        door.working -= 1
        local = self._ways.local
        if local is None:
            self._ways.update_chain(door, now)
        elif session.lane is not None:
            for budget in session.units[:-1]:
                budget.used -= 1
            session.units = session.units[-1:]
            local.ended(session.lane, now)
        self._core.admission.release(session.units, now)
        self._ways.seek(door, now)
