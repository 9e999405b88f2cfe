"""pysmtpsink as a program: what its options do to a client that speaks byte by byte."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EHLO = b"250-pysmtpsink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 DSN\r\n"
MESSAGE = [
    b"HELO x\r\n",
    b"MAIL FROM:<s@x>\r\n",
    b"RCPT TO:<r@y>\r\n",
    b"DATA\r\n",
    b"Subject: hi\r\n\r\nhello\r\n.\r\n",
]


@pytest.fixture
def start():
    """start(*options) -> (process, (address, port)) of a sink."""
    started = []

    def begin(*options):
        process = subprocess.Popen(
            [sys.executable, f"{ROOT}/bin/pysmtpsink", "--announce", *options, "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        host, _, port = process.stdout.readline().strip().decode().partition(":")
        return process, (host, int(port))

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def talk(address, *said):
    """Say everything at once and nothing more; return all that is answered."""
    with socket.create_connection(address, timeout=30) as sock:
        sock.sendall(b"".join(said))
        heard = b""
        try:
            while data := sock.recv(65536):
                heard += data
        except ConnectionResetError:
            heard += b"<reset>"
        return heard


GREETING = b"220 pysmtpsink ESMTP\r\n"
BYE = b"221 2.0.0 Bye\r\n"


@pytest.mark.parametrize("options, said, heard", [
    ([], b"EHLO x\r\nQUIT\r\n", GREETING + EHLO + BYE),
    (["-h", "mx.example"], b"HELO x\r\nQUIT\r\n", b"220 mx.example ESMTP\r\n250 mx.example\r\n" + BYE),
    (["-8"], b"EHLO x\r\nQUIT\r\n", GREETING + EHLO.replace(b"250-8BITMIME\r\n", b"") + BYE),
    (["-E"], b"EHLO x\r\nQUIT\r\n", GREETING + EHLO.replace(b"250-ENHANCEDSTATUSCODES\r\n", b"") + BYE),
    (["-N"], b"EHLO x\r\nQUIT\r\n",
     GREETING + EHLO.replace(b"-ENHANCED", b" ENHANCED").replace(b"250 DSN\r\n", b"") + BYE),
    (["-p"], b"EHLO x\r\nQUIT\r\n", GREETING + EHLO.replace(b"250-PIPELINING\r\n", b"") + BYE),
    (["--limits", "MAILMAX=5"], b"EHLO x\r\nQUIT\r\n",
     GREETING + EHLO.replace(b" DSN\r\n", b"-DSN\r\n250 LIMITS MAILMAX=5\r\n") + BYE),
    (["-e"], b"EHLO x\r\nHELO x\r\nQUIT\r\n",
     GREETING + b"500 5.5.1 Error: unknown command\r\n250 pysmtpsink\r\n" + BYE),
    (["-P"], b"EHLO x\r\nQUIT\r\n",
     b"220 ********************************\r\n500 5.5.1 Error: unknown command\r\n" + BYE),
    (["-L"], b"HELO x\r\nLHLO x\r\nQUIT\r\n", GREETING + b"500 5.5.1 Error: unknown command\r\n" + EHLO + BYE),
    (["-r", "noop,mail"], b"NOOP\r\nMAIL FROM:<>\r\nQUIT\r\n",
     GREETING + b"450 4.3.0 Error: command failed\r\n" * 2 + BYE),
    (["-f", "NOOP", "-B", "554 no"], b"NOOP\r\nQUIT\r\n", GREETING + b"554 no\r\n" + BYE),
    (["-r", "NOOP", "-b", "451 later"], b"NOOP\r\nQUIT\r\n", GREETING + b"451 later\r\n" + BYE),
    (["-q", "MAIL"], b"MAIL FROM:<>\r\n", GREETING),
    (["-q", "CONNECT"], b"", b""),
    (["-Q", "RSET"], b"RSET\r\n", GREETING + b"421 4.0.0 closing\r\n"),
    (["-W", "NOOP:0.01:50", "-w", "0.01"], b"NOOP\r\nDATA\r\nQUIT\r\n",
     GREETING + b"250 2.0.0 Ok\r\n503 5.5.1 Error: need RCPT command\r\n" + BYE),
    (["--model", "refusing reply='554 go away'"], b"", b"554 go away\r\n"),
    (["-T", "4096", "-t", "60", "-4"], b"VRFY x\r\nHELP\r\nQUIT\r\n",
     GREETING + b"252 2.0.0 Ok\r\n500 5.5.1 Error: unknown command\r\n" + BYE),
])  # fmt: skip
def test_what_it_says(start, options, said, heard):
    _, address = start(*options)
    assert talk(address, said) == heard


def test_a_message_is_refused_before_it_is_read(start):
    _, address = start("-A", "0")
    heard = talk(address, *MESSAGE[:4])
    assert heard.endswith(b"354 End data with <CR><LF>.<CR><LF>\r\n550 5.0.0 Error: command failed\r\n")


def test_it_reads_late(start):
    _, address = start("-H", "0.05")
    assert talk(address, *MESSAGE, b"QUIT\r\n").endswith(b"250 2.0.0 Ok\r\n" + BYE)


@pytest.mark.parametrize("option", [["-M", "2"], ["-n", "2"]])
def test_it_ends_by_itself_and_reports(start, option):
    process, address = start(*option)
    for _ in range(2):
        talk(address, *MESSAGE, b"QUIT\r\n")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert re.match(rb"2 messages, 2 recipients, \d+ bytes, 2 sessions, 1 sessions most in ", out)


def test_it_ends_after_some_seconds(start):
    process, _ = start("--seconds", "0.1", "-c")
    assert process.communicate(timeout=60)[0].startswith(b"0 messages")


def test_several_processes_share_the_connections(start):
    process, address = start("--processes", "3", "--json")
    for _ in range(20):
        talk(address, *MESSAGE, b"QUIT\r\n")
    process.send_signal(signal.SIGINT)
    assert json.loads(process.communicate()[0])["recipients"] == 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_processes_end_with_it_however_early_it_is_told(start, number):
    for _ in range(5):
        process, address = start("--processes", "4")
        process.send_signal(number)
        out = process.stdout.read()  # the end: nobody holds it any more
        assert process.wait() == -number or number == signal.SIGTERM and out.startswith(b"0 messages")
        until(lambda: is_refused(address))


def is_refused(address):
    with socket.socket() as sock:
        return sock.connect_ex(address) == errno.ECONNREFUSED


def test_others_wait_while_there_are_as_many_as_may_be(start):
    _, address = start("-m", "1")
    with (
        socket.create_connection(address, timeout=30) as first,
        socket.create_connection(address, timeout=30) as second,
    ):
        assert first.recv(100) == GREETING
        second.setblocking(False)
        with pytest.raises(BlockingIOError):
            second.recv(100)
        first.close()
        second.settimeout(30)
        assert second.recv(100) == GREETING


def test_a_client_that_says_nothing_is_closed_and_no_other(start):
    _, address = start("-t", "0.1")
    with socket.create_connection(address, timeout=30) as idle:
        assert talk(address, *MESSAGE, b"QUIT\r\n").endswith(BYE)
        assert idle.makefile("rb").read() == GREETING


def test_messages_are_kept_as_they_came(start, tmp_path):
    _, address = start("-D", f"{tmp_path}/all/mail", "-S", "From me\\n")
    for _ in range(2):
        talk(address, *MESSAGE, b"QUIT\r\n")
    one = (
        rb"From me\nX-Client-Addr: 127\.0\.0\.1\nX-Client-Proto: SMTP\nX-Helo-Args: x\nX-Mail-Args: <s@x>\n"
        rb"X-Rcpt-Args: <r@y>\nReceived: from x \(\[127\.0\.0\.1\]\)\n\tby pysmtpsink \(pysmtpsink\) with SMTP "
        rb"id [0-9a-f]{8};\n\t[^\n]+\nSubject: hi\n\nhello\n\n"
    )
    assert re.fullmatch(one * 2, (tmp_path / "all/mail").read_bytes())


def test_the_dots_that_smtp_doubles_are_single_in_a_file(start, tmp_path):
    _, address = start("-D", f"{tmp_path}/mail")
    talk(address, *MESSAGE[:-1], b"..a\r\n\r\n...b\r\nc..\r\n.\r\n", b"QUIT\r\n")
    assert (tmp_path / "mail").read_bytes().endswith(b"\n.a\n\n..b\nc..\n\n")


def test_a_message_that_cannot_be_kept_is_said_and_no_session_ends(start, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    process, address = start("-d", f"{tmp_path}/file/x")
    assert talk(address, *MESSAGE, b"QUIT\r\n").endswith(b"250 2.0.0 Ok\r\n" + BYE)
    assert process.stderr.readline() == b"pysmtpsink: warning: unable to write a message: file already exists\n"


def test_what_is_said_is_shown(start):
    process, address = start("-v")
    talk(address, b"QUIT\r\n")
    assert [process.stderr.readline() for _ in range(3)] == [
        b"> 220 pysmtpsink ESMTP\n",
        b"< QUIT\n",
        b"> 221 2.0.0 Bye\n",
    ]


@pytest.mark.parametrize("words, complaint", [
    (["-f", "X", ":0"], "no command: X"), (["-b", "550 x", ":0"], "no reply 4xx TEXT: 550 x"),
    (["--model", "x", ":0"], "no model: x; there are"), (["--model", "rate x=1", ":0"], "rate has no option x=1"),
    (["-W", "NOOP:x", ":0"], "not a number: x"),
    (["-M", "1", "--processes", "2", ":0"], "-M and -n count in one process: leave out --processes"),
    (["127.0.0.1:0", "2147483648"], "above 2147483647: 2147483648"), ([":65536"], "above 65535: 65536"),
    (["127.0.0.1:0", "x"], "not a number: x"),
])  # fmt: skip
def test_a_wrong_command_line(run, words, complaint):
    code, out, err = run("pysmtpsink", *words)
    assert (code, out) == (100, b"")
    assert err.decode().startswith(f"pysmtpsink: {complaint}")


def test_an_address_that_is_taken(run, start):
    _, (host, port) = start()
    assert run("pysmtpsink", f"{host}:{port}") == (
        111,
        b"",
        f"pysmtpsink: fatal: unable to listen at {host}:{port}: address already used\n".encode(),
    )
