"""What the queue holds at the start: every message with info goes into the heaps, a slice at a time.

New mail is served meanwhile; what is new since the start is told by `new` and left alone here.
"""

import os
import time

from pyqmail.mail.queue.files import is_message_name
from pyqmail.mail.sending.rewriting import LOCAL, REMOTE
from pyqmail.mail.sending.schedule import TROUBLE_SECONDS

_SLICE_SECONDS = 0.005


class QueueScan:
    """all_due, once True, makes what is still to be found due at once: an ALRM came in between."""

    def __init__(self, office, channels) -> None:
        self._office, self._channels = office, channels
        self._entries, self._part = iter(()), 0
        self.new, self.all_due, self.ended, self._waiting = set(), False, False, False

    def start(self) -> None:
        self._office.loop.after(0, self._slice)

    def stop(self) -> None:
        self.ended = True

    def _slice(self):
        until = time.monotonic() + _SLICE_SECONDS
        while time.monotonic() < until and not self.ended and not self._waiting:
            name = next(self._entries, None)
            if name is not None:
                if is_message_name(name):
                    self._find(int(name))
            elif self._part < self._office.names.split:
                self._open_part()
            else:
                self.ended, self.new = True, set()
        self._office.settle_soon()
        if not self.ended and not self._waiting:
            self._office.loop.after(0, self._slice)

    def _open_part(self):
        shown = f"info/{self._part}"
        try:
            self._entries = iter(os.listdir(f"{self._office.names.queue}/{shown}"))
        except OSError:
            self._office.log.put(b"alert: unable to opendir %b, sleeping..." % shown.encode())
            self._office.loop.after(10, self._again)
            self._waiting = True
            return
        self._part += 1

    def _again(self):
        self._waiting = False
        self._slice()

    def _find(self, number):
        if number in self.new:
            return
        files, now = self._office.files, int(time.time())
        found = []
        for path, channel in (
            (self._office.names.todo(number), None),
            (files.path(LOCAL, number), LOCAL),
            (files.path(REMOTE, number), REMOTE),
        ):
            try:
                due = int(os.stat(path).st_mtime)
            except FileNotFoundError:
                continue
            except OSError:
                self._office.log.put(b"warning: unable to stat %b; will try again later" % files.shown(path))
                self._office.loop.after(TROUBLE_SECONDS, lambda: self._find(number))
                return
            if channel is None:
                return  # todo is the authority: it will be preprocessed again
            found.append((channel, min(due, now) if self.all_due else due))
        for channel, due in found:
            self._channels[channel].heap.push(due, number)
        if not found:
            self._office.completion.check_later(number, now)
