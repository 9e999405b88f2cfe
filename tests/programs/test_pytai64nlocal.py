"""pytai64nlocal beside the original; where that one dies, ours leaves the line as it is."""

import os
import random
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [sys.executable, f"{ROOT}/bin/pytai64nlocal"]
needs_original = pytest.mark.skipif(not shutil.which("tai64nlocal"), reason="daemontools is not installed")
EPOCH = (1 << 62) + 10


def random_labels():
    chance = random.Random(3)
    lines = []
    for _ in range(500):
        seconds = EPOCH + chance.choice([chance.randrange(1 << 31), chance.randrange(-(1 << 40), 1 << 50)])
        lines.append(b"@%016x%08x line\n" % (seconds, chance.randrange(1 << 32)))
    return b"".join(lines)


TEXTS = {
    "nothing": b"",
    "random": random_labels(),
    "odd": b"@4000000037c219bf2ef02e94:x\n@04000000037c219bf2ef02e94 y\n@14000000037c219bf2ef02e94\n",
    "capital": b"@4000000037c219bf2ef02e94A\n",
    "plain": b"no label\n @4000000037c219bf2ef02e94\n\0\xff\n\nend",
    "cut": b"x\n@4000000037c2",
    "complete but cut": b"x\n@4000000037c219bf2ef02e94",
    "early": b"@3fffff0000000000000000f0 b\n@3ffffff000000000000000f0 b\n",
}


@needs_original
@pytest.mark.parametrize("zone", ["UTC0", "Europe/Berlin", "America/St_Johns"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_as_the_original(run, text, zone):
    theirs = subprocess.run(["tai64nlocal"], input=text, capture_output=True, env={"TZ": zone}, timeout=60)
    assert run("pytai64nlocal", input=text, env={"TZ": zone}) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_what_is_no_time_passes(run):
    text = b"@ no label\n@40 short\n@ffffffffffffffff00000000 late\n@3000000037c219bfffffffff early\n"
    assert run("pytai64nlocal", input=text).out == text


def test_each_piece_is_passed_on_at_once():
    with subprocess.Popen(
        OURS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env={**os.environ, "TZ": "UTC0"}
    ) as program:
        program.stdin.write(b"@4000000037c219bf2ef02e94 be")
        assert program.stdout.read(100) == b"1999-08-24 04:04:05.787492500 be"
        program.stdin.write(b"gun\n@4000")
        assert program.stdout.read(100) == b"gun\n"
        program.stdin.write(b"000037c219bf2ef02e94 x\n")
        assert program.stdout.read(100) == b"1999-08-24 04:04:05.787492500 x\n"
        program.stdin.close()
        assert program.wait(30) == 0


def test_an_output_that_fails_is_111_without_a_word():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(OURS, input=b"x\n", stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (111, b"")


@needs_original
@pytest.mark.parametrize("redirection", ["<&-", ">&-", "<&- >&-"])
@pytest.mark.parametrize("command", [OURS, ["tai64nlocal"]], ids=["ours", "original"])
def test_a_descriptor_that_is_closed_is_111_without_a_word(command, redirection):
    words = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    done = subprocess.run(words, input=b"x\n", capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (111, b"", b"")
