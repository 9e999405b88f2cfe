"""pymconnect, pytcpcat and the @ programs beside ucspi-tcp's, against the same servers;
and each against the other side's.

Left out: what man/pyqmail-differences.7 names (backslashes for echo, the words and codes of an output that fails).
"""

import os
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENVIRON = {"PATH": os.environ["PATH"]}

pytestmark = pytest.mark.skipif(shutil.which("who@") is None, reason="needs ucspi-tcp")


def both(name):
    return [name], [sys.executable, f"{ROOT}/bin/py{name}"]


def ended(command, *arguments, input=b""):
    done = subprocess.run([*command, *arguments], input=input, capture_output=True, env=ENVIRON, timeout=60)
    return done.returncode, done.stdout, done.stderr


PORTS = {"who@": 11, "date@": 13, "finger@": 79}
BYTES = bytes(range(256))
ANSWERS = {
    "nothing": b"",
    "lines": b"one\r\ntwo\n\r\n\r\r\nend\r",
    "every byte": BYTES + b"\r\n" + BYTES[::-1],
    "no line end": b"x",
    "a return at the end": b"x\r",
    "a page": b"HTTP/1.0 200 ok\r\nA: b\r\n\r\nbody\r\n\r\n\r\nmore\0\xff\r\n\n\nlast",
    "an empty line first": b"\r\nx\r\r\n\0\n",
    "long": b"line of a file\r\n\r\n" * 40_000,
}
CASES = [
    # program     after host and port   what the server waits for
    ("tcpcat",    [],                   b""),
    ("who@",      [],                   b""),
    ("who@",      ["more"],             b""),
    ("date@",     [],                   b""),
    ("finger@",   [],                   b"\r\n"),
    ("finger@",   [b"/W a b"],          b"\r\n"),
    ("finger@",   [b"\xe4\x01\n*"],     b"*\r\n"),
    ("http@",     [b""],                b"\r\n\r\n"),
    ("http@",     [b"a b?$c=*&\xff"],   b"\r\n\r\n"),
    ("mconnect",  [],                   b"QUIT\r\r\nx"),
]  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("program, arguments, hears", CASES)
def test_question_and_answer(one_call, program, arguments, hears, answer):
    seen = []
    for command in both(program):
        server = one_call(answer[:7], answer[7:], hears=hears, port=PORTS.get(program, 0))
        port = [] if program in PORTS else [str(server.port)]
        words = [server.host, *port, *arguments] if program != "http@" else [server.host, *arguments, *port]
        result = ended(command, *words, input=b"QUIT\r\nx" if program == "mconnect" else b"")
        told = server.heard().replace(b"%s:%d" % (server.host.encode(), server.port), b"HOST:PORT")
        seen.append((result, told))
    assert seen[0] == seen[1]
    assert seen[0][0][0] == 0


WRONG = [
    ("tcpcat", []), ("tcpcat", ["127.255.1.1"]), ("tcpcat", ["127.255.1.1", "1"]), ("tcpcat", ["", "65537"]),
    ("tcpcat", ["127.255.1.1", "nosuchport"]), ("tcpcat", ["127.1", "1"]), ("tcpcat", ["127.255.1.1", "-1"]),
    ("tcpcat", ["127.255.1.1", ""]), ("tcpcat", ["127.255.1.1", "smtp"]), ("tcpcat", ["--", "1"]),
    ("tcpcat", ["-v", "1"]), ("tcpcat", ["a b", "1"]), ("tcpcat", [b"\xff\n", "1"]),
    ("tcpcat", ["255.255.255.255", "1"]),
    ("mconnect", ["127.255.1.1"]), ("mconnect", ["127.255.1.1", "nosuchport"]), ("mconnect", ["127.1"]),
    ("who@", ["127.255.1.1"]), ("who@", ["127.1"]), ("who@", ["-"]),
    ("date@", ["127.255.1.1"]), ("date@", ["1.2.3.4.5"]),
    ("finger@", ["127.255.1.1", "user"]), ("finger@", ["127.1", "user"]),
    ("http@", ["127.255.1.1"]), ("http@", ["127.255.1.1", "path", "1"]), ("http@", ["127.255.1.1", "", "nosuchport"]),
]  # fmt: skip


@pytest.mark.parametrize("program, arguments", WRONG)
def test_no_connection(program, arguments, monkeypatch):
    monkeypatch.setitem(ENVIRON, "DNSCACHEIP", "127.0.0.78")  # a name server that is not there
    theirs, ours = (ended(command, *arguments) for command in both(program))
    assert theirs == ours


@pytest.fixture
def serve():
    """serve(command ...) -> the port of a server that was given -1 and prints it."""
    running = []

    def start(*command, env=None):
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": {**ENVIRON, **(env or {})}}
        running.append(subprocess.Popen(command, **how))
        port = running[-1].stdout.readline().decode().strip()
        assert port, running[-1].stderr.read()
        return port

    yield start
    for process in running:
        process.terminate()
        process.communicate(timeout=30)


DIALOGUE = b"""HELO client
MAIL FROM:<a@there.example>
RCPT TO:<b@here.example>
DATA
Subject: x

by hand
.
QUIT
"""


@pytest.mark.parametrize("which", [0, 1], ids=["theirs", "ours"])
def test_mail_by_hand_to_our_server(serve, home, start_pyqueued, which):
    start_pyqueued()
    server = [sys.executable, f"{ROOT}/bin/pytcpserver", "-1HRl0", "127.0.0.1", "0", f"{ROOT}/bin/pysmtpd"]
    port = serve(*server, env={"PYQMAIL_HOME": home.path})
    code, out, err = ended(both("mconnect")[which], "127.0.0.1", port, input=DIALOGUE)
    codes = [line[:4] for line in out.splitlines()]
    assert (code, err) == (0, b"")
    assert codes == [b"220 ", b"250 ", b"250 ", b"250 ", b"354 ", b"250 ", b"221 "]
    assert len(os.listdir(f"{home.queue}/todo")) == 1


@pytest.mark.parametrize("which", [0, 1], ids=["theirs", "ours"])
@pytest.mark.parametrize(
    "server", [["tcpserver"], [sys.executable, f"{ROOT}/bin/pytcpserver"]], ids=["tcpserver", "pytcpserver"]
)
def test_a_program_under_either_server(serve, server, which):
    script = "printf '220 hi\\r\\n'; IFS= read -r line; printf 'you said %s\\n\\0' \"$line\""
    port = serve(*server, "-1HRl0", "127.0.0.1", "0", "sh", "-c", script)
    code, out, err = ended(both("mconnect")[which], "127.0.0.1", port, input=b"hello\n")
    assert (code, out, err) == (0, b"220 hi\r\nyou said hello\r\n\0", b"")
    assert ended(both("tcpcat")[which], "127.0.0.1", serve(*server, "-1HRl0", "127.0.0.1", "0", "date"))[0] == 0


@pytest.mark.parametrize("which", [0, 1], ids=["theirs", "ours"])
@pytest.mark.parametrize("client", ["tcpclient", "pytcpclient"])
def test_talking_under_either_client(one_call, client, which):
    server = one_call(b"221 bye\r\n", hears=b"QUIT\r\n")
    path = client if client == "tcpclient" else f"{ROOT}/bin/pytcpclient"
    start = [path] if client == "tcpclient" else [sys.executable, path]
    command = [*start, "-RHl0", "--", server.host, str(server.port), *both("mconnect-io")[which]]
    assert ended(command, input=b"QUIT\n") == (0, b"221 bye\r\n", b"")
