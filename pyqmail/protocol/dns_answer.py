"""What a name server's answer says: bytes in, records out.  RFC 1035 section 4

Strangers write answers, up to 65,535 bytes of them, and a name may be a pointer to bytes that many names share.  So
nothing is read that nobody asked for: owners, other types and other sections are stepped over, and no byte is read
twice:

- a pointer leads to before the name it stands in, so names end, and a name has at most 255 bytes, so they are short;
- what a place in the message means as a name is remembered, so that four thousand names that end alike cost as one;
- a message with more than MAX_RECORDS is not begun.

An answer of 65,535 bytes costs some ten milliseconds at the worst, and read_in_slices() lets others in between.
"""

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    Found = bytes | tuple[int, bytes]  # see Answer.values

MAX_RECORDS = 4096
TYPES = {"A": 1, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
NO_ERROR, NO_NAME = 0, 3  # the codes that tell something; any other is a trouble of the server
_SOA = 6
_HEAD_BYTES, _RECORD_BYTES = 12, 10  # of a record: without its owner
_SLICE_BYTES = 4096
_MAX_NAME_BYTES = 255
_PLAIN = b"abcdefghijklmnopqrstuvwxyz0123456789-_"


class MalformedAnswer(ValueError):
    """The bytes are not an answer."""


class TooManyRecords(Exception):
    """There are more than MAX_RECORDS; what they are was not looked at."""


class Answer:
    """code: the server's; values: of the records asked for, see Answer.values; seconds: how long that holds.

    values, none twice: A, AAAA: address; MX: (preference, host); PTR: the first name alone; TXT: text.
    Without values the seconds are those of the SOA record, None if there is none.
    """

    __slots__ = ("code", "values", "seconds")

    def __init__(self, code: int, values: "tuple[Found, ...]", seconds: int | None) -> None:
        self.code, self.values, self.seconds = code, values, seconds


def is_answer(question: bytes, data: bytes) -> bool:
    """Return whether data is an answer to the question, a message of one name: same number, same question.

    A server that only tells of its trouble may leave the question out.
    """
    if len(data) < _HEAD_BYTES or data[:2] != question[:2] or not data[2] & 0x80 or (data[2] ^ question[2]) & 0x78:
        return False
    if data[4:6] == b"\0\0":
        return data[3] & 15 in (1, 2, 4, 5)
    return data[4:6] == b"\0\1" and data[_HEAD_BYTES : len(question)].lower() == question[_HEAD_BYTES:].lower()


def is_cut(data: bytes) -> bool:
    """Return whether the server says that the answer did not fit."""
    return bool(data[2] & 2)


def read(question: bytes, data: bytes, kind: str) -> Answer:
    """Return the Answer that data, for which is_answer() is true, is to a question for a kind of TYPES.

    Every record of the kind in its answer section counts, whatever aliases led to it.  Raises MalformedAnswer,
    TooManyRecords.
    """
    slices = read_in_slices(question, data, kind)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            answer: Answer = end.value
            return answer


def read_in_slices(question: bytes, data: bytes, kind: str) -> "Generator[None, None, Answer]":
    """Do the same as read(), and yield each time a millisecond or so has gone; a generator that returns the Answer."""
    try:
        return (yield from _Reader(data, kind).read(_HEAD_BYTES if data[4:6] == b"\0\0" else len(question)))
    except IndexError:
        raise MalformedAnswer("it ends within a record") from None


class _Reader:
    def __init__(self, data: bytes, kind: str) -> None:
        self._data, self._kind, self._wanted = data, kind, TYPES[kind]
        self._names: dict[int, tuple[bytes, int]] = {}  # place -> (name, its bytes), of places that a pointer can reach

    def read(self, at: int) -> "Generator[None, None, Answer]":
        data, code = self._data, self._data[3] & 15
        count, authority, more = (int.from_bytes(data[i : i + 2], "big") for i in (6, 8, 10))
        if count + authority + more > MAX_RECORDS:
            raise TooManyRecords
        found: dict[Found, None] = {}
        seconds: int | None = None
        pause = at + _SLICE_BYTES
        for _ in range(count):
            kind, ttl, at, end = self._record(at)
            seconds = ttl if seconds is None or ttl < seconds else seconds
            if kind == self._wanted and (self._wanted != TYPES["PTR"] or not found):
                found[self._value(at, end)] = None
            at = end
            if at > pause:
                pause = at + _SLICE_BYTES
                yield
        if found:
            return Answer(code, tuple(found), seconds)
        seconds = None
        for _ in range(authority):
            kind, ttl, at, end = self._record(at)
            if kind == _SOA and end - at >= 22:
                ttl = min(ttl, _seconds(data[end - 4 : end]))
                seconds = ttl if seconds is None or ttl < seconds else seconds
            at = end
            if at > pause:
                pause = at + _SLICE_BYTES
                yield
        return Answer(code, (), seconds)

    def _record(self, at: int) -> tuple[int, int, int, int]:
        """Return (type, seconds, where its data begin, where they end) of the record at a place.

        The type of a record of another class is 0.
        """
        data = self._data
        while (length := data[at]) < 192:
            at += length + 1
            if length > 63:
                raise MalformedAnswer("a label of a kind that nobody knows")
            if not length:
                break
        else:
            at += 2
        end = at + _RECORD_BYTES
        type_code, place, seconds, size = (
            data[at : at + 2],
            data[at + 2 : at + 4],
            data[at + 4 : at + 8],
            data[at + 8 : end],
        )
        last = end + int.from_bytes(size, "big")
        if last > len(data):
            raise MalformedAnswer("it ends within a record")
        # in another class a record of this type is something else
        kind = int.from_bytes(type_code, "big") if place == b"\0\1" else 0
        return kind, _seconds(seconds), end, last

    def _value(self, at: int, end: int) -> "Found":
        return _VALUES[self._kind](self, at, end)

    def _a(self, at: int, end: int) -> bytes:
        if end - at != 4:
            raise MalformedAnswer("an address that is not of four bytes")
        return b"%d.%d.%d.%d" % tuple(self._data[at:end])

    def _aaaa(self, at: int, end: int) -> bytes:
        if end - at != 16:
            raise MalformedAnswer("an address that is not of sixteen bytes")
        return socket.inet_ntop(socket.AF_INET6, self._data[at:end]).encode()

    def _mx(self, at: int, end: int) -> tuple[int, bytes]:
        return int.from_bytes(self._data[at : at + 2], "big"), self._name(at + 2, end)

    def _txt(self, at: int, end: int) -> bytes:
        data, texts = self._data, []
        while at < end:
            length = data[at]
            texts.append(data[at + 1 : at + 1 + length])
            at += length + 1
        if at > end or not texts:
            raise MalformedAnswer("texts that do not end where their record does")
        return b"".join(texts)

    def _name(self, at: int, end: int) -> bytes:
        """Return the name that fills a record's data: lower case, `\\ooo` for odd bytes, no dot at its end."""
        name, after = self._read_name(at)
        if after != end:
            raise MalformedAnswer("a name that does not end where its record does")
        return name or b"."

    def _read_name(self, at: int) -> tuple[bytes, int]:
        """Return the name at a place, and the place after it."""
        data = self._data
        steps: list[tuple[int, bytes | None]] = []  # (place, label, None for a pointer)
        after: int | None = None
        lowest, size = at, 0
        while (known := self._names.get(at)) is None:
            length, place = data[at], at
            if length < 64:
                at += length + 1
                size += length + 1
                steps.append((place, data[place + 1 : at]))
                if not length:
                    known = b"", 0
                    break
            elif length >= 192:
                after = after or at + 2
                at = (length & 63) << 8 | data[at + 1]
                steps.append((place, None))
                if at >= lowest:
                    raise MalformedAnswer("a pointer that does not lead back")
                lowest = at
            else:
                raise MalformedAnswer("a label of a kind that nobody knows")
            if size > _MAX_NAME_BYTES:
                raise MalformedAnswer("a name of more than 255 bytes")
        return self._compose(steps, *known), after or at

    def _compose(self, steps: list[tuple[int, bytes | None]], name: bytes, size: int) -> bytes:
        """Return the name of steps that lead to a known one of so many bytes; remember what each place means."""
        for place, label in reversed(steps):
            if label is not None:
                size += len(label) + 1
                name = _spelled(label) + (b"." + name if name else b"") if label else name
            self._names[place] = name, size
        if size > _MAX_NAME_BYTES:
            raise MalformedAnswer("a name of more than 255 bytes")
        return name


_VALUES: "dict[str, Callable[[_Reader, int, int], Found]]" = {
    "A": _Reader._a,
    "AAAA": _Reader._aaaa,
    "MX": _Reader._mx,
    "PTR": _Reader._name,
    "TXT": _Reader._txt,
}


def _spelled(label: bytes) -> bytes:
    label = label.lower()
    if not label.translate(None, _PLAIN):
        return label
    return b"".join(bytes((c,)) if c in _PLAIN else b"\\%03o" % c for c in label)


def _seconds(data: bytes) -> int:
    """Return a time to live; one with its first bit set is none.  RFC 2181 section 8"""
    return int.from_bytes(data, "big") if data[0] < 128 else 0
