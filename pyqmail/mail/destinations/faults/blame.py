"""Which event is whose fault, and what follows: one table.

The engine describes what happened in a Facts; find_row() returns the row of BLAME that speaks of it.  A row says who is
blamed and which EFFECTS follow; the engine carries them out in their order.  Amounts stand in the facts: reply.seconds
for a pause, carried for n, accepted for m.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.faults.replies import Reply
    from pyqmail.mail.destinations.outcome import Outcome

# who is blamed
NOBODY, OURSELVES, RECIPIENT, MESSAGE, CONNECTION = "nobody", "ourselves", "recipient", "message", "connection"
TRANSACTION, FLOW, HOST, DOOR, SITE = "transaction", "flow", "host", "site and source", "site"
ORGANISATION, DOMAIN = "organisation", "domain"

# what follows.  Of the parcel or recipient:
COUNT = "count"  # the delivery ends as its report says: success, failure, deferral with its own retry time
DEFER = "defer"  # it is deferred whatever its report says
FAIL = "fail"  # it fails whatever its report says
RESEND = "resend"  # it goes back to the head of its flow with no new retry time; the third time running it is deferred
AGAIN = "again"  # so, but for another transaction of the same session at once
GREY_TRY = "grey"  # class grey: deferred until Bracket.next_try()
# of the session and the hosts:
CLOSE_SESSION = "close"  # nothing more goes over this connection
NEXT_HOST = "next host"  # MORE with another host, or CLOSE
SAME_HOST = "same host"  # MORE with this host and what was remembered of it
PENALTY = "penalty"  # HostTable.failed()
NO_EHLO = "no EHLO"  # remembered of the host
NO_PIPELINING = "no PIPELINING"
# of what is learned:
LEARN_MESSAGES = "learn n"  # LearnedMessages.refused(carried)
LEARN_CLOSE = "learn n by close"  # LearnedMessages.closed(carried)
LEARN_RECIPIENTS = "learn m"  # LearnedRecipients.refused(accepted)
CEILING_REACHED = "ceiling"  # Window.refused_at(others up): a ceiling, or a pause while none is up
RATE_REACHED = "rate"  # LearnedRate.refused() of the budget that reply.scope names
# of doors, sites, flows, domains:
PAUSE_DOOR = (
    "pause"  # reply.seconds, in the scope of the reply; 0: BLOCKED_SECONDS doubling, of the site by this source
)
COUNT_START = "count start"  # a failed start of the site: dead after `dead=`
COUNT_FLOW = "count flow"  # FlowFaults.deferred(), which may pause the flow at the organisation
COUNT_DOMAIN = "count domain"  # DomainFaults.missing(): the third time over an hour is a failure
WAIT_LANE = "wait"  # the lane waits, nothing is deferred: DomainFaults.trouble()
LOG_DOUBT = "possibly delivered"  # a log line says so
LOWER_TOTAL = "lower total"  # lacking()

BLOCKED_SECONDS = 1800.0


class Facts:
    """What the engine knows of one event.  It may use one object again and again.

    outcome       what was reported
    reply         what the response rules make of it (replies.classify)
    carried       messages that the connection had carried before
    accepted      recipients of this transaction that were accepted
    others_up     other sessions of the door that are greeted and not gone
    here_up       those of them that are with this host
    is_last_host  no other host is left to try in this session start
    is_repeated   the door's session start before this one met the same code from this host or its neighbours
    has_mass_end  others of the door were closed by the server within the last second: it is shutting down
    is_new        the recipient was not tried before, or waits in class grey
    was_resent    the parcel has come back once already from a connection that had carried mail
    is_pipelined  the session used PIPELINING
    has_ehlo      the session greeted with EHLO
    """

    __slots__ = (
        "outcome",
        "reply",
        "carried",
        "accepted",
        "others_up",
        "here_up",
        "is_last_host",
        "is_repeated",
        "has_mass_end",
        "is_new",
        "was_resent",
        "is_pipelined",
        "has_ehlo",
    )

    def __init__(self, outcome: "Outcome", reply: "Reply") -> None:
        self.outcome, self.reply = outcome, reply
        self.carried = self.accepted = self.others_up = self.here_up = 0
        self.is_last_host = self.is_repeated = self.has_mass_end = False
        self.is_new = self.was_resent = self.is_pipelined = self.has_ehlo = False


class Row:
    """A row of the table: the event in words, when it is that one, who is blamed, what follows, and that in words."""

    __slots__ = ("event", "applies", "blamed", "effects", "text")

    def __init__(
        self, event: str, applies: "Callable[[Facts], bool]", blamed: str, effects: tuple[str, ...], text: str
    ) -> None:
        self.event, self.applies, self.blamed, self.effects, self.text = event, applies, blamed, effects, text


def blame_start(facts: Facts) -> Row:
    """Return the row of a session start that met a refusal or a failure (refused, failed) at one address."""
    raise NotImplementedError


def blame_end(facts: Facts) -> Row:
    """Return the row of a session that ended (closed) without having been told to.  outcome has stage DIALOGUE if the
    server said nothing.  The parcels in flight, if any, are part of it: RESEND, DEFER speaks of them."""
    raise NotImplementedError


def blame_delivery(facts: Facts) -> Row:
    """Return the row of a delivery that has ended without success (result, letter Z or D)."""
    raise NotImplementedError


def blame_all_hosts(facts: Facts) -> Row:
    """Return the row of a session start that has met every host in vain."""
    raise NotImplementedError


def blame_lookup(is_missing: bool, is_final: bool) -> Row:
    """Return the row of a domain without hosts: NXDOMAIN or no address (missing), null MX or all are ourselves (final),
    otherwise trouble of name servers."""
    raise NotImplementedError


def rows() -> list[tuple[str, str, str]]:
    """Return (event, blamed, effect) of each row in words, for the manual."""
    raise NotImplementedError
