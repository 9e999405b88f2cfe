"""A process that speaks the native dialect, as its client in the queue manager sees it: up, lost, and up again.

            HELLO                  its end, or nonsense
    (start) ------> UP ------------------------------------> LOST: is_coming says whether another one will come
                    ^                                          |
                    |  HELLO                                   | use_descriptors(): a new process
                    +------------------------------------ NOT YET UP

Whoever owns it keeps what the process had under way, and what is to go to the next one.
"""

import os

from pyqmail.protocol.wires import native_dialect
from pyqmail.protocol.wires.frames import MalformedFrame
from pyqmail.system.stream import Pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyqmail.mail.spawners.restarts import Restarts
    from pyqmail.system.loop import Loop

    Handler = Callable[[int, int, bytes], None]


class NativeProcess:
    """One process on one pair of pipes: its HELLO, then frames for handle(kind, number, body).

    It is up from its HELLO until it is lost; is_coming says whether there will be another in its place.
    """

    def __init__(self, loop: "Loop", write_fd: int, read_fd: int, before_write: "Callable[[], None] | None") -> None:
        self._loop, self._fds, self._before = loop, (write_fd, read_fd), before_write
        self._unpacker, self.limit = native_dialect.Unpacker(), 0
        self._pipe: Pipe | None = None
        self._handle: Handler = _ignore
        self._up = self._lost = self._gone = _do_nothing
        self.restarts: Restarts | None = None
        self.is_up = self.is_coming = False
        self.sessions: dict[int, Any] = {}

    def greet(self) -> bool:
        """Wait for HELLO; return whether it came."""
        frames: list[tuple[int, int, bytes]] = []
        try:
            while not frames:
                data = os.read(self._fds[1], 10)  # HELLO has no body: nothing of what follows it is taken
                if not data:
                    return False
                frames = self._unpacker.receive(data)
        except (OSError, MalformedFrame):
            return False
        self.is_up = self._take_hello(*frames[0])
        return self.is_up

    def listen(
        self, handle: "Handler", up: "Callable[[], None]", lost: "Callable[[], None]", gone: "Callable[[], None]"
    ) -> None:
        """up() is called once there is a process again, lost() when it is lost, gone() if none will come after that."""
        self._handle, self._up, self._lost, self._gone = handle, up, lost, gone
        self._listen()

    def _listen(self):
        pipe = self._pipe = Pipe(self._loop, *self._fds, self._receive, self._lose, self._before)
        pipe.listen()

    def _receive(self, data: bytes) -> None:
        try:
            for frame in self._unpacker.receive(data):
                if self.is_up:
                    self._handle(*frame)
                else:
                    self._hear_hello(*frame)
        except MalformedFrame:
            self._lose()

    def _hear_hello(self, *frame):
        if not self._take_hello(*frame):
            raise MalformedFrame("no HELLO")
        self.is_up, self.is_coming = True, False
        self._up()

    def _take_hello(self, kind, limit, body):
        self.limit = limit
        return kind == native_dialect.HELLO

    def send_frame(self, frame: bytes) -> None:
        if self._pipe is not None:
            self._pipe.put(frame)

    def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()

    # a process that is lost, and the next one

    def _lose(self):
        self.close()
        self.is_up, self.is_coming = False, self.restarts is not None and self.restarts.will_replace(self)
        self._lost()
        if not self.is_coming:
            self._gone()

    def end(self) -> None:
        """The process has ended: hear what it had still to say, and be lost."""
        if self._pipe is not None:
            self._pipe.end()

    def use_descriptors(self, write_fd: int, read_fd: int) -> None:
        """Go on with a new process, once it has said HELLO."""
        self.end()
        self._fds, self._unpacker = (write_fd, read_fd), native_dialect.Unpacker()
        self.is_coming = True
        self._listen()

    def give_up(self) -> None:
        """No process will come in place of one that was lost."""
        if self.is_coming and (self._pipe is None or self._pipe.gone):
            self.is_coming = False
            self._gone()


def _ignore(kind: int, number: int, body: bytes) -> None:
    """Not listened to yet."""


def _do_nothing() -> None:
    """Nobody wants to be told yet."""
