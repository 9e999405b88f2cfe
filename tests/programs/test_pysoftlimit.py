"""pysoftlimit beside the original: the limits a program finds, usage, errors."""

import os
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [sys.executable, f"{ROOT}/bin/pysoftlimit"]
needs_original = pytest.mark.skipif(not shutil.which("softlimit"), reason="the original is not installed")
SHOW = ["cat", "/proc/self/limits"]

CASES = [
    [],
    ["-z", "true"],
    ["-a"],
    ["-a", "-1", "true"],
    ["-m", "1x", "true"],
    ["-m", "100000000"],
    [*SHOW],
    ["-m100000000", *SHOW],
    ["-m", "100000000", "-a", "123456789", "-s=", *SHOW],
    ["-a=", "-c", "", "-o", "1000000000", "-l5", "-p", "=", *SHOW],
    ["-f18446744073709551616", "-t", "18446744073709551615", "-r99999999999999999999", "--", *SHOW],
    ["-o100", "-o", "50", "-c=", "-d50000000", "-s4000000", "-t60", "-p100000", *SHOW],
    ["-o5", "no-such-program"],
    ["-a", "3000000", "no-such-program"],
    ["-f1", "./not-executable"],
    ["-t1", "sh", "-c", "exit 9"],
]


@needs_original
@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_as_the_original(tmp_path, words):
    (tmp_path / "not-executable").touch()
    ours, theirs = [
        subprocess.run([*command, *words], capture_output=True, cwd=tmp_path, timeout=60)
        for command in (OURS, ["softlimit"])
    ]
    assert ours.returncode == theirs.returncode
    assert ours.stdout == theirs.stdout
    said = theirs.stderr
    for complaint in (b"illegal", b"option requires"):
        said = said.replace(b"softlimit: " + complaint, b"pysoftlimit: " + complaint)
    assert ours.stderr == said


@pytest.mark.parametrize("option", ["-m", "-a", "-d"])
def test_too_little_for_one_of_ours_is_said(option):
    environ = {**os.environ, "PATH": f"{ROOT}/bin:{os.environ['PATH']}"}
    done = subprocess.run([*OURS, option, "2000000", "pytai64n"], capture_output=True, env=environ, timeout=60)
    assert done.returncode == 111
    said = done.stderr.decode()
    start = "softlimit: fatal: unable to run pytai64n: 2000000 bytes are too few for it to load, it needs "
    assert said.startswith(start)
    assert said.count("\n") == 1


@pytest.mark.parametrize("program", [["pytai64n"], [*OURS, "pytai64n"]], ids=["in-process", "started"])
def test_the_least_is_enough(program):
    from pyqmail.programs.pysoftlimit import LEAST_BYTES

    environ = {**os.environ, "PATH": f"{ROOT}/bin:{os.environ['PATH']}"}
    words = [*OURS, "-m", str(max(LEAST_BYTES.values())), *program]
    done = subprocess.run(words, input=b"x\n", capture_output=True, env=environ, timeout=60)
    assert (done.returncode, done.stdout[25:], done.stderr) == (0, b" x\n", b"")
