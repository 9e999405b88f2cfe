"""pyhttp@ asks servers of the test's own.  Beside the original: tests/interop/test_at_programs.py"""

import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.mark.parametrize("path", [b"", b"a/b?c=d", b"with blank", b"\xff\\n", b"/"])
def test_the_request_and_the_body(run, one_call, path):
    server = one_call(b"HTTP/1.0 200 ok\r\nA: b\r\n\r", b"\nx\0\xff\r\n\r\n", b"\r\ny", hears=b"\r\n\r\n")
    port = str(server.port)
    assert run("pyhttp@", server.host, path, port) == (0, b"x\0\xff\ny\n", b"")
    host = server.host.encode()
    assert server.heard() == b"GET /%s HTTP/1.0\r\nHost: %s:%s\r\n\r\n" % (path, host, port.encode())


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 200 ok\r\nno body", b"\r\n", b"a\r\n\r\n\r\n\r\n"])
def test_answers_without_a_body(run, one_call, answer):
    server = one_call(answer, hears=b"\r\n\r\n")
    assert run("pyhttp@", server.host, "", str(server.port)) == (0, b"", b"")


def test_no_connection_is_told_but_no_failure(run):
    refused = b"tcpclient: unable to connect to 127.255.1.1 port 80: connection refused\n"
    assert run("pyhttp@", "127.255.1.1") == (0, b"", refused)
    no_port = b"tcpclient: fatal: unable to figure out port number for nosuchport\n"
    assert run("pyhttp@", "127.255.1.1", "x", "nosuchport") == (0, b"", no_port)


def test_a_body_that_cannot_be_written(one_call):
    server = one_call(b"\n\nx", hears=b"\r\n\r\n")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, f"{ROOT}/bin/pyhttp@", server.host, "", str(server.port)],
            stdout=full,
            stderr=subprocess.PIPE,
            env={},
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (1, b"http@: fatal: unable to write output: out of disk space\n")
