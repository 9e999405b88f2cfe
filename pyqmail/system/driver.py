"""The two drivers of a session: blocking (alone and warm) and event (resident).

A session is a coroutine `session(driver, peer, environ)` that returns an exit code.  It asks its peer to read and
write and its driver for everything else that waits; it cannot tell which driver it has.  The blocking driver
never suspends; drive() runs such a coroutine to its end.

    peer    timeout_seconds; put(data); await flush(); await read() -> bytes, b"" at the end; close()
            has_input(): whether read() would not have to wait; await has_input_within(seconds): the same, waiting
            pause_seconds: how long read() waits before it reads, 0 not at all; for whoever only keeps us busy
            is_bulk: True while what comes is content, which costs little for each byte, False while it is commands
    driver  await run(argv, environ, descriptors, collect=None) -> (wait status, what the child wrote on `collect`)
            started(pid), if given, is called once the program runs; feeds, descriptor -> Feed (system/feeding.py), are
            what it reads there, one after the other
            await sleep(seconds); await connect(address, seconds, source=None) -> peer
            channel(path, codec) -> object with await ask(kind, body, descriptors=(), seconds=None)
            names: in a worker, who asks its resolver (tcp/names.py); else None

read() and flush() raise TimedOut when timeout_seconds pass without a byte moving, and Gone when the connection
failed.  flush() is a loop over writes: a peer that takes a byte now and then is not timed out.  The event driver's
raise Lost when they cannot wait for want of something here: that is a Gone, and a failure that is to be said.

The event driver shares the time out (system/loop.py): a session is given QUANTUM_BYTES of commands, or READ_BYTES of
content, and then stands in line for more; flush() stands in line, too, when the session's turn has lasted too long.
"""

import _signal as signal  # without their enums, which a cold start would pay half of its time for
import _socket as socket
import errno
import os
import select
from _collections import deque

from pyqmail.base.failure import Temporary
from pyqmail.system import channel as channels
from pyqmail.system.channel import Gone
from pyqmail.system.loop import WRITE, Promise, TimedOut
from pyqmail.system.polling import is_readable
from pyqmail.system.processes import spawn

READ_BYTES = 65536
QUANTUM_BYTES = 4096


class Lost(Gone, Temporary):
    """The connection is lost to us since the kernel has no room to watch it."""

    def __init__(self, error):
        super().__init__("unable to watch connection", error)


def drive(coroutine):
    """Run a coroutine over the blocking driver to its end and return what it returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("a session over the blocking driver tried to wait")


class BlockingPeer:
    """Reads one descriptor and writes another, which may be the same.  Does not own them unless it connected."""

    is_bulk, pause_seconds = False, 0  # all the same here: nobody else waits

    def __init__(self, read_fd=0, write_fd=1, timeout_seconds=1200.0):
        self._in, self._out, self.timeout_seconds = read_fd, write_fd, timeout_seconds
        self._pieces = []

    def put(self, data):
        self._pieces.append(data)

    async def flush(self):
        data, self._pieces = memoryview(b"".join(self._pieces)), []
        while data:
            self._wait(self._out, select.POLLOUT)
            try:
                data = data[os.write(self._out, data[:READ_BYTES]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Gone(str(error)) from None

    async def read(self):
        while True:
            self._wait(self._in, select.POLLIN)
            try:
                return os.read(self._in, READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Gone(str(error)) from None

    def has_input(self):
        return is_readable(self._in)

    async def has_input_within(self, seconds):
        return is_readable(self._in, seconds)

    def close(self):
        for fd in {self._in, self._out}:
            os.close(fd)

    def fileno(self):
        return self._in

    def _wait(self, fd, events):
        poll = select.poll()
        poll.register(fd, events)
        if not poll.poll(self.timeout_seconds * 1000):
            raise TimedOut


class BlockingDriver:
    """For one session in a process of its own."""

    def peer(self, read_fd=0, write_fd=1, timeout_seconds=1200.0):
        return BlockingPeer(read_fd, write_fd, timeout_seconds)

    def channel(self, path, codec):
        return channels.BlockingChannel(path, codec)

    async def run(self, argv, environ, descriptors, collect=None, path=None, started=lambda pid: None, feeds=()):
        """Raises OSError if the program cannot be started, or its end could not be seen."""
        feeds = dict(feeds)
        try:
            if collect is None and not feeds:
                pid = spawn(argv, environ, path, descriptors)
                started(pid)
                return os.waitpid(pid, 0)[1], b""
            return self._attend(argv, environ, descriptors, collect, path, started, feeds)
        finally:
            for feed in feeds.values():
                feed.end()

    def _attend(self, argv, environ, descriptors, collect, path, started, feeds):
        ours, theirs = os.pipe()
        try:
            descriptors = {**descriptors, **_open_feeds(feeds)}
            pid = spawn(argv, environ, path, descriptors if collect is None else {**descriptors, collect: theirs})
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        started(pid)
        try:
            said = self._exchange(pid, feeds.values(), ours)
        except OSError:
            os.kill(pid, signal.SIGKILL)  # it must not take a part for the whole
            os.waitpid(pid, 0)
            raise
        finally:
            os.close(ours)
        return os.waitpid(pid, 0)[1], said

    def _exchange(self, pid, feeds, collected):
        """Feed a program until it has ended; returns what it, and whoever it has left behind, said until the end."""
        said, feeding = b"", deque(feeds)
        process = os.pidfd_open(pid)
        try:
            waiting = {process, collected}
            while waiting:
                poll = select.poll()
                for fd in waiting:
                    poll.register(fd, select.POLLIN)
                if feeding:
                    poll.register(feeding[0].writer, select.POLLOUT)
                ready = {fd for fd, _ in poll.poll()}
                if process in ready:
                    waiting.discard(process)
                    feeding.clear()
                    for feed in feeds:
                        feed.end()
                if feeding and feeding[0].writer in ready and not feeding[0].write():
                    feeding.popleft()
                if collected in ready:
                    piece = os.read(collected, 4096)
                    said = (said + piece)[:65536]
                    if not piece:
                        waiting.discard(collected)
        finally:
            os.close(process)
        return said

    async def sleep(self, seconds):
        select.select([], [], [], seconds)

    async def connect(self, address, seconds, source=None):
        """Return a peer connected to address, (host, port) or a path.  Raises OSError; TimedOut after seconds."""
        sock = _socket_for(address, source)
        number = sock.connect_ex(address)
        if number == errno.EINPROGRESS:
            poll = select.poll()
            poll.register(sock, select.POLLOUT)
            if not poll.poll(seconds * 1000):
                sock.close()
                raise TimedOut
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        _check(sock, number)
        fd = sock.detach()
        return BlockingPeer(fd, fd)


class EventPeer:
    """One of the thousands: a non-blocking socket in the loop.  Owns the socket."""

    __slots__ = ("_loop", "_sock", "_fd", "timeout_seconds", "is_bulk", "pause_seconds", "_pieces", "closed")

    def __init__(self, loop, sock, timeout_seconds=1200.0):
        self._loop, self._sock, self._fd = loop, sock, sock.fileno()
        self.timeout_seconds, self.is_bulk, self.pause_seconds = timeout_seconds, False, 0
        self._pieces, self.closed = [], False

    def put(self, data):
        self._pieces.append(data)

    async def flush(self):
        if not self._pieces:
            return
        data = b"".join(self._pieces)
        self._pieces.clear()
        while True:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise Gone(str(error)) from None
            if sent == len(data):
                break
            data = data[sent:]
            try:
                await self._loop.writable(self._fd, self.timeout_seconds)
            except OSError as error:
                raise Lost(error) from None
        if self._loop.turn_is_over():
            await self._loop.give_way()

    async def read(self):
        if self.pause_seconds:
            await self._loop.sleep(self.pause_seconds)
        while True:
            try:
                await self._loop.readable(self._fd, self.timeout_seconds)
            except OSError as error:
                raise Lost(error) from None
            try:
                return self._sock.recv(READ_BYTES if self.is_bulk else QUANTUM_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Gone(str(error)) from None

    def has_input(self):
        return is_readable(self._fd)

    async def has_input_within(self, seconds):
        try:
            await self._loop.readable(self._fd, seconds)
        except TimedOut:
            return False
        except OSError as error:
            raise Lost(error) from None
        return True

    def close(self):
        if not self.closed:
            self.closed = True
            self._loop.forget(self._fd)
            self._sock.close()

    def fileno(self):
        return self._fd


class EventDriver:
    """For all sessions of one loop.  Channels are shared: one connection for each path.

    give_back(pid), or None: called with every program that run() starts, to give it limits that we have raised for us.
    """

    names = None

    def __init__(self, loop, give_back=None):
        self.loop, self._give_back = loop, give_back
        self._channels = {}

    def peer(self, sock, timeout_seconds=1200.0):
        sock.setblocking(False)
        return EventPeer(self.loop, sock, timeout_seconds)

    def channel(self, path, codec):
        if path not in self._channels:
            self._channels[path] = channels.EventChannel(self.loop, path, codec)
        return self._channels[path]

    async def run(self, argv, environ, descriptors, collect=None, path=None, started=lambda pid: None, feeds=()):
        """Raises OSError if the program cannot be started, or was ended again since we could not wait for it."""
        feeds = dict(feeds)
        try:
            return await self._attend(argv, environ, descriptors, collect, path, started, feeds)
        finally:
            self._end(feeds)

    def _end(self, feeds):
        for feed in feeds.values():
            if feed.writer >= 0:
                self.loop.forget(feed.writer)
            feed.end()

    def _feed(self, pid, feeding):
        """Feed one descriptor after the other: whoever sees the end of one too early never sees the next."""
        if not feeding:
            return
        writer = feeding[0].writer

        def ready(_):
            try:
                if feeding[0].write():
                    return
            except OSError:
                os.kill(pid, signal.SIGKILL)  # it must not take a part for the whole
                feeding.clear()
            else:
                feeding.popleft()
            self.loop.forget(writer)
            self._feed(pid, feeding)

        try:
            self.loop.watch(writer, WRITE, ready)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            feeding.clear()

    async def _attend(self, argv, environ, descriptors, collect, path, started, feeds):
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        try:
            descriptors = {**descriptors, **_open_feeds(feeds)}
            pid = spawn(argv, environ, path, descriptors if collect is None else {**descriptors, collect: theirs})
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        if self._give_back is not None:
            self._give_back(pid)
        started(pid)
        ended = Promise()

        def has_ended(status):
            self._end(feeds)
            ended.keep(status)

        try:
            self.loop.on_exit(pid, has_ended)
        except OSError:  # no descriptor left: its end could not be seen
            os.close(ours)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._feed(pid, deque(feeds.values()))
        try:
            said = b"" if collect is None else await self._hear(pid, ours)
            return await ended, said
        finally:
            self.loop.forget(ours)
            os.close(ours)

    async def _hear(self, pid, fd):
        """Return what a program, and what it has left behind, says to the end.  Raises OSError; it is killed then."""
        said = b""
        while True:
            try:
                await self.loop.readable(fd)
            except OSError:
                os.kill(pid, signal.SIGKILL)
                raise
            try:
                piece = os.read(fd, 4096)
            except BlockingIOError:
                continue
            if not piece:
                return said
            said = (said + piece)[:65536]

    async def sleep(self, seconds):
        await self.loop.sleep(seconds)

    async def connect(self, address, seconds, source=None):
        """Return a peer connected to address, (host, port) or a path.  Raises OSError; TimedOut after seconds."""
        sock = _socket_for(address, source)
        fd = sock.fileno()
        try:
            number = sock.connect_ex(address)
            if number == errno.EINPROGRESS:
                await self.loop.writable(fd, seconds)
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            _check(sock, number)
        except BaseException:
            self.loop.forget(fd)
            sock.close()
            raise
        return EventPeer(self.loop, sock)


def _open_feeds(feeds):
    for feed in feeds.values():
        feed.open()
    return {number: feed.reader for number, feed in feeds.items()}


def _socket_for(address, source):
    if isinstance(address, (str, bytes)):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    if family != socket.AF_UNIX:
        # the end of a message must not wait for the acknowledgement of what went before
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if source is not None:
        try:
            sock.bind((source, 0))
        except OSError:
            sock.close()
            raise
    return sock


def _check(sock, number):
    # reset: it was connected, and what it said before can still be read
    if number not in (0, errno.ECONNRESET):
        sock.close()
        raise OSError(number, os.strerror(number))
