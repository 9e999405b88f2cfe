"""pymconnect calls servers of the test's own, from pipes and from a terminal.

Beside the original: tests/interop/test_at_programs.py
"""

import os
import pty
import signal
import socket
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(30)
        yield sock


def start(listener, **how):
    command = [sys.executable, f"{ROOT}/bin/pymconnect", "127.0.0.1", str(listener.getsockname()[1])]
    process = subprocess.Popen(command, env={}, bufsize=0, **how)
    sock, _ = listener.accept()
    return process, sock


def read(fd, count):
    data = b""
    while len(data) < count:
        data += os.read(fd, count - len(data))
    return data


def test_a_conversation_over_pipes(run, one_call):
    server = one_call(b"220 hi\r\n", b"221 \0\xff\n\r", hears=b"QUIT\r\n")
    result = run("pymconnect", server.host, str(server.port), input=b"HELO x\r\nQUIT\n")
    assert result == (0, b"220 hi\r\n221 \0\xff\n\r", b"")
    assert server.heard() == b"HELO x\r\r\nQUIT\r\n"


def test_a_server_that_closes_at_once(run, one_call):
    server = one_call()
    assert run("pymconnect", server.host, str(server.port), input=b"QUIT\n" * 100_000) == (0, b"", b"")


def test_without_a_port_it_is_25_and_no_connection_is_111(run):
    refused = b"tcpclient: unable to connect to 127.255.1.1 port 25: connection refused\n"
    assert run("pymconnect", "127.255.1.1") == (111, b"", refused)
    no_port = b"tcpclient: fatal: unable to figure out port number for nosuchport\n"
    assert run("pymconnect", "127.255.1.1", "nosuchport") == (111, b"", no_port)


def on_a_terminal(listener):
    """Return the process, the connection and our end of a terminal that the process has to itself."""
    ours, terminal = pty.openpty()
    how = {"stdin": terminal, "stdout": terminal, "stderr": terminal, "start_new_session": True}

    def control():  # after setsid: ^C goes to whoever has the terminal
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process, sock = start(listener, preexec_fn=control, **how)
    os.close(terminal)
    return process, sock, ours


def test_a_conversation_on_a_terminal(listener):
    process, sock, terminal = on_a_terminal(listener)
    with sock:
        sock.sendall(b"220 hi\r\n")
        assert read(terminal, 9).replace(b"\r\r", b"\r") == b"220 hi\r\n"
        os.write(terminal, b"QUIT\n")
        assert sock.recv(100) == b"QUIT\r\n"
        assert read(terminal, 6) == b"QUIT\r\n"  # the terminal's echo
        os.write(terminal, b"\x04")  # the end of input
        sock.sendall(b"221 bye")
        assert read(terminal, 7) == b"221 bye"
    assert process.wait(30) == 0
    os.close(terminal)


def test_control_c_ends_it_without_a_word(listener):
    process, sock, terminal = on_a_terminal(listener)
    with sock:
        os.write(terminal, b"x\n")
        assert sock.recv(100) == b"x\r\n"
        assert read(terminal, 3) == b"x\r\n"
        os.write(terminal, b"\x03")
        assert process.wait(30) == -signal.SIGINT
        assert sock.recv(100) == b""  # neither of the two processes is left
    assert read(terminal, 2) == b"^C"
    with pytest.raises(OSError):
        os.read(terminal, 100)  # nothing more, and nobody has it
    os.close(terminal)


def test_50_megabytes_both_ways(listener):
    block = bytes(range(256)) * 4096
    lines = block.replace(b"\n", b"\r\n")
    process, sock = start(listener, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with sock, process:
        sock.settimeout(30)
        for _ in range(50):
            process.stdin.write(block)
            heard = b""
            while len(heard) < len(lines):
                heard += sock.recv(len(lines) - len(heard))
            assert heard == lines
        for at in range(0, 50 << 20, 1 << 16):
            sock.sendall(block[: 1 << 16])
            assert read(process.stdout.fileno(), 1 << 16) == block[: 1 << 16], at
        sock.shutdown(socket.SHUT_RDWR)
        assert process.wait(30) == 0
