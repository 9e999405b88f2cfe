"""The stock dialect between a queue manager and a spawner, and its wide form: one pipe each way.

    hello     spawner   its limit: how many deliveries it takes at once
    command   manager   slot; path below queue/mess NUL; sender NUL; recipient NUL
    report    spawner   slot; letter K, Z or D and text; NUL

A slot and a limit are one byte, or two bytes, low byte first, in the wide form (the big-concurrency patch).
The width is a setting on both sides; it cannot be told from the bytes.  There is one unanswered command for
a slot at most, and reports come in any order.  A slot byte may itself be NUL.  The manager keeps REPORT_LIMIT
bytes of letter and text and drops the rest; the spawner takes commands of at most COMMAND_LIMIT bytes, and a
longer one is MalformedOrder: it exits 111.  There is no version byte: the bytes are the original's.  Source: qmail-send
and spawn.c of qmail
"""

REPORT_LIMIT = 9999
COMMAND_LIMIT = 65536
NARROW, WIDE = 1, 2


class MalformedOrder(ValueError):
    """The bytes are not what this pipe carries."""


def most_slots(width: int) -> int:
    """Return the largest limit a hello can tell."""
    return 255 if width == NARROW else 65535


def hello(limit: int, width: int = NARROW) -> bytes:
    """Return the spawner's first bytes; a limit too large for them is told as the largest there is."""
    return min(limit, most_slots(width)).to_bytes(width, "little")


def limit_of(first: bytes) -> int:
    """Return the limit a spawner's first bytes tell; how many bytes is the width."""
    return int.from_bytes(first, "little")


def command(slot: int, path: bytes, sender: bytes, recipient: bytes, width: int = NARROW) -> bytes:
    """Return one command; path is `12/2385526`."""
    return b"%b%b\0%b\0%b\0" % (slot.to_bytes(width, "little"), path, sender, recipient)


def report(slot: int, text: bytes, width: int = NARROW) -> bytes:
    """Return one report; text begins with its letter, and a NUL in it ends it."""
    return slot.to_bytes(width, "little") + text.partition(b"\0")[0] + b"\0"


class StockCommands:
    """Takes the manager's bytes in any pieces; receive() returns the complete commands."""

    def __init__(self, width: int = NARROW) -> None:
        self._width = width
        self._held = b""

    def receive(self, data: bytes) -> list[tuple[int, bytes, bytes, bytes]]:
        """Return [(slot, path, sender, recipient)].  Raises MalformedOrder for one beyond COMMAND_LIMIT."""
        data = self._held + data if self._held else data
        at, width, found = 0, self._width, []
        while True:
            path = data.find(b"\0", at + width)
            sender = data.find(b"\0", path + 1) if path >= 0 else -1
            end = data.find(b"\0", sender + 1) if sender >= 0 else -1
            if end < 0:
                break
            slot = int.from_bytes(data[at : at + width], "little")
            found.append((slot, data[at + width : path], data[path + 1 : sender], data[sender + 1 : end]))
            at = end + 1
        self._held = data[at:]
        if len(self._held) > COMMAND_LIMIT:
            raise MalformedOrder("command too long")
        return found

    @property
    def is_empty(self) -> bool:
        """True between commands."""
        return not self._held


class StockReports:
    """Takes a spawner's bytes in any pieces; receive() returns the complete reports."""

    def __init__(self, width: int = NARROW) -> None:
        self._width = width
        self._held = b""

    def receive(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return [(slot, letter and text)]; an empty text is a report without its letter."""
        data = self._held + data if self._held else data
        at, width, found = 0, self._width, []
        while (end := data.find(b"\0", at + width)) >= 0:
            slot = int.from_bytes(data[at : at + width], "little")
            found.append((slot, data[at + width : min(end, at + width + REPORT_LIMIT)]))
            at = end + 1
        self._held = data[at : at + width + REPORT_LIMIT]  # what lies beyond would be dropped anyway
        return found
