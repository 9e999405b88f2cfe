"""What a server's reply means, by the response rules: the words that stand for a limit, a rate, a greylist.

Only words are read here.  What follows from stage and code alone is the table of blame.py.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyqmail.mail.destinations.outcome import Outcome

# what a response rule may say of a reply: the actions of control/responses
CEILING, RATE, PAUSE, MESSAGES, RECIPIENTS = "ceiling", "rate", "pause", "n", "m"
GREY, FAIL, DEFER, IGNORE = "grey", "fail", "defer", "ignore"
PLAIN = ""  # no rule speaks of it

FLOW, SOURCE, SITE, ORGANISATION = "flow", "source", "site", "org"


class Reply:
    """kind is a word above; seconds of PAUSE and DEFER, otherwise 0; scope FLOW, SOURCE, SITE, ORGANISATION or empty.

    rule is the line that says so, for explanations; empty for PLAIN.
    """

    __slots__ = ("kind", "seconds", "scope", "rule")

    def __init__(self, kind: str = PLAIN, seconds: float = 0, scope: str = "", rule: bytes = b"") -> None:
        self.kind, self.seconds, self.scope, self.rule = kind, seconds, scope, rule


def classify(outcome: "Outcome", responses: "object | None", groups: "Sequence[bytes]" = ()) -> Reply:
    """Return what the response rules (responses.Automaton; None: no rules) know of an outcome's reply.

    groups are those of the site.  Only a reply of a server counts, never the words of our own report.
    """
    raise NotImplementedError
