"""The queue manager: its parts, wired on one loop.

Each turn of the loop brings reports, answers and new mail; what they mean is settled once, at the end of the turn:
bounce texts and marks, finished messages, passes that are due, deliveries to start.  Then the log goes out, then the
commands to the spawners.
"""

import time

from pyqmail.mail.destinations.engine import Immediate, Sessions
from pyqmail.mail.destinations.parcels import by_message
from pyqmail.mail.manager.channel import Channel
from pyqmail.mail.manager.cleanup import Cleaner, Sweep
from pyqmail.mail.manager.completion import Completion
from pyqmail.mail.manager.passes import Files
from pyqmail.mail.manager.queue_scan import QueueScan
from pyqmail.mail.manager.todo import Todo
from pyqmail.mail.manager_log.sendlog import SendLog
from pyqmail.mail.manager_log.status_line import StatusLine
from pyqmail.mail.queue.file_store import FileStore
from pyqmail.mail.routing.rewrite import LOCAL, REMOTE, Rewriter
from pyqmail.protocol.bounce_notice import BounceNotices
from pyqmail.system.driver import EventDriver
from pyqmail.system.fsync_batch import FsyncBatch

MAX_SECONDS = 86400
EXIT_SECONDS = 10  # for the cleaner's last answers, and for the reader of the log
_ROUNDS = 8


class ManagerSettings:
    """What the control files say.  Raises OSError or LookupError if that cannot be known."""

    def __init__(self, controls) -> None:
        get = controls.get
        self._controls = controls
        self.lifetime = get("queuelifetime")
        self.limits = {LOCAL: get("concurrencylocal"), REMOTE: get("concurrencyremote")}
        names = "bouncefrom", "bouncehost", "doublebounceto", "doublebouncehost"
        self.notices = BounceNotices(*map(get, names), get("bouncemaxbytes") or None)
        self.rewriting = Rewriter(get("envnoathost"), get("percenthack"), self.locals(), get("virtualdomains"))

    def locals(self) -> list[bytes]:
        """Return control/locals.  Raises OSError; LookupError if there is neither it nor control/me."""
        found = self._controls.get("locals")
        if found is None:
            raise LookupError("there is neither control/me nor control/locals")
        return found

    def reread(self) -> bytes | None:
        """Read locals and virtualdomains again; if one cannot be read, nothing changes and the alert is returned."""
        try:
            locals_ = self.locals()
        except (OSError, LookupError):
            return b"alert: unable to reread control/locals"
        try:
            virtualdomains = self._controls.get("virtualdomains")
        except OSError:
            return b"alert: unable to reread control/virtualdomains"
        self.rewriting.use(locals_, virtualdomains)
        return None


class Manager:
    """Also the *office* its parts share: loop, log, names, files, rewriting, notices, lifetime, home, completion."""

    clock = staticmethod(time.monotonic)

    def __init__(self, loop, home, names, settings, environ, log_fd=0) -> None:
        self.loop, self.home, self.names, self._settings = loop, home, names, settings
        self.log = SendLog(loop, log_fd)
        self.files = Files(names)
        self.rewriting, self.notices, self.lifetime = settings.rewriting, settings.notices, settings.lifetime
        self._environ = environ
        self._channels, self._deliveries = {}, 0
        self._settling = self._exiting = self._is_final = self._has_ended = self._alarmed = self._has_begun = False
        self._is_overdue = False
        self._timer = self._status_timer = None
        self._status = StatusLine()
        self._spawners = ()
        self.completion = self._cleaner = self._todo = self._scan = self._sweep = self._resolving = None

    # wiring

    def use_spawners(self, local, remote, with_sessions: bool) -> None:
        """Spawners that have been greeted."""
        self._spawners = local, remote
        for name, spawner in ((LOCAL, local), (REMOTE, remote)):
            wanted = self._settings.limits[name]
            limit = min(wanted, spawner.limit)
            if limit < wanted:
                values = name.encode(), wanted, limit
                self.log.put(b"warning: concurrency%b: of %d its spawner takes only %d at once" % values)
            channel = Channel(self, name, _engine(name, limit, with_sessions), spawner, self._resolve)
            self._channels[name] = channel
            spawner.start(channel, lambda channel=channel: self._spawner_lost(channel))

    def use_cleaner(self, write_fd: int, read_fd: int) -> None:
        self._cleaner = Cleaner(self.loop, write_fd, read_fd, self.settle_soon, self._cleaner_lost, self.log.flush)
        self.completion = Completion(self, self._cleaner, EventDriver(self.loop), self._environ)
        store = FileStore(self.names, sync=FsyncBatch().sync)
        self._todo = Todo(self, self._channels, self._cleaner, store, self.forget)
        self._scan = QueueScan(self, self._channels, self.completion.remove_leftovers)
        self._sweep = Sweep(self.loop, self.log, self.names, self._cleaner, self._todo.messages.__contains__)

    def use_resolver(self, make) -> None:
        """make(lost) returns the Resolving."""
        self._resolving = make(lambda: self._die(b"alert: oh no! lost pyresolve connection! dying..."))
        self._channels[REMOTE].engine.plan_of = self._resolving.plan_of

    def start(self) -> None:
        self.log_status()
        # a cleaner that a killed queue manager left behind may still be removing what we would take for ours
        self._cleaner.greet(lambda _: self._begin())

    def _begin(self):
        if self._exiting:
            return
        self._has_begun = True
        self._todo.start()
        self._scan.start()
        self._sweep.start()
        self.settle_soon()

    def _resolve(self, domain, channel):
        self._resolving.resolve(domain, channel)

    # what the parts ask of the office

    def next_delivery(self) -> int:
        self._deliveries += 1
        return self._deliveries

    def forget(self, number: int) -> None:
        """A new message has this number: whatever is known under it is of one that was removed."""
        for channel in self._channels.values():
            channel.forget(number)
        self.completion.forget(number)

    def seen(self, number: int) -> None:
        """A message is new since the start."""
        if not self._scan.ended:
            self._scan.new.add(number)

    def log_status(self) -> None:
        local, remote = self._channels[LOCAL], self._channels[REMOTE]
        self.log.put(
            b"status: local %d/%d remote %d/%d%b"
            % (local.busy, local.limit, remote.busy, remote.limit, b" exitasap" if self._exiting else b"")
        )
        self._status.shown((local.busy, remote.busy), self.clock())

    def _check_status(self):
        """See to it that a quiet log shows numbers that have changed."""
        when = self._status.due((self._channels[LOCAL].busy, self._channels[REMOTE].busy))
        if when is None or self._has_ended:
            return
        if when <= self.clock():
            self.log_status()
        elif self._status_timer is None or self._status_timer.when is None:
            self._status_timer = self.loop.at(when, self._check_status)

    def settle_soon(self) -> None:
        """Settle at the end of this turn."""
        if not self._settling:
            self._settling = True
            self.loop.soon(self._settle)

    # the end of a turn

    def _settle(self):
        self._settling = False
        if self._has_ended:
            return
        channels, now, more = self._channels.values(), int(time.time()), False
        for _ in range(_ROUNDS):
            for channel in channels:
                channel.settle()
            self.completion.advance(now)
            for channel in channels:
                if not self._exiting:
                    more = channel.open_passes(now) or more
                channel.advance()
            if not any(channel.is_touched for channel in channels):
                break
        else:
            more = True
        self._check_status()
        if self._exiting:
            self._try_to_end()
        else:
            self._set_timer(more)

    def _set_timer(self, at_once):
        now = self.clock()
        dues = [channel.next_due() for channel in self._channels.values()] + [self.completion.next_due()]
        waits = [due - time.time() + 0.01 for due in dues if due is not None]  # a little late rather than too early
        waits += [when - now for when in (c.engine.next_time() for c in self._channels.values()) if when is not None]
        if at_once:
            waits.append(0)
        if not waits:
            if self._timer is not None:
                self._timer.cancel()
            return
        when = now + min(MAX_SECONDS, max(0, min(waits)))
        if self._timer is None:
            self._timer = self.loop.at(when, self._wake)
        else:
            self._timer.move(when)

    def _wake(self):
        self.settle_soon()

    # signals and the end

    def make_due(self) -> None:
        """ALRM: everything is due now."""
        self._alarmed = self._scan.all_due = True
        self._todo.make_due(int(time.time()))
        self.completion.make_due(int(time.time()))
        for channel in self._channels.values():
            channel.heap.make_due(int(time.time()))
        self.settle_soon()

    def reread(self) -> None:
        """HUP: locals and virtualdomains again."""
        alert = self._settings.reread()
        if alert is not None:
            self.log.put(alert)

    def exit_soon(self) -> None:
        """TERM: start nothing more; end once all that runs has been reported."""
        if not self._exiting:
            self._exiting = True
            if self._has_begun:
                for part in (self._todo, self._scan, self._sweep, self.completion):
                    part.stop()
            for channel in self._channels.values():
                channel.engine.stop()
        self.settle_soon()

    def _spawner_lost(self, channel):
        channel.lose()
        self._die(b"alert: oh no! lost spawn connection! dying...")

    def _cleaner_lost(self):
        self.completion.stop(at_once=True)
        self._die(b"alert: oh no! lost qmail-clean connection! dying...")

    def _die(self, alert):
        self.log.put(alert)
        self.exit_soon()

    def _try_to_end(self):
        if any(channel.running and not channel.is_lost for channel in self._channels.values()):
            return
        if self.completion.is_busy:
            if not self.completion.injecting:
                self.settle_soon()
            return
        if not self._is_final:
            self._is_final = True
            self._todo.settle_all()
            self.loop.after(EXIT_SECONDS, self._overdue)
        if self._is_overdue or not self._cleaner.unanswered:
            self._end()

    def _overdue(self):
        self._is_overdue = True
        self.settle_soon()

    def _end(self):
        if self._has_ended:
            return
        self._has_ended = True
        for channel in self._channels.values():
            channel.settle()
            if self._alarmed:
                channel.write_back()
        self.log.put(b"status: exiting")
        self.log.finish(EXIT_SECONDS)
        for part in (*self._spawners, self._cleaner, self._resolving):
            if part is not None:
                part.close()
        self.loop.stop()


def _engine(name, limit, with_sessions):
    """Return the scheduler of a channel."""
    if name == LOCAL:
        return Immediate(limit, by_message)
    return Sessions(limit) if with_sessions else Immediate(limit)
