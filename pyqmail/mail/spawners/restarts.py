"""Parts of the queue manager that come back after they were lost, seen from the queue manager; starter.py is the rest.

A part's client finds out by itself that its pipes are at their end, or hears it from here: a process that a part has
left behind may hold its pipes open.  Either way it asks will_replace(), and the old process is killed, should it still
be there.  Then its client waits for use_descriptors().  Without a starter, or once that has gone, a part that is lost
is lost for good.
"""

import os
import signal
import socket

from pyqmail.mail.spawners.starter import NOT_STARTED, PACKET_BYTES, close_all
from pyqmail.system.channel import receive_with
from pyqmail.system.coroutines import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from pyqmail.system.loop import Loop

    class Part(Protocol):
        """The client of a part that may be lost and come back."""

        restarts: Any  # Restarts; None without

        def end(self) -> None:
            """Its process has ended: hear what it had still to say, and be lost."""

        def use_descriptors(self, write_fd: int, read_fd: int) -> None:
            """Go on with a new process."""

        def give_up(self) -> None:
            """No process will come in place of one that was lost; nothing happens if it was not."""


class Restarts:
    """parts are (name, client), in the order of pystart.  fd leads to the starter; add_line takes lines for the log."""

    def __init__(
        self, loop: "Loop", fd: int, parts: "Sequence[tuple[str, Part]]", add_line: "Callable[[bytes], None]"
    ) -> None:
        self._loop, self._sock, self._add_line = loop, socket.socket(fileno=fd), add_line
        self._parts, self._generations = parts, [0] * len(parts)
        self._is_there = True
        self._sock.setblocking(False)
        for _, part in parts:
            part.restarts = self

    def listen(self) -> None:
        """Begin to hear of losses, and of what comes in place of what was lost.  Raises OSError."""
        self._loop.watch(self._sock.fileno(), READ, lambda _: self._receive())

    def close(self) -> None:
        """End the starter."""
        if self._is_there:
            self._is_there = False
            self._loop.forget(self._sock.fileno())
            self._sock.close()

    def will_replace(self, lost: "Part") -> bool:
        """A part is lost: see to it that its process ends; return whether another one will come."""
        if not self._is_there:
            return False
        index = next(index for index, (_, part) in enumerate(self._parts) if part is lost)
        try:
            self._sock.send(b"%d %d" % (index, self._generations[index]))
        except OSError:
            pass  # it has gone, which is heard at the end of its words; or it is behind, and its part has ended anyway
        return True

    def _receive(self):
        try:
            packet, descriptors = receive_with(self._sock, PACKET_BYTES, 2)
        except BlockingIOError:
            return
        except OSError:
            packet, descriptors = b"", []
        if not packet:
            close_all(*descriptors)
            self._lose_starter()
            return
        index, generation, *end = map(int, packet.split())
        if end:
            self._note_loss(index, *end)
        elif len(descriptors) == 2:
            self._generations[index] = generation
            self._parts[index][1].use_descriptors(*descriptors)
        else:
            close_all(*descriptors)  # the kernel had no room for them here
            self._kill(index, generation)

    def _note_loss(self, index, status, seconds):
        name, part = self._parts[index]
        when = b"now" if seconds == 0 else b"in %d seconds" % seconds
        self._add_line(b"warning: %b; starting it again %b" % (_what_happened(name.encode(), status), when))
        part.end()

    def _kill(self, index, generation):
        try:
            self._sock.send(b"%d %d" % (index, generation))
        except OSError:
            pass  # it sees that nobody writes to it, and ends by itself

    def _lose_starter(self):
        self.close()
        self._add_line(b"warning: lost pystart's starter of parts: the next part that is lost ends pysend")
        for _, part in self._parts:
            part.give_up()


def _what_happened(name: bytes, status: int) -> bytes:
    if status == NOT_STARTED:
        return b"unable to start " + name
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return b"lost %b, killed by signal %d (%b)" % (name, number, _signal_name(number))
    return b"lost %b, which exited %d" % (name, os.WEXITSTATUS(status))


def _signal_name(number):
    try:
        return signal.Signals(number).name.removeprefix("SIG").encode()
    except ValueError:
        return b"?"
