"""A staged incident: when does a single small message arrive?  python -m bench.incident [--scale X] [--mailing N]

In a network of its own: one provider answers 421 for ten minutes, another is dead, a third puts off what it does
not know, our own uplink fails for two minutes in between, and a mailing runs meanwhile, to these and to healthy sites.
At four moments one small message goes to each; pyqshape and pyqwhy are shown in between.  With --scale all times are
that much shorter, but for those that the sender has by itself.  Exit code 0: every small message arrived, except at the
dead provider, and nothing was bounced.
"""

import argparse
import os
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

REFUSER, DEAD, GREY = "198.18.0.1", "198.18.0.2", "198.18.0.3"
HEALTHY_SITES = 100
MINUTE = 60.0
REFUSER_NAME, GREY_NAME = f"session-limit@{REFUSER}", f"greylist@{GREY}"
UPLINK = "198.18.0.0/15", "10.0.0.0/8"
INSIDE = "--inside"


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.incident", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--mailing", type=int, default=50_000, metavar="N")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        try:
            words = [*words_of_network(), sys.executable, "-m", "bench.incident", INSIDE, *sys.argv[1:]]
        except Missing as what:
            print(f"incident: {what}", file=sys.stderr)
            return 111
        return subprocess.run(words, cwd=ROOT, check=False).returncode
    with tempfile.TemporaryDirectory(prefix="incident") as folder:
        os.chmod(folder, 0o755)
        incident = Incident(folder, options.scale, options.mailing)
        try:
            return incident.run()
        finally:
            incident.close()


class Incident:
    """What happens when, in minutes from the mailing on; small messages are known by their recipient."""

    def __init__(self, folder: str, scale: float, mailing: int) -> None:
        self.minute, self.mailing, self.folder = MINUTE * scale, mailing, folder
        healthy = [f"10.1.{n}.1" for n in range(HEALTHY_SITES)]
        self.servers = staged(
            f"session-limit limit=10 seconds=0.1 {REFUSER}",
            f"greylist wait={5 * self.minute:.0f} {GREY}",
            f"takes-all seconds=0.1 {' '.join(healthy)}",
        )
        self.healthy_name = f"takes-all@{healthy[0]}"
        self.more: list[Staged] = []
        self.places = {"refuser": host(REFUSER, "d"), "dead": host(DEAD, "d"), "grey": host(GREY, "d")}
        self.places["healthy"] = host(healthy[0], "d")
        self.healthy = [host(address, "d") for address in healthy]
        self.system = OursInNetwork(folder)
        self.sent: list[tuple[float, str, str]] = []  # when, to whom, what went on
        self.began = 0.0

    def close(self) -> None:
        self.system.stop()
        for server in (self.servers, *self.more):
            server.close()

    def run(self) -> int:
        self.system.accept()
        self.system.deliver()
        self.began = time.monotonic()
        self.send_mailing()
        self.send_small("before")
        self.at(1, "a provider begins to answer 421")
        self.servers.set(REFUSER_NAME, "reply", "421 4.3.2 not now")
        self.servers.set(REFUSER_NAME, "limit", 0)
        self.at(2, "")
        self.send_small("421")
        self.show("pyqshape")
        self.show("pyqwhy", self.places["refuser"])
        self.at(5, "our uplink fails")
        self.switch("del")
        self.at(5.5, "")
        self.send_small("uplink down")
        self.at(6, "")
        self.show("pyqwhy", self.places["healthy"])
        self.show("pyqwhy", self.places["dead"])
        self.at(7, "the uplink is back")
        self.switch("add")
        self.at(8, "")
        self.send_small("uplink back")
        self.show("pyqshape")
        self.show("pyqwhy", self.places["grey"])
        self.at(11, "the provider takes mail again")
        self.servers.set(REFUSER_NAME, "limit", 10)
        return self.judge()

    def judge(self) -> int:
        """Wait for the small messages, print when each came, and what became of the rest."""
        wanted = [(when, to, what) for when, to, what in self.sent if not to.endswith(self.places["dead"])]
        try:
            until(lambda: self.arrived().keys() >= {to for _, to, _ in wanted}, 60 * MINUTE, 0.5)
        except SystemExit:
            pass
        arrived, missing = self.arrived(), 0
        print(f"{'sent':>7}  {'while':12}  {'to':10}  arrived after")
        for when, to, what in self.sent:
            after = f"{arrived[to] - when:.1f} s" if to in arrived else "-"
            missing += to not in arrived and not to.endswith(self.places["dead"])
            name = next(name for name, domain in self.places.items() if to.endswith(f"@{domain}"))
            print(f"{self.minutes(when):6.1f}m  {what:12}  {name:10}  {after}")
        with open(self.system.log, encoding="ascii", errors="replace") as file:
            bounces = file.read().count(": failure: ")
        left = self.system.queued()
        print(f"\ndeferred {self.system.deferrals()}, failed {bounces}, messages left in the queue {left}")
        for name, counts in self.servers.counts().items():
            print(f"{name}: {', '.join(f'{key} {value}' for key, value in counts.items())}")
        return 1 if missing or bounces else 0

    # what it is made of

    def send_mailing(self):
        """Queue one message for all recipients of the mailing: a fifth for each troubled provider, the rest healthy."""
        troubled = [self.places[name] for name in ("refuser", "dead", "grey")]
        domains = [troubled[n % 5] if n % 5 < 3 else self.healthy[n % HEALTHY_SITES] for n in range(self.mailing)]
        path = os.path.join(self.folder, "envelope")
        with open(path, "wb") as file:
            file.write(b"Flist@bench.example\0")
            file.writelines(b"Tsubscriber%d@%b\0" % (n, domain.encode()) for n, domain in enumerate(domains))
            file.write(b"\0")
        with open(path, "rb") as envelope:
            environment = {"PATH": PATH, **self.system.environment}
            words = [f"{BIN}/pyqueue"]
            subprocess.run(words, input=b"Subject: news\n\nnews\n", stdout=envelope, check=True, env=environment)
        self.say(
            f"a mailing to {self.mailing}: a fifth each to one that will refuse, a dead and a greylisting provider"
        )

    def send_small(self, what):
        for domain in self.places.values():
            to = f"small{len(self.sent)}@{domain}"
            self.sent.append((time.monotonic(), to, what))
            send_mail(self.system.port, [to], sender="ann@person.example")

    def arrived(self):
        """Return when each small message came."""
        names = REFUSER_NAME, GREY_NAME, self.healthy_name
        arrivals = [one for name in names for one in self.servers.arrivals(name)]
        return {to: when for when, _, recipients in arrivals for to in recipients if to.startswith("small")}

    def switch(self, word):
        for network in UPLINK:
            subprocess.run(["ip", "route", word, "local", network, "dev", "lo"], check=True)

    def at(self, minutes, what):
        time.sleep(max(0.0, self.began + minutes * self.minute - time.monotonic()))
        if what:
            self.say(what)

    def minutes(self, when):
        return (when - self.began) / self.minute

    def say(self, what):
        print(f"{self.minutes(time.monotonic()):6.1f}m  {what}\n", flush=True)

    def show(self, *words):
        environment = {"PATH": PATH, **self.system.environment}
        asked = subprocess.run([f"{BIN}/{words[0]}", *words[1:]], capture_output=True, check=False, env=environment)
        said = (asked.stdout + asked.stderr).decode().splitlines()
        print(f"{self.minutes(time.monotonic()):6.1f}m  $ {' '.join(words)}")
        print("".join(f"    {line}\n" for line in said[:20]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
