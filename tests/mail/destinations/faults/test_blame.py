"""Whose fault it is: an example of each row of the table, and of what must not be taken for it."""

from errno import ECANCELED, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EMFILE, ETIMEDOUT

import pytest

from pyqmail.mail.destinations.faults import blame, table
from pyqmail.mail.destinations.faults.table import Facts
from pyqmail.mail.destinations.outcome import (
    CONNECT,
    DATA,
    DIALOGUE,
    DOUBTFUL,
    GREETING,
    HERE,
    LOOKUP,
    MESSAGE,
    NAME,
    RECIPIENTS,
    SENDER,
    UNKNOWN,
    Outcome,
)
from pyqmail.mail.destinations.rules.responses import Response


def outcome(stage, code=0, reply="", letter=""):
    """Return what a spawner reports; letter: by default that of the code."""
    letter = letter or ("D" if 500 <= code < 600 else "Z")
    said = f"Remote host said: {code} {reply}" if code >= 400 else reply
    return Outcome(f"{letter}192.0.2.1 does not like it.\n{said}".encode(), stage, code, b"mx.example", b"192.0.2.1")


def facts_of(stage, code=0, reply="", letter="", action=b"", **known):
    facts = Facts(outcome(stage, code, reply, letter), Response(b"", b"", b"", action, 0, "", 0) if action else None)
    for name, value in known.items():
        setattr(facts, name, value)
    return facts


UP = {"others_up": 3, "here_up": 3}  # others of the door are up, with this host
ELSEWHERE = {"others_up": 3, "here_up": 0}

LATER = "penalty if another greets, next host"

START = [
    # what happened                                            blamed             effects
    (facts_of(CONNECT, ETIMEDOUT, is_us=True),                 "ourselves",       "end start"),
    (facts_of(DIALOGUE, is_us=True),                           "ourselves",       "end start"),
    (facts_of(GREETING, 554, is_us=True, is_last_host=True),   "site by source",  "pause blocked, end start"),
    (facts_of(HERE, EMFILE),                                   "ourselves",       "end start"),
    (facts_of(CONNECT, ECANCELED),                             "host",            "penalty"),
    (facts_of(GREETING, 421, action=b"pause", **UP),           "organisation by source", "pause, end start"),
    (facts_of(GREETING, 554, action=b"pause"),                 "organisation by source", "pause, end start"),
    (facts_of(NAME, 421, action=b"rate"),                      "site by source", "rate, end start"),
    (facts_of(GREETING, 421, has_mass_end=True, is_repeated=True, **UP), "host",  "penalty, next host"),
    (facts_of(GREETING, 421, action=b"ceiling", **ELSEWHERE),  "host",            "host ceiling, next host"),
    (facts_of(GREETING, 421, action=b"ceiling", is_last_host=True, **ELSEWHERE), "site by source",
                                                                                  "ceiling, end start"),
    (facts_of(GREETING, 421, action=b"ceiling", **UP),         "site by source",  "ceiling, end start"),
    (facts_of(GREETING, 421, action=b"ceiling"),               "site by source",  "ceiling, end start"),
    (facts_of(GREETING, 421, is_repeated=True, **UP),          "site by source",  "ceiling, end start"),
    (facts_of(GREETING, 554, is_repeated=True, **UP),          "site by source",  "ceiling, end start"),
    (facts_of(GREETING, 421, is_repeated=True),                "host",            "penalty, next host"),
    (facts_of(CONNECT, ECONNREFUSED, **UP),                    "site by source",  "ceiling, end start"),
    (facts_of(CONNECT, ECONNREFUSED, is_last_host=True, **ELSEWHERE), "site by source", "ceiling, end start"),
    (facts_of(CONNECT, ECONNREFUSED, **ELSEWHERE),             "host",            LATER),
    (facts_of(GREETING, 521, is_last_host=True),               "host",            "penalty, next host"),
    (facts_of(GREETING, 554),                                  "host",            "penalty, next host"),
    (facts_of(GREETING, 554, is_last_host=True),               "site by source",  "pause blocked, end start"),
    (facts_of(NAME, 550, is_last_host=True),                   "site by source",  "pause blocked, end start"),
    (facts_of(GREETING, 421, "shutting down"),                 "host",            "penalty, next host"),
    (facts_of(GREETING, 450, is_last_host=True),               "host",            "penalty, next host"),
    (facts_of(CONNECT, ECONNREFUSED, is_last_host=True),       "host",            LATER),
    (facts_of(CONNECT, ETIMEDOUT, **UP),                       "host",            "penalty, next host"),
    (facts_of(CONNECT, ECONNRESET),                            "host",            "penalty, next host"),
    (facts_of(CONNECT, EHOSTUNREACH, is_last_host=True),       "host",            "penalty, next host"),
    (facts_of(DIALOGUE, ETIMEDOUT),                            "host",            "penalty, next host"),
    (facts_of(DIALOGUE),                                       "host",            "penalty, next host"),
    (facts_of(GREETING, 0, "HTTP/1.0 400"),                    "host",            "penalty, next host"),  # no reply
]  # fmt: skip

NO_HOST_LEFT = [
    (facts_of(CONNECT, ETIMEDOUT, is_us=True),                 "ourselves",       ""),
    (facts_of(GREETING, 521, all_no_mail=True, has_answer=True), "domain",        "fail lane"),
    (facts_of(GREETING, 421, has_answer=True),                 "site by source",  "ceiling"),
    (facts_of(CONNECT, ETIMEDOUT, has_answer=True),            "site by source",  "ceiling"),  # the other had answered
    (facts_of(GREETING, 421, has_answer=True, **UP),           "nobody",          ""),
    (facts_of(CONNECT, ETIMEDOUT),                             "site",            "count start"),
    (facts_of(CONNECT, ECONNREFUSED),                          "site",            "count start"),
]  # fmt: skip

END = [
    (facts_of(SENDER, 421, action=b"pause", had_parcel=True),  "organisation by source", "resend, pause"),
    (facts_of(RECIPIENTS, 421, action=b"rate", carried=9),     "site by source", "resend, rate"),
    (facts_of(DIALOGUE, 421, action=b"n", carried=20),         "connection",      "resend, learn n as stated"),
    (facts_of(DIALOGUE, 421, action=b"n", had_parcel=True),    "host",            "resend, penalty, count start"),
    (facts_of(SENDER, 421, action=b"ceiling", **UP),           "site by source",  "resend, ceiling"),
    (facts_of(DIALOGUE, 421, has_mass_end=True, carried=7),    "host",            "resend, penalty"),
    (facts_of(DIALOGUE, 421, carried=7),                       "nobody",          ""),
    (facts_of(DIALOGUE),                                       "nobody",          ""),
    (facts_of(SENDER, 452, carried=10, had_parcel=True),       "connection",      "resend, learn n"),
    (facts_of(DATA, 554, has_mass_end=True, carried=10, had_parcel=True), "connection", "resend, learn n"),
    (facts_of(DATA, 554, carried=10, had_parcel=True),         "connection",      "resend, learn n"),
    (facts_of(SENDER, 421, carried=10, had_parcel=True),       "connection",      "resend, learn n by close"),
    (facts_of(RECIPIENTS, 421, carried=10, had_parcel=True),   "connection",      "resend, learn n by close"),
    (facts_of(DIALOGUE, 0, carried=10, had_parcel=True),       "connection",      "resend, learn n by close"),
    (facts_of(SENDER, 0, carried=10, had_parcel=True),         "connection",      "resend, learn n by close"),
    (facts_of(DATA, 451, was_answered=True, had_parcel=True),  "connection",      "resend"),
    (facts_of(DIALOGUE, 0, had_parcel=True),                   "host",            "resend, penalty, count start"),
    (facts_of(SENDER, 421, "try later", had_parcel=True),      "host",            "resend, penalty, count start"),
]  # fmt: skip

DELIVERY = [
    (facts_of(RECIPIENTS, 450, action=b"fail", is_new=True),   "recipient",       "fail"),
    (facts_of(MESSAGE, 554, action=b"defer"),                  "recipient",       "defer"),
    (facts_of(RECIPIENTS, 450, action=b"ignore", is_new=True), "recipient",       "count"),
    (facts_of(RECIPIENTS, 451, action=b"pause", is_new=True),  "organisation by source", "park, pause"),
    (facts_of(MESSAGE, 451, action=b"rate"),                   "site by source", "park, rate"),
    (facts_of(SENDER, 451, action=b"ceiling"),                 "site by source",  "park, ceiling, close"),
    (facts_of(SENDER, 451, action=b"n", carried=20),           "connection",      "park, learn n as stated, close"),
    (facts_of(SENDER, 451, action=b"n"),                       "flow",            "count, count block, count flow"),
    (facts_of(RECIPIENTS, 450, is_new=True, has_greylist=True), "nobody",         "grey"),
    (facts_of(RECIPIENTS, 450, is_new=True),                   "nobody",          "grey, count block, count flow"),
    (facts_of(RECIPIENTS, 451, "4.7.1 try again", is_new=True), "nobody",         "grey, count block, count flow"),
    (facts_of(DATA, 451, action=b"grey"),                      "nobody",          "grey"),
    (facts_of(RECIPIENTS, 550, action=b"grey"),                "recipient",       "count"),  # a failure is one
    (facts_of(RECIPIENTS, 450, "4.7.1 no"),                    "flow",            "count, count block, count flow"),
    (facts_of(SENDER, 450),                                    "flow",            "count, count block, count flow"),
    (facts_of(MESSAGE, 451, "4.7.28 spam"),                    "flow",            "count, count block, count flow"),
    (facts_of(RECIPIENTS, 450),                                "recipient",       "count, count block"),
    (facts_of(RECIPIENTS, 450, "4.2.1 too much mail", is_new=True), "recipient",  "count, count block"),
    (facts_of(RECIPIENTS, 452, is_new=True),                   "recipient",       "count, count block"),  # full
    (facts_of(RECIPIENTS, 421, is_new=True),                   "recipient",       "count, count block"),
    (facts_of(MESSAGE, 451, "4.3.0 disk"),                     "message",         "count, count block"),
    (facts_of(SENDER, 452),                                    "message",         "count, count block"),
    (facts_of(RECIPIENTS, 550, is_new=True),                   "recipient",       "count"),
    (facts_of(RECIPIENTS, 552),                                "recipient",       "count"),
    (facts_of(SENDER, 553),                                    "message",         "count"),
    (facts_of(MESSAGE, 554, "5.7.1 spam"),                     "message",         "count"),
    (facts_of(DOUBTFUL),                                       "host",            "count, penalty, possibly delivered"),
    (facts_of(DIALOGUE),                                       "host",            "count, penalty"),
    (facts_of(HERE),                                           "nobody",          "count"),
    (facts_of(LOOKUP, letter="D"),                             "nobody",          "count"),
    (facts_of(UNKNOWN),                                        "recipient",       "count"),
    (facts_of(UNKNOWN, letter="D"),                            "recipient",       "count"),
]  # fmt: skip

TRANSACTION = [
    (facts_of(RECIPIENTS, 452), "transaction", "learn m"),
]

LOOKUPS = [
    (facts_of(LOOKUP, 0, "couldn't find any host by that name. (#4.1.2)"), "nobody", "wait"),
    (facts_of(LOOKUP, 0, "couldn't find any host named x. (#5.1.2)", "D"), "domain", "count domain"),
    (facts_of(LOOKUP, 0, "couldn't find a mail exchanger or IP address. (#5.4.4)", "D"), "domain", "count domain"),
    (facts_of(LOOKUP, 0, "it takes no mail. (#5.1.10)", "D"), "domain", "fail lane"),
    (facts_of(LOOKUP, 0, "I don't treat it as local. (#5.4.6)", "D"), "domain", "fail lane"),
]

MOMENTS = [
    ("a session start meets an address", blame.blame_start, START),
    ("no host is left to try", blame.blame_all_hosts, NO_HOST_LEFT),
    ("a session ends by itself", blame.blame_end, END),
    ("a delivery is reported", blame.blame_delivery, DELIVERY),
    ("a transaction has too many recipients", blame.blame_transaction, TRANSACTION),
    ("name servers answer", blame.blame_lookup, LOOKUPS),
]


@pytest.mark.parametrize("decide, facts, blamed, effects", [(each[1], *one) for each in MOMENTS for one in each[2]])
def test_who_is_blamed(decide, facts, blamed, effects):
    row = decide(facts)
    assert (row.blamed, ", ".join(row.effects)) == (blamed, effects)


@pytest.mark.parametrize("moment, decide, examples", MOMENTS)
def test_every_row_has_an_example(moment, decide, examples):
    seen = {decide(facts).event for facts, *_ in examples}
    assert {row.event for row in blame.BLAME[moment]} - seen == set()
    assert len({row.event for row in blame.BLAME[moment]}) == len(blame.BLAME[moment])


def test_every_moment_is_tried():
    assert [moment for moment, *_ in MOMENTS] and {moment for moment, *_ in MOMENTS} == set(blame.BLAME)


BLAMED = {
    *("nobody", "ourselves", "recipient", "message", "connection", "transaction", "flow", "host", "site", "domain"),
    *("site by source", "organisation by source"),
}
WORDS = {value for name, value in vars(table).items() if name.isupper() and isinstance(value, str)}


def test_every_word_is_used_and_no_other():
    """An effect that no row has would be one that the engine carries out for nothing."""
    used = {effect for part in blame.BLAME.values() for row in part for effect in row.effects}
    blamed = {row.blamed for part in blame.BLAME.values() for row in part}
    assert used == WORDS - BLAMED - set(table.STARTS) and blamed == BLAMED


def test_the_manual_gets_every_row_in_words():
    rows = blame.rows()
    assert len(rows) == sum(map(len, blame.BLAME.values()))
    assert all(all(isinstance(text, str) and text for text in row) for row in rows)
    assert ("name servers answer", "null MX, or all exchangers are ourselves", "domain", "failure") in rows


def test_what_a_message_did_not_cause_never_costs_it_its_turn():
    """P9: no refused start and no ended session counts a delivery; only a delivery that was reported does."""
    for moment in ("a session start meets an address", "no host is left to try", "a session ends by itself"):
        for row in blame.BLAME[moment]:
            assert not {table.COUNT, table.DEFER, table.FAIL} & set(row.effects)
