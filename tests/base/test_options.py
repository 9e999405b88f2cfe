"""Option parsing as the originals do it, and what comes from a declaration."""

import errno
import os
import subprocess
import sys

import pytest

from pyqmail.base.failure import Permanent, Temporary, Usage
from pyqmail.base.options import Act, Argument, Flag, Program, Rest, Value

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def number(text):
    if not text.isdigit():
        raise ValueError(f"not a number: {text}")
    return int(text)


PROGRAM = Program(
    name="pything",
    summary="do a thing",
    original="thing",
    options=[
        Flag("v", "level", "say all", value=2),
        Flag("q", "level", "say nothing", value=0),
        Value("l", "name", "name", "our name"),
        Value(None, "workers", "N", "how many", number, long="workers"),
        Flag(None, "calm", "slowly", long="calm"),
        Act("U", lambda call: setattr(call, "uid", call.environ[b"UID"]), "uid from the environment"),
        Act("r", lambda call, text: call.bases.append(text), "a base", metavar="base"),
    ],
    defaults={"level": 1, "name": None, "workers": 3, "calm": False, "uid": None},
    arguments=[Argument("host"), Argument("port", optional=True, default="25"), Rest("program")],
)


def parse(*words):
    call = PROGRAM.parse(["bin/thing", *words], {b"UID": b"7"})
    return {field: value for field, value in vars(call).items() if field not in ("argv0", "environ")}


DEFAULT = {"level": 1, "name": None, "workers": 3, "calm": False, "uid": None, "host": "h", "port": "25", "program": []}

ACCEPTED = [
    (["h"], {}),
    (["-v", "h"], {"level": 2}),
    (["-vq", "h"], {"level": 0}),
    (["-qv", "h", "1", "p", "-v"], {"level": 2, "port": "1", "program": ["p", "-v"]}),
    (["-vlname", "h"], {"level": 2, "name": "name"}),
    (["-l", "-v", "h"], {"name": "-v"}),
    (["-l", "", "h"], {"name": ""}),
    (["-l", "a", "-lb", "h"], {"name": "b"}),
    (["-v", "--", "h"], {"level": 2}),
    (["--", "-v"], {"host": "-v"}),
    (["-", "1"], {"host": "-", "port": "1"}),
    (["-U", "h"], {"uid": b"7"}),
    (["--workers", "5", "h"], {"workers": 5}),
    (["--workers=6", "--calm", "h"], {"workers": 6, "calm": True}),
]


@pytest.mark.parametrize("words, changed", ACCEPTED)
def test_accepted(words, changed):
    assert parse(*words) == {**DEFAULT, **changed}


USAGE = "thing: usage: thing [ -vqU ] [ -l name ] [ -r base ] [ --workers N ] [ --calm ] host [ port ] [ program ... ]"

REFUSED = [
    ([], USAGE),
    (["-z", "h"], f"thing: illegal option -- z\n{USAGE}"),
    (["-vl"], f"thing: option requires an argument -- l\n{USAGE}"),
    (["--nothing", "h"], f"thing: illegal option -- -nothing\n{USAGE}"),
    (["--calm=1", "h"], f"thing: illegal option -- -calm\n{USAGE}"),
    (["--workers"], f"thing: option requires an argument -- -workers\n{USAGE}"),
    (["--workers", "x", "h"], f"thing: not a number: x\n{USAGE}"),
]


@pytest.mark.parametrize("words, text", REFUSED)
def test_refused(words, text):
    with pytest.raises(Usage) as refusal:
        parse(*words)
    assert str(refusal.value) == text


LETTERLESS = Program(
    "pything", "do", options=[Flag(None, "calm", long="calm")], defaults={"calm": False}, arguments=[Rest("words")]
)
WORDS = [
    # given                  calm   operands
    (["--calm", "-x"],       True,  ["-x"]),
    (["--*", "--calm"],      False, ["--*", "--calm"]),
    (["---calm"],            False, ["---calm"]),
    (["--calm", "--", "--"], True,  ["--"]),
    (["-", "--calm"],        False, ["-", "--calm"]),
]  # fmt: skip


@pytest.mark.parametrize("given, calm, words", WORDS)
def test_without_letters_only_names_are_options(given, calm, words):
    call = LETTERLESS.parse(["thing", *given], {})
    assert (call.calm, call.words) == (calm, words)


def test_an_act_acts_at_its_place():
    call = PROGRAM.parse(["thing", "h"], {})
    call.bases = []
    PROGRAM._parse_options(call, ["-ra", "-v", "-r", "b"])
    assert call.bases == ["a", "b"]


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
    assert all(word in said for word in ("-v", "-l name", "--workers N", "our name", "do a thing"))


def test_environ_is_the_process_s_own():
    assert PROGRAM.parse(["thing", "h"]).environ is os.environb
