"""What the queue holds at the start: every message with info goes into the heaps, a slice at a time.

New mail is served meanwhile; what is new since the start is told by note_new() and left alone here.

A message that has info but no mess had been finished: info is unlinked before mess, but a file system that keeps no
order (btrfs) may after a crash show the second without the first.  What is left of it is removed, at the end of the
scan.  Only ENOENT in a directory that is there says so; and if more messages lack mess than have it, and many do, it is
rather mess that is missing: then nothing is removed.
"""

import os
import time

from pyqmail.mail.destinations.retry import TROUBLE_SECONDS
from pyqmail.mail.queue.files import is_message_name, is_surely_gone
from pyqmail.mail.routing.rewrite import LOCAL, REMOTE

MAX_WITHOUT_MESS = 100  # more are believed only if most messages have one
_SLICE_SECONDS = 0.005

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyqmail.mail.manager.parts import DueChannel, Log, ScannedEnds
    from pyqmail.mail.manager.passes import Files
    from pyqmail.mail.queue.files import QueueNames
    from pyqmail.system.loop import Loop


class QueueScan:
    """channels: name -> Channel, whose heaps are filled.  ends hears of messages that are finished or without mess."""

    def __init__(
        self,
        loop: "Loop",
        log: "Log",
        names: "QueueNames",
        files: "Files",
        channels: "Mapping[str, DueChannel]",
        ends: "ScannedEnds",
        finish_turn_soon: "Callable[[], None]",
    ) -> None:
        self._loop, self._log, self._names, self._files = loop, log, names, files
        self._channels, self._ends, self._finish_turn_soon = channels, ends, finish_turn_soon
        self._entries, self._part = iter(()), 0
        self._is_all_due, self.ended, self._waiting = False, False, False
        self._new: set[int] = set()  # messages that came since the start
        self._whole = 0  # how many have mess
        self._without_mess: list[tuple[int, list]] = []  # (number, [(channel, due)]) of those that have not

    def start(self) -> None:
        self._loop.after(0, self._slice)

    def stop(self) -> None:
        self.ended = True

    def note_new(self, number: int) -> None:
        """A message is new since the start: it is not to be found again."""
        if not self.ended:
            self._new.add(number)

    def make_due(self) -> None:
        """ALRM: what is still to be found is due at once."""
        self._is_all_due = True

    def _slice(self):
        until = time.monotonic() + _SLICE_SECONDS
        while time.monotonic() < until and not self.ended and not self._waiting:
            name = next(self._entries, None)
            if name is not None:
                if is_message_name(name):
                    self._find(int(name))
            elif self._part < self._names.split:
                self._open_part()
            else:
                self._judge_without_mess()
                self.ended, self._new = True, set()
        self._finish_turn_soon()
        if not self.ended and not self._waiting:
            self._loop.after(0, self._slice)

    def _open_part(self):
        shown = f"info/{self._part}"
        try:
            self._entries = iter(os.listdir(f"{self._names.queue}/{shown}"))
        except OSError:
            self._log.add_line(b"alert: unable to opendir %b, sleeping..." % shown.encode())
            self._loop.after(10, self._again)
            self._waiting = True
            return
        self._part += 1

    def _again(self):
        self._waiting = False
        self._slice()

    def _find(self, number):
        if number in self._new:
            return
        files, now = self._files, int(time.time())
        found = []
        for path, channel in (
            (self._names.todo(number), None),
            (files.path(LOCAL, number), LOCAL),
            (files.path(REMOTE, number), REMOTE),
        ):
            try:
                due = int(os.stat(path).st_mtime)
            except FileNotFoundError:
                continue
            except OSError:
                self._log.add_line(b"warning: unable to stat %b; will try again later" % files.shown(path))
                self._loop.after(TROUBLE_SECONDS, lambda: self._find(number))
                return
            if channel is None:
                return  # todo is the authority: it will be preprocessed again
            found.append((channel, min(due, now) if self._is_all_due else due))
        if not self.ended and self._is_without_mess(number):
            self._without_mess.append((number, found))
            return
        self._whole += 1
        self._remember(number, found)

    def _remember(self, number, found):
        for channel, due in found:
            self._channels[channel].heap.push(due, number)
        if not found:
            self._ends.check_later(number, int(time.time()))

    def _is_without_mess(self, number):
        """Return whether it is certain that a message has no mess."""
        names = self._names
        return is_surely_gone(names.mess(number)) and os.path.exists(names.info(number))

    def _judge_without_mess(self):
        """Finish the messages without mess, unless it is mess that is missing."""
        missing, self._without_mess = self._without_mess, []
        log = self._log
        if len(missing) > max(MAX_WITHOUT_MESS, self._whole):
            log.add_line(
                b"alert: %d messages are not in mess, only %d are: is it mounted?" % (len(missing), self._whole)
            )
            for number, found in missing:
                self._remember(number, found)
            return
        for number, _ in missing:
            if number not in self._new and self._is_without_mess(number):
                shown = self._files.shown(self._names.mess(number))
                log.add_line(
                    b"warning: no file %b: finished before a crash, or lost; removing what is left of it" % shown
                )
                self._ends.remove_leftovers(number)
