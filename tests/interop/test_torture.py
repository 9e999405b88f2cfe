"""Services and their logs under random kills, commands, additions and removals: every line written is in a log, once.

Each service writes numbered lines and marks in shared memory how many; a mark survives any kill.  Everything else is
ours: pysvscan, forked supervisors, pymultilog executed by the run scripts.  Who kills with -9 a logger after it has
written and before it has taken that out of its pipe makes it come again, and may cut the last line of the first time:
such lines are counted.  TORTURE_SECONDS in the environment is how long to go on, 60 by default.
"""

import collections
import contextlib
import mmap
import os
import random
import re
import select
import shutil
import signal
import struct
import sys
import time

import pytest

from pyqmail.supervise.control import command
from tests.waiting import until

pytestmark = pytest.mark.long
SECONDS = float(os.environ.get("TORTURE_SECONDS", "60"))
SERVICES = 12
READ_BYTES = 65536  # what pymultilog takes at once
MARKS = 100_000  # lives of all services together

# One life: its number is one more than that of the last, of which the first 8 bytes of the marks keep count.  A line
# is written whole or not at all, since it is short; killed between write and mark, it has one line more than it says
WRITER = f"""#!{sys.executable}
import fcntl, mmap, os, select, signal, struct, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
with open(sys.argv[1], "r+b") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    marks = mmap.mmap(file.fileno(), 0)
    life = struct.unpack_from("q", marks)[0] + 1
    struct.pack_into("q", marks, 0, life)
    fcntl.flock(file, fcntl.LOCK_UN)  # the map would keep it
tail, number = b"x" * (life % 90), 0
while True:
    for _ in range(life % 40 + 1):
        number += 1
        os.write(1, b"<%d %d %b>\\n" % (life, number, tail))
        struct.pack_into("q", marks, life * 8, number)
    select.select([], [], [], 0.02)
"""


class Torture:
    """The stage, what was done on it, and who is who."""

    def __init__(self, stage, base, seed):
        self.stage, self.base = stage, base
        self.random, self.counts = random.Random(seed), collections.Counter()
        self.names, self.made = [], 0
        self.marks_path = base / "marks"
        with open(self.marks_path, "wb") as file:
            file.truncate(MARKS * 8)
        with open(self.marks_path, "r+b") as file:
            self.marks = mmap.mmap(file.fileno(), 0)
        (base / "writer").write_text(WRITER)
        (base / "writer").chmod(0o755)
        (base / "logs").mkdir()

    # what can happen

    def add(self):
        """Make a service, in one of three ways."""
        name = f"s{self.made}"
        self.made += 1
        run = f"#!/bin/sh\nexec {self.base}/writer {self.marks_path}\n"
        log = f"#!/bin/sh\nexec pymultilog t s16384 n100000 {self.base}/logs/{name}\n"
        way = self.random.choice(("in place", "by name", "by link"))
        if way == "in place":
            self.stage.service(name, run, log=log)
        else:
            hidden = self.stage.service(f".{name}", run, log=log)
            if way == "by name":
                hidden.rename(self.stage.place / name)
            else:
                (self.stage.place / name).symlink_to(f".{name}")
        self.names.append(name)
        self.counts["services"] += 1

    def remove(self):
        """Take a service away as the manual has it: its name, then the service, then its log."""
        if len(self.names) < SERVICES // 2:
            return
        name = self.names.pop(self.random.randrange(len(self.names)))
        folder = self.place(name)
        for one in (folder, folder / "log"):
            # a supervisor that was just killed has not told its service to end yet; and the next one hears commands a
            # moment before it opens ok: leave() in that moment would believe that it had left
            until(
                lambda one=one: self.stage.is_supervised(one) and command(str(one), b"cu") and self.stage.pid(one), 30
            )
        if (self.stage.place / name).is_symlink():
            (self.stage.place / name).unlink()
        else:
            folder = folder.rename(self.stage.place / f".{name}")
        self.leave(folder)
        until(lambda: self.is_drained(folder / "log"))
        self.leave(folder / "log")
        self.counts["removals"] += 1

    def leave(self, folder):
        def has_left():
            command(str(folder), b"cdx")
            return not self.stage.is_supervised(folder)

        until(has_left)

    def kill(self):
        """Kill a service, a supervisor, a logger or its supervisor."""
        folder = self.any_folder()
        number = self.random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        is_log, of_supervisor = folder.name == "log", self.random.random() < 0.3
        pid = self.pid_of_supervisor(folder) if of_supervisor else self.stage.pid(folder)
        if not pid or not self.is_of(pid, folder):
            return
        if number == signal.SIGKILL and is_log and not of_supervisor:
            self.counts["loggers killed by -9"] += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            if of_supervisor:  # until the scanner has waited for it, its service is in nobody's charge
                until(lambda: not os.path.exists(f"/proc/{pid}"))
            what = ("log's " if is_log else "") + ("supervisor" if of_supervisor else "process")
            self.counts[f"kills of a {what}"] += 1

    def tell(self):
        """Give some commands of svc; a logger hears none that would make it stand still for good."""
        letters = "".join(self.random.sample("udtcphai" if self.random.random() < 0.7 else "uk", 2))
        folder = self.any_folder()
        if folder.name == "log" and set(letters) & set("k"):
            self.counts["loggers killed by -9"] += 1
        if self.random.random() < 0.1:
            self.stage.run("pysvc", f"-{letters}", folder)
        else:
            command(str(folder), letters.encode())
        command(str(self.any_folder()), b"cu")
        self.counts["commands"] += 2

    # who is who

    def place(self, name):
        return (self.stage.place / name).resolve()

    def any_folder(self):
        folder = self.place(self.random.choice(self.names))
        return folder / "log" if self.random.random() < 0.4 else folder

    def is_of(self, pid, folder):
        """Return whether a process stands in a folder: its number may be another's by now."""
        with contextlib.suppress(OSError):
            return os.path.samefile(f"/proc/{pid}/cwd", folder)
        return False

    def pid_of_supervisor(self, folder):
        """Return the process that holds the lock; 0 if there is none."""
        with contextlib.suppress(OSError):
            inode = os.stat(folder / "supervise/lock").st_ino
            with open("/proc/locks", encoding="ascii") as file:
                for line in file:
                    words = line.split()
                    if words[1] == "FLOCK" and words[5].endswith(f":{inode}") and self.is_of(words[4], folder):
                        return int(words[4])
        return 0

    def is_drained(self, folder):
        """Return whether nothing is left to read in the pipe that is a log supervisor's descriptor 0."""
        pid = self.pid_of_supervisor(folder)
        return bool(pid) and self.stage.unread_bytes(pid) == 0

    # the sum

    def lives(self):
        return struct.unpack_from("q", self.marks)[0]

    def written(self):
        """Return how many lines each life says it has written."""
        return dict(enumerate(struct.unpack_from(f"{self.lives()}q", self.marks, 8), 1))


LINE = re.compile(rb"@[0-9a-f]{24} <(\d+) (\d+) x*>")


def _logged(folder):
    """Return life -> numbers of its lines in the logs, in the order written; and lines that are none."""
    found, broken = collections.defaultdict(list), []
    for log in sorted(os.listdir(folder)):
        for name in sorted(os.listdir(folder / log), key=lambda name: (name == "current", name)):
            if name.startswith("@") or name == "current":
                for line in (folder / log / name).read_bytes().split(b"\n"):
                    matched = LINE.fullmatch(line)
                    if matched:
                        found[int(matched[1])].append(int(matched[2]))
                    elif line:
                        broken.append(line)
    return found, broken


@pytest.mark.parametrize("options", [("--stop-seconds", "30")])
def test_torture(stage, tmp_path, options, capsys):
    if shutil.disk_usage(tmp_path).free < 1 << 30:
        pytest.skip("no room for the logs")
    seed = random.randrange(1 << 32)
    torture = Torture(stage, tmp_path, seed)
    path = f"{os.path.dirname(sys.executable)}:{stage.environ()['PATH']}"
    scanner = stage.start("pysvscan", *options, env={**stage.environ(), "PATH": path})
    for _ in range(SERVICES):
        torture.add()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        assert scanner.poll() is None, stage.err()
        (what,) = torture.random.choices(
            (torture.kill, torture.tell, torture.add, torture.remove), weights=(60, 30, 2, 2)
        )
        if what != torture.add or len(torture.names) < 2 * SERVICES:
            what()
        select.select([], [], [], 0.01)
    for folder in (place for name in torture.names for place in (torture.place(name), torture.place(name) / "log")):
        until(lambda folder=folder: command(str(folder), b"cu") and stage.pid(folder))
    scanner.terminate()
    assert scanner.wait(60) == 0
    assert stage.everyone() == []
    written, (logged, broken) = torture.written(), _logged(tmp_path / "logs")
    lost, twice = {}, 0
    for life, marked in written.items():
        numbers = logged.get(life, [])
        first_times = list(dict.fromkeys(numbers))
        assert first_times == sorted(first_times), f"life {life}: lines out of order"
        twice += len(numbers) - len(first_times)
        count = max([marked, *first_times[-1:]])
        assert count - marked <= 1
        if len(first_times) != count:
            lost[life] = count - len(first_times)
    assert set(logged) <= set(written)
    lines, counts = sum(map(len, logged.values())) - twice, torture.counts
    warnings = collections.Counter(re.sub(rb"[0-9]+", b"N", line) for line in stage.err().splitlines())
    with capsys.disabled():
        print(f"\ntorture, seed {seed}, {SECONDS:.0f} s: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
        print(
            f"lives of services {len(written)}; lines written {lines + sum(lost.values())}, in files {lines}, ", end=""
        )
        print(f"lost {sum(lost.values())}; after kill -9 of a logger {twice} twice, {len(broken)} cut and there again")
        print(f"warnings: {dict(warnings)}")
    assert lines > 1000 and not lost and b" bytes unread" not in stage.err()
    assert len(broken) <= 2 * counts["loggers killed by -9"]
    assert twice <= counts["loggers killed by -9"] * READ_BYTES // len("<1 1 >\n")
