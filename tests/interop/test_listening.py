"""pytcpserver on IPv4, IPv6, UNIX and inherited sockets, in each serving mode.

The modes: sessions in workers (the session of tests/tcp/session_server.py), a fork of ours (pyenvdir), a foreign
program.
"""

import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading

import pytest

from pyqmail.system.cdb import write_cdb
from pyqmail.tcp.rules.source import compile_lines
from tests.waiting import read_until, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [sys.executable, f"{ROOT}/bin/pytcpserver"]
SESSIONS = [sys.executable, f"{ROOT}/tests/tcp/session_server.py"]
MODES = ["worker_pool", "fork_each", "spawn_each"]
VARIABLES = [
    *(protocol + name for protocol in ("TCP", "TCP6") for name in (
        "LOCALIP", "LOCALPORT", "LOCALHOST", "REMOTEIP", "REMOTEPORT", "REMOTEHOST", "REMOTEINFO", "INTERFACE")),
    *("UNIX" + name for name in ("LOCALPATH", "LOCALUID", "LOCALGID", "REMOTEEUID", "REMOTEEGID", "REMOTEPID")),
    "PROTO", "RULE", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
]  # fmt: skip
INHERITED = {"TCPREMOTEHOST": "stale", "TCPREMOTEINFO": "stale", "TCPLOCALIP": "stale"}


def environment(**more):
    return {"PATH": f"{ROOT}/bin:{os.environ['PATH']}", "HOME": "/", **more}


class Running:
    """A server; text: what it has written to descriptor 2 so far.  port: what -1 says, None if nothing."""

    def __init__(self, command, cwd, environ, **more):
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd, env=environ, **more
        )
        self.text = b""
        said = self.process.stdout.readline()
        assert said, self.process.stderr.read()
        self.port = int(said) if said.strip() else None

    def wait_for(self, mark, count=1):
        fd = self.process.stderr.fileno()
        self.text = read_until(fd, lambda text: text.count(mark) >= count, self.text)

    def lines(self):
        """Return the lines; processes' and sessions' numbers as PID."""
        return re.sub(rb"(pid|ok|deny|end) \d+", rb"\1 PID", self.text).decode()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(timeout=20)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@pytest.fixture
def start(tmp_path):
    """start(mode, host, port, *options, program=None, environ=None, before=(), **of_popen) -> Running."""
    running = []
    (tmp_path / "folder").mkdir()
    programs = {"worker_pool": ["session"], "fork_each": ["pyenvdir", "folder", "env"], "spawn_each": ["env"]}

    def run(mode, host, port, *options, program=None, environ=None, before=(), **more):
        command = SESSIONS if mode == "worker_pool" else OURS
        words = [*before, *command, "-1", *options, host, port, *(program or programs[mode])]
        running.append(Running(words, tmp_path, environment(**(environ or {})), **more))
        return running[-1]

    yield run
    for server in running:
        server.stop()


def rest(sock):
    got = b""
    while piece := sock.recv(65536):
        got += piece
    return got


def connect(address):
    """address: (host, port) or a path."""
    if isinstance(address, tuple):
        return socket.create_connection(address, 20)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(address)
    return sock


def variables(mode, sock):
    """Return what the program says of VARIABLES, name -> value."""
    if mode != "worker_pool":
        lines = (line.partition("=") for line in rest(sock).decode().splitlines())
        return {name: value for name, _, value in lines if name in VARIABLES}
    with sock.makefile("rb") as answers:
        answers.readline()
        sock.sendall(b"".join(b"env %b\n" % name.encode() for name in VARIABLES))
        found = {name: answers.readline().decode().strip() for name in VARIABLES}
        sock.sendall(b"close\n")
        assert answers.read() == b""
    return {name: value for name, value in found.items() if value != "unset"}


def tcp_variables(protocol, ip, port, client_port, more=()):
    """Return what is to be set for a client that comes from ip to ip."""
    own = {"LOCALIP": ip, "LOCALPORT": str(port), "LOCALHOST": "0", "REMOTEIP": ip, "REMOTEPORT": str(client_port)}
    return {
        "PROTO": protocol,
        **{p + name: value for p in {"TCP", protocol} for name, value in own.items()},
        **dict(more),
    }


TCP_PLACES = [
    # HOST             client's way    protocol
    ("127.0.0.1",      "127.0.0.1",    "TCP"),
    ("::1",            "::1",          "TCP6"),
    ("::",             "::1",          "TCP6"),
    (":0",             "::1",          "TCP6"),
    (":0",             "127.0.0.1",    "TCP"),
    ("127.0.0.1,::1",  "::1",          "TCP6"),
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("host, ip, protocol", TCP_PLACES)
def test_tcp(start, mode, host, ip, protocol):
    server = start(mode, host, "0", "-vHRl0", environ=INHERITED)
    with connect((ip, server.port)) as sock:
        port = sock.getsockname()[1]
        assert variables(mode, sock) == tcp_variables(protocol, ip, server.port, port)
    server.wait_for(b"status: 0/40\n", 2)
    assert server.lines() == (
        "tcpserver: status: 0/40\ntcpserver: status: 1/40\n"
        f"tcpserver: pid PID from {ip}\ntcpserver: ok PID 0:{ip}:{server.port} :{ip}::{port}\n"
        "tcpserver: end PID status 0\ntcpserver: status: 0/40\n"
    )
    assert server.stop() == 0


@pytest.mark.parametrize("error", ["EAFNOSUPPORT", "EPFNOSUPPORT"])
def test_both_families_are_ipv4_alone_where_the_kernel_has_no_ipv6(faults, error):
    for host, is_served in ((":0", True), ("::", False)):
        process = subprocess.Popen(
            [*faults.prefix(f"socket:error={error}:when=1"), *OURS, "-1RHl0", host, "0", "echo", "hello"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ},
        )
        port = process.stdout.readline()
        if is_served:
            with socket.create_connection(("127.0.0.1", int(port)), timeout=20) as sock:
                assert sock.makefile("rb").read() == b"hello\n"
            process.terminate()
        said = process.communicate(timeout=20)[1]
        assert said.startswith(b"" if is_served else b"tcpserver: fatal: unable to create socket: ")
        assert process.returncode == (0 if is_served else 111)


@pytest.mark.parametrize("mode", MODES)
def test_unix(start, tmp_path, mode):
    server = start(mode, "./s", "-", "-vHRl0", environ=INHERITED)
    assert server.port is None
    path = f"{tmp_path}/s"
    with connect(path) as sock:
        assert variables(mode, sock) == {
            "PROTO": "UNIX",
            "UNIXLOCALPATH": "./s",
            "UNIXLOCALUID": str(os.getuid()),
            "UNIXLOCALGID": str(os.getgid()),
            "UNIXREMOTEEUID": str(os.getuid()),
            "UNIXREMOTEEGID": str(os.getgid()),
            "UNIXREMOTEPID": str(os.getpid()),
        }
    server.wait_for(b"status: 0/40\n", 2)
    assert server.lines() == (
        "tcpserver: status: 0/40\ntcpserver: status: 1/40\n"
        f"tcpserver: pid PID from unix\ntcpserver: ok PID :./s: :unix:{os.getuid()}:\n"
        "tcpserver: end PID status 0\ntcpserver: status: 0/40\n"
    )
    assert server.stop() == 0
    assert not os.path.exists(path)


RULES = b"""::1:allow,RULE="six",TCPREMOTEIP="changed"
127.0.0.1:allow,RULE="four"
%d@unix:allow,RULE="uid"
unix:allow,RULE="unix"
fe80::/10:allow,RULE="link"
:deny
""" % os.getuid()
RULE_CASES = [
    # rules                             six      four     unix
    (RULES,                             "six",   "four",  "uid"),
    (RULES.partition(b"\n%d@" % os.getuid())[0] + b'\nunix:allow,RULE="unix"\n:deny\n', "six", "four", "unix"),
    (b'::/8:allow,RULE="net"\n127.:deny\nunix:deny\n', "net", None, None),
    (b':allow,RULE="all"\n::1:deny\n',  None,    "all",   "all"),
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("source, six, four, unix", RULE_CASES)
def test_rules(start, tmp_path, mode, source, six, four, unix):
    write_cdb(tmp_path / "rules.cdb", tmp_path / "rules.tmp", compile_lines(source))
    server = start(mode, ":0,./s", "0", "-vHRl0", "-xrules.cdb")
    for address, wanted in ((("::1", server.port), six), (("127.0.0.1", server.port), four), (f"{tmp_path}/s", unix)):
        with connect(address) as sock:
            if wanted is None:
                assert rest(sock) == b""
            else:
                found = variables(mode, sock)
                assert found["RULE"] == wanted
                assert wanted != "six" or found["TCPREMOTEIP"] == "changed" and found["TCP6REMOTEIP"] == "::1"
    server.wait_for(b"status: 0/40\n", 2)
    server.wait_for(b"tcpserver: end ", 3)
    assert server.text.count(b"tcpserver: deny ") == [six, four, unix].count(None)


@pytest.mark.parametrize("mode", MODES)
def test_a_proxy_names_the_client(start, tmp_path, mode):
    source = b'192.0.2.:allow,RULE="client"\n127.:deny\nunix:deny\n2001:db8::/32:allow,RULE="client6"\n:deny\n'
    write_cdb(tmp_path / "rules.cdb", tmp_path / "rules.tmp", compile_lines(source))
    server = start(mode, "127.0.0.1,./s", "0", "-vHRl0", "-xrules.cdb", "--proxy", "127.0.0.0/8,unix")
    line = b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 25\r\n"
    six = b"\r\n\r\n\0\r\nQUIT\n\x21\x21" + struct.pack(
        ">H16s16sHH", 36, *(socket.inet_pton(socket.AF_INET6, ip) for ip in ("2001:db8::7", "2001:db8::1")), 1, 2
    )
    for address in (("127.0.0.1", server.port), f"{tmp_path}/s"):
        with connect(address) as sock:
            sock.sendall(line)
            assert variables(mode, sock) == {
                "PROTO": "TCP", "TCPLOCALIP": "198.51.100.1", "TCPLOCALPORT": "25", "TCPLOCALHOST": "0",
                "TCPREMOTEIP": "192.0.2.7", "TCPREMOTEPORT": "49152", "RULE": "client",
            }  # fmt: skip
        with connect(address) as sock:
            sock.sendall(six)
            found = variables(mode, sock)
            assert (found["PROTO"], found["TCP6REMOTEIP"], found["RULE"]) == ("TCP6", "2001:db8::7", "client6")
        with connect(address) as sock:
            sock.sendall(b"PROXY UNKNOWN\r\n")
            assert rest(sock) == b""  # the proxy itself is denied
        with connect(address) as sock:
            sock.sendall(b"EHLO x\r\n")
            with pytest.raises(ConnectionResetError):
                rest(sock)
    server.wait_for(b"tcpserver: end ", 8)
    assert server.lines().count("pid PID from 192.0.2.7\ntcpserver: ok PID 0:198.51.100.1:25 :192.0.2.7::49152\n") == 2
    assert server.text.count(b"deny") == 2
    drop = "tcpserver: warning: dropping connection, unable to read PROXY header: protocol error\n"
    assert server.lines().count(drop + "tcpserver: end PID status 28416\n") == 2


@pytest.mark.parametrize("mode", MODES)
def test_what_follows_the_header_is_the_programs(start, mode):
    program = {"fork_each": ["pyenvdir", "folder", "cat"], "spawn_each": ["cat"]}.get(mode)
    server = start(mode, "127.0.0.1", "0", "-HRl0", "--proxy", "127.0.0.1", program=program)
    with connect(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 25\r\nPROXY x\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert rest(sock).endswith(b" 192.0.2.7\nPROXY x\r\n" if mode == "worker_pool" else b"PROXY x\r\n")


@pytest.mark.parametrize("mode", MODES)
def test_who_drains_waits_for_headers_too_and_gives_up_its_place(start, tmp_path, mode):
    server = start(mode, "./s,127.0.0.1", "0", "-vHRl0", "--drain", "20", "--proxy", "127.0.0.1,unix")
    place = f"{tmp_path}/s"
    with connect(place) as first, connect(("127.0.0.1", server.port)) as second:
        server.wait_for(b"status: 2/40\n")
        server.process.terminate()
        until(lambda: not os.path.exists(place))
        start(mode, "./s", "-", "-HRl0")
        for sock in (first, second):
            sock.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 25\r\n")
            assert variables(mode, sock)["TCPREMOTEIP"] == "192.0.2.7"
    assert server.process.wait(timeout=20) == 0
    with connect(place) as sock:
        assert variables(mode, sock)["PROTO"] == "UNIX"  # the next one's socket is still there


def test_proxies_that_say_nothing_hold_up_nobody_and_count(start):
    server = start(
        "spawn_each", "127.0.0.1,::1", "0", "-vHRl0", "-c31", "--proxy", "127.0.0.1", program=["echo", "here"]
    )
    silent = [connect(("127.0.0.1", server.port)) for _ in range(30)]
    server.wait_for(b"status: 30/31\n")
    with connect(("::1", server.port)) as sock:
        assert rest(sock) == b"here\n"
    server.wait_for(b"unable to read PROXY header: timed out\n", 30)
    for sock in silent:
        assert rest(sock) == b""
        sock.close()
    server.wait_for(b"status: 0/31\n", 2)


def test_limits_count_the_clients_of_a_proxy(start):
    server = start("spawn_each", "127.0.0.1", "0", "-vHRl0", "--per-address=1", "--proxy", "127.0.0.1", program=["cat"])
    place = ("127.0.0.1", server.port)
    with connect(place) as first, connect(place) as second, connect(place) as third:
        first.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 25\r\nhere\n")
        assert first.recv(100) == b"here\n"
        second.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 2 25\r\n")
        assert rest(second) == b""
        third.sendall(b"PROXY TCP4 192.0.2.8 198.51.100.1 3 25\r\nhere\n")
        assert third.recv(100) == b"here\n"
    server.wait_for(b"MAXCONNIP")
    assert "deny PID 0:198.51.100.1:25 :192.0.2.7::2 MAXCONNIP" in server.lines()


def test_the_originals_client_talks_to_us(start):
    if shutil.which("tcpclient") is None:
        pytest.skip("needs ucspi-tcp")
    for host in ("127.0.0.1", ":0", "::1,0"):
        server = start("spawn_each", host, "0", "-HRl0", program=["cat"])
        done = subprocess.run(
            ["tcpclient", "-HRl0", "127.0.0.1", str(server.port), "sh", "-c", "echo hello >&7; exec 7>&-; head -1 <&6"],
            capture_output=True,
            timeout=20,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


def test_rights_are_given_up_after_the_socket_was_made(start, tmp_path):
    if os.getuid():
        pytest.skip("needs root")
    server = start(
        "spawn_each", "./s", "-", "-HRl0", "-u65534", "-g65534", "--socket-mode", "600", program=["id", "-u"]
    )
    with connect(f"{tmp_path}/s") as sock:
        assert rest(sock) == b"65534\n"
    seen = os.stat(tmp_path / "s")
    assert (seen.st_uid, seen.st_mode & 0o777) == (0, 0o600)
    assert server.stop() == 0
    assert os.path.exists(tmp_path / "s")  # it may not remove it: the next one replaces it
    start("spawn_each", "./s", "-")


def held(family=socket.AF_INET, address=("127.0.0.1", 0)):
    sock = socket.socket(family)
    sock.bind(address)
    sock.listen(1000)
    return sock


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [0, 3])
def test_an_inherited_socket(start, mode, number):
    """The program has the connection on 0 and 1, and the listening socket nowhere."""
    with held(socket.AF_INET6, ("::1", 0)) as sock:
        place = sock.getsockname()[:2]
        before, more = (), {"stdin": sock}
        if number:
            move = f"import os, sys; os.dup2({sock.fileno()}, 3); os.execvp(sys.argv[1], sys.argv[1:])"
            before, more = (sys.executable, "-c", move), {"pass_fds": [sock.fileno()]}
        program = {
            "fork_each": ["pyenvdir", "folder", "sh", "-c", "ls -l /proc/$$/fd"],
            "spawn_each": ["sh", "-c", "ls -l /proc/$$/fd"],
        }
        server = start(mode, f"fd:{number}", "-", "-HRl0", program=program.get(mode), before=before, **more)
        assert server.port == place[1]
        with connect(place) as client:
            if mode == "worker_pool":
                assert variables(mode, client)["TCP6LOCALIP"] == "::1"
            else:
                sockets = re.findall(r" (\d+) -> socket:", rest(client).decode())
                # 3 that is closed comes from the wrapper's copy, not from us
                assert set(sockets) - ({str(sock.fileno())} if number else set()) == {"0", "1"}
        assert server.stop() == 0
        with connect(place) as client:
            start(mode, "fd:0", "-", "-HRl0", stdin=sock)
            assert client.recv(5)  # who came in between was kept waiting


def test_sockets_that_were_passed_on(start, tmp_path):
    with held() as first, held(socket.AF_UNIX, f"{tmp_path}/s") as second:
        wrapper = (
            "import fcntl, os, sys\n"
            f"a, b = (fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in ({first.fileno()}, {second.fileno()}))\n"
            "os.dup2(a, 3); os.dup2(b, 4)\n"
            "os.environ['LISTEN_PID'] = str(os.getpid())\n"
            "os.execvp(sys.argv[1], sys.argv[1:])"
        )
        server = start(
            "spawn_each", "fd:", "-", "-HRl0",
            before=(sys.executable, "-c", wrapper), pass_fds=[first.fileno(), second.fileno()],
            environ={"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"},
        )  # fmt: skip
        assert server.port == first.getsockname()[1]
        for address, protocol in ((first.getsockname(), "TCP"), (f"{tmp_path}/s", "UNIX")):
            with connect(address) as sock:
                found = variables("spawn_each", sock)
            assert found["PROTO"] == protocol and not [name for name in found if name.startswith("LISTEN")]
    assert server.stop() == 0
    assert os.path.exists(tmp_path / "s")


WRONG = [
    (["./s", "25", "cat"], 100, b"tcpserver: nothing listens on a port: write - for it\n"),
    (
        ["--socket-mode", "600", "0", "0", "cat"],
        100,
        b"tcpserver: --socket-mode needs a UNIX socket\n",
    ),
    (["0,./s", "-", "cat"], 111, b"tcpserver: fatal: unable to figure out port number for -\n"),
    (["fd:0", "-", "cat"], 111, b"tcpserver: fatal: unable to use descriptor 0: not a socket\n"),
    (["fd:", "-", "cat"], 111, b"tcpserver: fatal: no sockets were passed on to us: LISTEN_FDS\n"),
    (["0,", "0", "cat"], 100, b"tcpserver: fatal: empty word in 0,\n"),
    (["-4", "::1", "0", "cat"], 111, b"tcpserver: fatal: no IP address for ::1\n"),
    (["-I", "nonesuch", "0", "0", "cat"], 100, b"tcpserver: no interface: nonesuch\n"),
    (["--socket-mode", "0o6", "./s", "-", "cat"], 100, b"tcpserver: not an octal mode: 0o6\n"),
    (["--proxy", "localhost", "0", "0", "cat"], 100, b"tcpserver: not addresses and networks: localhost\n"),
]


@pytest.mark.parametrize("words, code, line", WRONG)
def test_wrong_words(tmp_path, words, code, line):
    done = subprocess.run(
        [*OURS, *words], capture_output=True, timeout=60, env=environment(), cwd=tmp_path, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stderr[: len(line)]) == (code, line)


class Storm:
    """Clients that come one after the other, several at once, and are to be greeted each."""

    def __init__(self, address, farewell, count=8):
        self.answers, self.failures, self._ends = 0, [], False
        self._address, self._farewell, self._lock = address, farewell, threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self):
        while not self._ends:
            try:
                with connect(self._address) as sock:
                    sock.sendall(self._farewell)
                    sock.shutdown(socket.SHUT_WR)
                    answer = rest(sock)
            except OSError as error:
                answer = repr(error).encode()
            with self._lock:
                self.answers += answer.startswith(b"hello")
                if not answer.startswith(b"hello"):
                    self.failures.append(answer)

    def end(self):
        self._ends = True
        for thread in self._threads:
            thread.join(timeout=40)


def drain(file):
    while os.read(file.fileno(), 65536):
        pass


@pytest.mark.parametrize("verbosity", ["-q", "-v"])
@pytest.mark.parametrize("mode", MODES)
def test_a_restart_loses_no_connection(start, mode, verbosity, tmp_path):
    """We hold the socket; the server, which is not root's, ends and begins again while clients go on coming."""
    say = "read line; echo hello"
    program = {"fork_each": ["pyenvdir", "folder", "sh", "-c", say], "spawn_each": ["sh", "-c", say]}.get(mode)
    os.chmod(tmp_path, 0o755)
    with held() as sock:
        sock.listen(1000)
        storm, readers = Storm(sock.getsockname(), b"close\n"), []
        try:
            for _ in range(5):
                goal = storm.answers + 40
                server = start(mode, "fd:0", "-", verbosity, "-HRl0", "-c500", program=program, stdin=sock, **nobody())
                readers.append(threading.Thread(target=drain, args=(server.process.stderr,)))
                readers[-1].start()
                assert os.stat(f"/proc/{server.process.pid}").st_uid == nobody().get("user", os.getuid())
                until(lambda goal=goal: storm.failures or storm.answers >= goal)
                assert storm.failures == []
                server.process.terminate()
                assert server.process.wait(timeout=20) == 0
            start(mode, "fd:0", "-", "-HRl0", "-c500", program=program, stdin=sock, **nobody())
        finally:
            storm.end()
            for reader in readers:
                reader.join(timeout=40)
    assert storm.failures == []
    assert storm.answers >= 200


def nobody():
    """Return what makes Popen start another user's process, if we may and that user can read us."""
    if os.getuid():
        return {}
    for place in (f"{ROOT}/bin/x", sys.executable):
        while (place := os.path.dirname(place)) != "/":
            if not os.stat(place).st_mode & 0o001:
                return {}
    return {"user": 65534, "group": 65534, "extra_groups": []}
