"""Scenarios about what is nobody's fault: our uplink, our resolver, the clock, name servers, hosts that move."""

import bisect

from bench.destinations.network import NO_ANSWER, Zone
from bench.destinations.servers import Server
from bench.destinations.world import World

SITE = b"site.example"


def uplink(small):
    """Our own uplink fails for 600 s."""
    sites, rate = (400, 20) if small else (3000, 100)
    world = World(b"")
    for number in range(sites):
        world.place(b"u%d.example" % number, Server(0.3, connect_seconds=0.1))
    _arrive(world, sites, rate, 900)
    world.run(120)
    world.network.is_up, world.network.back_at = False, world.clock.now + 600
    opened = len(world.opened)
    world.run(600)
    world.network.is_up = True
    opened, back, waiting = len(world.opened) - opened, world.clock.now, set(world.mail)
    while any(world.mail[number].left for number in waiting) and world.clock.now < back + 3000:
        world.run(0.5)
    return {
        "dead": said(world, b"dead:"),
        "connections": opened,
        "caught up after": world.clock.now - back,
        "deferred": len(world.deferrals),
    }


def resolver_silent(small):
    """No name server answers for 30 minutes; 80 % of the domains are known."""
    world = World(b"")
    sites = 100 if small else 1000
    for number in range(sites):
        world.place(b"u%d.example" % number, Server(0.3))
    for number in range(sites * 8 // 10):
        world.send([b"u%d.example" % number])
    world.run(60)
    world.names.is_silent = True
    start = world.clock.now
    _arrive(world, sites, 2 if small else 20, 1800)
    world.run(1800)
    world.names.is_silent = False
    back = world.clock.now
    known = [
        time - world.mail[number].arrived for time, number, _ in world.delivered if world.mail[number].arrived > start
    ]
    world.run(600, until_done=True)
    return {
        "longest wait, known": max(known),
        "backlog gone after": world.clock.now - back if not world.left else 1e9,
        "failed": len(world.failures),
        "deferred": len(world.deferrals),
    }


def mx_moves(small):
    """The MX of a domain changes while mail waits."""
    world = World(SITE + b":c=3\n")
    old, new = Server(1.0), Server(1.0)
    (address,) = world.place(SITE, old, ttl=300)
    for _ in range(3000):
        world.send([SITE])
    world.run(120)
    world.place(SITE, new, ttl=300, hosts=[b"new.site.example"])
    world.run(360)
    after = world.clock.now
    world.run(3000, until_done=True)
    return {
        "old opened late": sum(time > after and where == address for time, where in world.opened),
        "left": world.left,
        "twice": len(world.delivered) - len(set(world.delivered)),
    }


def clock_jump(small):
    """The date is set a day forward, then back, while deferred mail waits under a rate."""
    world = World(SITE + b":c=10,r=2/s~5\n")
    first = set()
    server = Server(0.2)

    def once(sender, recipient):
        is_new = recipient not in first
        first.add(recipient)
        return b"450 4.2.0 mailbox busy" if is_new and recipient[0] % 3 else None

    server.message_reply = once
    world.place(SITE, server)
    for number in range(500):
        world.send([SITE], b"s%d.example" % (number % 10))
    world.run(260)
    world.clock.set_date(86_400)
    before = len(world.opened), len(world.delivered)
    world.run(60)
    forward = len(world.delivered) - before[1]
    world.clock.set_date(-86_400)
    world.run(4000, until_done=True)
    times = sorted(time for time, *_ in world.delivered)
    most = max(bisect.bisect_left(times, start + 10) - place for place, start in enumerate(times))
    return {"in the first minute": forward, "most in 10 s": most, "left": world.left, "failed": len(world.failures)}


def dead_zones(small):
    """Thousands of domains whose name servers say nothing; and mail that needs none of them."""
    zones = 500 if small else 3000
    world = World(b"", route_of={b"routed.example": (b"routed.example", b"", b"10.200.0.1:25")}.get)
    world.names.routes[b"routed.example"] = b"10.200.0.1:25"
    world.servers.update({b"10.200.0.1": Server(0.1), b"10.200.0.2": Server(0.1)})
    world.place(b"known.example", Server(0.1))
    world.place(b"good.example", Server(0.1))
    world.send([b"known.example"])
    world.run(10)
    for number in range(zones):
        world.names.zones[b"z%d.example" % number] = Zone([], kind=NO_ANSWER)
        world.send([b"z%d.example" % number])
    world.run(30)
    start, when = world.clock.now, {}
    for domain in (b"routed.example", b"[10.200.0.2]", b"known.example", b"good.example"):
        when[domain] = world.send([domain])
    world.run(120)
    times = {number: time - start for time, number, _ in world.delivered}
    return {
        "routed": times.get(when[b"routed.example"], 1e9),
        "literal": times.get(when[b"[10.200.0.2]"], 1e9),
        "known": times.get(when[b"known.example"], 1e9),
        "good": times.get(when[b"good.example"], 1e9),
        "failed": len(world.failures),
    }


def said(world, text: bytes) -> int:
    """Return how many lines of the log have this."""
    return sum(text in line for _, line in world.log)


def _arrive(world, sites, rate, seconds):
    """Let mail arrive at random: so many messages a second, over the sites u0.example and on."""
    end = world.clock.now + seconds

    def one():
        world.send([b"u%d.example" % world.random.randrange(sites)], b"s%d.example" % world.random.randrange(20))
        wait = world.random.expovariate(rate)
        if world.clock.now + wait < end:
            world.clock.after(wait, one)

    one()
