"""A tour of some seconds: a provider's limit is found, a dead site is parked, and pyqwhy tells so.  make tour

Everything runs in a network of its own, with staged peers and a name server (bench/servers), and in a home that is
removed at the end.  Root is not needed where namespaces of users are allowed.  Exit code 0: all of it was seen; 1:
something was not; 111: this machine does not allow it.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from bench.machine import BIN, PATH, ROOT, Missing, until
from bench.mailing import send_mail
from bench.networked import words_of_network
from bench.servers.staged import Staged
from bench.staged_rows import host, staged
from bench.systems import OursInNetwork

PROVIDER, DEAD, HEALTHY = "198.18.0.1", "198.18.0.2", "198.18.0.3"
PROVIDER_LIMIT, PROVIDER_MAILS, DEAD_MAILS = 5, 150, 20
SECONDS = 60.0
INSIDE = "--inside"


def main() -> int:
    if sys.argv[1:] != [INSIDE]:
        try:
            words = words_of_network()
        except Missing as what:
            print(f"tour: {what}", file=sys.stderr)
            return 111
        return subprocess.run([*words, sys.executable, "-m", "bench.tour", INSIDE], cwd=ROOT, check=False).returncode
    with tempfile.TemporaryDirectory(prefix="tour") as folder:
        os.chmod(folder, 0o755)
        tour = Tour(folder)
        try:
            return tour.run()
        finally:
            tour.close()


class Tour:
    """What is shown; missed: what of it was not seen."""

    def __init__(self, folder: str) -> None:
        self.missed: list[str] = []
        limited = f"session-limit limit={PROVIDER_LIMIT} seconds=0.3 {PROVIDER}"
        self.servers = [staged(limited, f"takes-all {HEALTHY}")]
        self.system = OursInNetwork(folder)
        self.provider, self.dead, self.healthy = host(PROVIDER, "d"), host(DEAD, "d"), host(HEALTHY, "d")

    def close(self) -> None:
        self.system.stop()
        for server in self.servers:
            server.close()

    def run(self) -> int:
        self.system.accept()
        self.system.deliver()
        self.find_a_limit()
        self.park_a_dead_site()
        self.serve_the_others()
        self.wake_the_dead()
        tell("All of it was seen." if not self.missed else f"Not seen: {'; '.join(self.missed)}.")
        return 1 if self.missed else 0

    def find_a_limit(self):
        tell(
            f"1. A provider takes {PROVIDER_LIMIT} sessions at once and refuses more; nobody told us.",
            f"{PROVIDER_MAILS} messages for {self.provider}:",
        )
        send_mail(self.system.port, [f"u{n}@{self.provider}" for n in range(PROVIDER_MAILS)])
        learned = self.wait(lambda: self.learned() == PROVIDER_LIMIT, "the provider's limit is learned")
        self.show("pyqwhy", self.provider)
        self.wait(lambda: self.counts("session-limit", PROVIDER)["messages"] == PROVIDER_MAILS, "all is delivered")
        counts = self.counts("session-limit", PROVIDER)
        tell(
            f"The server counted {counts['most']} sessions at once at most and refused {counts['refused']} of "
            f"{counts['sessions']}; it took {counts['messages']} messages; {self.system.deferrals()} were put off."
        )
        if learned:
            self.lines("ceiling|window")
        self.check(counts["most"] <= PROVIDER_LIMIT + counts["refused"] and counts["refused"] <= 2, "few are refused")
        self.check(self.system.deferrals() == 0, "nothing was put off")

    def park_a_dead_site(self):
        tell(f"2. Nobody listens at {self.dead}.  {DEAD_MAILS} messages for it are parked, none is put off:")
        send_mail(self.system.port, [f"u{n}@{self.dead}" for n in range(DEAD_MAILS)])
        self.wait(lambda: self.said(f"{re.escape(DEAD.replace('.', '-'))}.*: dead"), "the site counts as dead")
        self.lines("dead")
        self.show("pyqwhy", self.dead)
        self.wait(lambda: "dead" in self.ask("pyqwhy", self.dead), "pyqwhy tells that it is dead")
        self.check(self.system.deferrals() == 0, "its mail was not put off")

    def serve_the_others(self):
        began = time.monotonic()
        send_mail(self.system.port, [f"u@{self.healthy}"])
        self.wait(lambda: self.counts("takes-all", HEALTHY)["messages"] == 1, "mail for others goes on")
        tell(
            f"3. A message for {self.healthy} took {time.monotonic() - began:.2f} s meanwhile.",
            "What waits, and who is busy:",
        )
        self.show("pyqshape")
        self.show("pysendtop", "--once")

    def wake_the_dead(self):
        tell("4. The host is back, and the administrator sends ALRM to pysend:")
        self.servers.append(Staged(f"takes-all {DEAD}", port=25))
        os.kill(self.system.sender.pid, signal.SIGALRM)
        self.wait(lambda: self.counts("takes-all", DEAD, 1)["messages"] == DEAD_MAILS, "the parked mail is delivered")
        self.lines("alive")

    # what it is made of

    def counts(self, model, address, place=0):
        return self.servers[place].counts()[f"{model}@{address}"]

    def learned(self):
        entries = json.loads(self.ask("pyqwhy", "--json", self.provider) or "{}").get("entries", [])
        return next((budget["learned"] for entry in entries for budget in entry["budgets"] if budget["learned"]), None)

    def ask(self, *words):
        environment = {"PATH": PATH, **self.system.environment}
        asked = subprocess.run([f"{BIN}/{words[0]}", *words[1:]], capture_output=True, check=False, env=environment)
        return asked.stdout.decode()

    def show(self, *words):
        """Show a command and what it says."""
        print(f"    $ {' '.join(words)}")
        said = self.ask(*words)
        self.check(bool(said), f"{words[0]} answers")
        print("".join(f"    {line}\n" for line in said.splitlines()), flush=True)

    def said(self, pattern):
        """Return the lines of pysend's log in which a pattern stands."""
        with open(self.system.log, encoding="ascii", errors="replace") as file:
            return [line for line in file if re.search(pattern, line)]

    def lines(self, pattern):
        print("    the log of pysend:")
        print("".join(f"    {line}" for line in self.said(f"^site .*({pattern})")[-3:]), flush=True)

    def wait(self, question, what) -> bool:
        try:
            until(question, SECONDS, 0.05)
        except SystemExit:
            self.missed.append(what)
            return False
        return True

    def check(self, is_so, what):
        if not is_so:
            self.missed.append(what)


def tell(*lines) -> None:
    print("\n".join(lines), end="\n\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
