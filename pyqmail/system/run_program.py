"""A program that a session runs and waits for: started, fed, heard to its end.

Each driver waits in its own way: run_blocking() holds the whole process up, run_in_loop() suspends the session.
"""

import _signal as signal  # without its enums, which a cold start would pay half of its time for
import os
import select
from _collections import deque

from pyqmail.system.coroutines import WRITE, Promise
from pyqmail.system.processes import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

SAID_LIMIT = 65536
_PIECE = 4096


class ProgramRun:
    """What a program is started with.

    descriptors   number there -> descriptor here
    collect       number there of what is collected, or None
    path          where a name without a slash is looked for, or None
    started       called with the pid once the program runs
    feeds         number there -> Feed (system/feeding.py), read one after the other
    """

    __slots__ = ("_argv", "_environ", "_descriptors", "collect", "_path", "started", "feeds")

    def __init__(
        self,
        argv: "Any",
        environ: "Any",
        descriptors: "Mapping[int, int]",
        collect: int | None = None,
        path: bytes | None = None,
        started: "Callable[[int], object]" = lambda pid: None,
        feeds: "Any" = (),
    ) -> None:
        self._argv, self._environ, self._descriptors = argv, environ, descriptors
        self.collect, self._path, self.started, self.feeds = collect, path, started, dict(feeds)

    def spawn(self, more: "Any" = ()) -> int:
        """Start the program with more descriptors; returns its pid.  Raises OSError."""
        return spawn(self._argv, self._environ, self._path, {**self._descriptors, **dict(more)})

    def spawn_with_pipes(self) -> tuple[int, int]:
        """Start it with all its pipes; returns (pid, descriptor of what is collected).  Raises OSError."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            for feed in self.feeds.values():
                feed.open()
            more = {number: feed.reader for number, feed in self.feeds.items()}
            if self.collect is not None:
                more[self.collect] = theirs
            return self.spawn(more), ours
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)

    def end_feeds(self) -> None:
        """Let each feed see what the program has read, and close it; may be called again."""
        for feed in self.feeds.values():
            feed.end()


def run_blocking(run: ProgramRun) -> tuple[int, bytes]:
    """Run a program to its end; returns (wait status, what it wrote on `collect`).

    Raises OSError if it cannot be started, or its end could not be seen.
    """
    try:
        if run.collect is None and not run.feeds:
            pid = run.spawn()
            run.started(pid)
            return os.waitpid(pid, 0)[1], b""
        return _attend(run)
    finally:
        run.end_feeds()


def _attend(run: ProgramRun) -> tuple[int, bytes]:
    pid, collected = run.spawn_with_pipes()
    run.started(pid)
    try:
        said = _exchange(run, pid, collected)
    except OSError:
        os.kill(pid, signal.SIGKILL)  # it must not take a part for the whole
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(collected)
    return os.waitpid(pid, 0)[1], said


def _exchange(run: ProgramRun, pid: int, collected: int) -> bytes:
    """Feed a program until it has ended; returns what it, and whatever it has left behind, wrote until the end."""
    said, feeding = b"", deque(run.feeds.values())
    process = os.pidfd_open(pid)
    try:
        waiting = {process, collected}
        while waiting:
            ready = _wait_for(waiting, feeding[0].writer if feeding else -1)
            if process in ready:
                waiting.discard(process)
                feeding.clear()
                run.end_feeds()
            if feeding and feeding[0].writer in ready and not feeding[0].write():
                feeding.popleft()
            if collected in ready:
                piece = os.read(collected, _PIECE)
                said = (said + piece)[:SAID_LIMIT]
                if not piece:
                    waiting.discard(collected)
    finally:
        os.close(process)
    return said


def _wait_for(readers: set[int], writer: int) -> set[int]:
    """Return those that are ready; writer is -1 for none."""
    poll = select.poll()
    for fd in readers:
        poll.register(fd, select.POLLIN)
    if writer >= 0:
        poll.register(writer, select.POLLOUT)
    return {fd for fd, _ in poll.poll()}


async def run_in_loop(
    loop: "Any", run: ProgramRun, give_back: "Callable[[int], None] | None" = None
) -> tuple[int, bytes]:
    """The same for a session of a loop.  give_back: see EventDriver.

    Raises OSError if it cannot be started, or was ended again since we could not wait for it.
    """
    try:
        return await _attend_in_loop(loop, run, give_back)
    finally:
        _end_feeds_in_loop(loop, run)


async def _attend_in_loop(loop: "Any", run: ProgramRun, give_back: "Callable[[int], None] | None") -> tuple[int, bytes]:
    pid, collected = run.spawn_with_pipes()
    os.set_blocking(collected, False)
    if give_back is not None:
        give_back(pid)
    run.started(pid)
    ended = Promise()

    def has_ended(status: int) -> None:
        _end_feeds_in_loop(loop, run)
        ended.keep(status)

    try:
        loop.on_exit(pid, has_ended)
    except OSError:  # no descriptor left: its end could not be seen
        os.close(collected)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    _feed_in_loop(loop, pid, deque(run.feeds.values()))
    try:
        said = b"" if run.collect is None else await _hear(loop, pid, collected)
        return await ended, said
    finally:
        loop.forget(collected)
        os.close(collected)


def _end_feeds_in_loop(loop: "Any", run: ProgramRun) -> None:
    for feed in run.feeds.values():
        if feed.writer >= 0:
            loop.forget(feed.writer)
    run.end_feeds()


def _feed_in_loop(loop: "Any", pid: int, feeding: "Any") -> None:
    """Feed one descriptor after the other: a program that sees the end of one too early never sees the next."""
    if not feeding:
        return
    writer = feeding[0].writer

    def ready(_: int) -> None:
        try:
            if feeding[0].write():
                return
        except OSError:
            os.kill(pid, signal.SIGKILL)  # it must not take a part for the whole
            feeding.clear()
        else:
            feeding.popleft()
        loop.forget(writer)
        _feed_in_loop(loop, pid, feeding)

    try:
        loop.watch(writer, WRITE, ready)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        feeding.clear()


async def _hear(loop: "Any", pid: int, fd: int) -> bytes:
    """Return what a program, and what it has left behind, writes to the end.  Raises OSError; it is killed then."""
    said = b""
    while True:
        try:
            await loop.readable(fd)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            raise
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            continue
        if not piece:
            return said
        said = (said + piece)[:SAID_LIMIT]
