"""Answer DNS questions for pysend, many at once.

Reads questions from descriptor 0 and writes answers to descriptor 1: a domain's mail exchangers with their
addresses, a host's addresses, an address's name, a name's texts.  Equal questions are asked once; an
answer is remembered for as long as DNS says, at least a minute and at most a day; a failure that may pass is not.

Servers are those of /etc/resolv.conf.  Ends when the questions end.
"""

import os
import signal

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Program
from pyqmail.protocol import resolve_wire
from pyqmail.protocol.resolve_wire import FOUND, NO_HOST, NO_RECORD, SOFT, split_strings, strings
from pyqmail.system import resolver
from pyqmail.system.answering import serve
from pyqmail.system.ceilings import raise_descriptor_limit

PROGRAM = Program(
    name="pyresolve",
    summary="answer DNS questions for the queue manager",
    exits={0: "the questions have ended", 111: "nonsense on descriptor 0"},
    environment=["PYQMAIL_DNS", "DNSCACHEIP"],
    see=["pysend(8)", "pystart(8)"],
)

MOST_QUESTIONS = 4096  # at once: each to a silent server holds its place for a minute
FILES_FOR_QUESTION, FILES_BESIDE = 2, 64


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, resolve)


def resolve(call) -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    most = max(1, min(MOST_QUESTIONS, (raise_descriptor_limit()[0] - FILES_BESIDE) // FILES_FOR_QUESTION))
    known = resolver.AsyncResolver(dict(call.environ), on_the_wire=most)
    if not serve(0, 1, resolve_wire, lambda kind, body: answer(known, kind, body), most):
        raise Temporary("nonsense on descriptor 0")
    return 0


async def answer(known, kind: int, body: bytes) -> tuple[int, bytes]:
    """Return kind and body of the answer to a question of resolve_wire.  Raises Malformed."""
    texts = split_strings(body)
    if len(texts) != 1:
        raise resolve_wire.Malformed("a question is about one name")
    name = texts[0]
    try:
        if kind == resolve_wire.EXCHANGERS:
            return FOUND, resolve_wire.exchangers_body(await known.exchangers(name))
        if kind == resolve_wire.ADDRESSES:
            return FOUND, strings(*await known.addresses(name))
        if kind == resolve_wire.NAME:
            found = await known.name(name)
            return FOUND, b"" if found is None else strings(found)
        if kind == resolve_wire.TEXT:
            return FOUND, strings(await known.text(name))
    except resolver.Soft as reason:
        return SOFT, strings(os.fsencode(str(reason)))
    except resolver.NoHost:
        return NO_HOST, b""
    except resolver.NoRecord:
        return NO_RECORD, b""
    raise resolve_wire.Malformed("not a question")
