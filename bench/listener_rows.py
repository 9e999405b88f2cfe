"""The rows about the connection server.  run(folder, scale) -> {peer: figure}, as in rows.py."""

import os
import resource
import socket
import subprocess
import time

from bench import machine
from bench.machine import build, free_port, start, stop, tool, until
from bench.systems import Ours

_PROBE = b"220 "


def connections(clients):
    """Return the row: connections a second with so many clients at once, a tiny C program behind the server."""

    def run(folder, scale):
        tiny, storm = build("tiny", folder), build("storm", folder)
        figures = {}
        for name, server in (("pyqmail", "pytcpserver"), ("tcpserver", tool("tcpserver", "ucspi-tcp"))):
            figures[name] = _storm(folder, [server, *_OPTIONS, "-c", "250"], [tiny], storm, clients, int(3000 * scale))
        return figures

    return run


def greetings(folder, scale, clients=20):
    """Sessions a second: greeting and QUIT by pysmtpd; beside a C program that only greets behind tcpserver."""
    tiny, storm = build("tiny", folder), build("storm", folder)
    home, count = Ours(folder).home, int(3000 * scale)
    ours = ["pytcpserver", *_OPTIONS, "-c", "20000"]
    figure = _storm(folder, ours, ["pysmtpd"], storm, clients, count, "quit", PYQMAIL_HOME=home)
    theirs = [tool("tcpserver", "ucspi-tcp"), *_OPTIONS, "-c", "250"]
    return {"pyqmail": figure, "tcpserver": _storm(folder, theirs, [tiny], storm, clients, count)}


_OPTIONS = ("-RHl0", "-b", "500")


def _storm(folder, server, program, storm, clients, count, *how, **environment):
    port = free_port()
    argv = [*server, "127.0.0.1", str(port), *program]
    process = start(argv, os.path.join(folder, "server.log"), **environment)
    try:
        until(lambda: machine.accepts(port))
        argv = [storm, "127.0.0.1", str(port), str(clients), str(count), *how]
        seconds, greeted = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    finally:
        stop(process)
    if int(greeted) != count:
        raise SystemExit(f"bench: {count - int(greeted)} of {count} connections were not greeted")
    return count / float(seconds)


def idle_sessions(folder, scale):
    """KB for one of 10,000 idle SMTP sessions, all cost counted, both sockets too; and the p99 of a new client's
    greeting meanwhile, milliseconds.  Lower is better."""
    count = int(10000 * scale)
    _raise_descriptors()
    system, socks = Ours(folder), []
    try:
        system.accept()
        greet(system.port)
        before, before_pss = _available_kb(), machine.memory_kb(machine.session_pids(system.server.pid))
        for _ in range(count):
            socks.append(_greeted(system.port))
        after, after_pss = _available_kb(), machine.memory_kb(machine.session_pids(system.server.pid))
        meanwhile = _p99([greet(system.port) for _ in range(500)])
    finally:
        for sock in socks:
            sock.close()
        system.stop()
    return {
        "pyqmail": (before - after) / count,
        "its processes alone": (after_pss - before_pss) / count,
        "p99 ms of a greeting": meanwhile,
    }


def attack(folder, scale):
    """p99 of good clients, milliseconds, under 2,000 slow clients and 500 resets a second; and quiet.

    Descriptors and memory of the server's processes are compared before and after.
    """
    _raise_descriptors()
    seconds, slow, resets = 60 * min(1, scale), 2000, 500
    program, system = build("attack", folder), Ours(folder)
    try:
        system.accept()
        for _ in range(50):
            greet(system.port)
        quiet = _p99(list(_good_clients(system.port, seconds / 2)))
        pids = machine.session_pids(system.server.pid)
        argv = [program, "127.0.0.1", str(system.port), str(slow), str(resets), str(seconds)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as enemy:
            if enemy.stdout.readline() != "ready\n":
                raise SystemExit("bench: the attack did not begin")
            taken = list(_good_clients(system.port, 5))
            before = _descriptors(pids), machine.memory_kb(pids)
            taken += _good_clients(system.port, seconds - 10)
            after = _descriptors(pids), machine.memory_kb(pids)
            still_open, _, done = map(int, enemy.stdout.readline().split())
    finally:
        system.stop()
    if still_open != slow or done < resets * seconds * 0.9:
        raise SystemExit(f"bench: {still_open} slow clients of {slow}, {done} resets")
    return {
        "pyqmail, attacked": _p99(taken),
        "quiet": quiet,
        "more descriptors": after[0] - before[0],
        "more KB": after[1] - before[1],
    }


def _good_clients(port, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield greet(port)
        time.sleep(0.02)


def greet(port: int) -> float:
    """Go through one session, greeting and QUIT; returns the milliseconds to the greeting."""
    began = time.monotonic()
    sock = _greeted(port)
    taken = time.monotonic() - began
    sock.sendall(b"QUIT\r\n")
    while sock.recv(200):
        pass
    sock.close()
    return taken * 1000


def _greeted(port):
    sock = socket.create_connection(("127.0.0.1", port), 30)
    if not sock.recv(200).startswith(_PROBE):
        raise SystemExit("bench: a session was not greeted")
    return sock


def _p99(figures):
    return sorted(figures)[int(len(figures) * 0.99)]


def _raise_descriptors():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _descriptors(pids):
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def _available_kb():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
