"""A network namespace in which every address of 198.18.0.0/15 is there, and belongs to no interface."""

import subprocess

from bench.machine import Missing, tool

SET_UP = "ip link set lo up && ip route add local 198.18.0.0/15 dev lo && echo ready && exec cat"


class Network:
    """prefix: words before a command, which then runs there; close() ends it.  Raises Missing if it cannot be had."""

    def __init__(self) -> None:
        for name, package in (("unshare", "util-linux"), ("nsenter", "util-linux"), ("ip", "iproute2")):
            tool(name, package)
        words = ["unshare", "-rn", "sh", "-c", SET_UP]
        self._holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self._holder.stdout.readline() != b"ready\n":
            trouble = self._holder.communicate()[1].decode(errors="replace").strip()
            raise Missing(f"no network namespace: {trouble}")
        self.prefix = ["nsenter", "--preserve-credentials", "-U", "-n", "-t", str(self._holder.pid)]

    def close(self) -> None:
        self._holder.communicate()
