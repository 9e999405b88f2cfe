"""pytcpcat calls servers of the test's own.  Beside the original: tests/interop/test_at_programs.py"""

import os
import resource
import socket
import struct
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MB = 1 << 20


def start(host, port, **how):
    command = [sys.executable, f"{ROOT}/bin/pytcpcat", host, str(port)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}, **how)


def test_what_comes_is_shown_unchanged(run, one_call):
    said = bytes(range(256)) + b"\r\n\n\r"
    server = one_call(said, b"no line end")
    assert run("pytcpcat", server.host, str(server.port), "ignored") == (0, said + b"no line end", b"")


def test_a_server_that_closes_at_once(run, one_call):
    server = one_call()
    assert run("pytcpcat", server.host, str(server.port)) == (0, b"", b"")


def test_without_a_port_it_is_17(run):
    refused = b"tcpclient: unable to connect to 127.255.1.1 port 17: connection refused\n"
    assert run("pytcpcat", "127.255.1.1") == (111, b"", refused)


def test_each_piece_is_shown_at_once_and_a_lost_connection_told():
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, start("127.0.0.1", listener.getsockname()[1]) as program:
        sock, _ = listener.accept()
        for piece in (b"one", b"two\r\n"):
            sock.sendall(piece)
            assert os.read(program.stdout.fileno(), 100) == piece
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        assert program.communicate(timeout=60) == (
            b"",
            b"tcpcat: fatal: unable to read from network: connection reset\n",
        )
        assert program.returncode == 1


def test_50_megabytes_pass_through_little_memory(one_call):
    block = bytes(range(256)) * 4096
    server = one_call(block for _ in range(50))

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (64 * MB, 64 * MB))

    with start(server.host, server.port, preexec_fn=limit) as program:
        count = 0
        while piece := program.stdout.read(MB):
            count += 1
            assert piece == block
        assert (program.wait(60), program.stderr.read(), count) == (0, b"", 50)


def test_a_reader_who_has_gone_ends_it(one_call):
    server = one_call(b"x" * MB for _ in range(50))
    with start(server.host, server.port) as program:
        assert program.stdout.read(1) == b"x"
        program.stdout.close()
        assert program.wait(60) == 141
        assert program.stderr.read() == b""


def test_standard_descriptors_that_are_closed(one_call):
    server = one_call(b"x")
    command = 'exec "$0" "$@" <&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, f"{ROOT}/bin/pytcpcat", server.host, str(server.port)],
        stdout=subprocess.PIPE,
        env={},
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, b"x")
