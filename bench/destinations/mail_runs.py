"""Scenarios about the order of mail, retry times, and rules of single servers."""

import collections
import statistics

from bench.destinations.fault_runs import said
from bench.destinations.servers import MUTE, SILENT, Greylist, Server, SessionLimit
from bench.destinations.world import World
from pyqmail.mail.destinations.outcome import DATA, SENDER

SITE = b"site.example"


def mailing(small):
    """One mailing, one recipient a transaction, and a small message a second by another sender."""
    world = World(SITE + b":c=10\n")
    world.place(SITE, Server(_about_half(world)))
    world.send([SITE] * (5000 if small else 100_000), b"bulk.example", is_alone=True)
    waits = _trickle(world, 120 if small else 1000)
    return {"median wait": statistics.median(waits), "longest wait": max(waits)}


def many_mailings(small):
    """200 mailings at once, each by another sender; rate of bulk mail.

    10 sessions of half a second deliver 20 a second, of which one is the small mail: 19 are left, less the slow start
    and the time in which a place connects again.
    """
    seconds, flows = (120, 50) if small else (1000, 200)
    world = World(SITE + b":c=10\n")
    world.place(SITE, Server(_about_half(world)))
    for number in range(flows):
        world.send([SITE] * (500 if small else 1000), b"bulk%d.example" % number, is_alone=True, is_bulk=True)
    waits = _trickle(world, seconds)
    return {
        "median wait": statistics.median(waits),
        "longest wait": max(waits),
        "bulk a second": (len(world.delivered) - len(waits)) / seconds,
    }


def greylist(small):
    """Mean tries and delay by what the server wants to wait."""
    figures = {"dead": 0}
    for delay in (60, 900) if small else (60, 300, 900, 1500, 3600):
        world = World(SITE + b":c=20,k=6000/m~100\n")
        world.place(SITE, Server(0.1, greylist=Greylist(delay)))
        count, seconds = 2400 if small else 60_000, 12_000
        for number in range(count):
            arrival = 1000 + number * seconds / count
            world.clock.at(arrival, world.send, [SITE], b"s%d.example" % (number % 100))
        world.run(seconds + 86_400)
        delays = [time - world.mail[number].arrived for time, number, _ in world.delivered]
        figures[f"tries {delay}"] = statistics.mean(world.tries.values())
        figures[f"delay {delay}"] = statistics.mean(delays)
        figures[f"left {delay}"] = world.left
        figures["dead"] += said(world, b"dead:")
    return figures


def soft_block(small):
    """Every recipient is deferred for an hour, whoever sends."""
    world = World(SITE + b":c=10\n")
    server = Server(0.5)
    server.recipient_reply = lambda sender, recipient: b"451 4.3.0 not now"
    world.place(SITE, server)
    world.clock.at(4600, setattr, server, "recipient_reply", None)
    for number in range(1000 if small else 5000):
        world.send([SITE], b"s%d.example" % (number % 20))
    world.run(3600)
    deferrals = len(world.deferrals)
    world.run(40_000, until_done=True)
    return {"deferrals": deferrals, "left": world.left, "failed": len(world.failures)}


def bad_sender(small):
    """One sender's mail is deferred by policy after the message; that of 20 others is taken."""
    seconds = 600 if small else 3600
    world = World(SITE + b":c=10\n")
    server = Server(0.3)
    server.message_reply = lambda sender, _: b"451 4.7.26 not by our policy" if sender == b"bad.example" else None
    world.place(SITE, server)
    for second in range(seconds):
        world.clock.at(1000 + second, world.send, [SITE], b"bad.example")
        for good in range(4):
            world.clock.at(1000.5 + second, world.send, [SITE], b"g%d.example" % ((second * 4 + good) % 20))
    world.run(seconds)
    good = [time for time, number, _ in world.delivered if world.mail[number].sender != b"bad.example"]
    first = next((time for time, line in world.log if b"bad.example" in line and b"pause" in line), 1e9)
    return {
        "good share": len(good) / (4 * seconds),
        "bad tries before its pause": sum(time <= first for time, *_ in world.deferrals),
        "bad tries": len(world.deferrals) / (seconds / 900 + 1),
    }


def connection_limit(small):
    """10 messages a connection, then a refusal at MAIL or DATA, and the connection stays."""
    figures = {"VERP": [], "single": [], "deferred": 0, "refused at last": 0}
    for reply in (b"452 too many messages", b"554 too many messages"):
        for stage in (SENDER, DATA):
            for is_verp, count in ((True, 60), (False, 15)):
                world = World(b"")
                server = Server(0.2, most_messages=10, full_reply=reply, full_stage=stage, is_full_close=False)
                world.place(SITE, server)
                if is_verp:
                    world.send([SITE] * count, is_alone=True)
                else:
                    for _ in range(count):
                        world.send([SITE])
                world.run(3600, until_done=True)
                figures["VERP" if is_verp else "single"].append(len(world.delivered))
                figures["deferred"] += len(world.deferrals) + len(world.failures)
                for count in (300, 100):
                    before = world.unsent_count
                    for _ in range(count):
                        world.send([SITE])
                    world.run(600)
                figures["refused at last"] += world.unsent_count - before
    return {**figures, "VERP": min(figures["VERP"]), "single": min(figures["single"])}


def transaction_limit(small):
    """5 recipients a message, the rest 452 or 552; or two regions, of which a message may have one.

    A server of two regions takes 6 of the 12, whatever m is: the others come in another transaction.
    """
    figures = {"delivered": [], "deferred": 0, "failed": 0, "most at last": 0}
    models = (
        {"most_recipients": 5, "beyond_reply": b"452 too many recipients"},
        {"most_recipients": 5, "beyond_reply": b"552 too many recipients"},
        {"regions": 2, "beyond_reply": b"451 4.5.3 Recipients belong to multiple regions"},
    )
    figures["least m"] = 100
    for model in models:
        world = World(b"")
        server = Server(0.2, **model)
        world.place(SITE, server)
        world.send([SITE] * 12)
        world.run(3600, until_done=True)
        figures["delivered"].append(len(world.delivered))
        world.send([SITE] * 40)
        before = len(server.transactions)
        world.run(3600, until_done=True)
        figures["deferred"] += len(world.deferrals)
        figures["failed"] += len(world.failures)
        if "regions" not in model:
            figures["most at last"] = max(figures["most at last"], *server.transactions[before:])
        (site,) = world.engine.tables.ways.sites()
        figures["least m"] = min(figures["least m"], site.recipients.value)
    return {**figures, "delivered": min(figures["delivered"])}


def greets_and_closes(small):
    """A server that closes at each MAIL: sessions until it is dead, and how often a parcel goes out.

    A parcel that went out three times is deferred: what it went out beyond 3 for each deferral is less than 3.
    """
    world = World(b"", lifetime=86_400)
    server = Server(0.2, hangs_up=True)
    world.place(SITE, server)
    for _ in range(20):
        world.send([SITE])
    world.run(80_000)
    deferred = collections.Counter((number, offset) for _, number, offset, _ in world.deferrals)
    tries = max(tries - 3 * deferred[recipient] for recipient, tries in world.tries.items())
    bounces = len(world.failures)
    world.run(20_000)
    dead = next((time for time, line in world.log if b"dead" in line), 1e9)
    starts = sum(time <= dead for time, _ in world.opened)
    return {
        "starts": starts,
        "tries undeferred": tries,
        "failed before": bounces,
        "failed at last": len(world.failures),
    }


def third_dead(small):
    """3 of 10 sites never answer: last delivery to the others, probes of a dead one in 2 hours.

    A probe is a session to a site that is marked dead.  They come after 60, 120 ... 1800 s, a tenth less at most, each
    with its 10 s: 7 or 8 in 2 h.
    """
    figures = {}
    sites = 200 if small else 2000
    for total in (20, 200) if small else (200, 2000):
        world = World(b"", total=total)
        dead = {}  # address -> domain
        for number in range(sites):
            domain, is_dead = b"d%d.example" % number, number % 10 < 3
            server = Server(0.3, connect_seconds=0.1, kind=SILENT if is_dead else "greets")
            (address,) = world.place(domain, server)
            if is_dead:
                dead[address] = domain
        for _ in range(10):
            for number in range(sites):
                world.send([b"d%d.example" % number], b"s%d.example" % (number % 7))
        world.run(7200)
        healthy = [time for time, *_ in world.delivered]
        tries = dict.fromkeys(dead.values(), 0)
        marked = {}
        for time, line in world.log:
            if b": dead: " in line:
                marked.setdefault(line.split(b"#")[0][5:], time)
        for time, address in world.opened:
            if address in dead and time > marked.get(dead[address], 1e9):
                tries[dead[address]] += 1
        figures[f"last healthy, {total}"] = max(healthy) - 1000
        figures[f"left, {total}"] = sites * 7 - len(healthy)
        figures[f"probes, {total}"] = max(tries.values())
        figures[f"deferred, {total}"] = len(world.deferrals)
        figures[f"marked, {total}"] = len(marked) / len(dead)
    return figures


def one_of_two(small):
    """Two hosts, one silent: deliveries a second of the 33.3 (n=1) and 39.6 (n=20) that one host makes possible.

    Not hedged: the session processes do not tell that an address keeps them waiting; it is waited for 30 s then.
    """
    figures, seconds = {}, 200 if small else 1000
    for most, is_hedged in ((1, True), (20, True), (1, False)):
        world = World(SITE + b":c=20,n=%d,k=1000/s~1000,to=30s/30s/1200s\n" % most)
        world.is_hedged = is_hedged
        world.place(SITE, Server(0.5, connect_seconds=0.1, kind=SILENT), Server(0.5, connect_seconds=0.1))
        for number in range(45 * (seconds + 60)):
            world.send([SITE], b"s%d.example" % (number % 10))
        world.run(60)
        before = len(world.delivered)
        world.run(seconds)
        name = f"n={most}" if is_hedged else "not hedged"
        figures[f"a second, {name}"] = (len(world.delivered) - before) / seconds
        figures[f"deferred, {name}"] = len(world.deferrals)
        figures[f"timeouts, {name}"] = world.timeouts
    return figures


def slow_host(small):
    """One host of three greets after 20 s."""
    world = World(SITE + b":c=20,n=5,k=1000/s~1000\n")
    servers = [Server(0.5, connect_seconds=seconds, limits=[SessionLimit()]) for seconds in (20.0, 0.1, 0.1)]
    world.place(SITE, *servers)
    for number in range(10_000 if small else 50_000):
        world.send([SITE], b"s%d.example" % (number % 10))
    world.run(200 if small else 1200)
    sessions = [server.connections for server in servers]
    return {"share of sessions": sessions[0] / sum(sessions), "deferred": len(world.deferrals)}


def silent_servers(small):
    """Sites that accept and never greet; a new good one, and one that greets after 30 s."""
    figures = {"deferred": 0}
    for sites, total in ((200, 50), (2000, 100)) if not small else ((200, 50),):
        world = World(b"", total=total)
        for number in range(sites):
            world.place(b"m%d.example" % number, Server(kind=MUTE))
            world.send([b"m%d.example" % number])
        world.place(b"late.example", Server(0.2, connect_seconds=30.0))
        late = world.send([b"late.example"])
        world.run(300)
        world.place(b"good.example", Server(0.2))
        good = world.send([b"good.example"])
        world.run(7200)
        when = {number: time for time, number, _ in world.delivered}
        figures[f"good, {sites}"] = when.get(good, 1e9) - 1300
        figures[f"late, {sites}"] = when.get(late, 1e9) - 1000
        figures["deferred"] += len(world.deferrals)
    return figures


def _about_half(world):
    """Return what draws half a second, give or take a fifth: sessions that are all alike would all end at once."""
    return lambda: world.random.uniform(0.4, 0.6)


def _trickle(world, seconds) -> list:
    """Send a small message a second for a while; return how long each waited until it was delivered."""
    small = set()
    for second in range(10, seconds):
        world.clock.at(1000 + second, lambda: small.add(world.send([SITE], b"person.example")))
    world.run(seconds)
    arrived = {number: world.mail[number].arrived for number in small}
    waits = [time - arrived[number] for time, number, _ in world.delivered if number in arrived]
    ended = {number for _, number, _ in world.delivered}
    return waits + [world.clock.now - arrived[number] for number in small - ended]
