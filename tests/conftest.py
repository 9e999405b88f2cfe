"""What all tests share: running a program as a program, with real pipes and a real exit code."""

import codecs
import collections
import fcntl
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import types

import pytest
from hypothesis import settings

from tests.skipped import summary
from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
Result = collections.namedtuple("Result", "code out err")
# `make coverage`: the programs are counted too; a starter reads no .pth, by which a child would count by itself
COVERAGE = ["-m", "coverage", "run", f"--rcfile={ROOT}/pyproject.toml", f"--data-file={ROOT}/.venv/coverage/data"]
COVERAGE = COVERAGE if "COVERAGE_PROCESS_CONFIG" in os.environ else []


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; only in `make test-long`")
    if not config.option.markexpr:
        config.option.markexpr = "not long"
    settings.register_profile("no stopwatch", deadline=None)  # a machine that is busy makes no test fail
    settings.load_profile("no stopwatch")
    heed_signals()


def heed_signals():
    """Take back what nohup and a shell's `&` ignore: the programs would inherit it, and signals are tested."""
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter):
    """Say in one line what was left out and why."""
    skips = terminalreporter.stats.get("skipped", [])
    line = summary([report.longrepr[2] for report in skips if isinstance(report.longrepr, tuple)])
    if line:
        terminalreporter.write_line(line)


@pytest.fixture
def run():
    """run(name, *arguments, input=b"", env={}, cwd=None) -> Result(code, out, err) of one of our programs.

    prefix: words before the command.
    """

    def run_program(name, *arguments, input=b"", env=None, cwd=None, timeout=60, prefix=()):
        done = subprocess.run(
            [*prefix, sys.executable, *COVERAGE, f"{ROOT}/bin/{name}", *arguments],
            input=input,
            capture_output=True,
            env={"PATH": f"{ROOT}/bin:{os.environ['PATH']}", **(env or {})},
            cwd=cwd,
            timeout=timeout,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run_program


@pytest.fixture
def home(tmp_path):
    """A private qmail home with an empty queue of 23 parts: Home, me is `here.example`."""
    from pyqmail.system.home import Home

    place = tmp_path / "home"
    for folder in ("control", "users", "alias", "run"):
        (place / folder).mkdir(parents=True)
    make_queue(place / "queue")
    (place / "private").touch()
    (place / "control/me").write_bytes(b"here.example\n")
    return Home(str(place))


def make_queue(queue, split=23):
    """Make an empty queue as the original's installer does: pyqmail-queue(5)."""
    for folder in ("pid", "intd", "todo", "bounce", "lock"):
        (queue / folder).mkdir(parents=True)
    for folder in ("mess", "info", "local", "remote"):
        for part in range(split):
            (queue / folder / str(part)).mkdir(parents=True)
    (queue / "lock/sendmutex").touch()
    (queue / "lock/tcpto").write_bytes(bytes(1024))
    os.mkfifo(queue / "lock/trigger")


class Transcript:
    """A conversation from tests/transcripts, byte for byte.

    Lines, with the escapes of a bytes literal: `C: ` what the client says, `S: ` what the server must, `Q: ` the
    envelope and `M: ` the message (its Received lines left out) that must then be in the queue; `control NAME: TEXT`
    and `env NAME=VALUE` before all; `exit CODE`.  In what the server says TIME and NUMBER stand for any number.
    For pyremote: `args WORDS`, `message ` its message, `R: ` its report; there the end without QUIT is the server's.
    """

    def __init__(self, path):
        self.controls, self.environ, self.steps, self.code, self.queued = {}, {}, [], None, []
        self.args, self.message, self.report = [], b"", b""
        with open(path, "rb") as lines:
            for line in lines:
                self._take(codecs.escape_decode(line.rstrip(b"\n"))[0], line)

    def _take(self, text, line):
        word, _, rest = text.partition(b" ")
        if word == b"control":
            name, _, content = rest.partition(b": ")
            self.controls[name.decode()] = content
        elif word == b"env":
            name, _, value = rest.partition(b"=")
            self.environ[name] = value
        elif word == b"exit":
            self.code = int(rest)
        elif word == b"args":
            self.args = rest.split(b" ")
        elif word == b"message":
            self.message = rest
        elif word == b"R:":
            self.report += rest
        elif word == b"Q:":
            self.queued.append([rest, b""])
        elif word == b"M:":
            self.queued[-1][1] += rest
        elif word in (b"C:", b"S:"):
            if self.steps and self.steps[-1][0] == word[:1]:
                rest = self.steps.pop()[1] + rest
            self.steps.append((word[:1], rest))
        else:
            assert not line.strip() or line.startswith(b"#"), line

    def client(self):
        return b"".join(said for who, said in self.steps if who == b"C")

    def server(self):
        return b"".join(said for who, said in self.steps if who == b"S")


def matches(said, wanted):
    """Return whether the server's words are those of a transcript."""
    pattern = re.escape(wanted).replace(b"TIME", rb"[0-9]+").replace(b"NUMBER", rb"[0-9]+")
    return re.fullmatch(pattern, said) is not None


@pytest.fixture
def transcript():
    """transcript(name) -> Transcript of tests/transcripts/name; transcript.matches(said, wanted)."""

    def read(name):
        return Transcript(f"{ROOT}/tests/transcripts/{name}")

    read.matches = matches
    return read


class Stage:
    """Services in a folder of their own, and the programs that supervise them; everything ends with the test."""

    IDLE = "#!/bin/sh\nexec sleep 600\n"

    def __init__(self, place):
        self.place, self._started = place, []
        (place / "err").touch()

    def service(self, name, run=IDLE, log=None, is_down=False):
        """Make a service directory; run None makes no run file.  log: the run file of its log."""
        folder = self.place / name
        # the log at once: a scanner that sees a service without one leaves it without
        (folder if log is None else folder / "log").mkdir(parents=True)
        for place, script in ((folder, run), (folder / "log", log)):
            if script is not None:
                (place / "run").write_text(script)
                (place / "run").chmod(0o755)
        if is_down:
            (folder / "down").touch()
        return folder

    def command(self, name):
        """Return how to start a program: ours by its starter, else from PATH."""
        return [sys.executable, f"{ROOT}/bin/{name}"] if name.startswith("py") else [name]

    def environ(self):
        return {"PATH": f"{ROOT}/bin:{os.environ['PATH']}"}

    def start(self, name, *arguments, **how):
        """Start a program and let it run, its descriptor 2 in the file err; returns its Popen."""
        with open(self.place / "err", "ab") as err:
            how = {
                "stdin": subprocess.DEVNULL,
                "stdout": err,
                "stderr": err,
                "cwd": self.place,
                "env": self.environ(),
                **how,
            }
            process = subprocess.Popen([*self.command(name), *map(str, arguments)], **how)
        self._started.append(process)
        return process

    def run(self, name, *arguments, **how):
        """Run a program to its end: Result(code, out, err)."""
        how = {"cwd": self.place, "env": self.environ(), "timeout": 30, **how}
        done = subprocess.run([*self.command(name), *map(str, arguments)], capture_output=True, check=False, **how)
        return Result(done.returncode, done.stdout, done.stderr)

    def err(self):
        return (self.place / "err").read_bytes()

    def state(self, folder):
        """Return the 18 bytes of a status file, empty if there is none."""
        try:
            return (folder / "supervise/status").read_bytes()
        except FileNotFoundError:
            return b""

    def pid(self, folder):
        return int.from_bytes(self.state(folder)[12:16], "little")

    def unread_bytes(self, pid, descriptor=0):
        """Return how many bytes wait in the pipe that is a descriptor of a process."""
        fd = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDONLY | os.O_NONBLOCK)
        try:
            return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
        finally:
            os.close(fd)

    def is_supervised(self, folder):
        try:
            os.close(os.open(folder / "supervise/ok", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    def up(self, folder):
        """Wait until the service is up and its pid known; return that."""
        return until(lambda: self.is_supervised(folder) and self.pid(folder))

    def everyone(self):
        """Return the pids of all processes that are at home in the folder."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._is_ours(pid)]

    def close(self):
        print(self.err().decode(errors="replace"))  # pytest shows it if the test has failed
        for _ in range(5):
            for pid in self.everyone():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        for process in self._started:
            process.kill()
            process.wait()

    def _is_ours(self, pid):
        try:
            return f"{os.readlink(f'/proc/{pid}/cwd')}/".startswith(f"{self.place}/")
        except OSError:
            return False


@pytest.fixture
def open_path():
    """A folder that everybody can enter.  A run of pytest that begins, whosever it is, closes what ours are in."""
    with tempfile.TemporaryDirectory(prefix="pyq", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder).resolve()


@pytest.fixture
def strace_path():
    """The program strace; without it, or the right to trace, the test is left out."""
    path = shutil.which("strace")
    if (
        path is None
        or subprocess.run([path, "-o", "/dev/null", "true"], stderr=subprocess.DEVNULL, timeout=60).returncode
    ):
        pytest.skip("needs strace, and the right to trace")
    return path


def injections(trace):
    """Return how many calls failed, or were interrupted by a signal that is the process's own."""
    return trace.count("(INJECTED)") + trace.count("\n--- SIGUSR1 {")


class Faults:
    """System calls that strace lets fail in programs, each as `CALL[,CALL...]:error=NAME[:when=...]`.

    signal=USR1 instead of error= interrupts them.
    paths: only calls for these files fail.  also: further calls for the trace, which has no others.
    """

    def __init__(self, strace_path, place):
        self._strace, self._place, self._traces, self._tracers = strace_path, place, [], []

    def prefix(self, *faults, follow=False, **rules):
        """Return the words before a command that let calls of it fail; follow: and of what it starts."""
        return [self._strace, "-D", "-qq", *(["-f"] if follow else []), *self._rules(faults, **rules)]

    def attach(self, pid, *faults, follow=False, **rules):
        """Let calls of a running process fail from now on; follow: and of what it starts."""
        command = [self._strace, *(["-f"] if follow else []), *self._rules(faults, **rules), "-p", str(pid)]
        tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._tracers.append(tracer)
        assert b"attached" in tracer.stderr.readline()

    def detach(self):
        """Let nothing fail any more in the processes of attach()."""
        for tracer in self._tracers:
            tracer.terminate()
            tracer.wait(60)
            tracer.stderr.close()
        self._tracers = []

    @property
    def trace(self):
        """What the last prefix() or attach() has seen."""
        return self._traces[-1].read_text()

    @property
    def count(self):
        """How many calls the last prefix() or attach() has let fail."""
        return injections(self.trace)

    def close(self):
        """Fail if one of them has met nothing: then its test tries what the program does not do, or does no more."""
        self.detach()
        idle = [path.name for path in self._traces if not path.exists() or not injections(path.read_text())]
        assert idle == [], "no call that should have failed was made"

    def _rules(self, faults, paths=(), also=()):
        trace = self._place / f"trace{len(self._traces)}"
        self._traces.append(trace)
        calls = [call for fault in faults for call in fault.partition(":")[0].split(",")]
        injections = [word for fault in faults for word in ("-e", f"inject={fault}")]
        files = [word for path in paths for word in ("-P", str(path))]
        return ["-o", str(trace), *files, "-e", f"trace={','.join([*calls, *also])}", *injections]


@pytest.fixture
def faults(strace_path, tmp_path):
    """Faults; at the end of the test each must have been met."""
    made = Faults(strace_path, tmp_path)
    yield made
    made.close()


ACCOUNTS = 'mount --bind "$0" /etc/passwd && exec "$@"'


@pytest.fixture
def accounts(tmp_path):
    """accounts(*lines) -> words to put before a program: it sees root and these lines of /etc/passwd.

    In a mount namespace of its own; without the right to have one the test is left out.
    """

    def make(*lines):
        path = tmp_path / "passwd"
        path.write_text("\n".join(["root:x:0:0:root:/root:/bin/sh", *lines, ""]))
        path.chmod(0o644)
        words = ["unshare", "-m", "sh", "-c", ACCOUNTS, str(path)]
        try:
            is_possible = not subprocess.run([*words, "true"], capture_output=True, check=False, timeout=60).returncode
        except OSError:
            is_possible = False
        if not is_possible:
            pytest.skip("needs root and a mount namespace")
        return words

    return make


@pytest.fixture
def stage(tmp_path):
    """A Stage in tmp_path/services."""
    (tmp_path / "services").mkdir()
    built = Stage((tmp_path / "services").resolve())
    yield built
    built.close()


@pytest.fixture
def pyqueued(start_pyqueued, request):
    """The running process of a pyqueued that serves `home`, ended with the test.

    A test marked on_both_stores has it once with the store of the queue's files, once with the one in memory.
    """
    return start_pyqueued(in_memory="" if getattr(request, "param", "files") == "memory" else None)


@pytest.fixture
def start_pyqueued(home):
    """start_pyqueued() -> a process that serves `home` and listens; killed with the test if it still runs.

    hard_descriptors: its hard limit of descriptors.  greeting: its first line.  in_memory: what is to happen at the
    steps of its store, which is the one in memory then (tests/mail/queue/on_memory.py); "" is nothing special.
    """
    import resource

    from tests.mail.queue import on_memory

    running = []

    def start(hard_descriptors=None, greeting=b"pyqueued: status: listening\n", in_memory=None):
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard_descriptors, hard_descriptors))

        words, environ = [sys.executable, f"{ROOT}/bin/pyqueued"], {"PATH": os.environ["PATH"]}
        if in_memory is not None:
            words, environ["MEMORY_STORE"] = on_memory.command(sys.executable, "pyqueued"), in_memory
        process = subprocess.Popen(
            words,
            env={**environ, "PYQMAIL_HOME": home.path},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=limit if hard_descriptors else None,
        )
        running.append(process)
        said = process.stderr.readline()
        assert said == greeting, said + process.stderr.read()
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()


class OwnNetwork:
    """A network namespace in which 198.18.0.0/15 is local, but no interface's: hosts to send mail to, port 25 and all.

    prefix: words before a command, which then runs there.  listen() and connect() give sockets of ours that are there.
    """

    SET_UP = 'ip link set lo up && ip route add local 198.18.0.0/15 dev lo && exec "$@"'
    HOLDER = """
import socket
asked = socket.socket(fileno=0)
asked.send(b"ready")
while words := asked.recv(1000).decode().split():
    where = words[1], int(words[2])
    try:
        if words[0] == "connect":
            sock = socket.create_connection(where)
        elif words[0] == "listen":
            sock = socket.create_server(where, backlog=1000)
        else:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(where)
    except OSError as error:
        asked.send(str(error).encode())
    else:
        socket.send_fds(asked, [b"ok"], [sock.fileno()])
        sock.close()
"""

    def __init__(self):
        self._asked, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = ["unshare", "-rn", "sh", "-c", self.SET_UP, "sh", sys.executable, "-Ic", self.HOLDER]
        with theirs:
            self._holder = subprocess.Popen(words, stdin=theirs, stderr=subprocess.PIPE)
        self.is_there = self._asked.recv(100) == b"ready"
        self.prefix = ["nsenter", "--preserve-credentials", "-U", "-n", "-t", str(self._holder.pid)]

    def listen(self, ip, port):
        return self._socket("listen", ip, port)

    def bind(self, ip, port):
        """Return a bound UDP socket."""
        return self._socket("bind", ip, port)

    def connect(self, ip, port):
        return self._socket("connect", ip, port)

    def close(self):
        self._asked.close()
        self._holder.kill()
        trouble = self._holder.communicate()[1]
        return trouble.decode(errors="replace").strip()

    def _socket(self, *words):
        self._asked.send(" ".join(map(str, words)).encode())
        said, descriptors, _, _ = socket.recv_fds(self._asked, 1000, 1)
        if said != b"ok":
            raise OSError(said.decode())
        return socket.socket(fileno=descriptors[0])


@pytest.fixture
def own_network():
    """An OwnNetwork; without the right to make namespaces, or without iproute2, the test is left out."""
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"a network namespace needs the program {program}")
    network = OwnNetwork()
    if not network.is_there:
        pytest.skip(f"no network namespace: {network.close()}")
    yield network
    network.close()


class NameServer:
    """A DNS server on loopback, UDP and TCP.  zone: (name, type number) -> list of record data, or a trouble.

    Troubles, for a name or (name, type): `servfail`, `silent`, `malformed`, `cut` (only TCP gets the answer).  A
    name that is nowhere in the zone does not exist.  A record that is (type, data) or (type, data, class) is of those.
    asked counts the questions.  is_forged: before each answer comes one that does not know the question's number.
    """

    A, CNAME, PTR, MX, TXT, AAAA = 1, 5, 12, 15, 16, 28

    def __init__(self, address="127.0.0.1", port=0, sockets=None):
        import threading

        self.zone, self.asked, self.ttl, self.is_forged = {}, collections.Counter(), 300, False
        self._tcp, self._udp = sockets or self._open(address, port)
        self.port = self._tcp.getsockname()[1]
        self._end, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @staticmethod
    def _open(address, port):
        """Return sockets for TCP and UDP of one port.  A port that is free for TCP may be somebody's for UDP."""
        import socket

        tries = 1 if port else 20
        while True:
            tcp, udp = socket.create_server((address, port)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                udp.bind(tcp.getsockname())
                return tcp, udp
            except OSError:
                tcp.close(), udp.close()
                tries -= 1
                if not tries:
                    raise

    def environ(self):
        return {b"PYQMAIL_DNS": b"127.0.0.1:%d" % self.port}

    def name(self, text):
        return b"".join(bytes((len(label),)) + label for label in text.split(b".") if label) + b"\0"

    def close(self):
        os.write(self._stop, b"x")
        self._thread.join()
        for fd in (self._end, self._stop):
            os.close(fd)
        self._udp.close()
        self._tcp.close()

    def _serve(self):
        while True:
            ready = select.select([self._end, self._udp, self._tcp], [], [])[0]
            if self._end in ready:
                return
            if self._udp in ready:
                question, client = self._udp.recvfrom(4096)
                answer = self._answer(question, False)
                if self.is_forged:
                    self._udp.sendto(bytes((question[0] ^ 1,)) + (answer or question)[1:], client)
                answer and self._udp.sendto(answer, client)
            if self._tcp in ready:
                with self._tcp.accept()[0] as client:
                    answer = self._answer(client.recv(4096)[2:], True)
                    client.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, question, is_tcp):
        end = question.index(b"\0", 12)
        labels, at = [], 12
        while at < end:
            labels.append(question[at + 1 : at + 1 + question[at]])
            at += 1 + question[at]
        name, kind = b".".join(labels).lower(), int.from_bytes(question[end + 1 : end + 3], "big")
        self.asked[name, kind] += not is_tcp
        trouble = self.zone.get(name) or self.zone.get((name, kind), [])
        if trouble == "silent":
            return None
        if trouble == "malformed":
            return question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question[12 : end + 5] + b"\xc0"
        flags = 0x8180 if any(name in (key, key[0]) for key in self.zone) else 0x8183
        if trouble in ("servfail", "cut"):
            flags = 0x8182 if trouble == "servfail" else flags if is_tcp else 0x8380
        records = trouble if isinstance(trouble, list) else []
        if trouble == "cut" and is_tcp:
            records = self.zone[name, kind]
        body = b"".join(
            b"\xc0\x0c" + (record[0] if isinstance(record, tuple) else kind).to_bytes(2, "big")
            + (record[2] if isinstance(record, tuple) and len(record) > 2 else 1).to_bytes(2, "big")
            + self.ttl.to_bytes(4, "big") + len(data).to_bytes(2, "big") + data
            for record in records
            for data in [record[1] if isinstance(record, tuple) else record]
        )  # fmt: skip
        head = question[:2] + flags.to_bytes(2, "big") + b"\0\1" + len(records).to_bytes(2, "big") + b"\0\0\0\0"
        return head + question[12 : end + 5] + body


@pytest.fixture
def name_server():
    """A NameServer with an empty zone."""
    server = NameServer()
    yield server
    server.close()


@pytest.fixture
def well_known_name_server():
    """A NameServer where the originals ask, too: DNSCACHEIP=127.0.0.79.

    One test at a time; left out without the right.
    """
    import fcntl

    with open(__file__, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            server = NameServer("127.0.0.79", 53)
        except OSError as error:
            pytest.skip(f"port 53: {error}")
        yield server
        server.close()


class SmtpPeer:
    """An SMTP server on loopback, a thread for each connection.

    A connection plays the next of `scripts`, a list of (b"S" or b"C", bytes) as in a Transcript, and closes, with a
    reset after (b"R", b""); without a script it is polite: announces PIPELINING if has_pipelining, takes everything,
    and collects mails as (commands, data as sent).  Mismatches and sessions are collected too.  decide(seen, line) may
    give another answer to a command, b"" for the greeting, than the polite one (None): seen.session counts from 1,
    seen.messages those accepted before, seen.recipients those of the transaction; b"" hangs up, and so does 421 once it
    is said.
    """

    def __init__(self, listener=None):
        import socket
        import threading

        self.scripts, self.mails, self.mismatches, self.has_pipelining = [], [], [], True
        self.decide = lambda seen, line: None
        self.sessions, self.open, self.farewells = 0, 0, 0
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.port = self._listener.getsockname()[1]
        self._threads, self._sockets = [], []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def route(self):
        return b":127.0.0.1:%d\n" % self.port

    def close(self):
        import socket

        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join()

    def _accept(self):
        import threading

        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            self.sessions += 1
            self.open += 1
            script = self.scripts.pop(0) if self.scripts else None
            work = (self._be_polite, (sock, self.sessions)) if script is None else (self._play, (sock, script))
            self._sockets.append(sock)
            self._threads.append(threading.Thread(target=self._guard, args=(sock, *work)))
            self._threads[-1].start()

    def _guard(self, sock, work, arguments):
        with sock:
            try:
                work(*arguments)
            except OSError:
                pass
            self.open -= 1

    def _play(self, sock, script):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a reset drops what waits to be sent
        for who, text in script:
            if who == b"S":
                sock.sendall(text)
                continue
            if who == b"R":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            got = b""
            while len(got) < len(text) and (piece := sock.recv(len(text) - len(got))):
                got += piece
            if got != text:
                self.mismatches.append((got, text))
                return

    def _be_polite(self, sock, session):
        lines, commands = sock.makefile("rb"), []
        seen = types.SimpleNamespace(session=session, messages=0, recipients=0)

        def answer(line, polite, taken=lambda: None):
            said = self.decide(seen, line)
            said = polite if said is None else said
            if said[:1] == b"2":
                taken()
            sock.sendall(said)
            if not said or said.startswith(b"421"):
                raise ConnectionError
            return said[:1] in b"23"

        answer(b"", b"220 peer ESMTP\r\n")
        while line := lines.readline():
            word = line[:4].upper().strip()
            if word == b"EHLO":
                answer(line, b"250-peer\r\n250 PIPELINING\r\n" if self.has_pipelining else b"250 ok\r\n")
                continue
            if word == b"QUIT":
                self.farewells += 1
                sock.sendall(b"221 bye\r\n")
                return
            go = b"354 go\r\n" if seen.recipients else b"554 no valid recipients\r\n"
            is_taken = answer(line, go if word == b"DATA" else b"250 ok\r\n")
            if word in (b"MAIL", b"RSET"):
                seen.recipients, commands = 0, []
            if is_taken:
                commands.append(line)
                seen.recipients += word == b"RCPT"
            if word != b"DATA" or not is_taken:
                continue
            pieces = []
            while (line := lines.readline()) and line != b".\r\n":
                pieces.append(line)
            if not line:
                return
            mail = b"".join(commands), b"".join(pieces)
            if answer(line, b"250 ok %d\r\n" % (len(self.mails) + 1), lambda mail=mail: self.mails.append(mail)):
                seen.messages += 1
            seen.recipients, commands = 0, []


@pytest.fixture
def own_servers(own_network):
    """own_servers(*ips) -> (NameServer at 127.0.0.1 port 53, SmtpPeer at port 25 of each ip), all in own_network."""
    started = []

    def start(*ips):
        started.append(NameServer(sockets=(own_network.listen("127.0.0.1", 53), own_network.bind("127.0.0.1", 53))))
        started.extend(SmtpPeer(own_network.listen(ip, 25)) for ip in ips)
        return started[:]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def smtp_peer():
    """An SmtpPeer."""
    peer = SmtpPeer()
    yield peer
    peer.close()


class OneCall:
    """A server for one connection, on a loopback address of its own: it listens for hears, says the pieces, closes.

    hears   the end of what the client says; empty: nothing is awaited from it
    """

    def __init__(self, pieces, hears=b"", port=0):
        self.host = "127." + ".".join(str(1 + byte % 254) for byte in os.urandom(3))
        try:
            self._listener = socket.create_server((self.host, port))
        except PermissionError:
            pytest.skip(f"needs the right to listen on port {port}")
        self._listener.settimeout(30)
        self.port = self._listener.getsockname()[1]
        self._pieces, self._hears, self._heard = pieces, hears, b""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def heard(self):
        """Return what the client said, once it has all been said and answered."""
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()
        return self._heard

    def close(self):
        self._listener.close()

    def _serve(self):
        sock, _ = self._listener.accept()
        with sock:
            while not self._heard.endswith(self._hears) and (data := sock.recv(65536)):
                self._heard += data
            try:
                for piece in self._pieces:
                    sock.sendall(piece)
            except OSError:
                pass  # the client has gone


@pytest.fixture
def one_call():
    """one_call(*pieces, hears=b"", port=0) -> a running OneCall; pieces may also be one iterable of them."""
    made = []

    def make(*pieces, **how):
        made.append(OneCall(pieces if all(isinstance(piece, bytes) for piece in pieces) else pieces[0], **how))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture(autouse=True)
def leave_no_trace():
    """A test leaves umask and working directory as they were: the next one in this process relies on them."""
    umask, folder = os.umask(0o022), os.getcwd()
    os.umask(umask)
    yield
    left, place = os.umask(umask), os.getcwd()
    os.chdir(folder)
    assert (left, place) == (umask, folder)
