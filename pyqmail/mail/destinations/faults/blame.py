"""Which event is whose fault, and what follows: one table.

The engine describes what happened in a Facts; blame_start() and the others return the row of the table that speaks of
it, the first that applies.  A row says who is blamed and which effects follow; the engine carries them out in their
order.  Amounts stand in the facts: facts.rule.seconds for a pause, carried for n.

The suspicion goes from the narrow to the wide: recipient, message, connection, flow, host, site by one source,
organisation by one source, and last of all ourselves.  Each has a reaction of its own, so that one's trouble is not
charged to its neighbours:

    a message pays for what was said of it alone, and never for the mood of a server (PARK, RESEND keep its retry time)
    a host that fails costs itself while another greets; a site is dead only if each of its hosts failed
    a server that answers is alive, whatever it says: its site is paused, not dead
    while many organisations are silent at once nobody is blamed: it is us (network.py)

BLAME has the table in parts, by the moment: the first row of a part that applies is the one.  The session process has
already done what cannot wait for us: what was too much for a transaction has gone into another, what the connection was
refused for comes back unsent.  A policy for TLS gives two more rows once there is TLS.
"""

from pyqmail.mail.destinations.faults.delivery_rows import DELIVERY, TRANSACTION
from pyqmail.mail.destinations.faults.session_rows import END, LOOKUP, NO_HOST_LEFT, START

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.faults.table import Facts, Row

BLAME = {
    "a session start meets an address": START,
    "no host is left to try": NO_HOST_LEFT,
    "a session ends by itself": END,
    "a transaction has too many recipients": TRANSACTION,
    "a delivery is reported": DELIVERY,
    "name servers answer": LOOKUP,
}


def blame_start(facts: "Facts") -> "Row":
    """Return the row of a session start that met a refusal or a failure at one address: refused(), failed()."""
    return _first(START, facts)


def blame_all_hosts(facts: "Facts") -> "Row":
    """Return the row of a session start that has no address left, after blame_start() for the last one."""
    return _first(NO_HOST_LEFT, facts)


def blame_end(facts: "Facts") -> "Row":
    """Return the row of a session that was greeted and ended by itself: closed() with an outcome.

    RESEND speaks of the parcels that came back unsent() with it.
    """
    return _first(END, facts)


def blame_transaction(facts: "Facts") -> "Row":
    """Return the row of a transaction that was refused some of its recipients: result() with accepted > 0."""
    return _first(TRANSACTION, facts)


def blame_delivery(facts: "Facts") -> "Row":
    """Return the row of a delivery without success (result(), letter Z or D) of a session that was greeted.

    An agent that connects by itself reports starts here, too: a stage of table.STARTS goes to blame_start(), with
    is_last_host, and then to blame_all_hosts().
    """
    return _first(DELIVERY, facts)


def blame_lookup(facts: "Facts") -> "Row":
    """Return the row of a lookup without hosts: nowhere(), whose outcome is a failure, or trouble(), a deferral."""
    return _first(LOOKUP, facts)


def rows() -> list[tuple[str, str, str, str]]:
    """Return (moment, event, blamed, what follows) of each row, in words, for the manual."""
    return [(moment, row.event, row.blamed, row.text) for moment, table in BLAME.items() for row in table]


def _first(table: "tuple[Row, ...]", facts: "Facts") -> "Row":
    for row in table:
        if row.applies(facts):
            return row
    raise AssertionError("the last row of each table applies always")
