"""All services of a directory with their logs, and the state of each, from the files of their supervisors.

The 18 bytes of supervise/status mean the same for every supervisor of this family; supervise/details is ours alone.
"""

import os
import signal
import time

from pyqmail.base.printable import printable
from pyqmail.base.tables import amount, columns, duration, shortened
from pyqmail.base.tai import EPOCH
from pyqmail.supervise.control import NOT_RUNNING, check_supervised, supervise_path
from pyqmail.supervise.details import KILLED, Details, details_of
from pyqmail.supervise.service import DOWN, FRESH, PAUSED, UP
from pyqmail.supervise.status import STATUS_BYTES, WANT_DOWN, WANT_UP, Status
from pyqmail.system.descriptors import read_file

UNSUPERVISED = "unsupervised"
UNKNOWN = "-"
_PLAIN = (None, UP, DOWN, FRESH, PAUSED)  # states that the status shows as well
HEADS = ("SERVICE", "STATE", "FOR", "PID", "RESTARTS", "ENDED", "PAUSE", "MEMORY", "CPU%", "FDS")
_TO_THE_LEFT = ("SERVICE", "STATE", "ENDED")


class Entry:
    """One service or log.

    name            bytes, as it is shown: `pysmtpd`, `pysmtpd/log`
    state           in one word or several, UNKNOWN if it may not be read
    since           Unix seconds of the last change of the pid, None unknown
    pid             0 is down
    restarts        by this supervisor, None unknown
    ended           how run ended last, in a word, None unknown or never
    pause_seconds   between starts, while they are slowed down, else None
    usage           what the process and its descendants use, None unknown: has memory_bytes, cpu_percent and
                    descriptors, each None if unknown
    """

    __slots__ = ("name", "state", "since", "pid", "restarts", "ended", "pause_seconds", "usage")

    def __init__(
        self, name, state=UNKNOWN, since=None, pid=0, restarts=None, ended=None, pause_seconds=None, usage=None
    ):
        self.name, self.state, self.since, self.pid = name, state, since, pid
        self.restarts, self.ended, self.pause_seconds, self.usage = restarts, ended, pause_seconds, usage


def find(directories: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Return (name to show, directory) of every service and log, sorted within each directory.

    A directory with a file run is a service itself; in any other, all directories that svscan would supervise are.
    Raises OSError if one of directories cannot be read.
    """
    found = []
    for directory in directories:
        if _is_service(directory):
            found.append((directory, directory))
            continue
        prefix = directory.rstrip(b"/") + b"/" if len(directories) > 1 else b""
        for name in sorted(os.listdir(directory)):
            if not name.startswith(b".") and os.path.isdir(directory + b"/" + name):
                found.append((prefix + name, directory + b"/" + name))
    return [
        (part, place)
        for name, folder in found
        for part, place in ((name, folder), (name + b"/log", folder + b"/log"))
        if place == folder or os.path.isdir(place)
    ]


def _is_service(directory):
    """Return whether there is something named run, except a directory, which may be a service of that name."""
    run = os.path.join(directory, b"run")
    return os.path.lexists(run) and not os.path.isdir(run)


def look(name: bytes, directory: bytes) -> Entry:
    """Return the entry of the service in a directory, its usage left unknown."""
    place = os.fsdecode(directory)
    folder = supervise_path(place)
    try:
        check_supervised(place)
        status = Status(read_file(f"{folder}/status", STATUS_BYTES))
    except OSError as error:
        return Entry(name, UNSUPERVISED if error.errno in NOT_RUNNING else UNKNOWN)
    except ValueError:
        return Entry(name)
    return _entry(name, status, details_of(status, folder) or Details())


def _entry(name, status, details):
    return Entry(
        name,
        _state(status, details),
        status.count - EPOCH,
        status.pid,
        None if details.starts is None else max(0, details.starts - 1),
        details.ended and _how(*details.ended),
        details.wait,
    )


def _state(status, details):
    if details.state not in _PLAIN:
        words = [details.state]
    elif not status.pid:
        words = [DOWN]
    else:
        words = [PAUSED if status.paused else UP if details.ready is None else "ready"]
    if status.pid and status.wish == WANT_DOWN:
        words.append("want down")
    if words == [DOWN] and status.wish == WANT_UP:
        words.append("want up")
    return ", ".join(words)


def _how(code, number):
    """Return how a run ended, in a word; None if that is unknown."""
    if not number:
        return None if code == KILLED else f"exit {code}"
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def table(entries: list[Entry], now: float | None = None, most_lines: int | None = None) -> list[str]:
    """Return the lines that show entries, a summary first.  now: Unix seconds, None: the clock's."""
    now = time.time() if now is None else now
    rows = [HEADS, *(_row(entry, now) for entry in entries)]
    return shortened([_summary(entries), "", *columns(rows, _TO_THE_LEFT)], most_lines)


def _summary(entries):
    up = sum(entry.pid != 0 for entry in entries)
    usages = [entry.usage for entry in entries if entry.usage is not None]
    sums = [
        f"memory {_total(usages, 'memory_bytes', amount)}",
        f"processor {_total(usages, 'cpu_percent', '{:.1f}%'.format)}",
        f"descriptors {_total(usages, 'descriptors', str)}",
    ]
    return ", ".join([f"{up} of {len(entries)} up", *sums])


def _total(usages, field, shown):
    known = [value for usage in usages if (value := getattr(usage, field)) is not None]
    return shown(sum(known)) if known else UNKNOWN


def _row(entry, now):
    usage = entry.usage
    return (
        printable(entry.name),
        entry.state,
        _shown(entry.since, lambda since: duration(now - since)),
        str(entry.pid or UNKNOWN),
        _shown(entry.restarts, str),
        _shown(entry.ended, str),
        _shown(entry.pause_seconds, duration),
        _shown(usage and usage.memory_bytes, amount),
        _shown(usage and usage.cpu_percent, "{:.1f}".format),
        _shown(usage and usage.descriptors, str),
    )


def _shown(value, form):
    return UNKNOWN if value is None else form(value)
