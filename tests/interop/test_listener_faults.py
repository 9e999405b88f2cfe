"""What goes wrong around pytcpserver, in each serving mode: one clear line, and good clients go on.

The modes are those of tests/interop/test_tcpserver_traps.py.  Where the original does not spin, crash or wait for a
minute it stands beside ours.  Failing system calls are strace's doing; without it those tests are left out.
"""

import contextlib
import fcntl
import glob
import os
import re
import resource
import select
import shutil
import socket
import struct
import subprocess
import threading

import pytest

from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CLIENT = "127.0.0.80"  # it has an ident server
GREETING = b"220 here.example ESMTP\r\n"

pytestmark = pytest.mark.skipif(shutil.which("tcpserver") is None, reason="needs ucspi-tcp")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
of_programs = pytest.mark.parametrize("mode", ["spawn_each", "fork_each"])


def is_served(server, **where):
    """Return whether a good client gets what it should."""
    return server.shown(**where).startswith(b"good\n")


GOOD = "echo good"


# --- rules


def rules(place, source, name="rules.cdb"):
    subprocess.run(["tcprules", name, "rules.tmp"], input=source, cwd=place, check=True)


def test_rules_cut_short(beside, mode, tmp_path):
    """Each length is an error, said in one line, or the rule; never a way in for whom the rules deny."""
    rules(tmp_path, b":deny\n", "deny.cdb")
    rules(tmp_path, b":allow\n", "rules.cdb")
    deny = (tmp_path / "deny.cdb").read_bytes()
    (server,) = beside(mode, ["-vHRl0", "-xrules.cdb"], GOOD, only=1)
    lengths = [*range(0, len(deny), 61), 2047, 2048, 2049, len(deny) - 1, len(deny)]
    for length in lengths:
        (tmp_path / "next").write_bytes(deny[:length])
        os.rename(tmp_path / "next", tmp_path / "rules.cdb")
        assert server.ask() == b""
    rules(tmp_path, b":allow\n", "rules.cdb")
    assert is_served(server)
    lines = server.lines(len(lengths) + 1)
    dropped = lines.count("tcpserver: warning: dropping connection, unable to read rules.cdb: protocol error\n")
    denied = lines.count("tcpserver: deny PID ")
    assert dropped + denied == len(lengths)
    assert denied


BAD_RULES = [
    # what stands there                              reason
    (lambda place: os.mkdir(place),                  "is a directory"),
    (lambda place: os.mkfifo(place),                 "protocol error"),
    (lambda place: place.write_bytes(bytes(5000)),   "protocol error"),
    (lambda place: place.write_text("127.:allow\n" * 1000), "protocol error"),
    (lambda place: None,                             "file does not exist"),
]  # fmt: skip


@pytest.mark.parametrize("make, reason", BAD_RULES, ids=["directory", "fifo", "zeros", "text", "absent"])
def test_rules_that_are_none(beside, mode, tmp_path, make, reason):
    make(tmp_path / "rules.cdb")
    (server,) = beside(mode, ["-vHRl0", "-xrules.cdb"], GOOD, only=1)
    assert server.ask() == b""
    assert f"warning: dropping connection, unable to read rules.cdb: {reason}\n" in server.lines()
    os.rename(tmp_path / "rules.cdb", tmp_path / "bad") if reason != "file does not exist" else None
    rules(tmp_path, b":allow\n")
    assert is_served(server)


def test_rules_that_are_replaced_all_the_time(beside, mode, tmp_path):
    """Whoever comes meets the old rules or the new ones, whole."""
    sources = [b':allow,RULES="%s"\n' % name + b"10.%d.0.0:deny\n" * 3 % (1, 2, 3) for name in (b"old", b"new" * 50)]
    for name, source in zip(("old.cdb", "new.cdb"), sources, strict=True):
        rules(tmp_path, source, name)
    shutil.copy(tmp_path / "old.cdb", tmp_path / "rules.cdb")
    (server,) = beside(mode, ["-HRl0", "-xrules.cdb"], "echo $RULES", only=1)
    is_over, swaps = threading.Event(), []

    def swap():
        while not is_over.is_set():
            for name in ("new.cdb", "old.cdb"):
                shutil.copy(tmp_path / name, tmp_path / "next")
                os.rename(tmp_path / "next", tmp_path / "rules.cdb")
                swaps.append(name)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        seen = {server.shown() for _ in range(60)}
    finally:
        is_over.set()
        thread.join()
    assert seen <= {b"old\n", b"new" * 50 + b"\n"}
    assert len(swaps) > 10


# --- names

NAME_TROUBLES = ["malformed", "silent", "servfail", "huge", "loop", "long"]


@pytest.mark.parametrize("trouble", NAME_TROUBLES)
def test_names_that_cannot_be_had(beside, mode, name_server, trouble):
    """Nobody else waits for a client whose name is not told.  Only the huge answer has a name."""
    names, bad = name_server, b"71.0.0.127.in-addr.arpa"
    names.zone[b"72.0.0.127.in-addr.arpa", names.PTR] = [names.name(b"Good.Example")]
    names.zone[b"good.example", names.A] = [socket.inet_aton("127.0.0.72")]
    names.zone[b"bad.example", names.A] = [socket.inet_aton("127.0.0.71")]
    records = {
        "loop": [(names.CNAME, b"\xc0\x0c"), (names.CNAME, names.name(bad))],
        "long": [names.name(b".".join([b"x" * 60] * 4))],
    }
    names.zone[bad, names.PTR] = records.get(trouble, trouble)
    if trouble == "huge":  # which takes TCP
        huge = [(names.TXT, b"\xff" * 256)] * 242 + [names.name(b"Bad.Example")]  # 65,500 bytes
        names.zone[bad] = "cut"
        names.zone[bad, names.PTR] = huge
    environ = {"PYQMAIL_DNS": names.environ()[b"PYQMAIL_DNS"].decode()}
    (server,) = beside(mode, ["-vRpl0"], "echo ${TCPREMOTEHOST-none}", env=environ, only=1)
    with server.connect(source="127.0.0.71") as waiting:
        assert server.shown(source="127.0.0.72") == b"good.example\n"
        if trouble in ("silent", "malformed"):
            assert not select.select([waiting], [], [], 0)[0]
            return
    assert server.shown(source="127.0.0.71") == (b"bad.example\n" if trouble == "huge" else b"none\n")
    assert server.shown(source="127.0.0.72") == b"good.example\n"
    assert "dropping" not in server.lines(4)


# --- ident


class IdentServer:
    """Port 113 of CLIENT; speak(sock) is what it does with each connection, after the question was read."""

    def __init__(self):
        self._listener = socket.create_server((CLIENT, 113))
        self.speak, self._threads = None, []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self):
        while True:
            sock, (ip, _) = self._listener.accept()
            if ip != CLIENT and self.speak is None:
                sock.close()
                return
            self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self._threads[-1].start()

    def _serve(self, sock):
        with sock, contextlib.suppress(OSError):
            sock.settimeout(20)
            if sock.recv(100):
                self.speak(sock)

    def close(self):
        self.speak = None
        socket.create_connection((CLIENT, 113), timeout=10).close()
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()


@pytest.fixture
def ident_server():
    """An IdentServer; one at a time, wherever tests run."""
    with open(f"{ROOT}/tests/interop/test_tcpserver_traps.py", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            server = IdentServer()
        except OSError as error:
            pytest.skip(f"port 113: {error}")
        yield server
        server.close()


def trickle(sock):
    """A byte whenever a tenth of a second passes without the end."""
    while not select.select([sock], [], [], 0.1)[0]:
        sock.sendall(b"1")


MEGABYTE = 1 << 20
IDENT_TROUBLES = {
    # what the ident server does                                                   TCPREMOTEINFO
    "a megabyte of colons": (lambda sock: sock.sendall(b":" * MEGABYTE),           b":" * 257),
    "a megabyte": (lambda sock: sock.sendall(b"1,2:USERID:UNIX:" + b"x" * MEGABYTE), b"x" * 257),
    "a megabyte without an answer": (lambda sock: sock.sendall(b"x" * MEGABYTE),   b"none"),
    "a megabyte of blanks": (lambda sock: sock.sendall(b" \t\r" * (MEGABYTE // 3)), b"none"),
    "a trickle": (trickle,                                                         b"none"),
    "silence": (lambda sock: sock.recv(1),                                         b"none"),
    "an end": (lambda sock: None,                                                  b"none"),
    "a reset": (lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)), b"none"),
}  # fmt: skip


@pytest.mark.parametrize("speak, info", IDENT_TROUBLES.values(), ids=IDENT_TROUBLES)
def test_ident_servers(beside, mode, ident_server, speak, info):
    ident_server.speak = speak
    for server in beside(mode, ["-vHl0", "-t1"], "echo ${TCPREMOTEINFO-none}"):
        with server.connect(source=CLIENT):
            assert server.shown() == b"none\n"  # of 127.0.0.1, while the other waits
        assert server.shown(source=CLIENT) == info + b"\n"


# --- accept fails


WAITS = ["/^epoll_p?wait"]  # the calls that wait for events


ACCEPT_ERRORS = [
    # errno           reason, if it is told
    ("EMFILE",        "process cannot open more files"),
    ("ENFILE",        "system cannot open more files"),
    ("ENOMEM",        "out of memory"),
    ("ENOBUFS",       "out of buffer space"),
    ("EPERM",         "permission denied"),
    ("EACCES",        "access denied"),
    ("ECONNABORTED",  None),
    ("EPROTO",        None),
]  # fmt: skip


# a wait that found nothing, of 50 ms at least
WAITED_IN_VAIN = r"epoll_p?wait(?:\([0-9]+, | resumed>)\[\], [0-9]+, (?:[5-9][0-9]|[1-9][0-9]{2,})\b.*= 0$"


@pytest.mark.parametrize("error, reason", ACCEPT_ERRORS, ids=[error for error, _ in ACCEPT_ERRORS])
def test_accept_fails_for_a_while(beside, faults, mode, error, reason):
    """No spin: a try each tenth of a second, one line, and on it goes.

    The original tries without a pause, silently.
    """
    failures = 4
    prefix = faults.prefix(f"accept4:error={error}:when=1..{failures}", follow=True, also=WAITS)
    (server,) = beside(mode, ["-vHRl0"], GOOD, prefix=prefix, only=1)
    assert is_served(server)
    assert is_served(server)
    lines = server.lines(2)
    trace = faults.trace
    assert faults.count == trace.count(f" {error} ") == failures
    assert lines.count("tcpserver: warning: ") == (reason is not None)
    if reason is not None:
        assert f"tcpserver: warning: unable to accept: {reason}\n" in lines
        its = "\n".join(line for line in trace.splitlines() if line.startswith(f"{server.process.pid} "))
        between = its.split(f" {error} ")[1:]
        assert [bool(re.search(WAITED_IN_VAIN, text, re.M)) for text in between] == [True] * failures, its
    assert server.stop() == 0


def test_accept_fails_for_good(beside, faults, mode):
    prefix = faults.prefix("accept4:error=EBADF", follow=True, also=WAITS)
    (server,) = beside(mode, ["-vHRl0"], GOOD, prefix=prefix, only=1)
    with server.connect():
        assert server.process.wait(timeout=20) == 111
    text = server.process.stderr.read()
    assert text == b"tcpserver: status: 0/40\ntcpserver: fatal: unable to accept: file descriptor not open\n"


def test_accept_fails_and_term_still_works(beside, faults, mode):
    prefix = faults.prefix("accept4:error=ENFILE", follow=True, also=WAITS)
    (server,) = beside(mode, ["-vHRl0"], GOOD, prefix=prefix, only=1)
    with server.connect():
        server.wait_for(b"unable to accept")
        assert server.stop() == 0


# --- programs

PROGRAMS = {
    "absent": ["./nonesuch"],
    "absent in PATH": ["nonesuch"],
    "not executable": ["/etc/passwd"],
    "a directory": ["/etc"],
    "below a file": ["/etc/passwd/x"],
    "no format": ["./no-format"],
    "an empty word": [""],
    "dies at once": ["sh", "-c", "kill -9 $$"],
    "fails at once": ["false"],
    "closes all": ["sh", "-c", "exec <&- >&- 2>&-; exit 3"],
    "closes descriptor 2": ["sh", "-c", "exec 2>&-; echo hello; echo lost >&2"],
    "ends its group": ["sh", "-c", "trap '' TERM; kill -CONT 0; echo $?"],
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@of_programs
def test_programs_that_fail(beside, tmp_path, mode, program):
    (tmp_path / "no-format").write_text("echo hello\n")
    (tmp_path / "no-format").chmod(0o755)
    found = []
    for side in (0, 1):
        words = [*(["envdir", "no-variables"], ["pyenvdir", "no-variables"])[side], *program]
        (server,) = beside(mode, ["-vHRl0"], program=words if mode == "fork_each" else program, only=side)
        answers = [server.ask() for _ in range(2)]
        lines = sorted(server.lines(2).split("\n")) if mode == "fork_each" else server.lines(2)
        found.append((answers, lines, server.stop()))
    assert found[0] == found[1]


def test_a_program_that_ignores_its_connection(beside):
    """A slot is its process's; others are served."""
    for server in beside(
        "spawn_each", ["-vHRl0", "-c2"], 'read x; case $x in stay) exec sleep 60 ;; *) echo "good" ;; esac'
    ):
        with server.connect() as sock:
            sock.sendall(b"stay\n")
            pid = int(server_pid(server))
        for _ in range(3):
            assert server.ask(b"go\n") == b"good\n"
        os.kill(pid, 9)
        server.wait_for(b"status 9\n")


def server_pid(server):
    server.wait_for(b"ok ")
    return re.search(rb"ok (\d+)", server.text)[1]


FLOOD = 'case $TCPREMOTEIP in 127.0.0.1) echo good ;; *) while echo "more and more and more"; do :; done >&2 ;; esac'


@of_programs
def test_a_program_that_floods_the_log(beside, mode):
    """Nobody reads descriptor 2.  As long as the listener has nothing to say there, it serves; as the original."""
    for server in beside(mode, ["-HRl0"], FLOOD):
        with server.connect(source=CLIENT):
            fill_log(server)
            for _ in range(3):
                assert server.ask() == b"good\n"
            assert server.stop() == 0


@of_programs
def test_a_listener_that_waits_for_its_log(beside, mode):
    """With -v it waits until its log is read, as the original; then it goes on where it was, and TERM works."""
    for server in beside(mode, ["-vHRl0"], FLOOD):
        with server.connect(source=CLIENT) as flooding, server.connect() as good:
            server.wait_for(b"ok ", 2)
            assert good.recv(100) == b"good\n"
            fill_log(server)
            with server.connect() as waiting:
                while not select.select([waiting], [], [], 0)[0]:
                    server.text += os.read(server.process.stderr.fileno(), 65536)
                assert waiting.recv(100) == b"good\n"
            fill_log(server)
            with server.connect():
                assert server.stop() == 0
            flooding.close()


def fill_log(server):
    """Wait until the server's log takes no more; it is not read from here on."""
    server.is_told = False
    fd = os.open(f"/proc/{server.process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    try:
        size = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
        until(lambda: not select.select([], [fd], [], 0)[1], f"a full pipe of {size} bytes")
    finally:
        os.close(fd)


# --- processes and descriptors run out


@needs_root
@of_programs
def test_no_more_processes(beside, tmp_path, mode):
    """Said in the original's words; a slot is free again at once, and the next client is served once there is room."""

    def limit():
        resource.setrlimit(resource.RLIMIT_NPROC, (3, 3))

    found = []
    for side in (0, 1):
        uid = 1000000 + 4 * os.getpid() + 2 * side + (mode == "fork_each")  # nobody else's
        chain = [["argv0", "cat", "cat"], ["pyargv0", "cat", "cat"]][side] if mode == "fork_each" else ["cat"]
        options = ["-vHRl0", f"-u{uid}", *(["--workers", "1"] if side else [])]
        (server,) = beside("spawn_each", options, program=chain, only=side, preexec_fn=limit)
        server.is_told = False  # what has no process has no end
        with server.connect() as first, server.connect() as second:
            server.wait_for(b"ok ", 2)
            assert server.ask() == b""
            server.wait_for(b"unable to fork")
            for sock in (first, second):
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
        server.wait_for(b"end ", 2)
        assert server.ask(b"good") == b"good"
        lines = server.text.split(b"\n")
        found.append([line for line in lines if b"dropping" in line])
        assert lines[0] == b"tcpserver: status: 0/40" or lines[0].startswith(b"tcpserver: warning: processes for 2 ")
    assert found == [[b"tcpserver: warning: dropping connection, unable to fork: temporary failure"]] * 2


def test_few_descriptors(beside, mode):
    """So few that they would run out: all clients are served in the end, and nothing is said but a shortfall."""
    prefix = ["sh", "-c", 'ulimit -n 40; exec "$@"', "sh"]
    (server,) = beside(mode, ["-vHRl0", "-c100", "-b100"], GOOD, prefix=prefix, only=1)
    clients = [server.connect() for _ in range(60)]
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    wanted = GREETING if mode == "worker_pool" else b"good\n"
    for client in clients:
        with client, client.makefile("rb") as file:
            assert file.readline() == wanted
    assert is_served(server)
    assert server.stop() == 0


# --- clients


def descriptors(server):
    """Return how many descriptors the server and its children have open."""
    count = 0
    for pid in (server.process.pid, *children(server)):
        with contextlib.suppress(OSError):  # a child that ends
            count += len(os.listdir(f"/proc/{pid}/fd"))
    return count


def children(server):
    with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children", encoding="ascii") as file:
        return [int(pid) for pid in file.read().split()]


def test_clients_that_connect_and_reset(beside, mode):
    storm = 500
    prefix = ["env", "CLIENTCONNECTIONS=0", "CLIENTNETWORK=0"]  # all are one client's
    (server,) = beside(mode, ["-vHRl0", "-c100", "-b50"], GOOD, prefix=prefix, only=1)
    server.process.stderr, server.is_told = (drained := Drain(server.process.stderr)), False
    assert is_served(server)
    before = descriptors(server)
    for number in range(storm):
        with server.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if number % 100 == 50:
            assert is_served(server)
    assert is_served(server)
    # all that were accepted have ended; one that was reset while the kernel's queue was full never was
    until(
        lambda: (text := drained.text).endswith(b"status: 0/100\n") and text.count(b" pid ") == text.count(b" end "),
        lambda: repr(drained.text[-500:]),
    )
    assert drained.text.count(b" end ") > storm / 2
    # eight more at most: helpers, which begin with the first burst
    until(lambda: before <= descriptors(server) <= before + 8, lambda: str(descriptors(server)))
    for mark in (b"warning", b"Traceback"):
        assert mark not in drained.text
    assert server.stop() == 0


class Drain:
    """Reads a descriptor all the time, so that nobody waits for it."""

    def __init__(self, file):
        self.text, self._file = b"", file
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        while piece := os.read(self._file.fileno(), 65536):
            self.text += piece

    def close(self):
        self._thread.join()
        self._file.close()


def test_clients_that_close_their_half_first(beside, mode):
    for server in beside(mode, ["-vHRl0", "-c60", "-b60"], f"cat >/dev/null; {GOOD}"):
        clients = [server.connect() for _ in range(30)]
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        wanted = GREETING if mode == "worker_pool" else b"good\n"
        for client in clients:
            with client, client.makefile("rb") as file:
                assert file.read() == wanted
        server.wait_for(b"tcpserver: end ", 30)
        server.wait_for(b"tcpserver: status: 0/60\n", 2)
        assert server.ask(b"QUIT\r\n").startswith(wanted)


def test_clients_that_never_read(beside, mode):
    """Their programs wait for them, nobody else does."""
    script = "case $TCPREMOTEIP in 127.0.0.1) echo good ;; *) exec yes ;; esac"
    for server in beside(mode, ["-vHRl0"], script):
        deaf = [server.connect(source=CLIENT) for _ in range(5)]
        for sock in deaf:
            fill(sock, mode == "worker_pool")
        for _ in range(3):
            assert is_served(server) if mode != "worker_pool" else server.ask(b"QUIT\r\n").startswith(GREETING)
        for sock in deaf:
            sock.close()
        server.wait_for(b"tcpserver: end ", 8)


def fill(sock, talks):
    """Let the server say more than is taken: a resident session answers each command."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 4096)
    sock.settimeout(0.2)
    with contextlib.suppress(OSError):
        for _ in range(1000 if talks else 0):
            sock.sendall(b"NOOP\r\n" * 2000)


# --- a clock that jumps

JUMPING = """
import itertools, time
_now, _jumps = time.time, itertools.cycle((0, 1e9, -1e9, 3e9, 0))
time.time = lambda: _now() + next(_jumps)
"""


def test_a_clock_that_jumps(beside, mode, tmp_path):
    """The time of day is only shown; what is waited for and counted goes by the other clock."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock/sitecustomize.py").write_text(JUMPING)
    environ = {"PYTHONPATH": f"{tmp_path}/clock:{ROOT}"}
    options = ["-vHl0", "-t5", "--rate", "5", "--drain", "30"]
    (server,) = beside(mode, options, f"{GOOD}; read x", env=environ, only=1)
    for _ in range(4):
        assert server.ask(b"QUIT\r\n")
    with server.connect() as sock, sock.makefile("rb") as file:
        assert file.readline() in (GREETING, b"good\n")
        assert server.ask() == b""  # the sixth within a minute
        server.process.terminate()
        until(lambda: not is_open(server))
        assert server.process.poll() is None
        sock.sendall(b"QUIT\r\n")
    assert server.process.wait(timeout=20) == 0


def is_open(server):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", server.port)) == 0


def test_only_what_is_shown_asks_for_the_time_of_day():
    places = glob.glob("tcp/*/*.py", root_dir=f"{ROOT}/pyqmail")
    assert len(places) > 20
    found = []
    for place in (*places, "system/loop.py", "system/driver.py", "system/channel.py", "programs/pytcpserver.py"):
        with open(f"{ROOT}/pyqmail/{place}", encoding="utf-8") as file:
            found += [line for line in file if "time.time(" in line]
    assert [line for line in found if not re.search(r"\bsince\b|\"now\"", line)] == []
