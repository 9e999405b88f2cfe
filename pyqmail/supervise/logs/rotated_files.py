"""The finished files of a log directory: their names, and how many are kept."""

import os

from pyqmail.base.tai import TEXT_BYTES, read_text_label, text_label

STEP_NANOSECONDS = 1000
DAY_SECONDS = 86400


class RotatedFiles:
    """The files @LABEL.s and @LABEL.u in the working directory, a log's.

    log: its name in warnings.  most: how many files to keep, current included.  clock returns Unix seconds and
    nanoseconds.  Nothing is given up, see Patience.
    """

    def __init__(self, log: str, most: int, patience, clock) -> None:
        self._log, self._most, self._clock = log, most, clock
        self._insist, self._wait = patience.insist, patience.wait

    def stat(self, file: str) -> os.stat_result | None:
        """Return what there is to know of a file, None if it is not there."""
        try:
            return self._insist(f"unable to stat {self._log}/{file}", os.stat, file, pass_on=FileNotFoundError)
        except FileNotFoundError:
            return None

    def add(self, file: str, code: str) -> None:
        """Give file, if it is there, its final name, then remove the oldest of the others.

        Linked, then unlinked: nothing is ever overwritten, and a second link means that the first step is done.
        """
        found = self.stat(file)
        if found is None:
            return
        newest = self._link(file, code) if found.st_nlink == 1 else self._linked(found)
        self._insist(f"unable to remove {self._log}/{file}", os.unlink, file)
        while len(names := self._names()) >= self._most:
            oldest = min(names, key=lambda name: _age(name, newest))
            self._insist(f"unable to remove {self._log}/{os.fsdecode(oldest)}", unlink_if_there, oldest)

    def _linked(self, found):
        """Return the final name that a file has already."""
        for name in self._names():
            there = self.stat(name)
            if there is not None and os.path.samestat(there, found):
                return name
        return b""  # somebody else has linked it

    def _link(self, file, code):
        while True:
            name = f"{self._next_label().decode()}.{code}"
            try:
                os.link(file, name)
                return name.encode()
            except OSError as error:
                self._wait(f"unable to link to {self._log}/{name}", error)

    def _next_label(self):
        """Return a label later than all that are there: otherwise the newest goes first once the clock is set back.

        One that is more than a day ahead is not followed: then it was the clock of its time that was wrong.
        """
        moment = self._clock()
        there = [found for found in map(read_text_label, self._names()) if found]
        ahead = [found for found in there if moment <= found < (moment[0] + DAY_SECONDS, 0)]
        if ahead:
            seconds, nanoseconds = max(ahead)
            carry, nanoseconds = divmod(nanoseconds + STEP_NANOSECONDS, 1_000_000_000)
            moment = seconds + carry, nanoseconds
        return text_label(*moment)

    def _names(self):
        names = self._insist(f"unable to read {self._log}", os.listdir, b".")
        return [name for name in names if name.startswith(b"@") and len(name) >= TEXT_BYTES]


def _age(name, newest):
    """Return what sorts names from the oldest on: by label, as strings.

    No label can be later than that of the newest, which was finished just now: it is of a clock that was wrong, and
    goes before the right ones; the newest itself goes last.
    """
    if name == newest:
        return 2, b""
    label = name[:TEXT_BYTES]
    is_wrong = label > newest[:TEXT_BYTES] and read_text_label(label) is not None
    return 0 if newest and is_wrong else 1, label


def unlink_if_there(file) -> None:
    try:
        os.unlink(file)
    except FileNotFoundError:
        pass
