"""pysoftlimit beside the original: the limits a program finds, usage, errors."""

import os
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [sys.executable, f"{ROOT}/bin/pysoftlimit"]
needs_original = pytest.mark.skipif(not shutil.which("softlimit"), reason="daemontools is not installed")
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


PLACES = {"-m": (16000000, "address space"), "-a": (16000000, "address space"), "-d": (6500000, "data")}
CHAINS = [
    # the program and its arguments               the word that needs an interpreter
    ("pytai64n", "pytai64n"),
    (f"{ROOT}/bin/pytai64n", f"{ROOT}/bin/pytai64n"),
    ("pyenvdir . pysetuidgid nobody true", "pyenvdir"),
    ("./script x", "./script"),
    ("./script-of-env", "./script-of-env"),
    (f"{sys.executable} -c pass", sys.executable),
    ("env A=b tcpserver 0 25 pysmtpd", "pysmtpd"),
    ("./tai64n", "./tai64n"),
]


@pytest.fixture
def environ(tmp_path):
    for name, interpreter in (("script", sys.executable), ("script-of-env", "/usr/bin/env python3")):
        (tmp_path / name).write_text(f"#!{interpreter}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "tai64n").symlink_to(f"{ROOT}/bin/pytai64n")
    return {**os.environ, "PATH": f"{ROOT}/bin:{os.environ['PATH']}"}


@pytest.mark.parametrize("option", PLACES)
@pytest.mark.parametrize("chain, name", CHAINS)
def test_too_little_for_an_interpreter_is_said(tmp_path, environ, option, chain, name):
    """Trap 40, anywhere in the line."""
    words = chain.split()
    done = subprocess.run(
        [*OURS, f"{option}3000000", *words], capture_output=True, cwd=tmp_path, env=environ, timeout=60
    )
    least, what = PLACES[option]
    said = (
        f"softlimit: fatal: unable to run {words[0]}: 3000000 bytes of {what} are too few for {name}, "
        f"an interpreter needs {least} to load\n"
    )
    assert (done.returncode, done.stdout, done.stderr.decode()) == (111, b"", said)


@pytest.mark.parametrize("megabytes", [17, 45])
def test_what_a_server_needs_under_load_is_said(tmp_path, environ, megabytes):
    few = megabytes * 1_000_000
    words = [*OURS, "-m", str(few), "pytcpserver", "0", "no.such.port", "true"]
    done = subprocess.run(words, capture_output=True, cwd=tmp_path, env=environ, timeout=60)
    lines = [
        line
        for limit, needed in (("address space", 64), ("data", 48))
        for line in [f"{few} bytes of {limit} are too few", f"{needed}000000 are needed"]
    ]
    said = done.stderr.decode()
    assert [text for text in lines if text not in said] == []
    assert said.count("softlimit: warning: ") == 2 and " for pytcpserver under load: " in said


@pytest.mark.parametrize("chain", ["pytai64n", "true"])
def test_nothing_is_said_of_what_no_server_needs(tmp_path, environ, chain):
    words = [*OURS, "-m", "20000000", *chain.split()]
    done = subprocess.run(words, input=b"", capture_output=True, cwd=tmp_path, env=environ, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("chain", ["sh -c :", "true", "env pysmtpd.no true"])
def test_others_are_run_under_any_limit(tmp_path, environ, chain):
    words = [*OURS, "-m", "6000000", *chain.split()]
    assert b"bytes" not in subprocess.run(words, capture_output=True, cwd=tmp_path, env=environ, timeout=60).stderr


def test_no_memory_even_for_execve(tmp_path):
    """The original is killed by the kernel then; we say it."""
    words = [*OURS, "-m500000", "/bin/true"]
    done = subprocess.run(words, capture_output=True, env={**os.environ, "BIG": "x" * 120000}, timeout=60)
    assert (done.returncode, done.stderr) == (111, b"softlimit: fatal: unable to run /bin/true: out of memory\n")


@pytest.mark.parametrize("program", [["pytai64n"], [*OURS, "pytai64n"]], ids=["in-process", "started"])
def test_the_least_is_enough(program):
    from pyqmail.programs.pysoftlimit import MIN_BYTES

    environ = {**os.environ, "PATH": f"{ROOT}/bin:{os.environ['PATH']}"}
    least = max(least for least, _ in MIN_BYTES.values())
    words = [*OURS, "-m", str(least), *program]
    done = subprocess.run(words, input=b"x\n", capture_output=True, env=environ, timeout=60)
    assert (done.returncode, done.stdout[25:], done.stderr) == (0, b" x\n", b"")
