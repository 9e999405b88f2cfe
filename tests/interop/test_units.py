"""The units of `pyqmail units` at work: started, told and stopped as systemd does it, as none runs where tests do.

Manager does what the units say and nothing else: a clean environment, the working directory, the sockets,
NOTIFY_SOCKET.
"""

import os
import re
import signal
import socket
import struct
import subprocess

import pytest

from tests.waiting import until

SECONDS = 30


class Unit:
    """What stands in one: key -> values."""

    def __init__(self, path):
        self.values = {}
        with open(path, encoding="utf-8") as file:
            for line in file.read().splitlines():
                key, mark, value = line.partition("=")
                if mark:
                    self.values.setdefault(key, []).append(value.strip('"').replace("%%", "%"))

    def __getitem__(self, key):
        return self.values[key][-1]


class Manager:
    """Starts units from a directory in place of systemd.  log: what all of them say."""

    def __init__(self, folder, environ):
        self._folder, self._environ, self.processes, self.ready = folder, environ, {}, []
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._notices.settimeout(SECONDS)
        self._notices.bind(f"{folder}/notify")
        self.log = open(f"{folder}/log", "w+b")
        self.sockets = {}

    def listen(self, name):
        unit = Unit(f"{self._folder}/{name}.socket")
        self.sockets[name] = []
        for value in unit.values["ListenStream"]:
            host, _, port = value.rpartition(":")
            self.sockets[name].append(socket.create_server((host, int(port))))

    def start(self, name):
        unit = Unit(f"{self._folder}/{name}.service")
        environ = {**self._environ, **dict(word.split("=", 1) for word in unit.values["Environment"])}
        if unit["Type"] == "notify":
            environ["NOTIFY_SOCKET"] = f"{self._folder}/notify"
        sockets = self.sockets.get(name, [])
        if sockets:
            environ["LISTEN_FDS"] = str(len(sockets))

        def pass_on():
            for number, sock in enumerate(sockets, 3):
                os.dup2(sock.fileno(), number)

        self.processes[name] = subprocess.Popen(
            ["/bin/sh", "-c", 'export LISTEN_PID=$$; exec "$0"', unit["ExecStart"]],
            env=environ,
            cwd=unit["WorkingDirectory"],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            close_fds=False,  # all others are close-on-exec
            preexec_fn=pass_on,
        )
        if unit["Type"] == "notify":
            self._wait_until_ready(name)

    def _wait_until_ready(self, name):
        """NotifyAccess=main: only what the process itself says counts."""
        data, ancillary, _, _ = self._notices.recvmsg(4096, 256)
        pid = struct.unpack("iII", ancillary[0][2])[0]
        assert (data, pid) == (b"READY=1", self.processes[name].pid)
        self.ready.append(name)

    def stop(self, name):
        """KillMode=mixed: SIGTERM to the process alone."""
        process = self.processes[name]
        process.send_signal(signal.SIGTERM)
        return process.wait(SECONDS)

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        for sock in [self._notices, *(sock for some in self.sockets.values() for sock in some)]:
            sock.close()
        self.log.close()

    def said(self):
        with open(self.log.name, "rb") as file:
            return file.read()


@pytest.fixture
def services(system):
    system.make_services()
    return system


@pytest.fixture
def manage(services, tmp_path):
    """manage(*options) -> a Manager of the units for the services of a system."""
    made = []

    def make(*options):
        (tmp_path / "units").mkdir()
        done = services.run("pyqmail", "units", *options, "--to", str(tmp_path / "units"), services.services)
        assert done.returncode == 0, done
        # where systemd has the programs' interpreter and modules from is the machine's business
        made.append(Manager(str(tmp_path / "units"), {}))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("options", [(), ("--sockets",)], ids=["listening itself", "with sockets"])
def test_mail_arrives(services, manage, tmp_path, options):
    manager = manage(*options)
    if options:
        manager.listen("pysmtpd")
    for name in ("pyqueued", "pysend", "pysmtpd"):
        manager.start(name)
    assert manager.ready == ["pysmtpd"]
    assert services.accepts()
    until(lambda: b"pyqueued: status: listening\n" in manager.said())
    services.mail(b"ann@client.example", [b"demo@here.example"], b"Subject: x\r\n")
    assert services.arrived()[0].endswith(b"Subject: x\n")
    until(lambda: b"end msg " in manager.said())
    with socket.create_connection(services.address, timeout=SECONDS) as session:
        assert session.recv(1000).startswith(b"220 ")
        assert Unit(f"{tmp_path}/units/pysmtpd.service")["KillMode"] == "process"  # nobody else is signalled
        assert manager.stop("pysmtpd") == 0
        session.sendall(b"NOOP\r\nQUIT\r\n")  # who was there goes on to the end
        assert b"".join(iter(lambda: session.recv(1000), b"")).count(b"\r\n") == 2
    until(lambda: services.accepts() == bool(options))
    if options:  # who came meanwhile is served by the next one
        with socket.create_connection(services.address, timeout=SECONDS) as early:
            manager.start("pysmtpd")
            assert early.recv(4) == b"220 "
        assert manager.stop("pysmtpd") == 0
    assert manager.stop("pysend") == 0
    assert manager.stop("pyqueued") in (0, -signal.SIGTERM)
    until(lambda: not services.pids())
    assert re.search(rb"^status: exiting\n", manager.said(), re.MULTILINE)
