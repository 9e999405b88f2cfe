"""Seconds until a mail is delivered while thousands of others go to name servers or hosts that never answer.

Real pystart, a name server that is a socket nobody reads, hosts that are a listener nobody serves: each silent
destination has an address of its own in 127.1/16.
"""

import smtplib
import socket
import threading
import time

from bench.machine import until
from bench.systems import Ours

PLACES, DEAD_ZONES, SILENT_HOSTS = 100, 3000, 2000
RECIPIENTS = 100  # in one message


class Sender(Ours):
    """Ours, with a name server of the row's, and routes."""

    def __init__(self, folder, sink_port, name_server_port, routes=""):
        super().__init__(folder, sink_port)
        self.environment["PYQMAIL_DNS"] = f"127.0.0.1:{name_server_port}"
        self._write("rcpthosts", "remote.example\n.remote.example\n.silent.example\n.dead.example\n")
        sink = f"127.0.0.1:{sink_port}"
        self._write("smtproutes", f"remote.example:{sink}\n.remote.example:{sink}\n{routes}")
        self._write("concurrencyremote", f"{PLACES}\n")

    def send(self, recipients):
        with smtplib.SMTP("127.0.0.1", self.port) as client:
            for at in range(0, len(recipients), RECIPIENTS):
                client.sendmail("from@bench.example", recipients[at : at + RECIPIENTS], "Subject: bench\n\nhello\n")

    def says(self, text) -> int:
        with open(self.log, encoding="ascii", errors="replace") as file:
            return file.read().count(text)


class Sink:
    """An SMTP server on a port of 127.0.0.1 that takes everything; `times` has when each message came."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.times = self._listener.getsockname()[1], []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listener.close()

    def _serve(self):
        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock):
        with sock, sock.makefile("rb") as lines:
            sock.sendall(b"220 sink\r\n")
            while line := lines.readline():
                word = line[:4].upper()
                sock.sendall(b"354 go\r\n" if word == b"DATA" else b"250 ok\r\n")
                if word == b"DATA":
                    while lines.readline() not in (b".\r\n", b""):
                        pass
                    self.times.append(time.monotonic())
                    sock.sendall(b"250 ok\r\n")
                elif word == b"QUIT":
                    return


def dead_zones(folder, scale):
    """A mail with a route, while thousands of domains have name servers that are silent; the longest of five."""
    recipients = [f"u@d{i}.dead.example" for i in range(int(DEAD_ZONES * scale))]
    return {"pyqmail": _longest(folder, recipients, "", [f"to@d{i}.remote.example" for i in range(5)])}


def silent_hosts(folder, scale):
    """A mail to a host that has greeted, while thousands never greet, with a hundred places; the longest of five."""
    count = int(SILENT_HOSTS * scale)
    with socket.create_server(("0.0.0.0", 0), backlog=4096) as silent:
        port = silent.getsockname()[1]
        routes = "".join(f"s{i}.silent.example:127.1.{i >> 8}.{i & 255}:{port}\n" for i in range(count))
        recipients = [f"u@s{i}.silent.example" for i in range(count)]
        return {"pyqmail": _longest(folder, recipients, routes, 5 * ["to@remote.example"])}


def _longest(folder, recipients, routes, good):
    """Return the longest time to one of good, each sent by itself after recipients."""
    sink = Sink()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as name_server:
        name_server.bind(("127.0.0.1", 0))
        system = Sender(folder, sink.port, name_server.getsockname()[1], routes)
        try:
            system.accept()
            system.deliver()
            _seconds(system, sink, "to@remote.example")  # now it has greeted
            system.send(recipients)
            until(lambda: system.says("info msg") == 1 + -(-len(recipients) // RECIPIENTS))
            tries = zip(good, (0, 1, 2, 3, 3), strict=False)
            return max(_seconds(system, sink, recipient, pause) for recipient, pause in tries)
        finally:
            system.stop()
            sink.close()


def _seconds(system, sink, recipient, pause=0):
    time.sleep(pause)
    count, began = len(sink.times), time.monotonic()
    system.send([recipient])
    until(lambda: len(sink.times) > count)
    return sink.times[-1] - began


DESTINATION_ROWS = {
    "dead-zones": (dead_zones, "<= 1 s"),
    "silent-hosts": (silent_hosts, "<= 1 s"),
}
