"""Never give up: report what failed, wait, try again."""

import os
import time

from pyqmail.base.failure import reason
from pyqmail.system.descriptors import log

PAUSE_SECONDS = 5


class Retry:
    """How a logger deals with failures.  label: the name at the head of its lines; sleep: how it waits."""

    def __init__(self, label: str, sleep=time.sleep) -> None:
        self._label, self._sleep = label, sleep

    def until_done(self, text: str, function, *arguments, pass_on=()):
        """Return function(*arguments); after each OSError warn with text, pause and call it again.

        Errors of the type pass_on are raised.
        """
        while True:
            try:
                return function(*arguments)
            except pass_on:
                raise
            except OSError as error:
                self.pause(text, error)

    def pause(self, text: str, why: OSError | str | None = None) -> None:
        """Warn that we pause because of text, and pause."""
        self.report(f"warning: {text}, pausing", why)
        self._sleep(PAUSE_SECONDS)

    def report(self, text: str, why: OSError | str | None = None) -> None:
        """Write one line: the text, and why, if it is known."""
        why = reason(why) if isinstance(why, OSError) else why
        log(os.fsencode(f"{self._label}: {text}: {why}" if why else f"{self._label}: {text}"))
