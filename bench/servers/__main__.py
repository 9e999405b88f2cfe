"""python -m bench.servers [--port N] [--shared] [--names ADDRESS:PORT] [--controlled] LINE...: serve until TERM.

A LINE is MODEL [each] [KEY=VALUE ...] ADDRESS...; an ADDRESS may be a network, 198.18.4.0/22.  All addresses of a line
are one server, with one count, named MODEL@ADDRESS after its first; with `each`, every address is one of its own.
Without --port all listen on port 25; 0 takes one that is free.  What a server counts for the first time is logged on
descriptor 2.  A VALUE with blanks stands in quotes.

--shared: other processes may listen at the same addresses; the kernel shares the connections among them.

--controlled: descriptor 0 has commands, a line each (counts; arrivals NAME; set NAME KEY=VALUE), descriptor 1 the
answers, in JSON; the first is {"port": N}.  It ends when descriptor 0 does.
"""

import argparse
import ipaddress
import json
import os
import resource
import shlex
import signal
import sys
import time

from bench.servers.names import Names
from bench.servers.session import Server
from pyqmail.load_tools.acceptor import Acceptor
from pyqmail.load_tools.server_models import FOREVER, MODELS, set_option
from pyqmail.load_tools.smtp_sink import SinkSession
from pyqmail.load_tools.targets import IP4, find, listen_socket
from pyqmail.system.loop import READ, Loop

BACKLOG = 4096
COMMAND_BYTES = 65536
MAX_SESSIONS = 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.servers", description=__doc__)
    parser.add_argument("lines", nargs="+", metavar="LINE", help=" ".join(MODELS))
    parser.add_argument("--port", type=int, default=25)
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--names", default="", metavar="ADDRESS:PORT")
    parser.add_argument("--controlled", action="store_true")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log = (lambda line: None) if options.controlled else (lambda line: print(line, file=sys.stderr, flush=True))
    serve([made for line in options.lines for made in servers_of(line, log)], options)
    return 0


def servers_of(line: str, log):
    """Yield (Server, addresses) of a line.  Raises LookupError, ValueError for what is none."""
    model, *words = shlex.split(line)
    is_each = "each" in words
    options = [word.split("=", 1) for word in words if "=" in word]
    networks = [ipaddress.ip_network(word) for word in words if word != "each" and "=" not in word]
    addresses = [str(address) for network in networks for address in network]
    for group in [[address] for address in addresses] if is_each else [addresses]:
        made = MODELS[model](time.monotonic)
        for name, text in options:
            set_option(made, name, text)
        yield Server(f"{model}@{group[0]}", made, log), group


def serve(servers, options):
    loop = Loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.on_signal(number, loop.stop)
    port = options.port
    for server, addresses in servers:
        for address in addresses:
            sock = listen_socket(find(f"{address}:{port}", IP4, port), BACKLOG, None, options.shared)
            port = sock.getsockname()[1]
            Acceptor(loop, sock, server, SinkSession, lambda session, content: None, MAX_SESSIONS, FOREVER)
    if options.names:
        address, _, names_port = options.names.rpartition(":")
        Names(loop, address, int(names_port))
    if options.controlled:
        control = Control({server.name: server for server, _ in servers}, loop)
        say({"port": port})
        loop.watch(0, READ, control.read)
    loop.run()


class Control:
    """Obeys what comes on descriptor 0."""

    def __init__(self, servers: dict[str, Server], loop: Loop) -> None:
        self._servers, self._loop, self._held = servers, loop, b""

    def read(self, _: int) -> None:
        data = os.read(0, COMMAND_BYTES)
        if not data:
            self._loop.stop()
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            try:
                say(self._obey(*line.decode().split()))
            except (LookupError, ValueError, TypeError) as error:
                say({"error": f"{line.decode()}: {error!r}"})

    def _obey(self, command, name="", *setting):
        if command == "counts":
            return {name: server.counts() for name, server in self._servers.items()}
        server = self._servers[name]
        if command == "arrivals":
            return server.arrivals
        option, _, value = " ".join(setting).partition("=")
        set_option(server.model, option, value)
        return {}


def say(what) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    sys.exit(main())
