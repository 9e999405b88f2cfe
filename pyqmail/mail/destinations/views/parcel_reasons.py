"""What holds up some parcels of a lane: that of those that are ready, else what the others do or wait for."""

from pyqmail.mail.destinations.limits.states import PAUSED
from pyqmail.mail.destinations.scheduling.core import IN_FLIGHT, IS_PARKED, ON_WHEEL
from pyqmail.mail.destinations.views.limit_texts import shown, time_left
from pyqmail.mail.destinations.views.reasons import (
    FLYING,
    RETRY,
    Obstacle,
    held_of,
    line_that_sets,
    obstacle_of,
    paused_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Lane
    from pyqmail.mail.destinations.scheduling.core import EngineTables


def obstacle_of_parcels(tables: "EngineTables", lane: "Lane", parcels: list[int], now: float) -> Obstacle:
    """Return what holds parcels of a lane up; they are one or more."""
    rows = tables.core.rows
    flags = [rows.p_flags[parcel] for parcel in parcels]
    if any(not flag & (ON_WHEEL | IN_FLIGHT) for flag in flags):
        return obstacle_of(tables.core, lane, now)
    if any(flag & IN_FLIGHT for flag in flags):
        return Obstacle(FLYING, "in delivery now" + _where(tables, parcels))
    first = min(parcels, key=lambda parcel: rows.p_due[parcel])
    return _waiting(tables, lane, first, now)


def _where(tables: "EngineTables", parcels: list[int]) -> str:
    """Return the host that parcels are being delivered to, empty if it is not known."""
    wanted = set(parcels)
    session = next((one for one in tables.sessions() if one.parcel in wanted and one.host), None)
    return f", to {shown(session.host)} {shown(session.address)}" if session is not None else ""


def _waiting(tables: "EngineTables", lane: "Lane", parcel: int, now: float) -> Obstacle:
    """Return what a parcel on the wheel waits for: its time, or, if that is later, the end of a hold or a pause."""
    core = tables.core
    seconds = max(0.0, core.clock.time_of_second(core.rows.p_due[parcel]) - now)
    found = held_of(core, lane, now)
    if found is None and lane.door is not None and not core.is_local:
        found = paused_of(lane.door, now)
    if found is not None and (found.seconds is None or found.seconds > seconds):
        return found
    text = _retry_text(tables, lane, parcel, seconds)
    return _flow_pause(tables, lane, parcel, now) or Obstacle(RETRY, text, seconds=seconds)


def _flow_pause(tables: "EngineTables", lane: "Lane", parcel: int, now: float) -> Obstacle | None:
    rows = tables.core.rows
    faults = lane.door.site.organisation.flow_faults if lane.door is not None else None
    if faults is None or not rows.p_flags[parcel] & IS_PARKED:
        return None
    flow = tables.core.senders.name(rows.m_sender[rows.p_message[parcel]])
    seconds = faults.paused_until(flow) - now
    if seconds <= 0:
        return None
    whose, left = shown(flow) or "<>", time_left(seconds)
    text = f"mail of {whose} is paused there for {left} more: it alone is deferred by policy"
    return Obstacle(PAUSED, text, seconds=seconds)


def _retry_text(tables: "EngineTables", lane: "Lane", parcel: int, seconds: float) -> str:
    """Return why a parcel has a time, and which line sets the times if one does."""
    when = f"tried again in {time_left(seconds)}"
    if parcel in tables.grey_since:
        return f"greylisted: {when}"
    if tables.core.rows.p_flags[parcel] & IS_PARKED:
        return f"parked: {when}"
    line = line_that_sets(lane.policy.matches, b"try") if lane.policy is not None else None
    where = f" (try= of {line.where} line {line.number})" if line is not None and line.where != "built in" else ""
    return f"deferred: {when}{where}"
