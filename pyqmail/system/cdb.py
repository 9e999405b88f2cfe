"""cdb: constant databases of 32-bit offsets, compiled whole and read by key.

Compiling is pure-cdb's, whose files are byte for byte those of the originals; it is imported only for that.
Reading is our own: one read for a small file, two for each key of a large one, an end to every search
in a damaged file, and nothing mapped, so that a file truncated under us is an error and not a signal.
"""

import errno
import os
import struct

_PAIR = struct.Struct("<II")
_HEAD_BYTES = 2048
_WHOLE_BYTES = 65536  # a file up to this size is read at once
_LOOK_BYTES = 262144  # of a larger one, what key_lengths() looks through in one call


def write_cdb(path: str | bytes, path_tmp: str | bytes, records) -> None:
    """Compile records, pairs of (key, data), into path; path_tmp is written, synced and then renamed to it.

    Equal keys are all kept; readers find the first.  Raises NotWritten; path_tmp stays if it could be made.
    """
    from cdblib import Writer

    try:
        file = open(path_tmp, "wb")
    except OSError as error:
        raise NotWritten("create", error) from None
    try:
        with file:
            writer = Writer(file)
            for key, data in records:
                writer.put(key, data)
            writer.finalize()
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise NotWritten("write", error) from None
    try:
        os.rename(path_tmp, path)
    except OSError as error:
        raise NotWritten("move", error) from None


class NotWritten(Exception):
    """The database was not put in place: `step` is create, write or move, `error` the OSError."""

    def __init__(self, step, error):
        super().__init__(f"{step}: {error}")
        self.step, self.error = step, error


class Reader:
    """One open database.  get(key) returns the data of the first record under key, None if there is none.

    Raises OSError when it cannot be opened or read, with EPROTO (`protocol error`) when it is damaged.
    `seen` is what os.stat said of the file when it was opened.
    """

    _fd = -1

    def __init__(self, path: str | bytes) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._looks = {}
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
            return None
        first = (wanted >> 8) % slots
        for found, record in self._slots(table, slots, first):
            if not record:
                return None
            if found == wanted:
                key_bytes, data_bytes = _PAIR.unpack(self._at(record, 8))
                if key_bytes == len(key) and self._at(record + 8, key_bytes) == key:
                    return self._at(record + 8 + key_bytes, data_bytes)
        return None

    def key_lengths(self, starts: tuple[bytes, ...]) -> set[int] | None:
        """Return the lengths below 256 of the keys that start with one of `starts`, perhaps some more; None: not known.

        Bytes that look like such a record are taken for one.  A small file is looked through at once, a large one by
        256 KB in each call: it is known after some calls, and no call is a long one.
        """
        look = self._looks.setdefault(starts, [0, set()])
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

    def _slots(self, table, slots, first):
        """Yield each slot once, from first on and round: a few at a time, as most searches end at once."""
        at, left = first, slots
        while left:
            count = min(16, left, slots - at)
            yield from _PAIR.iter_unpack(self._at(table + 8 * at, 8 * count))
            at, left = (at + count) % slots, left - count

    def _at(self, position, size):
        end = position + size
        if end <= len(self._start):
            return self._start[position:end]
        # checked first: a damaged length must not make us reserve gigabytes
        piece = os.pread(self._fd, size, position) if end <= self.seen.st_size else b""
        if len(piece) != size:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        return piece


def hash_of(key: bytes) -> int:
    """Return cdb's hash of a key, 32 bits."""
    value = 5381
    for byte in key:
        value = value * 33 & 0xFFFFFFFF ^ byte
    return value
