"""A declared program run: what its work raises becomes a line and an exit code."""

import errno
import os
import subprocess
import sys

import pytest

from pyqmail.base.failure import Permanent, Temporary, Usage
from pyqmail.base.options import Argument, Value
from pyqmail.system.command_line import Program

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = Program(
    name="pything",
    summary="do a thing",
    original="thing",
    options=[
        Value("v", "verbosity", "N", "how much to say", int, is_lenient=True, default=1),
        Value("l", "name", "name", "our name"),
        Value(None, "workers", "N", "how many", int, long="workers", default=3),
    ],
    arguments=[Argument("host")],
)


ENDINGS = [
    (lambda call: 3, 3, b""),
    (Permanent("no"), 100, b"thing: fatal: no\n"),
    (
        Temporary("unable to open x", FileNotFoundError(2, "")),
        111,
        b"thing: fatal: unable to open x: file does not exist\n",
    ),
    (Usage("thing: usage: it"), 100, b"thing: usage: it\n"),
    (MemoryError(), 111, b"thing: fatal: out of memory\n"),
    (SystemError("error return without exception set"), 111, b"thing: fatal: out of memory\n"),  # within an import
    (OSError(errno.ENOMEM, ""), 111, b"thing: fatal: out of memory\n"),
    (OSError(errno.EMFILE, ""), 111, b"thing: fatal: process cannot open more files\n"),
    (OSError(errno.ENFILE, ""), 111, b"thing: fatal: system cannot open more files\n"),
]


@pytest.mark.parametrize("ending, code, said", ENDINGS)
def test_endings(ending, code, said, capfd):
    def work(call):
        if isinstance(ending, Exception):
            raise ending
        return ending(call)

    assert PROGRAM.run(["thing", "h"], work) == code
    assert capfd.readouterr().err.encode() == said


@pytest.mark.parametrize("code, arguments", [(100, []), (111, ["no-such-program", "x"])])
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_without_a_descriptor_2_the_exit_code_is_the_same(code, arguments, redirection):
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, f"{ROOT}/bin/pyargv0", *arguments]
    assert subprocess.run(command, env={**os.environ}, timeout=60).returncode == code


def test_our_own_bug_is_a_traceback_and_111(capfd):
    assert PROGRAM.run(["thing", "h"], lambda call: 1 // 0) == 111
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_help_names_every_option(capfd):
    assert PROGRAM.run(["thing", "--help"], lambda call: 1) == 0
    said = capfd.readouterr().out
    assert all(
        word in said for word in ("-v", "-l name", "--workers N", "how many; default 3", "our name", "do a thing")
    )


@pytest.mark.parametrize("words, said", [([], b"thing: warning: -v 1_0 is read as 10\n"), (["-v", "0"], b"")])
def test_numbers_read_as_others_are_told_unless_quiet(words, said, capfd):
    assert PROGRAM.run(["thing", "-v", "1_0", *words, "h"], lambda call: 0) == 0
    assert capfd.readouterr().err.encode() == said


def test_environ_is_the_process_s_own():
    seen = []
    assert PROGRAM.run(["thing", "h"], lambda call: seen.append(call.environ) or 0) == 0
    assert seen[0] is os.environb
