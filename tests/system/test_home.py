"""The home and its users: private, and the usual kind where the system's own names stand in."""

import os

import pytest

from pyqmail.system.home import Home, count_split, find_home


def test_find_home():
    assert find_home({}).path == "/var/qmail"
    assert find_home({b"PYQMAIL_HOME": b""}).path == "/var/qmail"
    assert find_home({b"PYQMAIL_HOME": b"/h\xff"}).path == os.fsdecode(b"/h\xff")


def test_a_private_home_has_one_user(home):
    assert home.owner() == os.getuid()
    assert (
        home.uid("qmailq") == home.uid("alias") == os.getuid()
        and home.gid("qmail") == os.stat(f"{home.path}/private").st_gid
    )


def test_another_home_asks_the_system(tmp_path):
    home = Home(str(tmp_path))
    assert home.owner() is None and home.uid("root") == 0 and home.gid("root") == 0
    for ask, name in ((home.uid, "no-such-user"), (home.gid, "no-such-group")):
        with pytest.raises(LookupError) as unknown:
            ask(name)
        assert str(unknown.value) == name


def test_a_home_that_is_a_file_is_not_private(tmp_path):
    (tmp_path / "file").touch()
    assert Home(str(tmp_path / "file")).owner() is None


def test_count_split(home):
    (open(f"{home.queue}/mess/99", "w")).close()
    os.mkdir(f"{home.queue}/mess/other")
    assert count_split(home.queue) == 23
    with pytest.raises(FileNotFoundError):
        count_split(f"{home.path}/nowhere")
