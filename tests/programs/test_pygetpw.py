"""The rules of the search are in tests/mail/local/test_users.py; here is the program, against the system's own password database."""

import os
import pwd

import pytest


def users_with_a_home():
    for entry in pwd.getpwall():
        try:
            if entry.pw_uid and os.stat(entry.pw_dir).st_uid == entry.pw_uid and "-" not in entry.pw_name:
                yield entry
        except OSError:
            continue


def test_in_a_private_home_all_is_alias(run, home):
    done = run("pygetpw", "-Some-One", env={"PYQMAIL_HOME": home.path})
    expected = f"alias\0{os.getuid()}\0{os.stat(home.path + '/private').st_gid}\0{home.alias}\0-\0-Some-One\0"
    assert done == (0, expected.encode(), b"")


def test_a_user_and_an_extension(run, tmp_path):
    user = next(users_with_a_home(), None)
    if user is None:
        pytest.skip("no user here has a home of its own")
    for local, dash, ext in [(user.pw_name, "", ""), (user.pw_name.upper() + "-X-y", "-", "X-y")]:
        expected = f"{user.pw_name}\0{user.pw_uid}\0{user.pw_gid}\0{user.pw_dir}\0{dash}\0{ext}\0"
        assert run("pygetpw", local, env={"PYQMAIL_HOME": str(tmp_path)}) == (0, expected.encode(), b"")


def test_root_is_nobody(run, tmp_path):
    done = run("pygetpw", "root", env={"PYQMAIL_HOME": str(tmp_path)})
    try:
        pwd.getpwnam("alias")
    except KeyError:
        assert done == (116, b"", b"")
    else:
        assert done.out.startswith(b"alias\0") and done.out.endswith(b"\0-\0root\0")


def test_no_argument(run):
    assert run("pygetpw") == (100, b"", b"")
