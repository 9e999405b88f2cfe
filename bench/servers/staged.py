"""A process of staged servers, as one who started it sees it."""

import json
import os
import subprocess
import sys

from bench.machine import ROOT


class Staged:
    """python -m bench.servers with these lines, started behind prefix (Network.prefix); port is where all listen.

    names: where the name server listens, address:port; empty for none.  is_shared: several share addresses and port.
    """

    def __init__(self, *lines: str, prefix=(), port: int = 0, names: str = "", is_shared: bool = False) -> None:
        more = (["--names", names] if names else []) + (["--shared"] if is_shared else [])
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "bench.servers", "--controlled", "--port", str(port), *more, *lines],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        self.port = self._heard()["port"]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return {name of a server: its counts (session.py, Server)}."""
        return self._ask("counts")

    def arrivals(self, name: str) -> list[list]:
        """Return [monotonic seconds, sender, recipients] of each message that a server took."""
        return self._ask(f"arrivals {name}")

    def set(self, name: str, option: str, value) -> None:
        """Change an option of a server's model."""
        self._ask(f"set {name} {option}={value}")

    def cpu_seconds(self) -> float:
        """Return how long it has worked so far."""
        with open(f"/proc/{self._process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> int:
        """End it; return its exit code."""
        self._process.communicate()
        return self._process.returncode

    def _ask(self, words):
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()
        return self._heard()

    def _heard(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the staged servers have gone")
        said = json.loads(line)
        if isinstance(said, dict) and "error" in said:
            raise LookupError(said["error"])
        return said
