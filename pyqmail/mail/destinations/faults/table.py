"""The words of the table of blame: who is blamed, what follows, the facts of an event, a row."""

from pyqmail.mail.destinations.outcome import CONNECT, GREETING, NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.outcome import Outcome
    from pyqmail.mail.destinations.rules.responses import Response

STARTS = (CONNECT, GREETING, NAME)  # stages in which nothing of a message was said yet

# who is blamed
NOBODY, OURSELVES, RECIPIENT, MESSAGE, CONNECTION = "nobody", "ourselves", "recipient", "message", "connection"
TRANSACTION, FLOW, HOST, DOOR, SITE = "transaction", "flow", "host", "site by source", "site"
ORGANISATION, DOMAIN = "organisation by source", "domain"

# What follows.  Of the recipients:
COUNT = "count"  # the delivery ends as its report says: failure, or deferral with its own retry time
DEFER = "defer"  # deferred, whatever the report says: rule.seconds, or its own retry time if that is 0
FAIL = "fail"  # failed, whatever the report says
PARK = "park"  # a deferral has no retry time: the parcel is ready when the site is; the third time running it has one
RESEND = "resend"  # as PARK, for what came back unsent: to the head of its flow
GREY_TRY = "grey"  # deferred in class grey until Bracket.next_try(); if that is None, as COUNT
# of the session, or the session start:
NEXT_HOST = "next host"  # MORE with another address; if none is left, blame_all_hosts() and CLOSE
END_START = "end start"  # CLOSE: no other address is tried
CLOSE_SESSION = "close"  # nothing more goes over this connection
# of the host:
PENALTY = "penalty"  # HostTable.failed()
PENALTY_LATER = "penalty if another greets"  # HostTable.failed() once another address of this session start greets
HOST_CEILING = "host ceiling"  # HostTable.refused(here_up)
# of what is learned:
LEARN_MESSAGES = "learn n"  # LearnedMessages.refused(carried)
LEARN_CLOSE = "learn n by close"  # LearnedMessages.closed(carried)
LEARN_RECIPIENTS = "learn m"  # LearnedRecipients.refused(accepted)
LEARN_STATED = "learn n as stated"  # LearnedMessages.stated(carried)
CEILING_REACHED = "ceiling"  # OrganisationRefusals.refused(), and Window.refused(): a ceiling, or a pause if none is up
RATE_REACHED = "rate"  # LearnedRate.refused(): of the organisation for a rule's scope `org`, otherwise of the site
# of doors, sites, flows, domains:
PAUSE = "pause"  # what rule.scope names (empty: organisation by source), for rule.seconds
PAUSE_BLOCKED = "pause blocked"  # the door, for BLOCKED_SECONDS, doubling, at most a day
COUNT_START = "count start"  # Window.failed(): dead after `dead=` in a row
COUNT_FLOW = "count flow"  # FlowFaults.deferred(): may pause the flow at the organisation
COUNT_BLOCK = "count block"  # SoftBlock.deferred(): may leave the site one message a minute
COUNT_DOMAIN = "count domain"  # DomainFaults.missing(): true, as FAIL_LANE; false, all that waits is deferred
FAIL_LANE = "fail lane"  # all that waits in the lane fails with this outcome
WAIT_LANE = "wait"  # DomainFaults.trouble(): the lane waits, nothing is deferred
LOG_DOUBT = "possibly delivered"  # a log line says so

BLOCKED_SECONDS, MAX_BLOCKED_SECONDS = 1800.0, 86400.0


class Facts:
    """What the engine knows of one event.  All but outcome and rule may be left as they are where they mean nothing.

    outcome         what was reported
    rule            the response rule that its reply meets (replies.classify), or None
    is_us           the network is suspected or frozen, or this source is (network.py)
    carried         messages that the connection had carried before
    others_up       other sessions of the door that are greeted and not gone
    here_up         those of them that are with this host
    is_last_host    no other address is left to try in this session start
    is_repeated     the door's session start before this one ended with the same code
    has_mass_end    another session of the door was ended by the server within the last second, and after another number
                    of messages: it is shutting down
    was_answered    the session has had an answer about mail, if only by refusing it
    had_parcel      a parcel was ordered that the session did not finish
    has_answer      an address of this session start has answered, if only by refusing
    all_no_mail     each address of this session start answered 521
    is_new          the recipient was not tried before, or waits in class grey
    has_greylist    the site is known to accept later what it defers at first: its Bracket has a `hi`
    """

    __slots__ = (
        *("outcome", "rule", "is_us", "carried", "others_up", "here_up", "is_last_host", "is_repeated"),
        *("has_mass_end", "was_answered", "had_parcel", "has_answer", "all_no_mail", "is_new", "has_greylist"),
    )

    def __init__(self, outcome: "Outcome", rule: "Response | None" = None) -> None:
        self.outcome, self.rule = outcome, rule
        self.carried = self.others_up = self.here_up = 0
        self.is_us = self.is_last_host = self.is_repeated = self.has_mass_end = self.had_parcel = False
        self.was_answered = self.has_answer = self.all_no_mail = self.is_new = self.has_greylist = False

    @property
    def action(self) -> bytes:
        """What the rule says is to be done; empty without a rule."""
        return self.rule.action if self.rule is not None else b""


class Row:
    """event in words; applies(facts); who is blamed; the effects, in their order; the same in words for the manual."""

    __slots__ = ("event", "applies", "blamed", "effects", "text")

    def __init__(
        self, event: str, applies: "Callable[[Facts], bool]", blamed: str, effects: tuple[str, ...], text: str
    ) -> None:
        self.event, self.applies, self.blamed, self.effects, self.text = event, applies, blamed, effects, text


def always(_: Facts) -> bool:
    """The last row of a table."""
    return True
