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
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = f"{ROOT}/bin:{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
SECONDS = 30


def until(holds, seconds=SECONDS):
    """Ask holds() until what it gives is true, and return that; fail after so many seconds."""
    limit = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < limit, f"not within {seconds} seconds"
        select.select([], [], [], 0.01)
    return found


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

    until = staticmethod(until)

    def __init__(self, home, environ=None, prefix=()):
        self.home, self._prefix = home, list(prefix)
        self.environ = {"PATH": PATH, "PYTHONPATH": ROOT, "PYQMAIL_HOME": home.path, **(environ or {})}
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
        """Start svscan or pysvscan on the services, their scripts changed by edit(text); wait until all of them work."""
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
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/environ", "rb") as environ, open(f"/proc/{pid}/comm", encoding="ascii") as comm:
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
