"""pytcpserver's look-ups beside the original's: a name server on port 53, an ident server on port 113.

Both need loopback addresses of their own, and the right to bind such ports; without, the tests are left out.
The same look-ups from a worker, over pyresolve, are in tests/tcp/serving/test_worker_pool.py.
"""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import dns.message
import dns.rcode
import dns.rrset
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [sys.executable, f"{ROOT}/bin/pytcpserver"]
THEIRS = ["tcpserver"]
SERVER = "127.0.0.78"

pytestmark = pytest.mark.skipif(shutil.which("tcpserver") is None, reason="needs ucspi-tcp")

# client's address -> name of its PTR record; name -> addresses
POINTERS = {
    "127.0.0.71": "Good.Example.",
    "127.0.0.72": "Liar.Example.",
    "127.0.0.73": "od\\:d.Example.",
    "127.0.0.1": "Here.Example.",
}
ADDRESSES = {"good.example.": ["127.0.0.70", "127.0.0.71"], "liar.example.": ["127.0.0.70"]}


@pytest.fixture(autouse=True)
def alone():
    """The ports are given: one test at a time, whichever process it runs in."""
    with open(__file__, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def free_address(port, kind):
    """Return a bound socket on port of SERVER; skips the test if that cannot be had."""
    sock = socket.socket(socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((SERVER, port))
    except OSError as error:
        sock.close()
        pytest.skip(f"port {port}: {error}")
    return sock


@pytest.fixture
def name_server():
    sock = free_address(53, socket.SOCK_DGRAM)

    def serve():
        while True:
            data, client = sock.recvfrom(4096)
            if data == b"end":
                return
            sock.sendto(answer(data), client)

    thread = threading.Thread(target=serve)
    thread.start()
    yield SERVER
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.sendto(b"end", (SERVER, 53))
    thread.join()
    sock.close()


def answer(data):
    question = dns.message.from_wire(data)
    reply = dns.message.make_response(question)
    name = question.question[0].name.to_text()
    if name == "74.0.0.127.in-addr.arpa.":
        reply.set_rcode(dns.rcode.SERVFAIL)
    elif question.question[0].rdtype == 12:
        address = ".".join(reversed(name.split(".")[:4]))
        if address in POINTERS:
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", "PTR", POINTERS[address]))
        else:
            reply.set_rcode(dns.rcode.NXDOMAIN)
    elif name.lower() in ADDRESSES and question.question[0].rdtype == 1:
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", *ADDRESSES[name.lower()]))
    return reply.to_wire()


STALE = {"TCPREMOTEINFO": "stale", "TCPREMOTEHOST": "stale"}


def outcome(command, options, client, environ, tmp_path):
    """Return the log lines and the program's environment of one connection from client's address."""
    server = subprocess.Popen(
        [*command, "-1v", *options, "127.0.0.1", "0", "env"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **STALE, **environ},
    )
    try:
        port = int(server.stdout.readline())
        got, text = b"", b""
        with socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(client, 0)) as sock:
            own = sock.getsockname()[1]
            while piece := sock.recv(65536):
                got += piece
        while b"status: 0/40" not in text.partition(b"end ")[2]:
            text += os.read(server.stderr.fileno(), 65536)
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=20)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        server.stderr.close()
    text = re.sub(rb"(pid|ok|deny|end) \d+", rb"\1 PID", text)
    return [re.sub(rb"\b(%d|%d)\b" % (port, own), b"PORT", part) for part in (text, got)]


@pytest.mark.parametrize("client", ["127.0.0.71", "127.0.0.72", "127.0.0.73", "127.0.0.75"])
@pytest.mark.parametrize("options", [["-R"], ["-Rpl0"], ["-Rl0"], ["-RHp"], ["-Rl0", "-x", "rules.cdb"]], ids=" ".join)
def test_names_are_the_originals(name_server, tmp_path, client, options):
    source = b'=.example:allow,RULE="named"\n=good.example:deny\n:allow,RULE="none"\n'
    subprocess.run(["tcprules", "rules.cdb", "tmp"], input=source, cwd=tmp_path, check=True)
    environ = {"DNSCACHEIP": name_server, "DNSREWRITEFILE": "/dev/null"}
    theirs, ours = (outcome(command, options, client, environ, tmp_path) for command in (THEIRS, OURS))
    assert theirs == ours


IDENT = [
    b"1 , 2 : USERID : UNIX : joe\r\n",
    b"1,2:USERID:UNIX: a%b:c \xff \r\n",
    b"1,2:ERROR:NO-USER\r\n",
    b"1,2:USERID:UNIX:joe",
    b"",
]


@pytest.mark.parametrize("said", IDENT)
def test_ident_is_the_originals(tmp_path, said):
    listener = free_address(113, socket.SOCK_STREAM)
    listener.listen()
    asked = []

    def serve():
        while True:
            sock, _ = listener.accept()
            with sock:
                question = sock.recv(100)
                if not question:
                    return
                asked.append(re.sub(rb"\d+", b"N", question))
                sock.sendall(said)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        source = b'joe@127.0.0.78:deny\n:allow,X="1"\n'
        subprocess.run(["tcprules", "rules.cdb", "tmp"], input=source, cwd=tmp_path, check=True)
        options = ["-Hl0", "-t", "10", "-x", "rules.cdb"]
        theirs, ours = (outcome(command, options, SERVER, {}, tmp_path) for command in (THEIRS, OURS))
        assert theirs == ours
        assert asked == [b"N , N\r\n"] * 2
    finally:
        socket.create_connection((SERVER, 113), timeout=10).close()
        thread.join()
        listener.close()


HOSTS = ["one", "one.old", "here", "nope", "one.test", "one.test.", "x." * 150, "127.0.0.1", "127.1", "0", ""]
REWRITING = [
    {"DNSREWRITEFILE": "rules"},
    {"DNSREWRITEFILE": "/nowhere", "LOCALDOMAIN": "a test"},
    {"DNSREWRITEFILE": "."},
]


@pytest.mark.parametrize("environ", REWRITING, ids=lambda environ: "".join(environ.values()))
@pytest.mark.parametrize("host", HOSTS)
def test_the_host_to_listen_on_is_the_originals(well_known_name_server, tmp_path, host, environ):
    names = well_known_name_server
    names.zone[b"one.test", names.A] = [socket.inet_aton("127.0.0.1")]
    (tmp_path / "rules").write_text("*.old:.test\n=here:[127.0.0.1]\n=0.0.0.0:one.test\n?:+.none+.test\n")
    environ = {"PATH": os.environ["PATH"], "DNSCACHEIP": "127.0.0.79", **environ}

    def found(command):
        names.asked.clear()
        with subprocess.Popen(
            [*command, "-1", host, "0", "true"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environ,
        ) as server:
            is_open = bool(server.stdout.readline())
            if is_open:
                server.kill()
            return is_open, server.wait(timeout=20), server.stderr.read(), [name for name, _ in names.asked]

    assert found(THEIRS) == found(OURS)
