"""The rows about fairness: how long one good client waits while others flood the server, or only keep it busy.

Ours as it is, ours without a limit of errors and junk, and Postfix under the same.

run(folder, scale) -> {what: figure}; milliseconds for one whole transaction, from connecting to the reply to QUIT.
"""

import os
import socket
import subprocess
import time

from bench.machine import BIN, ROOT, Missing
from bench.systems import Ours, Postfix

_FLOODS = 50
_OTHERS = {"slow": 5000, "idle": 1000, "hog": 14}  # mode -> how many clients
_PATIENCE_SECONDS = 30


class Unlimited(Ours):
    """Only the pauses and quanta of a session hold a flood."""

    name = "without limits"

    def __init__(self, folder, sink_port=0):
        super().__init__(folder, sink_port)
        self._write("errorlimit", "0\n")
        self._write("junklimit", "0\n")


def flood(mode):
    """Return the row of one kind of flood (bench/flood.py): each system quiet, and under it."""

    def run(folder, scale):
        seconds = max(3, 20 * scale)
        figures = {}
        for make in (Ours, Unlimited, Postfix):
            try:
                system = make(folder)
            except Missing:
                if make is not Postfix:
                    raise
                continue
            name = "" if make is Ours else f"{system.name} "
            try:
                system.accept()
                transactions(system.port, 1)
                quiet, _ = transactions(system.port, seconds / 4)
                taken, failures = _under(mode, system.port, seconds)
            finally:
                system.stop()
            figures[f"{name}p50"], figures[f"{name}p99"] = _part(taken, 0.5), _part(taken, 0.99)
            figures[f"{name}failed"], figures[f"{name}quiet p50"] = failures, _part(quiet, 0.5)
        return figures

    return run


def _under(mode, port, seconds):
    count = _OTHERS.get(mode, _FLOODS)
    argv = [f"{BIN}/python", "-m", "bench.flood", str(port), mode, str(count), str(seconds + 60), "to@remote.example"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}) as enemy:
        try:
            if enemy.stdout.readline() != b"ready\n":
                raise SystemExit("bench: the flood did not begin")
            if mode in _OTHERS:
                time.sleep(2)  # they are not waited for, and some are slow
            transactions(port, 1)
            return transactions(port, seconds)
        finally:
            enemy.kill()


def transactions(port: int, seconds: float) -> tuple[list[float], int]:
    """Send one message after another for so long; return the milliseconds of each, and how many failed."""
    taken, failures, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        try:
            transact(port)
            taken.append((time.monotonic() - began) * 1000)
        except OSError:
            failures += 1
        time.sleep(0.01)
    return taken, failures


_STEPS = (
    (b"", b"220"),
    (b"EHLO good.example\r\n", b"250"),
    (b"MAIL FROM:<from@bench.example>\r\n", b"250"),
    (b"RCPT TO:<to@remote.example>\r\n", b"250"),
    (b"DATA\r\n", b"354"),
    (b"Subject: good\r\n\r\n" + b"x" * 70 + b"\r\n.\r\n", b"250"),
    (b"QUIT\r\n", b"221"),
)


def transact(port: int) -> None:
    """Send one message.  Raises OSError, also for any reply but the expected."""
    with socket.create_connection(("127.0.0.1", port), _PATIENCE_SECONDS) as sock, sock.makefile("rb") as replies:
        for command, code in _STEPS:
            sock.sendall(command)
            line = replies.readline()
            while line[3:4] == b"-":
                line = replies.readline()
            if line[:3] != code:
                raise OSError(line)


def _part(figures, part):
    return sorted(figures)[int(len(figures) * part)] if figures else float("inf")


_BAR = "p50 <= 50 ms, p99 <= 500 ms, 0 failed"
FLOOD_ROWS = {
    f"flood-{mode}": (flood(mode), _BAR)
    for mode in ("noop", "rset", "unknown", "rcpt", "quoted", "unread", "slow", "idle", "hog")
}
