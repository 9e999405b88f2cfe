"""Send messages to an SMTP or LMTP server, many at once, and report how long it took.

The server is HOST, HOST:PORT or unix:PATH.  Each session sends one message and ends, unless -d keeps the connection:
if the server ends that between two messages, the next message opens another.
When all messages are sent, what happened goes to descriptor 1: how many, how fast, what was refused, and within which
time half, nine tenths, and so on, of the messages were taken.  The time of a message goes from when it was due (with
--rate: by that rate, whether a session was free or not; otherwise from its first byte) to the server's last reply.
"""

from pyqmail.base.numbers import whole_number
from pyqmail.base.options import Argument, Flag, Value
from pyqmail.load_tools.targets import BOTH, IP4, IP6, own_addresses
from pyqmail.system.command_line import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.base.options import Act, Call

MAX_SESSIONS, MAX_PROCESSES, MAX_BYTES = 1_000_000, 1000, 1 << 30


def positive_number(text: str) -> int:
    """Raises ValueError for what is no number from 1 to a million million."""
    number = whole_number(text, 10**12)
    if not number:
        raise ValueError(f"not at least 1: {text}")
    return number


def decimal(text: str) -> float:
    """Return a number that may have a point.  Raises ValueError."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"not a number: {text}") from None


def rate(text: str) -> float:
    """Return messages a second.  Raises ValueError."""
    value = decimal(text)
    if not 0.001 <= value <= 1_000_000:
        raise ValueError(f"no rate from 0.001 to 1000000: {text}")
    return value


def seconds(text: str) -> float:
    """Raises ValueError."""
    value = decimal(text)
    if not 0 <= value <= 86400 * 365:
        raise ValueError(f"no number of seconds: {text}")
    return value


def sessions(text: str) -> int:
    return min(positive_number(text), MAX_SESSIONS)


def processes(text: str) -> int:
    """Raises ValueError beyond MAX_PROCESSES."""
    number = positive_number(text)
    if number > MAX_PROCESSES:
        raise ValueError(f"more than {MAX_PROCESSES} processes: {text}")
    return number


def length(text: str) -> int:
    return whole_number(text, MAX_BYTES)


SHARED: "list[Flag | Value | Act]" = [
    Flag("4", "family", "connect by IPv4 only", IP4, default=BOTH),
    Flag("6", "family", "connect by IPv6 only", IP6),
    Flag("A", "is_patient", "go on after a refusal or a failed connection; otherwise the first ends everything"),
    Flag("c", "shows_progress", "a line on descriptor 2 every second"),
    Value("C", "attempts", "COUNT", "how often a connection that is refused or reset is tried", positive_number,
          default=1),
    Value("f", "sender", "ADDRESS", "envelope sender, and From; default foo@ our host name"),
    Value("l", "length", "BYTES", "bytes of each message beside its header", length, default=0),
    Value("m", "messages", "COUNT", "messages in all; 0: until --seconds are over, or a signal", whole_number,
          default=1),
    Value("M", "host", "NAME", "our host name, in HELO and in addresses; default the machine's"),
    Value("r", "recipients", "COUNT", "recipients of each message: their number stands before the address",
          positive_number, default=1),
    Value("R", "random_wait", "SECONDS", "each session waits up to so long between its messages", seconds, default=0.0),
    Value("s", "sessions", "COUNT", "sessions at once", sessions, default=1),
    Value("t", "recipient", "ADDRESS", "recipient; default foo@ our host name"),
    Value("T", "window", "BYTES", "bytes that the kernel buffers of a connection, which bounds the TCP window",
          positive_number),
    Flag("v", "is_verbose", "show the conversations on descriptor 2"),
    Value("w", "wait", "SECONDS", "each session waits so long between its messages", seconds, default=0.0),
    Value(None, "rate", "NUMBER", "messages a second that are begun, over all sessions", rate, "rate"),
    Value(None, "seconds", "SECONDS", "begin no message after so long", seconds, "seconds"),
    Value(None, "timeout", "SECONDS", "how long a server may be silent", seconds, "timeout", default=300.0),
    Value(None, "processes", "COUNT", "processes that share the sessions and messages", processes, "processes",
          default=1),
    Value(None, "local", "ADDRESS,...", "our addresses, which the sessions use in turn: each has 28,000 ports",
          own_addresses, "local"),
    Flag(None, "is_json", "report in JSON", long="json"),
]  # fmt: skip
EXITS: "dict[int | str, str]" = {
    0: "every message was taken",
    1: "a message was refused or failed, or a signal ended it",
    100: "the command line is wrong",
    111: "the host cannot be found",
}

PROGRAM = Program(
    name="pysmtpsource",
    summary="send messages to an SMTP server, many at once, and measure",
    options=[
        *SHARED,
        Flag("d", "keeps", "send the next message over the same connection"),
        Value("F", "file", "PATH", "send this message, header and body, in place of a made one"),
        Flag("L", "is_lmtp", "speak LMTP"),
        Flag("N", "has_numbers", "begin each recipient with a number that no other has"),
        Flag("o", "is_old", "no HELO, and no header"),
        Value("S", "subject", "TEXT", "the Subject of the messages", default=""),
        Flag(None, "has_pipelining", "send MAIL, RCPT and DATA together", long="pipelining"),
    ],
    arguments=[Argument("server", "[inet:]HOST[:PORT] or unix:PATH; the port is 25 if none is given")],
    exits=EXITS,
    section=1,
    notes=[
        ("EXAMPLES", [
            ("pysmtpsource -s 20 -m 10000 127.0.0.1:2525", "ten thousand messages, twenty at a time"),
            ("pysmtpsource -A -d -s 200 -m 0 --rate 500 --seconds 60 --json mail.example:25",
             "500 messages a second for a minute, whatever becomes of them; the result for another program"),
            ("pysmtpsource -s 20000 -m 20000 --processes 2 --local 127.0.0.2,127.0.0.3 127.0.0.1:2525",
             "twenty thousand connections at once"),
        ]),
        ("DIFFERENCES", "The letters are those of Postfix's smtp-source.  It reports nothing at the end, and has no "
         "long options.  Its -l counts as ours does, without the header."),
    ],
    see=["pysmtpsink(1)", "pyqmqpsource(1)"],
)  # fmt: skip


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, send)


def send(call: "Call") -> int:
    from pyqmail.load_tools import smtp_source, source_setup
    from pyqmail.load_tools.targets import PORT_OF_SMTP

    plan = source_setup.plan_of(call)
    plan.is_lmtp, plan.is_old, plan.has_numbers = call.is_lmtp, call.is_old, call.has_numbers
    plan.has_pipelining, plan.subject = call.has_pipelining, call.subject.encode()
    if call.file is not None:
        plan.content = source_setup.content_of(call.file)
    return source_setup.run(PROGRAM, call, plan.made(), smtp_source, PORT_OF_SMTP, call.keeps)
