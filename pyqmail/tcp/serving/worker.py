"""Sessions in a few workers that stay: the worker's side of the hand-over (protocol/wires/handover_wire.py)."""

from pyqmail.base.failure import Failure, Usage
from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.channel import Gone
from pyqmail.system.descriptors import log, read_file
from pyqmail.system.driver import EventDriver
from pyqmail.system.loop import Loop, TimedOut
from pyqmail.system.privileges import forbid_new_privileges
from pyqmail.tcp.access.client_names import ChannelNames
from pyqmail.tcp.access.decide import Drop, admit, hold_greeting
from pyqmail.tcp.access.environment import NAMES, SessionEnvironment
from pyqmail.tcp.access.log_lines import (
    ERRORS,
    EVERYTHING,
    complaint_line,
    drop_line,
    opening_line,
    say_now,
    verdict_line,
)
from pyqmail.tcp.serving.worker_stream import WorkerStream

_QUEUE = b"QMAILQUEUE"


def serve(sock, terms, module, argv: list[str], environ: dict, verbosity: int, give_back=None) -> int:
    """Run sessions of module, a session program, until sock ends and the last of them is over.

    give_back: see EventDriver.  Returns the exit code: 0, or what the program said when it refused to begin.
    """
    if not _may_run_set_id(environ, terms):
        forbid_new_privileges()
    loop = Loop()
    driver = EventDriver(loop, give_back)
    driver.names = ChannelNames(loop)
    shared = {name: value for name, value in environ.items() if name not in NAMES}
    try:
        handler = module.session(argv, driver, shared)
    except Usage as failure:
        log(str(failure))
        return failure.code
    except Failure as failure:
        log(f"{module.PROGRAM.label}: fatal: {failure}")
        return failure.code
    Worker(loop, driver, sock, terms, handler, shared, module.PROGRAM.label, verbosity)
    loop.run()
    return 0


def _may_run_set_id(environ, terms):
    """Return whether the environment or the rules name a QMAILQUEUE: that of the original is set-id."""
    if _QUEUE in environ:
        return True
    try:
        return bool(terms.rules) and _QUEUE + b"=" in read_file(terms.rules_name)
    except OSError:
        return False


class Worker:
    """All sessions of one process."""

    def __init__(self, loop, driver, sock, terms, handler, shared: dict, label: str, verbosity: int):
        self._loop, self._driver, self._terms = loop, driver, terms
        self._handler, self._shared, self._label, self._verbosity = handler, shared, label, verbosity
        self._names = driver.names
        self._sessions, self._is_last = 0, False
        self._knows_queue = _may_run_set_id(shared, terms)
        self._stream = WorkerStream(loop, sock, self._begin, self._names.use, self._listener_is_gone, terms.limits)

    def _begin(self, sock, client):
        self._sessions += 1
        self._loop.start(self._serve(sock, client))

    async def _serve(self, sock, client):
        code = 111
        peer = self._driver.peer(sock.fileno(), sock.fileno())
        try:
            await self._loop.give_way()  # many may come at once: others have their turns in between
            environ = await self._admit(sock, peer, client)
            code = 100 if environ is None else await self._handler(peer, environ)
        except Drop as drop:
            if self._verbosity >= ERRORS:
                say_now(drop_line(str(drop)))
        except Failure as failure:
            log(f"{self._label}: fatal: {failure}")
            code = failure.code
        except (Gone, TimedOut):
            code = 1  # the client's doing: as the originals end when they can neither read nor write
        except Exception as failure:
            self._loop.on_error(failure)
        finally:
            peer.close()
            sock.close()
            self._sessions -= 1
            self._stream.put(wire.end(client.number, code if isinstance(code, int) and 0 <= code < 256 else 111))
            self._leave_if_last()

    async def _admit(self, sock, peer, client):
        """Return the session's environment, None if it is denied; the lines about it are said here.  Raises Drop."""
        opening = opening_line(client.number, client.ip) if self._verbosity >= EVERYTHING else b""
        if opening and (self._terms.looks_up or self._terms.banner):
            say_now(opening)  # what comes next may take its time
            opening = b""
        try:
            admission = await admit(self._terms, sock, peer, client, self._driver, self._names)
        except Drop:
            if opening:
                say_now(opening)
            raise
        if self._verbosity >= EVERYTHING:
            say_now(opening + verdict_line(client.number, admission))
        if admission.is_denied:
            return None
        await hold_greeting(admission, peer)
        self._warn_of(admission.additions)
        return SessionEnvironment(self._shared, admission.additions, client.number)

    def _warn_of(self, additions):
        """Say once that a set-id program which has just come into the rules gains nothing from that."""
        if not self._knows_queue and any(name == _QUEUE for name, _ in additions):
            self._knows_queue = True
            text = "the rules did not set QMAILQUEUE when I was started: a set-id program needs a restart"
            say_now(complaint_line(text))

    def _listener_is_gone(self):
        self._is_last = True
        self._leave_if_last()

    def _leave_if_last(self):
        if self._is_last and not self._sessions:
            self._loop.stop()
