"""Envelopes: the stream that qmail-queue reads, and the records of the queue's files.

    stream    `F` sender NUL, then `T` recipient NUL any number of times, then NUL.  What follows is never read
    record    letter, text, NUL.  intd and todo: u (uid), p (qp), F (sender), T (recipient) ...; info: F;
              local and remote: T not done, D done.  The end of the stream is not stored

An address has any bytes but NUL, at most ADDRESS_LIMIT of them; it may be empty.
Source: qmail-queue(8), getinfo() and todo_do() of qmail-send
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ADDRESS_LIMIT = 1002


class BadEnvelope(ValueError):
    """The stream is not an envelope; `exit_code` is qmail-queue's."""

    def __init__(self, exit_code: int, text: str) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class EnvelopeReader:
    """Takes the stream in any pieces; receive() returns what to store of it.

    `ended` is True once the last NUL has come; bytes beyond it are ignored.  Raises BadEnvelope: 11 for an
    address too long, 91 for a record that cannot stand there.  Never holds more than one address.
    """

    def __init__(self) -> None:
        self.ended = False
        self._held = b""
        self._letter = b"F"

    def receive(self, data: bytes) -> bytes:
        if self.ended:
            return b""
        block = self._held + data
        *records, self._held = block.split(b"\0")
        for index, record in enumerate(records):
            if not record and self._letter == b"T":
                self.ended, self._held = True, b""
                return b"".join(whole + b"\0" for whole in records[:index])
            self._check(record)
            self._letter = b"T"
        if self._held:
            self._check(self._held)
        return block[: len(block) - len(self._held)]

    def close(self) -> None:
        """The stream has no more.  Raises BadEnvelope (54) if it was cut short."""
        if not self.ended:
            raise BadEnvelope(54, "envelope cut short")

    def _check(self, record: bytes) -> None:
        if record[:1] != self._letter:
            raise BadEnvelope(91, "envelope format error")
        if len(record) > ADDRESS_LIMIT + 1:
            raise BadEnvelope(11, "address too long")


def stored_part(stream: bytes) -> bytes:
    """Return what of a whole stream is stored: its records without the NUL that ends it.  Raises BadEnvelope."""
    reader = EnvelopeReader()
    stored = reader.receive(stream)
    reader.close()
    return stored


def format_envelope(sender: bytes, recipients: "Iterable[bytes]") -> bytes:
    """Return the stream for a sender and recipients.  Raises ValueError for a NUL in an address."""
    if b"\0" in sender or any(b"\0" in recipient for recipient in recipients):
        raise ValueError("NUL in an address")
    return b"".join([b"F", sender, b"\0", *[b"T" + recipient + b"\0" for recipient in recipients], b"\0"])


def todo_head(uid: int, qp: int) -> bytes:
    """Return the records that stand before the sender in intd and todo."""
    return b"u%d\0p%d\0" % (uid, qp)


def split_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return [(letter, text)] of a queue file.  A last record without its NUL is dropped, as the original does.

    An empty record has the letter b"".
    """
    return [(record[:1], record[1:]) for record in data.split(b"\0")[:-1]]
