"""What the response rules know of a reply: the words that stand for a limit, a rate, a reputation, a greylist.

What follows from stage and code alone is the table of blame.py.
"""

from pyqmail.mail.destinations.outcome import DATA, DIALOGUE, GREETING, MESSAGE, NAME, RECIPIENTS, SENDER, UNKNOWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from pyqmail.mail.destinations.outcome import Outcome
    from pyqmail.mail.destinations.rules.responses import Automaton, Response

MAX_TEXT = 4096  # bytes of a reply that are looked at
# where a server speaks: at the others it is the resolver, the network, or this machine
_SPOKEN = (GREETING, NAME, SENDER, RECIPIENTS, DATA, MESSAGE, DIALOGUE, UNKNOWN)


def classify(outcome: "Outcome", responses: "Automaton", groups: "Collection[bytes]" = ()) -> "Response | None":
    """Return the response rule that an outcome's reply meets at a site of these groups; None if there is none.

    Only a reply that asks for another time or refuses (4xx, 5xx) counts, never the words of our own report.
    """
    if outcome.stage not in _SPOKEN or outcome.code < 400:
        return None
    return responses.match(outcome.code, outcome.enhanced, outcome.reply[:MAX_TEXT], groups)
