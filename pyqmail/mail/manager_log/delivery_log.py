"""Deliveries in the log: each has a number, a line when it starts and a line when it ends.  A status line follows both.

The lines are qmail-send's, byte for byte: qmailanalog and its like read them.
"""

from pyqmail.base.printable import logsafe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.manager_log.status import LineLog, StatusLines

_WORDS = {b"K": b"success", b"Z": b"deferral", b"D": b"failure"}


class DeliveryLog:
    """One for both channels, which share the numbers."""

    def __init__(self, log: "LineLog", status: "StatusLines") -> None:
        self._log, self._status, self._count = log, status, 0

    def log_start(self, message: int, channel: bytes, recipient: bytes) -> int:
        """Return the number of a delivery that starts now."""
        self._count += 1
        values = self._count, message, channel, logsafe(recipient)
        self._log.add_line(b"starting delivery %d: msg %d to %b %b" % values)
        self._status.write_line()
        return self._count

    def log_end(self, number: int, letter: bytes, text: bytes) -> None:
        """letter is the report's first: K, Z or D.  Any other makes it no report, and the recipient stays undone."""
        word = _WORDS.get(letter)
        if word is None:
            self._log.add_line(b"delivery %d: report mangled, will defer" % number)
        else:
            self._log.add_line(b"delivery %d: %b: %b" % (number, word, logsafe(text)))
        self._status.write_line()

    def log_unknown_slot(self) -> None:
        """The spawner reported a delivery that does not run."""
        self._log.add_line(b"warning: internal error: delivery report out of range")

    def log_lines(self, lines: list[bytes]) -> None:
        """Lines of the engine about what takes long."""
        for line in lines:
            self._log.add_line(line)
