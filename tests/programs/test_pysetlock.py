"""pysetlock beside the original; the lock goes on into programs of ours and others'."""

import fcntl
import os
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [sys.executable, f"{ROOT}/bin/pysetlock"]
needs_original = pytest.mark.skipif(not shutil.which("setlock"), reason="daemontools is not installed")

CASES = [
    [],
    ["-n"],
    ["file"],
    ["-q", "file", "echo"],
    ["file", "echo", "hi"],
    ["-nxNX", "--", "file", "echo", "-n", "hi"],
    ["none/file", "echo"],
    ["-x", "none/file", "echo"],
    ["-x", "file", "no-such-program"],
    ["file", "./not-executable"],
    ["-n", "held", "echo"],
    ["-nx", "held", "echo"],
    ["-xnX", "held", "echo"],
    ["file", "sh", "-c", "exit 7"],
    ["file", "sh", "-c", "readlink /proc/self/fd/3 | sed s,.*/,,; ls -l file | cut -c1-10"],
]


@needs_original
@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_as_the_original(tmp_path, words):
    (tmp_path / "not-executable").touch()
    held = os.open(tmp_path / "held", os.O_WRONLY | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    ours, theirs = [
        subprocess.run([*command, *words], capture_output=True, cwd=tmp_path, timeout=60)
        for command in (OURS, ["setlock"])
    ]
    os.close(held)
    assert ours.returncode == theirs.returncode
    assert ours.stdout == theirs.stdout
    assert ours.stderr == theirs.stderr.replace(b"setlock: illegal", b"pysetlock: illegal")


def is_locked(path):
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True


@pytest.mark.parametrize("program", [["cat"], ["pytai64n"], ["pysetlock", "other", "cat"]], ids=" ".join)
def test_the_program_holds_the_lock_until_it_ends(tmp_path, program):
    environ = {**os.environ, "PATH": f"{ROOT}/bin:{os.environ['PATH']}"}
    words = [*OURS, "file", *program]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=tmp_path, env=environ
    ) as holder:
        holder.stdin.write(b"x\n")
        assert holder.stdout.read(100).endswith(b"x\n")
        went_on_in_process = os.readlink(f"/proc/{holder.pid}/exe") == os.path.realpath(sys.executable)
        assert went_on_in_process == (program == ["pytai64n"])
        assert is_locked(tmp_path / "file")
        holder.stdin.close()
        assert holder.wait(30) == 0
    assert not is_locked(tmp_path / "file")


def test_it_waits_for_the_lock(tmp_path):
    held = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    with subprocess.Popen([*OURS, "file", "echo", "mine"], stdout=subprocess.PIPE, cwd=tmp_path) as waiter:
        with pytest.raises(subprocess.TimeoutExpired):
            waiter.wait(0.3)
        os.close(held)
        assert waiter.stdout.read() == b"mine\n"
        assert waiter.wait(30) == 0
