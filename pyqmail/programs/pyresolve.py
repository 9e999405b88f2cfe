"""Answer DNS questions for pysend, many at once.

Reads questions from descriptor 0 and writes answers to descriptor 1: a domain's mail exchangers with their addresses, a
host's addresses, an address's name, a name's texts.  Equal questions are asked once.  An answer is kept for as long as
its TTL, at least a minute and at most a day; a temporary failure is not.  While no server answers, pysend gets the
hosts of a domain that were known before, for three days at most.  At most 64 MB of answers are kept, or a
quarter of what softlimit leaves; the one that was used longest ago is dropped first.

Of a domain's exchangers the best 64 count.  An answer of more than 4096 records is a temporary failure, and a line on
descriptor 2 names the question.  When none of the servers answers, a line reports it, at most once a minute.

Servers are those of /etc/resolv.conf.  It ends when the questions end.
"""

import _signal as signal  # without its enums
import errno
import os
import resource

from pyqmail.base.failure import Temporary, reason
from pyqmail.protocol.wires import resolve_wire
from pyqmail.protocol.wires.frames import MalformedFrame, split_strings, strings
from pyqmail.protocol.wires.resolve_wire import (
    FOUND,
    HOSTS,
    HOSTS_FOUND,
    NO_HOST,
    NO_MAIL,
    NO_RECORD,
    RELAY,
    SOFT,
    UNABLE,
)
from pyqmail.system import resolver
from pyqmail.system.async_resolver import REMEMBERED_BYTES, AsyncResolver, NoMail
from pyqmail.system.async_server import preload as preload_loop
from pyqmail.system.async_server import serve
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import log
from pyqmail.system.privileges import forbid_new_privileges
from pyqmail.system.rlimits import raise_descriptor_limit

PROGRAM = Program(
    name="pyresolve",
    summary="answer DNS questions for the queue manager",
    exits={0: "the questions have ended", 111: "malformed questions on descriptor 0"},
    environment=["PYQMAIL_DNS", "DNSCACHEIP"],
    offers=["preload"],
    see=["pysend(8)", "pystart(8)", "pyqmail-wires(5)"],
)

_ONE_FAMILY = {resolve_wire.ADDRESSES4: ("A",), resolve_wire.ADDRESSES6: ("AAAA",)}
MAX_QUESTIONS = 4096  # at once: each to a silent server holds its place for a minute
FILES_FOR_QUESTION, FILES_BESIDE = 2, 64


def preload(words=()) -> None:
    """Import what the first question would."""
    resolver.preload()
    preload_loop()


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, resolve)


def resolve(call) -> int:
    preload()
    forbid_new_privileges()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    most = max(1, min(MAX_QUESTIONS, (raise_descriptor_limit()[0] - FILES_BESIDE) // FILES_FOR_QUESTION))
    known = AsyncResolver(dict(call.environ), on_the_wire=most, remembered_bytes=remembered_bytes(), complain=complain)
    resolver.preload()
    makes_sense = serve(0, 1, resolve_wire, lambda kind, body: answer(known, kind, body), most)
    if not makes_sense:
        raise Temporary("nonsense on descriptor 0")
    return 0


def remembered_bytes() -> int:
    """Return how many bytes of answers we may keep: a part of what the limits leave us."""
    found = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    return min([REMEMBERED_BYTES, *(limit // 4 for limit in found if limit != resource.RLIM_INFINITY)])


def complain(line: str) -> None:
    log(f"{PROGRAM.name}: warning: {line}")


async def answer(known, kind: int, body: bytes) -> tuple[int, bytes]:
    """Return kind and body of the answer to a question of resolve_wire.  Raises MalformedFrame."""
    texts = split_strings(body)
    if len(texts) != 1:
        raise MalformedFrame("a question is about one name")
    name = texts[0]
    try:
        if kind in (HOSTS, RELAY):
            return HOSTS_FOUND, resolve_wire.hosts_body(*await (known.hosts if kind == HOSTS else known.relay)(name))
        return FOUND, await found_body(known, kind, name)
    except MemoryError:
        known.forget()
        return UNABLE, strings(reason(errno.ENOMEM).encode())
    except resolver.Lack as lack:
        return UNABLE, strings(os.fsencode(str(lack)))
    except resolver.Soft as soft:
        return SOFT, strings(os.fsencode(str(soft)))
    except resolver.NoHost:
        return NO_HOST, b""
    except NoMail:
        return NO_MAIL if kind == HOSTS else NO_RECORD, b""
    except resolver.NoRecord:
        return NO_RECORD, b""


async def found_body(known, kind: int, name: bytes) -> bytes:
    """Return the body of what is found.  Raises MalformedFrame for another kind, and what the resolver raises."""
    if kind == resolve_wire.EXCHANGERS:
        return resolve_wire.exchangers_body(await known.exchangers(name))
    if kind == resolve_wire.ADDRESSES:
        return strings(*await known.addresses(name))
    if kind in _ONE_FAMILY:
        return strings(*await known.addresses(name, _ONE_FAMILY[kind]))
    if kind == resolve_wire.NAME:
        found = await known.name(name)
        return b"" if found is None else strings(found)
    if kind == resolve_wire.TEXT:
        return strings(await known.text(name))
    raise MalformedFrame("not a question")
