"""A status socket: each client that connects is sent what the program has to report, once, until the end of the stream.

If the program wants a question, the client sends that first: one line.

A child answers: it has the program's tables as of its fork, and can wait for the kernel and for a client that does not
read.  There are _MAX_CHILDREN of them at most; more clients wait to be accepted.  So neither a client nor what is asked
of the kernel ever holds up the program, and nothing has to be kept for the next question.
"""

import signal
import socket

from pyqmail.base.failure import Temporary, reason
from pyqmail.system.channel import refuse_descriptors
from pyqmail.system.coroutines import READ
from pyqmail.system.listener import Troubles, listen_at, socket_file, unlink_socket
from pyqmail.system.processes import fork_owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_CHILDREN = 4
_BACKLOG = 16
_PATIENCE_SECONDS = 5
_PAUSE_SECONDS = 0.1
_MAX_UNREAD = 1 << 20


class StatusSocket:
    """Listens at path; a stale socket there is replaced.  Raises Temporary.

    Only its owner can connect: the user that we are when it is made.  The program tells of each child that has ended,
    closes the socket in its own children, and at its end.  listening: the socket of a parent, which stays its own.
    """

    def __init__(self, path: str, listening: socket.socket | None = None) -> None:
        self._path = path if "/" in path else f"./{path}"
        self._children: set[int] = set()
        self._is_watched, self._troubles = False, Troubles()
        self._question_bytes, self._reaps = 0, False
        self._made = None
        if listening is not None:
            self._socket = listening
            return
        self._socket = make_status_socket(self._path)
        self._made = socket_file(self._path)

    def start(
        self,
        loop,
        report: "Callable[[bytes], bytes]",
        warn: "Callable[[str], None]",
        flush: "Callable[[], None]",
        question_bytes: int = 0,
        reaps: bool = False,
    ) -> None:
        """Accept clients on the loop from now on.

        report(question) is called in the child and returns what is sent; it may take its time, and need not leave
        anything as it was.  question_bytes: the longest line that is read as the question; 0: none is read, and the
        question is empty.  warn(text) reports what lasts, once.  flush() is called before each fork, so that the child
        has nothing to write that is the program's.  reaps: the loop waits for the children; otherwise the program
        calls child_ended().
        """
        self._loop, self._report, self._warn, self._flush = loop, report, warn, flush
        self._question_bytes, self._reaps = question_bytes, reaps
        self._watch()

    def child_ended(self, pid: int) -> None:
        """A child of the program has ended, perhaps not one of ours."""
        if pid in self._children:
            self._children.discard(pid)
            self._watch()

    def close_in_child(self) -> None:
        self._socket.close()

    def close(self) -> None:
        """Close, and remove the socket file if it is still ours and our rights suffice."""
        if self._made is not None:
            unlink_socket(self._socket, self._path, self._made)
        self._socket.close()

    def _watch(self) -> None:
        wanted = len(self._children) < _MAX_CHILDREN
        if wanted != self._is_watched:
            self._is_watched = wanted
            if wanted:
                self._loop.watch_surely(self._socket.fileno(), READ, self._accept)
            else:
                self._loop.forget(self._socket.fileno())

    def _accept(self, _: int) -> None:
        try:
            client, _name = self._socket.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # the client stays ready: without a pause we would spin
            self._loop.forget(self._socket.fileno())
            self._is_watched = False
            self._loop.after(_PAUSE_SECONDS, self._watch)
            if self._troubles.is_new(error):
                self._warn(f"unable to accept on status socket: {reason(error)}")
                self._flush()
            return
        self._flush()
        try:
            pid = fork_owner(client, lambda: self._answer(client))
        except OSError:
            client.close()  # it sees the end
        else:
            self._children.add(pid)
            if self._reaps:
                self._loop.on_exit_surely(pid, lambda _: self.child_ended(pid))
        self._watch()

    def _answer(self, client: socket.socket) -> int:
        """In the child: send the report; returns its exit code."""
        signal.alarm(2 * _PATIENCE_SECONDS)  # the end, whatever keeps us waiting
        client.settimeout(_PATIENCE_SECONDS)
        try:
            client.sendall(self._report(self._read_question(client)))
            if self._question_bytes:
                client.setblocking(False)
                client.recv(_MAX_UNREAD)  # closed with something unread, the client would lose the answer
        except BlockingIOError:
            return 0
        except OSError:
            return 1
        return 0

    def _read_question(self, client: socket.socket) -> bytes:
        """Return the client's line with its LF; what came of it if there is none."""
        line = b""
        while len(line) < self._question_bytes and b"\n" not in line:
            piece = client.recv(self._question_bytes - len(line))
            if not piece:
                break
            line += piece
        return line


def make_status_socket(path: str, mode: int = 0o600) -> socket.socket:
    """Return a socket that listens at path, whose file has this mode; a stale one is replaced.  Raises Temporary."""
    try:
        listening = listen_at(path, _BACKLOG, mode)
    except Temporary as failure:
        raise Temporary(f"{failure.text} {path}", failure.error) from None
    refuse_descriptors(listening)
    return listening
