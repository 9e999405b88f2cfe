"""The control files: one setting each, in `control` below the qmail home.

A missing file means its default.  A file that exists counts, even if it is empty.  A file that cannot be read is
never its default: the program ends, answers with a temporary failure or defers.

One line is the first line, without spaces, tabs and newlines at its end.

A number is the digits that the first line starts with, modulo 2^32.  What follows them is ignored.  A file whose first
line does not start with a digit counts as missing.  pysend, pysmtpd, pyqueued and pyrspawn warn about both.

A limit is a number of digits and nothing else, at most 2147483648.  Anything else is reported with the name of the
file, and the default counts: a slip of the pen lifts no limit.

A rate is such a number, of what may be within 60 seconds, or one with a slash and a period behind it, at most 30 days:
digits, and s, m, h or d for seconds, minutes, hours or days: 1000/1h.

Lines are all lines, without spaces and tabs at their ends, except empty ones and those whose first byte is `#`.

Rules are lines of their own form, which a program compiles or checks: pydestrules(8).

A map is such lines, split at the first colon.  A line without a colon is ignored.  Keys are compared without regard to
case, and the last of equal keys counts.

CR is not a blank: a file with DOS line ends matches nothing.  Blanks at the start of a line count.

A program may read a file at any moment.  To change one, write the new file beside it and rename it.
"""

from pyqmail.base.numbers import UINT32, count_digits, event_rate, leading_number, whole_number
from pyqmail.base.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    Default = str | int | bytes | list[bytes] | dict[bytes, bytes] | tuple[str, bytes] | None

LINE, INTEGER, LIMIT, RATE, LINES, MAP, CDB = "line", "integer", "limit", "rate", "lines", "map", "cdb"
RULES = "rules"
ME = "me"
MAX_LIMIT = 1 << 31


class Control:
    """One file below control/.

    default is what holds when the file is missing: ME for the content of control/me, or a value as the mode
    reads it, or a pair (ME, value) for the value when me is missing too, or None for nothing.
    unit is that of a number, a limit or a rate, None for any other mode.  example is a whole content, its last newline
    left out; None for a cdb.  RULES are read by their own program, not by system/controls.py.  is_original: qmail has
    the file, too.
    """

    __slots__ = ("default", "example", "is_original", "meaning", "mode", "name", "unit")

    def __init__(
        self,
        name: str,
        mode: str,
        default: "Default",
        meaning: str,
        unit: str | None = None,
        example: str | None = None,
        is_original: bool = True,
    ) -> None:
        self.name, self.mode, self.default, self.meaning = name, mode, default, meaning
        self.unit, self.example, self.is_original = unit, example, is_original


def _text(name: str, default: "Default", meaning: str, example: str, is_original: bool = True) -> Control:
    return Control(name, LINE, default, meaning, None, example, is_original)


def _number(name: str, default: int, unit: str, meaning: str, example: str, is_original: bool = True) -> Control:
    return Control(name, INTEGER, default, meaning, unit, example, is_original)


def _limit(name: str, default: int, unit: str, meaning: str, example: str) -> Control:
    return Control(name, LIMIT, default, meaning, unit, example, False)


def _rate(name: str, unit: str, meaning: str, example: str) -> Control:
    return Control(name, RATE, 0, meaning, unit, example, False)


CONTROLS = {
    control.name: control
    for control in (
        Control(
            "badhelo",
            LINES,
            [],
            "names in HELO and EHLO to refuse, at RCPT: a name, or .suffix; no patterns",
            example="localhost\n.spam.example",
            is_original=False,
        ),
        Control("badmailfrom", LINES, [], "envelope senders to refuse: an address, or @host", example="@spam.example"),
        Control(
            "badrcptto",
            LINES,
            [],
            "envelope recipients to refuse: an address, or @host; no patterns",
            example="formermember@example.org",
            is_original=False,
        ),
        _text("bouncefrom", b"MAILER-DAEMON", "local part of the From of bounces", "MAILER-DAEMON"),
        _text("bouncehost", (ME, b"bouncehost"), "host of the From of bounces", "mail.example.org"),
        _number(
            "bouncemaxbytes", 50000, "bytes", "maximum of the original message in a bounce; 0: no limit", "20000", False
        ),
        _limit(
            "brtlimit",
            0,
            "recipients",
            "recipients refused by `badrcptto` in a session after which the next RCPT ends it; 0: never",
            "5",
        ),
        _limit(
            "clientconnections",
            50,
            "connections",
            "maximum of connections from one address at once, of IPv6 one /64; 0: no limit; the default does not hold "
            "where pytcpserver has --per-address",
            "20",
        ),
        _rate(
            "clientmessages",
            "messages",
            "maximum of messages that one address, of IPv6 one /64, may begin within a period; 0: no limit",
            "600/1h",
        ),
        _limit(
            "clientnetwork",
            250,
            "connections",
            "maximum of connections from one network, /24 or /64, at once; 0: no limit; the default does not hold "
            "where pytcpserver has --per-network",
            "100",
        ),
        _rate(
            "clientrate",
            "connections",
            "maximum of new connections from one address, of IPv6 one /64, within a period; 0: no limit",
            "60",
        ),
        _rate(
            "clientrecipients",
            "recipients",
            "maximum of recipients that one address, of IPv6 one /64, may name within a period; 0: no limit",
            "5000/1d",
        ),
        _number("concurrencylocal", 10, "deliveries", "maximum of local deliveries at once; 0 holds them", "40"),
        _number("concurrencyremote", 20, "deliveries", "maximum of remote deliveries at once; 0 holds them", "500"),
        _number("databytes", 0, "bytes", "maximum size of a message; 0: no limit", "20000000"),
        Control(
            "destinations",
            RULES,
            None,
            "how many sessions, how fast, how many messages each destination gets; pydestrules(8) compiles it",
            example="yahoo.*:@yahoo\n@yahoo:C=100",
            is_original=False,
        ),
        Control(
            "destinations.cdb",
            CDB,
            None,
            "`destinations` and `responses`, compiled by pydestrules(8); without it the built-in limits hold",
            is_original=False,
        ),
        Control(
            "destinations.now",
            RULES,
            None,
            "lines that win over those of `destinations` until a date; not compiled, see pydestrules(8)",
            example="@yahoo:hold,until=2026-11-01T14:05Z",
            is_original=False,
        ),
        _text("doublebouncehost", (ME, b"doublebouncehost"), "host that double bounces go to", "mail.example.org"),
        _text("doublebounceto", b"postmaster", "local part that double bounces go to", "bounces"),
        _limit(
            "earlytalkers",
            1,
            "0 or 1",
            "whether a client that speaks before its greeting is refused, where it is held back; 0: no",
            "0",
        ),
        _text("envnoathost", (ME, b"envnoathost"), "domain for envelope recipients without @", "example.org"),
        _limit("errordelay", 1, "seconds", "how long each reply waits beyond `softerrorlimit`; 0: not at all", "5"),
        _limit("errorlimit", 20, "errors", "errors without a message in between that end a session; 0: never", "10"),
        _text("helohost", ME, "our name in EHLO and HELO", "mail.example.org"),
        _limit(
            "junklimit",
            100,
            "commands",
            "commands that bring no mail, without a message in between, beyond which each counts as an error; 0: never",
            "50",
        ),
        _text("localiphost", ME, "domain that replaces [our.own.address] in recipients", "example.org"),
        _number(
            "localbytes",
            100_000_000,
            "bytes",
            "maximum size of a message of a local user; 0: no limit",
            "5000000",
            False,
        ),
        Control("locals", LINES, ME, "domains to deliver locally", example="example.org\nmail.example.org"),
        _limit("maxrcpt", 1000, "recipients", "maximum of a message's recipients; more get 452; 0: no limit", "100"),
        _text("me", None, "name of this host; the default of other files", "mail.example.org"),
        _limit(
            "mindatarate",
            500,
            "bytes a second",
            "how fast a message has to come; `timeoutsmtpd` is then for a whole command and for all replies to it; "
            "0: no such rate, and it is for each piece",
            "2000",
        ),
        Control(
            "morercpthosts.cdb",
            CDB,
            None,
            "more domains of rcpthosts, used only if rcpthosts exists; the original's qmail-newmrh compiles it",
        ),
        Control(
            "percenthack", LINES, [], "domains for which user%host@domain becomes user@host", example="old.example"
        ),
        _number("queuelifetime", 604800, "seconds", "age of a message at which a deferral becomes a bounce", "432000"),
        _number(
            "queueminfree",
            32_000_000,
            "bytes",
            "free space that queueing a message needs, beside 1 % of the inodes; 0: none",
            "500000000",
            False,
        ),
        Control(
            "rcpthosts",
            LINES,
            None,
            "domains to accept mail for: domain, or .suffix; if it is missing, mail is accepted for all and relayed",
            example="example.org\n.example.org",
        ),
        Control(
            "responses",
            RULES,
            None,
            "what words in a server's reply mean for its destination; without it the built-in ones hold; "
            "pydestrules(8) compiles it",
            example="@yahoo:421:[TSS04]:pause 2h",
            is_original=False,
        ),
        _limit(
            "sessionidle",
            3600,
            "seconds",
            "how long a session may go on without an accepted message; 0: for ever",
            "600",
        ),
        _text("smtpgreeting", ME, "text of the greeting after 220", "mail.example.org ESMTP"),
        Control(
            "smtproutes",
            MAP,
            {},
            "relays instead of a domain's mail exchangers: domain:relay:port, .suffix:relay:port, :relay:port; an "
            "empty relay means the mail exchangers",
            example="example.net:10.0.0.7:2525\nexample.com:\n:relay.example.org",
        ),
        _limit(
            "softerrorlimit",
            10,
            "errors",
            "errors without a message in between from which on each reply waits `errordelay`; 0: never",
            "5",
        ),
        _limit("tarpitcount", 0, "recipients", "recipients of a message beyond which each reply waits; 0: never", "50"),
        _limit(
            "tarpitdelay",
            5,
            "seconds",
            "how long each reply waits beyond `tarpitcount`, 60 seconds for all of a message; 0: not at all",
            "2",
        ),
        _number("timeoutconnect", 60, "seconds", "time to wait for a connection", "30"),
        _number("timeoutremote", 1200, "seconds", "time to wait for each reply of a remote server", "600"),
        _number(
            "timeoutsmtpd",
            1200,
            "seconds",
            "time to wait for a client's whole command, or for each piece of its data if `mindatarate` is 0",
            "300",
        ),
        Control(
            "virtualdomains",
            MAP,
            {},
            "addresses and domains of local users: user@domain:prepend, domain:prepend, .suffix:prepend, :prepend; the "
            "recipient becomes prepend-user@domain and is local; an empty prepend means remote",
            example="example.com:ann\nbob@example.net:bob-net\nrelay.example.com:",
        ),
    )
}

# What the scripts in services/ name below control/: name -> (meaning, service, when a change counts, example)
SCRIPT_FILES = {
    "defaultdelivery": (
        "what a user without a .qmail file gets, in the form of one",
        "pysend",
        "once the service is started again",
        "./Maildir/",
    ),
    "smtp-rules.cdb": (
        "who may connect, and relay: pytcprules(8) compiles it from `smtp-rules`",
        "pysmtpd",
        "from the next connection on",
        None,
    ),
}


def read_line(data: bytes) -> bytes:
    """Return the first line of a control file, stripped at its end; may be empty."""
    return data.partition(b"\n")[0].rstrip(b" \t\n")


def read_integer(data: bytes) -> int | None:
    """Return the number a control file starts with, modulo 2^32; None (absent) if no digit stands there."""
    line = read_line(data)
    return leading_number(line, UINT32) if count_digits(line) else None


def read_limit(data: bytes) -> int | None:
    """Return the number that the first line is; None (the default counts) if it is none, or above MAX_LIMIT."""
    try:
        return whole_number(read_line(data), MAX_LIMIT)
    except ValueError:
        return None


def read_rate(data: bytes) -> tuple[int, int] | None:
    """Return (events, seconds) of the first line; None (the default counts) if it is no rate, or above MAX_LIMIT."""
    try:
        return event_rate(read_line(data), MAX_LIMIT)
    except ValueError:
        return None


def odd_rate(data: bytes, value: tuple[int, int] | None) -> str | None:
    """Return what to report of a control file that read_rate() reads as value; None if it is a rate."""
    shown = printable(read_line(data)[:64]).replace(" ", "?")
    return None if value is not None else f"{shown} is no rate, so the default counts"


def odd_limit(data: bytes, value: int | None) -> str | None:
    """Return what to report of a control file that read_limit() reads as value; None if it is a limit."""
    shown = printable(read_line(data)[:64]).replace(" ", "?")
    return None if value is not None else f"{shown} is no number up to {MAX_LIMIT}, so the default counts"


def odd_integer(data: bytes, value: int | None) -> str | None:
    """Return what to report of a control file that read_integer() reads as value; None if it is just that number."""
    line = read_line(data)
    digits = line.lstrip(b"0")
    if value is not None and (digits or b"0") == b"%d" % value:
        return None
    shown = printable(line[:64]).replace(" ", "?")
    return f"{shown} is no number, so the default counts" if value is None else f"{shown} is read as {value}"


def read_lines(data: bytes) -> list[bytes]:
    """Return the entries of a list file.  A NUL inside a line splits it in two."""
    lines = (line.rstrip(b" \t") for line in data.split(b"\n"))
    kept = [line for line in lines if line and not line.startswith(b"#")]
    return [piece for line in kept for piece in line.split(b"\0") if piece]


def read_map(data: bytes) -> dict[bytes, bytes]:
    """Return the entries of a colon map, keys in lower case.  Lines without a colon are ignored."""
    pairs = (line.partition(b":") for line in read_lines(data))
    return {key.lower(): value for key, colon, value in pairs if colon}
