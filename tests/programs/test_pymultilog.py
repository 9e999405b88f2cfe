"""pymultilog as a program where the original is no measure: faults, what is read and written counted, its options.

What it has in common with the original stands in tests/interop/test_multilog.py.
"""

import collections
import os
import re
import select
import shutil
import signal
import subprocess
import threading

import pytest

from pyqmail.system.descriptors import write_all
from tests.processes import needs_system_calls, sleeps_for_ever, switches
from tests.waiting import until

SECONDS = 30
NEEDS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="mounting a file system needs root")


def start(stage, *script, **how):
    """Start a logger with unbuffered pipes to its descriptors 0 and 2."""
    pipe = subprocess.PIPE
    return stage.start("pymultilog", *script, **{"stdin": pipe, "stderr": pipe, "bufsize": 0, **how})


def read(path):
    return path.read_bytes() if path.exists() else None


def read_line(pipe):
    said = b""
    while not said.endswith(b"\n"):
        assert select.select([pipe], [], [], SECONDS)[0], f"no whole line was said, only {said}"
        said += os.read(pipe.fileno(), 1000) or b"the end\n"
    return said


def lines_of(log):
    """Return the lines of all files of a log, oldest first."""
    names = sorted(name for name in os.listdir(log) if name.startswith("@"))
    return b"".join(read(log / name) or b"" for name in [*names, "previous", "current"]).splitlines()


def numbered(count):
    """Return so many lines of 32 bytes: what is read at once ends with a line then."""
    return b"".join(b"%08d and some more and more\n" % number for number in range(count))


def write_and_close(pipe, text):
    """Write all of text: what an unbuffered pipe takes at once may be a part."""
    with pipe:
        write_all(pipe.fileno(), text)


class Small:
    """A file system in memory of so many KB, mounted while the test runs."""

    def __init__(self, place, kilobytes):
        self.place = place
        place.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "none")

    def _mount(self, *words):
        if subprocess.run(["mount", *words, self.place], capture_output=True, check=False, timeout=60).returncode:
            pytest.skip("mounting is not possible here")

    def grow(self, kilobytes):
        self._mount("-o", f"remount,size={kilobytes}k")

    def make_read_only(self):
        self._mount("-o", "remount,ro")

    def close(self):
        subprocess.run(["umount", "-l", self.place], check=False, timeout=60)


@pytest.fixture
def disk(stage):
    """A small file system in the stage's `disk`, 64 KB."""
    made = Small(stage.place / "disk", 64)
    yield made
    made.close()


@NEEDS_ROOT
@pytest.mark.parametrize("script", [["s1000000"], ["s8192", "n100"], ["s8192", "n100", "!cat"]], ids=" ".join)
def test_a_full_disk_is_waited_for_and_every_line_is_there(stage, disk, script):
    logger = start(stage, *script, "./disk/a")
    given = numbered(20000)
    feeding = threading.Thread(target=write_and_close, args=(logger.stdin, given))
    feeding.start()
    said = read_line(logger.stderr)
    assert re.match(rb"multilog: warning: unable to write to ./disk/a/current, pausing: |cat: ", said), said
    logger.send_signal(signal.SIGALRM)
    disk.grow(4000)
    feeding.join(SECONDS)
    assert logger.wait(SECONDS) == 0
    assert lines_of(disk.place / "a") == given.splitlines()


@NEEDS_ROOT
def test_term_on_a_full_disk_ends_it_when_all_that_was_read_is_written(stage, disk):
    reading, writing = os.pipe()
    logger = start(stage, "./disk/a", stdin=reading)
    given = numbered(4000)
    feeding = threading.Thread(target=write_and_close, args=(open(writing, "wb", 0), given))
    feeding.start()
    assert read_line(logger.stderr).startswith(b"multilog: warning: unable to write to ./disk/a/current, pausing: ")
    logger.send_signal(signal.SIGTERM)
    disk.grow(4000)
    assert logger.wait(SECONDS) == 0
    with open(reading, "rb") as rest:
        assert b"\n".join(lines_of(disk.place / "a")) + b"\n" + rest.read() == given
    feeding.join(SECONDS)


@NEEDS_ROOT
def test_a_kill_on_a_full_disk_leaves_what_is_not_written_to_the_next_one(stage, disk):
    """The original has read it, and takes it along."""
    reading, writing = os.pipe()
    given = numbered(4000)
    feeding = threading.Thread(target=write_and_close, args=(open(writing, "wb", 0), given))
    feeding.start()
    logger = start(stage, "./disk/a", stdin=reading)
    assert read_line(logger.stderr).startswith(b"multilog: warning: unable to write to ./disk/a/current, pausing: ")
    logger.kill()
    logger.wait(SECONDS)
    disk.grow(4000)
    next_one = start(stage, "./disk/a", stdin=reading)
    assert next_one.wait(SECONDS) == 0
    feeding.join(SECONDS)
    os.close(reading)
    found = lines_of(disk.place / "a")
    assert set(given.splitlines()) <= set(found)  # at most what was read at once may be there twice, its last line cut
    assert len(found) <= 4000 + 65536 // 32


def test_kills_under_full_load_lose_no_line_between_reading_and_writing(stage):
    """The original loses a few in each hundred kills, and cuts one at every kill."""
    reading, writing = os.pipe()
    is_over, written = threading.Event(), []

    def feed():
        while not is_over.is_set():
            line = b"<%d%s>\n" % (len(written), b"x" * (len(written) % 90))
            os.write(writing, line)
            written.append(line)
        os.close(writing)

    feeding = threading.Thread(target=feed)
    feeding.start()
    log = stage.place / "a"
    for _ in range(8):
        before = size(log)
        logger = start(stage, "s100000", "n10000", "./a", stdin=reading)
        until(lambda before=before: size(log) > before + 100_000)
        logger.kill()
        logger.wait(SECONDS)
    is_over.set()
    last = start(stage, "s100000", "n10000", "./a", stdin=reading)
    os.close(reading)
    assert last.wait(SECONDS) == 0
    feeding.join(SECONDS)
    found = collections.Counter(line + b"\n" for line in lines_of(log))
    assert found.keys() >= set(written)
    assert len(found.keys() - set(written)) <= 8  # a write that a kill has cut; its lines come again, whole


def test_somebody_else_reads_the_same_pipe_between_looking_and_taking(stage):
    """Held up by a descriptor 2 that is full; what it then takes out in ignorance is logged, too."""
    reading, writing = os.pipe()
    held, holding = os.pipe()
    os.write(holding, bytes(65536))
    logger = start(stage, "./a", "e", stdin=reading, stderr=holding)
    os.write(writing, b"one\ntwo\n")
    until(lambda: read(stage.place / "a/current") == b"one\ntwo\n")
    assert os.read(reading, 100) == b"one\ntwo\n"
    os.write(writing, b"three\nfour\n")
    os.close(writing)
    os.close(reading)
    assert os.read(held, 65536) == bytes(65536)
    assert logger.wait(SECONDS) == 0
    assert read(stage.place / "a/current") == b"one\ntwo\nthree\nfour\n"
    os.close(holding)
    os.close(held)


@pytest.mark.parametrize("size", [1, 99, 1000, 1500, 4000])
def test_a_pipe_of_packets(stage, size):
    """The original drops what is beyond 1024 bytes of a packet."""
    reading, writing = os.pipe2(os.O_DIRECT)
    logger = start(stage, "s1000000", "./a", stdin=reading)
    os.close(reading)
    given = numbered(50 * size)[: 50 * size]
    for at in range(0, len(given), size):
        os.write(writing, given[at : at + size])
    os.close(writing)
    assert logger.wait(SECONDS) == 0
    assert read(stage.place / "a/current") == given if given.endswith(b"\n") else given + b"\n"


def with_descriptors(stage, count, *words):
    """Run pymultilog with so many descriptors at most; nobody's cached modules are needed to come so far."""
    words = ["sh", "-c", f'ulimit -n {count}; exec "$@"', "sh", *stage.command("pymultilog"), *words]
    done = subprocess.run(words, input=b"one\n", capture_output=True, cwd=stage.place, timeout=60)
    return done.returncode, done.stderr


def test_few_descriptors(stage):
    """It says so in one line, or it works: from some number on it does."""
    found = [with_descriptors(stage, count, "./a") for count in range(6, 14)]
    assert all(code == 0 and not said or code == 111 and said.count(b"\n") == 1 for code, said in found), found
    assert all(said.endswith(b": process cannot open more files\n") for code, said in found if code)
    assert found[0][0] == 111 and found[-1][0] == 0


@NEEDS_ROOT
def test_a_read_only_disk_is_said_before_anything_is_read(stage, disk):
    disk.make_read_only()
    said = b"multilog: fatal: unable to open directory ./disk/a: file does not exist\n"
    assert stage.run("pymultilog", "./disk/a", input=b"x\n") == (111, b"", said)


@NEEDS_ROOT
def test_a_log_on_a_read_only_disk(stage, disk):
    assert stage.run("pymultilog", "./disk/a", input=b"x\n").code == 0
    disk.make_read_only()
    said = b"multilog: fatal: unable to lock directory ./disk/a: read-only file system\n"
    assert stage.run("pymultilog", "./disk/a", input=b"x\n") == (111, b"", said)


GONE = [
    # what somebody does to the log                        what still stands where it was put
    (shutil.rmtree, []),
    (lambda log: (log / "current").unlink(), []),
    (lambda log: (log / "current").rename(log / "moved"), [b"one"]),
    (lambda log: log.rename(log.with_name("b")), [b"one"]),
]


@pytest.mark.parametrize("remove, kept", GONE, ids=["removed", "current removed", "current moved", "moved"])
@pytest.mark.parametrize("alarm", [False, True])
def test_a_log_that_is_gone_is_made_anew(stage, remove, kept, alarm):
    """Only what had been written before is gone with it."""
    log = stage.place / "a"
    logger = start(stage, "./a", "=status")
    logger.stdin.write(b"one\n")
    until(lambda: read(log / "current") == b"one\n")
    remove(log)
    if alarm:
        logger.send_signal(signal.SIGALRM)
        if log.exists() or not kept:
            assert read_line(logger.stderr) == b"multilog: warning: ./a/current is gone, starting a new one\n"
    logger.stdin.write(b"two\nthree\n")
    logger.stdin.close()
    assert logger.wait(SECONDS) == 0
    found = []
    for folder, _, files in os.walk(stage.place):
        for name in files:
            if name in ("current", "moved") or name.startswith("@"):
                with open(os.path.join(folder, name), "rb") as file:
                    found += file.read().splitlines()
    assert sorted(found) == sorted([*kept, b"two", b"three"])


def test_term_under_load_loses_nothing_from_logger_to_logger(stage):
    """One pipe, a writer that never waits, and ten loggers, each ended in the middle."""
    reading, writing = os.pipe()
    count = 200000
    given = numbered(count)

    def write():
        with open(writing, "wb") as pipe:
            pipe.write(given)

    feeding = threading.Thread(target=write)
    feeding.start()
    log, written = stage.place / "a", 0
    for _ in range(10):
        logger = start(stage, "t", "s65536", "n1000", "./a", stdin=reading)
        until(lambda logger=logger, written=written: logger.poll() is not None or size(log) > written)
        logger.send_signal(signal.SIGTERM)
        assert logger.wait(SECONDS) == 0
        written = size(log)
    last = start(stage, "t", "s65536", "n1000", "./a", stdin=reading)
    os.close(reading)
    feeding.join(SECONDS)
    assert last.wait(SECONDS) == 0
    assert [line[26:] for line in lines_of(log)] == given.splitlines()


def size(log):
    try:
        return sum(os.path.getsize(log / name) for name in os.listdir(log))
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("ending", ["exit 111", "kill -9 $$", "exec /not/there"])
def test_a_kill_while_a_processor_fails_loses_nothing(stage, ending):
    """What was read stands in files before the processor runs; what was not is in the pipe."""
    reading, writing = os.pipe()
    given = numbered(1500)
    logger = start(stage, "s4096", "n1000", f"!head -c 9; {ending}", "./a", stdin=reading)
    os.write(writing, given)
    said = read_line(logger.stderr)
    assert b"processor" in said or b"not found" in said
    logger.kill()
    logger.wait(SECONDS)
    next_one = start(stage, "s4096", "n1000", "./a", stdin=reading)
    os.close(writing)
    os.close(reading)
    assert next_one.wait(SECONDS) == 0
    assert lines_of(stage.place / "a") == given.splitlines()


def test_kills_in_the_middle_of_rotations(stage):
    """After each kill the lines of that logger are there in order, none missing before the last, none twice."""
    log = stage.place / "a"
    for turn in range(8):
        before = size(log)
        logger = start(stage, "s4096", "n10000", "!cat; exit 0", "./a")
        feeding = threading.Thread(target=write_until_closed, args=(logger, turn))
        feeding.start()
        until(lambda before=before: size(log) > before + 20000)
        logger.kill()
        logger.wait(SECONDS)
        feeding.join(SECONDS)
        assert stage.run("pymultilog", "s4096", "n10000", "./a", stdin=subprocess.DEVNULL) == (0, b"", b"")
        lines = [line for line in lines_of(log) if line.startswith(b"%d:" % turn)]
        assert lines == [b"%d:%07d" % (turn, number) for number in range(len(lines))]
        assert len(lines) > 100


def write_until_closed(logger, turn):
    number = 0
    try:
        while True:
            logger.stdin.write(b"".join(b"%d:%07d\n" % (turn, n) for n in range(number, number + 100)))
            number += 100
    except BrokenPipeError:
        pass


@needs_system_calls
def test_at_rest_it_does_not_wake_up(stage):
    logger = start(stage, "t", "./a")
    logger.stdin.write(b"one\n")
    until(lambda: read(stage.place / "a/current"))
    until(lambda: sleeps_for_ever(logger.pid))
    before = switches(logger.pid)
    (stage.place / "a/other").touch()  # of no interest
    assert sleeps_for_ever(logger.pid) and switches(logger.pid) == before


def test_iso_time(stage):
    for option in (["--time", "iso"], ["--time=iso"]):
        assert stage.run("pymultilog", *option, "t", "./a", input=b"one\ntwo\n") == (0, b"", b"")
    lines = lines_of(stage.place / "a")
    assert all(re.fullmatch(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (one|two)", line) for line in lines)
    assert len(lines) == 4 and lines == sorted(lines[:2]) + sorted(lines[2:])


def test_tai_time_is_the_usual(stage):
    assert stage.run("pymultilog", "--time", "tai", "t", "./a", input=b"one\n") == (0, b"", b"")
    assert re.fullmatch(rb"@[0-9a-f]{24} one\n", read(stage.place / "a/current"))


def test_iso_time_with_patterns_and_names(stage):
    """Patterns see the time; the names of files keep their labels."""
    script = ["--time=iso", "t", "-*", "+* a", "s4096", "n99", "./a"]
    assert stage.run("pymultilog", *script, input=b"a\nb\n" * 500) == (0, b"", b"")
    assert {line[28:] for line in lines_of(stage.place / "a")} == {b"a"}
    assert len(lines_of(stage.place / "a")) == 500
    assert all(re.fullmatch(r"@[0-9a-f]{24}\.s|current|state|lock", name) for name in os.listdir(stage.place / "a"))


USAGE = b"multilog: usage: multilog [ --copy ] [ --time tai|iso ] action ...\n"
REFUSED = [
    (["--time", "local", "t"], b"multilog: not a format of time: local\n"),
    (["--time"], b"pymultilog: option requires an argument -- -time\n"),
    (["--time", "iso", "./a"], b"multilog: --time is for scripts that begin with t\n"),
    (["--copies", "./a"], b"pymultilog: illegal option -- -copies\n"),
    (["--copy=1", "./a"], b"pymultilog: illegal option -- -copy\n"),
]


@pytest.mark.parametrize("words, said", REFUSED)
def test_an_option_that_is_none(stage, words, said):
    assert stage.run("pymultilog", *words, input=b"x\n") == (100, b"", said + USAGE)
    assert not (stage.place / "a").exists()


TAKEN_AS_SCRIPT = [
    # words                       what of "-", "-x", "--copy", "-copy", "a" is logged
    (["--*", "./a"], b"a\n"),
    (["---*", "./a"], b"-\n-x\n-copy\na\n"),
    (["./a", "--copy"], b"-\n-x\n--copy\n-copy\na\n"),
    (["-", "--copy", "./a"], b"-\n-x\n--copy\na\n"),
    (["--", "--copy", "./a"], b"-\n-x\n--copy\na\n"),
    (["--", "--", "./a"], b"-x\n--copy\n-copy\na\n"),
]


@pytest.mark.parametrize("words, logged", TAKEN_AS_SCRIPT)
def test_words_of_the_script_are_no_options(stage, words, logged):
    assert stage.run("pymultilog", *words, input=b"-\n-x\n--copy\n-copy\na\n") == (0, b"", b"")
    assert read(stage.place / "a/current") == logged


@pytest.mark.parametrize("size", [1, 7, 1024, 100000])
def test_a_copy_is_what_a_log_of_all_lines_gets(stage, size):
    given = numbered(300) + b"x" * 5000 + b"\n\n" + b"y" * 1000 + b"\nend"
    script = ["--copy", "t", "s1000000", "./a", "-*", "+* *7*", "s4096", "n100", "./b"]
    logger = start(stage, *script, stdout=subprocess.PIPE)
    copied = []
    reading = threading.Thread(target=lambda: copied.append(read_all(logger.stdout)))
    reading.start()
    for at in range(0, len(given), size):
        logger.stdin.write(given[at : at + size])
    logger.stdin.close()
    assert logger.wait(SECONDS) == 0
    reading.join(SECONDS)
    assert copied[0] == read(stage.place / "a/current")
    assert [line[26:] for line in copied[0].splitlines()] == given.splitlines()


def read_all(file):
    pieces = []
    while piece := file.read(65536):
        pieces.append(piece)
    return b"".join(pieces)


CLOSED = b"multilog: warning: unable to write to standard output, copying no more: broken pipe\n"


def test_a_copy_that_nobody_can_read_is_one_warning(stage):
    logger = start(stage, "--copy", "./a", stdout=subprocess.PIPE)
    logger.stdout.close()
    given = numbered(10000)
    write_and_close(logger.stdin, given)
    assert logger.wait(SECONDS) == 0
    assert logger.stderr.read() == CLOSED
    assert lines_of(stage.place / "a") == given.splitlines()


def test_a_copy_onto_a_full_device_is_one_warning(stage):
    with open("/dev/full", "wb") as full:
        logger = start(stage, "--copy", "./a", stdout=full)
    logger.stdin.write(b"one\n")
    assert read_line(logger.stderr).startswith(
        b"multilog: warning: unable to write to standard output, copying no more: "
    )
    logger.stdin.write(b"two\n")
    logger.stdin.close()
    assert logger.wait(SECONDS) == 0
    assert read(stage.place / "a/current") == b"one\ntwo\n"
    assert logger.stderr.read() == b""


def test_a_copy_that_is_not_read_holds_up_no_line_that_was_read(stage):
    """The lines are in the log before the copy waits; TERM gives the reader five seconds."""
    given = numbered(2000)  # nearly all that a pipe holds
    reading, writing = os.pipe()
    logger = start(stage, "--copy", "s1000000", "./a", stdin=reading, stdout=subprocess.PIPE)
    write_all(writing, given)
    write_all(writing, given)  # there is room for it: the start is in the log, and out of the pipe
    until(lambda: size(stage.place / "a") + stage.unread_bytes(os.getpid(), reading) == 2 * len(given))
    logger.send_signal(signal.SIGTERM)
    assert logger.wait(SECONDS) == 0
    said = b"multilog: warning: unable to write to standard output, copying no more: its reader has gone\n"
    assert logger.stderr.read() == said
    os.close(writing)
    with open(reading, "rb") as rest:
        assert b"\n".join(lines_of(stage.place / "a")) + b"\n" + rest.read() == given * 2
    assert size(stage.place / "a") > len(read_all(logger.stdout))  # the copy took less


def is_full(pipe):
    """Return whether a pipe that we read takes nothing more: how much it holds depends on the pieces."""
    fd = os.open(f"/proc/self/fd/{pipe.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not select.select([], [fd], [], 0)[1]
    finally:
        os.close(fd)


def test_a_copy_that_is_read_after_term_is_whole(stage):
    given = numbered(4000)
    logger = start(stage, "--copy", "s1000000", "./a", stdout=subprocess.PIPE)
    write_all(logger.stdin.fileno(), given)
    until(lambda: is_full(logger.stdout))
    logger.send_signal(signal.SIGTERM)
    copied = read_all(logger.stdout)
    assert logger.wait(SECONDS) == 0
    assert copied == read(stage.place / "a/current") == given[: len(copied)]
    assert logger.stderr.read() == b""


def test_a_slow_reader_of_the_copy_gets_everything(stage):
    given = numbered(20000)
    logger = start(stage, "--copy", "s4096", "n5", "./a", stdout=subprocess.PIPE)
    feeding = threading.Thread(target=write_and_close, args=(logger.stdin, given))
    feeding.start()
    got = []
    while piece := os.read(logger.stdout.fileno(), 1000):
        got.append(piece)
    assert b"".join(got) == given
    feeding.join(SECONDS)
    assert logger.wait(SECONDS) == 0
