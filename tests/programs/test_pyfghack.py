"""pyfghack: exit codes, waiting, programs of ours; beside the original in tests/interop."""

import os
import signal
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

CODES = [
    # the program                                     exit code, descriptor 2
    (["true"],                                        0, ""),
    (["sh", "-c", "exit 7"],                          7, ""),
    (["sh", "-c", "kill -9 $$"],                      111, "fghack: fatal: child crashed\n"),
    (["./no"],                                        111, "fghack: fatal: unable to run ./no: file does not exist\n"),
    (["pyfghack", "sh", "-c", "exit 8"],              8, ""),
    (["pyenvuidgid", "no one", "true"],               111, "envuidgid: fatal: unknown account no one\n"),
    (["pysetlock", "lock", "sh", "-c", "exit 6"],     6, ""),
    ([],                                              100, "fghack: usage: fghack child\n"),
]  # fmt: skip


@pytest.mark.parametrize("program, code, err", CODES)
def test_exit_codes(run, tmp_path, program, code, err):
    assert run("pyfghack", *program, cwd=tmp_path) == (code, b"", err.encode())


def test_a_program_of_ours_is_not_executed(tmp_path):
    """It is the forked copy of the interpreter that waits for it, and has all the descriptors."""
    words = [sys.executable, f"{ROOT}/bin/pyfghack", f"{ROOT}/bin/pytai64n"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        process.stdin.write(b"x\n")
        assert process.stdout.readline().endswith(b" x\n")
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
            child = int(children.read())
        assert os.readlink(f"/proc/{child}/exe") == os.readlink(f"/proc/{process.pid}/exe")
        with open(f"/proc/{child}/comm") as name, open(f"/proc/{child}/cmdline", "rb") as words:
            assert (name.read(), words.read().rstrip(b"\0")) == ("pytai64n\n", b"pytai64n")
        assert [os.readlink(f"/proc/{child}/fd/{fd}") for fd in range(3, 34)] == [
            os.readlink(f"/proc/{child}/fd/3")
        ] * 31
        process.stdin.close()
        assert process.wait(30) == 0


def test_it_dies_of_a_signal_and_the_program_does_not():
    words = [sys.executable, f"{ROOT}/bin/pyfghack", "sh", "-c", "echo started; read line; echo $line"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout.readline() == b"started\n"
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
        process.stdin.write(b"still here\n")
        assert process.stdout.readline() == b"still here\n"
