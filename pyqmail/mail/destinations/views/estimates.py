"""After how long mail that waits for a limit should go, from what the sessions have done so far."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyqmail.mail.destinations.doors import Door
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.sessions import DeliverySession


def seconds_to_go(
    door: "Door", budget: "Budget", before: int, sessions: "Sequence[DeliverySession]", now: float
) -> float | None:
    """Return after how long all that is ready at a door should have gone; None: unknown.

    before: how many stand before it in the room of the budget that it waits for.  Sessions of its own go on as they
    did so far.  Without any it needs one first.
    """
    own = [session for session in sessions if session.door is door and session.carried]
    if own:
        lived = sum(now - session.opened_at for session in own)
        return door.ready * lived / len(own) / sum(session.carried for session in own)
    return place_seconds(budget, before, sessions, now)


def place_seconds(budget: "Budget", place: int, sessions: "Sequence[DeliverySession]", now: float) -> float | None:
    """Return after how long the waiter at a place (0 the first) of a full budget should have its unit; None: unknown.

    A session that holds a unit now is half over on average, so twice its age is how long one takes.
    """
    ages = [now - session.opened_at for session in sessions if _holds(session, budget)]
    if not ages or budget.cap <= 0:
        return None
    return (place + 1) / min(budget.cap, len(ages)) * 2 * sum(ages) / len(ages)


def _holds(session: "DeliverySession", budget: "Budget") -> bool:
    return budget in session.units or any(budget in units for _, units, _ in session.tries.values())
