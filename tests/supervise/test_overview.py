"""Finding services, reading how they are from the files of any supervisor, and the table."""

import os

import pytest

from pyqmail.base.tai import label
from pyqmail.programs.pysvtop import SCREEN
from pyqmail.supervise.details import KILLED, Details
from pyqmail.supervise.overview import UNSUPERVISED, Entry, find, look, table
from pyqmail.supervise.status import pack_status
from pyqmail.system.usage import Usage

NOW = 1_800_000_000
DAYS = 2 * 86400 + 3700
M = 1 << 20


def test_the_screen_in_the_manual():
    entries = [
        Entry(b"example", "waiting", NOW - 1, 0, 2, "exit 1", 4),
        Entry(b"old", UNSUPERVISED),
        Entry(b"pyqueued", "up", NOW - 252, 21077, 1, "SIGKILL", None, Usage(4.5 * M, 4.7, 46)),
        Entry(b"pyqueued/log", "up", NOW - DAYS, 20979, 0, None, None, Usage(3.3 * M, 0.0, 11)),
        Entry(b"pysend", "up", NOW - DAYS, 20986, 0, None, None, Usage(45.8 * M, 10.0, 89)),
        Entry(b"pysend/log", "paused", NOW - DAYS, 20988, 0, None, None, Usage(3.8 * M, 0.49, 11)),
        Entry(b"pysmtpd", "ready", NOW - DAYS, 20980, 0, None, None, Usage(10.8 * M, 6.6, 39)),
        Entry(b"pysmtpd/log", "up", NOW - DAYS, 20989, 0, None, None, Usage(3.8 * M, 0.51, 11)),
    ]
    shown = SCREEN.split("\n\n", 1)[1]
    assert "".join(f"    {line}".rstrip() + "\n" for line in table(entries, NOW)) == shown


def test_what_is_not_known_is_a_dash():
    lines = table([Entry(b"\x1b[2J\n\xff"), Entry(b"x", "up", NOW, 7, usage=Usage())], NOW)
    assert lines == [
        "1 of 2 up, memory -, processor -, descriptors -",
        "",
        "SERVICE  STATE  FOR  PID  RESTARTS  ENDED  PAUSE  MEMORY  CPU%  FDS",
        "?[2J??   -        -    -         -  -          -       -     -    -",
        "x        up      0s    7         -  -          -       -     -    -",
    ]


def test_as_much_as_there_is_room_for():
    assert table([Entry(b"x")] * 9, NOW, 5)[3:] == [table([Entry(b"x")], NOW)[3], "and 8 more"]


@pytest.fixture
def place(tmp_path):
    for folder in ("b/log", "a", ".hidden", "c", "target"):
        (tmp_path / "s" / folder).mkdir(parents=True)
    (tmp_path / "s/file").touch()
    (tmp_path / "s/c/log").touch()
    os.rename(tmp_path / "s/target", tmp_path / "target")
    os.symlink(tmp_path / "target", tmp_path / "s/link")
    return os.fsencode(tmp_path)


def test_services_are_found(place):
    s = place + b"/s"
    assert find([s]) == [
        (b"a", s + b"/a"),
        (b"b", s + b"/b"),
        (b"b/log", s + b"/b/log"),
        (b"c", s + b"/c"),
        (b"link", s + b"/link"),
    ]
    assert [name for name, _ in find([s + b"/", place])][-2:] == [place + b"/s", place + b"/target"]
    assert find([s])[0] == (b"a", s + b"/a")
    open(s + b"/b/run", "w").close()
    assert find([s + b"/b"]) == [(s + b"/b", s + b"/b"), (s + b"/b/log", s + b"/b/log")]
    with pytest.raises(FileNotFoundError):
        find([place + b"/none"])


class Supervised:
    """A service's directory as a supervisor leaves it; alive as long as `ok` has a reader."""

    def __init__(self, directory):
        self._folder = directory / "supervise"
        self._folder.mkdir(parents=True)
        os.mkfifo(self._folder / "ok")
        self._reader = os.open(self._folder / "ok", os.O_RDONLY | os.O_NONBLOCK)
        self._name = os.fsencode(directory)

    def look(self, status, details=None):
        (self._folder / "status").write_bytes(status)
        if details is not None:
            (self._folder / "details").write_bytes(details)
        entry = look(b"x", self._name)
        return entry.state, entry.since, entry.pid, entry.restarts, entry.ended, entry.pause_seconds

    def die(self):
        os.close(self._reader)

    def write(self, name, data):
        (self._folder / name).write_bytes(data)


@pytest.fixture
def supervised(tmp_path):
    return Supervised(tmp_path / "x")


LABEL = label(NOW, 500)
UP, DOWN = pack_status(LABEL, 7, False, b"u"), pack_status(LABEL, 0, False, b"d")


@pytest.mark.parametrize(
    "status, state, pid",
    [
        (UP, "up", 7),
        (UP + b"\0\1", "up", 7),  # runit's 20 bytes
        (UP + b"\3\0" + UP + b"\3\0", "up", 7),  # encore's 40
        (DOWN, "down", 0),
        (pack_status(LABEL, 7, True, b"u"), "paused", 7),
        (pack_status(LABEL, 7, False, b"d"), "up, want down", 7),
        (pack_status(LABEL, 7, True, b"d"), "paused, want down", 7),
        (pack_status(LABEL, 0, False, b"u"), "down, want up", 0),
        (pack_status(LABEL, 0, False, b"\0"), "down", 0),
        (pack_status(LABEL, (1 << 32) - 1, False, b"?"), "up", (1 << 32) - 1),
    ],
)
def test_a_supervisor_that_says_no_more_than_its_status(supervised, status, state, pid):
    assert supervised.look(status) == (state, NOW, pid, None, None, None)


def test_what_cannot_be_read_is_not_known(supervised):
    assert supervised.look(UP[:17]) == ("-", None, 0, None, None, None)


def details(**facts):
    one = Details()
    for name, value in {"label": LABEL, **facts}.items():
        setattr(one, name, value)
    return one.pack()


@pytest.mark.parametrize(
    "status, facts, found",
    [
        (UP, {"state": "up", "starts": 1}, ("up", 0, None, None)),
        (UP, {"state": "fresh", "starts": 3, "wait": 4, "ended": (1, 0)}, ("up", 2, "exit 1", 4)),
        (UP, {"state": "up", "starts": 0, "ready": NOW}, ("ready", 0, None, None)),
        (pack_status(LABEL, 7, True, b"u"), {"state": "paused", "ready": NOW}, ("paused", None, None, None)),
        (
            pack_status(LABEL, 0, False, b"u"),
            {"state": "waiting", "ended": (KILLED, 9)},
            ("waiting", None, "SIGKILL", None),
        ),
        (DOWN, {"state": "failed", "ended": (100, 0)}, ("failed", None, "exit 100", None)),
        (DOWN, {"state": "down", "ended": (KILLED, 99)}, ("down", None, "signal 99", None)),
        (DOWN, {"state": "down", "ended": (KILLED, 0)}, ("down", None, None, None)),
        (DOWN, {"state": "\x1b[2J"}, ("down", None, None, None)),
        (DOWN, {"state": "drowsy"}, ("drowsy", None, None, None)),
    ],
)
def test_what_our_supervisor_says_too(supervised, status, facts, found):
    state, _, _, *rest = supervised.look(status, details(**facts))
    assert (state, *rest) == found


def test_details_that_are_out_of_date_say_nothing(supervised):
    old = details(label=label(NOW - 1, 500), state="waiting", starts=5, wait=8, ended=(1, 0))
    assert supervised.look(UP, old) == ("up", NOW, 7, None, None, None)


def test_without_a_supervisor(supervised, tmp_path):
    assert look(b"x", os.fsencode(tmp_path / "none")).state == UNSUPERVISED
    supervised.write("status", UP)
    supervised.die()
    entry = look(b"x", os.fsencode(tmp_path / "x"))
    assert (entry.state, entry.pid, entry.since) == (UNSUPERVISED, 0, None)
