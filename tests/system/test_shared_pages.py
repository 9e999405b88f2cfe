"""What is looked up before many forks.  How much memory that saves is in tests/programs/test_pysvscan.py."""

import gc
import os

from pyqmail.programs.pysupervise import supervise
from pyqmail.supervise.service import Service
from pyqmail.supervise.supervisor import Supervisor
from pyqmail.system.loop import Loop
from pyqmail.system.shared_pages import look_ups, share_with_forks


def test_what_a_function_leads_to_is_looked_up():
    found = look_ups(supervise)
    assert {"run", "_pid"} <= found[Supervisor] and "turn" in found[Loop] and "receive" in found[Service]
    assert {"posix_spawn", "epoll"} <= found[gc]


def test_classes_of_others_are_left_out():
    assert {owner.__module__.split(".")[0] for owner in look_ups(supervise) if owner is not gc} == {"pyqmail"}


def test_nothing_leads_nowhere():
    assert look_ups(None) == {gc: set()}


def test_what_exists_is_frozen():
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        share_with_forks(supervise)
        os.write(writer, b"%d" % gc.get_freeze_count())
        os._exit(0)
    os.waitpid(pid, 0)
    assert int(os.read(reader, 100)) > 1000
    os.close(reader)
    os.close(writer)
