"""Store: where messages are kept from the moment they are accepted.

New mail goes in as a batch and comes out as verdicts:

    verdicts = store.add([NewMessage(origin, message, envelope), ...])      # one for each, in the same order

What a store promises:

1. Nothing of a message can be seen by the queue manager before its commit.  A crash before it leaves nothing that would
   be delivered.
2. When add() returns, each message whose verdict is 0 is on disk with everything that a restart needs to find it; the
   caller may then acknowledge it.  A message with another verdict is not queued, or, if nobody can know (the disk
   refused to say that the names are safe), it may be queued and its sender tries again: never lost, at worst twice.
3. Message, envelope, origin and number are known to the store before the commit.  It is free to write them as files
   (file_store.py), as one record of a log, or, in the tests, to keep them in memory.
4. A fault of one message is the verdict of that one; the others of the batch are queued.

A message that arrives in pieces, for as long as its sender likes, cannot wait in a batch.  It is staged: stage() gives
it a number and two descriptors, write_staged() writes them, in another process if need be, and add() takes it with the
others.  What is staged and never added is invisible, and discard() removes it.

The queue manager hands back what it has read and rewritten: materialize() makes the sender and the recipients of each
channel durable, so that the envelope as it came in may go.  It may take its time, and reports when that is so.

One process may use a store from one thread only.  Processes that were forked from it may call write_staged().
"""

import os

from pyqmail.mail.queue.bounds import Bounds

UNBOUNDED = Bounds()

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol

    from pyqmail.mail.queue.origin import Origin

    # Sync files, then directories, given by their descriptors; returns those that are not safely on disk
    Sync = Callable[[Sequence[int], Sequence[int]], set[int]]
    # Do so while others go on, and call the third argument with what Sync returns
    SyncLater = Callable[[Sequence[int], Sequence[int], Callable[[set[int]], object]], object]

    class Store(Protocol):
        """Where messages are kept; see the promises above."""

        def prepare(self) -> None:
            """Get ready for new mail, so that a store that cannot be used is reported at the start.  Raises OSError."""

        def stage(self, bounds: Bounds = UNBOUNDED, with_envelope: bool = False) -> "StagedMessage":
            """Give a message that comes in pieces its number and a place.

            with_envelope: its envelope's descriptor is opened, too; otherwise write_staged() does it.
            Raises MessageRefused (53, 63, 64, 65).
            """

        def write_staged(
            self,
            staged: "StagedMessage",
            origin: "Origin",
            message: "Iterable[bytes]",
            envelope: "Iterable[bytes]",
            bounds: Bounds = UNBOUNDED,
        ) -> None:
            """Write a message and its envelope stream as they come, both in pieces, and put them on disk.

            May take as long as the iterables take.  Raises MessageRefused (11, 31, 53, 54, 65, 91): then the message
            is to be discarded.
            """

        def discard(self, staged: "StagedMessage") -> None:
            """Remove what is staged; its number is free again."""

        def add(self, batch: "Sequence[NewMessage]") -> "list[Verdict]":
            """Queue a batch; everything is durable when this returns.

            A verdict's exit code is 0, 53, 63, 64, 65 or 66.  Wakes the queue manager once if a message was queued.
            """

        def materialize(
            self, batch: "Sequence[PreprocessedMessage]", then: "Callable[[dict[int, bytes]], object]"
        ) -> None:
            """Make sender and recipients of messages durable that stand in the queue.

            Now or later then({number: warning}) is called, with the warning to log for each message whose files are not
            all safely on disk; the others are.
            """

        def close(self) -> None:
            """Free the descriptors; nothing may be called afterwards."""


class StagedMessage:
    """A message that has a number and is not queued yet.

    message_fd and envelope_fd are -1 when closed.  What is still open is put on disk with the batch.
    """

    __slots__ = ("number", "message_fd", "envelope_fd")

    def __init__(self, number: int, message_fd: int, envelope_fd: int = -1) -> None:
        self.number, self.message_fd, self.envelope_fd = number, message_fd, envelope_fd

    def descriptors(self) -> list[int]:
        return [fd for fd in (self.message_fd, self.envelope_fd) if fd >= 0]

    def close(self) -> None:
        """Close the descriptors here: another process has them, or nothing is to be written any more."""
        for fd in self.descriptors():
            os.close(fd)
        self.message_fd = self.envelope_fd = -1


class NewMessage:
    """A message to be queued: its content and its envelope, or what write_staged() has written of both.

    message is the content without a Received line, envelope the stored part of a stream (protocol/envelope.py).  Both
    are empty if staged is given.
    """

    __slots__ = ("origin", "message", "envelope", "bounds", "staged")

    def __init__(
        self,
        origin: "Origin",
        message: bytes = b"",
        envelope: bytes = b"",
        bounds: Bounds = UNBOUNDED,
        staged: StagedMessage | None = None,
    ) -> None:
        self.origin, self.message, self.envelope, self.bounds = origin, message, envelope, bounds
        self.staged = staged


class Verdict:
    """What became of a new message: qmail-queue's exit code, 0 once it is queued; why is what a log says of it.

    number is the message's, 0 if it was refused before it had one.
    """

    __slots__ = ("number", "exit_code", "why")

    def __init__(self, number: int, exit_code: int = 0, why: str = "") -> None:
        self.number, self.exit_code, self.why = number, exit_code, why


class PreprocessedMessage:
    """What the queue manager has made of an envelope: the sender, the birth in Unix seconds, and its channels.

    channels has (name, records, due) for each channel, local or remote: the records of its file, T not done, D done,
    and when they are to be tried in Unix seconds.  A channel without a T has no file.
    """

    __slots__ = ("number", "sender", "birth", "channels")

    def __init__(self, number: int, sender: bytes, birth: int, channels: "list[tuple[str, bytes, int]]") -> None:
        self.number, self.sender, self.birth, self.channels = number, sender, birth, channels
