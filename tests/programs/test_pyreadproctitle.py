"""pyreadproctitle as ps shows it, alone and at the end of a chain; beside the original in tests/interop."""

import os
import subprocess
import sys

import pytest

from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENVIRON = {**os.environ, "PATH": f"{ROOT}/bin:{os.environ['PATH']}"}
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can change ids")

CHAINS = [
    [],
    ["pypgrphack"],
    [f"{ROOT}/bin/pysoftlimit", "-o50"],
    ["env"],
    pytest.param(["pysetuidgid", "nobody"], marks=as_root),  # may not write its memory any more without exec
    pytest.param(["pysetuidgid", "nobody", "pypgrphack"], marks=as_root),
]


def shown(process):
    words = ["ps", "-wwo", "args=", str(process.pid)]
    return subprocess.run(words, capture_output=True, check=False).stdout


@pytest.mark.parametrize("chain", CHAINS)
def test_ps_shows_the_last_words(chain):
    """Trap 42: the first three dots never change, and the memory of the arguments does."""
    start = [sys.executable, f"{ROOT}/bin/pypgrphack", *chain]
    words = [*start, f"{ROOT}/bin/pyreadproctitle", "service", "errors:", "." * 20]
    with subprocess.Popen(words, stdin=subprocess.PIPE, bufsize=0, env=ENVIRON) as process:
        process.stdin.write(b"hello")
        words = b" service errors: " + b"." * 15 + b"hello\n"
        until(lambda: shown(process).endswith(words), lambda: repr(shown(process)))
        assert shown(process).count(b"hello") == 1
        process.stdin.write(b", w\0orld and all")
        words = b" service errors: ...lo, world and all\n"
        until(lambda: shown(process).endswith(words), lambda: repr(shown(process)))
        process.stdin.close()
        assert process.wait(30) == 0


def test_the_last_argument_is_covered_with_dots_at_once():
    words = [sys.executable, f"{ROOT}/bin/pyreadproctitle", "a", "secret"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, env=ENVIRON) as process:
        until(lambda: shown(process).endswith(b" a ......\n"), lambda: repr(shown(process)))
        process.stdin.close()


@pytest.mark.parametrize("words", [[], ["abcd"], ["a long one", "abcd"], ["--", ""]])
def test_too_short_is_100_without_a_word(run, words):
    assert run("pyreadproctitle", *words) == (100, b"", b"")


def test_a_read_error_is_111_without_a_word(run):
    words = [sys.executable, f"{ROOT}/bin/pyreadproctitle", "abcdef"]
    with open(os.devnull, "wb") as write_only:
        done = subprocess.run(words, stdin=write_only, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (111, b"", b"")
