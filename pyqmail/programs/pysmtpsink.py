"""Take SMTP or LMTP messages and throw them away, to measure clients; or misbehave, to see what they do.

Listens at HOST:PORT, :PORT or unix:PATH.  BACKLOG is how many connections may wait to be accepted.  At the end (a
signal, or what -M, -n and --seconds say) what was counted goes to descriptor 1.

Each process takes as many connections at once as -m says, as far as the limit of descriptors goes, which is raised.
With --processes the kernel shares the connections among them; a --model then counts in each process by itself.
"""

import os

from pyqmail.base.numbers import whole_number
from pyqmail.base.options import Act, Argument, Flag, Value
from pyqmail.load_tools.targets import BOTH, IP4, IP6
from pyqmail.programs.pysmtpsource import positive_number, processes, seconds
from pyqmail.system.command_line import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.base.options import Call
    from pyqmail.load_tools.server_models import Model
    from pyqmail.load_tools.smtp_sink import SinkPlan, SinkSession

COMMANDS = "CONNECT HELO EHLO LHLO MAIL RCPT VRFY DATA . RSET NOOP QUIT"
MODELS = (
    "takes-all session-limit rate greylist silent refusing slow-greeter connection-limit transaction-limit "
    "greets-and-closes"
)


def commands(text: str) -> list[str]:
    """Return the commands that a list names, with commas or blanks between.  Raises ValueError."""
    words = text.upper().replace(",", " ").split()
    for word in words:
        if word not in COMMANDS.split():
            raise ValueError(f"no command: {word}")
    return words


def reply(first: str):
    """Return what reads a reply that begins so."""

    def read(text: str) -> str:
        if not (
            text.isascii() and text.isprintable() and text[:1] == first and text[:3].isdigit() and text[3:4] == " "
        ):
            raise ValueError(f"no reply {first}xx TEXT: {text}")
        return text

    return read


def delay(call: "Call", text: str) -> None:
    """COMMAND:SECONDS[:ODDS]."""
    command, _, rest = text.partition(":")
    number, _, odds = rest.partition(":")
    [word] = commands(command) or [""]
    chance = whole_number(odds, 99) if odds else 0
    vars(call)["delays"] = {**call.delays, word: (seconds(number), chance)}


def model(text: str) -> "tuple[type[Model], list[list[str]]]":
    """Return the model and the options of NAME [KEY=VALUE ...].  Raises ValueError."""
    from shlex import split

    from pyqmail.load_tools.server_models import MODELS as CLASSES
    from pyqmail.load_tools.server_models import set_option

    name, *words = split(text) or [""]
    if name not in CLASSES:
        raise ValueError(f"no model: {name}; there are {MODELS}")
    options = [word.split("=", 1) for word in words]
    for option in options:
        try:
            set_option(CLASSES[name](float), *option)
        except (LookupError, TypeError, ValueError):
            raise ValueError(f"{name} has no option {'='.join(option)}") from None
    return CLASSES[name], options


SHARED: "list[Flag | Value | Act]" = [
    Flag("4", "family", "listen by IPv4 only", IP4, default=BOTH),
    Flag("6", "family", "listen by IPv6 only", IP6),
    Flag("c", "shows_progress", "a line on descriptor 2 every second"),
    Value(None, "seconds", "SECONDS", "end after so long", seconds, "seconds"),
    Value(None, "processes", "COUNT", "processes that share the connections", processes, "processes", default=1),
    Flag(None, "is_json", "report in JSON", long="json"),
    Flag(None, "tells_port", "write the address to descriptor 1 when clients may connect: port 0 takes a free one",
         long="announce"),
]  # fmt: skip
OPERANDS = [
    Argument("address", "[inet:][HOST]:PORT or unix:PATH"),
    Argument("backlog", "connections that may wait to be accepted", optional=True, default="1024"),
]
EXITS: "dict[int | str, str]" = {
    0: "done",
    1: "one of several processes was killed",
    100: "the command line is wrong",
    111: "unable to listen",
}

PROGRAM = Program(
    name="pysmtpsink",
    summary="take SMTP messages and throw them away",
    options=[
        *SHARED,
        Flag("8", "has_no_8bitmime", "do not announce 8BITMIME"),
        Value("A", "abort_after", "SECONDS", "so long after the reply to DATA say 550 and close, and read nothing",
              seconds),
        Value("b", "soft_reply", "REPLY", "what -r replies", reply("4"), default="450 4.3.0 Error: command failed"),
        Value("B", "hard_reply", "REPLY", "what -f replies", reply("5"), default="500 5.3.0 Error: command failed"),
        Value("d", "dump_each", "TEMPLATE", "write each message to a file: strftime(3) makes its name, with a random "
              "number behind"),
        Value("D", "dump_all", "TEMPLATE", "write messages one behind the other to a file so named"),
        Flag("e", "has_no_esmtp", "know no EHLO"),
        Flag("E", "has_no_codes", "do not announce ENHANCEDSTATUSCODES"),
        Value("f", "hard_commands", "COMMAND,...", f"refuse these for good; implies -p.  There are {COMMANDS}",
              commands, default=[]),
        Value("h", "host", "NAME", "our host name, in the greeting and in replies", default="pysmtpsink"),
        Value("H", "read_pause", "SECONDS", "after DATA, wait so long before reading", seconds, default=0.0),
        Flag("L", "is_lmtp", "speak LMTP"),
        Value("m", "most_sessions", "COUNT", "connections at once in each process; others wait in the backlog",
              positive_number, default=20_000),
        Value("M", "messages", "COUNT", "end after so many messages", positive_number),
        Value("n", "all_sessions", "COUNT", "end after so many connections", positive_number),
        Flag("N", "has_no_dsn", "do not announce DSN"),
        Flag("p", "has_no_pipelining", "do not announce PIPELINING"),
        Flag("P", "is_pix", "greet as a firewall does that hides the server's own greeting; implies -e"),
        Value("q", "hang_up_commands", "COMMAND,...", "hang up at these without a reply", commands, default=[]),
        Value("Q", "goodbye_commands", "COMMAND,...", "reply 421 to these and hang up", commands, default=[]),
        Value("r", "soft_commands", "COMMAND,...", "refuse these for now; implies -p", commands, default=[]),
        Value("S", "dump_start", "TEXT", "what stands before each message in a dump", default=""),
        Value("t", "timeout", "SECONDS", "close a connection without a byte for so long", seconds, default=100.0),
        Value("T", "window", "BYTES", "bytes that the kernel buffers of a connection, which bounds the TCP window",
              positive_number),
        Flag("v", "is_verbose", "show the conversations on descriptor 2"),
        Value("w", "data_delay", "SECONDS", "wait so long before the reply to DATA", seconds),
        Act("W", delay, "wait so long before replying to a command; with ODDS from 1 to 99, a random multiple: once "
            "more for each throw from 0 to 99 that is below", "COMMAND:SECONDS[:ODDS]"),
        Value(None, "model", "MODEL [KEY=VALUE ...]", f"what the whole server does: {MODELS}; see MODELS", model,
              "model"),
        Value(None, "limits", "TEXT", "announce LIMITS, for example MAILMAX=5", str, "limits", default=""),
    ],
    arguments=OPERANDS,
    fields={"delays": {}},
    exits=EXITS,
    section=1,
    notes=[
        ("MODELS", [
            ("takes-all seconds=0", "takes everything, each message after so many seconds"),
            ("session-limit limit=5 reply=TEXT", "takes so many connections at once, and says 421 to others"),
            ("rate messages=200 minute=60 ban=600", "takes so many messages a minute; who sends more is refused for so "
             "many seconds, and each try begins them again"),
            ("greylist wait=300", "puts off a client, sender and recipient that it sees for the first time"),
            ("silent", "accepts, and never says a word"),
            ("refusing reply=TEXT", "refuses in place of a greeting"),
            ("slow-greeter wait=20", "greets after so many seconds"),
            ("connection-limit messages=10 at=mail", "takes so many messages over a connection; at=data refuses later"),
            ("transaction-limit recipients=5", "takes so many recipients of a message"),
            ("greets-and-closes", "greets, and hangs up at MAIL"),
        ]),
        ("EXAMPLES", [
            ("pysmtpsink -c 127.0.0.1:2525", "a sink to measure against, with a line every second"),
            ("pysmtpsink --processes 4 -m 20000 --json :2525 4096", "as many connections as the machine holds"),
            ("pysmtpsink --model 'session-limit limit=5' 127.0.0.1:2525", "a provider that takes five connections"),
            ("pysmtpsink -r RCPT -W DATA:2:50 127.0.0.1:2525", "every recipient is put off"),
        ]),
        ("DIFFERENCES", "The letters are those of Postfix's smtp-sink; ours takes 20,000 connections at once where -m "
         "is not given, and BACKLOG may be left out.  There is no -a, -C, -F: AUTH, XCLIENT and XFORWARD are never "
         "announced; no -R and -u: start it by pysetuidgid(8); no -s: -v shows the conversation."),
    ],
    see=["pyqmqpsink(1)", "pysmtpsource(1)"],
)  # fmt: skip


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, serve)


def serve(call: "Call") -> int:
    from time import monotonic

    from pyqmail.load_tools import server_models, sink_setup
    from pyqmail.load_tools.smtp_sink import SinkSession

    kind, options = call.model or (server_models.Model, [])

    def make_model() -> "Model":
        made = kind(monotonic)
        for option in options:
            server_models.set_option(made, *option)
        made.limits = call.limits or made.limits
        return made

    if call.processes > 1 and (call.messages or call.all_sessions):
        raise PROGRAM.wrong(PROGRAM.line("-M and -n count in one process: leave out --processes"))
    shape = sink_setup.SinkShape(call, call.most_sessions, call.timeout)
    plan = plan_of(call)
    return sink_setup.run(PROGRAM, call, plan, make_model, SinkSession, _writer(call, plan), shape)


def plan_of(call: "Call") -> "SinkPlan":
    """Return what the options say about each session."""
    from pyqmail.load_tools.server_models import HANG_UP
    from pyqmail.load_tools.smtp_sink import GOODBYE, SinkPlan

    plan = SinkPlan(os.fsencode(call.host))
    announced = {
        b"PIPELINING": not (call.has_no_pipelining or call.hard_commands or call.soft_commands),
        b"8BITMIME": not call.has_no_8bitmime,
        b"ENHANCEDSTATUSCODES": not call.has_no_codes,
        b"DSN": not call.has_no_dsn,
    }
    plan.extensions = [word for word in plan.extensions if announced[word]]
    plan.is_lmtp, plan.is_extended = call.is_lmtp, not (call.has_no_esmtp or call.is_pix)
    if call.is_pix:
        plan.greeting = b"220 ********************************"
    for names, answer in (
        (call.soft_commands, call.soft_reply.encode()),
        (call.hard_commands, call.hard_reply.encode()),
        (call.goodbye_commands, GOODBYE),
        (call.hang_up_commands, HANG_UP),
    ):
        plan.faults.update({name.encode(): answer for name in names})
    plan.delays = {name.encode(): _dice(*what) for name, what in call.delays.items()}
    if call.data_delay:
        plan.delays[b"DATA"] = _dice(call.data_delay, 0)
    plan.read_pause, plan.abort_after = call.read_pause, call.abort_after
    plan.keeps = bool(call.dump_each or call.dump_all)
    if call.is_verbose:
        plan.show = _show
    return plan


def _dice(seconds_each, odds):
    """Return a function that returns how long to wait."""
    from random import randrange

    def wait():
        times = 1
        while odds and randrange(100) < odds:
            times += 1
        return seconds_each * times

    return wait


def _writer(call: "Call", plan: "SinkPlan"):
    """Return what is called with each message."""
    if not plan.keeps:
        return lambda session, content: None
    from pyqmail.load_tools.dump_files import DumpFiles

    start = call.dump_start.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1", "replace")
    dump = DumpFiles(call.dump_each or call.dump_all, not call.dump_each, start, plan.host)

    def write(session: "SinkSession", content: bytes) -> None:
        try:
            dump.write(session, content)
        except OSError as error:
            from pyqmail.base.failure import reason

            os.write(2, PROGRAM.line(f"warning: unable to write a message: {reason(error)}\n").encode())

    return write


def _show(line: bytes) -> None:
    os.write(2, line + b"\n")
