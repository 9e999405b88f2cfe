"""One function for each row of the table: run(folder, scale) -> {peer: figure}, higher is better unless it says so."""

import os
import shutil
import subprocess
import time

from bench import (
    destination_rows,
    flood_rows,
    listener_rows,
    load_rows,
    logging_rows,
    machine,
    rules,
    slow_rows,
    staged_rows,
    supervision_rows,
    tools,
)
from bench.machine import BIN, free_port, send, sink_words, start, stop, until
from bench.systems import BusierOurs, BusierPostfix, Ours, Postfix

SYSTEMS = (Ours, Postfix)


def accept_one(folder, scale):
    """Messages accepted a second, one for each session, 20 clients, mail left in the queue."""
    return _accept(folder, int(3000 * scale), keep_open=False)


def accept_hundred(folder, scale):
    """Messages accepted a second, a hundred for each session, 20 clients, mail left in the queue."""
    return _accept(folder, int(6000 * scale), keep_open=True)


def _accept(folder, count, keep_open):
    figures = {}
    for make in SYSTEMS:
        system = make(folder)
        try:
            system.accept()
            send(system.port, 50, 5, "warm@remote.example")
            before = system.queued()
            figures[system.name] = count / send(system.port, count, 20, "to@remote.example", keep_open)
            if system.queued() - before != count:
                raise SystemExit(f"bench: {system.name} has {system.queued() - before} messages of {count}")
        finally:
            system.stop()
    return figures


class Sink:
    """smtp-sink on a port of its own."""

    def __init__(self, folder, *options):
        self.port = free_port()
        argv = sink_words(*options, f"127.0.0.1:{self.port}", "1000")
        self._process = start(argv, os.path.join(folder, "sink.log"))
        until(lambda: machine.accepts(self.port))

    def stop(self):
        stop(self._process)


def relay(folder, scale):
    """Messages a second end to end: SMTP in, queue, SMTP out, 20 clients, one message for each session."""
    figures, count, sink = {}, int(3000 * scale), Sink(folder)
    try:
        for make in SYSTEMS:
            system = make(folder, sink.port)
            try:
                system.accept()
                system.deliver() if make is Ours else system.pass_through()
                send(system.port, 50, 5, "warm@remote.example")
                until(lambda system=system: system.queued() == 0)
                began = time.monotonic()
                send(system.port, count, 20, "to@remote.example")
                until(lambda system=system: system.queued() == 0)
                figures[system.name] = count / (time.monotonic() - began)
            finally:
                system.stop()
    finally:
        sink.stop()
    return figures


def drain(folder, scale):
    """Messages a second out of a full queue to an instant remote peer."""
    sink = Sink(folder)
    try:
        return _drain(folder, int(3000 * scale), sink.port, "to@remote.example", None)
    finally:
        sink.stop()


def local(folder, scale):
    """Messages a second out of a full queue into one Maildir."""
    return _drain(folder, int(3000 * scale), 0, None, "delivered_locally", (*SYSTEMS, BusierOurs, BusierPostfix))


def _drain(folder, count, sink_port, recipient, counter, systems=SYSTEMS):
    figures = {}
    for make in systems:
        system = make(folder, sink_port)
        try:
            system.accept()
            send(system.port, count, 20, recipient or system.local_recipient, keep_open=True)
            began = time.monotonic()
            system.deliver()
            until(lambda system=system: system.queued() == 0)
            figures[system.name] = count / (time.monotonic() - began)
            if counter and getattr(system, counter)() != count:
                raise SystemExit(f"bench: {system.name} delivered {getattr(system, counter)()} of {count}")
        finally:
            system.stop()
    return figures


def cold_start(folder, scale):
    """Milliseconds from start to greeting, pysmtpd alone; beside the bare interpreter; lower is better."""
    ours = Ours(folder)
    rounds = max(5, int(20 * scale))

    def once(argv, expect):
        began = time.monotonic()
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PATH": machine.PATH, "PYQMAIL_HOME": ours.home}
        )
        got = process.stdout.read(len(expect)) if expect else process.wait()
        taken = time.monotonic() - began
        if expect and got != expect:
            raise SystemExit("bench: pysmtpd did not greet")
        process.communicate(b"QUIT\r\n" if expect else b"")
        return taken * 1000

    pairs = [(once([f"{BIN}/pysmtpd"], b"220 "), once([f"{BIN}/python", "-c", "pass"], b"")) for _ in range(rounds)]
    middle = sorted(pairs)[len(pairs) // 2]
    return {"pyqmail": middle[0], "bare python": sorted(p for _, p in pairs)[len(pairs) // 2]}


ROWS = {
    "connections-1": (listener_rows.connections(1), ">= 1.0 x tcpserver"),
    "connections-20": (listener_rows.connections(20), ">= 1.0 x tcpserver"),
    "connections-200": (listener_rows.connections(200), ">= 1.0 x tcpserver"),
    "greetings": (listener_rows.greetings, ">= 3 x tcpserver"),
    "accept-one": (accept_one, ">= 1.2 x Postfix (by file)"),
    "accept-hundred": (accept_hundred, ">= 1.2 x Postfix (by file)"),
    "relay": (relay, ">= 2 x Postfix"),
    "drain": (drain, ">= 1.5 x Postfix"),
    "local": (local, ">= 2 x Postfix"),
    **destination_rows.DESTINATION_ROWS,
    **staged_rows.STAGED_ROWS,
    **slow_rows.SLOW_ROWS,
    "idle-sessions": (listener_rows.idle_sessions, "<= 20 KB, <= 50 ms"),
    "attack": (listener_rows.attack, "<= 2 x quiet, no growth"),
    **flood_rows.FLOOD_ROWS,
    "rule-lookup": (rules.rule_lookup, "flat: <= 1.5 x ten rules"),
    "cold-start": (cold_start, "bare python + 8 ms"),
    **supervision_rows.SUPERVISION_ROWS,
    **logging_rows.LOGGING_ROWS,
    **load_rows.LOAD_ROWS,
    "chain-tools": (tools.chain_tools, "bare python + 3 ms"),
}


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
