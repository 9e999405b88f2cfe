"""Make info, local and remote of many messages at once, on disk with their names when that is reported.

All files are written first.  Then all of them are synced together, and after them each directory that has a new name.
The order within a batch does not matter: the message is the authority of todo/ID until that is unlinked, and the caller
unlinks it only for messages that are not reported as failed.  A crash leaves files that the queue manager removes when
it reads todo again; so do the files of a message that failed.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyqmail.mail.queue.files import QueueNames
    from pyqmail.mail.queue.store import PreprocessedMessage, SyncLater

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC


def make_envelope_files(
    names: "QueueNames",
    sync: "SyncLater",
    batch: "Iterable[PreprocessedMessage]",
    then: "Callable[[dict[int, bytes]], object]",
) -> None:
    """Make the files of these messages; call then({number: warning}) once they are on disk, or when sync() calls.

    The warnings are to be logged: they are those of the messages whose files are not all safely on disk.
    """
    made = _Batch(names)
    for message in batch:
        made.write_files(message)
    made.put_on_disk(sync, then)


class _Batch:
    def __init__(self, names: "QueueNames") -> None:
        self.failed: dict[int, bytes] = {}
        self._names = names
        self._numbers: list[int] = []
        self._opened: dict[int, tuple[int, str]] = {}  # descriptor -> number, path
        self._directories: dict[tuple[str, int], str] = {}  # folder, part -> path

    def write_files(self, message: "PreprocessedMessage") -> None:
        """Write the files of a message, the first that fails is the last."""
        names, number = self._names, message.number
        self._numbers.append(number)
        wanted = [("info", b"F" + message.sender + b"\0", message.birth)]
        wanted += [(name, records, due) for name, records, due in message.channels if b"\0T" in b"\0" + records]
        for folder, content, stamp in wanted:
            path = names.split_file(folder, number)
            warning = self._write(number, path, content, stamp)
            if warning:
                self.failed[number] = b"%b %b" % (warning, self._shown(path))
                return
            self._directories[folder, number % names.split] = os.path.dirname(path)

    def _write(self, number: int, path: str, content: bytes, stamp: int) -> bytes:
        """Return what failed, empty if nothing did."""
        try:
            fd = os.open(path, _NEW, 0o600)
        except OSError:
            return b"warning: unable to create"
        self._opened[fd] = number, path
        try:
            if os.write(fd, content) != len(content):
                raise OSError
            os.utime(fd, (stamp, stamp))
        except OSError:
            return b"warning: trouble writing to"
        return b""

    def put_on_disk(self, sync: "SyncLater", then: "Callable[[dict[int, bytes]], object]") -> None:
        """Sync the files and the directories that have their names, close them, and call then(failed)."""
        directories: dict[int, tuple[str, int]] = {}  # descriptor -> folder, part
        try:
            for key, path in self._directories.items():
                directories[os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)] = key
        except OSError:
            self.failed.update((number, b"warning: trouble fsyncing info") for number in self._numbers)

        def synced(lost: set[int]) -> None:
            self._close(directories, lost)
            then(self.failed)

        sync(list(self._opened), list(directories), synced)

    def _close(self, directories: "dict[int, tuple[str, int]]", lost: set[int]) -> None:
        for fd, (number, path) in self._opened.items():
            if fd in lost:
                self.failed.setdefault(number, b"warning: trouble fsyncing %b" % self._shown(path))
            os.close(fd)
        for fd, (folder, part) in directories.items():
            if fd in lost:
                self._fail_part(folder, part)
            os.close(fd)

    def _fail_part(self, folder: str, part: int) -> None:
        warning = b"warning: trouble fsyncing %b/%d" % (folder.encode(), part)
        for number in self._numbers:
            if number % self._names.split == part:
                self.failed.setdefault(number, warning)

    def _shown(self, path: str) -> bytes:
        return path[len(self._names.queue) + 1 :].encode()
