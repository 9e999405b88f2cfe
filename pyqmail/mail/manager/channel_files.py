"""The files of messages that the queue manager reads and writes: info, local and remote, bounce.

A channel file is a sequence of records, `T` address NUL for who is to be delivered to, `D` address NUL for who is done.
A recipient is named by the offset of its record, which never changes: what is done is marked in place, D over T.  The
mtime of the file is when it is to be tried, and marks leave it as it is.
"""

import os

from pyqmail.mail.routing.rewrite import REMOTE
from pyqmail.protocol.bulk_mail import HEAD_BYTES, is_bulk

SLICE_BYTES = 32768  # of a channel file, read at once
_ADDRESS_BYTES = 1100  # a record fits, nearly always
_MAX_SPAN_BYTES = 16384  # records that are read together, though others stand between them
_DONE = b"D"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyqmail.mail.queue.files import QueueNames

    Recipients = list[tuple[int, bytes]]  # offset, address


class Broken(Exception):
    """A file of the queue that cannot be used; `warning` is the line to log, error what the system said, if it did."""

    def __init__(self, warning: bytes, error: OSError | None = None) -> None:
        super().__init__(warning)
        self.warning, self.error = warning, error


class Removed(Broken):
    """The channel file is not there any more: somebody else removed it."""


def parse_records(data: bytes, at: int = 0) -> "tuple[Recipients, int, bool]":
    """Return (recipients not done, bytes used, whether a record follows that means nothing) of whole records.

    at is the offset of data in its file.  What is left behind the bytes used is a record without its end.
    """
    found, used = [], 0
    while (end := data.find(b"\0", used)) >= 0:
        letter = data[used : used + 1]
        if letter == b"T":
            found.append((at + used, data[used + 1 : end]))
        elif letter != _DONE:
            return found, used, True
        used = end + 1
    return found, used, False


def address_at(data: bytes | bytearray, offset: int) -> bytes | None:
    """Return the address of a record that is not done; None if it is.  Raises LookupError if no record is there."""
    end = data.find(b"\0", offset)
    letter = data[offset : offset + 1]
    if end < 0 or letter not in (b"T", _DONE):
        raise LookupError
    return bytes(data[offset + 1 : end]) if letter == b"T" else None


class QueueFiles:
    """See the module.  names: QueueNames."""

    def __init__(self, names: "QueueNames") -> None:
        self._names = names
        self._skip = len(names.queue) + 1

    def shown(self, path: str) -> bytes:
        """Return a path as the log has it: from the queue on."""
        return path[self._skip :].encode()

    def path(self, channel: str, number: int) -> str:
        return self._names.remote(number) if channel == REMOTE else self._names.local(number)

    def shown_path(self, channel: str, number: int) -> bytes:
        return self.shown(self.path(channel, number))

    # reading

    def read_info(self, number: int) -> tuple[bytes, int]:
        """Return (sender, birth in Unix seconds).  Raises OSError; Broken if the file is not an info file."""
        path = self._names.info(number)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            birth, data = int(os.fstat(fd).st_mtime), os.read(fd, 8192)
        finally:
            os.close(fd)
        record, nul, _ = data.partition(b"\0")
        if not nul or record[:1] != b"F":
            raise Broken(b"warning: trouble reading %b" % self.shown(path))
        return record[1:], birth

    def read_sender(self, number: int) -> tuple[bytes, int]:
        """Do what read_info() does, for a message that is to be delivered.  Raises Broken."""
        error = None
        try:
            return self.read_info(number)
        except OSError as found:
            error = found
        except Broken:
            pass
        raise self._not_opened(self._names.info(number), error)

    def open_channel(self, channel: str, number: int) -> int:
        """Return a descriptor to read a channel file from.  Raises Broken; Removed if the file is surely gone."""
        path = self.path(channel, number)
        try:
            return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            if not os.path.isdir(os.path.dirname(path)):
                raise self._not_opened(path) from None
            raise Removed(b"warning: no file %b: removed by somebody else" % self.shown(path)) from None
        except OSError as error:
            raise self._not_opened(path, error) from None

    def _not_opened(self, path, error=None):
        return Broken(b"warning: trouble opening %b; will try again later" % self.shown(path), error)

    def read_slice(self, channel: str, number: int, position: int) -> "tuple[Recipients, int, bool, bool, int]":
        """Read a piece of a channel file from an offset on.

        Returns (recipients, the offset behind it, whether that is the end, whether a record there means nothing, the
        file's mtime).  Raises Broken, Removed.
        """
        fd = self.open_channel(channel, number)
        try:
            due = int(os.fstat(fd).st_mtime)
            data = os.pread(fd, SLICE_BYTES, position)
        except OSError as error:
            raise self.not_read(channel, number, error) from None
        finally:
            os.close(fd)
        found, used, is_odd = parse_records(data, position)
        is_end = len(data) < SLICE_BYTES
        if not is_odd:
            is_odd = used < len(data) if is_end else not used  # a record without its end
        return found, position + used, is_end and not is_odd, is_odd, due

    def not_read(self, channel: str, number: int, error: OSError) -> Broken:
        shown = self.shown_path(channel, number)
        return Broken(b"warning: trouble reading %b; will try again later" % shown, error)

    def read_addresses(self, channel: str, number: int, offsets: "Sequence[int]") -> "list[bytes | None]":
        """Return the address at each offset, None for one that is done.

        Raises Broken, also if no record stands there; Removed.
        """
        fd = self.open_channel(channel, number)
        try:
            first = min(offsets)
            span = max(offsets) - first
            data = os.pread(fd, min(span, _MAX_SPAN_BYTES) + _ADDRESS_BYTES, first)
            return [self._read_address(fd, data, first, offset) for offset in offsets]
        except LookupError:
            raise Broken(b"warning: unknown record type in %b!" % self.shown_path(channel, number)) from None
        except OSError as error:
            raise self.not_read(channel, number, error) from None
        finally:
            os.close(fd)

    def _read_address(self, fd, data, first, offset):
        try:
            return address_at(data, offset - first)
        except LookupError:  # it may stand further on, or be very long
            return address_at(os.pread(fd, SLICE_BYTES, offset), 0)

    def message_size(self, number: int) -> int:
        """Return the size of mess/N/ID.  Raises OSError."""
        return os.stat(self._names.mess(number)).st_size

    def is_bulk(self, number: int) -> bool:
        """Return whether a message says of itself that it is one of many; False if it cannot be read."""
        try:
            return self.message_facts(number)[1]
        except OSError:
            return False

    def message_facts(self, number: int) -> tuple[int, bool]:
        """Return (size, is_bulk) of a message; it is not bulk if it cannot be read.  Raises OSError without a size."""
        try:
            fd = os.open(self._names.mess(number), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return self.message_size(number), False
        try:
            size = os.fstat(fd).st_size
            try:
                return size, is_bulk(os.read(fd, HEAD_BYTES))
            except OSError:
                return size, False
        finally:
            os.close(fd)

    # writing

    def write_marks(self, channel: str, number: int, offsets: "Sequence[int]") -> None:
        """Write D over the letter of each record.  Raises OSError."""
        fd = os.open(self.path(channel, number), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            seen = os.fstat(fd)
            for offset in offsets:
                os.pwrite(fd, _DONE, offset)
            os.utime(fd, (int(seen.st_atime), int(seen.st_mtime)))
        finally:
            os.close(fd)

    def open_to_sync(self, channel: str, number: int) -> int:
        """Return a descriptor of a channel file that is to be put on disk.  Raises OSError."""
        return os.open(self.path(channel, number), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def append_bounce(self, number: int, text: bytes) -> int:
        """Append to bounce/ID; returns a descriptor that is to be synced, and then closed.  Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(self._names.bounce(number), flags, 0o600)
        try:
            before = os.fstat(fd).st_size
            if os.write(fd, text) != len(text):
                os.ftruncate(fd, before)  # half a paragraph must not stay
                raise OSError
        except OSError:
            os.close(fd)
            raise
        return fd

    def open_bounces(self) -> int:
        """Return a descriptor of the directory bounce: the name is part of a text's safety.  Raises OSError."""
        return os.open(f"{self._names.queue}/bounce", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def set_due(self, channel: str, number: int, due: int) -> None:
        """Keep the time of the next attempt where a later start finds it.  Raises OSError."""
        os.utime(self.path(channel, number), (due, due))
