"""One message on its way to a server: its file, and as many transactions as the server makes of it.

Sessions deliver to those that one connection takes (deliver_to_all), and the others come back later.  pyremote delivers
a message from beginning to end (OneMessage), as qmail-remote does: the hosts are tried in order until one lets us
connect, and over that one go all recipients, in as many transactions and over as many connections as the server makes
necessary.
"""

import os

from pyqmail.mail.remote.host_tries import CONNECT, HERE, HostTries
from pyqmail.mail.routing.exchangers import NO_CONNECTION
from pyqmail.protocol.smtp import report as smtp_report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK, SMALL = 65536, 16384
MAX_VAIN = 3  # connections in a row that bring no recipient further
_LAST = (b"", b"\n", b"\r")  # what a message may end with; a CR there is sent as a line end


class MessageFile:
    """A message file, read block by block.

    It is read from where the descriptor stands; close() closes that.  start is where it stands, to rewind() to.
    open_again() returns another descriptor of it, and may raise: for what has_whole_lines() took into memory.
    """

    __slots__ = ("_fd", "_start", "_whole", "_is_read", "_open_again")

    def __init__(self, fd: int, start: int = 0, open_again: "Callable[[], int] | None" = None) -> None:
        self._fd, self._start, self._whole, self._is_read = fd, start, b"", False
        self._open_again = open_again

    def read(self) -> bytes:
        """Return the next block, empty at the end.  Raises OSError."""
        was_read, self._is_read = self._is_read, True
        if self._fd >= 0:
            return os.read(self._fd, BLOCK)
        if was_read:
            return b""
        whole = self._whole
        if self._open_again is not None:
            self._whole = b""  # while its reply is waited for, thousands of others have theirs in memory
        return whole

    def rewind(self) -> None:
        """Have it read again from its start.  Raises OSError, and what open_again() does."""
        if self._is_read and self._fd >= 0:
            os.lseek(self._fd, self._start, os.SEEK_SET)
        elif self._is_read and self._open_again is not None:
            self._fd = self._open_again()
        self._is_read = False

    def has_whole_lines(self) -> bool:
        """Return whether the last line of a regular file, not yet read from, has its end.  Raises OSError.

        A small message is taken into memory by the way, until it is read, and its descriptor is free again.
        """
        block = os.read(self._fd, SMALL)
        if len(block) < SMALL:
            self.close()
            self._whole = block
            return block[-1:] in _LAST
        size = os.lseek(self._fd, 0, os.SEEK_END)
        os.lseek(self._fd, 0, os.SEEK_SET)
        return os.pread(self._fd, 1, size - 1) in _LAST

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


async def deliver_to_all(connection, sender: bytes, recipients: list[bytes], message: MessageFile, report) -> list[int]:
    """Deliver a message in as many transactions as the server makes of it.

    report(position, recipient record, TransactionResult) is called for each recipient whose lot is known.  Returns the
    positions of the others, in order: they are for another connection.  Raises OSError if the message cannot be read
    once more.
    """
    nobody = smtp_report.refused(smtp_report.RECIPIENTS, connection.address, 0, b"")
    pending = list(range(len(recipients)))
    while pending and connection.is_usable:
        count = connection.recipient_limit or len(pending)
        some, rest = pending[:count], pending[count:]
        message.rewind()
        result = await connection.deliver(sender, [recipients[position] for position in some], message)
        again = _report_decided(result, some, report)
        if result.returned or connection.is_full or (result.message == nobody and not connection.is_usable):
            return again + rest
        may_be_accepted = result.message[:1] == b"K" or result.message == smtp_report.died(connection.address, True)
        if not connection.is_usable and not may_be_accepted:
            # a fresh connection's refusal: those who have not been tried would meet the same
            for position in rest:
                report(position, None, result)
            rest = []
        pending = again + rest
    return pending


def _report_decided(result, positions, report):
    """Report those recipients of a transaction whose lot is known; return the positions of the others."""
    again = []
    for place, position in enumerate(positions):
        if place in result.postponed or place in result.returned:
            again.append(position)
        else:
            report(position, result.recipients[place], result)
    return again


class OneMessage:
    """A message for several recipients, and what is known of each: its record, and that of its message.

    Both are qmail-remote's; the first is None for one that the server never answered for.
    """

    def __init__(self, sender: bytes, recipients: list[bytes], message: MessageFile) -> None:
        self.sender, self.recipients, self.message = sender, recipients, message
        self.pending = list(range(len(recipients)))
        self._known: dict[int, tuple] = {}

    async def deliver_pending(self, connection) -> bool:
        """Deliver what is pending over a connection; return whether something was, or was refused."""
        places, self.pending = self.pending, []
        had = len(self._known)

        def report(place, record, result):
            self._known[places[place]] = record, result.message

        try:
            addresses = [self.recipients[place] for place in places]
            left = await deliver_to_all(connection, self.sender, addresses, self.message, report)
            self.pending = [places[place] for place in left]
        except OSError:
            self.pending = [place for place in places if place not in self._known]
            self.give_up(smtp_report.UNREADABLE)
        return len(self._known) > had

    def give_up(self, record: bytes) -> None:
        """Have this be the message's record for all that are pending."""
        for place in self.pending:
            self._known[place] = None, record
        self.pending = []

    def records(self) -> list[bytes]:
        """Return the records of all recipients and the one of the message: of a success if there was one.

        What became of a recipient by another transaction stands in a record of the recipient's own.
        """
        ends = [self._known[place] for place in range(len(self.recipients))]
        outcome = next((message for _, message in ends if message[:1] == b"K"), ends[0][1])
        found = []
        for record, message in ends:
            if record in (None, smtp_report.ACCEPTED) and message != outcome and message[:1] != b"K":
                record = (b"h" if message[:1] == b"D" else b"s") + message[1:]
            if record is not None:
                found.append(record)
        return [*found, outcome]


async def deliver_to_first(tries: HostTries, hosts, settings, mail: OneMessage) -> list[bytes]:
    """Deliver to the first of hosts, [(host, address, port)], that lets us connect; return the records."""
    tried = await tries.open_one_of(hosts, settings, is_end=_lets_us_connect)
    if tried is None or not _lets_us_connect(tried):
        return [NO_CONNECTION]
    await _converse(tries, tried, settings, mail)
    return mail.records()


def _lets_us_connect(tried):
    return tried.stage not in (CONNECT, HERE)


async def _converse(tries, tried, settings, mail):
    """Deliver over the connection that is open, and over others as long as the server makes that necessary."""
    vain = 0
    while mail.pending:
        if tried.connection is None:
            mail.give_up(tried.report if _lets_us_connect(tried) else NO_CONNECTION)
            return
        vain = 0 if await mail.deliver_pending(tried.connection) else vain + 1
        await tried.connection.quit()
        tried.connection.close()
        if mail.pending and vain >= MAX_VAIN:
            mail.give_up(smtp_report.died(tried.address, False))
        elif mail.pending:
            tried = await tries.open(tried.host, tried.address, tried.port, settings)
