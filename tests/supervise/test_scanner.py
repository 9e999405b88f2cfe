"""What a scanner takes for a service, what it starts and when it lets go.  Supervisors are recorded, not run."""

import os

import pytest

from pyqmail.supervise.scanner import Scanner


class Record:
    """Stands for supervisors: each is a child that ends when told."""

    def __init__(self):
        self.started, self.running = [], {}

    def __call__(self, name, is_log, theirs):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
        self.started.append((name, is_log, theirs and theirs[1]))
        self.running[name, is_log] = pid, write
        return pid

    def end(self, name, is_log=False):
        pid, write = self.running.pop((name, is_log))
        os.write(write, b"x")  # closing alone would not do: those started later hold it too
        os.close(write)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    def take(self):
        started, self.started = self.started, []
        return sorted(started)


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built = Record()
    yield built
    for name, is_log in list(built.running):
        pid = built.running[name, is_log][0]
        built.end(name, is_log)
        os.waitpid(pid, 0)


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


def test_what_ended_is_started_at_the_next_pass(record, tmp_path):
    (tmp_path / "a/log").mkdir(parents=True)
    scanner = Scanner(record, None)
    scanner.scan()
    record.take()
    scanner.scan()
    assert record.take() == []
    record.end(b"a", is_log=True)
    scanner.scan()
    assert record.take() == [(b"a", True, 0)]


def test_a_renamed_service_is_the_same(record, tmp_path):
    (tmp_path / "a").mkdir()
    scanner = Scanner(record, None)
    scanner.scan()
    (tmp_path / "a").rename(tmp_path / "b")
    scanner.scan()
    assert record.take() == [(b"a", False, None)]
    record.end(b"a")
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


def test_a_failing_fork_is_a_warning_and_is_tried_again(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a/log").mkdir(parents=True)

    def failing(*_):
        raise BlockingIOError(11, "no more")

    scanner = Scanner(failing, None)
    scanner.scan()
    assert capfd.readouterr().err == (
        "svscan: warning: unable to fork for a: temporary failure\n"
        "svscan: warning: unable to fork for a/log: temporary failure\n"
    )
    started = []
    scanner._supervise = lambda name, is_log, theirs: started.append(is_log) or 1
    scanner.scan()
    assert started == [False, True]
    scanner.close()
