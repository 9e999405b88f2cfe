"""pypgrphack: the program leads a session of its own; beside the original in tests/interop."""

import os
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_the_program_is_not_in_our_group(tmp_path):
    words = [sys.executable, f"{ROOT}/bin/pypgrphack", "sh", "-c", "echo started; read line; exit 3"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, process_group=0) as process:
        assert process.stdout.readline() == b"started\n"
        # it led its group already, as setsid's failure shows: nothing changes
        assert os.getsid(process.pid) == os.getsid(0)
        process.stdin.close()
        assert process.wait(30) == 3
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout.readline() == b"started\n"
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


def test_a_program_of_ours(run):
    assert run("pypgrphack", "pyenvdir", "/", "true")[0] == 111
    assert run("pypgrphack", "pytai64n", input=b"x")[1][25:] == b" x"


def test_nothing_to_run(run):
    assert run("pypgrphack") == (100, b"", b"pgrphack: usage: pgrphack child\n")
    assert run("pypgrphack", "./none") == (111, b"", b"pgrphack: fatal: unable to run ./none: file does not exist\n")
