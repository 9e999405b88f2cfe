"""What a table of blame is to know of a session and its door."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.faults.table import Facts
    from pyqmail.mail.destinations.sessions import DeliverySession

MASS_END_SECONDS = 1.0


def fill_facts(facts: "Facts", session: "DeliverySession", now: float) -> None:
    """Tell a Facts of the other sessions that are up."""
    door = session.door
    address = facts.outcome.address or session.address
    is_up = session.is_up
    # an agent that connects by itself tells of no greeting: what it delivers is taken as up
    facts.others_up = sum(door.up.values()) - is_up if session.number is not None else door.sessions - 1
    facts.here_up = door.up.get(address, 0) - (is_up and address == session.address)
    facts.has_mass_end = 0 < now - door.ended_at <= MASS_END_SECONDS
    facts.is_repeated = facts.outcome.code > 0 and door.last_code == facts.outcome.code
