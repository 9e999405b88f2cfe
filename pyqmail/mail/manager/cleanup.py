"""Removing files through the cleaner, which alone may: what is done, and what was left behind.

A sweep goes over mess/ and has removed what is older than OLD_SECONDS (by its access time) and belongs to no
message: no info, no todo.  It begins at the start and again SWEEP_SECONDS after it ended.
"""

import os
import time

from pyqmail.mail.queue.files import is_message_name
from pyqmail.system.stream import Pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyqmail.mail.manager.parts import Replacement
    from pyqmail.system.loop import Loop

    Waiting = tuple[bytes, Callable[[bool], object]]

OLD_SECONDS = 129600
SWEEP_SECONDS = 76431
_SLICE_SECONDS = 0.003
_IN_FLIGHT = 200  # commands of a sweep that are unanswered


class Cleaner:
    """Commands to pyclean or qmail-clean, answered in order.  before_write() is called before any is written.

    It knows nobody: each command brings the function that its answer is for.

    A cleaner that was lost may have done what it has not answered.  `todo/ID` is said again to the next one: the
    message is still there, and nobody else can have its number.  `foop/ID` is not: if that was done, the number may be
    a new message's by now.  If it was not, a message without an envelope is left, which a sweep finds after
    OLD_SECONDS.
    """

    def __init__(self, loop: "Loop", write_fd: int, read_fd: int, before_write: "Callable[[], None] | None" = None):
        self._loop, self._before = loop, before_write
        self._after_answers: Callable[[], object] = _do_nothing
        self._after_loss: Callable[[], object] = _do_nothing
        self._waiting: list[Waiting] = []
        self._next = 0  # whose answer comes next
        self._leaving: set[int] = set()  # messages whose removal is under way
        self.restarts: Replacement | None = None
        self._is_coming = False
        self._connect(write_fd, read_fd)

    def listen(self, after_answers: "Callable[[], None]", after_loss: "Callable[[], None]") -> None:
        """Begin to read answers.

        after_answers() is called when some have come, after_loss() once it has gone and no other will come.
        """
        self._after_answers, self._after_loss = after_answers, after_loss
        self._pipe.listen()

    def _connect(self, write_fd, read_fd):
        self._pipe = Pipe(self._loop, write_fd, read_fd, self._read_answers, self._lose, self._before)

    @property
    def unanswered(self) -> int:
        return 0 if self._pipe.gone and not self._is_coming else len(self._waiting) - self._next

    def close(self) -> None:
        self._pipe.close()

    # a cleaner that is lost, and the next one

    def _lose(self):
        self._is_coming = self.restarts is not None and self.restarts.will_replace(self)
        if not self._is_coming:
            self._after_loss()
            return
        unanswered, self._waiting, self._next = self._waiting[self._next :], [], 0
        for command, then in unanswered:
            if command.startswith(b"todo/") or command == _NOTHING:
                self._waiting.append((command, then))
            else:
                then(True)
        self._after_answers()

    def end(self) -> None:
        """It has ended: read its last answers, and lose it."""
        self._pipe.end()

    def use_descriptors(self, write_fd: int, read_fd: int) -> None:
        """Go on with a new one: it hears what is to be done."""
        self.end()
        self._is_coming = False
        self._connect(write_fd, read_fd)
        self._pipe.listen()
        for command, _ in self._waiting:
            self._pipe.put(command)

    def give_up(self) -> None:
        """None will come in place of one that was lost."""
        if self._is_coming:
            self._is_coming = False
            self._after_loss()

    # commands

    def greet(self, then) -> None:
        """Call then(...) once it has begun to obey: what was left to obey before us is done."""
        self._send(_NOTHING, then)

    def remove_envelope(self, number: int, then) -> None:
        """Remove intd and todo; then(True) once that is done, then(False) if it could not be."""
        self._send(b"todo/%d\0" % number, then)

    def remove_message(self, number: int, then) -> None:
        """Remove intd, if any, and mess; then as above."""

        def removed(done):
            self._leaving.discard(number)
            then(done)

        self._leaving.add(number)
        self._send(b"foop/%d\0" % number, removed)

    def is_leaving(self, number: int) -> bool:
        """Return whether a message is being removed: asked twice, the second time may hit who got its number next."""
        return number in self._leaving

    def _send(self, command, then):
        self._waiting.append((command, then))
        self._pipe.put(command)

    def _read_answers(self, answers):
        for answer in answers:
            if self._next == len(self._waiting):
                break  # the original answers a bad command twice; we send none
            _, then = self._waiting[self._next]
            self._waiting[self._next] = _ANSWERED
            self._next += 1
            then(answer == 43)  # +
        if self._next > 1000 or self._next == len(self._waiting):
            del self._waiting[: self._next]
            self._next = 0
        self._after_answers()


def _do_nothing(*_: object) -> None:
    pass


_NOTHING = b"foop/0\0"  # nothing has this number
_ANSWERED: "Waiting" = (b"", _do_nothing)


class Sweep:
    """Leftovers in mess/, a slice at a time.  start() once; log is a SendLog.

    is_known(number) says whether a message is new and still in somebody's hands, whatever its files say.
    """

    def __init__(self, loop, log, names, cleaner, is_known) -> None:
        self._loop, self._log, self._names, self._cleaner, self._is_known = loop, log, names, cleaner, is_known
        self._entries: Iterator[str] = iter(())
        self._part = 0
        self._in_flight, self._stopped = 0, False

    def start(self) -> None:
        self._loop.after(0, self._slice)

    def stop(self) -> None:
        self._stopped = True

    def _slice(self):
        until = time.monotonic() + _SLICE_SECONDS
        while time.monotonic() < until and not self._stopped:
            if self._in_flight >= _IN_FLIGHT:
                return  # an answer goes on
            name = next(self._entries, None)
            if name is not None:
                self._look_at(name)
            elif self._part < self._names.split:
                self._open_part()
            else:
                self._loop.after(SWEEP_SECONDS, self.start)
                return
        if not self._stopped:
            self._loop.after(0, self._slice)

    def _open_part(self):
        path = f"{self._names.queue}/mess/{self._part}"
        self._part += 1
        try:
            self._entries = iter(os.listdir(path))
        except OSError:
            self._log.add_line(b"warning: unable to opendir mess/%d" % (self._part - 1))

    def _look_at(self, name):
        if not is_message_name(name):
            return
        number = int(name)
        if self._is_known(number) or self._cleaner.is_leaving(number):
            return
        try:
            if time.time() <= os.stat(self._names.mess(number)).st_atime + OLD_SECONDS:
                return
        except OSError:
            return
        for path in (self._names.info(number), self._names.todo(number)):
            try:
                os.stat(path)
                return
            except FileNotFoundError:
                pass
            except OSError:
                return
        self._in_flight += 1
        self._cleaner.remove_message(number, lambda done: self._swept(number, done))

    def _swept(self, number, done):
        was_full = self._in_flight >= _IN_FLIGHT
        self._in_flight -= 1
        if not done:
            self._log.add_line(b"warning: qmail-clean unable to clean up foop/%d" % number)
        if was_full:
            self._loop.after(0, self._slice)
