"""The supervisor of one service: its processes, its files, and the loop between them.

Carries out the orders of service.py.  At rest it waits for two things, a byte in the control FIFO and the end of
a child, and touches nothing.  Every wake-up is one round: reap first, then take one command.
"""

import _signal as signal  # without its enums: their pages would be copied in each forked supervisor
import os
import time

from pyqmail.base.failure import Temporary
from pyqmail.base.printable import printable
from pyqmail.supervise import service as states
from pyqmail.supervise.adopted_process import find_survivor, place_of
from pyqmail.supervise.alarm import Alarm
from pyqmail.supervise.details import KILLED
from pyqmail.supervise.exec_service import NoProcess, Unfit, spawn, spawn_notify
from pyqmail.supervise.readiness import Readiness
from pyqmail.supervise.restart_backoff import RestartBackoff
from pyqmail.supervise.service import Service
from pyqmail.supervise.settings import FINISH_MILLISECONDS, down_signal, is_program, number
from pyqmail.supervise.state_record import StateRecord
from pyqmail.supervise.status import WANT_DOWN, WANT_UP
from pyqmail.supervise.supervise_dir import SuperviseDir, warn
from pyqmail.system.loop import NOTHING, READ, Loop

DEAF_SECONDS = 1.02  # after each start, so that a service that ends at once is started once a second
NO_PROCESS_SECONDS = 60
NOT_STARTED = 111  # the exit code of a run that cannot be executed
FAILED_RUN, FAILED_FINISH = 100, 125
# the state in which a supervisor was killed -> the script that ran, and the state to begin with if it still does
_LEFT_SCRIPTS = {
    states.STARTING: ("start", states.ABANDONING),  # nobody can tell us how it ends: it must run again
    states.ABANDONING: ("start", states.ABANDONING),
    states.FINISHING: ("finish", states.FINISHING),
    states.STOPPING: ("stop", states.STOPPING),
}
_SCRIPTS = {states.SET_UP: "start", states.FINISH: "finish", states.TEAR_DOWN: "stop"}
_SHOWN_CHARACTERS = 40  # of a word that makes no sense
_ENCORE = ("start", "stop", "notify")


class Supervisor:
    """Supervises the service in directory, which is named in messages as it was given.

    environ: what its programs get, bytes to bytes, a plain dict.
    """

    def __init__(self, directory: str, environ: dict) -> None:
        self._directory, self._environ = directory, environ
        self._pid = self._script_pid = 0
        self._script = None  # its name while it runs
        self._survivor = None  # what stands for a run or a script that is no child of ours
        self._record, self._pace = StateRecord(), RestartBackoff()
        self._start_time = self._due_time = time.monotonic()
        self._is_broken = False  # the run that ended last has failed for good
        self._is_deaf = self._is_within_round = False
        try:
            self._loop = Loop()
            self._loop.on_signal(signal.SIGCHLD, self._round)
        except OSError as error:
            raise Temporary(f"unable to create pipe for {directory}", error) from None
        self._alarm = Alarm(self._loop, self._receive)
        self._readiness = Readiness(self._loop, self._has_become_ready, self._complain)

    def run(self) -> None:
        """Supervise until told to leave.  Raises Temporary if the directory is not fit for it."""
        self._enter()
        self._service = Service(WANT_DOWN if self._is_down_by_default() else WANT_UP)
        self._folder = SuperviseDir(self._directory, self._environ)
        self._folder.make()
        self._folder.lock()
        self._look_for_survivor()
        self._record.belongs_to(place_of("."))
        self._write_status()
        # ok comes after the status and the control: whoever sees it may read the one and command the other.  Nothing
        # stands between the two, or who has sent a command and then sees no ok would believe that we have left
        self._control = self._folder.open_control()
        self._folder.open_ok()
        self._listen()
        if self._survivor is None:
            self._follow(self._service.begin())
        self._write_status()  # whoever waits for us looks again at each
        self._loop.run()

    def _listen(self):
        try:
            self._loop.watch(self._control, READ, self._round)
            if self._survivor is not None:
                self._survivor.watch(self._loop, self._survivor_has_ended)
        except OSError as error:
            raise Temporary(f"unable to watch {self._directory}", error) from None

    # the directory

    def _enter(self):
        try:
            os.chdir(self._directory)
        except OSError as error:
            raise Temporary(f"unable to chdir to {self._directory}", error) from None

    def _is_down_by_default(self):
        try:
            os.stat("down")
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Temporary(f"unable to stat {self._directory}/down", error) from None
        return True

    def _complain(self, name, word):
        warn(f"{self._directory}/{name} makes no sense: {printable(os.fsencode(word[:_SHOWN_CHARACTERS]))}")

    # the rounds

    def _round(self, _=None):
        if self._is_deaf:
            return  # the end of the deaf second comes back here
        self._reap()
        if self._is_deaf:
            self._is_within_round = True  # deaf in the middle of it: the command is still due
        elif self._service.state != states.LEFT:
            self._take_command()

    def _take_command(self):
        try:
            command = os.read(self._control, 1)
        except BlockingIOError:
            return
        self._receive(command)

    def _reap(self):
        """Reap every child that has ended; those we had before we began, and notify, are of no interest."""
        if self._pid == 0 and self._service.state in (states.UP, states.PAUSED):
            self._has_ended(NOT_STARTED, 0)  # it could not be executed
        while not self._is_deaf:  # then the new process may have ended already: not to be heard yet
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            code = KILLED if killed else os.WEXITSTATUS(status)
            if pid == self._pid:
                self._has_ended(code, killed)
            elif pid == self._script_pid:
                self._script_has_ended(code, killed)

    def _receive(self, event):
        self._follow(self._service.receive(event))
        if self._service.state != states.LEFT:
            self._folder.write_details(self._pack_details())

    def _follow(self, orders):
        for order in orders:
            if order == states.STATUS:
                self._write_status()
            elif order == states.START:
                self._start()
            elif order in _SCRIPTS:
                self._start_script(_SCRIPTS[order])
            elif order == states.PAUSE:
                self._pause()
            elif order == states.LEAVE:
                self._loop.stop()
            elif order == states.DOWN_SIGNAL:
                self._signal(down_signal(self._complain))
                self._limit("timeout-kill", 0)
            else:
                self._signal(getattr(signal, order))

    # time

    def _limit(self, name, default):
        """Let what runs be overdue after the milliseconds in a file; 0: never."""
        milliseconds = number(name, default, self._complain)
        if milliseconds and not self._alarm.is_set:
            self._alarm.set(milliseconds / 1000, states.OVERDUE)

    def _pause(self):
        seconds = self._due_time - time.monotonic()
        if seconds > 0:
            self._alarm.set(seconds, states.DUE)
        else:
            self._follow(self._service.receive(states.DUE))

    def _rest(self, seconds, work):
        """Be deaf for so long, then go on with work."""
        self._is_deaf = True
        # not forgotten: to watch it again might be refused
        self._loop.watch_surely(self._control, NOTHING, self._round)
        self._loop.after(seconds, work)

    def _hear(self):
        self._is_deaf = False
        self._loop.watch_surely(self._control, READ, self._round)
        self._loop.soon(self._round)

    # run

    def _start(self):
        """Start ./run and be deaf for a second.  One that cannot be executed is one that ends at once."""
        self._alarm.cancel()
        notification = self._readiness.open()
        try:
            self._pid = spawn(["./run"], self._environ, self._directory, notification)
        except NoProcess:
            self._rest(NO_PROCESS_SECONDS, self._start)
            return
        except Unfit:
            self._pid = 0
        finally:
            if notification:
                os.close(notification[0])
        self._start_time = time.monotonic()
        self._record.run_was_started(self._pid)
        self._write_status()
        if self._pid:
            spawn_notify(self._environ, "run", "start", self._pid, 0)
        self._rest(DEAF_SECONDS, self._rested)

    def _rested(self):
        self._hear()
        self._receive(states.RESTED)
        if self._is_within_round:
            self._is_within_round = False
            self._take_command()  # else a service that ends at once would never let us hear one

    def _has_ended(self, code, killed):
        pid, self._pid = self._pid, 0
        self._alarm.cancel()
        self._readiness.close()
        longest = number("backoff", 0, self._complain)
        now = time.monotonic()
        self._due_time = now + self._pace.ended(now - self._start_time, longest)
        self._record.run_has_ended(code, killed)
        self._is_broken = _means_failed(code)
        if pid:
            self._notify_end("run", pid, code, killed)
        self._receive(states.ENDED)

    def _has_become_ready(self):
        self._record.run_is_ready()
        self._folder.write_details(self._pack_details())

    def _signal(self, number_):
        pid = self._pid or self._script_pid
        if pid == 0:
            return  # it could not be executed; to kill, 0 means our own process group
        try:
            if self._survivor is not None:
                self._survivor.signal(number_)
            else:
                os.kill(pid, number_)
        except (ProcessLookupError, PermissionError):
            pass  # gone, or of a user out of our reach: as the original, no word about it

    def _look_for_survivor(self):
        """Take over the run of a supervisor that was killed, or its script, if it is beyond doubt that one."""
        left = self._folder.read()
        self._survivor = find_survivor(left)
        if self._survivor is None:
            return
        status, details = left
        self._record = StateRecord(details)
        if status.pid:
            name, self._pid = "run", status.pid
            self._service.take_over(states.PAUSED if status.paused else states.UP)
        else:
            name = self._take_over_script(details)
        pid = self._pid or self._script_pid
        warn(f"{self._directory}/{name} still runs as pid {pid}, its supervisor was killed: taking it over")

    def _take_over_script(self, details):
        self._script_pid = details.script[0]
        self._script, state = _LEFT_SCRIPTS.get(details.state, _LEFT_SCRIPTS[states.STOPPING])
        self._service.take_over(state)
        if state == states.FINISHING:
            self._is_broken = _means_failed(self._record.ended[0])
            self._limit("timeout-finish", FINISH_MILLISECONDS)
        return self._script

    def _survivor_has_ended(self):
        self._survivor = None
        ended = self._has_ended if self._pid else self._script_has_ended
        ended(KILLED, 0)  # nobody can tell us how

    # the scripts around it

    def _start_script(self, name):
        """Start a script, or say that it is done if there is none."""
        self._alarm.cancel()
        if name == "start":
            self._pace = RestartBackoff()
        if not is_program(name):
            self._script_is_done(name, 0)
            return
        try:
            arguments = map(str, self._record.ended) if name == "finish" else ()
            self._script_pid = spawn([f"./{name}", *arguments], self._environ, self._directory)
        except NoProcess:
            self._rest(NO_PROCESS_SECONDS, lambda: self._start_script_again(name))
        except Unfit:
            self._script_is_done(name, NOT_STARTED)
        else:
            self._script = name
            self._record.script_was_started(self._script_pid)
            self._folder.write_details(self._pack_details())
            spawn_notify(self._environ, name, "start", self._script_pid, 0)
            if name == "finish":
                self._limit("timeout-finish", FINISH_MILLISECONDS)

    def _start_script_again(self, name):
        self._hear()
        self._start_script(name)

    def _script_has_ended(self, code, killed):
        name, pid = self._script, self._script_pid
        self._script, self._script_pid = None, 0
        self._record.script_has_ended()
        self._alarm.cancel()
        self._notify_end(name, pid, code, killed)
        self._script_is_done(name, code)

    def _script_is_done(self, name, code):
        is_broken = (name == "start" and code != 0) or (name == "finish" and (code == FAILED_FINISH or self._is_broken))
        self._receive(states.BROKEN if is_broken else states.DONE)

    # the files

    def _pack_details(self):
        return self._record.details(self._pid, self._service, self._pace.seconds)

    def _write_status(self):
        self._folder.write(self._record.status(self._pid, self._service), self._pack_details())

    def _notify_end(self, script, pid, code, killed):
        spawn_notify(self._environ, script, "killed" if killed else "exit", pid, killed or code)


def _means_failed(code):
    """Return whether a run that ended so has failed for good.  Source: daemontools-encore"""
    return code == FAILED_RUN and any(map(is_program, _ENCORE))
