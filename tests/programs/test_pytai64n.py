"""pytai64n beside the original."""

import os
import re
import shutil
import subprocess
import sys
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [sys.executable, f"{ROOT}/bin/pytai64n"]
needs_original = pytest.mark.skipif(not shutil.which("tai64n"), reason="daemontools is not installed")
TEXTS = [b"", b"a", b"\n", b"a\nb\n", b"\n\nx", b"\0\xff\n" * 1000, b"y" * 200000 + b"\nz"]


def without_times(data):
    return re.sub(rb"@[0-9a-f]{24} ", b"@T ", data)


@pytest.mark.parametrize("text", TEXTS, ids=len)
@needs_original
def test_as_the_original(run, text):
    ours = run("pytai64n", "ignored", input=text)
    theirs = subprocess.run(["tai64n"], input=text, capture_output=True, timeout=60)
    assert ours.code == theirs.returncode == 0
    assert without_times(ours.out) == without_times(theirs.stdout)


def test_a_label_is_the_time(run):
    before = int(time.time())
    label = run("pytai64n", input=b"x").out
    assert re.fullmatch(rb"@[0-9a-f]{24} x", label)
    assert before <= int(label[1:17], 16) - (1 << 62) - 10 <= int(time.time())
    assert int(label[17:25], 16) % 1000 == 500


def test_each_piece_is_passed_on_at_once():
    with subprocess.Popen(OURS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as program:
        program.stdin.write(b"be")
        assert program.stdout.read(100)[25:] == b" be"
        program.stdin.write(b"gun\nnext")
        assert re.fullmatch(rb"gun\n@[0-9a-f]{24} next", program.stdout.read(100))
        program.stdin.close()
        assert program.stdout.read(100) == b""
        assert program.wait(30) == 0


def test_an_output_that_fails_is_111_without_a_word():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(OURS, input=b"x\n", stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (111, b"")


@needs_original
@pytest.mark.parametrize("redirection", ["<&-", ">&-", "<&- >&-"])
@pytest.mark.parametrize("command", [OURS, ["tai64n"]], ids=["ours", "original"])
def test_a_descriptor_that_is_closed_is_111_without_a_word(command, redirection):
    words = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    done = subprocess.run(words, input=b"x\n", capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (111, b"", b"")
