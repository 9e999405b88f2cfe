"""pyrecordio, pyfixcrio, pyaddcr, pydelcr and pyargv0 beside the originals of ucspi-tcp.

Process numbers are taken out.  recordio's lines of input and of output are compared each in their order: which
of them comes first is chance, except in a conversation.
"""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENVIRON = {"PATH": f"{ROOT}/bin:{os.environ['PATH']}", "X": "1"}

pytestmark = pytest.mark.skipif(shutil.which("recordio") is None, reason="needs ucspi-tcp")


def both(name):
    """Return how to start the original, and ours."""
    return [name], [sys.executable, f"{ROOT}/bin/py{name}"]


def outcome(command, *arguments, name="", **how):
    """Return (exit code or signal, descriptor 1, lines of descriptor 2) of a run to the end of all that it started."""
    if "stdin" not in how:
        how.setdefault("input", b"")
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRON, "timeout": 60, **how}
    done = subprocess.run([*command, *arguments], **how)
    lines = re.sub(rb"(?m)^\d+ ", b"PID ", done.stderr or b"").replace(
        b"py" + name.encode() + b":", name.encode() + b":"
    )
    return done.returncode, done.stdout, sorted(lines.split(b"\n"), key=lambda line: line[:6])


def compare(name, *arguments, **how):
    theirs, ours = (outcome(command, *arguments, name=name, **how) for command in both(name))
    assert ours == theirs
    return theirs


STREAMS = [
    b"",
    b"\n",
    b"a\nb\r\nc\r\r\nd",
    b"a\r",
    b"\r\r\n\n\r\r",
    b"\0\n\xff\r\n\r\0",
    b"x" * 255 + b"\r\n" + b"y" * 700 + b"\n\n\n",
    b"line\r\nother\n" * 20000 + b"\r",
]


@pytest.mark.parametrize("name", ["addcr", "delcr"])
@pytest.mark.parametrize("stream", STREAMS, ids=range(len(STREAMS)))
def test_streams(name, stream):
    assert compare(name, "ignored", "-x", "--", input=stream)[0] == 0


@pytest.mark.parametrize("name", ["addcr", "delcr"])
def test_descriptors_that_fail(name):
    with open("/dev/full", "wb") as full:
        assert compare(name, stdin=full)[0] == 111
        assert compare(name, input=b"a\n", stdout=full)[0] == 111
    assert compare(name, preexec_fn=lambda: os.close(0), stdin=None)[0] == 111


@pytest.mark.parametrize("name", ["addcr", "delcr"])
def test_a_reader_that_has_gone(name):
    def code(command):
        reader, writer = os.pipe()
        os.close(reader)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=writer, env=ENVIRON) as process:
            os.close(writer)
            process.stdin.write(b"a\n")
            process.stdin.flush()
            return process.wait(timeout=60)

    assert [code(command) for command in both(name)] == [-signal.SIGPIPE] * 2


@pytest.mark.parametrize("name, sent, comes", [("addcr", b"a\n", b"a\r\n"), ("delcr", b"a\r\nb\r", b"a\nb")])
def test_nothing_is_held_back_in_a_conversation(name, sent, comes):
    for command in both(name):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRON) as process:
            for _ in range(3):
                process.stdin.write(sent)
                process.stdin.flush()
                assert os.read(process.stdout.fileno(), 100) == comes
                sent, comes = b"\n", comes[-1:].replace(b"b", b"\n") if name == "delcr" else b"\r\n"
            process.stdin.close()
            assert process.wait(timeout=60) == 0


DEAF = [
    [],
    ["no-such-program"],
    ["./not-executable"],
    [""],
    ["-x", "cat"],
    ["--", "cat"],
    ["true"],
    ["sh", "-c", "exit 7"],
    ["sh", "-c", "kill -9 $$"],
    ["sh", "-c", "printf 'a\\nb\\r\\nc\\r'"],
    ["env"],
    ["sh", "-c", "for fd in 0 1 2; do test -p /proc/self/fd/$fd && echo $fd; done"],
    ["sh", "-c", "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status"],
]
# what they write at different times are whole lines: else it is chance whether pieces are read together
LISTENING = [
    ["cat"],
    ["sh", "-c", "cat; exit 7"],
    ["sh", "-c", "echo one; cat >/dev/null; echo two; exit 3"],
    ["sh", "-c", "cat >/dev/null; printf 'a\\r\\nb\\nc\\r'"],
    ["sh", "-c", "cat >/dev/null; head -c 3000 /dev/zero | tr '\\0' '\\n'"],
]
INPUT = [b"a\nb\r\nc\r", b"x" * 600 + b"\n\nlast", b"line\n" * 100]


@pytest.mark.parametrize("name", ["recordio", "fixcrio"])
@pytest.mark.parametrize("program", DEAF + LISTENING, ids=str)
def test_around_a_program(name, program, tmp_path):
    (tmp_path / "not-executable").touch()
    compare(name, *program, stdin=subprocess.DEVNULL, cwd=tmp_path)


@pytest.mark.parametrize("name", ["recordio", "fixcrio"])
@pytest.mark.parametrize("program", LISTENING, ids=str)
@pytest.mark.parametrize("stream", INPUT, ids=range(len(INPUT)))
def test_around_a_program_that_listens(name, program, stream, tmp_path):
    """From a file: all is there when the first byte is read, and so the pieces are the same."""
    (tmp_path / "stream").write_bytes(stream)
    results = []
    for command in both(name):
        with open(tmp_path / "stream", "rb") as file:
            results.append(outcome(command, *program, name=name, stdin=file))
    assert results[1] == results[0]


@pytest.mark.parametrize("name", ["recordio", "fixcrio"])
def test_much_in_both_directions(name):
    stream = b"".join(b"%d\r\n" % number for number in range(40000))
    theirs, ours = (outcome(command, "cat", input=stream)[:2] for command in both(name))
    assert ours == theirs == (0, stream)


def test_recorded_is_all_that_went_through():
    stream = b"".join(b"%d\n" % (number**9) for number in range(20000)) + b"end"
    done = subprocess.run(
        [*both("recordio")[1], "cat"], input=stream, capture_output=True, env=ENVIRON, timeout=60, check=True
    )
    assert done.stdout == stream
    for mark in (b"<", b">"):
        lines = re.findall(rb"(?m)^\d+ %s (.*)$" % mark, done.stderr)
        assert lines.pop() == b"[EOF]"
        assert b"".join(line[:-1] + (b"\n" if line.endswith(b" ") else b"") for line in lines) == stream


def test_a_program_that_says_much_before_it_listens():
    """The original stands still here: it waits for the program to take input, and that for us to take its output."""
    program = ["sh", "-c", "head -c 1000000 /dev/zero; exec cat"]
    stream = bytes(1000000)
    done = subprocess.run(
        [*both("fixcrio")[1], *program], input=stream, capture_output=True, env=ENVIRON, timeout=60, check=True
    )
    assert len(done.stdout) == 2000000


@pytest.mark.parametrize("name", ["recordio", "fixcrio"])
def test_what_a_program_says_that_does_not_listen(name, tmp_path):
    """The original ends with the first input that the program does not take, and what the program then says is lost."""
    os.mkfifo(tmp_path / "go")
    command = [*both(name)[1], "sh", "-c", "exec <&-; echo ready; read x <go; echo bye; exit 3"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=ENVIRON, cwd=tmp_path, **pipes) as process:
        assert process.stdout.readline().rstrip() == b"ready"
        process.stdin.write(bytes(300_000))  # more than any pipe holds
        process.stdin.flush()
        (tmp_path / "go").write_text("\n")
        assert process.stdout.read().rstrip() == b"bye"
        assert process.wait(timeout=60) == 3


@pytest.mark.parametrize("program", [["cat"], ["sh", "-c", "while read x; do echo $x; done"]], ids=" ".join)
def test_a_conversation_is_recorded_in_its_order(program):
    def converse(command):
        with subprocess.Popen(
            [*command, *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRON
        ) as process:
            for line in (b"one\n", b"two\r\n", b"three\n"):
                process.stdin.write(line)
                process.stdin.flush()
                assert process.stdout.readline() == line
            process.stdin.close()
            assert process.wait(timeout=60) == 0
            lines = process.stderr.read()
            assert set(re.findall(rb"(?m)^\d+", lines)) == {b"%d" % process.pid}
            return re.sub(rb"(?m)^\d+", b"PID", lines)

    theirs, ours = map(converse, both("recordio"))
    assert ours == theirs
    assert ours.split(b"\n")[:3] == [b"PID < one ", b"PID > one ", b"PID < two\r "]


@pytest.mark.parametrize("name", ["recordio", "fixcrio"])
def test_standard_descriptors_that_are_closed(name):
    for closed in ([0], [0, 1], [2]):

        def close(closed=closed):
            for fd in closed:
                os.close(fd)

        theirs, ours = (
            outcome(command, "sh", "-c", "exit 5", stdin=None, preexec_fn=close)[0]
            for command in both(name)
        )  # fmt: skip
        assert ours == theirs == 5


@pytest.mark.parametrize("name", ["recordio", "fixcrio"])
def test_one_of_ours_goes_on_in_the_same_process(name):
    """The program's number, the parent's and the one in the log are one; nothing is executed."""
    code, out, lines = outcome(both(name)[1], "pyargv0", "pyaddcr", "x", input=b"a\nb")
    assert (code, out) == (0, b"a\r\nb" if name == "recordio" else b"a\r\r\nb")
    assert (b"PID > a\r " in lines) is (name == "recordio")


NAMES = [
    [],
    ["sh"],
    ["no-such-program", "x"],
    ["./not-executable", "x"],
    ["-x", "--", "x"],
    ["", "x"],
    ["sh", "other", "-c", "echo $0 $1", "-", "b"],
    ["sh", "-", "-c", "exit 9"],
    ["env", "-x"],
    ["/usr/bin/env", "x"],
    ["busy/../no", "x"],
]


@pytest.mark.parametrize("words", NAMES, ids=str)
def test_names(words, tmp_path):
    (tmp_path / "not-executable").touch()
    compare("argv0", *words, cwd=tmp_path)


def test_a_name_for_a_program_that_shows_it():
    shows = ["cat", "shown as", "/proc/self/cmdline"]
    assert compare("argv0", *shows)[1] == b"shown as\0/proc/self/cmdline\0"


def test_a_name_for_one_of_ours():
    code, out, err = outcome(both("argv0")[1], "pysetlock", "some/thing", "-q")
    assert (code, out) == (100, b"")
    assert b"thing: illegal option -- q" in err
