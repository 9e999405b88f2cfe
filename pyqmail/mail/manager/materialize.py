"""Making info, local and remote for many messages at once, on disk with their names when that returns."""

import os


class Materializer:
    """office is what the queue manager's parts share; commit a commit object (mail/queue/commit.py)."""

    def __init__(self, office, commit) -> None:
        self._office, self._commit = office, commit

    def make_files(self, batch) -> dict[int, bytes]:
        """Make the files of these messages (preprocessing.py).

        Returns the warning to log for each number whose files are not all safely on disk.
        """
        names, files, opened, directories = self._office.names, self._office.files, {}, {}
        failed = {}
        for message in batch:
            number, part = message.number, message.number % names.split
            wanted = [(names.info(number), "info", b"F" + message.sender + b"\0", message.birth)]
            for channel, record in message.records.items():
                if b"\0T" in b"\0" + record:
                    wanted.append((files.path(channel, number), channel, bytes(record), _due(message, channel)))
            for path, folder, content, stamp in wanted:
                try:
                    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
                except OSError:
                    failed[number] = b"warning: unable to create %b" % files.shown(path)
                    break
                opened[fd] = (number, path)
                try:
                    if os.write(fd, content) != len(content):
                        raise OSError
                    os.utime(fd, (stamp, stamp))
                except OSError:
                    failed[number] = b"warning: trouble writing to %b" % files.shown(path)
                    break
                directories[folder, part] = f"{names.queue}/{folder}/{part}"
        self._sync(opened, directories, failed, batch)
        return failed

    def _sync(self, opened, directories, failed, batch):
        handles = {}
        try:
            for key, path in directories.items():
                handles[os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)] = key
        except OSError:
            failed.update((message.number, b"warning: trouble fsyncing info") for message in batch)
        lost = self._commit.commit(list(opened), list(handles))
        for fd, (number, path) in opened.items():
            if fd in lost:
                failed.setdefault(number, b"warning: trouble fsyncing %b" % self._office.files.shown(path))
            os.close(fd)
        for fd, (folder, part) in handles.items():
            if fd in lost:
                for message in batch:
                    if message.number % self._office.names.split == part:
                        failed.setdefault(message.number, b"warning: trouble fsyncing %s/%d" % (folder.encode(), part))
            os.close(fd)


def _due(message, channel):
    for one in message.passes:
        if one.channel == channel and one.has_ended:
            return one.retry
    return message.birth
