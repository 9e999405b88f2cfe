"""The finished files of a log directory: their names, and how many are kept."""

import os

from pyqmail.base.tai import TEXT_BYTES, read_text_label, text_label

STEP_NANOSECONDS = 1000
DAY_SECONDS = 86400


class RotatedFiles:
    """The files @LABEL.s and @LABEL.u in the working directory, a log's.

    log: its name in warnings.  max_files: how many to keep, current included.  clock returns Unix seconds and
    nanoseconds.  Nothing is given up, see Retry.
    """

    def __init__(self, log: str, max_files: int, retry, clock) -> None:
        self._log, self._max_files, self._clock = log, max_files, clock
        self._until_done, self._pause = retry.until_done, retry.pause

    def stat(self, file: str) -> os.stat_result | None:
        """Return the status of a file, None if it is missing."""
        try:
            return self._until_done(f"unable to stat {self._log}/{file}", os.stat, file, pass_on=FileNotFoundError)
        except FileNotFoundError:
            return None

    def add_file(self, file: str, code: str) -> None:
        """Give file, if it exists, its final name, then remove the oldest of the others.

        Linked, then unlinked: rename(2) could overwrite a file.  A second link means that the first step is done.
        """
        found = self.stat(file)
        if found is None:
            return
        newest = self._link(file, code) if found.st_nlink == 1 else self._linked(found)
        self._until_done(f"unable to remove {self._log}/{file}", os.unlink, file)
        while len(names := self._names()) >= self._max_files:
            oldest = min(names, key=lambda name: _age(name, newest))
            self._until_done(f"unable to remove {self._log}/{os.fsdecode(oldest)}", unlink_if_there, oldest)

    def _linked(self, found):
        """Return the final name that a file has already."""
        for name in self._names():
            there = self.stat(name)
            if there is not None and os.path.samestat(there, found):
                return name
        return b""  # it was linked elsewhere, not by us

    def _link(self, file, code):
        while True:
            name = f"{self._next_label().decode()}.{code}"
            try:
                os.link(file, name)
                return name.encode()
            except OSError as error:
                self._pause(f"unable to link to {self._log}/{name}", error)

    def _next_label(self):
        """Return a label later than all others: if the clock was set back, the newest would be removed first.

        A label more than a day ahead is ignored: then the clock was wrong when it was made.
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
        names = self._until_done(f"unable to read {self._log}", os.listdir, b".")
        return [name for name in names if name.startswith(b"@") and len(name) >= TEXT_BYTES]


def _age(name, newest):
    """Return what sorts names from the oldest on: by label, as strings.

    No label can be later than that of the newest, which was finished just now.  One that is was made by a wrong clock,
    and is removed before the right ones; the newest itself is removed last.
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
