"""Which changes make a notice: in the directory of services, and wherever a link to one leads."""

import os

import pytest

from pyqmail.supervise.inotify_paths import InotifyPaths, Watching
from pyqmail.system import inotify as notices_module
from pyqmail.system.inotify import Inotify


@pytest.fixture
def place(tmp_path, monkeypatch):
    for folder in ("services", "set/one", "set/two", "more/deep/three"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "services")
    (tmp_path / "services/a").symlink_to("../set/link")
    (tmp_path / "set/link").symlink_to(f"{tmp_path}/more/deep/three/")
    return tmp_path


@pytest.fixture
def notices():
    made = Inotify()
    yield made
    made.close()


def look(watching, path=None):
    watching.begin_pass()
    InotifyPaths(path).enter(watching)
    watching.watch_links(b"a")
    watching.end_pass()


CHANGES = [
    lambda place: (place / "services/b").mkdir(),
    lambda place: (place / "services/a").unlink(),
    lambda place: (place / "services/a").rename(place / "services/.a"),
    lambda place: (place / "set/link").unlink(),
    lambda place: (place / "set/new").symlink_to("one"),
    lambda place: (place / "more/deep/three").rmdir(),
    lambda place: (place / "more/deep/three").rename(place / "more/deep/four"),
    lambda place: (place / "more/deep").rename(place / "more/other"),
    lambda place: (place / "services").rename(place / "elsewhere"),
]
NO_CHANGES = [
    lambda place: (place / "more/deep/three/run").touch(),
    lambda place: (place / "more/new").mkdir(),
    lambda place: (place / "set/one/supervise").mkdir(),
]


@pytest.mark.parametrize(
    "changes, is_noticed", [*((one, True) for one in CHANGES), *((one, False) for one in NO_CHANGES)]
)
def test_what_is_noticed(place, notices, changes, is_noticed):
    watching = Watching(notices)
    look(watching)
    look(watching)  # a second time is no second watch
    assert not watching.is_blind and notices.take() == set()
    changes(place)
    assert bool(notices.take()) == is_noticed


def test_what_is_not_named_any_more_is_forgotten(place, notices):
    watching = Watching(notices)
    look(watching)
    (place / "services/a").unlink()
    look(watching)
    notices.take()
    (place / "set/link").unlink()
    (place / "more/deep/three").rmdir()
    assert notices.take() == set()


def test_where_the_directory_will_come_back(place, notices):
    watching, path = Watching(notices), os.fsencode(place / "services")
    look(watching, path)
    (place / "services").rename(place / "old")
    assert notices.take()
    look(watching, path)
    assert not watching.is_blind
    (place / "services").mkdir()
    assert notices.take()
    look(watching, path)
    assert os.getcwd() == str(place / "services")


@pytest.mark.parametrize("target", ["a", ".", "/", "..", "../set/", "/nowhere/at/all"])
def test_odd_links(place, notices, target):
    (place / "services/a").unlink()
    (place / "services/a").symlink_to(target)
    watching = Watching(notices)
    look(watching)
    assert watching.is_blind == target.startswith("/nowhere")


def test_blind_without_notices_or_on_a_file_system_that_others_change(place, notices, monkeypatch):
    watching = Watching(None)
    look(watching)
    assert watching.is_blind
    monkeypatch.setattr(notices_module, "_SHARED_FILE_SYSTEMS", ("",))  # every one
    watching = Watching(notices)
    for _ in range(2):
        look(watching)
        assert watching.is_blind
