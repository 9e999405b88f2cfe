"""Run an SMTP server for clients that are on no list.

The client is $TCPREMOTEIP.  Its address, reversed, and BASE make a name; a list has the client if a TXT record of that
name exists.  Then the server is not run: pyrblsmtpd greets the client and answers each command with the text of the
record.  -r and -a act in their order among the options: a list that is asked later does not change what an earlier one
has decided, and -b, -B, -c and -C hold for those after them.  Without -r no list is asked.

A client that is not refused gets the server, in an unchanged environment.  -R stands in the usage line, as in the
original's; this option does not exist.

    pytcpserver -vRl0 0 smtp pyrblsmtpd -r list.example pysmtpd 2>&1
"""

import _signal as signal  # the module without its enums: this is started once for each connection
import os

from pyqmail.base.environment import merged
from pyqmail.base.failure import Usage
from pyqmail.base.numbers import leading_number
from pyqmail.base.options import Act, Declaration, Flag, Rest, Value
from pyqmail.programs.registry import load
from pyqmail.system import resolver
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import log, write_all
from pyqmail.system.processes import go_on
from pyqmail.tcp.filters.blocklist import BOUNCE, GREETING, LABEL, REFUSE, UNDECIDED, Dialogue, Judgement, log_line


def preload(words=()) -> None:
    """Import what only a client that is asked for needs: for a parent that will fork us."""
    import time  # noqa: F401

    resolver.preload()


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, work)


def work(call) -> int:
    judgement = _judgement(call)
    environ = call.environ
    if call.only_informs and judgement.is_by_list:
        notice = b"[RBL info] " + judgement.clean_text()
        _say(call, notice)
        environ = merged(environ, [(b"RBLSMTPD", notice)])
    elif judgement.decision in (REFUSE, BOUNCE):
        _say(call, judgement.message())
        return refuse(judgement.message(), call.seconds)
    return go_on(call.program, environ, load)


def refuse(message: bytes, seconds: int) -> int:
    """Tell the client, for at most so many seconds; 0: at once, without a dialogue."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.alarm(seconds)
    dialogue = Dialogue(message)
    try:
        write_all(1, GREETING if seconds else message + b"\r\n")
        while seconds and not dialogue.ended and (data := os.read(0, 65536)):
            for reply in dialogue.receive(data):
                write_all(1, reply)
    except OSError:
        pass  # the client has gone
    return 0


def _judgement(call):
    """Return the call's Judgement: made by the first option that needs it, or when there are no more."""
    if call.judgement is None:
        call.judgement = Judgement(resolver, call.environ.get(b"TCPREMOTEIP", b""), call.environ.get(b"RBLSMTPD"))
    return call.judgement


def _ask_list(call, base):
    _judgement(call).ask_list(os.fsencode(base), call.bounces, call.fails_closed)


def _ask_exemptions(call, base):
    _judgement(call).ask_exemptions(os.fsencode(base), call.fails_closed)


def _delay(call, text):
    _wait(call, leading_number(text) or _delay_of(call.environ))


def _delay_as_the_environment_says(call):
    _wait(call, _delay_of(call.environ))


def _delay_of(environ):
    return leading_number(environ.get(b"GREETDELAY", b""))


def _wait(call, seconds):
    if seconds and _judgement(call).decision is UNDECIDED:
        import time

        seconds = _bounded(seconds)
        _say(call, b"greetdelay: %d" % seconds)
        time.sleep(seconds)


def _say(call, text):
    log(log_line(call.environ, os.getpid(), text))


def _bounded(seconds):
    return min(seconds, 1 << 30)  # beyond that the kernel's own clocks overflow


_OPTIONS: "list[Flag | Value | Act]" = [
    Flag("b", "bounces", "a client that a later -r finds is refused with 553: its mail bounces"),
    Flag("B", "bounces", "with 451: it may try again", False, is_default=True),
    Flag(
        "c", "fails_closed", "a later look-up that fails refuses the client, with 451; a failing -a does not accept it"
    ),
    Flag(
        "C", "fails_closed", "a failing -r does not refuse the client, a failing -a accepts it", False, is_default=True
    ),
    Value(
        "t",
        "seconds",
        "SECONDS",
        "maximum time of the dialogue; 0: the message instead of the greeting, and no dialogue",
        lambda text: _bounded(leading_number(text)),
        is_lenient=True,
        default=60,
    ),
    Flag(
        "i", "only_informs", "do not refuse a client that a list has: log it, and report it to the server in RBLSMTPD"
    ),
]


def _acts(ask_list, ask_exemptions, delay, delay_as_the_environment_says):
    """Return the options that act at their place in the line."""
    return [
        Act("r", ask_list, "refuse the client if BASE has a text for it", "BASE"),
        Act("a", ask_exemptions, "accept the client if BASE, an anti-list, has an address for it", "BASE"),
        Act("w", delay, "wait SECONDS, unless something is decided; 0 means -W", "SECONDS"),
        Act("W", delay_as_the_environment_says, "wait $GREETDELAY seconds, unless something is decided"),
    ]


PROGRAM = Program(
    name="pyrblsmtpd",
    summary="run an SMTP server for clients that are on no list",
    original=LABEL,
    usage="rblsmtpd [ -b ] [ -R ] [ -t timeout ] [ -r base ] [ -a base ] smtpd [ arg ... ]",
    options=[*_OPTIONS, *_acts(_ask_list, _ask_exemptions, _delay, _delay_as_the_environment_says)],
    arguments=[Rest("program", "the SMTP server, with its arguments", required=True, metavar="smtpd")],
    fields={"judgement": None},
    exits={
        0: "the client was refused",
        100: "wrong usage",
        111: "the server could not be run",
        "others": "the server's own",
    },
    environment=["TCPREMOTEIP", "RBLSMTPD", "GREETDELAY", "PYQMAIL_DNS", "DNSCACHEIP"],
    offers=["preload", "stage"],
    see=["pytcpserver(8)", "pysmtpd(8)", "pytcprules(8)"],
)


def stage(argv: list[str]):
    """Return (what we do in a worker of pytcpserver, the words behind us); see tcp/serving/stages.py."""
    from pyqmail.tcp.serving.stages import ASK_EXEMPTIONS, ASK_LIST, WAIT, BlocklistStage

    steps: list[tuple] = []
    noted = _acts(
        lambda call, base: steps.append((ASK_LIST, os.fsencode(base), call.bounces, call.fails_closed)),
        lambda call, base: steps.append((ASK_EXEMPTIONS, os.fsencode(base), call.fails_closed)),
        lambda call, text: steps.append((WAIT, lambda environ: _bounded(leading_number(text) or _delay_of(environ)))),
        lambda call: steps.append((WAIT, lambda environ: _bounded(_delay_of(environ)))),
    )
    options = [*_OPTIONS, *noted]
    try:
        call = Declaration(PROGRAM.name, PROGRAM.summary, options=options, arguments=PROGRAM.arguments).parse(argv, {})
    except Usage:
        return None, []
    for text in call.oddities:
        log(PROGRAM.line(f"warning: {text}"))
    return BlocklistStage(steps, call.seconds, call.only_informs, resolver), call.program
