"""pymultilog as a program, beside the original: what it leaves on disk, its lines and exit codes, its signals."""

import os
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [sys.executable, f"{ROOT}/bin/pymultilog"]
ORIGINAL = ["multilog"]
needs_original = pytest.mark.skipif(not shutil.which("multilog"), reason="the original is not installed")
DEADLINE_SECONDS = 30
EMPTY = b""


def without_times(data):
    return re.sub(rb"@[0-9a-f]{24}", b"@T", data)


def contents(place):
    """Return (name, mode, bytes) of all files below place, oldest first, times blotted out."""
    found = []
    for folder, _, names in sorted(os.walk(place)):
        for name in sorted(names):
            path = os.path.join(folder, name)
            shown = without_times(os.fsencode(os.path.relpath(path, place)))
            with open(path, "rb") as file:
                found.append((shown, os.stat(path).st_mode & 0o777, without_times(file.read())))
    return found


def logged(command, place, script, given):
    place.mkdir(exist_ok=True)
    source = place.with_suffix(".input")
    source.write_bytes(given)
    with open(source, "rb") as file:
        done = subprocess.run([*command, *script], stdin=file, capture_output=True, cwd=place, timeout=60)
    return done.returncode, without_times(done.stderr), contents(place)


def random_lines(lengths, count, seed):
    chance = random.Random(seed)
    return b"".join(
        bytes(chance.choices(b"abcdefgh *\t\0\xff", k=chance.choice(lengths))) + b"\n" for _ in range(count)
    )


INPUTS = {
    "nothing": b"",
    "short": b"".join(b"line number padded %d\n" % number for number in range(2000)),
    "mixed": random_lines([0, 1, 5, 30, 90, 100, 200, 511, 512, 513], 3000, 1) + b"last",
    "long": random_lines([0, 100, 900, 973, 974, 975, 998, 999, 1000, 1001, 1023, 1024, 2000, 5000, 9000], 150, 2),
    "endless": b"x" * 100000,
    "empty": b"\n" * 20000,
}
SCRIPTS = [
    [],
    ["./a"],
    ["t", "./a"],
    ["e"],
    ["s4096", "n200", "./a"],
    ["t", "s5000", "n3", "./a", "n300", "s8192", "./b"],
    ["-*", "+*b*c*", "./a", "e", "s4096", "n500", "./b", "=status"],
    ["s4096", "n200", "-a*", "./a", "-*", "+*d*f", "+**a*", "./b", "e"],
    ["s4096", "n100", "!tr a-z A-Z; cat <&4 | wc -c >&5", "./a"],
    ["s4096", "n100", "!", "./a", "foo", "", "--", "-"],
    ["s4096", "./a", "./a"],
]


@needs_original
@pytest.mark.parametrize("given", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("script", SCRIPTS, ids=" ".join)
def test_as_the_original(tmp_path, script, given):
    ours = logged(OURS, tmp_path / "ours", script, given)
    assert ours == logged(ORIGINAL, tmp_path / "original", script, given)


@needs_original
@pytest.mark.parametrize("first, second", [(OURS, ORIGINAL), (ORIGINAL, OURS)], ids=["ours first", "ours second"])
def test_takes_over_a_log(tmp_path, first, second):
    """After a clean end, and after a kill in the middle: as if one program had written everything."""
    script = ["s4096", "n100", "!cat; echo state >&5", "./a"]
    given = INPUTS["short"]
    both = [logged(command, tmp_path / "both", script, given)[0] for command in (first, second)]
    alone = [logged(ORIGINAL, tmp_path / "alone", script, given)[0] for _ in range(2)]
    assert both == alone == [0, 0]
    assert contents(tmp_path / "both") == contents(tmp_path / "alone")
    for place, command in ((tmp_path / "both", first), (tmp_path / "alone", ORIGINAL)):
        with running(command, script, place) as logger:
            logger.stdin.write(b"written before the kill\n")
            wait_for(place / "a/current", b"the kill\n")
            logger.kill()
    logged(second, tmp_path / "both", script, b"next\n")
    logged(ORIGINAL, tmp_path / "alone", script, b"next\n")
    found = contents(tmp_path / "both")
    assert found == contents(tmp_path / "alone")
    assert [name for name, _, _ in found if name.endswith(b".u")] == [b"a/@T.u"]


class running:
    """A logger with an unbuffered pipe to its stdin; killed at the end, whatever happens."""

    def __init__(self, command, script, place):
        self.command, self.place = [*command, *script], place

    def __enter__(self):
        self.place.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, cwd=self.place
        )
        return self.process

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(DEADLINE_SECONDS)
        self.process.stdin.close()
        self.process.stderr.close()


def wait_for(path, ending):
    """Wait until the file at path ends so, or is EMPTY."""
    for _ in range(DEADLINE_SECONDS * 100):
        if path.exists():
            text = path.read_bytes()
            if text.endswith(ending) if ending else not text:
                return
        select.select([], [], [], 0.01)
    raise AssertionError(f"{path} never ended with {ending}")


def read_line(pipe):
    ready = select.select([pipe], [], [], DEADLINE_SECONDS)[0]
    return os.read(pipe.fileno(), 1000) if ready else b"nothing was said"


COMMANDS = [OURS, pytest.param(ORIGINAL, marks=needs_original)]
BOTH = pytest.mark.parametrize("command", COMMANDS, ids=["ours", "original"])


@BOTH
def test_term_at_a_line_end_leaves_the_rest_unread(tmp_path, command):
    with running(command, ["./a"], tmp_path) as logger:
        logger.stdin.write(b"one\n")
        wait_for(tmp_path / "a/current", b"one\n")
        logger.send_signal(signal.SIGTERM)
        assert logger.wait(DEADLINE_SECONDS) == 0
    assert (tmp_path / "a/current").read_bytes() == b"one\n"
    assert (tmp_path / "a/current").stat().st_mode & 0o777 == 0o744


def test_term_in_a_line_reads_to_its_end_and_not_beyond(tmp_path):
    reading, writing = os.pipe()
    (tmp_path / "a").mkdir()
    with subprocess.Popen([*OURS, "t", "./a"], stdin=reading, cwd=tmp_path) as logger:
        os.write(writing, b"one\nbegun" + b"." * 991)
        wait_for(tmp_path / "a/current", b"....")  # the label and 974 bytes of the line: it has been read
        logger.send_signal(signal.SIGTERM)
        os.write(writing, b", ended\nfor the next\n")
        assert logger.wait(DEADLINE_SECONDS) == 0
    rest = os.read(reading, 1000)
    os.close(reading)
    os.close(writing)
    text = (tmp_path / "a/current").read_bytes()
    # nothing is lost in between, wherever the signal found it
    assert re.sub(rb"@\w+ ", b"", text) + rest == b"one\nbegun" + b"." * 991 + b", ended\nfor the next\n"
    assert text.endswith(b"\n")


@BOTH
def test_alarm_starts_a_new_file(tmp_path, command):
    with running(command, ["./a", "./b"], tmp_path) as logger:
        logger.stdin.write(b"one\n")
        wait_for(tmp_path / "b/current", b"one\n")
        logger.send_signal(signal.SIGALRM)
        wait_for(tmp_path / "b/current", EMPTY)
        logger.stdin.write(b"two\n")
        wait_for(tmp_path / "b/current", b"two\n")
        logger.stdin.close()
        assert logger.wait(DEADLINE_SECONDS) == 0
    for log in "ab":
        found = [(name, text) for name, _, text in contents(tmp_path / log) if name != b"lock"]
        assert sorted(found)[0] == (b"@T.s", b"one\n") and (b"current", b"two\n") in found


@BOTH
def test_a_log_whose_directory_is_gone_is_complained_about(tmp_path, command):
    with running(command, ["./a"], tmp_path) as logger:
        logger.stdin.write(b"one\n")
        wait_for(tmp_path / "a/current", b"one\n")
        shutil.rmtree(tmp_path / "a")
        logger.send_signal(signal.SIGALRM)
        said = b"unable to rename current to previous in directory ./a, pausing: file does not exist\n"
        assert read_line(logger.stderr) == b"multilog: warning: " + said


def test_a_full_disk_is_waited_for_even_when_told_to_end(tmp_path):
    with running(OURS, ["./a"], tmp_path) as logger:
        logger.stdin.write(b"one\n")
        wait_for(tmp_path / "a/current", b"one\n")
        resource.prlimit(logger.pid, resource.RLIMIT_FSIZE, (6, -1))
        logger.stdin.write(b"two\n")
        said = b"multilog: warning: unable to write to ./a/current, pausing: file too big\n"
        assert read_line(logger.stderr) == said
        logger.send_signal(signal.SIGTERM)
        resource.prlimit(logger.pid, resource.RLIMIT_FSIZE, (-1, -1))
        assert logger.wait(DEADLINE_SECONDS) == 0
    assert (tmp_path / "a/current").read_bytes() == b"one\ntwo\n"


def test_at_rest_it_does_not_wake_up(tmp_path):
    def wakeups(pid):
        with open(f"/proc/{pid}/status") as status:
            return [line for line in status if "ctxt_switches" in line]

    with running(OURS, ["t", "./a"], tmp_path) as logger:
        logger.stdin.write(b"one\n")
        wait_for(tmp_path / "a/current", b"one\n")
        select.select([logger.stderr], [], [], 0.2)
        before = wakeups(logger.pid)
        select.select([logger.stderr], [], [], 0.5)
        assert wakeups(logger.pid) == before


@pytest.mark.parametrize("redirection", ["<&-", "0>/dev/null"])
@BOTH
def test_an_unreadable_input_is_its_end(tmp_path, command, redirection):
    words = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command, "./a"]
    done = subprocess.run(words, capture_output=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


@BOTH
def test_an_interrupt_kills_it_and_leaves_current_incomplete(tmp_path, command):
    with running(command, ["./a"], tmp_path) as logger:
        logger.stdin.write(b"one\n")
        wait_for(tmp_path / "a/current", b"one\n")
        logger.send_signal(signal.SIGINT)
        assert logger.wait(DEADLINE_SECONDS) == -signal.SIGINT
        assert logger.stderr.read() == b""
    assert (tmp_path / "a/current").stat().st_mode & 0o777 == 0o644
