"""The supervisor of one service: its processes, its files, and the loop between them.

    SIGCHLD, a byte in control, a timer --> event --> service.py --> orders --> spawn, signal, timer, files

service.py decides.  It is a table, (state, event) -> (state, orders), that is tested without a process; diagram.py
prints it, and it is the section States of pysupervise(8).  This module makes events out of what the kernel reports
and carries out the orders.  What it keeps true:

One start in a round.  Each wake-up is one round: reap what has ended, then take one command.  A round ends as soon as
run was started: for DEAF_SECONDS the supervisor is deaf, and what arrives stays with the kernel, ends as zombies,
commands in the FIFO.  So a service that ends at once is started once a second, whatever is commanded meanwhile, and a
command never meets a process that is not known yet.  A command that was due in that round is taken after the deaf
second; otherwise a service that always ends at once would never let one be heard.

The files are never ahead of the truth, nor long behind it.  The status is replaced when pid, wish or pause has
changed: after a start and before what follows an end.  details are replaced just before, and carry the label of the
status they belong to: details of another label count as missing.  Both are new files that are renamed, so that a
reader sees the old or the new, and a renamed file is what wakes those who wait for the service.

What is known after a supervisor was killed.  The service lives on, as with the original, and the files name its pid,
when it began, in which boot and in which directory.  The next supervisor adopts it if all of that still holds, and
signals it through a pidfd, which no later process of that pid can take over.  It learns that it has ended, not how.
If details were lost (killed between fork and write), nothing is adopted, and a second copy starts, as with the
original.  A script is adopted likewise; as nobody will know how a start ended, it has to run again: hence
_LEFT_SCRIPTS.

The FIFOs.  control is open for writing too, or it would be at its end after the first writer.  ok has no other use
than to be open: opening it for writing fails once we are gone.  It is made after control and status, so that whoever
sees it can read the one and command the other.  The lock is a file of its own, held as long as the process lives; no
file has to be removed at the end, and none that a dead supervisor left can mislead.

Readiness.  The service writes a line end to a pipe that only it has.  The pipe is kept until run has ended, as a
service that writes again would otherwise die of SIGPIPE.

The end.  x only notes that the supervisor leaves once the service is down, so a service that runs goes on until it
ends or d is commanded.  Then: run has ended, finish, stop, status `down`, and the loop stops.  Descriptors close with
the process, control and ok at once: a command that finds no reader was not lost but refused.
"""

import _signal as signal  # without its enums: their pages would be copied in each forked supervisor
import os
import time

from pyqmail.base.failure import Temporary
from pyqmail.base.printable import printable
from pyqmail.supervise import service as states
from pyqmail.supervise.adopted_process import adopt_process, place_of
from pyqmail.supervise.details import KILLED
from pyqmail.supervise.exec_service import NoProcess, Readiness, Unfit, spawn, spawn_notify
from pyqmail.supervise.service import Service
from pyqmail.supervise.settings import FINISH_MILLISECONDS, down_signal, is_program, number
from pyqmail.supervise.state_record import StateRecord
from pyqmail.supervise.status import WANT_DOWN, WANT_UP
from pyqmail.supervise.supervise_dir import SuperviseDir, warn
from pyqmail.supervise.timing import Alarm, RestartBackoff
from pyqmail.system.coroutines import NOTHING, READ
from pyqmail.system.loop import Loop

DEAF_SECONDS = 1.02  # after each start, so that a service that ends at once is started once a second
NO_PROCESS_SECONDS = 60
NOT_STARTED = 111  # the exit code of a run that cannot be executed
FAILED_RUN, FAILED_FINISH = 100, 125
# the state in which a supervisor was killed -> the script that ran, and the state to begin with if it still does
_LEFT_SCRIPTS = {
    states.STARTING: ("start", states.ABANDONING),  # how it ends will not be known: it must run again
    states.ABANDONING: ("start", states.ABANDONING),
    states.FINISHING: ("finish", states.FINISHING),
    states.STOPPING: ("stop", states.STOPPING),
}
_SCRIPTS = {states.SET_UP: "start", states.FINISH: "finish", states.TEAR_DOWN: "stop"}
_SHOWN_CHARACTERS = 40  # of a word that a warning quotes
_ENCORE = ("start", "stop", "notify")


class Supervisor:
    """Supervises the service in directory, which is named in messages as it was given.

    environ: of its programs, bytes to bytes, a plain dict.
    """

    __slots__ = (
        *("_directory", "_environ", "_pid", "_script_pid", "_script", "_adopted", "_state_record", "_backoff"),
        *("_start_time", "_due_time", "_is_broken", "_is_deaf", "_is_command_due", "_loop", "_alarm", "_readiness"),
        *("_service", "_supervise_dir", "_control"),
    )

    def __init__(self, directory: str, environ: dict) -> None:
        self._directory, self._environ = directory, environ
        self._pid = self._script_pid = 0
        self._script = None  # its name while it runs
        self._adopted = None  # the AdoptedProcess of a run or a script that is no child of ours
        self._state_record, self._backoff = StateRecord(), RestartBackoff()
        self._start_time = self._due_time = time.monotonic()
        self._is_broken = False  # the last run has failed for good
        self._is_deaf = self._is_command_due = False
        try:
            self._loop = Loop()
            self._loop.on_signal(signal.SIGCHLD, self._round)
        except OSError as error:
            raise Temporary(f"unable to create pipe for {directory}", error) from None
        self._alarm = Alarm(self._loop, self._handle)
        self._readiness = Readiness(self._loop, self._has_become_ready, self._complain)

    def run(self) -> None:
        """Supervise until commanded to leave.  Raises Temporary if the directory cannot be used."""
        self._change_directory()
        self._service = Service(WANT_DOWN if self._is_down_by_default() else WANT_UP)
        self._supervise_dir = SuperviseDir(self._directory, self._environ)
        self._supervise_dir.make()
        self._supervise_dir.lock()
        self._adopt_what_still_runs()
        self._state_record.set_owner(place_of("."))
        self._write_status()
        # ok directly after control: a client that has sent a command and finds no ok would believe that we have left
        self._control = self._supervise_dir.open_control()
        self._supervise_dir.open_ok()
        self._watch_descriptors()
        if self._adopted is None:
            self._carry_out(self._service.first_orders())
        self._write_status()  # wakes those who wait for us, now that they can command us
        self._loop.run()

    def _watch_descriptors(self):
        try:
            self._loop.watch(self._control, READ, self._round)
            if self._adopted is not None:
                self._adopted.watch(self._loop, self._adopted_has_ended)
        except OSError as error:
            raise Temporary(f"unable to watch {self._directory}", error) from None

    # the directory

    def _change_directory(self):
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
            return  # _end_deafness() comes back here
        self._reap()
        if self._is_deaf:
            self._is_command_due = True
        elif self._service.state != states.LEFT:
            self._take_command()

    def _take_command(self):
        try:
            command = os.read(self._control, 1)
        except BlockingIOError:
            return
        self._handle(command)

    def _reap(self):
        """Reap every child that has ended; those of the process before it became us, and notify, are of no interest."""
        if self._pid == 0 and self._service.state in (states.UP, states.PAUSED):
            self._run_has_ended(NOT_STARTED, 0)  # it could not be executed
        while not self._is_deaf:  # once deaf, the new process may have ended already, which must not be seen yet
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            code = KILLED if killed else os.WEXITSTATUS(status)
            if pid == self._pid:
                self._run_has_ended(code, killed)
            elif pid == self._script_pid:
                self._script_has_ended(code, killed)

    def _handle(self, event):
        self._carry_out(self._service.receive(event))
        if self._service.state != states.LEFT:
            self._supervise_dir.write_details(self._pack_details())

    def _carry_out(self, orders):
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
                self._send_signal(down_signal(self._complain))
                self._set_time_limit("timeout-kill", 0)
            else:
                self._send_signal(getattr(signal, order))

    # time

    def _set_time_limit(self, name, default):
        """Let what runs be overdue after the milliseconds in a file of that name; 0: never."""
        milliseconds = number(name, default, self._complain)
        if milliseconds and not self._alarm.is_set:
            self._alarm.set(milliseconds / 1000, states.OVERDUE)

    def _pause(self):
        seconds = self._due_time - time.monotonic()
        if seconds > 0:
            self._alarm.set(seconds, states.DUE)
        else:
            self._carry_out(self._service.receive(states.DUE))

    def _go_deaf(self, seconds, work):
        """Be deaf for that time, then call work."""
        self._is_deaf = True
        # kept in the loop: a new registration could be refused
        self._loop.watch_surely(self._control, NOTHING, self._round)
        self._loop.after(seconds, work)

    def _end_deafness(self):
        self._is_deaf = False
        self._loop.watch_surely(self._control, READ, self._round)
        self._loop.soon(self._round)

    # run

    def _start(self):
        """Start ./run and be deaf for a second.  A run that cannot be executed counts as one that ends at once."""
        self._alarm.cancel()
        notification = self._readiness.open()
        try:
            self._pid = spawn(["./run"], self._environ, self._directory, notification)
        except NoProcess:
            self._go_deaf(NO_PROCESS_SECONDS, self._start)
            return
        except Unfit:
            self._pid = 0
        finally:
            if notification:
                os.close(notification[0])
        self._start_time = time.monotonic()
        self._state_record.run_was_started(self._pid)
        self._write_status()
        if self._pid:
            spawn_notify(self._environ, "run", "start", self._pid, 0)
        self._go_deaf(DEAF_SECONDS, self._end_deaf_second)

    def _end_deaf_second(self):
        self._end_deafness()
        self._handle(states.RESTED)
        if self._is_command_due:
            self._is_command_due = False
            self._take_command()  # otherwise a service that always ends at once would never let us take one

    def _run_has_ended(self, code, killed):
        pid, self._pid = self._pid, 0
        self._alarm.cancel()
        self._readiness.close()
        max_seconds = number("backoff", 0, self._complain)
        now = time.monotonic()
        self._due_time = now + self._backoff.pause_seconds(now - self._start_time, max_seconds)
        self._state_record.run_has_ended(code, killed)
        self._is_broken = _means_failed(code)
        if pid:
            self._notify_end("run", pid, code, killed)
        self._handle(states.ENDED)

    def _has_become_ready(self):
        self._state_record.run_is_ready()
        self._supervise_dir.write_details(self._pack_details())

    def _send_signal(self, number_):
        pid = self._pid or self._script_pid
        if pid == 0:
            return  # it could not be executed; for kill(2), 0 means our own process group
        try:
            if self._adopted is not None:
                self._adopted.signal(number_)
            else:
                os.kill(pid, number_)
        except (ProcessLookupError, PermissionError):
            pass  # gone, or of another user: like the original, without a word

    def _adopt_what_still_runs(self):
        """Adopt the run or the script of a supervisor that was killed, if it is certain that it still runs."""
        left = self._supervise_dir.read()
        self._adopted = adopt_process(left)
        if self._adopted is None:
            return
        status, details = left
        self._state_record = StateRecord(details)
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
            self._is_broken = _means_failed(self._state_record.ended[0])
            self._set_time_limit("timeout-finish", FINISH_MILLISECONDS)
        return self._script

    def _adopted_has_ended(self):
        self._adopted = None
        ended = self._run_has_ended if self._pid else self._script_has_ended
        ended(KILLED, 0)  # only a parent learns how a process ends

    # the scripts around it

    def _start_script(self, name):
        """Start a script; a script that is missing is done at once."""
        self._alarm.cancel()
        if name == "start":
            self._backoff = RestartBackoff()
        if not is_program(name):
            self._conclude_script(name, 0)
            return
        try:
            arguments = map(str, self._state_record.ended) if name == "finish" else ()
            self._script_pid = spawn([f"./{name}", *arguments], self._environ, self._directory)
        except NoProcess:
            self._go_deaf(NO_PROCESS_SECONDS, lambda: self._start_script_again(name))
        except Unfit:
            self._conclude_script(name, NOT_STARTED)
        else:
            self._script = name
            self._state_record.script_was_started(self._script_pid)
            self._supervise_dir.write_details(self._pack_details())
            spawn_notify(self._environ, name, "start", self._script_pid, 0)
            if name == "finish":
                self._set_time_limit("timeout-finish", FINISH_MILLISECONDS)

    def _start_script_again(self, name):
        self._end_deafness()
        self._start_script(name)

    def _script_has_ended(self, code, killed):
        name, pid = self._script, self._script_pid
        self._script, self._script_pid = None, 0
        self._state_record.script_has_ended()
        self._alarm.cancel()
        self._notify_end(name, pid, code, killed)
        self._conclude_script(name, code)

    def _conclude_script(self, name, code):
        is_broken = (name == "start" and code != 0) or (name == "finish" and (code == FAILED_FINISH or self._is_broken))
        self._handle(states.BROKEN if is_broken else states.DONE)

    # the files

    def _pack_details(self):
        return self._state_record.details(self._pid, self._service, self._backoff.seconds)

    def _write_status(self):
        self._supervise_dir.write(self._state_record.status(self._pid, self._service), self._pack_details())

    def _notify_end(self, script, pid, code, killed):
        spawn_notify(self._environ, script, "killed" if killed else "exit", pid, killed or code)


def _means_failed(code):
    """Return whether a run with that exit code has failed for good.  Source: daemontools-encore"""
    return code == FAILED_RUN and any(map(is_program, _ENCORE))
