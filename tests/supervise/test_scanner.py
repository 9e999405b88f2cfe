"""What a scanner takes for a service, what it starts and when it lets go.  Supervisors are recorded, not run."""

import errno
import os
import signal
import time

import pytest

from pyqmail.supervise.inotify_paths import InotifyPaths, Watching
from pyqmail.supervise.scanner import Scanner
from pyqmail.supervise.start_supervisor import DescriptorLimit
from pyqmail.system.inotify import Inotify


class Record:
    """Stands for supervisors: each is a child that ends when told, with the code it is told."""

    def __init__(self):
        self.started, self.running = [], {}

    def __call__(self, name, is_log, theirs):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(write)
            os._exit((os.read(read, 1) or b"\0")[0])
        os.close(read)
        self.started.append((name, is_log, theirs and theirs[1]))
        self.running[name, is_log] = pid, write
        return pid

    def end(self, name, is_log=False, code=0):
        """End one, killed if code is None."""
        pid, write = self.running.pop((name, is_log))
        if code is None:
            os.kill(pid, signal.SIGKILL)
        else:
            os.write(write, bytes([code]))  # closing alone would not do: those started later hold it too
        os.close(write)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    def take(self):
        started, self.started = self.started, []
        return sorted(started)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built = Record()
    yield built
    for name, is_log in list(built.running):
        pid = built.running[name, is_log][0]
        built.end(name, is_log)
        os.waitpid(pid, 0)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    """A Watching that has notices."""
    notices = Inotify()
    yield Watching(notices)
    notices.close()


def make(path, age_seconds=60):
    """Make a directory into which nothing came for so long, nor into the one around it."""
    path.mkdir(parents=True)
    for changed in (path, path.parent):
        os.utime(changed, (time.time() - age_seconds,) * 2)
    return path


def test_which_names_are_services(record, tmp_path, capfd):
    for name in ("plain", "logged/log", ".hidden", "odd"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "odd/log").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("plain")
    (tmp_path / "dangling").symlink_to("nowhere")
    Scanner(record, None).scan()
    names = record.take()
    plain = [name for name, _, _ in names if name in (b"plain", b"link")]
    assert len(plain) == 1  # one directory, whichever name comes first
    assert [entry for entry in names if entry[0] not in plain] == [
        (b"logged", False, 1),
        (b"logged", True, 0),
        (b"odd", False, 1),
        (b"odd", True, 0),
    ]
    assert capfd.readouterr().err == "svscan: warning: unable to stat dangling: file does not exist\n"


def test_a_name_too_long_for_a_log(record, tmp_path):
    name = "n" * 250
    (tmp_path / name / "log").mkdir(parents=True)
    Scanner(record, None).scan()
    assert record.take() == [(name.encode(), False, 1), (name.encode(), True, 0)]


PACES = [
    # it ends, so many seconds after its start     seconds from its end to the next start
    (None, 0.5, 0.5),  # killed
    (None, 30, 0),
    (0, 0.5, 1),  # told to leave
    (0, 30, 1),
    (111, 0.5, 4.5),  # not able to begin
    (111, 30, 1),
]


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("code, lived, waits", PACES)
def test_what_ended_is_started_again(record, tmp_path, clock, told, code, lived, waits, is_log):
    (tmp_path / "a/log").mkdir(parents=True)
    scanner = Scanner(record, None, watching=told, clock=clock)
    assert scanner.scan() is None
    assert record.take() == [(b"a", False, 1), (b"a", True, 0)]
    clock.now += lived
    assert scanner.scan() is None and record.take() == []
    record.end(b"a", is_log, code)
    assert scanner.reap() and not scanner.reap()
    if waits:
        assert scanner.scan() == clock.now + waits and record.take() == []
        clock.now += waits
    assert scanner.scan() is None
    assert record.take() == [(b"a", is_log, int(not is_log))]


def test_a_name_that_comes_back_starts_at_once(record, tmp_path, clock, told):
    (tmp_path / "a").mkdir()
    scanner = Scanner(record, None, watching=told, clock=clock)
    scanner.scan()
    record.end(b"a", code=111)
    (tmp_path / "a").rename(tmp_path / ".a")
    scanner.scan()
    assert scanner.slots == {}
    (tmp_path / ".a").rename(tmp_path / "a")
    os.utime(tmp_path / "a", (0, 0))
    record.take()
    assert scanner.scan() is None and record.take() == [(b"a", False, None)]


def test_a_renamed_service_is_the_same(record, tmp_path, clock):
    (tmp_path / "a").mkdir()
    scanner = Scanner(record, None, clock=clock)
    scanner.scan()
    (tmp_path / "a").rename(tmp_path / "b")
    scanner.scan()
    assert record.take() == [(b"a", False, None)]
    record.end(b"a")
    scanner.scan()
    clock.now += 1
    scanner.scan()
    assert record.take() == [(b"b", False, None)]


def test_a_slot_is_freed_when_name_and_supervisors_have_gone(record, tmp_path):
    (tmp_path / "a/log").mkdir(parents=True)
    scanner = Scanner(record, None)
    scanner.scan()
    (slot,) = scanner.slots.values()
    pipe = slot.pipe
    (tmp_path / "a").rename(tmp_path / ".a")
    record.end(b"a")
    scanner.scan()
    assert list(scanner.slots.values()) == [slot] and slot.pipe == pipe  # its log still runs
    record.end(b"a", is_log=True)
    scanner.scan()
    assert scanner.slots == {}
    for fd in pipe:
        with pytest.raises(OSError):
            os.fstat(fd)


def test_a_log_is_noticed_only_by_a_new_slot(record, tmp_path):
    (tmp_path / "a").mkdir()
    scanner = Scanner(record, None)
    scanner.scan()
    (tmp_path / "a/log").mkdir()
    scanner.scan()
    assert record.take() == [(b"a", False, None)]


def test_more_than_a_thousand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(1100):
        (tmp_path / str(number)).mkdir()
    started = []
    Scanner(lambda name, is_log, theirs: started.append(name) or 1, None).scan()
    assert len(started) == 1100


def test_a_failing_fork_is_a_warning_and_is_tried_again(tmp_path, monkeypatch, capfd, clock):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a/log").mkdir(parents=True)

    def failing(*_):
        raise BlockingIOError(11, "no more")

    scanner = Scanner(failing, None, clock=clock)
    assert scanner.scan() == clock.now + 5
    assert capfd.readouterr().err == (
        "svscan: warning: unable to fork for a: temporary failure\n"
        "svscan: warning: unable to fork for a/log: temporary failure\n"
    )
    started = []
    scanner._start_supervisor = lambda name, is_log, theirs: started.append(is_log) or 1
    assert scanner.scan() == clock.now + 5 and started == []
    clock.now += 5
    scanner.scan()
    assert started == [False, True]
    scanner.close()


def test_when_to_look_again(record, tmp_path, clock, told):
    (tmp_path / "a").mkdir()
    scanner = Scanner(record, None, clock=clock)
    assert scanner.scan() == scanner.scan() == clock.now + 5  # nothing tells us
    record.end(b"a")
    scanner.reap()
    scanner = Scanner(record, None, watching=told, clock=clock)
    assert scanner.scan() is None
    (tmp_path / "dangling").symlink_to("nowhere")
    assert scanner.scan() == clock.now + 5  # said again, as the original does
    (tmp_path / "dangling").unlink()
    assert scanner.scan() is None


def test_a_directory_that_is_being_filled_is_left_alone(record, tmp_path, clock, told):
    make(tmp_path / "first", 0)
    scanner = Scanner(record, None, watching=told, clock=clock)
    assert scanner.scan() is None and len(record.take()) == 1  # that was there before us
    make(tmp_path / "ready")
    make(tmp_path / "ahead", -60)  # or our clock is behind
    make(tmp_path / "filled", 0.1)
    assert 0 < scanner.scan() - clock.now < 0.16
    assert record.take() == [(b"ahead", False, None), (b"ready", False, None)]
    (tmp_path / "filled/log").mkdir()
    os.utime(tmp_path / "filled", (0, 0))
    assert scanner.scan() is None
    assert record.take() == [(b"filled", False, 1), (b"filled", True, 0)]


def test_a_directory_that_is_filled_for_ever_is_started_after_five_seconds(record, tmp_path, clock, told):
    scanner = Scanner(record, None, watching=told, clock=clock)
    scanner.scan()
    make(tmp_path / "restless/log", 0)
    for _ in range(4):
        os.utime(tmp_path / "restless")
        assert scanner.scan() - clock.now <= 0.25 and record.take() == []
        clock.now += 1.2
    os.utime(tmp_path / "restless")
    assert 0 < scanner.scan() - clock.now < 0.21
    clock.now += 0.2
    os.utime(tmp_path / "restless")
    scanner.scan()
    assert [name for name, *_ in record.take()] == [b"restless"] * 2


TROUBLES = {
    "a link to nowhere": (lambda place: (place / "x").symlink_to("nowhere"), b"unable to stat x"),
    "a link to itself": (lambda place: (place / "x").symlink_to("x"), b"unable to stat x"),
    "a log to itself": (lambda place: (make(place / "x") / "log").symlink_to("log"), b"unable to stat x/log"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_trouble_is_told_as_often_as_the_original_has_a_look(record, tmp_path, clock, told, capfdbinary, trouble):
    """However often we look because names come and go; two names at the same look are two lines."""
    make_trouble, line = TROUBLES[trouble]
    make_trouble(tmp_path)
    os.utime(tmp_path / "x", (0, 0), follow_symlinks=False)
    scanner = Scanner(record, None, watching=told, clock=clock)
    began, due = clock.now, None
    for number in range(100):
        (tmp_path / f"note{number}").touch()
        due = scanner.scan()
        clock.now += 0.1
    assert capfdbinary.readouterr().err.count(b"svscan: warning: " + line + b": ") == 2
    assert abs(due - began - 10) < 0.001
    (tmp_path / "y").symlink_to("y")
    (tmp_path / "z").symlink_to("z")
    clock.now += 0.1
    scanner.scan()
    said = capfdbinary.readouterr().err
    assert all(said.count(b"unable to stat %b: " % name) == 1 for name in (b"y", b"z")) and line in said


def test_names_that_come_and_go_wrong_are_told_of_every_five_seconds(record, tmp_path, clock, told, capfd):
    scanner = Scanner(record, None, watching=told, clock=clock)
    for number in range(100):
        (tmp_path / f"x{number}").symlink_to("nowhere")
        scanner.scan()
        (tmp_path / f"x{number}").unlink()
        clock.now += 0.1
    assert capfd.readouterr().err.count("\n") == 2


def test_a_fork_that_fails_is_told_of_every_five_seconds(tmp_path, monkeypatch, capfd, clock):
    monkeypatch.chdir(tmp_path)

    def failing(*_):
        raise BlockingIOError(11, "no more")

    scanner = Scanner(failing, None, clock=clock)
    for number in range(100):
        make(tmp_path / f"a{number}")
        scanner.scan()
        clock.now += 0.1
    assert capfd.readouterr().err.count("unable to fork for a0:") == 2


def test_descriptors_that_run_out_are_told_once(record, tmp_path, clock, told, capfd):
    class Limit:
        room = 0

        def has_room_above(self, fd):
            self.room -= 1
            return self.room >= 0

        def allow_more(self):
            return False

    for name in "abcd":
        make(tmp_path / name / "log")
    make(tmp_path / "plain")
    limit = Limit()
    scanner = Scanner(record, limit, watching=told, clock=clock)
    assert scanner.scan() == scanner.scan() == clock.now + 5
    assert record.take() == [(b"plain", False, None)]
    said = capfd.readouterr().err
    assert said.startswith("svscan: warning: unable to create pipe for ")
    assert said.endswith(" and 3 more: process cannot open more files\n") and said.count("\n") == 1
    limit.room = 3
    scanner.scan()
    said = capfd.readouterr().err
    assert said.endswith(": process cannot open more files\n") and " more: " not in said
    limit.room = 1
    assert scanner.scan() is None and len(record.take()) == 8
    assert capfd.readouterr().err == ""
    scanner.close()


def test_some_descriptors_are_left_for_us(tmp_path, monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (40, 40))
    limit = DescriptorLimit()
    assert limit.has_room_above(31) and not limit.has_room_above(32)
    assert not limit.allow_more()


def test_what_a_log_did_not_read_is_told(record, tmp_path, capfd):
    make(tmp_path / "a/log")
    scanner = Scanner(record, None)
    scanner.scan()
    (slot,) = scanner.slots.values()
    os.write(slot.pipe[1], b"never read\n")
    (tmp_path / "a").rename(tmp_path / ".a")
    record.end(b"a")
    record.end(b"a", is_log=True)
    scanner.scan()
    assert scanner.slots == {}
    assert capfd.readouterr().err == "svscan: warning: log of a has left 11 bytes unread\n"


def test_another_directory_in_the_place_of_ours(record, tmp_path, told):
    ours, link = make(tmp_path / "one"), tmp_path / "services"
    (ours / "both").symlink_to(make(tmp_path / "both"))
    make(ours / "old")
    link.symlink_to("one")
    os.chdir(link)
    scanner = Scanner(record, None, watching=told, inotify_paths=InotifyPaths(os.fsencode(link)))
    assert scanner.scan() is None and [name for name, *_ in record.take()] == [b"both", b"old"]
    (make(tmp_path / "two") / "both").symlink_to(tmp_path / "both")
    make(tmp_path / "two/new")
    link.unlink()
    scanner.scan()
    assert record.take() == [] and all(slot.is_present for slot in scanner.slots.values())  # until there is one
    link.symlink_to("two")
    scanner.scan()
    assert record.take() == [(b"new", False, None)] and os.getcwd() == str(tmp_path / "two")
    assert {slot.name: slot.is_present for slot in scanner.slots.values()} == {
        b"both": True,
        b"old": False,
        b"new": True,
    }


def test_a_directory_that_was_not_named_stays_ours(record, tmp_path):
    make(tmp_path / "one/a")
    os.chdir(tmp_path / "one")
    scanner = Scanner(record, None)
    scanner.scan()
    (tmp_path / "one").rename(tmp_path / "two")
    make(tmp_path / "one/b"), make(tmp_path / "two/c")
    scanner.scan()
    assert [name for name, *_ in record.take()] == [b"a", b"c"]


def test_a_directory_that_was_removed(record, tmp_path, clock, capfd):
    make(tmp_path / "one/a")
    os.chdir(tmp_path / "one")
    scanner = Scanner(record, None, inotify_paths=InotifyPaths(os.fsencode(tmp_path / "one")), clock=clock)
    scanner.scan()
    (tmp_path / "one/a").rmdir()
    (tmp_path / "one").rmdir()
    scanner.scan()
    assert [slot.is_present for slot in scanner.slots.values()] == [False]
    make(tmp_path / "one/b")
    scanner.scan()
    assert [name for name, *_ in record.take()] == [b"a", b"b"] and capfd.readouterr().err == ""


def test_a_directory_that_cannot_be_read(record, tmp_path, clock, told, monkeypatch, capfd):
    make(tmp_path / "a")
    scanner = Scanner(record, None, watching=told, clock=clock)
    scanner.scan()

    def scandir(_):
        raise OSError(errno.EMFILE, "")

    monkeypatch.setattr("os.scandir", scandir)
    assert scanner.scan() == clock.now + 5
    assert len(scanner.slots) == 1
    assert capfd.readouterr().err == "svscan: warning: unable to read directory: process cannot open more files\n"
