"""Giving up rights, seen from inside a child.  Needs root; nothing is tested without it."""

import os

import pytest

from pyqmail.system.privileges import drop_to, supplementary_groups
from pyqmail.system.processes import fork

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can drop privileges")


def in_child(work):
    return os.WEXITSTATUS(os.waitpid(fork(work), 0)[1])


def test_uid_gid_and_groups_and_no_way_back():
    def work():
        drop_to(65534, 65533)
        assert os.getresuid() == (65534,) * 3 and os.getresgid() == (65533,) * 3 and os.getgroups() == [65533]
        try:
            os.setuid(0)
        except PermissionError:
            return 7
        return 1

    assert in_child(work) == 7


def test_given_groups():
    def work():
        drop_to(65534, 65533, [65533, 12])
        return 7 if sorted(os.getgroups()) == [12, 65533] else 1

    assert in_child(work) == 7


def test_who_is_it_already_keeps_its_groups():
    def work():
        os.setgroups([5])
        os.setresuid(65534, 65534, 65534)
        drop_to(65534, 65533)
        return 7 if os.getgroups() == [5] else 1

    assert in_child(work) == 7


def test_supplementary_groups_have_the_gid():
    assert 12345 in supplementary_groups("nobody", 12345)
