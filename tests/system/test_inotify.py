"""Notices of changes in directories.  What stays untested: a kernel that has none to give."""

import os

import pytest

from pyqmail.system.inotify import Inotify


@pytest.fixture
def notices():
    made = Inotify()
    yield made
    made.close()


CHANGES = [
    # what is done in a directory that holds `old`
    lambda place: (place / "new").touch(),
    lambda place: (place / "new").mkdir(),
    lambda place: (place / "new").symlink_to("nowhere"),
    lambda place: os.mkfifo(place / "new"),
    lambda place: (place / "old").unlink(),
    lambda place: (place / "old").rename(place / "new"),
    lambda place: (place / "old").rename(place.parent / "away"),
    lambda place: (place.parent / "other").rename(place / "old"),
    lambda place: place.rename(place.parent / "moved"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_a_notice(tmp_path, notices, change):
    place = tmp_path / "place"
    place.mkdir()
    (place / "old").touch()
    (tmp_path / "other").touch()
    number = notices.watch(place)
    assert notices.take() == set() and notices.wait(0) == set()
    change(place)
    assert notices.wait(10) == {number}
    assert notices.take() == set()


def test_content_is_not_watched(tmp_path, notices):
    (tmp_path / "file").touch()
    notices.watch(tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "file").chmod(0o600)
    assert notices.wait(0) == set()


def test_many_changes_are_one_notice_for_each_directory(tmp_path, notices):
    places = [tmp_path / name for name in "abc"]
    for place in places:
        place.mkdir()
    numbers = [notices.watch(os.fsencode(place)) for place in places]
    assert len(set(numbers)) == 3
    for place in places[:2]:
        for index in range(500):  # more than one block of events
            (place / f"{index:050}").touch()
    assert notices.wait(10) == set(numbers[:2])
    assert notices.take() == set()


def test_the_same_directory_has_one_number(tmp_path, notices):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("a")
    assert notices.watch(tmp_path / "a") == notices.watch(tmp_path / "b") == notices.watch(tmp_path / "a")


def test_a_directory_that_goes_and_comes_back(tmp_path, notices):
    place = tmp_path / "a"
    place.mkdir()
    number = notices.watch(place)
    place.rmdir()
    assert notices.wait(10) == {number}
    with pytest.raises(FileNotFoundError):
        notices.watch(place)
    place.mkdir()
    again = notices.watch(place)
    (place / "x").touch()
    assert notices.wait(10) == {again}


def test_what_is_forgotten_gives_no_notice(tmp_path, notices):
    number = notices.watch(tmp_path)
    notices.forget(number)
    notices.forget(number)
    (tmp_path / "x").touch()
    assert notices.wait(0) == set()


def test_programs_we_start_do_not_get_it(notices):
    assert not os.get_inheritable(notices.fileno())
