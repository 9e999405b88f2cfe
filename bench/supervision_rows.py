"""The row about supervision.  services(folder, scale) -> {what: figure}, as in rows.py, the original's beside ours."""

import os
import signal
import statistics
import time

from bench import machine
from bench.machine import start, stop, tool, until

REST_SECONDS = 10
_KILLED = 10  # services, one after the other


def services(folder, scale):
    """100 services that write one line and wait, each with its log; every figure of ours and of the original's.

    KB of a supervisor, KB of a service with log (two supervisors and an executed logger, not the service itself),
    seconds until every line stands in its log, median seconds from kill -9 of a service until it is up again, and
    how often any of all these processes woke up in ten seconds at rest.  Lower is better.
    """
    count = max(2, int(100 * scale))
    figures = {}
    for label, scanner, supervisor, logger in (
        ("", "pysvscan", "pysupervise", "pymultilog"),
        ("C: ", tool("svscan", "daemontools"), "supervise", "multilog"),
    ):
        place = os.path.join(folder, f"services-{supervisor}")
        names = _make(place, count, logger)
        began = time.monotonic()
        process = start([scanner, place], os.path.join(folder, "scanner.log"))
        try:
            until(lambda names=names: all(map(_has_logged, names)))
            seconds_up = time.monotonic() - began
            pids = machine.session_pids(process.pid)
            until(lambda pids=pids: _are_at_rest(pids))
            supervisors, loggers = (machine.memory_kb(_called(pids, name)) for name in (supervisor, logger))
            wakes = _wakes(pids)
            time.sleep(REST_SECONDS)
            figures |= {
                f"{label}KB a supervisor": supervisors / count / 2,
                f"{label}KB a service": (supervisors + loggers) / count,
                f"{label}s all up": seconds_up,
                f"{label}wake-ups": _wakes(pids) - wakes,
                f"{label}s up again": statistics.median(map(_kill, names[:_KILLED])),
            }
        finally:
            stop(process)
    return figures


def _make(place, count, logger):
    """Make the services; return their directories."""
    names = [os.path.join(place, str(number)) for number in range(count)]
    for name in names:
        for path, words in ((name, "echo begun\nexec sleep 1000"), (f"{name}/log", f"exec {logger} t ./main")):
            os.makedirs(path)
            with open(f"{path}/run", "w", encoding="ascii") as file:
                file.write(f"#!/bin/sh\n{words}\n")
            os.chmod(f"{path}/run", 0o755)
    return names


def _has_logged(name):
    try:
        return os.stat(f"{name}/log/main/current").st_size > 0
    except FileNotFoundError:
        return False


def _called(pids, name):
    return [pid for pid in pids if _status(pid, "Name") == name]


def _status(pid, field):
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        return next(line.split()[1] for line in file if line.startswith(f"{field}:"))


def _wakes(pids):
    return sum(int(_status(pid, "voluntary_ctxt_switches")) for pid in pids)


def _are_at_rest(pids):
    """Return whether hardly anybody woke up for a second: the deafness after a start is over, too."""
    before = _wakes(pids)
    time.sleep(1.1)
    return _wakes(pids) - before < len(pids) / 20


def _kill(name):
    """Return the seconds from the kill of a service until another process is up."""
    killed = _pid(name)
    began = time.monotonic()
    os.kill(killed, signal.SIGKILL)
    until(lambda: _pid(name) not in (0, killed), pause=0.001)
    return time.monotonic() - began


def _pid(name):
    with open(f"{name}/supervise/status", "rb") as file:
        return int.from_bytes(file.read()[12:16], "little")


SUPERVISION_ROWS = {"services": (services, "<= 1.5 MB, <= 8 MB, <= 5 s, 0, <= 1.1 s")}
