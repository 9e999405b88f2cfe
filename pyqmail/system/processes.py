"""Processes: finding and running a program as the originals do, forking ourselves, and what a child starts with."""

import _signal as signal  # the module without its enums: those cost a chain loader 3 ms, a third of its start
import errno
import os
import sys

from pyqmail.base.failure import Temporary, traceback_text
from pyqmail.system.title import show_command

DEFAULT_PATH = b"/bin:/usr/bin"
_REMEMBERED = (errno.EACCES, errno.EPERM, errno.EISDIR)


def candidates(name: bytes, path: bytes | None) -> list[bytes]:
    """Return the file names to try for a program: itself if it has a slash, else one for each element of path.

    path None (PATH unset) means /bin:/usr/bin; an empty element the working directory.  One of our own programs is
    looked for beside ourselves when path does not lead to it.  Whatever finds or runs a program asks here.
    """
    if b"/" in name:
        return [name]
    elements = (DEFAULT_PATH if path is None else path).split(b":")
    return [(element or b".") + b"/" + name for element in elements] + _starters(name)


def execute(argv: list, environ, path: bytes | None = None, name=None) -> OSError:
    """Become the program argv[0], found in path; returns the error to report only if that failed.

    name: what to search instead of argv[0].  An empty argv[0], which os.execve refuses, becomes the file's name.

    ENOENT goes on with the next element; EACCES, EPERM and EISDIR are remembered; anything else ends the
    search.  No shell is tried for a file without #!.  Source: ucspi-tcp's pathexec
    """
    words = argv[0] if name is None else name
    failure = _try_each(words, path, lambda file: os.execve(file, _named(argv, file), environ))
    assert failure is not None  # what works does not return
    return failure


def spawn(argv: list, environ, path: bytes | None = None, descriptors: dict[int, int] | None = None, close=()) -> int:
    """Start the program argv[0], found in path as execute() does; returns its pid.  Raises OSError.

    descriptors: number in the child -> our descriptor, which may be close-on-exec.  close: numbers the child
    must not have.  The child starts with an empty signal mask and default PIPE, CHLD, TERM and XFSZ.
    """
    actions = _file_actions(descriptors or {}, close)
    started = []

    def start(file):
        started.append(
            os.posix_spawn(file, _named(argv, file), environ, file_actions=actions, setsigmask=(), setsigdef=_DEFAULTED)
        )

    error = _try_each(argv[0], path, start, started)
    if error is not None:
        raise error
    return started[0]


_DEFAULTED = (signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGXFSZ)


def reset_signals() -> None:
    """Give the next program what it expects: default PIPE, CHLD, TERM, XFSZ and an empty mask."""
    for number in _DEFAULTED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def stop_ignoring() -> None:
    """Give the next program PIPE and XFSZ, which every interpreter ignores from its start; the rest is as we got it."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def fork(work, words: list | None = None) -> int:
    """Fork; the child ends with work()'s exit code, whatever happens in it.  Returns the child's pid.

    words are the name and arguments that ps shows for the child; None leaves the parent's.

    Only while single-threaded.  The child shares every descriptor; it must give up a loop it inherited
    (Loop.abandon).  An exception in it is a traceback on descriptor 2 and exit code 111.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 111
    try:
        if words is not None:
            show_command(words)
        code = work()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 111
    except BaseException as error:
        os.write(2, os.fsencode(traceback_text(error)))
    finally:
        os._exit(code or 0)


def fork_owner(sock, work, words: list | None = None) -> int:
    """Fork a child that owns sock, and close our copy: the child starts work() only then, so it closes sock last.

    words as in fork().  Returns the child's pid.  Raises OSError; sock is still ours then.
    """
    gate, key = os.pipe()

    def own():
        os.close(key)
        os.read(gate, 1)
        os.close(gate)
        return work()

    try:
        pid = fork(own, words)
        sock.close()
        return pid
    finally:
        os.close(gate)
        os.close(key)


def reap():
    """Yield (pid, wait status) of each child that has ended and was not waited for."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, status


def exit_code(wait_status: int) -> int | None:
    """Return the exit code in a wait status; None if the process was killed by a signal."""
    return os.WEXITSTATUS(wait_status) if os.WIFEXITED(wait_status) else None


def own_directories() -> list[bytes]:
    """Return the real paths of the directories our starters stand in: the interpreter's, and the package's prefix's."""
    places = [os.path.dirname(sys.executable), os.path.join(installed_prefix(), "bin")]
    return list(dict.fromkeys(os.fsencode(os.path.realpath(place)) for place in places if place))


def installed_prefix() -> str:
    """Return the directory below which bin, share and our package are: of a checkout its root."""
    beside = os.path.dirname(_PACKAGE)
    if os.path.basename(beside) in ("site-packages", "dist-packages"):
        return os.path.dirname(os.path.dirname(os.path.dirname(beside)))
    return beside


_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _starters(name):
    """Return where the starter of one of our programs may stand; nothing for a name that is not one's."""
    module = os.fsdecode(name).replace("-", "_").replace("@", "_at")
    if not name.startswith(b"py") or not os.path.exists(f"{_PACKAGE}/programs/{module}.py"):
        return []
    return [directory + b"/" + name for directory in own_directories()]


def starter(name: str) -> bytes:
    """Return the path of the executable of one of our programs."""
    places = [directory + b"/" + os.fsencode(name) for directory in own_directories()]
    return next(filter(os.path.exists, places), places[0])


def find(name: bytes, path: bytes | None) -> bytes | None:
    """Return the file that exec would run for name, searched in path: the first that could be executed; else None."""
    for candidate in candidates(name, path):
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    return None


def find_ours(name: bytes, path: bytes | None) -> str | None:
    """Return our program's name if that is what name, searched in path, leads to; else None.

    What find() finds is ours if its real path lies in our own bin directory.  What find_ahead() has found is not looked
    for again.
    """
    if (name, path) in _FOUND_AHEAD:
        return _FOUND_AHEAD[name, path]
    found = find(name, path)
    if found is None:
        return None
    directory, _, ours = os.path.realpath(found).rpartition(b"/")
    return os.fsdecode(ours) if directory in own_directories() and ours.startswith(b"py") else None


# (name, path) -> our program: how a process and its forks find it without the rights to look.  Those who ask later are
# the programs of a chain, which know nothing of the one that looked: only the process itself can keep it for them
_FOUND_AHEAD: dict[tuple[bytes, bytes | None], str] = {}


def find_ahead(words, path: bytes | None, load) -> list:
    """Find and load, with the rights we still have, each of the words that leads to a program of ours.

    load is the registry's load_ahead.  Returns their modules.
    """
    modules = []
    for at, word in enumerate(map(os.fsencode, words)):
        ours = find_ours(word, path)
        if ours is None:
            continue
        try:
            modules.append(load(ours, [os.fsdecode(word) for word in words[at + 1 :]]))
        except LookupError:
            continue
        _FOUND_AHEAD[word, path] = ours
    return modules


def become(argv: list[str], environ, load, path: bytes | None = None, name: str | None = None) -> int:
    """Go on as the program argv: called in this process if it is ours, else by exec.

    environ replaces the process's environment.  load is the registry's.  Returns the exit code of ours;
    raises the OSError if exec failed.  path: where to search, as the originals the PATH we were started with.
    name: what to search instead of argv[0].  What signals are ignored or blocked goes on to the program.
    """
    ours = find_ours(os.fsencode(argv[0] if name is None else name), path)
    if ours is not None:
        try:
            main = load(ours).main
        except LookupError:
            main = None
        if main is not None:
            fresh = dict(environ)
            os.environb.clear()
            os.environb.update(fresh)
            show_command([argv[0] or ours, *argv[1:]])
            return main(argv)
    stop_ignoring()
    raise execute([os.fsencode(word) for word in argv], dict(environ), path, name)


def _named(argv, file):
    return argv if argv[0] else [file, *argv[1:]]


def go_on(words: list[str], environ, load) -> int:
    """Become the program words[0], the last act of a chain loader; environ and load as for become().

    It is searched in the PATH this process was started with, even if environ has another.  Raises Temporary if it could
    not be run.
    """
    try:
        return become(words, environ, load, os.environb.get(b"PATH"))
    except OSError as error:
        raise Temporary(f"unable to run {words[0]}", error) from None


def _try_each(name, path, attempt, done=()) -> OSError | None:
    remembered = None
    for file in candidates(os.fsencode(name), path):
        try:
            attempt(file)
        except OSError as error:
            if error.errno in _REMEMBERED:
                remembered = error
            elif error.errno != errno.ENOENT:
                return error
        if done:
            return None
    return remembered or OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def _file_actions(descriptors, close):
    """Duplicate without one target overwriting another's source: first all to high numbers if they cross."""
    actions = []
    crossing = any(ours in descriptors and ours != theirs for theirs, ours in descriptors.items())
    if crossing:
        base = max(max(descriptors), max(descriptors.values())) + 1
        high = {theirs: base + index for index, theirs in enumerate(descriptors)}
        actions += [(os.POSIX_SPAWN_DUP2, ours, high[theirs]) for theirs, ours in descriptors.items()]
        actions += [(os.POSIX_SPAWN_DUP2, high[theirs], theirs) for theirs in descriptors]
        actions += [(os.POSIX_SPAWN_CLOSE, number) for number in high.values()]
    else:
        actions += [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in descriptors.items()]
    return actions + [(os.POSIX_SPAWN_CLOSE, number) for number in close]


class time_limit:
    """A context in which error is raised once so many whole seconds have passed.  Uses SIGALRM."""

    def __init__(self, seconds: int, error: Exception) -> None:
        self._seconds, self._error = seconds, error

    def __enter__(self):
        self._before = signal.signal(signal.SIGALRM, self._expire)
        signal.alarm(self._seconds)

    def __exit__(self, *_):
        signal.alarm(0)
        signal.signal(signal.SIGALRM, self._before)

    def _expire(self, *_):
        raise self._error
