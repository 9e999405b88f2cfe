"""The rows of the table about logging: MB/s through a pipe into a log, beside the original."""

import os
import shutil
import subprocess
import time

from bench.machine import BIN, PATH, tool

ROUNDS = 5
MEGABYTE = 1_000_000


def log_short_lines(folder, scale):
    """MB/s of 100-byte lines, stamped (t), in files of 1 MB as our services have them."""
    return log_throughput(folder, scale, 100, ["t", "s1000000", "n100000", "./log"], 40)


def log_long_lines(folder, scale):
    """MB/s of 2 KB lines, not stamped, in files of 1 MB."""
    return log_throughput(folder, scale, 2048, ["s1000000", "n100000", "./log"], 80)


def log_throughput(folder, scale, line_bytes, script, megabytes):
    """Run both loggers in turn, ROUNDS times each, on lines of line_bytes out of a pipe: the middle MB/s of each.

    What is written is counted: nothing else than all of it is a figure.
    """
    given = os.path.join(folder, "lines")
    count = max(1000, int(megabytes * scale * MEGABYTE) // line_bytes)
    with open(given, "wb") as file:
        file.writelines([b"%0*d\n" % (line_bytes - 1, number) for number in range(count)])
    loggers = {"pyqmail": [f"{BIN}/pymultilog"], "multilog": [tool("multilog", "daemontools")]}
    taken = {name: [] for name in loggers}
    for _ in range(ROUNDS):
        for name, argv in loggers.items():
            taken[name].append(_seconds([*argv, *script], given, folder, count))
    os.remove(given)
    return {name: count * line_bytes / MEGABYTE / sorted(seconds)[ROUNDS // 2] for name, seconds in taken.items()}


def _seconds(argv, given, folder, count):
    """Return the seconds from start to end of one logger that is fed through a pipe; its log is removed."""
    log = os.path.join(folder, "log")
    began = time.monotonic()
    with subprocess.Popen(["cat", given], stdout=subprocess.PIPE) as feeder:
        subprocess.run(argv, stdin=feeder.stdout, cwd=folder, check=True, env={"PATH": PATH})
    seconds = time.monotonic() - began
    written = sum(_lines(os.path.join(log, name)) for name in os.listdir(log))
    shutil.rmtree(log)
    if written != count:
        raise SystemExit(f"bench: {written} of {count} lines are in the log")
    return seconds


def _lines(path):
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(MEGABYTE), b""))


LOGGING_ROWS = {
    "log-short-lines": (log_short_lines, ">= 0.5 x multilog"),
    "log-long-lines": (log_long_lines, ">= 1.0 x multilog"),
}
