"""A remote delivery by another program: qmail-remote's interface, one process for each recipient."""

import os

from pyqmail.base.addresses import domain_part
from pyqmail.base.backoff import Backoff
from pyqmail.mail.spawners.server import NO_FORK, NO_PIPE
from pyqmail.protocol.smtp.report import NOT_RUN_NOW, compose
from pyqmail.system.coroutines import Promise
from pyqmail.system.processes import exit_code, spawn

DEFAULT_AGENT = b"pyremote"
OUTPUT_LIMIT = 65536


async def run_agent(loop, program: bytes, environ, sender: bytes, recipient: bytes, message: int) -> bytes:
    """Run `program host sender recipient` on an open message file; return the report.

    Found in PATH; descriptors 1 and 2 are what is reported.  The report waits until the program has ended and
    everybody who inherited those has closed them.  A program that cannot be run is a deferral, whatever the reason:
    that tells nothing about the mail.
    """
    try:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
    except OSError:
        return NO_PIPE
    argv = [program, domain_part(recipient), sender, recipient]
    try:
        pid = spawn(argv, environ, environ.get(b"PATH"), {0: message, 1: theirs, 2: theirs})
    except BlockingIOError:
        os.close(ours)
        return NO_FORK
    except OSError:
        os.close(ours)
        return NOT_RUN_NOW
    finally:
        os.close(theirs)
    ended = Promise()
    loop.on_exit_surely(pid, ended.keep)
    try:
        output = await _read_all(loop, ours)
    finally:
        loop.forget(ours)
        os.close(ours)
    code = exit_code(await ended)
    if code and os.path.basename(program) == DEFAULT_AGENT:
        return NOT_RUN_NOW  # ours ends with 0: its interpreter or its modules have gone
    return compose(code, output)


async def _read_all(loop, fd):
    """Return what comes until the end of file, no more than OUTPUT_LIMIT bytes of it.

    An error of the descriptor is no end: the program goes on, and what it says is still there.
    """
    os.set_blocking(fd, False)
    output, backoff = b"", Backoff()
    while True:
        try:
            await loop.readable(fd)
            data = os.read(fd, 65536)
        except BlockingIOError:
            continue
        except OSError:
            await loop.sleep(backoff.next_seconds())
            continue
        backoff.reset()
        if not data:
            return output
        output = (output + data)[:OUTPUT_LIMIT]
