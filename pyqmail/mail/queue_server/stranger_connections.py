"""Connections of strangers as pyqueued sees them: a process for each (stranger_process.py), and what all may use.

pyqueued holds one end of a channel to the process, never the connection itself.  Between accepting a connection and
closing it again there is one fork(), and the process goes on only once pyqueued's copy is closed.  So pyqueued is never
the last to close a connection, which could wait for a descriptor that lies unread in it.  The same holds for refused
connections: one process, which only exits, is forked for all of them that came in one turn of the loop.

Bounds: there is a maximum of connections for all strangers together; at that maximum the uid with most connections
gives one up to a uid that has fewer.  A process costs a thousand times what a connection costs the client.  So only a
few processes are made in a turn of the loop, for one uid after the other; a client that connects faster waits, then is
refused.  Writing requests have turns, so have large frames.  A process that cannot be killed, since it waits in the
kernel, is not waited for, and counts against its uid.

A fault of the kernel (no memory for a packet) is not the stranger's: the packet is sent, or read, after a pause.
"""

import collections
import os
import signal
import socket

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_hang_up, reason
from pyqmail.mail.queue_server import stranger_process
from pyqmail.mail.queue_server.message_copy import keep_only
from pyqmail.mail.queue_server.stranger_process import COPY, DONE, DROPPED, GRANT, INLINE, NO_ROOM, ROOM, VERDICT, pack
from pyqmail.mail.queue_server.turns import Turn, Turns
from pyqmail.system.channel import send_with
from pyqmail.system.coroutines import READ
from pyqmail.system.polling import has_hung_up
from pyqmail.system.processes import fork
from pyqmail.system.stream import Outgoing

STRANGERS = 200  # connections
TURNS_OF_UID = 20  # copies, and as many requests inline
_TURNS = 100
_ROOMS_OF_UID = 8  # frames of more than 64 KB, held in memory
_ROOMS = 32
_FORKS = 4  # in a turn of the loop
_MAX_UNSERVED = 16  # accepted while no process could be made
_MAX_PACKETS = 32  # of one process in a turn of the loop
_FIRST_SECONDS, _MAX_SECONDS = 0.1, 5.0  # pauses until a process is tried again


class Link:
    """The channel to the process of one connection, and what it has under way: number -> request, number -> Turn.

    lost() is called if the process has gone, or does not take what it asked for.  What the kernel lacks for a packet is
    waited for: packets go out in their order, after growing pauses.
    """

    __slots__ = ("uid", "pid", "channel", "requests", "turns", "room", "reading", "_unsent", "_outgoing")

    def __init__(self, loop, uid, pid, channel, lost):
        self.uid, self.pid, self.channel = uid, pid, channel
        self.requests, self.turns, self.room = {}, {}, None
        self.reading = Backoff(_FIRST_SECONDS, _MAX_SECONDS)
        self._unsent = collections.deque()  # packet, the staged message whose descriptors go with it, or None
        self._outgoing = Outgoing(loop, self._send_one, None, lambda: lost(self), max_seconds=_MAX_SECONDS)

    def answer(self, number, exit_code, qp):
        self.send(pack(VERDICT, number, exit_code, (qp,)))

    def send(self, packet, staged=None):
        """Send a packet, and the descriptors of a staged message, which are closed here once they are sent."""
        if self.channel is not None:
            self._unsent.append((packet, staged))
            self._outgoing.write()

    def _send_one(self):
        if not self._unsent:
            return False
        packet, staged = self._unsent[0]
        try:
            send_with(self.channel, packet, staged.descriptors() if staged else ())
        except BlockingIOError:
            raise BrokenPipeError from None  # it asks, and does not read the answers
        self._unsent.popleft()
        if staged:
            staged.close()
        return bool(self._unsent)

    def close(self):
        self._outgoing.close()
        channel, self.channel = self.channel, None
        channel.close()

    def kill(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except OSError:
            pass  # it has ended


class StrangerConnections:
    """server is the QueueServer: open_request(link, number), queue(request), fail(request, code, why)."""

    def __init__(self, loop, server, store, log, limit):
        self._loop, self._server, self._store, self._log = loop, server, store, log
        self._limit = limit
        self._links, self._of_uid = set(), collections.Counter()  # of_uid: connections, those that wait included
        self._processes, self._alive = {}, collections.Counter()  # pid -> its link, or None; uid -> processes
        self._unserved = {}  # uid -> its connections that wait for a process
        self._refused, self._is_stopping, self._is_serving, self._is_unable = [], False, False, False
        self._inline, self._copies = Turns(TURNS_OF_UID, _TURNS), Turns(TURNS_OF_UID, _TURNS)
        self._rooms = Turns(_ROOMS_OF_UID, _ROOMS)
        self._unable = Backoff(_FIRST_SECONDS, _MAX_SECONDS)
        self._disposing, self._again = Backoff(_FIRST_SECONDS, _MAX_SECONDS), None
        loop.on_signal(signal.SIGCHLD, self._reap)

    @property
    def is_idle(self):
        return not any(link.turns or link.requests for link in self._links)

    @property
    def is_full(self):
        """True while nobody more should be accepted, since no process can be made."""
        return self._is_unable and sum(map(len, self._unserved.values())) >= _MAX_UNSERVED

    def take(self, sock, uid):
        """Serve an accepted connection when its uid's turn has come, or refuse it."""
        if has_hung_up(sock):
            self._refused.append(sock)  # no process for each of those who only come and go
            return
        if not self._make_room(uid):
            self._refuse(sock, uid)
            return
        self._of_uid[uid] += 1
        self._unserved.setdefault(uid, collections.deque()).append(sock)
        if not self._is_serving:
            self._is_serving = True
            self._loop.soon(self._serve_some)

    def dispose(self, sockets=()):
        """Close what was refused, and these, without waiting for what lies in them."""
        sockets = [*self._refused, *sockets]
        if not sockets:
            return
        self._refused = []
        try:
            self._close_elsewhere(sockets)
            self._disposing.reset()
        except OSError:
            self._refused = sockets
            if self._again is None:
                self._again = self._loop.after(self._disposing.next_seconds(), self._dispose_again)

    def _dispose_again(self):
        self._again = None
        self.dispose()

    def stop(self):
        """Begin nothing more; what waits for its turn is refused."""
        self._is_stopping = True
        waiting, self._unserved = self._unserved, {}
        self.dispose([sock for sockets in waiting.values() for sock in sockets])
        for link in self._links:
            for number, turn in list(link.turns.items()):
                if not turn.is_taken:
                    link.turns.pop(number).give_back()
                    link.answer(number, 71, 0)

    def kill(self):
        for link in list(self._links):
            self._end(link)

    def close(self):
        """Let every process tell its client what it has, and end."""
        for link in list(self._links):
            self._forget(link)

    # processes

    def _make_room(self, uid):
        """Return whether one more connection of this uid may be served; may end one of who has the most."""
        if self._alive[uid] >= self._limit or len(self._processes) >= 2 * self._limit:
            return False
        if self._of_uid.total() < self._limit:
            return True
        hog, count = max(self._of_uid.items(), key=lambda item: item[1])
        if count <= self._of_uid[uid] + 1:
            return False
        if hog in self._unserved:
            self._refuse(self._take_unserved(hog), hog)
            _count_out(self._of_uid, hog)
        else:
            self._end(min((link for link in self._links if link.uid == hog), key=lambda link: len(link.requests)))
        return True

    def _refuse(self, sock, uid):
        self._log.warn(f"connection of uid {uid} refused: too many connections", "refused")
        self._refused.append(sock)

    def _take_unserved(self, uid):
        """Return the oldest connection of a uid that waits; the uid stands behind the others then."""
        sockets = self._unserved.pop(uid)
        sock = sockets.popleft()
        if sockets:
            self._unserved[uid] = sockets
        return sock

    def _serve_some(self):
        """Make a few processes; what else there is to do comes before the next."""
        was_unable, self._is_unable = self._is_unable, False
        for _ in range(_FORKS):
            if not self._unserved or self._is_unable:
                break
            self._serve_one(next(iter(self._unserved)))
        self.dispose()
        self._is_serving = bool(self._unserved)
        if not self._is_unable:
            self._unable.reset()
        if self._is_serving:
            self._loop.after(self._unable.next_seconds() if self._is_unable else 0, self._serve_some)
        if was_unable:
            self._server.listen_again()

    def _serve_one(self, uid):
        sock = self._take_unserved(uid)
        if has_hung_up(sock):
            self._refused.append(sock)
            _count_out(self._of_uid, uid)
        else:
            self.dispose()  # the new process must not have a copy of what was refused
            self._serve(sock, uid)

    def _serve(self, sock, uid):
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        except OSError as error:
            self._put_off(sock, uid, error)
            return
        try:
            pid = fork(lambda: stranger_process.serve_stranger(self._loop, sock, theirs, uid, self._store))
        except OSError as error:
            ours.close()
            self._put_off(sock, uid, error)
            return
        finally:
            theirs.close()
        sock.close()
        try:
            os.setpgid(pid, pid)
        except OSError:
            pass  # it has done so, and may have ended
        ours.setblocking(False)
        link = self._processes[pid] = Link(self._loop, uid, pid, ours, self._end_soon)
        self._links.add(link)
        self._alive[uid] += 1
        self._watch(link)
        link.send(b"\0")

    def _close_elsewhere(self, sockets):
        """Close sockets, the last time in a process of their own.  Raises OSError: then they stay open."""
        reader, writer = os.pipe2(os.O_CLOEXEC)

        def work():
            self._loop.abandon()
            keep_only((reader, *(sock.fileno() for sock in sockets)))
            os.read(reader, 1)  # ends once pyqueued has closed its own
            os._exit(0)  # an exit does not linger, as closing does

        try:
            self._processes[fork(work)] = None
            for sock in sockets:
                sock.close()
        finally:
            os.close(reader)
            os.close(writer)

    def _put_off(self, sock, uid, error):
        self._log.warn(f"unable to make a process: {reason(error)}", "fork")
        self._is_unable = True
        self._unserved.setdefault(uid, collections.deque()).appendleft(sock)

    def _reap(self):
        for pid, link in list(self._processes.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                if link is not None:
                    self._end(link)  # before its number may be another's
                    _count_out(self._alive, link.uid)
                os.waitpid(pid, 0)
                del self._processes[pid]

    def _end_soon(self, link):
        self._loop.soon(lambda: self._end(link))

    def _end(self, link):
        """End a process, what it has under way included."""
        link.kill()
        if link.channel is not None:
            self._forget(link)

    def _forget(self, link):
        self._loop.forget(link.channel.fileno())
        link.close()
        self._links.discard(link)
        _count_out(self._of_uid, link.uid)
        turns, link.turns = link.turns, {}
        for turn in (*turns.values(), *((link.room,) if link.room else ())):
            turn.give_back()
        for request in link.requests.values():
            self._server.fail(request, 81)
        link.requests.clear()
        self._server.stop_if_done()

    # packets

    def _watch(self, link):
        if link.channel is not None:
            self._loop.watch_surely(link.channel.fileno(), READ, lambda _: self._receive_some(link))

    def _receive_some(self, link):
        for _ in range(_MAX_PACKETS):
            if link.channel is None:
                return
            try:
                packet = stranger_process.receive(link.channel)
            except BlockingIOError:
                return
            except OSError as error:
                if not is_hang_up(error):  # the kernel lacks something: it says nothing about the process
                    self._loop.forget(link.channel.fileno())
                    self._loop.after(link.reading.next_seconds(), lambda: self._watch(link))
                    return
                packet = None
            if packet is None:
                self._end(link)
                return
            link.reading.reset()
            self._handle_packet(link, *packet)

    def _handle_packet(self, link, kind, number, code, _, text, descriptors):
        if kind in (INLINE, COPY):
            self._ask(link, kind, number)
        elif kind == DONE:
            self._done(link, number, code, text)
        elif kind == ROOM:
            link.room = Turn(self._rooms, link.uid, lambda: link.send(pack(ROOM, 0)))
            link.room.ask()
        elif kind == NO_ROOM:
            room, link.room = link.room, None
            room.give_back()
        elif kind == DROPPED:
            self._log.warn(f"connection of uid {link.uid} dropped: {text}", ("dropped", text))

    def _ask(self, link, kind, number):
        if self._is_stopping:
            link.answer(number, 71, 0)
            return
        turns = self._inline if kind == INLINE else self._copies
        turn = link.turns[number] = Turn(turns, link.uid, lambda: self._grant(link, number))
        turn.ask()

    def _grant(self, link, number):
        opened = self._server.open_request(link, number)
        if opened is None:
            link.turns.pop(number).give_back()
            return
        link.requests[number], new = opened, opened.new
        origin, bounds, staged = new.origin, new.bounds, new.staged
        values = origin.qp, origin.seconds, staged.number, bounds.message_bytes, bounds.free_bytes
        link.send(pack(GRANT, number, 0, values), staged)

    def _done(self, link, number, code, why):
        request = link.requests.pop(number)
        link.turns.pop(number).give_back()
        if code == 0:
            self._server.queue(request)
        else:
            self._server.fail(request, code, why)
        self._server.stop_if_done()


def _count_out(counter, uid):
    counter[uid] -= 1
    if not counter[uid]:
        del counter[uid]
