"""The workers of one user: how many there are, what waits for them, and the process of each.

    task waits --+-- a worker is idle -------------------------> it gets the task
                 +-- fewer than AT_ONCE workers ---------------> a new one, now
                 +-- none idle for BUSY_SECONDS ---------------> as many new ones as there are, if so many are needed
                 +-- a worker cannot be had or reached --------> all tasks wait, each time longer

    worker idle for IDLE_SECONDS --> its socket is closed, it reads the end and exits

What is kept true:

- A worker belongs to one uid and gid for its whole life.  It gave up root before its first task, so it cannot serve
  another user, and what a user's delivery does to it (exhaust its memory, stop it, kill it) touches nobody else's mail.
- A worker has one task at a time: one delivery, or some to one recipient together.  What it has given no answer for by
  its end has not been delivered, whatever the exit code says, and is reported so.
- The pool outlives its workers: the queue and the pause between tries are its own.  The spawner forgets a pool when it
  has no worker, no task and no timer.
- That no worker can be had (no memory, no descriptor, no process), or one cannot be given its task, is not the fault of
  the task.  The task goes back to the head of the queue, and only after MAX_TRIES failures in a row everything that
  waits is deferred.
- Nothing here waits: sockets do not block, children are watched by the loop, and the number of deliveries at once is
  bounded by the spawner's concurrency.

What a worker does in its process is in worker_main.py.
"""

import _signal as signal  # without its enums
import _socket as socket  # without its enums
import os
import time
from _collections import deque  # collections brings much that this has no use for

from pyqmail.base.backoff import Backoff
from pyqmail.mail.local import worker_main
from pyqmail.mail.spawners.server import NO_FORK, NO_PIPE, warn_again
from pyqmail.protocol.wires import local_wire
from pyqmail.protocol.wires.frames import MalformedFrame
from pyqmail.system.channel import refuse_descriptors, send_with
from pyqmail.system.coroutines import READ
from pyqmail.system.processes import exit_code, fork

IDLE_SECONDS = 3.0
BUSY_SECONDS = 0.02  # a task waits so long for a busy worker before more are started
MAX_TRIES = 10  # about fifteen seconds
AT_ONCE = 2 * (os.cpu_count() or 1)  # workers of one user that start without delay: their fsyncs overlap


class WorkerPool:
    """The workers of one user and what waits for them.

    A task has start(worker) -> whether there is something to do; handle_answer(worker, kind, number, body) -> whether
    the worker is done with it; worker_lost(code) and refuse(report).
    """

    def __init__(self, deliveries, key, work) -> None:
        self._deliveries, self._loop, self._key, self._work = deliveries, deliveries.loop, key, work
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._waiting: deque = deque()
        self._timer = None
        self._sweeper = None
        self._backoff, self._pause = Backoff(0.02, 5.0), None

    def submit(self, task) -> None:
        self._waiting.append(task)
        self._assign()

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            os.waitpid(worker.pid, 0)

    def worker_is_idle(self, worker) -> None:
        """A worker has finished its task."""
        if self._waiting and self._pause is None:
            self._start_next_task(worker)
        else:
            self._keep_idle(worker)

    def _keep_idle(self, worker):
        worker.idle_since = time.monotonic()
        self._idle.append(worker)
        if self._sweeper is None:
            self._sweeper = self._loop.after(IDLE_SECONDS, self._sweep)

    def worker_has_ended(self, worker) -> None:
        """A worker has ended."""
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if self._waiting:
            self._assign()
        elif not self._workers and self._sweeper is None:
            self._deliveries.forget_pool(self._key)

    def _assign(self):
        while self._waiting and self._idle and self._pause is None:
            self._start_next_task(self._idle.pop())
        if self._pause is not None:
            return
        at_once = min(AT_ONCE, self._deliveries.max_workers)
        while self._waiting and self._pause is None and len(self._workers) < at_once:
            if not self._add_worker():
                return
        may_grow = len(self._workers) < self._deliveries.max_workers
        if self._waiting and self._timer is None and self._pause is None and may_grow:
            self._timer = self._loop.after(BUSY_SECONDS, self._add_workers)

    def _start_next_task(self, worker):
        while self._waiting:
            task = self._waiting.popleft()
            try:
                has_work = worker.start_task(task)
            except OSError as error:
                self._waiting.appendleft(task)
                if worker.is_there:
                    self._keep_idle(worker)
                self._try_later("reach a worker", error, NO_PIPE)
                return
            self._backoff.reset()
            if has_work:
                return
        self._keep_idle(worker)

    def _try_later(self, what, error, report):
        if not self._backoff.tries:
            warn_again(what, error)
        pause = self._backoff.next_seconds()
        if self._backoff.tries >= MAX_TRIES:
            self._backoff.reset()
            while self._waiting:
                self._waiting.popleft().refuse(report)
        elif self._pause is None:
            self._pause = self._loop.after(pause, self._go_on)

    def _go_on(self):
        self._pause = None
        self._assign()

    def _add_workers(self):
        """Tasks have waited: double the workers, if so many are needed."""
        self._timer = None
        number = len(self._workers)
        for _ in range(min(len(self._waiting), number or 1, self._deliveries.max_workers - number)):
            if not self._waiting or self._pause is not None or not self._add_worker():
                return
        self._assign()

    def _add_worker(self):
        """Start a worker and give it the first task; return False if none can be had now."""
        try:
            worker = Worker(self._deliveries, self, self._work)
        except OSError as error:
            if not self._workers:
                self._try_later("start a worker", error, NO_FORK)
            return False
        self._workers.add(worker)
        self._start_next_task(worker)
        return True

    def _sweep(self):
        """Dismiss workers that have been idle for long; the longest idle are first in the list."""
        self._sweeper = None
        now = time.monotonic()
        while self._idle and self._idle[0].idle_since + IDLE_SECONDS <= now:
            self._idle.pop(0).dismiss()
        if self._idle:
            self._sweeper = self._loop.at(self._idle[0].idle_since + IDLE_SECONDS, self._sweep)
        elif not self._workers:
            self._deliveries.forget_pool(self._key)


class Worker:
    """One worker process and our end of its socket.  Raises OSError if it cannot be started."""

    def __init__(self, deliveries, pool, work) -> None:
        self._loop, self._pool, self._task, self.idle_since = deliveries.loop, pool, None, 0.0
        self._has_ended, self._sock, self._listening = False, None, Backoff()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # it will be a user's process, and to close a descriptor that it passes could stop all deliveries
        refuse_descriptors(ours)
        try:
            self.pid = fork_watched(
                self._loop, lambda: self._run_child(deliveries, theirs.fileno(), work), self._exited
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._sock = ours
        try:
            self._listen()
        except OSError:
            self.kill()
            raise

    @property
    def is_there(self) -> bool:
        return self._sock is not None

    def start_task(self, task) -> bool:
        """Start a task; return whether there is something to do.

        Raises OSError if the worker cannot be reached; one that has gone is killed and given up.
        """
        self._task = task
        try:
            if not task.start(self):
                self._task = None
            return self._task is not None
        except OSError as error:
            self._task = None
            if isinstance(error, (BrokenPipeError, ConnectionResetError)):
                self.kill()
            raise

    def send(self, packet, descriptors=()) -> None:
        """Raises OSError."""
        if self._sock is None:
            raise BrokenPipeError
        send_with(self._sock, packet, descriptors)

    def _listen(self):
        if self._sock is not None:
            self._loop.watch(self._sock.fileno(), READ, lambda _: self._receive())

    def _listen_later(self, error):
        """Its answer could not be read for a passing reason: try again later, the answer stays in the socket."""
        if not self._listening.tries:
            warn_again("hear a worker", error)
        self._loop.forget(self._sock.fileno())
        self._loop.after(self._listening.next_seconds(), self._listen_again)

    def _listen_again(self):
        try:
            self._listen()
        except OSError as error:
            self._listen_later(error)

    def dismiss(self) -> None:
        """Close its socket: the worker reads the end and exits."""
        if self._sock is not None:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def kill(self) -> None:
        self.dismiss()
        if not self._has_ended:
            os.kill(self.pid, signal.SIGKILL)

    def _run_child(self, deliveries, socket_fd, work):
        deliveries.loop.abandon()
        worker_main.prepare_child(socket_fd, deliveries.home, deliveries.open_files)
        return work()

    def _receive(self):
        while self._sock is not None:
            try:
                packet = self._sock.recv(local_wire.PACKET_LIMIT)
                self._listening.reset()
                if not packet:
                    self.dismiss()
                    return
                kind, number, body = local_wire.unpack(packet)
                if self._task is None:
                    raise MalformedFrame("nothing was asked")
                if self._task.handle_answer(self, kind, number, body):
                    self._task = None
                    self._pool.worker_is_idle(self)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError, MalformedFrame):
                self.kill()
            except OSError as error:
                self._listen_later(error)
                return

    def _exited(self, status):
        self._has_ended = True
        if self._sock is not None:
            self._receive()  # it may have answered before it ended
        self.dismiss()
        task, self._task = self._task, None
        if task is not None:
            task.worker_lost(exit_code(status))
        self._pool.worker_has_ended(self)


def fork_watched(loop, work, ended) -> int:
    """Fork a child that does work(), whose end calls ended(wait status).  Raises OSError: then there is no child."""
    pid = fork(work, ["pylocal"])
    try:
        loop.on_exit(pid, ended)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return pid
