"""pyqmqpsink as a program."""

import socket
import subprocess
import sys

import pytest

from tests.programs.test_pysmtpsink import ROOT


def message(*parts):
    inner = b"".join(b"%d:%b," % (len(part), part) for part in parts)
    return b"%d:%b" % (len(inner), inner)


@pytest.mark.parametrize("said, heard", [
    (message(b"x\n\ny", b"", b"a@b") + b",", b"3:Kok,"),
    (message(b"x\n\ny", b"", b"a@b") + b"x", b"13:Dformat error,"),
    (b"x", b""),
    (b"3:abcd", b"13:Dformat error,"),
])  # fmt: skip
def test_a_message_is_taken_and_nonsense_is_not(said, heard):
    process = subprocess.Popen(
        [
            sys.executable,
            f"{ROOT}/bin/pyqmqpsink",
            "--announce",
            "--json",
            "--processes",
            "2",
            "--seconds",
            "900",
            "127.0.0.1:0",
        ],
        stdout=subprocess.PIPE,
    )
    host, _, port = process.stdout.readline().strip().decode().partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        sock.sendall(said)
        sock.shutdown(socket.SHUT_WR)
        assert sock.makefile("rb").read() == heard
    process.terminate()
    process.communicate()
    assert process.returncode == 0
