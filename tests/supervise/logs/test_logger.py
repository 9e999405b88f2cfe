"""The script on lines in any pieces; trouble with a log directory, with the pauses taken by the test."""

import os
import resource
import shutil

import pytest

from pyqmail.base.failure import Temporary
from pyqmail.supervise.logs.logger import Logger
from pyqmail.supervise.logs.retry import Retry

LABEL = b"@4000000037c219bf2ef02e94"


class Nurse:
    """Stands in for sleeping: repairs what is broken, a given number of pauses later."""

    def __init__(self, repair=None, pauses=1):
        self.repair, self.pauses, self.slept = repair, pauses, []

    def __call__(self, seconds):
        self.slept.append(seconds)
        assert self.repair and len(self.slept) <= self.pauses
        if len(self.slept) == self.pauses:
            self.repair()


@pytest.fixture(autouse=True)
def in_its_own_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    os.chdir("/")


def opened(*words, sleep=None, **how):
    logger = Logger(list(words), Retry("multilog", sleep or Nurse()), clock=lambda: LABEL, **how)
    start = os.getcwd()
    logger.open()
    os.chdir(start)  # a logger ends up in one of its logs
    return logger


def feed(logger, data, size=1 << 30):
    for at in range(0, len(data), size):
        logger.add_block(data[at : at + size])
        logger.settle()


def kept(log):
    """Return everything in a log, oldest first, and the names of its files without their times."""
    names = sorted(path.name for path in log.iterdir() if path.name.startswith("@"))
    text = b"".join((log / name).read_bytes() for name in [*names, "current"])
    return text, [name[25:] for name in names]


LONG = b"y" * 999 + b"a" + b"z" * 5000
SCRIPTS = [
    # script                     input                       what ./log gets
    (["./log"], b"a\n\nb", b"a\n\nb\n"),
    (["./log"], b"\n", b"\n"),
    (["./log"], b"", b""),
    (["t", "./log"], b"a\n\nb", LABEL + b" a\n" + LABEL + b" \n" + LABEL + b" b\n"),
    (["./log", "t"], b"a\n", b"a\n"),
    (["-*", "+a*", "./log"], b"ab\nba\naa\n", b"ab\naa\n"),
    (["-*a", "./log"], LONG + b"\nb\n" + LONG, b"b\n"),
    (["-*z", "./log"], LONG + b"\nb\n" + LONG, LONG + b"\nb\n" + LONG + b"\n"),
    (["-x*", "./other", "-*", "+b", "./log"], b"a\nb\nx\nb", b"b\nb\n"),
    (["", "foo", "n5", "./log"], b"\0\xff\n", b"\0\xff\n"),
    (["t", "-*", "+@* a", "./log"], b"a\nb\n", LABEL + b" a\n"),
]


@pytest.mark.parametrize("size", [1, 3, 1000, 1024, 100000])
@pytest.mark.parametrize("script, given, logged", SCRIPTS)
def test_script(script, given, logged, size, tmp_path):
    logger = opened(*script)
    feed(logger, given, size)
    logger.finish()
    assert kept(tmp_path / "log") == (logged, [])
    assert (tmp_path / "log/current").stat().st_mode & 0o777 == 0o744


@pytest.mark.parametrize("size", [1, 100, 1024, 65536])
def test_nothing_is_lost_by_rotation(tmp_path, size):
    given = b"".join(b"line %d of many\n" % number for number in range(2000)) + b"x" * 9000 + b"\nend"
    logger = opened("s4096", "n100", "./log")
    feed(logger, given, size)
    logger.finish()
    text, files = kept(tmp_path / "log")
    assert text == given + b"\n"
    assert set(files) == {".s"} and len(files) > 10


def test_what_is_read_is_written_before_more_is_read(tmp_path):
    logger = opened("./log")
    feed(logger, b"a\nb")
    assert (tmp_path / "log/current").read_bytes() == b"a\n"
    feed(logger, b"c" * 998)
    assert (tmp_path / "log/current").read_bytes() == b"a\n"
    feed(logger, b"c")
    assert (tmp_path / "log/current").read_bytes() == b"a\nb" + b"c" * 999
    feed(logger, b"d")
    assert (tmp_path / "log/current").read_bytes() == b"a\nb" + b"c" * 999 + b"d"
    logger.finish()


def test_status_file_has_the_last_line(tmp_path):
    (tmp_path / "status").write_bytes(b"o" * 1200)
    logger = opened("-b*", "=status")
    feed(logger, b"a1\nb2\n")
    assert (tmp_path / "status").read_bytes() == b"a1".ljust(1001, b"\n") + b"o" * 199
    feed(logger, b"c" * 1500)
    assert (tmp_path / "status").read_bytes() == b"c" * 1000 + b"\n" + b"o" * 199


def test_only_so_many_files_are_kept(tmp_path):
    logger = opened("n3", "s4096", "./log")
    (tmp_path / "log/@short").touch()
    feed(logger, (b"x" * 99 + b"\n") * 1000)
    logger.finish()
    assert len([name for name in os.listdir(tmp_path / "log") if len(name) >= 25]) == 2
    assert (tmp_path / "log/@short").exists()


def test_processor_gets_file_and_state(tmp_path):
    logger = opened("s4096", "n100", "!echo seen >&5; cat <&4; tr a-z A-Z", "./log")
    feed(logger, (b"x" * 99 + b"\n") * 50)
    logger.finish()
    text, files = kept(tmp_path / "log")
    assert files == [".s", ".s"] and text.count(b"X") == 99 * 50
    assert text.count(b"seen\n") == 1 and (tmp_path / "log/state").read_bytes() == b"seen\n"


def test_processor_is_tried_until_it_succeeds(tmp_path, capfd):
    nurse = Nurse((tmp_path / "ready").touch, pauses=2)
    logger = opened("s4096", f"!test -e {tmp_path}/ready || exit 3; cat", "./log", sleep=nurse)
    feed(logger, (b"x" * 99 + b"\n") * 30)
    logger.finish()
    assert kept(tmp_path / "log")[0] == (b"x" * 99 + b"\n") * 30
    assert nurse.slept == [5, 5]
    assert capfd.readouterr().err == "multilog: warning: processor failed in ./log, pausing\n" * 2


def test_processor_that_is_tried_again_finds_the_old_state_and_nothing_of_its_own(tmp_path):
    log = tmp_path / "log"
    opened("./log").finish()
    (log / "state").write_text("old ")
    script = f"!cat <&4; test -e {tmp_path}/ready || {{ echo much more than before >&5; exit 3; }}; cat; echo new >&5"
    logger = opened(script, "./log", sleep=Nurse((tmp_path / "ready").touch))
    feed(logger, b"a\n")
    logger.rotate()
    assert kept(log) == (b"old a\n", [".s"])
    assert (log / "state").read_bytes() == b"new\n"


def test_processor_killed_by_a_signal_is_run_again(tmp_path, capfd):
    nurse = Nurse((tmp_path / "ready").touch, pauses=2)
    logger = opened("s4096", f"!test -e {tmp_path}/ready || kill -9 $$; cat", "./log", sleep=nurse)
    feed(logger, (b"x" * 99 + b"\n") * 30)
    assert kept(tmp_path / "log")[0] == (b"x" * 99 + b"\n") * 30
    crashed, failed = capfd.readouterr().err.splitlines()
    assert crashed == "multilog: warning: processor crashed in ./log, pausing: signal 9"
    assert failed == "multilog: warning: processor failed in ./log, pausing"


def test_full_disk_is_waited_for(tmp_path, capfd):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    lift = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))  # noqa: E731
    nurse = Nurse(lift, pauses=2)
    logger = opened("t", "./log", sleep=nurse)
    given = [b"line %d\n" % number for number in range(500)]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
        feed(logger, b"".join(given))
    finally:
        lift()
    logger.finish()
    assert kept(tmp_path / "log")[0] == b"".join(LABEL + b" " + line for line in given)
    assert capfd.readouterr().err == "multilog: warning: unable to write to ./log/current, pausing: file too big\n" * 2


def test_a_processor_that_fails_does_not_keep_us_in_a_log_that_is_gone(tmp_path, capfd):
    logger = opened("!exit 1", "./log", sleep=Nurse(lambda: shutil.rmtree(tmp_path / "log")))
    feed(logger, b"a\n")
    logger.rotate()
    feed(logger, b"b\n")
    assert kept(tmp_path / "log") == (b"b\n", [])
    said = ["processor failed in ./log, pausing", "./log/current is gone, starting a new one"]
    assert capfd.readouterr().err.splitlines() == [f"multilog: warning: {line}" for line in said]


def test_a_log_that_is_gone_is_waited_for_if_it_cannot_be_made(tmp_path, capfd):
    (tmp_path / "logs").mkdir()
    logger = opened("./logs/log", sleep=Nurse((tmp_path / "logs").mkdir))
    feed(logger, b"a\n")
    shutil.rmtree(tmp_path / "logs")
    feed(logger, b"b\nc\n")
    logger.finish()
    assert kept(tmp_path / "logs/log") == (b"b\nc\n", [])
    gone, missing = capfd.readouterr().err.splitlines()
    assert missing == "multilog: warning: unable to open directory ./logs/log, pausing: file does not exist"


def test_a_file_in_the_place_of_a_log_is_waited_for(tmp_path, capfd):
    logger = opened("./log", sleep=Nurse((tmp_path / "log").unlink))
    shutil.rmtree(tmp_path / "log")
    (tmp_path / "log").touch()
    feed(logger, b"a\n")
    logger.finish()
    assert kept(tmp_path / "log") == (b"a\n", [])
    gone, there = capfd.readouterr().err.splitlines()
    assert there == "multilog: warning: unable to open directory ./log, pausing: not a directory"


def test_rotation_that_fails_is_repeated(tmp_path, capfd):
    nurse = Nurse(lambda: os.rmdir(tmp_path / "log/previous"))
    logger = opened("./log", sleep=nurse)
    (tmp_path / "log/previous").mkdir()
    feed(logger, b"a\n")
    logger.rotate()
    feed(logger, b"b\n")
    logger.finish()
    assert kept(tmp_path / "log") == (b"a\nb\n", [".s"])
    text = "multilog: warning: unable to rename current to previous in directory ./log, pausing: is a directory\n"
    assert capfd.readouterr().err == text


def test_rotation_leaves_an_empty_log_alone(tmp_path):
    logger = opened("./log")
    logger.rotate()
    assert kept(tmp_path / "log") == (b"", [])


def test_after_a_crash_what_was_written_is_kept(tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    for name in ("current", "previous", "processed", "state", "newstate"):
        (log / name).write_text(name)
        (log / name).chmod(0o644)
    opened("./log").finish()
    assert kept(log) == (b"previouscurrent", [".u", ".u"])
    assert sorted(path.name for path in log.iterdir() if path.name[0] != "@") == ["current", "lock", "state"]


def test_after_a_crash_a_complete_result_is_finished(tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    for name, mode in (("current", 0o644), ("previous", 0o744), ("processed", 0o744)):
        (log / name).write_text(name)
        (log / name).chmod(mode)
    opened("./log").finish()
    assert kept(log) == (b"processedcurrent", [".s", ".u"])


def test_a_complete_current_is_gone_on_with(tmp_path):
    opened("./log").finish()
    logger = opened("./log")
    feed(logger, b"a\n")
    logger.finish()
    logger = opened("./log")
    assert (tmp_path / "log/current").stat().st_mode & 0o777 == 0o644
    feed(logger, b"b\n")
    logger.finish()
    assert kept(tmp_path / "log") == (b"a\nb\n", [])


REFUSALS = [
    # what stands in the way           message
    (lambda at: (at / "log").touch(), "unable to open directory ./log: not a directory"),
    (lambda at: (at / "log/current").mkdir(parents=True), "unable to append to ./log/current: is a directory"),
    (lambda at: (at / "log/lock").mkdir(parents=True), "unable to lock directory ./log: is a directory"),
    (lambda at: (at / "log/state").mkdir(parents=True), "unable to write to ./log/state: is a directory"),
    (lambda at: (at / "status").mkdir(), "unable to create status: is a directory"),
]


@pytest.mark.parametrize("hinder, message", REFUSALS)
def test_what_cannot_be_opened_is_said_at_once(tmp_path, hinder, message):
    hinder(tmp_path)
    with pytest.raises(Temporary) as caught:
        opened("=status", "./log")
    assert str(caught.value) == message


def test_a_log_is_used_by_one_logger(tmp_path):
    opened("./log")
    with pytest.raises(Temporary, match="^unable to lock directory ./log: temporary failure$"):
        opened("./log")


def test_numbers_that_are_read_as_others_are_said(tmp_path, capfd):
    opened("s12x", "nabc", "s5000", "n020", "./log")
    assert capfd.readouterr().err == "multilog: warning: s12x is read as s12\nmultilog: warning: nabc is read as n0\n"


FILES = ["lock", "current", "state", "processed", "newstate"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("name", FILES)
def test_nothing_is_written_through_a_link_in_somebody_elses_directory(tmp_path, name, link):
    """Root's log in a directory of another account: whatever stands there in the place of a file of the log."""
    victim, log = tmp_path / "victim", tmp_path / "log"
    victim.write_text("precious")
    victim.chmod(0o700)
    before = victim.stat().st_mode
    log.mkdir()
    link(victim, log / name)
    os.chown(log, 12345, 12345)
    nurse = Nurse(lambda: (log / name).unlink(missing_ok=True))
    try:
        logger = opened("s4096", "!cat; echo new >&5", "./log", sleep=nurse)
        feed(logger, b"%0100d\n" % 7)
        logger.rotate()
        logger.finish()
    except Temporary:
        assert name in ("lock", "current")  # nothing was read
    assert (victim.read_text(), victim.stat().st_mode) == ("precious", before)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("owner, mode", [(12345, 0o755), (0, 0o777)])
def test_a_status_file_is_not_written_through_a_link_in_somebody_elses_directory(tmp_path, owner, mode, link):
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.write_text("precious")
    folder.mkdir()
    link(victim, folder / "status")
    os.chown(folder, owner, owner)
    folder.chmod(mode)
    with pytest.raises(Temporary, match="^unable to create folder/status: "):
        opened("=folder/status")
    assert victim.read_text() == "precious"


class Clock:
    """Gives one moment after another; the last one again and again."""

    def __init__(self, *moments):
        self.moments = list(moments)

    def __call__(self):
        return self.moments.pop(0) if len(self.moments) > 1 else self.moments[0]


HOUR = 3600
CLOCKS = [
    # what the clock says when a file is finished                     numbers of the files that are kept, oldest first
    ([(1000000, 500), (1000001, 500), (1000002, 500), (1000003, 500)], b"23"),
    ([(1000000, 500), (1000000, 500), (1000000, 500), (1000000, 500)], b"23"),
    ([(1000000, 500), (1000001, 999999500), (1000001 - HOUR, 0), (1000002 - HOUR, 0)], b"23"),
    ([(1000000, 500), (1000001, 500), (1000001 + HOUR, 0), (1000002, 0)], b"23"),
    # a file from a time when the clock was a year ahead goes before the others
    ([(1000000 + 365 * 24 * HOUR, 0), (1000001, 500), (1000002, 500), (1000003, 500)], b"23"),
    ([(1000000, 500), (1000001 - 25 * HOUR, 500), (1000002 - 25 * HOUR, 500), (1000003 - 25 * HOUR, 500)], b"23"),
]


@pytest.mark.parametrize("moments, numbers", CLOCKS)
def test_a_clock_that_is_set_back_removes_no_young_file(tmp_path, moments, numbers):
    logger = opened("n3", "./log", name_clock=Clock(*moments))
    for number in b"0123":
        feed(logger, bytes([number]))
        feed(logger, b"\n")
        logger.rotate()
    text, files = kept(tmp_path / "log")
    assert (text.replace(b"\n", b""), files) == (numbers, [".s", ".s"])


@pytest.mark.parametrize("code", ["s", "u"])
@pytest.mark.parametrize("kept_before", [1, 2, 4, 9])
def test_the_file_just_finished_is_never_removed(tmp_path, kept_before, code):
    """Whatever stands beside it: labels of a clock that was far ahead, and what only looks like one."""
    log = tmp_path / "log"
    log.mkdir()
    for number in range(kept_before):
        (log / f"@7fffffff{number:016x}.{code}").write_text("ahead\n")
    for number in range(2):
        (log / f"@0{number}-no-label-but-as-long-as-one").write_text("short\n")
    logger = opened(f"n{kept_before + 1}", "./log", name_clock=Clock((1000000, 500), (1000001, 500), (1000002, 500)))
    for number in b"012":
        feed(logger, bytes([number]))
        feed(logger, b"\n")
        logger.rotate()
        names = sorted(path.name for path in log.glob("@*"))
        assert len(names) == kept_before
        assert b"%c\n" % number in [(log / name).read_bytes() for name in names]


@pytest.mark.parametrize("ahead", [True, False])
def test_what_a_crash_left_half_finished_is_not_removed(tmp_path, ahead):
    """Killed between link and unlink: the name is there already, and is the one just finished."""
    log = tmp_path / "log"
    log.mkdir()
    for number in range(3):
        (log / f"@{'7' if ahead else '4'}00000000000000{number:010x}.s").write_text("old\n")
    (log / "previous").write_text("last\n")
    (log / "@400000000000f0000000000a.s").hardlink_to(log / "previous")
    opened("n2", "./log", name_clock=Clock((1, 500)))
    assert [path.read_text() for path in log.glob("@*")] == ["last\n"]


def test_a_full_file_is_settled_when_all_of_the_block_is_written(tmp_path):
    """The processor finds what came after the full file in the next one."""
    logger = opened("s4096", f"!cat; cat {tmp_path}/log/current >{tmp_path}/then", "./log")
    given = b"".join(b"%0100d\n" % number for number in range(30))
    feed(logger, given)
    then = (tmp_path / "then").read_bytes()
    assert then and kept(tmp_path / "log") == (given, [".s"])
    assert (tmp_path / "log/current").read_bytes() == then


@pytest.mark.parametrize(
    "sizes, block_bytes",
    [([], 65536), (["s4096"], 2048), (["s1000000"], 65536), (["s20000", "s8192"], 4096), ([""], 49152)],
)
def test_a_block_makes_no_log_full_twice(sizes, block_bytes):
    assert (
        opened(*(word for number, size in enumerate(sizes) for word in (size, f"./{number}"))).block_bytes
        == block_bytes
    )


class Kept:
    def __init__(self):
        self.text = b""

    def write(self, text):
        self.text += text


@pytest.mark.parametrize("size", [1, 3, 1000, 100000])
@pytest.mark.parametrize("given", [b"a\n\nb", b"\n", b"", LONG + b"\nb\n" + LONG], ids=len)
def test_a_copy_gets_every_line(given, size, tmp_path):
    copy = Kept()
    logger = opened("t", "./log", "-*", "./other", copy=copy)
    feed(logger, given, size)
    logger.finish()
    assert copy.text == kept(tmp_path / "log")[0]
    assert kept(tmp_path / "other")[0] == b""
