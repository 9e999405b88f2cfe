"""Items of a rule line: what each key's value looks like, and what it means.

    key=value, for example n=50; of a limit a scope may follow: c=5/site
    word: hold, spill
    @name: member of a group; it is no key

Read here are values alone.  Which keys a line may have depends on its address (text.py).
"""

from pyqmail.base.literals import literal_address
from pyqmail.base.numbers import count_digits, is_number, whole_number
from pyqmail.mail.destinations.rules.policies import FOR_EVER, SCOPES, Retry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NUMBER = 1_000_000_000
MAX_PERIOD = 86400
SMTP_PORT = 25
_SECONDS = {b"s": 1, b"m": 60, b"h": 3600, b"d": 86400}
_NAME = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_.")
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class BadValue(ValueError):
    """A value that means nothing: str() says why."""


def seconds_of(text: bytes) -> int:
    """Return the seconds of `90`, `90s`, `5m`, `2h`, `7d`.  Raises BadValue."""
    count = count_digits(text)
    unit = _SECONDS.get(text[count:], 0) if count < len(text) else 1
    if not count or not unit:
        raise BadValue("not a time, for example 30s, 5m, 2h, 7d")
    return _number(text[:count]) * unit


def date_of(text: bytes) -> float:
    """Return the Unix seconds of `2026-11-01` or `2026-11-01T14:05Z`, seconds allowed, UTC.  Raises BadValue."""
    day, _, clock = text.partition(b"T")
    numbers = day.split(b"-")
    hours = clock.removesuffix(b"Z").split(b":") if clock else [b"00", b"00"]
    is_form = len(day) == 10 and len(numbers) == 3 and len(hours) in (2, 3) and clock.endswith(b"Z") == bool(clock)
    if not is_form or not all(is_number(part) for part in (*numbers, *hours)):
        raise BadValue("not a date, for example 2026-11-01 or 2026-11-01T14:05Z")
    year, month, day_of_month = map(int, numbers)
    hour, minute, second = map(int, (*hours, b"0")[:3])
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1970 <= year <= 9999 or not 1 <= month <= 12 or not max(hour - 23, minute - 59, second - 59) <= 0:
        raise BadValue("there is no such date")
    if not 1 <= day_of_month <= _MONTH_DAYS[month - 1] + (is_leap and month == 2):
        raise BadValue("there is no such date")
    days = _days_before(year) + sum(_MONTH_DAYS[: month - 1]) + (is_leap and month > 2) + day_of_month - 1
    return float(days * 86400 + hour * 3600 + minute * 60 + second)


def _days_before(year: int) -> int:
    """Return the days from 1970 to the start of a year."""
    past = year - 1
    return 365 * (year - 1970) + past // 4 - past // 100 + past // 400 - (1969 // 4 - 1969 // 100 + 1969 // 400)


def name_of(text: bytes, what: str = "a domain") -> bytes:
    """Return a domain or host in lower case, without a dot at its end.  Raises BadValue."""
    name = text.lower().removesuffix(b".")
    if not name or not _NAME.issuperset(name):
        raise BadValue(f"not {what}: its letters are ASCII, with dashes and dots")
    if name.startswith(b".") or b".." in name:
        raise BadValue(f"not {what}: a label is empty")
    if len(name) > 253:
        raise BadValue(f"not {what}: it has more than 253 bytes")
    return name


def _number(text: bytes, least: int = 0, most: int = MAX_NUMBER) -> int:
    try:
        value = whole_number(text, most)
    except ValueError:
        raise BadValue(f"not a number from {least} to {most}") from None
    if value < least:
        raise BadValue(f"not a number from {least} to {most}")
    return value


def _from_one(text: bytes) -> int:
    return _number(text, 1)


def _sessions(text: bytes) -> tuple[int, str]:
    """`N` or `N/scope` -> (N, scope or empty)."""
    number, slash, scope = text.partition(b"/")
    if is_number(number) and not number.strip(b"0"):
        raise BadValue("a limit of 0: write hold")
    return _from_one(number), _scope(scope, slash)


def _rate(text: bytes) -> tuple[int, float, int, str]:
    """`N/P`, `N/P~B`, either with `/scope` -> (N, seconds, burst, scope or empty)."""
    number, _, rest = text.partition(b"/")
    period, slash, scope = rest.partition(b"/")
    period, tilde, burst = period.partition(b"~")
    if is_number(number) and not number.strip(b"0"):
        raise BadValue("a limit of 0: write hold")
    if not period:
        raise BadValue("not a rate, for example 300/m or 10/s~20")
    seconds = seconds_of(period if count_digits(period) else b"1" + period)
    if not 0 < seconds <= MAX_PERIOD:
        raise BadValue("the period of a rate is from 1s to 1d")
    return _from_one(number), float(seconds), _from_one(burst) if tilde else 1, _scope(scope, slash)


def _scope(text: bytes, slash: bytes) -> str:
    scope = text.decode("ascii", "replace")
    if slash and scope not in SCOPES:
        raise BadValue(f"not a scope: {', '.join(SCOPES)}")
    return scope


def _timeouts(text: bytes) -> tuple[float | None, ...]:
    """`D/D/D`: connect, greeting, reply; an empty one stays as it is."""
    parts = text.split(b"/")
    if len(parts) != 3 or not any(parts):
        raise BadValue("not three times, for example 30s/60s/10m; an empty one stays as it is")
    values = [float(seconds_of(part)) if part else None for part in parts]
    if 0 in values:
        raise BadValue("a timeout of 0")
    return tuple(values)


def _retry(text: bytes) -> Retry | None:
    """`q` -> None; `D*F<D`; `D;D;D`."""
    if text == b"q":
        return None
    first, star, rest = text.partition(b"*")
    if not star:
        delays = tuple(float(seconds_of(part)) for part in text.split(b";"))
        if 0 in delays:
            raise BadValue("a retry time of 0")
        return Retry(delays)
    factor, less, most = rest.partition(b"<")
    whole, _, part = factor.partition(b".")
    if not less or not is_number(whole) or (part and not is_number(part)) or len(factor) > 8:
        raise BadValue("not retry times, for example 5m*2<4h or 5m;1h;4h")
    value, base, limit = float(factor), seconds_of(first), seconds_of(most)
    if not 1 <= value <= 100 or not 0 < base <= limit:
        raise BadValue("the factor is from 1 to 100, and the first time from 1s to the longest")
    return Retry((float(base),), value, float(limit))


def _choice(*words: bytes) -> "Callable[[bytes], bytes]":
    def read(text: bytes) -> bytes:
        if text not in words:
            raise BadValue(f"not one of {b', '.join(words).decode()}")
        return text

    return read


def host_and_port(text: bytes) -> tuple[bytes, int]:
    """Return (host, port) of `host`, `host:port`, `[address]:port`; 25 without a port.  Raises BadValue."""
    host, colon, port = text.rpartition(b":") if not text.endswith(b"]") else (text, b"", b"")
    if not colon:
        host, port = text, b""
    address = literal_address(host)
    if address is None and host.startswith(b"["):
        raise BadValue("not an address in brackets")
    if b":" in host and not host.startswith(b"["):
        raise BadValue("an IPv6 address stands in brackets")
    return address or name_of(host, "a host"), _number(port, 1, 65535) if port else SMTP_PORT


def _route(text: bytes) -> tuple[bytes, int]:
    """As host_and_port; the host may be missing: then the MX hosts of the domain are looked up."""
    if text[:1] not in (b"", b":"):
        return host_and_port(text)
    return b"", _number(text[1:], 1, 65535) if text[1:] else SMTP_PORT


def _fallback(text: bytes) -> tuple[bytes, int, float | None]:
    where, tilde, age = text.partition(b"~")
    return (*host_and_port(where), float(seconds_of(age)) if tilde else None)


def _pool(text: bytes) -> bytes:
    if not text.startswith(b"%"):
        raise BadValue("not a pool, for example %bulk")
    return group_name(text)


def group_name(text: bytes) -> bytes:
    """Return `@name` or `%name` in lower case.  Raises BadValue."""
    name = text[1:].lower()
    if not name or not _NAME.issuperset(name):
        raise BadValue("not a name: letters, digits, dashes, dots")
    return text[:1] + name


def _hold(text: bytes) -> float:
    return date_of(text)


def _lifetime(text: bytes) -> float:
    return float(seconds_of(text))


# key -> what reads its value; the order is that in which items are compiled
KEYS: "dict[bytes, Callable[[bytes], object]]" = {
    b"c": _sessions,
    b"C": _sessions,
    b"r": _rate,
    b"R": _rate,
    b"k": _rate,
    b"i": _from_one,
    b"f": _from_one,
    b"n": _from_one,
    b"m": _from_one,
    b"p": _from_one,
    b"idle": _lifetime,
    b"to": _timeouts,
    b"src": _pool,
    b"by": _choice(b"message", b"sender"),
    b"try": _retry,
    b"die": _lifetime,
    b"dead": _number,
    b"grey": _lifetime,
    b"w": _choice(b"urgent", b"normal", b"bulk"),
    b"route": _route,
    b"fall": _fallback,
    b"v": _choice(b"4", b"6", b"46"),
    b"learn": _choice(b"no", b"yes"),
    b"hold": _hold,
    b"spill": _choice(),
    b"until": date_of,
}
LIMITS = (b"c", b"C", b"r", b"R", b"k")
WORDS: dict[bytes, object] = {b"hold": FOR_EVER, b"spill": True}  # what stands without a value
ORDER = {key: number for number, key in enumerate(KEYS)}


def read_item(key: bytes, value: bytes | None) -> object:
    """Return the value of a key of KEYS; None: it stands without one.  Raises BadValue."""
    if value is None:
        if key not in WORDS:
            raise BadValue("it needs a value")
        return WORDS[key]
    if key == b"spill":
        raise BadValue("it has no value")
    return KEYS[key](value)
