"""Real programs at the other end of a wire, and ends that only a forked part of one has."""

import os
import subprocess
import sys

import pytest

from tests.interop.wires.spoken import ROOT, Part


@pytest.fixture
def part():
    """part(name, *options, home=None, env={}) -> Part; all are gone after the test."""
    started = []

    def start(*arguments, **more):
        started.append(Part(*arguments, **more))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def wire_end():
    """wire_end(socket, descriptor, *words, env={}) -> the process that has that socket as a descriptor."""
    started = []

    def start(sock, descriptor, *words, env=None):
        # not by pass_fds: the descriptor must have this very number
        code = (
            "import os, sys; has, wants = map(int, sys.argv[1:3]); os.dup2(has, wants); has == wants or os.close(has); "
            "os.execv(sys.executable, sys.argv[3:])"
        )
        command = [sys.executable, f"{ROOT}/tests/interop/wires/ends.py", *words]
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code, str(sock.fileno()), str(descriptor), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[sock.fileno()],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": ROOT, **(env or {})},
            )
        )
        sock.close()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
