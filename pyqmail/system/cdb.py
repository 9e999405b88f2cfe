"""cdb: constant databases of 32-bit offsets, compiled whole and read by key.

Compiling is pure-cdb's, whose files are byte for byte those of the originals; it is imported only for that.
Reading is our own: one read for a small file, few for a large one whose tables are soon kept, an end to every
search in a damaged file, and nothing mapped, so that a file truncated under us is an error and not a signal.
"""

import errno
import os
import struct

from pyqmail.system.durable import replace_file

_PAIR = struct.Struct("<II")
_HEAD_BYTES = 2048
_WHOLE_BYTES = 65536  # a file up to this size is read at once
_AHEAD_BYTES = 256  # of a larger one, what is read at least: a record's lengths, key and data come together
_KEPT_SLOTS = 1024  # of a larger one, tables up to this size are kept: 8 KB each, 2 MB in all
_LOOK_BYTES = 65536  # of a larger one, what key_lengths() looks through in one call


def write_cdb(path: str | bytes, path_tmp: str | bytes, records) -> None:
    """Compile records, pairs of (key, data), into path; a new path_tmp is made, synced and renamed to it.

    Equal keys are all kept; readers find the first.  Raises NotWritten; path_tmp stays if it could be made.
    """
    from cdblib import Writer

    def fill(fd):
        try:
            with open(fd, "wb", closefd=False) as file:
                writer = Writer(file)
                for key, data in records:
                    writer.put(key, data)
                writer.finalize()
        except struct.error:  # beyond 4 GB: the originals call it that
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None

    replace_file(path, path_tmp, 0o666, fill)


class Reader:
    """One open database.  get(key) returns the data of the first record under key, None if there is none.

    Raises OSError when it cannot be opened or read, with EPROTO (`protocol error`) when it is damaged, or all zero.
    `seen` is what os.stat said of the file when it was opened.
    """

    _fd = -1

    def __init__(self, path: str | bytes) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._ahead = 0, b""
        self._tables: dict = {}
        self._looks: dict = {}
        try:
            self.seen = os.fstat(self._fd)
            self._start = os.read(self._fd, _HEAD_BYTES if self.seen.st_size > _WHOLE_BYTES else _WHOLE_BYTES)
        except OSError:
            self.close()
            raise

    def get(self, key: bytes) -> bytes | None:
        wanted = hash_of(key)
        table, slots = _PAIR.unpack(self._at((wanted & 255) * 8, 8))
        if not slots:
            if not table and not any(self._start[:_HEAD_BYTES]):  # what a crash leaves of a file that was not synced
                raise _damaged()
            return None
        kept, base = self._table(table, slots)
        at = (wanted >> 8) % slots
        for _ in range(slots):
            found, record = (
                _PAIR.unpack(self._at(table + 8 * at, 8)) if kept is None else _PAIR.unpack_from(kept, base + 8 * at)
            )
            if not record:
                return None
            if found == wanted:
                key_bytes, data_bytes = _PAIR.unpack(self._at(record, 8))
                if key_bytes == len(key) and self._at(record + 8, key_bytes) == key:
                    return self._at(record + 8 + key_bytes, data_bytes)
            at = at + 1 if at + 1 < slots else 0
        return None

    def key_lengths(self, starts: tuple[bytes, ...]) -> set[int] | None:
        """Return the lengths below 256 of the keys that start with one of `starts`, perhaps some more; None: not known.

        Bytes that look like such a record are taken for one.  A small file is looked through at once, a large one by
        64 KB in each call: it is known after some calls, and no call is a long one.  Of a file that was cut short
        nothing is ever known.
        """
        look = self._looks.get(starts)
        if look is None:
            if self._is_cut_short():
                return None
            look = self._looks[starts] = [0, set()]
        at, lengths = look
        size = self.seen.st_size
        if at < size:
            wanted = min(size - at, _LOOK_BYTES + 16)  # what a look leaves at its end is seen whole by the next
            piece = self._start[at:] if at + wanted == len(self._start) else os.pread(self._fd, wanted, at)
            if len(piece) < wanted:
                return None
            for start in starts:
                found = piece.find(start, 8)
                while found >= 0:
                    length = int.from_bytes(piece[found - 8 : found - 4], "little")
                    if length < 256:
                        lengths.add(length)
                    found = piece.find(start, found + 1)
            look[0] = size if wanted == size - at else at + _LOOK_BYTES
        return lengths if look[0] == size else None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _table(self, table, slots):
        """Return bytes that have the whole table, and its place in them; (None, 0) if it is too large to be kept."""
        if table + 8 * slots <= len(self._start):
            return self._start, table
        kept = self._tables.get((table, slots))
        if kept is None and slots <= _KEPT_SLOTS:
            kept = self._tables[table, slots] = self._at(table, 8 * slots)
        return kept, 0

    def _at(self, position, size):
        end = position + size
        if end <= len(self._start):
            return self._start[position:end]
        from_, ahead = self._ahead
        if from_ <= position and end <= from_ + len(ahead):
            return ahead[position - from_ : end - from_]
        # checked first: a damaged length must not make us reserve gigabytes
        ahead = os.pread(self._fd, max(size, _AHEAD_BYTES), position) if end <= self.seen.st_size else b""
        if len(ahead) < size:
            raise _damaged()
        self._ahead = position, ahead
        return ahead[:size]

    def _is_cut_short(self):
        head = self._at(0, _HEAD_BYTES)
        return max(table + slots * 8 for table, slots in _PAIR.iter_unpack(head)) > self.seen.st_size


def _damaged():
    return OSError(errno.EPROTO, os.strerror(errno.EPROTO))


def hash_of(key: bytes) -> int:
    """Return cdb's hash of a key, 32 bits."""
    value = 5381
    for byte in key:
        value = value * 33 & 0xFFFFFFFF ^ byte
    return value
