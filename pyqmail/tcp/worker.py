"""Sessions in a few workers that stay: the worker's side of the hand-over (protocol/handover_wire.py)."""

import array
import os
import socket

from pyqmail.base.failure import Failure, Usage
from pyqmail.protocol import handover_wire as wire
from pyqmail.system.channel import Gone
from pyqmail.system.descriptors import log
from pyqmail.system.driver import EventDriver
from pyqmail.system.loop import READ, WRITE, Loop, TimedOut
from pyqmail.tcp.admission import Drop, admit, drop_line, opening_line, verdict_line
from pyqmail.tcp.environment import NAMES, SessionEnvironment
from pyqmail.tcp.names import ChannelNames
from pyqmail.tcp.server import ERRORS, EVERYTHING

_PIECE = 65536
_ROOM = socket.CMSG_SPACE(4 * wire.BATCH)


def serve(sock, terms, module, argv: list[str], environ: dict, verbosity: int) -> int:
    """Run sessions of module, a session program, until sock ends and the last of them is over.

    Returns the exit code: 0, or what the program said when it refused to begin.
    """
    loop = Loop()
    driver = EventDriver(loop)
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


class Worker:
    """All sessions of one process."""

    def __init__(self, loop, driver, sock, terms, handler, shared: dict, label: str, verbosity: int):
        self._loop, self._driver, self._sock, self._terms = loop, driver, sock, terms
        self._handler, self._shared, self._label, self._verbosity = handler, shared, label, verbosity
        self._names = ChannelNames(loop)
        self._unpacker, self._descriptors = wire.Unpacker(), []
        self._sessions, self._is_last = 0, False
        self._out, self._flushing, self._waiting = b"", False, False
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._ready)

    def _ready(self, events):
        if events & WRITE:
            self._flush()
        if events & READ:
            self._receive()

    def _receive(self):
        """Take what the listener sends.  One message at a time: the kernel ends a read after its descriptors."""
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_PIECE, _ROOM, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
                self._descriptors += [_connection(fd) for fd in found]
        if not data:
            self._listener_is_gone()
            return
        taken = 0
        for kind, number, body in self._unpacker.receive(data):
            if kind == wire.CONNECTION:
                taken += 1
                self._begin(number, *wire.split_connection(body))
            elif kind == wire.RESOLVER and self._descriptors:
                self._names.use(self._descriptors.pop(0))
            elif kind == wire.PING:
                self._put(wire.pack(wire.PONG, number))
            elif kind != wire.RESOLVER:
                raise wire.Malformed("not a word of a listener's")
        if taken:
            self._put(wire.pack(wire.TAKEN, taken))
        if self._unpacker.is_empty:
            self._descriptors.clear()

    def _begin(self, number, ip, port, local_ip):
        if not self._descriptors:
            log("tcpserver: warning: dropping connection, no descriptor came with it")
            self._put(wire.end(number, 111))
            return
        self._sessions += 1
        self._loop.start(self._serve(number, self._descriptors.pop(0), ip, port, local_ip))

    async def _serve(self, number, sock, ip, port, local_ip):
        code = 111
        peer = self._driver.peer(sock)
        try:
            environ = await self._admit(number, sock, peer, ip, port, local_ip)
            code = 100 if environ is None else await self._handler(peer, environ)
        except Drop as drop:
            if self._verbosity >= ERRORS:
                _say(drop_line(str(drop)))
        except (Gone, TimedOut):
            code = 1  # the client's doing: as the originals end when they can neither read nor write
        except Failure as failure:
            log(f"{self._label}: fatal: {failure}")
            code = failure.code
        except Exception as failure:
            self._loop.on_error(failure)
        finally:
            peer.close()
            self._sessions -= 1
            self._put(wire.end(number, code if isinstance(code, int) and 0 <= code < 256 else 111))
            self._leave_if_last()

    async def _admit(self, number, sock, peer, ip, port, local_ip):
        """Return the session's environment, None if it is denied; the lines about it are said here.  Raises Drop."""
        opening = opening_line(number, ip) if self._verbosity >= EVERYTHING else b""
        if opening and (self._terms.looks_up or self._terms.banner):
            _say(opening)  # what comes next may take its time
            opening = b""
        try:
            admission = await admit(self._terms, sock, peer, ip, port, self._driver, self._names, local_ip)
        except Drop:
            if opening:
                _say(opening)
            raise
        if self._verbosity >= EVERYTHING:
            _say(opening + verdict_line(number, admission))
        return None if admission.is_denied else SessionEnvironment(self._shared, admission.additions)

    def _put(self, frame):
        self._out += frame
        if not self._flushing:
            self._flushing = True
            self._loop.soon(self._flush)

    def _flush(self):
        self._flushing = False
        if self._sock is None:
            self._out = b""
            return
        was_waiting, self._waiting = self._waiting, False
        try:
            while self._out:
                self._out = self._out[self._sock.send(self._out) :]
        except BlockingIOError:
            self._flushing = self._waiting = True
            self._loop.watch(self._sock.fileno(), READ | WRITE, self._ready)
            return
        except OSError:
            self._out = b""  # the listener has gone; the end of file tells so too
        if was_waiting:
            self._loop.watch(self._sock.fileno(), READ, self._ready)

    def _listener_is_gone(self):
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        self._sock, self._is_last = None, True
        self._leave_if_last()

    def _leave_if_last(self):
        if self._is_last and not self._sessions:
            self._loop.stop()


def _connection(fd):
    # family and type given: nothing to ask the kernel for
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)


def _say(lines):
    try:
        os.write(2, lines)
    except OSError:
        pass
