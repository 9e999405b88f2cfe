"""A whole mail system on loopback, in a home of its own: started in parts, seen from outside, gone with the test."""

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from tests.waiting import read_until, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = f"{ROOT}/bin:{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
SECONDS = 30


class Lines:
    """What a descriptor says, line by line; to be waited for."""

    def __init__(self, fd):
        self.text, self.ended, self._fd = b"", False, fd
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with os.fdopen(self._fd, "rb", buffering=0) as file:
            while piece := file.read(65536):
                with self._news:
                    self.text += piece
                    self._news.notify_all()
        with self._news:
            self.ended = True
            self._news.notify_all()

    def find(self, pattern, count=1, seconds=SECONDS):
        """Wait until a pattern has come so many times; returns the last match."""
        with self._news:
            self._news.wait_for(lambda: self.ended or len(re.findall(pattern, self.text)) >= count, seconds)
            found = list(re.finditer(pattern, self.text))
        assert len(found) >= count, f"{pattern!r} not {count} times in:\n{self.text.decode(errors='replace')}"
        return found[count - 1]

    def finish(self, seconds=SECONDS):
        """Wait until nobody can write any more; returns all of it."""
        with self._news:
            assert self._news.wait_for(lambda: self.ended, seconds), self.text
        return self.text


class Client:
    """An SMTP client that says exactly what it is told."""

    def __init__(self, address):
        self._socket = socket.create_connection(address, timeout=SECONDS)
        self._lines = self._socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._lines.close()
        self._socket.close()

    def reply(self):
        """Return one reply, whole; empty if the server has gone."""
        lines = []
        while line := self._lines.readline():
            lines.append(line)
            if line[3:4] == b" ":
                break
        return b"".join(lines)

    def say(self, data, wanted=b"250"):
        self._socket.sendall(data)
        reply = self.reply()
        assert reply.startswith(wanted), (data[:200], reply)
        return reply

    def open(self):
        """Take the greeting and introduce ourselves."""
        assert self.reply().startswith(b"220 ")
        return self.say(b"EHLO client.example\r\n")

    def mail(self, sender, recipients, data, wanted=b"250"):
        """Send one message, its data as it is on the wire without the last dot; returns the reply."""
        self.say(b"MAIL FROM:<%b>\r\n" % sender)
        self._socket.sendall(b"".join(b"RCPT TO:<%b>\r\n" % recipient for recipient in recipients))
        for recipient in recipients:
            assert (reply := self.reply()).startswith(b"250"), (recipient, reply)
        self.say(b"DATA\r\n", b"354")
        return self.say(data + b".\r\n", wanted)

    def ended(self):
        """Return whether the server has closed the connection; waits for it."""
        return self._lines.read() == b""


class System:
    """The parts of a mail system around one home.

    Local user `demo` has a Maildir, and one for demo-ANYTHING; `remote.example` is routed to where `routes` says.
    prefix: words before every command.
    """

    def __init__(self, home, environ=None, prefix=()):
        self.home, self._prefix = home, list(prefix)
        self.environ = {"PATH": PATH, "PYQMAIL_HOME": home.path, **(environ or {})}
        self.started, self.log, self.sender, self.address, self.scanner = [], None, None, None, None

    # what is in the home

    def control(self, name, content):
        with open(f"{self.home.control}/{name}", "wb") as file:
            file.write(content)

    def furnish(self):
        """Make a private home's settings and its user."""
        place = self.demo = f"{self.home.path}/home/demo"
        for name in ("Maildir", "more"):
            for folder in ("tmp", "new", "cur"):
                os.makedirs(f"{place}/{name}/{folder}", 0o700)
        with open(f"{place}/.qmail-default", "wb") as file:
            file.write(b"./more/\n")
        ids = f"{os.getuid()}:{os.getgid()}"
        with open(f"{self.home.users}/assign", "w", encoding="ascii") as file:
            file.write(
                f"=demo:demo:{ids}:{place}:::\n+demo-:demo:{ids}:{place}:-::\n+:alias:{ids}:{self.home.alias}:-::\n.\n"
            )
        with open(f"{self.home.alias}/.qmail-postmaster", "wb") as file:
            file.write(b"&demo-postmaster@here.example\n")
        self.control("locals", b"here.example\n")
        self.control("rcpthosts", b"here.example\nremote.example\n")
        assert self.run("pynewu").returncode == 0

    # processes

    def command(self, words):
        return [*self._prefix, *words]

    def start(self, *words, **how):
        """Start a program found in PATH; returns its Popen, killed with the test."""
        how = {"stdin": subprocess.DEVNULL, "env": self.environ, "cwd": "/", **how}
        process = subprocess.Popen(self.command(words), **how)
        self.started.append(process)
        return process

    def run(self, *words, **how):
        how = {"env": self.environ, "timeout": SECONDS, "capture_output": True, "cwd": "/", **how}
        return subprocess.run(self.command(words), check=False, **how)

    def says(self, *words, **how):
        """Start a program; returns it and what it says on descriptors 1 and 2."""
        read_end, write_end = os.pipe()
        process = self.start(*words, stdout=write_end, stderr=write_end, **how)
        os.close(write_end)
        return process, Lines(read_end)

    def start_queue(self, **how):
        self.queue, self.queue_log = self.says("pyqueued", **how)
        self.queue_log.find(rb"pyqueued: status: listening\n")

    def start_smtp(
        self, server="pytcpserver", options=("-v", "-R", "-H", "-lhere.example"), program=("pysmtpd",), relay=True
    ):
        """Start SMTP on a port of 127.0.0.1; self.address and self.smtp_log are then known."""
        environ = {**self.environ, **({"RELAYCLIENT": ""} if relay else {})}
        read_end, write_end = os.pipe()
        words = (server, *options, "-1", "127.0.0.1", "0", *program)
        errors_read, errors_write = os.pipe()
        self.smtp = self.start(*words, stdout=write_end, stderr=errors_write, env=environ)
        os.close(write_end)
        os.close(errors_write)
        self.smtp_log = Lines(errors_read)
        assert select.select([read_end], [], [], SECONDS)[0]
        self.address = "127.0.0.1", int(os.read(read_end, 100))
        os.close(read_end)

    def start_sender(self, *options, **how):
        """Start pystart with options; self.log is pysend's."""
        self.sender, self.log = self.says("pystart", *options, "./Maildir/", **how)
        self.log.find(rb"^status: local 0/[0-9]+ remote 0/[0-9]+\n")

    def make_services(self):
        """Copy services/ into the home; nothing is started.  SMTP will be at an address that no other test has."""
        self.services = f"{self.home.path}/service"
        shutil.copytree(f"{ROOT}/services", self.services)
        pid = os.getpid()
        self.address = f"127.{1 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}", 2525
        self.environ |= {"SMTP_ADDRESS": self.address[0], "SMTP_PORT": "2525"}
        rules = b'127.:allow,RELAYCLIENT=""\n:allow\n'
        made = self.run("pytcprules", f"{self.home.control}/smtp-rules.cdb", f"{self.home.control}/tmp", input=rules)
        assert made.returncode == 0, made.stderr

    def supervise(self, scanner, loggers="pymultilog", edit=None):
        """Start svscan or pysvscan on the services, their scripts changed by edit(text); wait until all work."""
        for script in (f"{name}/{part}" for name in os.listdir(self.services) for part in ("run", "log/run")):
            path = f"{self.services}/{script}"
            with open(path, encoding="utf-8") as file:
                text = file.read().replace("pymultilog", loggers)
            with open(path, "w", encoding="utf-8") as file:
                file.write(edit(text) if edit else text)
        self.scanner = self.start(scanner, self.services, start_new_session=True)
        until(lambda: self.accepts() and b"listening" in self.log_of("pyqueued"))
        until(lambda: b"status: local 0/10" in self.log_of("pysend"))

    def accepts(self):
        with socket.socket() as sock:
            return sock.connect_ex(self.address) == 0

    def log_of(self, name):
        """Return the current log of a service, empty if there is none yet."""
        with contextlib.suppress(FileNotFoundError), open(f"{self.services}/{name}/log/main/current", "rb") as file:
            return file.read()
        return b""

    def stop_sender(self):
        """End pysend as its administrator does; returns its whole log."""
        self.sender.terminate()
        assert self.sender.wait(SECONDS) == 0
        return self.log.finish()

    def stop(self, process):
        process.terminate()
        return process.wait(SECONDS)

    def start_all(self, *options):
        self.start_queue()
        self.start_smtp()
        self.start_sender(*options)

    def pids(self, name=None):
        """Return the pids of all processes of this home, or of those whose name begins so."""
        mark, found = f"PYQMAIL_HOME={self.home.path}\0".encode(), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{pid}/environ", "rb") as environ,
                open(f"/proc/{pid}/comm", encoding="ascii") as comm,
            ):
                if mark in environ.read() and (name is None or comm.read().startswith(name[:15])):
                    found.append(int(pid))
        return sorted(found)

    def close(self):
        if self.scanner is not None:
            self.scanner.kill()  # before what it would start again
        for _ in range(5):
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self.started:
            process.kill()
            process.wait()

    # mail

    def client(self):
        one = Client(self.address)
        one.open()
        return one

    def mail(self, sender, recipients, data, wanted=b"250"):
        """Send one message over a connection of its own; returns the last reply."""
        with self.client() as client:
            reply = client.mail(sender, recipients, data, wanted)
            client.say(b"QUIT\r\n", b"221")
            return reply

    def arrived(self, count=1, folder="Maildir"):
        """Wait for so many messages in the user's folder; returns them, oldest first."""
        new = f"{self.demo}/{folder}/new"
        until(lambda: len(os.listdir(new)) >= count)
        paths = sorted((f"{new}/{name}" for name in os.listdir(new)), key=lambda path: os.stat(path).st_mtime_ns)
        messages = []
        for path in paths:
            with open(path, "rb") as file:
                messages.append(file.read())
        assert len(messages) == count, [message[:1000] for message in messages]
        return messages

    def queued(self):
        """Return the numbers of the messages in the queue, accepted ones and preprocessed ones."""
        found = {*os.listdir(f"{self.home.queue}/todo")}
        for _, _, names in os.walk(f"{self.home.queue}/info"):
            found.update(names)
        return found

    def files(self):
        """Return the names of all files in the queue but those in lock/."""
        found = []
        for folder in ("pid", "intd", "todo", "bounce", "mess", "info", "local", "remote"):
            for place, _, names in os.walk(f"{self.home.queue}/{folder}"):
                found += [os.path.relpath(f"{place}/{name}", self.home.queue) for name in names]
        return sorted(found)

    def empty(self):
        """Wait until nothing is in the queue."""
        until(lambda: not self.files())


@pytest.fixture
def make_system():
    """make_system(home, environ={}, prefix=()) -> a System; everything it started ends with the test."""
    made = []

    def make(*arguments, **more):
        made.append(System(*arguments, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def system(home, make_system):
    """A System in a private home, furnished, nothing started."""
    one = make_system(home)
    one.furnish()
    return one


MODES = ("worker_pool", "fork_each", "spawn_each")
SESSION = """
echo "hello $$ $TCPREMOTEIP"
while read word name; do
  case $word in
    env) eval "echo \\"\\${$name-unset}\\"" ;;
    limit) ulimit -S$name ;;
    exit) exit $name ;;
    close) exit 0 ;;
    *) echo $word $name ;;
  esac
done
exit 3
"""


class TcpServer:
    """A pytcpserver that serves the session of tests/tcp/session_server.py in one of MODES; log: what it says."""

    def __init__(self, mode, options, host, place, environ, how):
        (place / "no-variables").mkdir(exist_ok=True)
        program = {
            "worker_pool": ["session"],
            "fork_each": ["pyenvdir", "no-variables", "sh", "-c", SESSION],
            "spawn_each": ["sh", "-c", SESSION],
        }[mode]
        starter = f"{ROOT}/tests/tcp/session_server.py" if mode == "worker_pool" else f"{ROOT}/bin/pytcpserver"
        port_read, port_write = os.pipe()
        log_read, log_write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, starter, "-1", "-HRl0", *options, host, "0", *program],
            stdin=subprocess.DEVNULL,
            stdout=port_write,
            stderr=log_write,
            cwd=place,
            env={"PATH": PATH, **environ},
            **how,
        )
        os.close(port_write)
        os.close(log_write)
        self.log, self._clients = Lines(log_read), []
        with os.fdopen(port_read, "rb") as file:
            self.port = int(file.readline() or b"0")  # 0: it has ended

    def connect(self, ip="127.0.0.1"):
        """Return a client, nothing read yet.  ip: its own address."""
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        sock = socket.socket(family)
        sock.settimeout(SECONDS)
        sock.bind((ip, 0))
        sock.connect(("::1" if family == socket.AF_INET6 else "127.0.0.1", self.port))
        self._clients.append(TcpClient(sock))
        return self._clients[-1]

    def burst(self, count):
        """Connect so many while the server is stopped: it finds them all at once and shares them with helpers."""
        self.process.send_signal(signal.SIGSTOP)
        clients = [self.connect() for _ in range(count)]
        self.process.send_signal(signal.SIGCONT)
        assert all(client.greeting() for client in clients)
        return clients

    def refuses(self):
        """Wait until nobody listens any more; a connection is then refused."""

        def is_free():  # a connection to find out would be one more to serve
            with socket.socket() as sock, contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("127.0.0.1", self.port))
                return True

        until(is_free)
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) != 0

    def term(self):
        self.process.terminate()

    def ended(self):
        """Wait for the server's end; returns its exit code."""
        return self.process.wait(SECONDS)

    def close(self):
        for client in self._clients:
            client.close()
        self.process.kill()
        self.process.wait()
        self.log.finish()  # no process of it is left


class TcpClient:
    def __init__(self, sock):
        self.sock, self.file = sock, sock.makefile("rb")

    def line(self):
        return self.file.readline()

    def greeting(self):
        """Return the session's process; 0 if the server closed instead."""
        words = self.line().split()
        return int(words[1]) if words and words[0] == b"hello" else 0

    def ask(self, line):
        self.sock.sendall(line + b"\n")
        return self.line()

    def leave(self):
        assert self.ask(b"close") == b""

    def close(self):
        self.file.close()
        self.sock.close()


@pytest.fixture
def serve(tmp_path):
    """serve(mode, *options, host="127.0.0.1", env={}, **more for Popen) -> a TcpServer in tmp_path, for the test."""
    running = []

    def start(mode, *options, host="127.0.0.1", env=(), **how):
        running.append(TcpServer(mode, options, host, tmp_path, dict(env), how))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


OURS = [sys.executable, f"{ROOT}/bin/pytcpserver"]
THEIRS = ["tcpserver"]
# a program of the test's own, ./show, behind tcpserver and behind pytcpserver
# `worker_pool`: pysmtpd, which runs it as QMAILQUEUE
SHOWN = {
    "worker_pool": ([sys.executable, f"{ROOT}/bin/pysmtpd"], ["pysmtpd"]),
    "fork_each": (["envdir", "no-variables", "./show"], ["pyenvdir", "no-variables", "./show"]),
    "spawn_each": (["./show"], ["./show"]),
}
MESSAGE = b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@here.example>\r\nDATA\r\n.\r\nQUIT\r\n"


class Beside:
    """tcpserver or pytcpserver on a port of the kernel's choice.  text: what it has written to descriptor 2 so far.

    prefix: words before the command.  A port that is given is not asked for with -1.
    """

    def __init__(self, mode, command, words, place, prefix, port, how):
        self.mode, self.text, self._place = mode, b"", place
        self.is_told = any(re.match(r"-[a-zA-Z]*v", os.fsdecode(word)) for word in words)
        self._ended = 0
        self.process = subprocess.Popen(
            [*prefix, *command, *([] if port else ["-1"]), *words],
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "cwd": place,
                **how,
            },
        )
        self.port = port or int(self.process.stdout.readline() or b"0")
        assert self.port, self.process.stderr.read()

    def connect(self, source="127.0.0.1", host="127.0.0.1"):
        return socket.create_connection((host, self.port), timeout=SECONDS, source_address=(source, 0))

    def ask(self, data=b"", **where):
        """Send data and, if there was any, a half close; return all that comes until the end or a reset.

        If connections' ends are told, this one's is waited for, or another's.
        """
        with self.connect(**where) as sock:
            if data:
                with contextlib.suppress(OSError):  # it has closed already
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
            got = b""
            with contextlib.suppress(ConnectionError):
                while piece := sock.recv(65536):
                    got += piece
        if self.is_told:
            self._ended += 1
            self.wait_for(b"tcpserver: end ", self._ended)
        return got

    def shown(self, **where):
        """Return what ./show shows for a new connection; of pysmtpd's it is another program of the connection."""
        if self.mode != "worker_pool":
            return self.ask(**where)
        said = self.ask(MESSAGE, **where)
        if not said.endswith(b"221 here.example\r\n"):
            return said
        with open(self._place / "shown", "rb") as file:
            return file.read()

    def wait_for(self, mark, count=1):
        """Read lines until mark stands in them count times."""
        fd = self.process.stderr.fileno()
        self.text = read_until(fd, lambda text: text.count(mark) >= count, self.text)

    def lines(self, count=1):
        """Return the lines once count connections have ended; numbers and ports that differ between runs are words."""
        self.wait_for(b"tcpserver: end ", count)
        while b"tcpserver: status: 0/" not in self.text[self.text.rindex(b"tcpserver: end ") :]:
            self.wait_for(b"\n", self.text.count(b"\n") + 1)
        text = re.sub(rb":%d\b" % self.port, b":PORT", self.text)
        text = re.sub(rb"(pid|ok|deny|end) \d+", rb"\1 PID", text)
        return re.sub(rb":\d+\n", b":CLIENT\n", text).decode("latin-1")

    def stop(self):
        self.process.terminate()
        return self.process.wait(SECONDS)

    def close(self):
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdout, self.process.stderr):
            if file is not None:
                file.close()


@pytest.fixture
def beside(tmp_path, home):
    """beside(mode, options, show="env", program=None, host="127.0.0.1", env={}, prefix=(), **how) -> (theirs, ours)

    Each is a Beside in tmp_path with `show` as ./show; `only` leaves just 0, theirs, or 1.  program: instead of SHOWN.
    """
    running = []
    (tmp_path / "no-variables").mkdir(exist_ok=True)

    def start(
        mode,
        options=(),
        show="env",
        program=None,
        host="127.0.0.1",
        port=0,
        port_word=None,
        env=(),
        env_exactly=None,
        prefix=(),
        command=None,
        only=None,
        **how,
    ):
        redirection = f"exec >{tmp_path}/shown\ncat >/dev/null\n" if mode == "worker_pool" else ""
        (tmp_path / "show").write_text(f"#!/bin/sh\n{redirection}{show}\n")
        (tmp_path / "show").chmod(0o755)
        environ = {"PATH": PATH, "PYQMAIL_HOME": home.path, **dict(env)}
        if mode == "worker_pool":
            environ.setdefault("QMAILQUEUE", f"{tmp_path}/show")
        made = []
        for side in (0, 1):
            if only in (None, side):
                workers = ["--workers", "1"] if side and mode == "worker_pool" else []
                words = [
                    *workers,
                    *options,
                    host,
                    str(port) if port_word is None else port_word,
                    *(program or SHOWN[mode][side]),
                ]
                settings = {"env": environ if env_exactly is None else env_exactly, **how}
                first = command or (THEIRS, OURS)[side]
                made.append(Beside(mode, first, words, tmp_path, prefix, port, settings))
                running.append(made[-1])
        return made

    yield start
    for server in running:
        server.close()
