"""The store that keeps each message in the files of qmail's queue (pyqmail-queue(5)).

Why what is acknowledged is on disk.  add() does for every message of a batch what qmail-queue does for its one, and in
the same order; only the waiting for the disk is shared:

    1  create pid/NAME, link it to mess/N/ID, unlink pid/NAME     ID is the file's inode: no two live messages share it
    2  write mess/N/ID, create and write intd/ID
    3  fsync all files of the batch, then all directories mess/N that have a new name
    4  link intd/ID to todo/ID, for each message
    5  fsync the directory todo, once
    6  pull the trigger, once; only then are verdicts of 0 returned

The link in todo is what makes a message: the queue manager looks for new mail there and nowhere else.  So everything
it will read is on disk (3) before that name exists (4).  Nobody is told of success before the name is on disk (5).
The name intd/ID need not be on disk: it is another name of todo/ID.

What a crash of the process leaves, by the last operation done; a loss of power may undo what is not synced yet:

    pid/NAME                             pyclean removes it after 36 hours, when nobody can still be writing it
    mess/N/ID, perhaps pid/NAME as well  not queued; the queue manager's sweep removes it after 36 hours
    mess/N/ID and intd/ID, whole or not  not queued; the sweep has pyclean remove both
    todo/ID of some of the batch         these are queued, though nobody was told: their senders try again
    todo/ID of all                       likewise: they arrive twice, which is better than not at all

What fails takes its files with it, intd before mess: as long as mess/N/ID stands the number cannot be another
message's.  If the names in todo are not safe on disk (5 failed), they are taken back, but mess and intd stay for the
sweep: the queue manager may have seen the names, and the number must not be given to another message meanwhile.

A staged message (store.py) has step 1 done by stage() and step 2 by write_staged(), which syncs the two files itself.
add() then does the rest, which costs no more for a large message than for a small one.

Exit codes are qmail-queue's.
"""

import os
import time

from pyqmail.mail.queue.bounds import Bounds, MessageRefused
from pyqmail.mail.queue.envelope_files import make_envelope_files
from pyqmail.mail.queue.files import QueueNames, pull_trigger
from pyqmail.mail.queue.origin import Origin, received_line
from pyqmail.mail.queue.pieces import bounded
from pyqmail.mail.queue.store import UNBOUNDED, NewMessage, PreprocessedMessage, StagedMessage, Verdict
from pyqmail.protocol.envelope import BadEnvelope, EnvelopeReader, todo_head
from pyqmail.system.descriptors import write_all
from pyqmail.system.fsync_batch import sync_in_turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pyqmail.mail.queue.store import Sync, SyncLater

_UNSAFE = "not safely on disk"
_MAX_NAMES = 9
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class FileStore:
    """Keeps messages in one queue.  known: what Received lines say, see origin.invokers().

    sync puts files and directories on disk, sync_later does so for what is materialized.  The directories for new mail
    are opened by prepare(), or by the first message.
    """

    def __init__(
        self,
        names: QueueNames,
        known: "Mapping[int, bytes] | None" = None,
        sync: "Sync" = sync_in_turn,
        sync_later: "SyncLater | None" = None,
    ) -> None:
        self._names, self._known, self._sync = names, known or {}, sync
        self._sync_later = sync_later or (lambda files, directories, then: then(sync(files, directories)))
        self._sequence = 0
        self._parts: list[int] = []  # descriptors of mess/0, mess/1 ...
        self._todo = -1

    def prepare(self) -> None:
        """Open the directories whose new names are put on disk.  Raises OSError."""
        if self._todo >= 0:
            return
        queue = self._names.queue
        while len(self._parts) < self._names.split:
            self._parts.append(_open_directory(f"{queue}/mess/{len(self._parts)}"))
        self._todo = _open_directory(f"{queue}/todo")

    def close(self) -> None:
        for fd in (*self._parts, *((self._todo,) if self._todo >= 0 else ())):
            os.close(fd)
        self._parts, self._todo = [], -1

    # staging

    def stage(self, bounds: Bounds = UNBOUNDED, with_envelope: bool = False) -> StagedMessage:
        """Make mess/ID, and intd/ID if with_envelope.  Raises MessageRefused (53, 63, 64, 65)."""
        if self._todo < 0:
            self.prepare()
        bounds.check_room(self._todo)
        names: list[str] = []
        try:
            staged = self._make_message_file(names)
        finally:
            for name in names:
                _unlink(name)
        if with_envelope:
            try:
                self._make_envelope_file(staged)
            except MessageRefused:
                self.discard(staged)
                raise
        return staged

    def _make_message_file(self, names: list[str]) -> StagedMessage:
        """Make a new file, linked to the number its inode has; adds each name in pid to names."""
        for _ in range(_MAX_NAMES):
            self._sequence += 1
            name = self._names.pid(f"{os.getpid()}.{int(time.time())}.{self._sequence}")
            try:
                fd = os.open(name, _NEW, 0o644)
            except FileExistsError:
                continue
            except OSError as error:
                raise MessageRefused(63, error) from None
            names.append(name)
            number = os.fstat(fd).st_ino
            try:
                os.link(name, self._names.mess(number))
            except OSError as error:
                os.close(fd)
                if not isinstance(error, FileExistsError):
                    raise MessageRefused(64, error) from None
                # A queue that was copied: another message has this number for its name.  The file keeps its
                # pid name meanwhile, so that the next one gets another inode.
                continue
            return StagedMessage(number, fd)
        raise MessageRefused(64 if names else 63)

    def _make_envelope_file(self, staged: StagedMessage) -> None:
        """Make intd/ID.  Raises MessageRefused (65)."""
        name = self._names.intd(staged.number)
        try:
            try:
                staged.envelope_fd = os.open(name, _NEW, 0o644)
            except FileExistsError:
                # The number is ours since mess/ID is: this was left by a message that is gone.
                if os.path.lexists(self._names.todo(staged.number)):
                    raise
                os.unlink(name)
                staged.envelope_fd = os.open(name, _NEW, 0o644)
        except OSError as error:
            raise MessageRefused(65, error) from None

    def write_staged(
        self,
        staged: StagedMessage,
        origin: Origin,
        message: "Iterable[bytes]",
        envelope: "Iterable[bytes]",
        bounds: Bounds = UNBOUNDED,
    ) -> None:
        """Write message and envelope stream as they come, both in pieces, and put the two files on disk.

        Raises MessageRefused (11, 31, 53, 54, 65, 91).
        """
        try:
            write_all(staged.message_fd, received_line(origin, self._known))
            for piece in bounded(message, bounds, staged.message_fd):
                write_all(staged.message_fd, piece)
            if staged.envelope_fd < 0:
                self._make_envelope_file(staged)
            write_all(staged.envelope_fd, todo_head(origin.uid, origin.qp))
            reader = EnvelopeReader()
            for piece in bounded(envelope, bounds, staged.envelope_fd):  # recipients need not end either
                write_all(staged.envelope_fd, reader.receive(piece))
                if reader.ended:
                    break
            reader.close()
        except BadEnvelope as bad:
            raise MessageRefused(bad.exit_code) from None
        except OSError as error:
            raise MessageRefused(53, error) from None
        if self._sync(staged.descriptors(), ()):
            raise MessageRefused(53, why=_UNSAFE)

    def discard(self, staged: StagedMessage) -> None:
        """Remove the files, intd before mess."""
        staged.close()
        _unlink(self._names.intd(staged.number))
        _unlink(self._names.mess(staged.number))

    # adding

    def add(self, batch: "Sequence[NewMessage]") -> list[Verdict]:
        """Write what is not staged, then commit the batch."""
        verdicts, written = [], []
        for new in batch:
            try:
                staged = new.staged or self._write(new)
            except MessageRefused as refused:
                verdicts.append(Verdict(0, refused.exit_code, refused.why))
                continue
            verdict = Verdict(staged.number)
            verdicts.append(verdict)
            written.append((staged, verdict))
        if written:
            self._commit_batch(written)
        return verdicts

    def _write(self, new: NewMessage) -> StagedMessage:
        """Write a message and its envelope; what fails leaves nothing.  Raises MessageRefused (53, 63, 64, 65)."""
        staged = self.stage(new.bounds)
        try:
            write_all(staged.message_fd, received_line(new.origin, self._known) + new.message)
            self._make_envelope_file(staged)
            write_all(staged.envelope_fd, todo_head(new.origin.uid, new.origin.qp) + new.envelope)
        except MessageRefused:
            self.discard(staged)
            raise
        except OSError as error:
            self.discard(staged)
            raise MessageRefused(53, error) from None
        return staged

    def _commit_batch(self, written: list[tuple[StagedMessage, Verdict]]) -> None:
        """Put the files of these messages on disk, link them to todo, and set each verdict that is not 0: 53 or 66."""
        split = self._names.split
        parts = {staged.number % split for staged, _ in written}
        files = [fd for staged, _ in written for fd in staged.descriptors()]
        unsafe = self._sync(files, [self._parts[part] for part in parts])
        linked = []
        for staged, verdict in written:
            if unsafe and not unsafe.isdisjoint((*staged.descriptors(), self._parts[staged.number % split])):
                self._refuse(staged, verdict, 53, _UNSAFE)
            elif self._link_todo(staged, verdict):
                linked.append(verdict)
        if not linked:
            return
        if self._sync((), (self._todo,)):
            self._take_back(linked)
        else:
            pull_trigger(self._names)

    def _link_todo(self, staged: StagedMessage, verdict: Verdict) -> bool:
        """Queue a message whose files are on disk; False if that failed."""
        staged.close()
        # todo is linked only now: until then a crash leaves nothing to deliver
        try:
            os.link(self._names.intd(staged.number), self._names.todo(staged.number))
        except OSError as error:
            self._refuse(staged, verdict, 66, MessageRefused(66, error).why)
            return False
        return True

    def _refuse(self, staged: StagedMessage, verdict: Verdict, exit_code: int, why: str) -> None:
        verdict.exit_code, verdict.why = exit_code, why
        self.discard(staged)

    def _take_back(self, linked: list[Verdict]) -> None:
        """Remove the names in todo, which are not safe, and nothing else.

        The queue manager may know the messages already: until it or its sweep removes mess/ID, nobody else can
        get the number.
        """
        for verdict in linked:
            verdict.exit_code, verdict.why = 53, _UNSAFE
            try:
                os.unlink(self._names.todo(verdict.number))
            except OSError:
                pass

    # preprocessed messages

    def materialize(self, batch: "Sequence[PreprocessedMessage]", then: "Callable[[dict[int, bytes]], object]") -> None:
        """Make info, local and remote of each; call then({number: warning}) once they are on disk."""
        make_envelope_files(self._names, self._sync_later, batch, then)


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
