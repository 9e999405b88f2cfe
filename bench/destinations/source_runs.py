"""Scenarios of sources: a new one is warmed up, one is withdrawn, one is paused and its mail may move."""

from collections import Counter

from bench.destinations.servers import Greylist, Server, SessionLimit
from bench.destinations.world import World

SITE = b"site.example"
OLD, OTHER, NEW = b"192.0.2.1", b"192.0.2.2", b"192.0.2.3"
FAST = b"c=20,n=50,k=1000/s~1000"
DAY = 86_400


def warm_up(small):
    """A new source beside an old one, for three days, the queue manager killed in the middle of each."""
    count = 1000 if small else 2000
    world = World(b":%b,src=%%p\n%%p:%b,warm=%b@2027-01-15\n" % (FAST, OLD, NEW))  # the day on which worlds begin
    world.place(SITE, Server(0.2))
    carried, waits = [], 0.0
    for _ in range(3):
        begun = world.clock.now
        before = len(world.sources)
        for part in range(2):
            for _ in range(count // 2):
                world.send([SITE])
            world.run(DAY / 4, until_done=True)
            waits = max(waits, max(when for when, _, _ in world.delivered) - begun - part * DAY / 4)
            if not part:
                world.restart()
                world.run(DAY / 4 - (world.clock.now - begun))
        tries = list(world.sources.values())[before:]
        carried.append(Counter(one[0] for one in tries)[NEW])
        world.run(DAY - (world.clock.now - begun))
    figures = {f"new on day {day + 1}": number for day, number in enumerate(carried)}
    return {**figures, "longest, s": waits, "left": world.left, "deferred": len(world.deferrals)}


def withdrawn(small):
    """One of two sources leaves the pool while a greylist has deferred what both have tried."""
    count = 200 if small else 2000
    world = World(b":%b,src=%%p\n%%p:%b,%b\n" % (FAST, OLD, OTHER))
    world.place(SITE, Server(0.2, greylist=Greylist(900)))
    for _ in range(count):
        world.send([SITE])
    world.run(600)
    begun = {key: tries[0] for key, tries in world.sources.items()}
    at = {key: len(tries) for key, tries in world.sources.items()}
    world.use_rules(b":%b,src=%%p\n%%p:%b\n" % (FAST, OTHER))
    world.finish(40_000)
    later = {key: set(tries[at[key] :]) for key, tries in world.sources.items()}
    return {
        "through the old later": sum(OLD in sources for sources in later.values()),
        "moved that had the other": sum(later[key] != {OTHER} for key, source in begun.items() if source == OTHER),
        "left": world.left,
        "failed": len(world.failures),
    }


def spill(small):
    """A provider pauses one of two sources by its words; with spill the other carries all, without none moves."""
    count = 1000 if small else 5000
    figures = {}
    for name, word in (("spill", b",spill"), ("no spill", b"")):
        world = World(
            b":%b,src=%%p%b\n%%p:%b,%b\n" % (FAST, word, OLD, OTHER), responses=b":421:[TSS04]:pause 2h org\n"
        )
        limit = SessionLimit()
        server = Server(0.2, limits=[limit])
        world.place(SITE, server)
        server.disliked[OLD] = b"421 4.7.0 [TSS04] deferred due to user complaints"
        for _ in range(count):
            world.send([SITE])
        world.run(3600)
        figures[f"delivered, {name}"] = len(world.delivered) / count
        figures[f"connections of the paused, {name}"] = server.connections - limit.sessions
        figures[f"deferred, {name}"] = len(world.deferrals)
    return figures
