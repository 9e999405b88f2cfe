"""supervise, svc, svok and svstat, each case with the original and with ours: equal, or different on purpose.

Lives, mixtures of hands and supervisors, and the lines of failures are in test_daemontools_control.py.  Here are the
traps: what scripts and administrators rely on without knowing.  A case builds, does and returns what is to be seen;
numbers that no two runs share are left out.  Not here: the original's 60 seconds after a failed fork.
"""

import os
import pathlib
import re
import shutil
import signal
import time

import pytest

from pyqmail.base import tai
from tests.processes import is_at_rest, switches
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("supervise", "svc", "svstat", "svok"))), reason="daemontools is not installed"
)

IDLE = "#!/bin/sh\nexec sleep 600\n"
NOTES_TERM = """#!/bin/sh
test -p hold || mkfifo hold
exec 9<>hold
trap 'echo TERM >> notes' TERM
trap 'echo CONT >> notes' CONT
echo up >> notes
while :; do read line <&9; done
"""


class Pair:
    """One implementation: its supervisor on directory `a` of a stage, and its hands."""

    def __init__(self, stage, prefix):
        self.stage, self._prefix, self.process = stage, prefix, None

    def service(self, run=IDLE, **how):
        self.folder = self.stage.service("a", run, **how)
        return self

    def start(self, **how):
        self.process = self.stage.start(f"{self._prefix}supervise", "a", **how)
        until(lambda: self.stage.is_supervised(self.folder))
        return self

    def up(self):
        return self.stage.up(self.folder)

    def run(self, name, *words, **how):
        return self.stage.run(f"{self._prefix}{name}", *words, **how)

    def svc(self, *words):
        return self.run("svc", *words, "a")

    def state(self):
        return self.stage.state(self.folder)

    def until_wish(self, wish):
        return until(lambda: self.state()[17:] == wish)

    def notes(self, name="notes"):
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def svstat(self):
        return re.sub(rb"\d+", b"N", self.run("svstat", "a").out)

    def end(self):
        self.svc("-dx")
        return self.process.wait(10)


def svc_exits_0(pair):
    """Trap 1."""
    pair.service()
    (pair.folder / "supervise").mkdir()
    os.mkfifo(pair.folder / "supervise/control")
    done = pair.run("svc", "-d", "a", "missing")
    return done.code, done.err


def byte_order_of_the_status(pair):
    """Trap 2."""
    began = int(time.time())
    pair.service("#!/bin/sh\necho $$ >>notes\nexec sleep 600\n").start()
    pair.up()
    pid, now = int(until(pair.notes)[0]), time.time()
    state = pair.state()
    seconds = int.from_bytes(state[:8], "big") - (1 << 62) - 10
    is_fine = int.from_bytes(state[8:12], "big") % 1000 == 500
    return len(state), began <= seconds <= now, is_fine, int.from_bytes(state[12:16], "little") == pid, state[16:]


def age_counts_from_the_change_of_pid(pair):
    """Trap 3."""
    pair.service(is_down=True).start()
    label = pair.state()[:12]
    for letter in ("-p", "-c", "-d"):
        pair.svc(letter)
    unchanged = pair.state()[:12] == label
    pair.svc("-u")
    pair.up()
    new = pair.state()[:12]
    pair.svc("-p")
    until(lambda: pair.state()[16] == 1)
    return unchanged, new > label, pair.state()[:12] == new


def deaf_for_a_second(pair):
    """Trap 4."""
    pair.service(NOTES_TERM).start()
    until(pair.notes)
    pair.svc("-t")
    until(lambda: "TERM" in pair.notes())
    seconds, nanoseconds = tai.unix_moment(pair.state()[:12])
    return (pair.folder / "notes").stat().st_mtime - seconds - nanoseconds / 1e9 > 0.9


def one_byte_a_round(pair):
    """Trap 5: x does not overtake the TERM before it."""
    pair.service("#!/bin/sh\ntrap 'echo TERM >> notes; exit' TERM\necho up >> notes\nwhile :; do :; done\n").start()
    until(pair.notes)
    return pair.end(), pair.notes(), pair.state()[12:]


def x_does_not_stop(pair):
    """Trap 6."""
    pair.service(NOTES_TERM).start()
    until(pair.notes)
    pair.svc("-xo")
    pair.until_wish(b"\0")
    first = pair.process.poll(), pair.notes(), pair.svstat()
    pair.svc("-k")
    return first, pair.process.wait(10), pair.state()[12:]


def d_sends_term_and_cont(pair):
    """Trap 6, and what becomes of one that was paused."""
    pair.service(NOTES_TERM).start()
    until(pair.notes)
    pair.svc("-p")
    until(lambda: pair.state()[16] == 1)
    stat = pathlib.Path(f"/proc/{pair.up()}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")  # else TERM may overtake STOP
    pair.svc("-t")
    paused = pair.svstat()
    pair.svc("-d")
    until(lambda: pair.notes().count("CONT") == 1 and "TERM" in pair.notes())
    return paused, sorted(pair.notes()), pair.svstat()


def normally_is_the_file_now(pair):
    """Trap 7."""
    pair.service(is_down=True).start()
    pair.svc("-u")
    pair.up()
    told = [pair.svstat()]
    (pair.folder / "down").unlink()
    told.append(pair.svstat())
    pair.svc("-d")
    until(lambda: pair.stage.pid(pair.folder) == 0)
    return (*told, pair.svstat())


def the_status_is_never_half(pair):
    """Trap 8."""
    pair.service().start()
    pair.up()
    lengths = set()
    for _ in range(20):
        pair.svc("-pc")
        for _ in range(50):
            lengths.add(len(pair.state()))
    until(lambda: pair.state()[16] == 0)
    return lengths, (pair.folder / "supervise/status.new").exists()


def no_spinning_after_a_command(pair):
    """Trap 9."""
    pair.service().start()
    pair.up()
    pair.svc("-o")
    pair.until_wish(b"\0")
    pid = pair.process.pid
    until(lambda: is_at_rest(pid))
    before = switches(pid)
    pair.svstat()  # of no interest
    return is_at_rest(pid) and switches(pid) == before


def ok_comes_before_the_service(pair):
    """Trap 10: whoever is started can be sure that commands would be taken, and that there is a status."""
    pair.service("#!/bin/sh\nsvok . && echo yes >> notes\nls supervise >> notes\nexec sleep 600\n").start()
    until(lambda: "status" in pair.notes())
    return pair.notes()[0], set(pair.notes()) >= {"control", "lock", "ok", "status"}


def writers_do_not_wait(pair):
    """Trap 11."""
    pair.service()
    (pair.folder / "supervise").mkdir()
    for name in ("ok", "control"):
        os.mkfifo(pair.folder / "supervise" / name)
    return pair.run("svok", "a"), pair.run("svc", "-d", "a"), pair.run("svstat", "a")


def locks_are_flocks(pair):
    """Traps 12 and 13."""
    import fcntl

    pair.service()
    (pair.folder / "supervise").mkdir()
    with open(pair.folder / "supervise/lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return pair.run("supervise", "a")


def what_run_starts_with(pair):
    """Traps 14 and 15: groups, session, signals, descriptors, arguments, environment."""
    pair.service("#!/usr/bin/python3 -I\nimport os\n" + SEEN).start(env={"PATH": os.environ["PATH"], "LC_ALL": "C"})
    text = until(lambda: (pair.folder / "seen").exists() and (pair.folder / "seen").read_text())
    return text.replace(str(pair.process.pid), "SUPERVISOR")


SEEN = """
own = open("/proc/self/status").read().split("\\n")
masks = [line for line in own if line.startswith(("SigBlk", "ShdPnd", "SigCgt"))]
parent = os.getppid()
arguments = open("/proc/self/cmdline").read()
descriptors = sorted(name for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name))
with open("new", "w") as file:
    print(masks, parent, os.getpgid(0) == os.getpgid(parent), os.getsid(0) == os.getsid(parent), file=file)
    is_at_home = os.getcwd() == os.path.dirname(os.path.abspath(__file__))
    print(arguments, descriptors, sorted(os.environ.items()), is_at_home, file=file)
os.rename("new", "seen")
os.execvp("sleep", ["sleep", "600"])
"""


def ignored_signals_reach_run(pair):
    """Trap 15: those that supervise was started with, and no other.

    Without 32 and 33, which the C library keeps for itself and ignores in whatever it spawns.
    """
    script = "#!/bin/sh\ngrep SigIgn /proc/self/status > new\nmv new seen\nexec sleep 600\n"

    def ignore():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)

    pair.service(script).start(preexec_fn=ignore)
    seen = until(lambda: (pair.folder / "seen").exists() and (pair.folder / "seen").read_text())
    return int(seen.split()[1], 16) & (1 << 31) - 1


def no_shell_no_path(pair):
    """Trap 16."""
    pair.service(None)
    (pair.folder / "run").write_text("exec sleep 600\n")
    (pair.folder / "run").chmod(0o755)
    pair.start()
    line = until(lambda: pair.stage.err().split(b"\n")[:-1])[0]
    return line, pair.end()


def rubbish_in_the_fifo(pair):
    pair.service().start()
    pid = pair.up()
    fd = os.open(pair.folder / "supervise/control", os.O_WRONLY)
    letters = b"duoxpchaitk" + b"q12w"  # the last four are no rubbish to ours
    rubbish = bytes(byte for byte in range(256) if byte not in letters)
    os.write(fd, rubbish * 8 + b"o")
    os.close(fd)
    pair.until_wish(b"\0")
    return pair.up() == pid, pair.end(), pair.stage.err()


def forks_and_exits(pair):
    """Only the process of run counts: what it leaves behind goes on, and it is started again."""
    pair.service("#!/bin/sh\necho up >> notes\nsleep 600 &\nexit 0\n").start()
    until(lambda: len(pair.notes()) >= 3)
    return pair.end()


def killed_by_term_it_leaves_an_orphan(pair):
    """Trap 44."""
    pair.service().start()
    pid = pair.up()
    until(lambda: os.readlink(f"/proc/{pid}/exe").endswith("sleep"))  # before that it has the original's FIFOs
    pair.process.terminate()
    code = pair.process.wait(10)
    os.kill(pid, 0)
    return code, pair.svstat(), pair.run("svok", "a").code


def garbage_in_the_status(pair):
    pair.service(is_down=True)
    (pair.folder / "supervise").mkdir()
    (pair.folder / "supervise/status").write_bytes(b"x" * 7)
    pair.start()
    return pair.state()[12:], pair.svstat(), pair.end()


def svstat_reads_longer_files(pair):
    pair.service(is_down=True).start()
    path = pair.folder / "supervise/status"
    path.write_bytes(pair.state() + b"\2\0" * 11)
    return pair.svstat()


def the_clock_set_back(pair):
    """The label is in the future then: the age is 0, and nothing waits for it."""
    pair.service(is_down=True).start()
    path = pair.folder / "supervise/status"
    data = pair.state()
    path.write_bytes((int.from_bytes(data[:8], "big") + 3600).to_bytes(8, "big") + data[8:])
    seen = pair.run("svstat", "a").out
    pair.svc("-u")
    pair.up()
    return seen, re.sub(rb"\d+\) \d seconds", b"N) N seconds", pair.run("svstat", "a").out)  # some, no hour


EQUAL = [
    ("svc", svc_exits_0),
    ("supervise", byte_order_of_the_status),
    ("supervise", age_counts_from_the_change_of_pid),
    ("supervise", deaf_for_a_second),
    ("supervise", one_byte_a_round),
    ("supervise", x_does_not_stop),
    ("supervise", d_sends_term_and_cont),
    ("svstat", normally_is_the_file_now),
    ("supervise", the_status_is_never_half),
    ("supervise", no_spinning_after_a_command),
    ("supervise", ok_comes_before_the_service),
    ("svc svok svstat", writers_do_not_wait),
    ("supervise", locks_are_flocks),
    ("supervise", what_run_starts_with),
    ("supervise", ignored_signals_reach_run),
    ("supervise", no_shell_no_path),
    ("supervise", rubbish_in_the_fifo),
    ("supervise", forks_and_exits),
    ("supervise svstat svok", killed_by_term_it_leaves_an_orphan),
    ("supervise", garbage_in_the_status),
    ("svstat", svstat_reads_longer_files),
    ("svstat", the_clock_set_back),
]


def both(tmp_path, stage, case):
    """Return what the case shows with the original and with ours."""
    results = []
    for prefix in ("", "py"):
        place = tmp_path / f"{prefix}set"
        place.mkdir()
        other = type(stage)(place.resolve())
        try:
            results.append(case(Pair(other, prefix)))
        finally:
            other.close()
    return results


@pytest.mark.parametrize("programs, case", EQUAL, ids=lambda value: getattr(value, "__name__", value))
def test_equal(tmp_path, stage, programs, case):
    its, ours = both(tmp_path, stage, case)
    assert ours == its


def files(pair):
    pair.service(is_down=True).start()
    found = os.listdir(pair.folder / "supervise")
    return sorted(name for name in found if not name.endswith(".new"))  # one may be on its way


def runs(pid):
    """Return whether a process has executed what IDLE does."""
    return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\0")


def started_beside_an_orphan(pair):
    """Trap 44: whether the next supervisor starts a second copy."""
    pair.service().start()
    pid = pair.up()
    until(lambda: runs(pid))  # until then it holds the supervisor's lock, too
    pair.process.kill()
    pair.process.wait()
    pair.start()
    pair.svc("-o")
    pair.until_wish(b"\0")
    return pair.stage.pid(pair.folder) != pid


def a_plain_file_as_control(pair):
    pair.service(is_down=True)
    (pair.folder / "supervise").mkdir()
    (pair.folder / "supervise/control").touch()
    pair.start()
    return [line.replace(b"a/", b"") for line in pair.stage.err().split(b"\n")[:-1]]


DIFFERENT = [
    # programs, case, the original's, ours
    ("supervise", files, ["control", "lock", "ok", "status"], ["control", "details", "lock", "ok", "status"]),
    ("supervise", started_beside_an_orphan, True, False),
    (
        "supervise",
        a_plain_file_as_control,
        [],
        [b"supervise: warning: supervise/control is not a FIFO, making it again"],
    ),
]


@pytest.mark.parametrize("programs, case, theirs, new", DIFFERENT, ids=lambda value: getattr(value, "__name__", ""))
def test_different_on_purpose(tmp_path, stage, programs, case, theirs, new):
    its, ours = both(tmp_path, stage, case)
    assert (its, ours) == (theirs, new)


@pytest.mark.parametrize("first, second", [("supervise", "pysupervise"), ("pysupervise", "supervise")])
def test_an_orphan_of_the_other_is_not_taken_over(stage, first, second):
    """The original leaves no proof, and understands none."""
    folder = stage.service("a")
    process = stage.start(first, "a")
    pid = stage.up(folder)
    until(lambda: runs(pid))
    process.kill()
    process.wait()
    stage.start(second, "a")
    assert until(lambda: stage.pid(folder) not in (0, pid))


def test_after_the_original_was_in_charge_old_details_say_nothing(stage):
    folder = stage.service("a")
    ours = stage.start("pysupervise", "a")
    stage.up(folder)
    stage.run("svc", "-dx", "a")
    assert ours.wait(10) == 0
    stage.start("supervise", "a")
    stage.up(folder)
    assert (folder / "supervise/details").exists()
    assert b";" not in stage.run("pysvstat", "--long", "a").out
    assert stage.run("pysvwait", "-d", "-t", 0, "a").code == 99
    assert stage.run("pysvwait", "-U", "-t", 0, "a").code == 0


def test_new_files_mean_nothing_to_the_original_and_do_no_harm(stage):
    """A directory made for ours, with everything, under the original's supervise."""
    folder = stage.service("a", "#!/bin/sh\necho up >> notes\nexit 100\n")
    for name in ("start", "stop", "notify", "finish"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> notes\n")
        (folder / name).chmod(0o755)
    for name, word in (("backoff", "60"), ("down-signal", "QUIT"), ("notification-fd", "3"), ("timeout-kill", "9")):
        (folder / name).write_text(word)
    process = stage.start("supervise", "a")
    until(lambda: (folder / "notes").exists() and (folder / "notes").read_text().split() == ["up"] * 3)
    stage.run("pysvc", "-dx", "a")
    assert process.wait(10) == 0
