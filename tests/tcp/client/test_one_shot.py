"""A question to a server of the test's own: what is sent, what comes back, and what an output can do to it."""

import os
import subprocess
import sys

import pytest

from pyqmail.tcp.client import one_shot

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def test_request_and_answer_have_their_line_ends_changed(one_call):
    server = one_call(b"a\r", b"\nb\r\r\n", b"c\nd\r", hears=b"\r\n\r\n")
    pieces = one_shot.answer(server.host, str(server.port), b"x\n\n")
    assert b"".join(pieces) == b"a\nb\r\nc\nd\r"
    assert server.heard() == b"x\r\n\r\n"


def test_what_came_before_the_connection_was_lost_is_the_answer(one_call):
    server = one_call(b"before\r\n")  # and it closes with the request unread: the kernel resets
    assert b"".join(one_shot.answer(server.host, str(server.port), b"x" * 100_000)) == b"before\n"


@pytest.mark.parametrize("host, port, line", [
    ("127.0.0.1", "nosuchport",   b"tcpclient: fatal: unable to figure out port number for nosuchport\n"),
    ("127.1",     "nosuchport",   b"tcpclient: fatal: unable to figure out port number for nosuchport\n"),
    ("127.1",     "25",           b"tcpclient: fatal: no IP address for 127.1\n"),
    ("127.0.0.1", "1",            b"tcpclient: unable to connect to 127.0.0.1 port 1: connection refused\n"),
])  # fmt: skip
def test_no_connection_is_an_empty_answer_and_a_line(capfd, host, port, line):
    assert list(one_shot.answer(host, port)) == []
    assert capfd.readouterr() == ("", line.decode())


def test_show_writes_each_piece_before_the_next_is_asked_for(capfd):
    def pieces():
        yield b"one"
        assert capfd.readouterr().out == "one"
        yield b""
        yield b"two"

    assert one_shot.show(pieces()) == 0
    assert capfd.readouterr().out == "two"


def shown_to(stdout):
    code = "import sys; from pyqmail.tcp.client.one_shot import show; sys.exit(show([b'x'] * 3))"
    environ = {}
    return subprocess.run([sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, env=environ, timeout=60)


def test_a_reader_who_has_gone_ends_it_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    done = shown_to(writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_output_that_fails_is_incomplete():
    with open("/dev/full", "wb") as full:
        done = shown_to(full)
    assert b"Incomplete: unable to write output: out of disk space" in done.stderr
    assert one_shot.Incomplete.code == 1
