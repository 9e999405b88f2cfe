"""pysend's status socket: a question, one line; then the answer, one JSON document, ended by the end of the stream.

    question          fields of the answer, besides those of every answer
    top MOST          total, used, connecting, open, longest_turn_ms, rows, left_out
    shape KEY MOST    key, rows, total, left_out
    why KIND NAME     subject, entries

A question has at most QUESTION_BYTES, its LF included; words are separated by one space, and the last one may hold
spaces.  MOST is how many rows at most, in decimal.  KEY is one of KEYS, KIND one of KINDS.  A question that means
nothing is answered by the field `error`, a text, and by those of every answer alone.

Every answer has:

    version   1; a reader that finds a number it does not know cannot rely on the rest
    pid       pysend's process
    now       when this was answered, Unix time

`top`: the remote channel.  total is how much may run at once, used how much of it is in use, connecting and open how
many sessions have not greeted and have; longest_turn_ms is the longest turn of pysend's loop in the last minute.  A row
is an organisation:

    name, sessions, limit, ceiling   ceiling: learned from refusals, null without
    ready                            recipients that could go at once
    accepted, deferred, refused      deliveries, deliveries and sessions of the last 60 seconds
    state                            as below

`shape`: how much waits, by KEY; the rows are the largest first.  A row, and `total`:

    name                          a domain, a site ...; TOTAL
    total, flying, ready, retry   recipients: all, in delivery, that could go at once, that wait for their retry time
    ages                          ten counts of recipients: younger than 5, 10, 20, 40 ... 1280 minutes, and older
    state                         what holds it up, and which line or reply set that; empty if nothing does

`why`: what a message, a recipient or a domain waits for.  entries has one for each domain, or local recipient:

    channel, domain, recipients   local or remote; the domain or the local address; how many recipients of the subject
    source                        our own address that it goes through; empty: the system's choice, or no choice yet;
                                  absent from an older pysend
    state, reason                 one word, and one sentence: the one limit that holds it up
    site, hosts                   name; [{name, preference, addresses, state}]
    answer_age                    seconds since name servers answered, null if they were not asked
    budgets                       [{name, kind, used, limit, learned, owner, paused_seconds, stands_here}], narrow first
    place, expected_seconds       its place, from 1, among the destinations that wait for that limit, and after how long
                                  all of it that is ready should have gone; null if unknown
    last_reply                    the last reply or error that changed a limit or deferred mail; may be empty
    today                         {accepted, deferred, failed, refused}: deliveries to its organisation and sessions
                                  refused there since midnight UTC; null if unknown, absent from an older pysend

A byte of a name that is not UTF-8 stands as a lone surrogate.  A document has at most LIMIT_BYTES.
pyqmail-wires(5) describes the wire for a program that stands at one end of it.
"""

import json

from pyqmail.base.numbers import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Fields = dict[str, Any]  # as JSON gives them; the page above says what stands where
    Kinds = Mapping[str, type | tuple[type, ...]]

VERSION = 1
QUESTION_BYTES = 1024
LIMIT_BYTES = 64 << 20
MAX_ROWS = 100_000
KEYS = (b"domain", b"site", b"organisation", b"group", b"source", b"sender")
MESSAGE, RECIPIENT, DOMAIN = b"message", b"recipient", b"domain"
KINDS = (MESSAGE, RECIPIENT, DOMAIN)
TOP, SHAPE, WHY = b"top", b"shape", b"why"

_NUMBER, _WHOLE, _TEXT, _NONE = (int, float), int, str, type(None)
_MAYBE_NUMBER, _MAYBE_WHOLE = (int, float, _NONE), (int, _NONE)
_COMMON: "Kinds" = {"pid": _WHOLE, "now": _NUMBER}
_FIELDS: "dict[bytes, Kinds]" = {
    TOP: {
        **dict.fromkeys(("total", "used", "connecting", "open", "left_out"), _WHOLE),
        "longest_turn_ms": _NUMBER,
        "rows": list,
    },
    SHAPE: {"key": _TEXT, "rows": list, "total": dict, "left_out": _WHOLE},
    WHY: {"subject": _TEXT, "entries": list},
}
_COUNTS: "Kinds" = {"name": _TEXT, "total": _WHOLE, "flying": _WHOLE, "ready": _WHOLE, "retry": _WHOLE, "state": _TEXT}
_ROWS: "dict[bytes, Kinds]" = {
    TOP: {
        "name": _TEXT,
        "state": _TEXT,
        "ceiling": _MAYBE_WHOLE,
        **dict.fromkeys(("sessions", "limit", "ready", "accepted", "deferred", "refused"), _WHOLE),
    },
    SHAPE: {**_COUNTS, "ages": list},
    WHY: {
        **dict.fromkeys(("channel", "domain", "state", "reason", "site", "last_reply"), _TEXT),
        "recipients": _WHOLE,
        "hosts": list,
        "budgets": list,
        "answer_age": _MAYBE_NUMBER,
        "place": _MAYBE_WHOLE,
        "expected_seconds": _MAYBE_NUMBER,
    },
}
_HOST: "Kinds" = {"name": _TEXT, "preference": _WHOLE, "addresses": list, "state": _TEXT}
_TODAY: "Kinds" = dict.fromkeys(("accepted", "deferred", "failed", "refused"), _WHOLE)
_BUDGET: "Kinds" = {
    **dict.fromkeys(("name", "kind", "owner"), _TEXT),
    "used": _WHOLE,
    "limit": _MAYBE_WHOLE,
    "learned": _MAYBE_WHOLE,
    "paused_seconds": _MAYBE_NUMBER,
    "stands_here": bool,
}


class MalformedSendStatus(ValueError):
    """What came is no question, no answer, or an answer of a version we do not know."""


def top(most: int) -> bytes:
    """Return the question for sessions, at most so many organisations."""
    return b"top %d\n" % most


def shape(key: bytes, most: int) -> bytes:
    """Return the question for what waits, by one of KEYS, at most so many rows."""
    return b"shape %b %d\n" % (key, most)


def why(kind: bytes, name: bytes) -> bytes:
    """Return the question for what holds up a message (its number), a recipient or a domain."""
    return b"why %b %b\n" % (kind, name)


def split_question(line: bytes) -> tuple[bytes, bytes, int | bytes]:
    """Return (TOP, b"", most), (SHAPE, key, most) or (WHY, kind, name) of a line with its LF.

    Raises MalformedSendStatus.
    """
    if len(line) > QUESTION_BYTES or line.find(b"\n") != len(line) - 1:
        raise MalformedSendStatus(f"a question is one line of at most {QUESTION_BYTES} bytes")
    word, _, rest = line[:-1].partition(b" ")
    if word == TOP:
        return TOP, b"", _most(rest)
    first, _, last = rest.partition(b" ")
    if word == SHAPE and first in KEYS:
        return SHAPE, first, _most(last)
    if word == WHY and first in KINDS and last and (first != MESSAGE or is_number(last)):
        return WHY, first, last
    raise MalformedSendStatus("unknown question")


def _most(digits: bytes) -> int:
    if not is_number(digits) or not 0 < int(digits[:10]) <= MAX_ROWS:
        raise MalformedSendStatus(f"a number of rows is 1 to {MAX_ROWS}")
    return int(digits)


def pack(fields: "Fields") -> bytes:
    """Return the document of all fields but `version`."""
    return json.dumps({"version": VERSION, **fields}, separators=(",", ":")).encode() + b"\n"


def unpack(question: bytes, data: bytes) -> "Fields":
    """Return the fields of a whole answer to TOP, SHAPE or WHY; unknown ones are kept.

    Raises MalformedSendStatus, for the field `error` with its text.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedSendStatus("not JSON") from None
    if not isinstance(fields, dict) or fields.get("version") != VERSION:
        raise MalformedSendStatus(f"not a status of version {VERSION}")
    if isinstance(fields.get("error"), str):
        raise MalformedSendStatus(fields["error"])
    _check(fields, {**_COMMON, **_FIELDS[question]})
    rows = fields["entries" if question == WHY else "rows"]
    for row in rows:
        _check(row, _ROWS[question])
    if question == SHAPE:
        _check_shape([*rows, fields["total"]])
    elif question == WHY:
        _check_entries(rows)
    return fields


def _check_shape(rows: "list[Fields]") -> None:
    for row in rows:
        _check(row, _ROWS[SHAPE])
        if len(row["ages"]) != 10 or not all(isinstance(count, int) for count in row["ages"]):
            raise MalformedSendStatus("a field is missing or of the wrong kind: ages")


def _check_entries(entries: "list[Fields]") -> None:
    for entry in entries:
        for kind, rows in ((_HOST, entry["hosts"]), (_BUDGET, entry["budgets"])):
            for row in rows:
                _check(row, kind)
        _check({"source": "", **entry}, {"source": _TEXT})
        if entry.get("today") is not None:
            _check(entry["today"], _TODAY)


def _check(fields: object, kinds: "Kinds") -> None:
    for name, kind in kinds.items():
        value = fields.get(name, ...) if isinstance(fields, dict) else ...
        if not isinstance(value, kind) or isinstance(value, (int, float)) and not 0 <= value < 1 << 64:
            raise MalformedSendStatus(f"a field is missing or of the wrong kind: {name}")
