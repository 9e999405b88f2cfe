"""Limits of destinations with real sockets: a whole system, and staged servers that count for themselves.

Scenarios 1, 2, 5, 9, 25, 26, 27 and 28 of the specification of destinations (9.3), with times divided by ten where they
are long.  pystart runs in a network namespace in which every address of 198.18.0.0/15 is there, with the servers and
the name server of bench/servers.  What holds is read from the servers' counts, never from ours.

Untested here: what needs an hour (the world of bench/destinations has that), and other machines.
"""

import re
import subprocess
import time

import pytest

from bench.servers.staged import Staged
from tests.waiting import until

DATA = b"Subject: x\r\n\r\nhello\r\n"
SECONDS = 120


class Staging:
    """A system whose remote mail goes to staged servers; places: what control/concurrencyremote says."""

    def __init__(self, system, network):
        self.system, self.network, self.servers = system, network, None

    def serve(self, *lines):
        self.servers = Staged(*lines, prefix=self.network.prefix, port=25, names="127.0.0.1:53")

    def start(self, rules=b"", responses=b"", places=100, routes=b""):
        """Write the controls and start all but pystart: so that mail can be there before it."""
        system = self.system
        system.control("concurrencyremote", b"%d\n" % places)
        system.control("smtproutes", routes)
        system.control("destinations", rules)
        if responses:
            system.control("responses", responses)
        compiled = system.run("pydestrules")
        assert compiled.returncode == 0, compiled.stderr
        system.start_queue()
        system.start_smtp()

    def start_sender(self):
        system = self.system
        environ = {**system.environ, "PYQMAIL_DNS": "127.0.0.1"}
        words = *self.network.prefix, "pystart", "--sessions", "2", "./Maildir/"
        system.sender, system.log = system.says(*words, env=environ)
        system.log.find(rb"status: local 0/[0-9]+ remote 0/[0-9]+\n")

    def send(self, *recipients, sender=b"ann@here.example"):
        """Send one message for each recipient."""
        with self.system.client() as client:
            for recipient in recipients:
                client.mail(sender, [recipient], DATA)

    def send_to_all(self, recipients, sender=b"ann@here.example"):
        """Queue one message for all of these recipients."""
        place = f"{self.system.home.path}/to-be-queued"
        with open(place, "wb") as file:
            file.write(b"F%b\0%b\0" % (sender, b"".join(b"T%b\0" % one for one in recipients)))
        with open(place, "rb") as envelope:
            how = {"stdin": subprocess.PIPE, "stdout": envelope, "stderr": subprocess.PIPE, "env": self.system.environ}
            queue = subprocess.Popen(self.system.command(["pyqueue"]), **how)
            assert queue.communicate(DATA.replace(b"\r", b""))[1] == b"" and queue.returncode == 0

    def counts(self, name):
        return self.servers.counts()[name]

    def taken(self, name, count):
        """Wait until a server took so many messages."""
        until(lambda: self.counts(name)["messages"] >= count, self.told, seconds=SECONDS)

    def empty(self):
        """Wait until the queue is."""
        until(lambda: not self.system.files(), self.told, seconds=SECONDS)

    def deferrals(self):
        return len(re.findall(rb"(?m)^delivery [0-9]+: deferral: ", self.system.log.text))

    def failures(self):
        return len(re.findall(rb"(?m)^delivery [0-9]+: failure: ", self.system.log.text))

    def told(self):
        return f"{self.servers.counts()}\n{self.system.log.text[-3000:].decode(errors='replace')}"

    def close(self):
        if self.servers is not None:
            self.servers.close()


@pytest.fixture
def staging(system, own_network):
    """A Staging with nothing started."""
    one = Staging(system, own_network)
    yield one
    one.system.close()
    one.close()


def on(address, *labels):
    """Return a domain whose mail one host takes."""
    return b".".join([*labels, b"h" + address.replace(b".", b"-"), b"test"])


HOST = b"198.18.0.1"


def within(counts, limit, refusals):
    """Assert that a server with a limit of sessions refused so many at most, and never had more but those."""
    assert counts["refused"] <= refusals, counts
    assert counts["most"] <= limit + counts["refused"], counts


def taken_seconds(staging, name):
    """Return the seconds from the first message that a server took to its last."""
    times = [when for when, _, _ in staging.servers.arrivals(name)]
    return times[-1] - times[0]


LONG = pytest.mark.long
FIVE = "session-limit@198.18.0.1"


@pytest.mark.parametrize("count, seconds", [(100, 0.1), pytest.param(1000, 0.2, marks=LONG)])
@pytest.mark.parametrize(
    "rules, refusals", [(b":c=20\n", 1), pytest.param(b":c=20,i=5\n", 2, marks=LONG), (b":c=20,i=20\n", 15)]
)
def test_a_server_that_takes_five_sessions(staging, rules, refusals, count, seconds):
    """Scenario 1."""
    staging.serve(f"session-limit limit=5 seconds={seconds} {HOST.decode()}")
    staging.start(rules)
    staging.send(*(b"u%d@%b" % (n, on(HOST, b"d")) for n in range(count)))
    staging.start_sender()
    staging.empty()
    counts = staging.counts(FIVE)
    within(counts, 5, refusals)
    assert counts["messages"] == count and staging.deferrals() == 0
    assert taken_seconds(staging, FIVE) <= 1.5 * seconds * count / 5


@pytest.mark.parametrize("number", [4, 30])
def test_what_is_written_is_exact_without_learning(staging, number):
    staging.serve(f"takes-all seconds=0.2 {HOST.decode()}")
    staging.start(b":c=%d,i=%d,k=1000/s~1000,learn=no\n" % (number, number))
    staging.send(*(b"u%d@%b" % (n, on(HOST, b"d")) for n in range(5 * number)))
    staging.start_sender()
    staging.empty()
    counts = staging.counts("takes-all@198.18.0.1")
    assert counts["messages"] == 5 * number and counts["most"] == number


def test_the_default_is_exact_too(staging):
    staging.serve(f"takes-all seconds=0.1 {HOST.decode()}")
    staging.start()
    staging.send(*(b"u%d@%b" % (n, on(HOST, b"d")) for n in range(60)))
    staging.start_sender()
    staging.empty()
    counts = staging.counts("takes-all@198.18.0.1")
    assert counts["messages"] == 60 and counts["most"] == 10


@pytest.mark.parametrize("limit", [b"n=1", b"n=20"])
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=LONG)])
def test_one_of_two_hosts_is_silent(staging, limit, count):
    """Scenario 2: with twenty sessions at once and half a second each nobody waits for the silent one."""
    staging.serve(f"takes-all seconds=0.5 {HOST.decode()}", "silent 198.18.0.2")
    staging.start(b":c=20,i=20,k=1000/s~1000,%b\n" % limit)
    domain = on(HOST, b"d", b"h198-18-0-2")
    staging.send(*(b"u%d@%b" % (n, domain) for n in range(count)))
    staging.start_sender()
    staging.empty()
    good = staging.counts("takes-all@198.18.0.1")
    assert good["messages"] == count and good["most"] <= 20 and staging.deferrals() == 0
    # a silent host that nobody knows yet holds half of the places for some seconds, never for a timeout
    assert taken_seconds(staging, "takes-all@198.18.0.1") <= count / 30 + 15


def test_many_domains_of_one_organisation(staging):
    """Scenario 5: each domain has host names of its own, of machines that together take ten sessions."""
    count, tenants, seconds = 383, 383, 0.1
    addresses = [b"198.18.4.%d" % n for n in range(5)]
    staging.serve(f"session-limit limit=10 seconds={seconds} {b' '.join(addresses).decode()}")
    staging.start()
    hosts = b".".join(b"h" + address.replace(b".", b"-") for address in addresses)
    domains = [b"d.%b.t%d.provider.test" % (hosts, n) for n in range(tenants)]
    staging.send(*(b"u%d@%b" % (n, domains[n % tenants]) for n in range(count)))
    staging.start_sender()
    staging.empty()
    counts = staging.counts("session-limit@198.18.4.0")
    within(counts, 10, 3)
    assert counts["messages"] == count and staging.deferrals() == 0
    assert taken_seconds(staging, "session-limit@198.18.4.0") <= 1.2 * seconds * count / 10 + 10


def test_a_ban_is_not_made_longer(staging):
    """Scenario 9, shorter: a rule says how long to keep quiet."""
    staging.serve(f"rate messages=20 minute=2 ban=2 {HOST.decode()}")
    staging.start(b":c=10,k=1000/m\n", b":421:unusual rate:pause 3s org\n")
    staging.send(*(b"u%d@%b" % (n, on(HOST, b"d")) for n in range(40)))
    staging.start_sender()
    staging.empty()
    counts = staging.counts("rate@198.18.0.1")
    assert counts["messages"] == 40 and 1 <= counts["bans"] <= 3 and counts["tries"] <= 5 * counts["bans"]


@LONG
def test_a_rate_is_learned_from_a_ban(staging):
    """Scenario 9: a ban of a minute that each try makes longer."""
    staging.serve(f"rate messages=60 minute=60 ban=60 {HOST.decode()}")
    staging.start(b":c=10,k=1000/m\n")
    staging.send(*(b"u%d@%b" % (n, on(HOST, b"d")) for n in range(180)))
    staging.start_sender()
    until(lambda: not staging.system.files(), staging.told, seconds=600)
    counts = staging.counts("rate@198.18.0.1")
    assert counts["messages"] == 180 and counts["bans"] == 1 and counts["tries"] <= 5


@pytest.mark.parametrize("sites, places", [(40, 40), pytest.param(2000, 100, marks=LONG)])
def test_servers_that_never_greet(staging, sites, places):
    """Scenario 25: a new good site is served at once, one that greets late soon, and nothing is deferred."""
    last = {40: "198.18.4.0/26", 2000: "198.18.8.0/21"}[sites]
    staging.serve(f"silent {last}", f"takes-all {HOST.decode()}", "slow-greeter wait=3 198.18.0.2")
    staging.start(places=places)
    first = 1024 if sites == 40 else 2048
    silent = [on(b"198.18.%d.%d" % divmod(first + n, 256), b"s%d" % n) for n in range(sites)]
    staging.send_to_all([b"u@%b" % domain for domain in [*silent[:20], on(b"198.18.0.2", b"late"), *silent[20:]]])
    staging.start_sender()
    until(lambda: staging.counts(f"silent@198.18.{first >> 8}.0")["now"] >= places // 4)
    staging.send(b"u@%b" % on(HOST, b"good"))
    sent = time.monotonic()
    staging.taken("takes-all@198.18.0.1", 1)
    ((when, _, _),) = staging.servers.arrivals("takes-all@198.18.0.1")
    assert when - sent <= 5
    staging.taken("slow-greeter@198.18.0.2", 1)
    assert staging.deferrals() == staging.failures() == 0
    assert staging.counts(f"silent@198.18.{first >> 8}.0")["most"] <= places


@pytest.mark.parametrize("at", ["mail", "data"])
@pytest.mark.parametrize("reply", ["452 4.3.2 too many messages", "554 5.7.0 enough over this connection"])
def test_a_connection_that_takes_ten_messages(staging, at, reply):
    """Scenario 26: sixty recipients of their own (VERP), and fifteen single messages."""
    staging.serve(f"connection-limit messages=10 at={at} reply='{reply}' {HOST.decode()}")
    staging.start()
    staging.start_sender()
    domain = on(HOST, b"d")
    staging.send_to_all([b"u%d@%b" % (n, domain) for n in range(60)], b"list-@here.example-@[]")
    staging.send(*(b"v%d@%b" % (n, domain) for n in range(15)))
    staging.empty()
    assert staging.counts("connection-limit@198.18.0.1")["messages"] == 75
    assert staging.deferrals() == staging.failures() == 0


REGIONS = "552 5.5.3 recipients belong to multiple regions"


@pytest.mark.parametrize("reply", ["452 4.5.3 too many recipients", "552 5.5.3 too many recipients", REGIONS])
def test_a_message_that_takes_five_recipients(staging, reply):
    """Scenario 27."""
    staging.serve(f"transaction-limit recipients=5 reply='{reply}' {HOST.decode()}")
    staging.start()
    staging.start_sender()
    staging.send_to_all([b"u%d@%b" % (n, on(HOST, b"d")) for n in range(12)])
    staging.empty()
    counts = staging.counts("transaction-limit@198.18.0.1")
    assert counts["recipients"] == 12 and counts["messages"] >= 3
    assert staging.deferrals() == staging.failures() == 0


@pytest.mark.parametrize("zones", [500, pytest.param(3000, marks=LONG)])
def test_name_servers_that_never_answer(staging, zones):
    """Scenario 28: a routed mail, a literal, a domain that is known, and a new one, among thousands that hang."""
    names = ["198.18.0.1", "198.18.0.2", "198.18.0.3", "198.18.0.4"]
    staging.serve(*(f"takes-all {name}" for name in names))
    staging.start(routes=b"routed.example:198.18.0.1\n")
    staging.start_sender()
    known = b"u@%b" % on(b"198.18.0.3", b"known")
    staging.send(known)
    staging.taken("takes-all@198.18.0.3", 1)
    staging.send_to_all([b"u@%b" % on(b"198.18.1.1", b"d%d" % n, b"dead") for n in range(zones)])
    staging.system.log.find(rb"info msg ", 2)
    sent = time.monotonic()
    staging.send(b"u@routed.example", b"u@[198.18.0.2]", known, b"u@%b" % on(b"198.18.0.4", b"new"))
    for name, seconds in zip(names, (1, 1, 1, 5), strict=True):
        staging.taken(f"takes-all@{name}", 2 if name == "198.18.0.3" else 1)
        assert staging.servers.arrivals(f"takes-all@{name}")[-1][0] - sent <= seconds
    assert staging.deferrals() == 0


RELAY, RELAY_NAME = b"198.18.0.9", b"mx.h198-18-0-9.test"
RELAYED = "takes-all@198.18.0.9"


def test_rules_route_to_an_address_to_a_name_and_to_the_hosts(staging):
    """The relay's own lines limit what goes there; smtproutes counts where no rule is as close."""
    staging.serve(f"takes-all seconds=0.1 {RELAY.decode()}", f"takes-all {HOST.decode()}")
    rules = b"a.test:route=[198.18.0.9]:25\nb.test:route=%b\n198.18.0.9:c=3\n%b:c=2\n" % (RELAY_NAME, RELAY_NAME)
    staging.start(rules + b".h198-18-0-1.test:route=\n:k=1000/s~1000\n", routes=b":198.18.0.77\nc.test:198.18.0.1\n")
    staging.send(*(b"u%d@%b.test" % (n, name) for n in range(15) for name in (b"a", b"b")))
    staging.send(b"u@c.test", b"u@%b" % on(HOST, b"d"))
    staging.start_sender()
    staging.empty()
    relay = staging.counts(RELAYED)
    assert relay["messages"] == 30 and relay["most"] <= 5
    assert staging.counts("takes-all@198.18.0.1")["messages"] == 2 and staging.deferrals() == 0


def test_what_hosts_do_not_take_falls_to_a_relay(staging):
    """Nobody listens at one host, one refuses in words, one takes its mail; name servers of a fourth domain fail."""
    staging.serve(f"takes-all {RELAY.decode()}", f"session-limit limit=0 {HOST.decode()}", "takes-all 198.18.0.2")
    staging.start(b":fall=%b\n" % RELAY_NAME)
    domains = [on(b"198.18.0.3", b"d"), on(HOST, b"d"), b"servfail.test"]
    staging.send(*(b"u%d@%b" % (n, domain) for n in range(10) for domain in domains), b"u@%b" % on(b"198.18.0.2", b"d"))
    staging.start_sender()
    staging.empty()
    assert staging.counts(RELAYED)["messages"] == 30
    assert staging.counts("takes-all@198.18.0.2")["messages"] == 1
    assert staging.deferrals() == staging.failures() == 0
    for domain in domains:
        assert len(re.findall(b"(?m)^domain %b: falls to %b:25: " % (domain, RELAY_NAME), staging.system.log.text)) == 1


def test_what_is_old_enough_falls_and_what_is_not_waits(staging):
    staging.serve(f"takes-all {RELAY.decode()}")
    young, old = on(b"198.18.0.3", b"young"), on(b"198.18.0.3", b"old")
    staging.start(b"%b:fall=198.18.0.9~4s\n%b:fall=198.18.0.9~1d\n" % (old, young))
    staging.start_sender()
    sent = time.monotonic()
    staging.send(b"u@%b" % young, b"u@%b" % old)
    staging.taken(RELAYED, 1)
    [(when, _, recipients)] = staging.servers.arrivals(RELAYED)
    assert when - sent >= 3
    assert old in str(recipients).encode() and staging.deferrals() == 0 and staging.system.files()
