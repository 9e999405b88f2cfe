"""The original multilog and ours: same files byte for byte, same words, same exit codes; each goes on
where the other stopped.

Times in names and lines are blotted out.  What stays untested: the original on a clock that is set back.
"""

import itertools
import os
import random
import re
import select
import shutil
import signal
import subprocess
import threading

import pytest

from tests.waiting import until

pytestmark = pytest.mark.skipif(not shutil.which("multilog"), reason="daemontools is not installed")

NAMES = ("multilog", "pymultilog")
_ODD = re.compile(rb"^multilog: warning: [^\n]* is read as \w+\n", re.M)  # which the original does not say
BOTH = pytest.mark.parametrize("name", NAMES)
SECONDS = 30


def without_times(data):
    return re.sub(rb"@[0-9a-f]{24}", b"@T", data)


def contents(place):
    """Return (name, mode, bytes) of all that is below place, oldest first, times blotted out."""
    found = []
    for folder, _, names in sorted(os.walk(place)):
        for name in sorted(names):
            path = os.path.join(folder, name)
            shown = without_times(os.fsencode(os.path.relpath(path, place)))
            with open(path, "rb") as file:
                found.append((shown, os.stat(path).st_mode & 0o777, without_times(file.read())))
    return found


def logged(stage, name, place, script, given, **how):
    """Run a logger to its end: exit code, descriptor 2 and what is below place then."""
    place.mkdir(exist_ok=True)
    source = place.with_suffix(".input")
    source.write_bytes(given)
    with open(source, "rb") as file:
        done = stage.run(name, *script, stdin=file, cwd=place, **how)
    return done.code, without_times(done.err), done.out, contents(place)


def start(stage, name, script, place, **how):
    """Start a logger with unbuffered pipes to its descriptors 0 and 2."""
    place.mkdir(exist_ok=True)
    pipe = subprocess.PIPE
    return stage.start(name, *script, cwd=place, **{"stdin": pipe, "stderr": pipe, "bufsize": 0, **how})


def read_line(pipe):
    said = b""
    while not said.endswith(b"\n"):
        assert select.select([pipe], [], [], SECONDS)[0], f"no whole line was said, only {said}"
        said += os.read(pipe.fileno(), 1000) or b"the end\n"
    return said


def read(path):
    return path.read_bytes() if path.exists() else None


def random_lines(lengths, count, seed):
    chance = random.Random(seed)
    return b"".join(
        bytes(chance.choices(b"abcdefgh *\t\0\xff", k=chance.choice(lengths))) + b"\n" for _ in range(count)
    )


INPUTS = {
    "nothing": b"",
    "one": b"x",
    "short": b"".join(b"line number padded %d\n" % number for number in range(2000)),
    "mixed": random_lines([0, 1, 5, 30, 90, 100, 200, 511, 512, 513], 3000, 1) + b"last",
    "long": random_lines([0, 100, 900, 973, 974, 975, 998, 999, 1000, 1001, 1023, 1024, 2000, 5000, 9000], 150, 2),
    "sizes": random_lines([2065, 2095, 2096, 2097, 4095, 4096, 4097], 100, 3),
    "endless": b"x" * 100000,
    "empty": b"\n" * 20000,
}
SCRIPTS = [
    [],
    [""],
    ["./a"],
    ["t", "./a"],
    ["time", "./a"],
    ["e", "t"],
    ["t", "e"],
    ["e", "t", "./a"],
    ["e", "-*b*", "e", "./a", "e"],
    ["=one", "-*b*", "=./one", "./a", "=two"],
    ["t", "s5000", "n3", "./a", "n300", "s8192", "./b"],
    ["s", "n", "./a"],
    ["s1", "n0", "./a"],
    ["s4096", "n1", "./a"],
    ["s99999999999", "n99999999999", "./a"],
    ["s4096x", "n200x", "./a", "s", "./b"],
    ["t", "s4096", "n200", "./a", "./b", "s6000", "./c"],
    ["-*", "./a"],
    ["+*", "./a", "-", "./b"],
    ["-*", "+*b*c*", "./a", "e", "s4096", "n500", "./b", "=status"],
    ["s4096", "n200", "-a*", "./a", "-*", "+*d*f", "+**a*", "./b", "e"],
    ["t", "-*", "+* a*", "./a", "-* *b", "=./b"],
    ["-*a", "-* *", "./a", "+*", "-*x", "./b"],
    ["=one", "-*", "=two", "+*a*", "=three", "+", "=one"],
    ["s4096", "n100", "!tr a-z A-Z; cat <&4 | wc -c >&5", "./a"],
    ["s4096", "n100", "!", "./a", "foo", "", "--", "-"],
    ["s4096", "n100", "!head -c 10", "./a", "!cat >/dev/null", "./b"],
    ["s4096", "./a", "./a"],
    ["s4096", "n50", "./a/", ".//b", "./c/../c"],
    ["./a/b/c"],
    [".", "e"],
    ["---*", "./a"],
]


@pytest.mark.parametrize("given", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("script", SCRIPTS, ids=" ".join)
def test_files_words_and_code(stage, script, given):
    (code, said, *rest), its = (logged(stage, name, stage.place / name, script, given) for name in reversed(NAMES))
    assert (code, _ODD.sub(b"", said), *rest) == its


PATTERNS = [
    "",
    "*",
    "**",
    "***",
    "a",
    "*a",
    "a*",
    "*a*",
    "**a",
    "a**",
    "*a*b",
    "* one",
    "*:*:*",
    "[a-z].?\\",
    "\xff*",
    "*\n",
]
LINES = [
    b"",
    b"a",
    b"aa",
    b"ab",
    b"ba",
    b"*",
    b"a*",
    b"*a",
    b"a*b",
    b"**",
    b"x one",
    b"x  one",
    b":a:",
    b"::",
    b"a:b:c",
]
LINES += [b"[a-z].?\\", b"b.?\\", b"\xff", b"\xffa", b"a\0b", b"\0", b"one", b" one", b"abab", b"a\r"]


@pytest.mark.parametrize("kind", ["+", "-"])
def test_patterns(stage, kind):
    """Each pattern with a log of its own, in one script."""
    script = []
    for number, pattern in enumerate(PATTERNS):
        script += ["+*" if kind == "-" else "-*", kind + pattern, f"./{number:02}"]
    given = b"\n".join(LINES) + b"\n"
    ours, its = (logged(stage, name, stage.place / name, script, given) for name in reversed(NAMES))
    assert ours == its


def loop(path):
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path.name)


def nowhere(path):
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("not/there")


def complete_directory(path):
    path.mkdir(parents=True)
    path.chmod(0o755)


REFUSALS = [
    # what stands in the way, below the starting directory   what is said
    (lambda at: (at / "status").mkdir(), "unable to create status: is a directory"),
    (lambda at: loop(at / "status"), "unable to create status: symbolic link loop"),
    (lambda at: (at / "a").touch(), "unable to open directory ./a: not a directory"),
    (lambda at: nowhere(at / "a"), "unable to open directory ./a: file does not exist"),
    (lambda at: complete_directory(at / "a/lock"), "unable to lock directory ./a: is a directory"),
    (lambda at: loop(at / "a/current"), "unable to stat ./a/current: symbolic link loop"),
    (lambda at: complete_directory(at / "a/current"), "unable to append to ./a/current: is a directory"),
    (lambda at: loop(at / "a/processed"), "unable to stat ./a/processed: symbolic link loop"),
    (lambda at: complete_directory(at / "a/state"), "unable to write to ./a/state: is a directory"),
    (lambda at: nowhere(at / "a/current"), "unable to write to ./a/current: file does not exist"),
]


@BOTH
@pytest.mark.parametrize("hinder, message", REFUSALS, ids=[message for _, message in REFUSALS])
def test_what_cannot_be_opened_is_said_and_nothing_is_read(stage, name, hinder, message):
    place = stage.place / name
    place.mkdir()
    hinder(place)
    reading, writing = os.pipe()
    os.write(writing, b"a line\n")
    done = stage.run(name, "=status", "./a", stdin=reading, cwd=place)
    assert done == (111, b"", f"multilog: fatal: {message}\n".encode())
    os.close(writing)
    assert os.read(reading, 100) == b"a line\n"
    os.close(reading)


@pytest.mark.parametrize("second", NAMES)
@BOTH
def test_a_log_in_use_is_refused(stage, name, second):
    logger = start(stage, name, ["./a"], stage.place)
    logger.stdin.write(b"x\n")
    until(lambda: read(stage.place / "a/current") == b"x\n")
    done = stage.run(second, "./a", stdin=subprocess.DEVNULL)
    assert done == (111, b"", b"multilog: fatal: unable to lock directory ./a: temporary failure\n")


# Every state that a crash, a kill or a clean end leaves: the mode of each file, None: it is not there.
STATES = list(
    itertools.product([None, 0o644, 0o744], [None, 0o644, 0o744, "linked"], [None, 0o644, 0o744], [False, True])
)


@pytest.mark.parametrize("current, previous, processed, has_state", STATES)
def test_takes_over_what_was_left(stage, current, previous, processed, has_state):
    """Four old files are there, one more than are kept; n4."""
    script = ["s4096", "n4", "!cat; cat <&4; echo next >&5", "./a"]
    found = []
    for name in NAMES:
        log = stage.place / name / "a"
        log.mkdir(parents=True)
        for number, code in enumerate("susu"):
            (log / f"@40000000{number:016x}.{code}").write_text(f"old {number}\n")
        (log / "@short").touch()
        (log / "other").touch()
        for file, mode in (("current", current), ("previous", previous), ("processed", processed)):
            if mode is None:
                continue
            (log / file).write_text(f"{file}\n")
            (log / file).chmod(0o744 if mode == "linked" else mode)
            if mode == "linked":
                (log / "@400000000000000000000007.s").hardlink_to(log / file)
        if has_state:
            (log / "state").write_text("state\n")
            (log / "newstate").write_text("newstate\n")
        elif current == 0o744:
            (log / "state").touch()
        found.append(logged(stage, name, stage.place / name, script, b"a line\n" * 700))
    assert found[0] == found[1]
    assert found[0][0] == 0 and found[0][1] == b""


@pytest.mark.parametrize("first, second", [NAMES, NAMES[::-1]], ids=["ours second", "ours first"])
def test_takes_over_a_log(stage, first, second):
    """After a clean end, and after a kill in the middle: as if one program had written everything."""
    script = ["s4096", "n100", "!cat; echo state >&5", "./a"]
    both, alone = stage.place / "both", stage.place / "alone"
    for name, its in ((first, NAMES[0]), (second, NAMES[0])):
        ours = logged(stage, name, both, script, INPUTS["short"])
        assert ours == logged(stage, its, alone, script, INPUTS["short"])
    for place, name in ((both, first), (alone, NAMES[0])):
        logger = start(stage, name, script, place)
        logger.stdin.write(b"written before the kill\n")
        until(lambda place=place: (read(place / "a/current") or b"").endswith(b"the kill\n"))
        logger.kill()
        logger.wait(SECONDS)
    logged(stage, second, both, script, b"next\n")
    logged(stage, NAMES[0], alone, script, b"next\n")
    found = contents(both)
    assert found == contents(alone)
    assert [file for file, _, _ in found if file.endswith(b".u")] == [b"a/@T.u"]


@pytest.mark.parametrize("second", NAMES)
@BOTH
def test_takes_over_after_a_kill_in_the_processor(stage, name, second):
    """What was full is there, not processed; with ours what comes after it is there, too, or still in the pipe.

    The original loses that.
    """
    given = b"0123456789abcdef\n" * 200 + b"and then\n"
    reading, writing = os.pipe()
    script = ["s4096", "!echo half; touch ../begun; cat ../hold; exit 1", "./a"]
    logger = start(stage, name, script, stage.place, stdin=reading)
    os.mkfifo(stage.place / "hold")
    os.write(writing, given)
    os.close(writing)
    until((stage.place / "begun").exists)
    logger.kill()
    logger.wait(SECONDS)
    os.close(os.open(stage.place / "hold", os.O_WRONLY))  # lets the processor go
    done = stage.run(second, "s4096", "!exit 1", "./a", stdin=subprocess.DEVNULL)
    assert done == (0, b"", b"")
    names = sorted(os.listdir(stage.place / "a"))
    assert {file[25:] for file in names if file[0] == "@"} == {".u"}
    text = b"".join((stage.place / "a" / file).read_bytes() for file in names if file[0] == "@")
    assert given.startswith(text) and len(text) > 2000
    with open(reading, "rb") as rest:
        if name == "pymultilog":
            assert text + rest.read() == given


# Signals 32 and 33, the C library's own, are left out: posix_spawn ignores them, fork does not.
SIGNALS = r"sed -n 's/^\(Sig[BIC]..:\).*\(.......\)$/\1\2/p' /proc/self/status"
SURROUNDINGS = rf"basename $PWD; umask; ls /proc/self/fd; env | grep -v '^_\|^PWD' | sort; {SIGNALS}"
FDS = "for fd in 0 1 4 5; do basename $(readlink /proc/$$/fd/$fd); done"


@pytest.mark.parametrize(
    "command", [SURROUNDINGS, FDS, "cat <&4; echo again >&5; wc -c", "echo to 2 >&2; cat", "exec /bin/cat"]
)
def test_what_a_processor_finds(stage, command):
    """Its descriptors, environment, signals, working directory; what it says."""
    script = ["s4096", "n100", f"!{command}", "./a"]
    ours, its = (logged(stage, name, stage.place / name, script, INPUTS["short"]) for name in reversed(NAMES))
    assert ours == its
    assert any(file.endswith(b".s") for file, _, _ in ours[3])


TROUBLES = [
    # script, what hinders after the first line, what repairs; what is said each time
    (["./a"], lambda a: (a / "previous").mkdir(), lambda a: (a / "previous").rmdir(),
     "warning: unable to rename current to previous in directory ./a, pausing: is a directory"),
    (["!test -e ../repaired || exit 3; cat", "./a"], lambda a: None, lambda a: (a / "../repaired").touch(),
     "warning: processor failed in ./a, pausing"),
    (["!test -e ../repaired || exit 111; cat", "./a"], lambda a: None, lambda a: (a / "../repaired").touch(),
     "warning: processor failed in ./a, pausing"),
    (["!../repaired", "./a"], lambda a: None, lambda a: shutil.copy("/bin/cat", a / "../repaired"),
     "sh: 1: ../repaired: not found"),
    (["!cat", "./a"], lambda a: (a / "newstate").mkdir(), lambda a: (a / "newstate").rmdir(),
     "fatal: unable to run cat: is a directory"),
    (["!cat", "./a"], lambda a: (a / "processed").mkdir(), lambda a: (a / "processed").rmdir(),
     "fatal: unable to run cat: is a directory"),
    (["!cat; cat <&4", "./a"], lambda a: (a / "state").unlink(), lambda a: (a / "state").touch(),
     "fatal: unable to run cat; cat <&4: file does not exist"),
    (["!test -e ../repaired || kill -9 $$; cat", "./a"], lambda a: None, lambda a: (a / "../repaired").touch(),
     "warning: processor crashed in ./a, pausing"),
]  # fmt: skip


def test_trouble_is_said_and_survived(stage):
    """All at the same time: the original pauses for five seconds, twice for a processor that was killed."""
    running = []
    for number, (script, hinder, repair, said) in enumerate(TROUBLES):
        for name in NAMES:
            place = stage.place / f"{name}{number}"
            logger = start(stage, name, script, place)
            logger.stdin.write(b"one\n")
            until(lambda place=place: read(place / "a/current") == b"one\n")
            hinder(place / "a")
            logger.send_signal(signal.SIGALRM)
            running.append((logger, place, repair, said))
    for logger, place, repair, said in running:
        line = read_line(logger.stderr)
        assert line.decode().removeprefix("multilog: ").startswith(said)
        repair(place / "a")
        logger.stdin.write(b"two\nthree")
        logger.stdin.close()
    left = {}
    for logger, place, _, _ in running:
        assert logger.wait(SECONDS) == 0
        kept = [file for file in contents(place) if file[0] != b"repaired"]
        left.setdefault(place.name[-1], []).append(kept)
        names = [file for file, _, _ in kept]
        assert names.count(b"a/@T.s") == 1
        assert sorted(text for file, _, text in kept if b"@" in file or b"current" in file) == [
            b"one\n",
            b"two\nthree\n",
        ]
    for number, (its, ours) in left.items():
        assert its == ours, TROUBLES[int(number)]


@BOTH
def test_term_at_a_line_end_leaves_the_rest_unread(stage, name):
    logger = start(stage, name, ["./a"], stage.place)
    logger.stdin.write(b"one\n")
    until(lambda: read(stage.place / "a/current") == b"one\n")
    logger.send_signal(signal.SIGTERM)
    assert logger.wait(SECONDS) == 0
    assert read(stage.place / "a/current") == b"one\n"
    assert (stage.place / "a/current").stat().st_mode & 0o777 == 0o744


@BOTH
def test_term_in_a_line_reads_to_its_end_and_not_beyond(stage, name):
    reading, writing = os.pipe()
    logger = start(stage, name, ["t", "./a"], stage.place, stdin=reading)
    begun = b"one\nbegun" + b"." * 991
    os.write(writing, begun)
    until(lambda: (read(stage.place / "a/current") or b"").endswith(b"..."))  # 974 bytes of the line: it was read
    logger.send_signal(signal.SIGTERM)
    os.write(writing, b", ended\nfor the next\n")
    assert logger.wait(SECONDS) == 0
    os.close(writing)
    rest = os.read(reading, 1000)
    os.close(reading)
    text = re.sub(rb"@\w+ ", b"", read(stage.place / "a/current"))
    # nothing is lost in between, wherever the signal found it
    assert text + rest == begun + b", ended\nfor the next\n"
    assert text.endswith(b"\n")


@BOTH
def test_term_in_a_line_that_never_ends(stage, name):
    logger = start(stage, name, ["./a"], stage.place)
    logger.stdin.write(b"." * 1000)
    until(lambda: read(stage.place / "a/current") == b"." * 1000)
    logger.send_signal(signal.SIGTERM)
    logger.stdin.write(b"!")
    logger.stdin.close()
    assert logger.wait(SECONDS) == 0
    assert read(stage.place / "a/current") == b"." * 1000 + b"!\n"


def test_turn_by_turn_on_one_pipe_under_load(stage):
    """A writer that never waits; each logger is ended in the middle, the other kind takes over: every line once."""
    given = b"".join(b"line %d of a long day\n" % number for number in range(200000))
    reading, writing = os.pipe()

    def write():
        with open(writing, "wb") as pipe:
            pipe.write(given)

    feeding = threading.Thread(target=write)
    feeding.start()
    log, script = stage.place / "a", ["t", "s16384", "n10000", "!cat; cat <&4 >&5", "./a"]
    for name in NAMES * 4:
        before = len(os.listdir(log)) if log.exists() else 0
        logger = start(stage, name, script, stage.place, stdin=reading)

        def is_far(before=before, logger=logger):
            return logger.poll() is not None or (log.exists() and len(os.listdir(log)) > before + 3)

        until(is_far)
        logger.send_signal(signal.SIGTERM)
        assert logger.wait(SECONDS) == 0
    last = start(stage, "pymultilog", script, stage.place, stdin=reading)
    os.close(reading)
    feeding.join(SECONDS)
    assert last.wait(SECONDS) == 0
    names = sorted(file for file in os.listdir(log) if file.startswith("@"))
    assert all(file.endswith(".s") for file in names)
    text = b"".join((log / file).read_bytes() for file in [*names, "current"])
    assert re.sub(rb"(?m)^@[0-9a-f]{24} ", b"", text) == given


@BOTH
def test_signals_that_are_blocked_from_the_start(stage, name):
    old = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGALRM))
    try:
        logger = start(stage, name, ["./a"], stage.place)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    logger.stdin.write(b"one\n")
    until(lambda: read(stage.place / "a/current") == b"one\n")
    logger.send_signal(signal.SIGALRM)
    until(lambda: read(stage.place / "a/current") == b"")
    logger.send_signal(signal.SIGTERM)
    assert logger.wait(SECONDS) == 0


@BOTH
def test_alarm_starts_a_new_file_in_every_log_that_is_not_empty(stage, name):
    logger = start(stage, name, ["./a", "-*", "./b"], stage.place)
    logger.stdin.write(b"one\n")
    until(lambda: read(stage.place / "a/current") == b"one\n")
    logger.send_signal(signal.SIGALRM)
    until(lambda: read(stage.place / "a/current") == b"")
    logger.stdin.write(b"two\n")
    until(lambda: read(stage.place / "a/current") == b"two\n")
    logger.stdin.close()
    assert logger.wait(SECONDS) == 0
    mode = 0o744
    lock, state = (b"lock", 0o600, b""), (b"state", 0o644, b"")
    assert contents(stage.place / "a") == [(b"@T.s", mode, b"one\n"), (b"current", mode, b"two\n"), lock, state]
    assert contents(stage.place / "b") == [(b"current", mode, b""), lock, state]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
@BOTH
def test_other_signals_kill_it_and_leave_current_incomplete(stage, name, number):
    logger = start(stage, name, ["./a"], stage.place)
    logger.stdin.write(b"one\n")
    until(lambda: read(stage.place / "a/current") == b"one\n")
    logger.send_signal(number)
    assert logger.wait(SECONDS) == -number
    assert logger.stderr.read() == b""
    assert (stage.place / "a/current").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("redirection", ["<&-", "0>/dev/null", "2>&-", "1>&-"])
@BOTH
def test_an_unreadable_input_is_its_end(stage, name, redirection):
    words = ["sh", "-c", f'exec "$@" {redirection}', "sh", *stage.command(name), "./a"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, cwd=stage.place, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


@BOTH
def test_what_it_makes_has_the_usual_modes_under_any_umask(stage, name):
    log = stage.place / "a"
    done = stage.run(name, "s4096", "n3", "=status", "./a", input=INPUTS["short"], umask=0o077)
    assert done == (0, b"", b"")
    found = {file.name[:1]: file.stat().st_mode & 0o777 for file in log.iterdir()}
    assert found == {"@": 0o744, "c": 0o744, "l": 0o600, "s": 0o644}
    assert log.stat().st_mode & 0o777 == 0o700
    assert (stage.place / "status").stat().st_mode & 0o777 == 0o600


@BOTH
def test_opening_does_not_prune(stage, name):
    (stage.place / "a").mkdir()
    for number in range(5):
        (stage.place / f"a/@{number:024}.s").touch()
    (stage.place / "a/current").touch(0o744)
    (stage.place / "a/state").touch()
    (stage.place / "a/current").chmod(0o744)
    assert stage.run(name, "n2", "./a", stdin=subprocess.DEVNULL).code == 0
    assert len(os.listdir(stage.place / "a")) == 8
    assert stage.run(name, "n2", "s4096", "./a", input=b"x" * 4096).code == 0
    assert sum(file.name[0] == "@" for file in (stage.place / "a").iterdir()) == 1


@BOTH
def test_nothing_waits_in_the_logger(stage, name):
    """Whole lines, and the start of a long one, are in the file as soon as they came."""
    logger = start(stage, name, ["./a"], stage.place)
    written = b""
    for piece in (b"a\n", b"b\nc", b"c\n", b"x" * 1000, b"y", b"z\n", b"\n"):
        logger.stdin.write(piece)
        written += piece
        if not written.endswith(b"\nc"):
            until(lambda written=written: read(stage.place / "a/current") == written)


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@BOTH
def test_what_is_synced(stage, name):
    """current at each rotation and at the end; processed and newstate when they are complete."""
    trace = stage.place / "trace"
    place = stage.place / name
    place.mkdir()
    for script, synced in ((["s4096", "n99", "./a"], 1), (["s4096", "n99", "!cat", "./b"], 3)):
        words = ["strace", "-f", "-e", "trace=fsync,fdatasync,sync", "-o", trace, *stage.command(name), *script]
        done = subprocess.run(words, input=INPUTS["short"], cwd=place, capture_output=True, timeout=60)
        if b"strace: " in done.stderr:
            pytest.skip("tracing is not possible here")
        rotations = sum(file.startswith("@") for file in os.listdir(place / script[-1]))
        calls = [line for line in trace.read_bytes().splitlines() if b"sync(" in line]
        assert rotations > 10 and len(calls) == rotations * synced + 1
