"""The rows of the table of blame that speak of sessions: how they start and end; and of the answers of name servers.

A session start goes from address to address.  What one of them says or does not say is that host's affair (START);
only when none is left is the site itself looked at (NO_HOST_LEFT).
"""

from errno import ECANCELED, ECONNREFUSED

from pyqmail.mail.destinations.faults import table as t
from pyqmail.mail.destinations.faults.table import Facts, Row, always
from pyqmail.mail.destinations.outcome import CONNECT, DATA, GREETING, HERE, NAME, RECIPIENTS, SENDER
from pyqmail.mail.destinations.rules import responses as rule

_NO_MAIL_HERE, _LEAVING = 521, 421  # RFC 7504 section 3, RFC 5321 section 3.8
_NO_SUCH_DOMAIN = (b"5.1.2", b"5.4.4")  # no such name; no mail exchanger and no address


def _is_reply(facts: Facts) -> bool:
    return facts.outcome.stage in (GREETING, NAME) and facts.outcome.code >= 400


def _is_refused_connection(facts: Facts) -> bool:
    return facts.outcome.stage == CONNECT and facts.outcome.code == ECONNREFUSED


def _is_too_many(facts: Facts) -> bool:
    """Too many sessions, by the words of the reply; or the same answer as before, whatever its words."""
    return _is_reply(facts) and (facts.action == rule.CEILING or (facts.is_repeated and facts.others_up > 0))


def _is_full_host(facts: Facts) -> bool:
    return _is_refused_connection(facts) and (facts.here_up > 0 or (facts.is_last_host and facts.others_up > 0))


START = (
    Row(
        "many organisations are silent at once",
        lambda facts: facts.is_us and not _is_reply(facts),
        t.OURSELVES,
        (t.END_START,),
        "nobody else is blamed; no new session until one of the test sessions is greeted",
    ),
    Row(
        "something is lacking here",
        lambda facts: facts.outcome.stage == HERE,
        t.OURSELVES,
        (t.END_START,),
        "nobody else is blamed; the total is lowered by a tenth for 60 s",
    ),
    Row(
        "the other host of a hedge was faster",
        lambda facts: facts.outcome.stage == CONNECT and facts.outcome.code == ECANCELED,
        t.HOST,
        (t.PENALTY,),
        "the host is off for min(15 p^2, 3600) s, p its failures since it last greeted",
    ),
    Row(
        "a reply before or to EHLO speaks of reputation",
        lambda facts: _is_reply(facts) and facts.action == rule.PAUSE,
        t.ORGANISATION,
        (t.PAUSE, t.END_START),
        "paused for the time of the response rule",
    ),
    Row(
        "such a reply speaks of a rate",
        lambda facts: _is_reply(facts) and facts.action == rule.RATE,
        t.DOOR,
        (t.RATE_REACHED, t.END_START),
        "the rate is measured and lowered (of the organisation if the rule says org); paused for 60 s, doubling",
    ),
    Row(
        "a server is shutting down: it has just ended other sessions",
        lambda facts: _is_reply(facts) and facts.has_mass_end,
        t.HOST,
        (t.PENALTY, t.NEXT_HOST),
        "the host is off; the next one at once",
    ),
    Row(
        "a reply speaks of connections, or is repeated while others are up, and all others are with other hosts",
        lambda facts: _is_too_many(facts) and facts.others_up > facts.here_up and not facts.is_last_host,
        t.HOST,
        (t.HOST_CEILING, t.NEXT_HOST),
        "the host's ceiling is what it has, and with none it is off; the next one at once",
    ),
    Row(
        "a reply speaks of connections, or is repeated while others are up",
        _is_too_many,
        t.DOOR,
        (t.CEILING_REACHED, t.END_START),
        "the sessions that are up are the ceiling; while none is, paused for 60 s, doubling",
    ),
    Row(
        "connection refused by a host that has others up",
        _is_full_host,
        t.DOOR,
        (t.CEILING_REACHED, t.END_START),
        "the sessions that are up are the ceiling",
    ),
    Row(
        "521 before or to EHLO: no mail here",
        lambda facts: _is_reply(facts) and facts.outcome.code == _NO_MAIL_HERE,
        t.HOST,
        (t.PENALTY, t.NEXT_HOST),
        "the next host at once",
    ),
    Row(
        "another 5xx before or to EHLO, other hosts are left",
        lambda facts: _is_reply(facts) and facts.outcome.code >= 500 and not facts.is_last_host,
        t.HOST,
        (t.PENALTY, t.NEXT_HOST),
        "the host is off; the next one at once",
    ),
    Row(
        "another 5xx before or to EHLO, from the last host",
        lambda facts: _is_reply(facts) and facts.outcome.code >= 500,
        t.DOOR,
        (t.PAUSE_BLOCKED, t.END_START),
        "paused for 30 min, doubling to a day; the site is not dead",
    ),
    Row(
        "another 4xx before or to EHLO",
        _is_reply,
        t.HOST,
        (t.PENALTY, t.NEXT_HOST),
        "the host is off; the next one at once",
    ),
    Row(
        "connection refused",
        _is_refused_connection,
        t.HOST,
        (t.PENALTY_LATER, t.NEXT_HOST),
        "the next host at once; this one is off if that greets",
    ),
    Row(
        "connect timeout, reset, unreachable, silence or hang-up before the greeting",
        always,
        t.HOST,
        (t.PENALTY, t.NEXT_HOST),
        "the host is off for min(15 p^2, 3600) s; the next one at once",
    ),
)

NO_HOST_LEFT = (
    Row(
        "many organisations are silent at once",
        lambda facts: facts.is_us and not facts.has_answer,
        t.OURSELVES,
        (),
        "nobody else is blamed",
    ),
    Row(
        "every host answers 521",
        lambda facts: facts.all_no_mail,
        t.DOMAIN,
        (t.FAIL_LANE,),
        "failure",
    ),
    Row(
        "no host greets, but one answers, and no session is up",
        lambda facts: facts.has_answer and not facts.others_up,
        t.DOOR,
        (t.CEILING_REACHED,),
        "paused for 60 s, doubling to 1 h; the site is not dead: it answers",
    ),
    Row(
        "no host greets, but one answers, and other sessions are up",
        lambda facts: facts.has_answer,
        t.NOBODY,
        (),
        "another start once a host is on again",
    ),
    Row(
        "all hosts fail, or refuse connections",
        always,
        t.SITE,
        (t.COUNT_START,),
        "a failed start: after 3 in a row, with no session up, the site is dead; its mail waits, nothing is deferred",
    ),
)


def has_left(facts: Facts) -> bool:
    """The server hung up, or said that it does; otherwise we left, for what it had said of mail."""
    return facts.outcome.code in (0, _LEAVING) or facts.outcome.stage not in (SENDER, RECIPIENTS, DATA)


def _is_of_connection(facts: Facts) -> bool:
    """What was said of MAIL or DATA, after the connection had carried mail."""
    return facts.carried > 0 and facts.outcome.stage in (SENDER, DATA) and not has_left(facts)


END = (
    Row(
        "a reply in the middle speaks of reputation",
        lambda facts: facts.action == rule.PAUSE,
        t.ORGANISATION,
        (t.RESEND, t.PAUSE),
        "paused for the time of the response rule; the parcel keeps its place",
    ),
    Row(
        "such a reply speaks of a rate",
        lambda facts: facts.action == rule.RATE,
        t.DOOR,
        (t.RESEND, t.RATE_REACHED),
        "the rate is measured and lowered; paused for 60 s, doubling; the parcel keeps its place",
    ),
    Row(
        "such a reply speaks of messages of a connection",
        lambda facts: facts.action == rule.MESSAGES and facts.carried > 0,
        t.CONNECTION,
        (t.RESEND, t.LEARN_STATED),
        "n = the messages that were carried; the parcel goes over another connection",
    ),
    Row(
        "such a reply speaks of connections",
        lambda facts: facts.action == rule.CEILING,
        t.DOOR,
        (t.RESEND, t.CEILING_REACHED),
        "the sessions that are up are the ceiling; the parcel keeps its place",
    ),
    Row(
        "the server ends others of its sessions in the same second",
        lambda facts: facts.has_mass_end and has_left(facts),
        t.HOST,
        (t.RESEND, t.PENALTY),
        "unless after one number of messages: it shuts down; the host is off; the parcel goes over another connection",
    ),
    Row(
        "it ends with nothing to do",
        lambda facts: not facts.had_parcel,
        t.NOBODY,
        (),
        "an idle session may be ended by either side",
    ),
    Row(
        "4xx or 5xx to MAIL or DATA on a connection that has carried mail",
        _is_of_connection,
        t.CONNECTION,
        (t.RESEND, t.LEARN_MESSAGES),
        "the parcel goes once more over a fresh connection; n = messages carried if it happens twice",
    ),
    Row(
        "421, or a hang-up, on a connection that has carried mail",
        lambda facts: facts.carried > 0,
        t.CONNECTION,
        (t.RESEND, t.LEARN_CLOSE),
        "the parcel goes over another connection; n = messages carried if it happens three times running",
    ),
    Row(
        "it ends after answers that accepted nothing",
        lambda facts: facts.was_answered,
        t.CONNECTION,
        (t.RESEND,),
        "the parcel goes over another connection; the third time it is deferred",
    ),
    Row(
        "it ends before any message was answered",
        always,
        t.HOST,
        (t.RESEND, t.PENALTY, t.COUNT_START),
        "a failed start of the site; the host is off; the third time the parcel is deferred",
    ),
)

LOOKUP = (
    Row(
        "SERVFAIL, timeout of the resolver, or none",
        lambda facts: facts.outcome.letter != b"D",
        t.NOBODY,
        (t.WAIT_LANE,),
        "the lane waits, nothing is deferred: asked again after 1 min, doubling to 1 h",
    ),
    Row(
        "no such domain, or no mail exchanger and no address",
        lambda facts: facts.outcome.enhanced in _NO_SUCH_DOMAIN,
        t.DOMAIN,
        (t.COUNT_DOMAIN,),
        "deferral three times over at least an hour, since a registration may be fresh; then failure",
    ),
    Row(
        "null MX, or all exchangers are ourselves",
        always,
        t.DOMAIN,
        (t.FAIL_LANE,),
        "failure",
    ),
)
