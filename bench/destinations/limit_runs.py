"""Scenarios about limits: what a server takes at once, who shares it, and what is learned of it."""

from bench.destinations.servers import RateBan, Server, SessionLimit
from bench.destinations.world import World
from pyqmail.mail.destinations.outcome import CONNECT, GREETING

SITE = b"site.example"
MANY_CONNECTS = b"k=1000/s~1000"


def same_server(small):
    """Refusals by initial window; seconds over the ideal until the last message is delivered, likewise.

    The ideal is 5 messages in 2 s, to a server that is there at once.  Here the name is looked up first, one session is
    greeted before there are more, and a place that connects again after n messages stands empty: 0.02 s each.  So 1000
    messages with all places taken at once (i=20) end after 400.44 s with n=10 and 400.12 s with n=50.  With i=2 the
    waves are 2, 3 and 4 messages before they are 5: two waves more, 4 s, beside what connecting takes.
    """
    count = 300 if small else 1000
    figures = {"deferred": 0}
    for initial, most in ((2, 50), (5, 50), (20, 50), (20, 10)):
        world, limit = _one_site(b"c=20,n=%d,i=%d" % (most, initial), 5, 2.0)
        _send(world, SITE, count)
        world.run(4000, until_done=True)
        figures["deferred"] += len(world.deferrals)
        over, connecting = world.clock.now - 1000 - count * 0.4, 0.02 * (-(-count // (5 * most)) + 2)
        if most == 50:
            figures[f"refusals i={initial}"] = limit.refusals
            figures[f"slow start i={initial}"] = over - connecting
        if initial == 20:
            figures[f"over the ideal n={most}"] = over
    return figures


def tenants(small):
    """383 domains, each with a host name of its own, on machines that take 10 sessions in all."""
    domains, count = (40, 400) if small else (383, 3000)
    world = World(b"", total=1000)
    limit = SessionLimit(10)
    server = Server(0.5, limits=[limit])
    addresses = world.place(b"cluster.example", *[server] * 5)
    for number in range(domains):
        name = b"t%d.mail.provider.example" % number
        world.names.zones[b"d%d.example" % number] = type(world.names.zones[b"cluster.example"])(
            [(10, name, addresses)], 3600
        )
    for number in range(count):
        world.send([b"d%d.example" % (number % domains)], b"s%d.example" % (number % 50))
    world.run(40_000, until_done=True)
    return {
        "refusals": limit.refusals,
        "seconds over the ideal": world.clock.now - 1000 - count * 0.05,
        "deferred": len(world.deferrals),
    }


def ban(small):
    """200 messages a minute; who sends more is banned for 600 s, a minute longer with each try.

    A try could not lengthen the ban by 600 s: the pauses are 60, 120, 240 and 480 s, so tries come 60, 180, 420 and
    900 s after it began, and the next after 1860 s; what is left takes 3100 s at 190 a minute, and the bound is 4500 s.
    With a minute for each of three tries the ban is over after 780 s, and the fourth, at 900 s, is taken.
    """
    world, server = _banned_world()
    count = 3000 if small else 10_000
    _send(world, SITE, count)
    world.run(20_000, until_done=True)
    return {
        "seconds": world.clock.now - 1000 if not world.left else 1e9,
        "bans": server.rate.bans,
        "tries during it": server.rate.tries_in_ban,
        "failed": len(world.failures),
    }


def fair(small):
    """Many sites that always have mail, and a total that is less.

    Each has greeted before: sites that have not are a class of their own, of which one stands before the total for all.
    """
    sites, total, seconds = (100, 10, 800) if small else (1000, 100, 2000)
    world = World(b"", total=total)
    everybody = SessionLimit()
    servers = [Server(0.9, connect_seconds=0.3, limits=[SessionLimit(), everybody]) for _ in range(sites)]
    for number, server in enumerate(servers):
        world.place(b"s%d.example" % number, server)
    _send_each(world, sites)
    world.run(120)
    before, moved = [(server.limits[0].sessions, server.accepted) for server in servers], moves(world)
    for _ in range(int(seconds / 9.3 * total / sites * 10) + 30):
        _send_each(world, sites)
    world.run(seconds)
    sessions = [server.limits[0].sessions - old for server, (old, _) in zip(servers, before, strict=True)]
    messages = [server.accepted - old for server, (_, old) in zip(servers, before, strict=True)]
    expected = total * seconds / sites / 9.3
    return {
        "sessions each, least": min(sessions) - expected,
        "sessions each, most": max(sessions) - expected,
        "Jain, sessions": jain(sessions),
        "Jain, messages": jain(messages),
        "peak": everybody.peak / total,
        "moves a session": (moves(world) - moved) / sum(sessions),
    }


def nested(small):
    """A group of 20 that has one of 10 in it, sites of 5, a total of 100.

    A tenth of the total is kept for sites without a session.  So the first 24 sites and the groups reach 90, and 120
    sites of one session each, whose mail comes after a minute, take the rest: some of them always have none.
    """
    seconds = 60 if small else 1000
    lines = [b"@outer:c=20", b"@inner:c=10"]
    world_sites = [(b"i%d.example" % n, b"@outer,@inner,c=5") for n in range(10)]
    world_sites += [(b"o%d.example" % n, b"@outer,c=5") for n in range(10)]
    world_sites += [(b"f%d.example" % n, b"c=5") for n in range(14)]
    single = [b"s%d.example" % n for n in range(120)]
    for name in single:
        world_sites.append((name, b"c=1"))
    lines += [name + b":" + items for name, items in world_sites]
    world = World(b"\n".join(lines) + b"\n", total=100)
    limits = {"inner": SessionLimit(), "outer": SessionLimit(), "all": SessionLimit()}
    sites = []
    for name, items in world_sites:
        own = SessionLimit()
        sites.append(own)
        inside = [limits["inner"]] * (b"@inner" in items) + [limits["outer"]] * (b"@outer" in items)
        world.place(name, Server(0.9, connect_seconds=0.1, limits=[own, limits["all"], *inside]))
    for _ in range(int(seconds * 6) + 600):
        for name, items in world_sites:
            if items == b"c=5" or (items != b"c=1" and world.random.random() < 0.35):
                world.send([name])
    used = Average(world)
    world.run(60)
    for _ in range(int(seconds * 1.2) + 60):
        for name in single:
            world.send([name])
    world.run(30)
    used.begin()
    world.run(seconds)
    return {
        "peak inner": limits["inner"].peak,
        "peak outer": limits["outer"].peak,
        "peak site": max(site.peak for site in sites),
        "peak": limits["all"].peak,
        "capacity used": used.value() / 100,
    }


def hostile_rooms(small):
    """Sites under three nested limits, one of which lets nobody in for 40 s again and again."""
    sites, seconds = (400, 400) if small else (4000, 2000)
    lines = [b"@a:c=60", b"@b:c=30,k=30/40s~30", b"@c:c=15"]
    domains = [b"h%d.example" % number for number in range(sites)]
    kinds = [b"@a", b"@a,@b", b"@a,@b,@c"]
    lines += [domain + b":" + kinds[number % 3] for number, domain in enumerate(domains)]
    world = World(b"\n".join(lines) + b"\n", total=200)
    everybody = SessionLimit()
    for domain in domains:
        world.place(domain, Server(1.0, limits=[everybody]))
    for _ in range(12):
        for domain in domains:
            world.send([domain])
    world.run(seconds)
    return {"moves a session": (moves(world) - sites) / max(1, everybody.sessions), "peak": everybody.peak}


def breathing(small):
    """A limit of 10 that is 3 for a time.  Hours; small: fewer, and slower messages."""
    hours, low, high, seconds = (9, 2, 4, 20.0) if small else (24, 8, 16, 2.0)
    world, limit = _one_site(b"c=20", 10, seconds)
    world.clock.at(1000 + low * 3600, setattr, limit, "limit", 3)
    world.clock.at(1000 + high * 3600, setattr, limit, "limit", 10)
    _keep_waiting(world, SITE, 200, seconds)
    world.run(hours * 3600)
    server = next(iter(world.servers.values()))
    possible = [(0, low, 10), (low, high, 3), (high + 2.25, hours, 10)]
    shares = [
        sum(1000 + start * 3600 <= time < 1000 + end * 3600 for time in server.accepted_at)
        / ((end - start) * 3600 * most / seconds)
        for start, end, most in possible
    ]
    return {"refusals": limit.refusals, "least share": min(shares), "full again, h": _full_again(server, high, seconds)}


def restart(small):
    """The queue manager is killed in the middle of `ban`, and in that part of `breathing` in which 3 are taken.

    A refusal within 10 s of another is above X + 1: two more than the ceiling were tried at once.
    One refusal is the probe when the 600 s of the ceiling are over, one that of 1200 s later.
    """
    world, server = _banned_world()
    _send(world, SITE, 1500 if small else 10_000)
    world.run(100)
    bans, tries = server.rate.bans, server.rate.tries_in_ban
    world.restart()
    world.run(20_000, until_done=True)
    figures = {"bans": server.rate.bans - bans, "tries during it": server.rate.tries_in_ban - tries}
    world, limit = _one_site(b"c=20", 3, 5.0)
    _keep_waiting(world, SITE, 100, 5.0)
    world.run(300)
    before = limit.refusals
    world.restart()
    world.run(1800)
    refused = limit.refused_at[before:]
    figures["refusals"] = len(refused)
    figures["above X + 1"] = sum(later - time < 10 for time, later in zip(refused, refused[1:], strict=False))
    return figures


def rule_change(small):
    """c=20 becomes c=5 while 20 sessions run."""
    world, limit = _one_site(b"c=20,n=20," + MANY_CONNECTS, None, 1.0)
    _send(world, SITE, 3000)
    world.run(120)
    before, cut = limit.up, world.unsent_count
    world.use_rules(SITE + b":c=5,n=20," + MANY_CONNECTS + b"\n")
    world.run(21)
    return {"before": before, "after a session's length": limit.up, "cut": world.unsent_count - cut,
            "deferred": len(world.deferrals)}  # fmt: skip


def verp(small):
    """20 recipients of one domain, one a transaction, 0.5 s each; with sessions, and with an agent for each."""
    figures = {}
    for name, opens_sessions in (("sessions", True), ("agents", False)):
        world = World(b"", opens_sessions=opens_sessions)
        limit = SessionLimit(10)
        world.place(SITE, Server(0.5, limits=[limit]))
        world.send([SITE] * 20, is_alone=True)
        world.run(600, until_done=True)
        figures[name] = world.clock.now - 1000
        figures[f"peak, {name}"] = limit.peak
        figures[f"refusals, {name}"] = limit.refusals
    return figures


def classic_agent(small):
    """same_server behind an agent that connects by itself."""
    count = 200 if small else 1000
    world = World(SITE + b":c=20,i=2\n", opens_sessions=False)
    limit = SessionLimit(5)
    world.place(SITE, Server(2.0, limits=[limit]))
    _send(world, SITE, count)
    world.run(4000, until_done=True)
    postponed = [outcome for *_, outcome in world.deferrals if outcome.stage not in (CONNECT, GREETING)]
    return {
        "deferred": len(postponed),
        "refusals": limit.refusals,
        "over the ideal": world.clock.now - 1000 - count * 0.4,
        "left": world.left,
    }


class Average:
    """The mean of the units in use since begin()."""

    def __init__(self, world):
        self._world, self._sum, self._start, self._last = world, 0.0, 0.0, (0.0, 0)
        world.after_each.append(self._note)

    def begin(self):
        self._sum, self._start = 0.0, self._world.clock.now
        self._last = (self._start, self._world.engine.used)

    def value(self) -> float:
        self._note(self._world)
        return self._sum / (self._world.clock.now - self._start)

    def _note(self, world):
        now, (last, used) = world.clock.now, self._last
        self._sum += (now - last) * used
        self._last = (now, world.engine.used)


def jain(values) -> float:
    """Return Jain's index of fairness: 1 if all are equal."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


def moves(world) -> int:
    """Return how many times a door was placed into a room."""
    return world.engine._core.admission.moves


def _one_site(items, limit, seconds):
    world = World(SITE + b":" + items + b"\n")
    sessions = SessionLimit(limit)
    world.place(SITE, Server(seconds, limits=[sessions]))
    return world, sessions


def _banned_world():
    world = World(b"")
    server = Server(0.3, rate=RateBan(200, 600.0))
    world.place(SITE, server)
    return world, server


def _send(world, domain, count):
    for number in range(count):
        world.send([domain], b"s%d.example" % (number % 10))


def _send_each(world, sites):
    for number in range(sites):
        world.send([b"s%d.example" % number])


def _keep_waiting(world, domain, count, seconds):
    """See to it that about so many messages always wait."""
    if world.left < count:
        _send(world, domain, count - world.left + int(100 / seconds) + 20)
    world.clock.after(10.0, _keep_waiting, world, domain, count, seconds)


def _full_again(server, hour, seconds) -> float:
    """Return hours from that hour until ten minutes bring at least 95 % of what 10 sessions deliver."""
    times, start = server.accepted_at, 1000 + hour * 3600
    for step in range(0, 5 * 3600, 60):
        begin = start + step
        if sum(begin <= time < begin + 600 for time in times) >= 0.95 * 10 * 600 / seconds:
            return step / 3600
    return 99.0
