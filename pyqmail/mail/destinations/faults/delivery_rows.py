"""The rows of the table of blame that speak of a delivery that was reported: about whom the server has said it."""

from pyqmail.mail.destinations.faults import table as t
from pyqmail.mail.destinations.faults.table import Facts, Row, always
from pyqmail.mail.destinations.outcome import DATA, DIALOGUE, DOUBTFUL, HERE, LOOKUP, MESSAGE, RECIPIENTS, SENDER
from pyqmail.mail.destinations.rules import responses as rule

_STORAGE = 452  # the mailbox is full, or the disk: RFC 5321 section 4.2.3
_OF_MAILBOX = (b"4.1.", b"4.2.")  # the address; the mailbox.  RFC 3463 sections 3.2 and 3.3
_OF_POLICY = b"4.7."  # section 3.8
_OF_SENDER = (SENDER, DATA, MESSAGE)


def _is_temporary(facts: Facts) -> bool:
    return facts.outcome.letter != b"D"


def _is_first_sight(facts: Facts) -> bool:
    """A 45x to RCPT for a recipient that was not tried before, or waits as one of those."""
    outcome = facts.outcome
    is_45x = outcome.stage == RECIPIENTS and outcome.code // 10 == 45 and outcome.code != _STORAGE
    return is_45x and facts.is_new and _is_temporary(facts) and not outcome.enhanced.startswith(_OF_MAILBOX)


def _is_greylist(facts: Facts) -> bool:
    """The words say so; or it is first sight, where later tries are known to be accepted."""
    if facts.action == rule.GREY:
        return _is_temporary(facts)
    return facts.has_greylist and _is_first_sight(facts)


def _is_policy(facts: Facts) -> bool:
    """A 4xx about who sends or what: by its status, or, without one, since it came at MAIL, DATA or the message."""
    outcome = facts.outcome
    if not _is_temporary(facts) or outcome.code < 400 or outcome.code == _STORAGE:
        return False
    status = outcome.enhanced
    return status.startswith(_OF_POLICY) or (outcome.stage in _OF_SENDER and status in (b"", b"4.0.0"))


TRANSACTION = (
    Row(
        "452 or 552 to RCPT after another recipient was accepted",
        always,
        t.TRANSACTION,
        (t.LEARN_RECIPIENTS,),
        "those recipients go into another transaction at once; m = the recipients that were accepted",
    ),
)

DELIVERY = (
    Row(
        "a response rule says fail",
        lambda facts: facts.action == rule.FAIL,
        t.RECIPIENT,
        (t.FAIL,),
        "failure",
    ),
    Row(
        "a response rule says defer",
        lambda facts: facts.action == rule.DEFER,
        t.RECIPIENT,
        (t.DEFER,),
        "deferral for the time of the rule",
    ),
    Row(
        "a response rule says ignore",
        lambda facts: facts.action == rule.IGNORE,
        t.RECIPIENT,
        (t.COUNT,),
        "as the reply says; nothing is learned of it",
    ),
    Row(
        "a reply speaks of reputation",
        lambda facts: facts.action == rule.PAUSE,
        t.ORGANISATION,
        (t.PARK, t.PAUSE),
        "paused for the time of the response rule; what was deferred goes when the pause is over",
    ),
    Row(
        "a reply speaks of a rate",
        lambda facts: facts.action == rule.RATE,
        t.DOOR,
        (t.PARK, t.RATE_REACHED),
        "the rate is measured and lowered; what was deferred goes when the pause is over",
    ),
    Row(
        "a reply speaks of connections",
        lambda facts: facts.action == rule.CEILING,
        t.DOOR,
        (t.PARK, t.CEILING_REACHED, t.CLOSE_SESSION),
        "the other sessions that are up are the ceiling",
    ),
    Row(
        "a reply speaks of messages of a connection that has carried some",
        lambda facts: facts.action == rule.MESSAGES and facts.carried > 0,
        t.CONNECTION,
        (t.PARK, t.LEARN_STATED, t.CLOSE_SESSION),
        "n = the messages that were carried",
    ),
    Row(
        "words of a greylist, or 45x to RCPT at first sight where later tries are accepted",
        _is_greylist,
        t.NOBODY,
        (t.GREY_TRY,),
        "class grey: tried again once the site is known to accept",
    ),
    Row(
        "45x to RCPT at first sight",
        _is_first_sight,
        t.NOBODY,
        (t.GREY_TRY, t.COUNT_BLOCK, t.COUNT_FLOW),
        "class grey; it may be no greylist: a flow that alone meets it is paused, and 18 of 20 are a soft block",
    ),
    Row(
        "4xx of policy",
        _is_policy,
        t.FLOW,
        (t.COUNT, t.COUNT_BLOCK, t.COUNT_FLOW),
        "deferral; 10 in a row while other flows are accepted there pause the flow for 15 min, doubling to 4 h",
    ),
    Row(
        "another 4xx to RCPT",
        lambda facts: facts.outcome.stage == RECIPIENTS and _is_temporary(facts),
        t.RECIPIENT,
        (t.COUNT, t.COUNT_BLOCK),
        "deferral with its own retry time; 18 of 20 with one code, of 3 flows, leave the site one message a minute",
    ),
    Row(
        "another 4xx to MAIL, DATA or the message",
        lambda facts: facts.outcome.stage in _OF_SENDER and _is_temporary(facts),
        t.MESSAGE,
        (t.COUNT, t.COUNT_BLOCK),
        "deferral with its own retry time; likewise",
    ),
    Row(
        "5xx to RCPT",
        lambda facts: facts.outcome.stage == RECIPIENTS,
        t.RECIPIENT,
        (t.COUNT,),
        "failure",
    ),
    Row(
        "5xx to MAIL, DATA or the message",
        lambda facts: facts.outcome.stage in _OF_SENDER,
        t.MESSAGE,
        (t.COUNT,),
        "failure",
    ),
    Row(
        "reply timeout, or hang-up, after the message",
        lambda facts: facts.outcome.stage == DOUBTFUL,
        t.HOST,
        (t.COUNT, t.PENALTY, t.LOG_DOUBT),
        "deferral: it may have been accepted, and the log says so; the host is off",
    ),
    Row(
        "reply timeout, or hang-up, before the message",
        lambda facts: facts.outcome.stage == DIALOGUE,
        t.HOST,
        (t.COUNT, t.PENALTY),
        "deferral; the host is off",
    ),
    Row(
        "something is lacking here, or an agent found no host",
        lambda facts: facts.outcome.stage in (HERE, LOOKUP),
        t.NOBODY,
        (t.COUNT,),
        "as the report says",
    ),
    Row(
        "whatever else a report says",
        always,
        t.RECIPIENT,
        (t.COUNT,),
        "as the report says",
    ),
)
