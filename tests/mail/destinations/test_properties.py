"""Properties P1 to P9 and P12 of the specification, of whole engines in random worlds.

P1 used is below the limits; P2 units come back; P3 nothing idles; P4 a parcel is in one place; P5 nothing is delivered
twice; P6 nothing too early; P8 few moves; P9 a refusal changes no parcel's time; P12 the same events give the same
orders.  P7 (bounded wait) is tested with the limits, P10 with the rules, P11 with the sites.

`make test-long` tries 10,000 worlds; PYQMAIL_EXAMPLES=N as many as you like.
"""

import hashlib
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.destinations.servers import GREETS, MUTE, REFUSES, RESETS, SILENT, Greylist, RateBan, Server, SessionLimit
from pyqmail.mail.destinations.engine import LOCAL
from pyqmail.mail.destinations.outcome import DATA, SENDER
from tests.mail.destinations.engine_checks import BUSY, CheckedWorld

EXAMPLES = int(os.environ.get("PYQMAIL_EXAMPLES", "25"))
LONG_EXAMPLES = int(os.environ.get("PYQMAIL_EXAMPLES", "10000"))
SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}
DAY = 86_400

ITEMS = st.lists(
    st.sampled_from(
        (b"c=1", b"c=3", b"c=20", b"i=1", b"i=5", b"n=1", b"n=3", b"m=1", b"m=4", b"k=30/m~3", b"r=2/s~4", b"p=3",
         b"idle=0s", b"learn=no", b"w=urgent", b"w=bulk")
    ),
    max_size=4,
    unique_by=lambda item: item.partition(b"=")[0],
)  # fmt: skip
GROUP_ITEMS = st.sampled_from((b"c=2", b"c=4", b"C=3", b"k=20/m~4", b"r=1/s~3", b"c=3,r=2/s~2"))
SERVERS = st.fixed_dictionaries(
    {
        "seconds": st.sampled_from((0.1, 0.5, 3.0)),
        "connect_seconds": st.sampled_from((0.02, 0.5, 4.0, 20.0, 100.0)),
        "kind": st.sampled_from((GREETS,) * 5 + (REFUSES, RESETS, SILENT, MUTE)),
        "most_messages": st.sampled_from((None, None, None, 1, 3)),
        "most_recipients": st.sampled_from((None, None, 1, 2)),
        "is_full_close": st.booleans(),
        "full_stage": st.sampled_from((SENDER, DATA)),
        "full_reply": st.sampled_from((b"421 enough", b"452 enough", b"554 enough")),
        "refusal": st.sampled_from((b"421 too many connections", b"421 shutting down", b"554 go away")),
    }
)
SITES = st.fixed_dictionaries(
    {
        "servers": st.lists(SERVERS, min_size=1, max_size=3),
        "limit": st.sampled_from((None, None, 1, 2, 5)),
        "greylist": st.sampled_from((None, None, None, 60, 700)),
        "rate": st.sampled_from((None, None, None, None, 20)),
        "busy": st.sampled_from((0, 0, 0, 2, 3)),  # every so manieth first try is deferred
        "items": ITEMS,
        "groups": st.sampled_from((b"", b"", b"@a", b"@b", b"@a,@b")),
        "heals_at": st.integers(0, 4000),
    }
)
MAILS = st.fixed_dictionaries(
    {
        "at": st.floats(0, 600).map(lambda at: round(at, 1)),
        "sites": st.lists(st.integers(0, 5), min_size=1, max_size=12),
        "sender": st.integers(0, 3),
        "size": st.sampled_from((500, 500, 2_000_000)),
        "is_alone": st.booleans(),
        "is_bulk": st.booleans(),
    }
)
EVENT_NAMES = ("uplink", "resolver", "lose", "jump", "date back", "lacking", "rules", "restart")
EVENTS = st.tuples(st.integers(1, 900), st.sampled_from(EVENT_NAMES))
WORLDS = st.fixed_dictionaries(
    {
        "total": st.sampled_from((1, 2, 5, 50)),
        "seed": st.integers(0, 999),
        "group": GROUP_ITEMS,
        "sites": st.lists(SITES, min_size=1, max_size=6),
        "mails": st.lists(MAILS, min_size=1, max_size=12),
        "events": st.lists(EVENTS, max_size=3),
        "opens_sessions": st.sampled_from((True, True, True, False)),
    }
)


def rules_of(plan) -> bytes:
    lines = []
    groups = b",".join(site["groups"] for site in plan["sites"])
    lines += [name + b":" + plan["group"] for name in (b"@a", b"@b") if name in groups]
    for number, site in enumerate(plan["sites"]):
        items = [item for item in (site["groups"], *site["items"]) if item]
        lines += [b"d%d.example:" % number + b",".join(items)] if items else []
    return b"".join(line + b"\n" for line in lines)


def busy_reply(every):
    tried = set()

    def reply(sender, recipient):
        is_first = recipient not in tried
        tried.add(recipient)
        return BUSY if is_first and sum(recipient) % every == 0 else None

    return reply


def world_of(plan, make=CheckedWorld):
    world = make(
        rules_of(plan), total=plan["total"], seed=plan["seed"], opens_sessions=plan["opens_sessions"], lifetime=2 * DAY
    )
    for number, site in enumerate(plan["sites"]):
        limits = [SessionLimit(site["limit"])]
        greylist = Greylist(site["greylist"]) if site["greylist"] else None
        rate = RateBan(site["rate"], 300.0) if site["rate"] else None
        servers = [Server(limits=limits, greylist=greylist, rate=rate, **server) for server in site["servers"]]
        world.place(b"d%d.example" % number, *servers)
        for server in servers:
            if site["busy"]:
                server.message_reply = busy_reply(site["busy"])
            world.clock.at(1000 + site["heals_at"], heal, server)
    for mail in plan["mails"]:
        domains = [b"d%d.example" % (number % len(plan["sites"])) for number in mail["sites"]]
        flags = {name: mail[name] for name in ("is_alone", "is_bulk", "size")}
        world.clock.at(
            1000 + mail["at"], lambda d=domains, f=flags, s=mail["sender"]: world.send(d, b"s%d.example" % s, **f)
        )
    for at, event in plan["events"]:
        world.clock.at(1000.0 + at, happen, world, event)
    return world


def heal(server):
    """From now on it answers as servers should; what it limits stays."""
    server.kind, server.connect_seconds = GREETS, min(server.connect_seconds, 0.5)


def happen(world, event):
    now = world.clock.now
    if event == "uplink" and world.network.is_up:
        world.network.is_up, world.network.back_at = False, now + 120
        world.clock.after(120, setattr, world.network, "is_up", True)
    elif event == "resolver":
        world.names.is_silent = True
        world.clock.after(200, setattr, world.names, "is_silent", False)
    elif event == "rules":
        world.use_rules(b"d0.example:c=2,n=2\n")
    elif event == "lose":
        world.lose(3)
    elif event in ("jump", "date back"):
        world.earliest.clear()  # what waits for a date waits for another time now
        world.clock.set_date(DAY / 2 if event == "jump" else -DAY / 2)
    elif event == "lacking":
        world.report("lacking")
    elif event == "restart":
        world.used.clear()
        world.restart()


def run_world(plan):
    world = world_of(plan)
    world.run(plan["mails"][-1]["at"] + 700.0)
    world.finish(6 * DAY)
    world.check_end()
    sessions, doors = len(world.opened), len(plan["sites"]) * 2
    retries = sum(world.tries.values()) + world.unsent_count + len(plan["mails"]) * 12
    assert world.core.admission.moves <= 14 * sessions + doors + 2 * retries  # P8


@given(WORLDS)
@settings(max_examples=EXAMPLES, **SETTINGS)
def test_random_worlds(plan):
    run_world(plan)


LOCAL_WORLDS = st.fixed_dictionaries(
    {
        "total": st.sampled_from((1, 3, 20)),
        "rules": st.sampled_from((b"", b"rcpt=:c=1\n", b"rcpt=u1@here.example:c=5\n")),
        "seconds": st.lists(st.sampled_from((0.1, 1.0, 30.0)), min_size=5, max_size=5),
        "deferred": st.integers(2, 5),
        "mails": st.lists(
            st.tuples(st.integers(0, 500), st.lists(st.integers(0, 4), min_size=1, max_size=9)), max_size=20
        ),
    }
)


@given(LOCAL_WORLDS)
@settings(max_examples=EXAMPLES, **SETTINGS)
def test_random_local_worlds(plan):
    world = CheckedWorld(plan["rules"], total=plan["total"], opens_sessions=False, channel=LOCAL, lifetime=2 * DAY)
    running, most = {}, {}

    def deliver(address):
        running[address] = running.get(address, 0) + 1
        most[address] = max(most.get(address, 0), running[address])
        seconds = plan["seconds"][int(address[1:2])]
        world.clock.after(seconds - 0.001, lambda: running.update({address: running[address] - 1}))
        return seconds, b"Z" if world.random.randrange(plan["deferred"]) == 0 else b"K"

    world.local_delivery = deliver
    for at, users in plan["mails"]:
        world.clock.at(1000.0 + at, lambda users=users: world.send([b"u%d@here.example" % user for user in users]))
    world.run(600)
    world.finish(6 * DAY)
    world.check_end()
    limit = 1 if b":c=1" in plan["rules"] else 2
    for address, count in most.items():
        assert count <= (5 if b"c=5" in plan["rules"] and address.startswith(b"u1") else limit)


@pytest.mark.long
@given(WORLDS)
@settings(max_examples=LONG_EXAMPLES, **SETTINGS)
def test_ten_thousand_random_worlds(plan):
    run_world(plan)


class Listening(CheckedWorld):
    """Keeps a digest of all orders and log lines."""

    def __init__(self, *arguments, **words):
        self.digest = hashlib.sha256()
        super().__init__(*arguments, **words)

    def _obey(self):
        take, lines = self.engine.take_orders, self.engine.log_lines

        def taken():
            orders = take()
            for order in orders:
                self.digest.update(repr([getattr(item, "address", item) for item in order]).encode())
            return orders

        def logged(now):
            found = lines(now)
            self.digest.update(repr(found).encode())
            return found

        self.engine.take_orders, self.engine.log_lines = taken, logged
        try:
            super()._obey()
        finally:
            del self.engine.take_orders, self.engine.log_lines


def digest_of(plan) -> str:
    world = world_of(plan, Listening)
    world.run(5000.0)
    return world.digest.hexdigest()


@given(WORLDS)
@settings(max_examples=max(5, EXAMPLES // 5), **SETTINGS)
def test_the_same_events_give_the_same_orders(plan):
    assert digest_of(plan) == digest_of(plan)


def test_no_order_depends_on_hashes():
    """P12, in processes whose bytes have other hashes."""
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    code = "from tests.mail.destinations.test_properties import SOME_PLAN, digest_of; print(digest_of(SOME_PLAN))"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1


_SERVER = {
    "seconds": 0.5, "connect_seconds": 0.5, "kind": GREETS, "most_messages": 3, "most_recipients": 2,
    "is_full_close": True, "full_stage": SENDER, "full_reply": b"421 enough", "refusal": b"421 too many connections",
}  # fmt: skip
SOME_PLAN = {
    "total": 5,
    "seed": 1,
    "group": b"c=3,r=2/s~2",
    "sites": [
        {"servers": [_SERVER, {**_SERVER, "kind": kind}], "limit": limit, "greylist": grey, "rate": None, "busy": 2,
         "items": [b"c=3"], "groups": b"@a,@b", "heals_at": 900}
        for kind, limit, grey in ((SILENT, 2, None), (MUTE, 5, 60), (RESETS, None, None), (REFUSES, 1, 700))
    ],
    "mails": [
        {"at": float(at), "sites": [at % 4, (at + 1) % 4, 2, 3, at % 3], "sender": at % 3, "size": 500,
         "is_alone": at % 2 == 0, "is_bulk": at % 5 == 0}
        for at in range(0, 300, 7)
    ],
    "events": [(50, "uplink"), (200, "lose"), (400, "rules")],
    "opens_sessions": True,
}  # fmt: skip
