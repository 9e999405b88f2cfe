"""Adopting orphans, in a process of its own."""

import os
import subprocess
import sys

CODE = """
import os
from pyqmail.system.subreaper import adopt_orphans, children
assert adopt_orphans() and children() == []
read, write = os.pipe()
child = os.fork()
if child == 0:
    grandchild = os.fork()
    if grandchild == 0:
        os.close(write)
        os.read(0, 1)
        os._exit(7)
    os.write(write, b"%d" % grandchild)
    os._exit(0)
assert child in children()
os.waitpid(child, 0)
grandchild = int(os.read(read, 20))
assert children() == [grandchild]
os.write(1, b"adopted\\n")
assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 7
"""


def python(code):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return subprocess.run(
        [sys.executable, "-c", code], input=b"x", capture_output=True, timeout=30, env={"PYTHONPATH": root}, check=False
    )


def test_a_grandchild_becomes_a_child():
    done = python(CODE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"adopted\n", b"")


def test_an_interpreter_without_ctypes_adopts_nobody():
    code = """
import sys
sys.modules["ctypes"] = None
from pyqmail.system.subreaper import adopt_orphans
assert adopt_orphans() is False
"""
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
