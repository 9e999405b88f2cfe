"""What a table of blame is to know of a session and its door."""

from pyqmail.mail.destinations.faults.replies import classify
from pyqmail.mail.destinations.faults.table import Facts
from pyqmail.mail.destinations.outcome import CONNECT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.outcome import Outcome
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.sessions import DeliverySession

MASS_END_SECONDS = 1.0
_NO_MAIL_HERE = 521


def fill_facts(facts: Facts, session: "DeliverySession", now: float) -> None:
    """Tell a Facts of the other sessions that are up."""
    door = session.door
    address = facts.outcome.address or session.address
    is_up = session.is_up
    # an agent that connects by itself tells of no greeting: what it delivers is taken as up
    facts.others_up = sum(door.up.values()) - is_up if session.number is not None else door.sessions - 1
    facts.here_up = door.up.get(address, 0) - (is_up and address == session.address)
    facts.has_mass_end = now - door.ended_at <= MASS_END_SECONDS and not _is_as_long(session)
    facts.is_repeated = facts.outcome.code > 0 and door.last_code == facts.outcome.code


def _is_as_long(session: "DeliverySession") -> bool:
    """Return whether a session has carried as many messages as the one that the server ended before it.

    That is a limit of the connection, met by several at once; a server that shuts down ends each where it stands.
    """
    return 0 < session.carried == session.door.ended_after


def start_facts(core: "Core", session: "DeliverySession", outcome: "Outcome", now: float) -> Facts:
    """Return the Facts of a session start that met an address which did not greet; is_us is left to be told."""
    door = session.door
    facts = Facts(outcome, classify(outcome, core.rules.responses, getattr(door.policy, "groups", ())))
    fill_facts(facts, session, now)
    if outcome.stage != CONNECT:
        session.has_answer = True
    session.only_no_mail = session.only_no_mail and outcome.code == _NO_MAIL_HERE
    facts.has_answer, facts.all_no_mail = session.has_answer, session.only_no_mail
    facts.is_last_host = not session.tries and not core.hosts.usable(door.candidates, session.tried, now)
    return facts
