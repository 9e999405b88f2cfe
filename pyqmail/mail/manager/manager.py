"""The queue manager: its parts, built together on one loop; the end of each turn; signals, losses and the end.

Each turn of the loop brings reports, answers and new mail; they are acted on once, at the end of the turn: bounce texts
and marks, finished messages, deliveries to start.  Then the log goes out, then the commands to the spawners.  The end
of a turn takes TURN_SECONDS at most: what is left is for the next one.  What is to be put on disk is handed to the
kernel (system/background_sync.py), and acted on when that is done.
"""

import random
import time

from pyqmail.mail.destinations.engine import Engine
from pyqmail.mail.manager.channel import Channel
from pyqmail.mail.manager.channel_files import QueueFiles
from pyqmail.mail.manager.cleanup import Sweep
from pyqmail.mail.manager.completion import Completion
from pyqmail.mail.manager.deliveries import ChannelDeliveries, Load
from pyqmail.mail.manager.marks import DirtyMessages, Marks
from pyqmail.mail.manager.materialize import UnsettledMessages
from pyqmail.mail.manager.queue_scan import ChannelReader, QueueScan
from pyqmail.mail.manager.todo import Todo
from pyqmail.mail.manager.todo_entry import TodoReader
from pyqmail.mail.manager_log.delivery_log import DeliveryLog
from pyqmail.mail.manager_log.status import StatusLines
from pyqmail.mail.manager_log.status_answers import StatusAnswers
from pyqmail.mail.policy_files.learned_state import LearnedState
from pyqmail.mail.queue.client import QueueClient
from pyqmail.mail.queue.file_store import FileStore
from pyqmail.mail.routing.rewrite import LOCAL, REMOTE, Rewriter
from pyqmail.protocol.bounce_notice import BounceNotices
from pyqmail.system.background_sync import BackgroundSync
from pyqmail.system.driver import EventDriver
from pyqmail.system.turn_meter import TurnMeter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.manager.cleanup import Cleaner
    from pyqmail.mail.manager.parts import DestinationRules, HostLookup, Log, PartRestarts, SpawnerClient
    from pyqmail.mail.queue.files import QueueNames
    from pyqmail.system.controls import Controls
    from pyqmail.system.home import Home
    from pyqmail.system.loop import Loop
    from pyqmail.system.status_socket import StatusSocket

MAX_SECONDS = 86400
EXIT_SECONDS = 10  # for the cleaner's last answers, and for the reader of the log
TURN_SECONDS = 0.006  # of the end of one turn
_MAX_ROUNDS = 8  # at the end of one turn
MAX_GREETING_SECONDS = 60  # a server is not waited for as long as for a reply

# a manager's states, in this order; each may be followed by DRAINING
STARTING = "starting"  # the cleaner has not yet answered: nothing is read
RUNNING = "running"
DRAINING = "draining"  # TERM, or a loss: nothing starts, and what runs is waited for
FLUSHING = "flushing"  # unsettled messages get their files; the disk and the cleaner's last answers are waited for
ENDED = "ended"


class ManagerSettings:
    """What the control files say.  Raises OSError or LookupError if that cannot be known."""

    def __init__(self, controls: "Controls") -> None:
        get = controls.get
        self._controls = controls
        self.lifetime = get("queuelifetime")
        self.limits = {LOCAL: get("concurrencylocal"), REMOTE: get("concurrencyremote")}
        reply_seconds = get("timeoutremote")
        self.timeouts = get("timeoutconnect"), min(MAX_GREETING_SECONDS, reply_seconds), reply_seconds
        senders, receivers = (get("bouncefrom"), get("bouncehost")), (get("doublebounceto"), get("doublebouncehost"))
        self.notices = BounceNotices(*senders, *receivers, max_bytes=get("bouncemaxbytes") or None)
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


class Connections:
    """The other processes, connected and greeted.  lookup: None if the remote spawner finds hosts itself.

    With a lookup, the remote spawner speaks of sessions.  restarts: None where what is lost is lost for good.
    """

    def __init__(
        self,
        local: "SpawnerClient",
        remote: "SpawnerClient",
        cleaner: "Cleaner",
        lookup: "HostLookup | None" = None,
        restarts: "PartRestarts | None" = None,
    ) -> None:
        self.spawners = {LOCAL: local, REMOTE: remote}
        self.cleaner, self.lookup, self.restarts = cleaner, lookup, restarts

    def close(self) -> None:
        for part in (self.restarts, *self.spawners.values(), self.cleaner, self.lookup):
            if part is not None:
                part.close()


class Manager:
    """Whole once it is made; start() begins.  environ: the environment that bounces are queued with.

    rules: what the rules about destinations say.
    """

    def __init__(
        self,
        loop: "Loop",
        home: "Home",
        names: "QueueNames",
        settings: ManagerSettings,
        environ: dict[bytes, bytes],
        log: "Log",
        connections: Connections,
        rules: "DestinationRules",
    ) -> None:
        self._loop, self._settings, self._log, self._connections, self._rules = loop, settings, log, connections, rules
        self._state, self._is_turn_end_due = STARTING, False
        self._timer = self._status_timer = None
        self._answers: StatusAnswers | None = None
        self._exit_deadline = 0.0
        self._disk = BackgroundSync(loop)
        files, finish_turn_soon = QueueFiles(names), self._finish_turn_soon
        self._completion = self._make_completion(home, names, files, environ)
        self._channels = self._make_channels(names, files)
        self._learned = LearnedState(loop, home.var, self._channels[REMOTE].engine, log.add_line)
        self._reader = ChannelReader(loop, log, files, self._channels, self._completion, finish_turn_soon)
        self._scan = QueueScan(loop, log, names, files, self._reader, self._completion, finish_turn_soon)
        self._unsettled = UnsettledMessages(
            *(loop, log, names, self._channels, self._completion, connections.cleaner),
            *(FileStore(names, sync_later=self._disk.sync), self._reader, finish_turn_soon),
        )
        self._todo = Todo(
            *(loop, log, names, TodoReader(names, files, log, settings.rewriting), self._unsettled, self._channels),
            *(self._completion, self._scan, connections.cleaner, finish_turn_soon),
        )
        self._sweep = Sweep(loop, log, names, connections.cleaner, self._unsettled.messages.__contains__)

    def _make_completion(self, home, names, files, environ):
        driver = EventDriver(self._loop)
        return Completion(
            *(self._loop, self._log, names, files, self._connections.cleaner, self._settings.notices),
            *(QueueClient(driver, home), driver, environ, self._finish_turn_soon),
        )

    def _make_channels(self, names, files):
        engines = {name: self._make_engine(name) for name in (LOCAL, REMOTE)}
        loads = {name: Load(engine) for name, engine in engines.items()}
        self._status = StatusLines(self._log, loads[LOCAL], loads[REMOTE], time.monotonic)
        lines = DeliveryLog(self._log, self._status)
        channels = {}
        for name, engine in engines.items():
            dirty, spawner = DirtyMessages(self._loop, self._finish_turn_soon), self._connections.spawners[name]
            deliveries = ChannelDeliveries(
                *(name, engine, loads[name], spawner, lines, names, self._settings.rewriting, dirty),
                self._finish_turn_soon,
            )
            marks = Marks(files, self._log, self._loop, dirty, self._disk)
            parts = name, files, engine, deliveries, marks, dirty, self._completion, self._log, spawner
            channels[name] = Channel(*parts, self._connections.lookup)
        return channels

    def _make_engine(self, name):
        wanted, possible = self._settings.limits[name], self._connections.spawners[name].limit
        if possible < wanted:
            values = name.encode(), wanted, possible
            self._log.add_line(b"warning: concurrency%b: of %d its spawner takes only %d at once" % values)
        lookup = self._connections.lookup if name == REMOTE else None
        return Engine(
            min(wanted, possible),
            self._rules.current,
            channel=name,
            opens_sessions=lookup is not None,
            max_together=self._connections.spawners[name].max_together,
            registrable=self._rules.registrable,
            random=random.Random(),
            now=time.monotonic(),
            date=time.time(),
            lifetime=self._settings.lifetime,
            timeouts=self._settings.timeouts,
            route_of=None if lookup is None else lookup.route_of,
            obeys_routes=lookup is not None and lookup.obeys_routes,
        )

    def answer_on(self, socket: "StatusSocket") -> None:
        """Answer there what waits, and why, until the end."""
        self._loop.meter = TurnMeter()
        local, remote = (self._channels[name].engine for name in (LOCAL, REMOTE))
        self._answers = StatusAnswers(self._loop, socket, local, remote, self._loop.meter)

    def start(self) -> None:
        if self._answers is not None:
            self._answers.start(self._log.add_line, self._log.flush)
        for name, spawner in self._connections.spawners.items():
            self._hear_spawner(spawner, self._channels[name].deliveries)
        self._connections.cleaner.listen(self._finish_turn_soon, self._lose_cleaner)
        if self._connections.lookup is not None:
            self._connections.lookup.listen(self._lose_lookup)
        if self._connections.restarts is not None:
            self._connections.restarts.listen()
        self._status.write_line()
        # a cleaner that a killed queue manager left behind may still be removing what we would take for ours
        self._connections.cleaner.greet(lambda _: self._begin())

    def _hear_spawner(self, spawner, deliveries):
        spawner.listen(deliveries, lambda: self._lose_spawner(deliveries))

    def _begin(self):
        if self._state == STARTING:
            self._state = RUNNING
            self._learned.restore()
            for part in (self._todo, self._scan, self._sweep):
                part.start()
            self._finish_turn_soon()

    # the end of a turn

    def _finish_turn_soon(self) -> None:
        """Have this turn finished at its end, whatever happened in it."""
        if not self._is_turn_end_due:
            self._is_turn_end_due = True
            self._loop.soon(self._end_turn)

    def _end_turn(self):
        self._is_turn_end_due = False
        if self._state == ENDED:
            return
        is_more = self._act_on_turn()
        self._todo.go_on()
        if self._channels[REMOTE].deliveries.take_news():
            self._learned.news()
        self._write_status_line()
        if is_more:
            self._finish_turn_soon()
        elif not self._is_exiting:
            self._set_timer()
        if self._is_exiting:
            self._try_to_end()

    @property
    def _is_exiting(self):
        return self._state in (DRAINING, FLUSHING)

    def _act_on_turn(self):
        """Act on what the turn brought, for a limited time; returns whether something may be left."""
        channels, until = self._channels.values(), time.monotonic() + TURN_SECONDS
        for _ in range(_MAX_ROUNDS):
            for channel in channels:
                self._unsettled.note_progress(channel.write_progress(until))
            self._completion.check_messages(until)
            is_more = [channel.obey_engine(until) for channel in channels]
            if time.monotonic() > until:
                break
            if not any(is_more) and not any(channel.is_dirty for channel in channels):
                return False
        return any(is_more) or any(channel.is_dirty for channel in channels)

    def _write_status_line(self):
        """See to it that a quiet log shows numbers that have changed."""
        when = None if self._state == ENDED else self._status.write_if_due()
        if when is not None and (self._status_timer is None or self._status_timer.when is None):
            self._status_timer = self._loop.at(when, self._write_status_line)

    def _set_timer(self):
        """Have a turn when something is due, even if nothing happens."""
        now = time.monotonic()
        times = [channel.next_time() for channel in self._channels.values()] + [self._completion.next_time()]
        when = min((when for when in times if when is not None), default=None)
        if when is None:
            if self._timer is not None:
                self._timer.cancel()
            return
        when = min(now + MAX_SECONDS, max(now, when))
        if self._timer is None:
            self._timer = self._loop.at(when, self._finish_turn_soon)
        else:
            self._timer.move(when)

    # signals

    def make_due(self) -> None:
        """ALRM: everything is due now."""
        self._reader.make_due()
        self._completion.make_due()
        for channel in self._channels.values():
            channel.make_due()
        self._finish_turn_soon()

    def reread(self) -> None:
        """HUP: locals and virtualdomains again, and the rules about destinations."""
        alert = self._settings.reread()
        if alert is not None:
            self._log.add_line(alert)
        self.reread_rules()

    def reread_rules(self) -> None:
        """The rules about destinations may have changed."""
        rules = self._rules.read()
        if rules is not None:
            for channel in self._channels.values():
                channel.engine.use_rules(rules, time.monotonic())
            self._finish_turn_soon()

    def exit_soon(self) -> None:
        """TERM: start nothing more; end once all that runs has been reported."""
        if self._state in (STARTING, RUNNING):
            self._state = DRAINING
            self._status.say_exiting()
            for part in (self._todo, self._scan, self._reader, self._sweep, self._completion):
                part.stop()
            for channel in self._channels.values():
                channel.deliveries.stop()
        self._finish_turn_soon()

    # losses

    def _lose_spawner(self, deliveries):
        deliveries.lose_spawner()
        self._exit_with(b"alert: oh no! lost spawn connection! dying...")

    def _lose_cleaner(self):
        self._completion.stop(at_once=True)
        self._exit_with(b"alert: oh no! lost qmail-clean connection! dying...")

    def _lose_lookup(self):
        self._exit_with(b"alert: oh no! lost pyresolve connection! dying...")

    def _exit_with(self, alert):
        self._log.add_line(alert)
        self.exit_soon()

    # the end

    def _try_to_end(self):
        if any(channel.deliveries.has_running for channel in self._channels.values()):
            return
        if self._completion.is_busy or any(channel.is_dirty for channel in self._channels.values()):
            if not self._completion.injecting:
                self._finish_turn_soon()
            return
        if self._state == DRAINING and not self._is_writing:
            self._state, self._exit_deadline = FLUSHING, time.monotonic() + EXIT_SECONDS
            self._unsettled.materialize_all()
            self._loop.at(self._exit_deadline, self._finish_turn_soon)
        is_waited_for = self._state == DRAINING or self._is_writing or self._connections.cleaner.unanswered
        if not is_waited_for or 0 < self._exit_deadline <= time.monotonic():
            self._end()

    @property
    def _is_writing(self):
        """True while bounce texts or files are on their way to disk."""
        return not self._disk.is_idle

    def _end(self):
        self._state = ENDED
        for channel in self._channels.values():
            self._unsettled.note_progress(channel.write_progress(time.monotonic() + EXIT_SECONDS))
        self._learned.save_now()
        self._log.add_line(b"status: exiting")
        self._log.finish(EXIT_SECONDS)
        self._connections.close()
        if self._answers is not None:
            self._answers.close()
        self._loop.stop()
