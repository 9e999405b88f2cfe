"""Which directories a scanner watches: that of the services, and every one that a link to a service leads through."""

import os

from pyqmail.system.inotify import is_changed_elsewhere

_MAX_LINKS = 40  # as the kernel


class Watching:
    """The directories that a scanner watches, named again in each pass.

    inotify None: the kernel gives no notices.  is_blind: something can change without a notice.
    """

    def __init__(self, inotify=None) -> None:
        self._inotify = inotify
        self._watched: set[int] = set()
        self._named: set[int] = set()
        self._foreign: set[int] = set()
        self.is_blind = inotify is None

    def begin_pass(self) -> None:
        """Begin a pass: nothing is named yet."""
        self._named = set()
        self.is_blind = self._inotify is None

    def watch_directory(self, path: bytes) -> None:
        """Watch a directory: from now on, names that come, go or change in it make a notice."""
        if self._inotify is None:
            return
        try:
            number = self._inotify.watch(path)
            if number not in self._watched and number not in self._named and is_changed_elsewhere(path):
                self._foreign.add(number)
        except OSError:
            self.is_blind = True  # not readable for us, gone, or beyond the kernel's limit
            return
        self._named.add(number)
        if number in self._foreign:
            self.is_blind = True

    def watch_links(self, path: bytes) -> None:
        """Watch the directories that the links of path lead through; none if it is no link."""
        for _ in range(_MAX_LINKS):
            try:
                target = os.readlink(path)
            except OSError:
                return
            path = os.path.join(os.path.dirname(path), target.rstrip(b"/") or b"/")
            self.watch_directory(os.path.dirname(path) or b".")

    def end_pass(self) -> None:
        """End a pass: a directory that it did not name is not watched any more."""
        for number in self._watched - self._named:
            self._inotify.forget(number)
            self._foreign.discard(number)
        self._watched = self._named


class InotifyPaths:
    """The directory of services: our working directory, and the absolute path that leads to it.

    path None: none was given; then it stays the same directory, even if it is renamed.
    """

    def __init__(self, path: bytes | None = None) -> None:
        self._path = path

    def enter(self, watching: Watching) -> None:
        """Enter the directory that the path leads to now, and watch it; if there is none, stay where we are."""
        if self._path is not None:
            if os.path.islink(self._path):
                watching.watch_directory(os.path.dirname(self._path))
                watching.watch_links(self._path)
            try:
                if not os.path.samestat(os.stat(self._path), os.stat(b".")):
                    os.chdir(self._path)
            except OSError:
                watching.watch_directory(os.path.dirname(self._path))  # where it will appear again
        watching.watch_directory(b".")
