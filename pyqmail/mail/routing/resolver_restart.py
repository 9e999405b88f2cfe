"""A new pyresolve in place of one that was lost: started by ourselves, or by a keeper.

start(got, lost) of both calls got((descriptor to write questions to, descriptor to read answers from)); if that cannot
be now, got(OSError), or got(None) if the keeper has reported why.  It calls lost() if that can never be again, since
the keeper has gone.  The resolver reads what strangers write and must have
none of our groups.  Where everything runs as one user, and so nobody can give up anything, we start it.  Otherwise we
could not, and ask the keeper: a process that pystart forked for this before it gave up root's rights, and that is the
resolver's user already.

The keeper's wire, over a UNIX stream: one byte for each resolver that is wanted; one byte back, with the two
descriptors, or with none if it could not be started.  The end of the stream ends the keeper.
"""

import os
import socket

from pyqmail.base.failure import reason
from pyqmail.system.channel import receive_with, send_with
from pyqmail.system.coroutines import READ
from pyqmail.system.descriptors import log
from pyqmail.system.processes import fork, spawn

_NAME = b"pyresolve"


class OwnStarter:
    """Executes pyresolve; its complaints go to log_fd.  environ is its environment."""

    def __init__(self, loop, environ, log_fd: int) -> None:
        self._loop, self._environ, self._log_fd = loop, environ, log_fd

    def start(self, got, lost) -> None:
        try:
            ours, theirs = make_pipes()
        except OSError as error:
            got(error)
            return
        descriptors = {0: theirs[0], 1: theirs[1], 2: self._log_fd}
        try:
            pid = spawn([_NAME], self._environ, self._environ.get(b"PATH"), descriptors)
        except OSError as error:
            _close(*ours, *theirs)
            got(error)
            return
        _close(*theirs)
        self._loop.on_exit_surely(pid, lambda status: None)
        got(ours)


def _unasked(*_) -> None:
    """Be told before anything was asked for: nobody waits."""


class Keeper:
    """The keeper, seen from the queue manager."""

    def __init__(self, loop, fd: int) -> None:
        self._loop, self._sock = loop, socket.socket(fileno=fd)
        self._got = self._lost = _unasked  # whom to tell, once it was asked
        self._sock.setblocking(False)

    def start(self, got, lost) -> None:
        self._got, self._lost = got, lost
        try:
            self._sock.send(b"+")
            self._loop.watch(self._sock.fileno(), READ, lambda _: self._receive())
        except (BrokenPipeError, ConnectionResetError):
            self._lost()
        except OSError as error:
            got(error)

    def _receive(self):
        try:
            word, descriptors = receive_with(self._sock, 1, 2)
        except BlockingIOError:
            return
        except OSError:
            word, descriptors = b"+", []
        self._loop.forget(self._sock.fileno())
        if not word:
            self._lost()
        elif len(descriptors) == 2:
            self._got(tuple(descriptors))
        else:
            _close(*descriptors)
            self._got(None)


def keep(sock, become_resolver, name: str) -> int:
    """Be the keeper until the queue manager has gone.  become_resolver(read_fd, write_fd) is what a child does.

    name: whose the lines are.
    """
    running: list[int] = []
    while sock.recv(1):
        running = [pid for pid in running if not os.waitpid(pid, os.WNOHANG)[0]]
        ours, theirs = (), ()
        try:
            ours, theirs = make_pipes()
            running.append(fork(lambda ends=theirs: become_resolver(*ends)))
        except OSError as error:
            log(f"{name}: warning: unable to start pyresolve: {reason(error)}")
            _close(*ours)
            ours = ()
        _close(*theirs)
        try:
            send_with(sock, b"+", ours)
        except OSError:
            return 0  # the queue manager has gone
        finally:
            _close(*ours)
    return 0


def make_pipes():
    """Return (our ends, the resolver's ends), each (questions, answers), close-on-exec.  Raises OSError."""
    questions = os.pipe2(os.O_CLOEXEC)
    try:
        answers = os.pipe2(os.O_CLOEXEC)
    except OSError:
        _close(*questions)
        raise
    return (questions[1], answers[0]), (questions[0], answers[1])


def _close(*descriptors):
    for fd in descriptors:
        os.close(fd)
