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
import asyncio
import ipaddress
import json
import os
import resource
import shlex
import signal
import sys
import time

from bench.servers.models import MODELS, set_option
from bench.servers.names import Names
from bench.servers.session import Server, Session

BACKLOG = 4096
COMMAND_BYTES = 65536


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
    asyncio.run(serve([made for line in options.lines for made in servers_of(line, log)], options))
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


async def serve(servers, options):
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    port = options.port
    for server, addresses in servers:
        for address in addresses:
            make = lambda server=server: Session(server, loop)  # noqa: E731
            listening = await loop.create_server(make, address, port, backlog=BACKLOG, reuse_port=options.shared)
            port = listening.sockets[0].getsockname()[1]
    if options.names:
        address, _, names_port = options.names.rpartition(":")
        await loop.create_datagram_endpoint(Names, local_addr=(address, int(names_port)))
    if options.controlled:
        control = Control({server.name: server for server, _ in servers}, ended)
        say({"port": port})
        loop.add_reader(0, control.read)
    await ended.wait()


class Control:
    """Obeys what comes on descriptor 0."""

    def __init__(self, servers: dict[str, Server], ended: asyncio.Event) -> None:
        self._servers, self._ended, self._held = servers, ended, b""

    def read(self) -> None:
        data = os.read(0, COMMAND_BYTES)
        if not data:
            asyncio.get_running_loop().remove_reader(0)
            self._ended.set()
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
