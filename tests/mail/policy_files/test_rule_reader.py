"""The rules about destinations from their files, and how a change is noticed: real files, a real inotify."""

import os
import resource
import time

import pytest

from pyqmail.mail.destinations.rules.tables import compile_rules
from pyqmail.mail.policy_files import rule_reader
from pyqmail.mail.policy_files.rule_reader import RuleReader, RuleWatch
from pyqmail.system import inotify
from pyqmail.system.cdb import write_cdb
from pyqmail.system.controls import Controls
from pyqmail.system.loop import Loop
from tests.waiting import turn_until


class Setting:
    """A control directory and a reader of it.  lines: what the log got; date: the time, to be set."""

    def __init__(self, home):
        self.home, self.lines, self.date = home, [], 1000.0
        self._controls = Controls(home.control, ["destinations.cdb", "destinations.now"])

    def read(self):
        self.reader = RuleReader(self._controls, self.lines.append, lambda: self.date)
        return self.reader

    def write(self, name, content):
        """Put a file in place as an editor does that renames."""
        path = f"{self.home.control}/{name}"
        with open(path + ".new", "wb") as file:
            file.write(content)
        os.rename(path + ".new", path)

    def compile(self, text):
        path = f"{self.home.control}/destinations.cdb"
        write_cdb(path, path + ".tmp", compile_rules(text, b"").records)

    def retries(self, domain=b"far.example"):
        """Return what is read of far.example: how long after the first greylisting it is tried again."""
        return self.reader.current.for_site(domain).grey_seconds


@pytest.fixture
def setting(home):
    return Setting(home)


def test_without_files_the_built_in_rules_hold(setting):
    setting.read()
    assert setting.retries() == 330 and setting.lines == [] and setting.reader.read() is None


def test_compiled_rules_and_those_for_now_before_them(setting):
    setting.compile(b"far.example:grey=60s\nother.example:grey=90s\n")
    setting.read()
    assert (setting.retries(), setting.retries(b"other.example")) == (60, 90)
    setting.write("destinations.now", b"far.example:grey=70s\n")
    rules = setting.reader.read()
    assert rules is setting.reader.current and (setting.retries(), setting.retries(b"other.example")) == (70, 90)
    os.unlink(f"{setting.home.control}/destinations.now")
    assert setting.reader.read() is not None and setting.retries() == 60
    os.unlink(f"{setting.home.control}/destinations.cdb")
    assert setting.reader.read() is not None and setting.retries() == 330


SPOILT = [
    # a file, its content, what is said
    ("destinations.cdb", b"", b"protocol error"),
    ("destinations.cdb", b"\xff" * 3000, b"protocol error"),
    ("destinations.now", b"far.example:grey=1s\nfar.example\n", b"line 2:"),
    ("destinations.now", None, b"is a directory"),
    ("destinations.cdb", None, b"is a directory"),
]


@pytest.mark.parametrize("name, content, words", SPOILT)
def test_a_file_that_cannot_be_used_is_one_line_and_the_old_rules_go_on(setting, name, content, words):
    setting.compile(b"far.example:grey=60s\n")
    setting.read()
    setting.lines.clear()
    if content is None:
        path = f"{setting.home.control}/{name}"
        if os.path.exists(path):
            os.unlink(path)
        os.mkdir(path)
    else:
        setting.write(name, content)
    assert setting.reader.read() is None and setting.reader.read() is None and setting.retries() == 60
    (line,) = setting.lines
    assert line.startswith(b"warning: unable to use control/%b: " % name.encode()) and words in line
    assert line.endswith(b"; the rules stay as they were")


def test_a_file_that_cannot_be_used_holds_up_no_other(setting):
    setting.compile(b"far.example:grey=60s\n")
    setting.write("destinations.now", b"other.example:grey=90s\n")
    setting.read()
    setting.write("destinations.now", b"nonsense\n")
    setting.compile(b"far.example:grey=70s\n")
    assert setting.reader.read() is not None
    assert (setting.retries(), setting.retries(b"other.example")) == (70, 90)
    assert sum(b"unable to use control/destinations.now" in line for line in setting.lines) == 1


def test_a_group_that_nobody_defines_is_a_line(setting):
    setting.write("destinations.now", b"@nobody:hold\n")
    setting.read()
    (line,) = setting.lines
    assert line.startswith(b"warning: unable to use control/destinations.now: line 1:1: ")


def test_what_is_lacking_for_a_while_is_one_line_and_then_the_file_is_read(setting):
    setting.compile(b"far.example:grey=60s\n")
    setting.read()
    setting.write("destinations.now", b"far.example:grey=70s\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    setting.lines.clear()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert setting.reader.read() is None and setting.reader.read() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert setting.reader.is_troubled and setting.retries() == 60 and len(setting.lines) == 1
    assert setting.reader.read() is not None and setting.retries() == 70 and not setting.reader.is_troubled


def test_a_file_that_is_damaged_within_says_nothing_there_and_one_line(setting):
    setting.compile(b"".join(b"d%d.example:grey=60s\n" % number for number in range(3000)))
    path = f"{setting.home.control}/destinations.cdb"
    os.truncate(path, os.stat(path).st_size - 9000)
    setting.read()
    found = [setting.retries(b"d%d.example" % number) for number in range(3000)]
    assert set(found) == {60, 330} and sum(b"unable to use" in line for line in setting.lines) == 1


def test_a_line_ends_at_its_time(setting):
    setting.write("destinations.now", b"far.example:grey=60s,until=1970-01-01T00:33:20Z\nother.example:grey=90s\n")
    setting.read()
    assert setting.retries() == 60 and setting.reader.ends_at == 2000
    setting.date = 1999.0
    assert setting.reader.read() is None
    setting.date = 2000.0
    assert setting.reader.read() is not None
    assert (setting.retries(), setting.retries(b"other.example")) == (330, 90) and setting.reader.ends_at is None


@pytest.mark.parametrize("notices", [True, False])
@pytest.mark.parametrize("way", ["renamed", "written", "removed"])
def test_a_change_is_noticed_however_it_is_made(setting, monkeypatch, notices, way):
    if not notices:
        monkeypatch.setattr(rule_reader, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(inotify, "_SHARED_FILE_SYSTEMS", ("",))  # as if others could change it
    setting.write("destinations.now", b"far.example:grey=60s\n")
    loop, changes = Loop(), []
    watch = RuleWatch(loop, setting.read(), lambda: changes.append(setting.reader.read()))
    assert (watch._inotify is not None) == notices
    path = f"{setting.home.control}/destinations.now"
    if way == "renamed":
        setting.write("destinations.now", b"far.example:grey=70s\n")
    elif way == "written":
        with open(path, "wb") as file:
            file.write(b"far.example:grey=70s\n")
    else:
        os.unlink(path)
    turn_until(loop, lambda: any(changes))
    assert setting.retries() == (330 if way == "removed" else 70)


def test_the_end_of_a_line_is_noticed(setting):
    setting.date = time.time()
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2)).encode()
    setting.write("destinations.now", b"far.example:grey=60s,until=%b\n" % end)
    loop, changes = Loop(), []
    reader = RuleReader(setting._controls, setting.lines.append)
    RuleWatch(loop, reader, lambda: changes.append(reader.read()))
    turn_until(loop, lambda: any(changes))
    assert reader.current.for_site(b"far.example").grey_seconds == 330
