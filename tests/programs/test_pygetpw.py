"""The rules of the search are in tests/mail/local/test_users.py; here is the program, against a password database."""

import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
UID, GID = 71077, 71078


def test_in_a_private_home_all_is_alias(run, home):
    done = run("pygetpw", "-Some-One", env={"PYQMAIL_HOME": home.path})
    expected = f"alias\0{os.getuid()}\0{os.stat(home.path + '/private').st_gid}\0{home.alias}\0-\0-Some-One\0"
    assert done == (0, expected.encode(), b"")


@pytest.fixture
def look_up(accounts, tmp_path):
    """look_up(local part, is_there) -> (exit code, output): joe, whose home is his; jim, whose is not; and alias."""
    (tmp_path / "joe").mkdir()
    os.chown(tmp_path / "joe", UID, GID)
    (tmp_path / "jim").mkdir()

    def run_in_namespace(local, alias=True):
        names = ["joe", "jim", "gone", *["alias"] * alias]
        words = accounts(*(f"{name}:x:{UID}:{GID}:{name}:{tmp_path}/{name}:/bin/sh" for name in names))
        done = subprocess.run(
            [*words, sys.executable, f"{ROOT}/bin/pygetpw", local],
            env={"PATH": "/usr/bin:/bin", "PYQMAIL_HOME": str(tmp_path)},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.stderr == b""
        return done.returncode, done.stdout

    return run_in_namespace


@pytest.mark.parametrize("local, dash, ext", [("joe", "", ""), ("JOE-X-y", "-", "X-y")])
def test_a_user_and_an_extension(look_up, tmp_path, local, dash, ext):
    assert look_up(local) == (0, f"joe\0{UID}\0{GID}\0{tmp_path}/joe\0{dash}\0{ext}\0".encode())


@pytest.mark.parametrize("local", ["root", "jim", "gone-x", "nobody-here"])
def test_who_has_no_home_of_his_own_is_alias_whose_home_is_not_looked_at(look_up, tmp_path, local):
    assert look_up(local) == (0, f"alias\0{UID}\0{GID}\0{tmp_path}/alias\0-\0{local}\0".encode())


def test_without_alias_root_is_nobody(look_up):
    assert look_up("root", alias=False) == (116, b"")


def test_no_argument(run):
    assert run("pygetpw") == (100, b"", b"")
