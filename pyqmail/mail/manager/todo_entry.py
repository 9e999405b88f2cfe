"""One todo entry: its envelope read, its recipients rewritten.

An entry under a number is a new message, so whatever else stands in the queue under that number is of one that has
gone: info, local, remote and bounce are removed before anything is delivered, and their directories synced.  Otherwise,
after a loss of power, this message could have another one's recipients, or its bounce text.
"""

import os
import time

from pyqmail.base.failure import is_lack
from pyqmail.base.printable import logsafe
from pyqmail.mail.manager.materialize import UnsettledMessage, todo_identity
from pyqmail.system.durable import sync_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.manager.channel_files import QueueFiles
    from pyqmail.mail.manager.parts import Log
    from pyqmail.mail.queue.files import QueueNames
    from pyqmail.mail.routing.rewrite import Rewriter

_READ_BYTES, _MORE_BYTES = 65536, 1 << 20


class UnusableEnvelope(Exception):
    """An envelope whose content means nothing; `warning` is the line to log."""

    def __init__(self, warning: bytes) -> None:
        super().__init__(warning)
        self.warning = warning


class EntryTrouble(Exception):
    """An entry that a system call failed for: nothing is known about it.  `warning` is the line to log.

    is_lack: what was lacking others would lack, too.
    """

    def __init__(self, warning: bytes, error: OSError) -> None:
        super().__init__(warning)
        self.warning, self.is_lack = warning, is_lack(error)


class TodoReader:
    """Reads todo entries; `new msg` and `info msg` are logged as that is done."""

    def __init__(self, names: "QueueNames", files: "QueueFiles", log: "Log", rewriting: "Rewriter") -> None:
        self._names, self._files, self._log, self._rewriting, self._shown = names, files, log, rewriting, files.shown

    def read_entry(self, number: int) -> UnsettledMessage | None:
        """Return the message of a todo entry; None if the entry has gone.  Raises UnusableEnvelope, EntryTrouble."""
        path = self._names.todo(number)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None  # removed since it was listed
        except OSError as error:
            raise EntryTrouble(b"warning: unable to open %b" % self._shown(path), error) from None
        try:
            size, is_bulk = self._message_facts(number)
            self._remove_leftovers(number)
            self._log.add_line(b"new msg %d" % number)
            identity = todo_identity(os.fstat(fd))
            data = self._read_whole(fd, path)
        finally:
            os.close(fd)
        sender, records = self._parse(number, data, size, path)
        return UnsettledMessage(number, sender, int(time.time()), size, records, identity, is_bulk)

    def _message_facts(self, number):
        try:
            return self._files.message_facts(number)
        except OSError as error:
            raise EntryTrouble(b"warning: unable to stat %b" % self._shown(self._names.mess(number)), error) from None

    def _remove_leftovers(self, number):
        names = self._names
        for path in (names.local(number), names.remote(number), names.info(number), names.bounce(number)):
            try:
                os.unlink(path)
                sync_directory(os.path.dirname(path))  # it may be another message's, and must not come back
            except FileNotFoundError:
                pass
            except OSError as error:
                raise EntryTrouble(b"warning: unable to unlink %b" % self._shown(path), error) from None

    def _read_whole(self, fd, path):
        """Return the whole of an envelope; one read is enough for nearly all."""
        try:
            data = os.read(fd, _READ_BYTES)
            if len(data) < _READ_BYTES:
                return data
            pieces = [data]
            while piece := os.read(fd, _MORE_BYTES):
                pieces.append(piece)
        except OSError as error:
            raise EntryTrouble(b"warning: trouble reading %b" % self._shown(path), error) from None
        return b"".join(pieces)

    def _parse(self, number, data, size, path):
        """Return (sender, records: channel name -> bytearray) of an envelope; size is the message's."""
        uid = qp = b"0"
        sender, records = None, {}
        *texts, rest = data.split(b"\0")
        for text in texts:
            letter = text[:1]
            if letter == b"T":
                self._add_recipient(records, text[1:])
            elif letter == b"F" and sender is None:
                sender = text[1:]
                values = number, size, logsafe(sender), logsafe(qp), logsafe(uid)
                self._log.add_line(b"info msg %d: bytes %d from <%b> qp %b uid %b" % values)
            elif letter == b"u":
                uid = text[1:]
            elif letter == b"p":
                qp = text[1:]
            else:
                raise UnusableEnvelope(b"warning: unknown record type in %b" % self._shown(path))
        if rest or sender is None:
            # cut short: the original would drop the recipient, and deliver to the others only
            raise UnusableEnvelope(b"warning: trouble reading %b" % self._shown(path))
        return sender, records

    def _add_recipient(self, records, recipient):
        channel, address = self._rewriting.rewrite(recipient)
        record = records.get(channel)
        if record is None:
            record = records[channel] = bytearray()
        record += b"T%b\0" % address
