"""The state file: what was learned about destinations, as text.

It is a cache: without it everything begins again with slow starts.  So nothing in it can do harm: read() never raises,
takes what it understands, and says what it left out.

    destinations-state 1 1764523021
    site 0f3a...e1 name=google.com#aspmx.l+4 organisation=google.com seen=1764523000 messages=20
    budget site 0f3a...e1 - name=google.com#aspmx.l+4 size=5.5 ceiling=5 closed=1764523321.25 greeted=1764523000
    host mx2.example.org penalty=3 off=1764523156
    warm-up 192.0.2.12 google.com 3 seen=1764523000 count=512
    end 4

One record a line, a kind, its key, then fields; a field that has its default is left out.  Fields and kinds that a
reader does not know it ignores, so a later version may add some; the number in the first line is raised only if a field
means something else, and then nothing is taken.  The last line counts the records: without it the file was cut short,
and a line that has no end is not taken.

In a word printable ASCII stands for itself, but for space and %: these and all others are %XX.  A word that is empty
is -; a source that is * means over all sources.  Numbers are decimal, times are dates in Unix seconds.

Dates that cannot be (what has been is yet to come, an end is further away than such an end may be: the clock was set)
are brought to the nearest that can.  Records of what was not seen for 30 days are left out.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    Value = float | bytes

NAME, VERSION = b"destinations-state", 1
KEPT_SECONDS = 30 * 86400
MAX_RECORDS = 1_000_000
MAX_TEXT = 500  # of a reply that is kept
# kinds of fields
COUNT, NUMBER, SINCE, UNTIL, TEXT = "count", "number", "since", "until", "text"
MAX_COUNT, MAX_NUMBER = 1 << 40, 1e9
MAX_PAUSE = 7 * 86400  # a rule may ask for as long
HABIT_SECONDS, HOUR = 86400, 3600
MAX_DIGITS = 15
DAY = 86400
_SAFE = bytes(range(33, 127)).replace(b"%", b"")
_CODES = tuple(bytes([byte]) if byte in _SAFE else b"%%%02X" % byte for byte in range(256))


class _Record:
    """A record: `key` names its parts, FIELDS the rest as (name, kind, default, longest time to an end)."""

    __slots__ = ()
    KIND: "ClassVar[bytes]" = b""
    KEY: "ClassVar[tuple[str, ...]]" = ()
    FIELDS: "ClassVar[tuple[tuple[str, str, Value, float], ...]]" = ()

    def __init__(self, *key: bytes) -> None:
        for name, word in zip(self.KEY, key, strict=True):
            setattr(self, name, word)
        for name, _, default, _ in self.FIELDS:
            setattr(self, name, default)


class SiteRecord(_Record):
    """What a site taught, through whatever source: key is that of sites.site_key.

    name, organisation  for people;  text: what it last said, or what failed;  seen: when mail for it was last there
    messages, recipients  n and m, 0 unknown;  grey_lo, grey_hi: of its bracket, seconds
    """

    __slots__ = ("key", "name", "organisation", "seen", "messages", "recipients", "grey_lo", "grey_hi", "text")
    KIND, KEY = b"site", ("key",)
    FIELDS = (
        ("name", TEXT, b"", 0),
        ("organisation", TEXT, b"", 0),
        ("seen", SINCE, 0, 0),
        ("messages", COUNT, 0, 0),
        ("recipients", COUNT, 0, 0),
        ("grey_lo", NUMBER, 0, 0),
        ("grey_hi", NUMBER, 0, 0),
        ("text", TEXT, b"", 0),
    )
    key: bytes
    name: bytes
    organisation: bytes
    seen: float
    messages: int
    recipients: int
    grey_lo: float
    grey_hi: float
    text: bytes


class BudgetRecord(_Record):
    """What a budget has learned: its window, its rate, its pause.

    scope, thing, source  which budget; source is b"*" if it counts over all
    seen                  when it was last used
    learned_owner         the reply that set the cap
    size ... probes       of its Window; size 0: it has none
    cap                   of one that has a learned cap and no window; 0: none
    paused, reason, text  until when, and why; 0: not
    rate, bad_rate, refused   of its LearnedRate, recipients a second; rate 0: nothing learned
    """

    __slots__ = (
        *("scope", "thing", "source", "name", "seen", "learned_owner", "size", "threshold", "ceiling", "closed"),
        *("closed_seconds", "step", "greeted", "refusals", "failures", "failed", "dead_since", "probes", "idle", "cap"),
        *("paused", "reason", "text", "rate", "bad_rate", "refused"),
    )
    KIND, KEY = b"budget", ("scope", "thing", "source")
    FIELDS = (
        ("name", TEXT, b"", 0),
        ("seen", SINCE, 0, 0),
        ("learned_owner", TEXT, b"", 0),
        ("size", NUMBER, 0, 0),
        ("threshold", NUMBER, 0, 0),
        ("ceiling", COUNT, 0, 0),
        ("closed", UNTIL, 0, 2 * HOUR),
        ("closed_seconds", NUMBER, 0, 0),
        ("step", COUNT, 1, 0),
        ("greeted", SINCE, 0, 0),
        ("refusals", COUNT, 0, 0),
        ("failures", COUNT, 0, 0),
        ("failed", SINCE, 0, 0),
        ("dead_since", SINCE, 0, 0),
        ("probes", COUNT, 0, 0),
        ("idle", UNTIL, 0, 2 * HOUR),
        ("cap", COUNT, 0, 0),
        ("paused", UNTIL, 0, MAX_PAUSE),
        ("reason", TEXT, b"", 0),
        ("text", TEXT, b"", 0),
        ("rate", NUMBER, 0, 0),
        ("bad_rate", NUMBER, 0, 0),
        ("refused", SINCE, 0, 0),
    )
    scope: bytes
    thing: bytes
    source: bytes
    name: bytes
    seen: float
    learned_owner: bytes
    size: float
    threshold: float
    ceiling: int
    closed: float
    closed_seconds: float
    step: int
    greeted: float
    refusals: int
    failures: int
    failed: float
    dead_since: float
    probes: int
    idle: float
    cap: int
    paused: float
    reason: bytes
    text: bytes
    rate: float
    bad_rate: float
    refused: float


class HostRecord(_Record):
    """What is remembered of one host: penalty and until when it is off, its usual greeting time.

    helo, single  until when HELO alone, or one command at a time;  ceiling, ceiling_until, ceiling_seconds: its own
    """

    __slots__ = (
        *("name", "seen", "penalty", "off", "greeting_seconds", "helo", "single"),
        *("ceiling", "ceiling_until", "ceiling_seconds"),
    )
    KIND, KEY = b"host", ("name",)
    FIELDS = (
        ("seen", SINCE, 0, 0),
        ("penalty", COUNT, 0, 0),
        ("off", UNTIL, 0, HOUR),
        ("greeting_seconds", NUMBER, 0, 0),
        ("helo", UNTIL, 0, HABIT_SECONDS),
        ("single", UNTIL, 0, HABIT_SECONDS),
        ("ceiling", COUNT, 0, 0),
        ("ceiling_until", UNTIL, 0, 2 * HOUR),
        ("ceiling_seconds", NUMBER, 0, 0),
    )
    name: bytes
    seen: float
    penalty: int
    off: float
    greeting_seconds: float
    helo: float
    single: float
    ceiling: int
    ceiling_until: float
    ceiling_seconds: float


class WarmUpRecord(_Record):
    """What a source in warm-up carried to an organisation on a day of it, the first is 0: recipients.

    full: when no more could be carried that day, 0 if it did not come to that
    """

    __slots__ = ("source", "organisation", "day", "seen", "count", "full")
    KIND, KEY = b"warm-up", ("source", "organisation", "day")
    FIELDS = (("seen", SINCE, 0, 0), ("count", COUNT, 0, 0), ("full", SINCE, 0, 0))
    source: bytes
    organisation: bytes
    day: bytes
    seen: float
    count: int
    full: float


class DayRecord(_Record):
    """The counters of the day of one organisation or site: deliveries by how they ended, and refused sessions.

    began: when the day did
    """

    __slots__ = ("name", "began", "accepted", "deferred", "failed", "refused")
    KIND, KEY = b"day", ("name",)
    FIELDS = (
        ("began", SINCE, 0, 0),
        ("accepted", COUNT, 0, 0),
        ("deferred", COUNT, 0, 0),
        ("failed", COUNT, 0, 0),
        ("refused", COUNT, 0, 0),
    )
    name: bytes
    began: float
    accepted: int
    deferred: int
    failed: int
    refused: int


class State:
    """date: when it was written, Unix seconds; 0 for an empty one."""

    __slots__ = ("date", "sites", "budgets", "hosts", "warm_ups", "days")

    def __init__(self, date: float = 0) -> None:
        self.date = date
        self.sites: list[SiteRecord] = []
        self.budgets: list[BudgetRecord] = []
        self.hosts: list[HostRecord] = []
        self.warm_ups: list[WarmUpRecord] = []
        self.days: list[DayRecord] = []

    def records(self) -> "list[_Record]":
        return [*self.sites, *self.budgets, *self.hosts, *self.warm_ups, *self.days]

    def add(self, record: _Record) -> None:
        for kind, records in self._lists():
            if isinstance(record, kind):
                records.append(record)

    def _lists(self) -> "tuple[tuple[type[_Record], list[_Record]], ...]":
        return (  # type: ignore[return-value]  # each list has its own kind
            (SiteRecord, self.sites),
            (BudgetRecord, self.budgets),
            (HostRecord, self.hosts),
            (WarmUpRecord, self.warm_ups),
            (DayRecord, self.days),
        )


_KINDS: "dict[bytes, type[_Record]]" = {
    kind.KIND: kind for kind in (SiteRecord, BudgetRecord, HostRecord, WarmUpRecord, DayRecord)
}


def write(state: State) -> bytes:
    """Return the bytes of a state; the same records in the same order are the same bytes."""
    lines = [b"%b %d %d\n" % (NAME, VERSION, state.date)]
    lines += [_line(record) for record in state.records()]
    lines.append(b"end %d\n" % (len(lines) - 1))
    return b"".join(lines)


def read(data: bytes, date: float) -> tuple[State, str]:
    """Return what is good of a state file, and a reason: what was left out and why, or empty.

    date is now.  An empty file is an empty state, without a reason.
    """
    if not data:
        return State(), ""
    *lines, cut = data.split(b"\n")
    head = lines[0].split(b" ") if lines else []
    if len(head) != 3 or head[0] != NAME or not all(map(_is_number, head[1:])):
        return State(), "no state file of destinations"
    if head[1] != b"%d" % VERSION:
        return State(), f"version {head[1].decode()} is not known"
    return _read_records(lines, cut, min(float(head[2]), date), date)


def _read_records(lines: list[bytes], cut: bytes, written: float, date: float) -> tuple[State, str]:
    state, bad, is_whole = State(written), [], False
    for number, line in enumerate(lines[1 : MAX_RECORDS + 2]):
        if line.startswith(b"end "):
            is_whole = line == b"end %d" % number
            break
        try:
            record = _record(line, date)
        except ValueError:
            bad.append(number + 2)
        else:
            if record is not None and not _is_old(record, date):
                state.add(record)
    reasons = [] if is_whole and not cut else ["it is cut short"]
    if bad:
        reasons.append(f"{len(bad)} lines cannot be read, the first is line {bad[0]}")
    return state, "; ".join(reasons)


def _line(record: _Record) -> bytes:
    words = [record.KIND, *(_word(getattr(record, name)) for name in record.KEY)]
    for name, kind, default, _ in record.FIELDS:
        value = getattr(record, name)
        if value != default:
            text = _word(value[:MAX_TEXT]) if kind == TEXT else _number(value)
            words.append(name.encode() + b"=" + text)
    return b" ".join(words) + b"\n"


def _record(line: bytes, date: float) -> _Record | None:
    """Return the record of a line, None if its kind is not known.  Raises ValueError if it is not well-formed."""
    word, *words = line.split(b" ")
    kind = _KINDS.get(word)
    if kind is None:
        return None
    keys = len(kind.KEY)
    record = kind(*map(_unword, words[:keys]))
    known = {name.encode(): (name, what, longest) for name, what, _, longest in kind.FIELDS}
    for field in words[keys:]:
        word, sign, text = field.partition(b"=")
        if not sign:
            raise ValueError
        if word in known:
            name, what, longest = known[word]
            setattr(record, name, _value(what, text, longest, date))
    return record


def _value(kind: str, text: bytes, longest: float, date: float) -> "Value":
    if kind == TEXT:
        return _unword(text)
    if not _is_number(text):
        raise ValueError
    number = float(text)
    if kind == COUNT:
        return min(int(number), MAX_COUNT)
    if kind == NUMBER:
        return min(number, MAX_NUMBER)
    return min(number, date if kind == SINCE else date + longest)


def _is_old(record: _Record, date: float) -> bool:
    if isinstance(record, DayRecord):
        return date - record.began > DAY
    seen: float = getattr(record, "seen")  # noqa: B009  # each kind but the days has it
    return date - seen > KEPT_SECONDS


def _is_number(text: bytes) -> bool:
    whole, dot, part = text.partition(b".")
    return whole.isdigit() and len(text) <= MAX_DIGITS and (part.isdigit() or not dot)


def _word(text: bytes) -> bytes:
    if not text.translate(None, _SAFE):
        return b"%2D" if text == b"-" else text or b"-"
    return b"".join([_CODES[byte] for byte in text])


def _unword(word: bytes) -> bytes:
    """Raises ValueError for what is no word."""
    if word == b"-":
        return b""
    first, *coded = word.split(b"%")
    if not word or word.translate(None, _SAFE + b"%") or not all(len(part) >= 2 for part in coded):
        raise ValueError
    return first + b"".join([bytes.fromhex(part[:2].decode()) + part[2:] for part in coded])


def _number(value: float) -> bytes:
    value = max(0, value)
    if value == int(value):
        return b"%d" % value
    digits = b"%.6f" % value if value < 1000 else b"%.3f" % value  # a rate may be one a minute
    return digits.rstrip(b"0").rstrip(b".")
