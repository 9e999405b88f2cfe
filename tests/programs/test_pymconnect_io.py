"""pymconnect-io between pipes, and the original if it is installed: each test holds for both.

On a terminal: test_pymconnect.

Untested: a fork that fails.
"""

import fcntl
import os
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Talk:
    """A command with pipes at 0, 1, 6 and 7; Python's files are unbuffered."""

    def __init__(self, command):
        said, self.said = os.pipe()  # to 6
        self.heard, heard = os.pipe()  # from 7
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (said, heard)]
        script = f'exec "$@" 6<&{ends[0]} 7>&{ends[1]} {ends[0]}<&- {ends[1]}>&-'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=ends,
            env={"PATH": os.environ["PATH"]},
        )
        for fd in (said, heard, *ends):
            os.close(fd)

    def close(self):
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            file.close()
        for fd in (self.said, self.heard):
            if fd is not None:
                os.close(fd)

    def say(self, data):
        """Write to 6; b"" ends it."""
        if data:
            os.write(self.said, data)
        else:
            os.close(self.said)
            self.said = None

    def hear(self):
        return os.read(self.heard, 65536)


COMMANDS = {
    "ours": [sys.executable, f"{ROOT}/bin/pymconnect-io", "ignored"],
    "theirs": ["mconnect-io", "ignored"],
}


@pytest.fixture(params=COMMANDS)
def talk(request):
    command, made = COMMANDS[request.param], []
    if not shutil.which(command[0]):
        pytest.skip("needs ucspi-tcp")

    def start():
        made.append(Talk(command))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_each_direction_passes_at_once(talk):
    one = talk()
    one.say(b"220 hi\r\n\n")
    assert one.process.stdout.read(100) == b"220 hi\r\n\n"
    one.process.stdin.write(b"HELO")
    assert one.hear() == b"HELO"
    one.process.stdin.write(b"\n\r\n\0\xff\n")
    assert one.hear() == b"\r\n\r\r\n\0\xff\r\n"
    one.say(b"")
    assert one.process.wait(30) == 0
    assert one.process.stdout.read() == one.process.stderr.read() == b""
    assert one.hear() == b""  # nobody is left who holds 7


def test_the_end_of_input_ends_nothing_else(talk):
    one = talk()
    one.process.stdin.write(b"QUIT\n")
    one.process.stdin.close()
    assert one.hear() == b"QUIT\r\n"
    one.say(b"221 bye")
    assert one.process.stdout.read(100) == b"221 bye"
    one.say(b"")
    assert one.process.wait(30) == 0


def test_output_that_nobody_reads_is_lost(talk):
    one = talk()
    one.process.stdout.close()
    for _ in range(3):
        one.say(b"x" * 60000)
    one.process.stdin.write(b"still\n")
    assert one.hear() == b"still\r\n"
    one.say(b"")
    assert one.process.wait(30) == 0


def test_a_peer_that_does_not_read_does_not_hold_up_its_answers(talk):
    one = talk()
    os.set_blocking(one.process.stdin.fileno(), False)
    with pytest.raises(BlockingIOError):
        while os.write(one.process.stdin.fileno(), b"x\n" * 30000):
            one.say(b"y")
            assert one.process.stdout.read(1) == b"y"
    one.say(b"last")
    one.say(b"")
    assert one.process.stdout.read(100) == b"last"
    assert one.process.wait(30) == 0


def test_nothing_at_6(run):
    assert run("pymconnect-io", input=b"lost\n") == (0, b"", b"")
