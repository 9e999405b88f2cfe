"""Random worlds by number: a plan is drawn from its number alone, so that a world that fails can be run again.

Servers refuse, ban, greylist, hang, close and die, alone or as hosts of one organisation; the uplink, the resolver and
session processes fail; rules change, the clock jumps, the queue manager is killed or stops.  In the end everything is
healed, and every message must have ended.
"""

import random

from bench.destinations.network import NO_ANSWER, NO_SUCH_DOMAIN, SERVER_FAILURE
from bench.destinations.servers import GREETS, MUTE, REFUSES, RESETS, SILENT, Greylist, RateBan, Server, SessionLimit
from bench.destinations.world import FAILED, FLIES, WAITS
from pyqmail.mail.destinations.outcome import DATA, SENDER
from tests.mail.destinations.engine_checks import BUSY, CheckedWorld

DAY = 86_400
SECONDS = 1500  # in which everything happens
ITEMS = (
    b"c=1", b"c=2", b"c=3", b"c=20", b"C=2", b"i=1", b"i=5", b"n=1", b"n=3", b"m=1", b"m=4", b"k=30/m~3", b"r=2/s~4",
    b"p=3", b"idle=0s", b"idle=30s", b"learn=no", b"w=urgent", b"w=bulk", b"dead=1", b"f=2", b"try=60s*2<600s",
    b"c=1/host", b"c=2/net",
)  # fmt: skip
GROUP_ITEMS = (b"c=2", b"c=4", b"C=3", b"k=20/m~4", b"r=1/s~3", b"c=3,r=2/s~2")
REFUSALS = (
    b"421 too many connections", b"421 shutting down", b"554 go away", b"421 rate limited due to ip reputation",
    b"521 no mail here", b"451 not now", b"421 tss04 user complaints",
)  # fmt: skip
RESPONSES = b"""\
:421:too many connections:ceiling
:45:rate limited due to ip reputation:rate
:421:rate limited due to ip reputation:rate
:421:tss04:pause 5m
:45:greylist:grey
"""
EVENTS = (
    "uplink", "resolver", "lose", "lose", "forward", "back", "lacking", "rules", "rules", "restart", "forgotten",
    "server", "server", "server", "server", "limit", "limit", "zone", "alarm", "forget", "stop",
)  # fmt: skip


class RandomWorld:
    """number is the seed of everything.  run() raises AssertionError if a property does not hold."""

    def __init__(self, number, make=CheckedWorld):
        self.random = draw = random.Random(number)
        self.sites = draw.randrange(1, 7)
        self.names = [b"d%d.example" % site for site in range(self.sites)]
        self.world = make(
            self.rules(),
            total=draw.choice((1, 2, 3, 5, 12, 50)),
            seed=number,
            opens_sessions=draw.random() < 0.85,
            lifetime=draw.choice((DAY // 4, 2 * DAY)),
            responses=RESPONSES,
        )
        self.world.quit_seconds = draw.choice((0.0, 0.0, 0.5))
        self.shared = SessionLimit(draw.choice((None, 2, 4)))
        self.servers, self.limits = [], [self.shared]
        for name in self.names:
            self.place(name)
        for _ in range(draw.randrange(1, 14)):
            self.world.clock.at(1000.0 + round(draw.uniform(0, 600), 1), self.send)
        for _ in range(draw.randrange(6)):
            self.world.clock.at(1000.0 + draw.randrange(1, SECONDS), self.happen, draw.choice(EVENTS))
        self.world.clock.at(1000.0 + SECONDS, self.heal)

    def rules(self) -> bytes:
        draw = self.random
        lines, groups = [], draw.sample((b"@a", b"@b"), draw.randrange(3))
        for name in self.names:
            items = {item.partition(b"=")[0]: item for item in draw.sample(ITEMS, draw.randrange(4))}
            if b"C" in items:
                items.pop(b"c", None)
            chosen = [group for group in groups if draw.random() < 0.6] + list(items.values())
            if chosen:
                lines.append(name + b":" + b",".join(chosen))
        used = b"".join(lines)
        lines += [group + b":" + draw.choice(GROUP_ITEMS) for group in groups if group in used]
        if draw.random() < 0.2:
            lines.append(b"ip=10.0.0.0/16:c=%d" % draw.randrange(1, 4))
        if draw.random() < 0.1:
            lines.append(draw.choice(self.names[-1:]) + b".x:hold")
        return b"".join(line + b"\n" for line in lines)

    # what there is

    def place(self, name):
        draw = self.random
        limits = [SessionLimit(draw.choice((None, None, 1, 2, 5)))]
        self.limits += limits
        is_hosted = draw.random() < 0.3
        if is_hosted:
            limits.append(self.shared)
        greylist = Greylist(draw.choice((60, 700))) if draw.random() < 0.2 else None
        rate = RateBan(20, 300.0) if draw.random() < 0.15 else None
        servers = [self.server(limits, greylist, rate) for _ in range(draw.choice((1, 1, 2, 3)))]
        self.servers += servers
        label = name.partition(b".")[0]
        hosts = [b"%b-%d.hoster.example" % (label, number) for number in range(len(servers))] if is_hosted else None
        addresses = self.world.place(name, *servers, ttl=draw.choice((60, 300, 3600)), hosts=hosts)
        if draw.random() < 0.2:  # all in one net
            net = addresses[0].rpartition(b".")[0]
            zone = self.world.names.zones[name]
            for index, (preference, host, (address,)) in enumerate(zone.hosts):
                moved = b"%b.%d" % (net, index + 1)
                self.world.servers[moved] = self.world.servers.pop(address)
                zone.hosts[index] = (preference + 10 * (draw.random() < 0.3), host, [moved])

    def server(self, limits, greylist, rate) -> Server:
        draw = self.random
        server = Server(
            draw.choice((0.1, 0.5, 3.0)),
            limits=limits,
            greylist=greylist,
            rate=rate,
            most_messages=draw.choice((None, None, None, 1, 3)),
            most_recipients=draw.choice((None, None, 1, 2)),
            is_full_close=draw.random() < 0.5,
            full_stage=draw.choice((SENDER, DATA)),
            full_reply=draw.choice((b"421 enough", b"451 enough", b"452 enough", b"554 enough", b"")) or b"421 enough",
        )
        self.change(server)
        return server

    def change(self, server):
        """Let a server be another from now on."""
        draw = self.random
        server.kind = draw.choice((GREETS,) * 5 + (REFUSES, REFUSES, RESETS, SILENT, MUTE))
        server.connect_seconds = draw.choice((0.02, 0.5, 0.5, 4.0, 20.0, 100.0))
        server.refusal = draw.choice(REFUSALS)
        server.hangs_up, server.drops = draw.random() < 0.1, draw.random() < 0.1
        server.message_reply = _first_time(BUSY, draw.randrange(2, 4)) if draw.random() < 0.3 else None
        replies = (b"451 4.3.0 not now", b"450 4.2.1 slowly", b"550 5.1.1 nobody")
        server.recipient_reply = _first_time(draw.choice(replies), 2) if draw.random() < 0.2 else None

    def send(self):
        draw = self.random
        domains = [draw.choice(self.names) for _ in range(draw.choice((1, 1, 2, 5, 12)))]
        sender = b"s%d.example" % draw.randrange(4)
        size = draw.choice((500, 500, 2_000_000))
        self.world.send(domains, sender, size, is_alone=draw.random() < 0.4, is_bulk=draw.random() < 0.3)

    # what happens

    def happen(self, event):
        getattr(self, "_" + event)()

    def _uplink(self):
        network, clock = self.world.network, self.world.clock
        if network.is_up:
            network.is_up, network.back_at = False, clock.now + 120
            clock.after(120, setattr, network, "is_up", True)

    def _resolver(self):
        self.world.names.is_silent = True
        self.world.clock.after(200, setattr, self.world.names, "is_silent", False)

    def _lose(self):
        self.world.lose(self.random.randrange(1, 6))

    def _forward(self):
        self._set_date(DAY / 8)

    def _back(self):
        self._set_date(-DAY / 8)

    def _set_date(self, change):
        self.world.earliest.clear()  # what waits for a date waits for another time now
        self.world.clock.set_date(change)

    def _lacking(self):
        self.world.report("lacking")

    def _rules(self):
        self.world.use_rules(self.rules())

    def _restart(self, has_state=True):
        self.world.used.clear()
        self.world.restart(has_state)

    def _forgotten(self):
        self._restart(False)

    def _server(self):
        self.change(self.random.choice(self.servers))

    def _limit(self):
        self.random.choice(self.limits).limit = self.random.choice((None, 1, 2, 3, 8))

    def _zone(self):
        zone = self.world.names.zones[self.random.choice(self.names)]
        before, zone.kind = zone.kind, self.random.choice((NO_ANSWER, SERVER_FAILURE, NO_SUCH_DOMAIN))
        self.world.clock.after(300, setattr, zone, "kind", before)

    def _alarm(self):
        self.world.earliest.clear()
        self.world.engine.make_due(self.world.clock.now)
        self.world._obey()

    def _forget(self):
        """Somebody removes a message."""
        world = self.world
        waiting = [number for number, mail in world.mail.items() if mail.left]
        if waiting:
            number = self.random.choice(waiting)
            mail = world.mail[number]
            if any(world.states[number, offset] == FLIES for offset in range(len(mail.domains))):
                return  # what is in flight ends without effect: the world has no account of that
            for offset in range(len(mail.domains)):
                if world.states[number, offset] == WAITS:
                    world.states[number, offset] = FAILED
                    mail.left -= 1
                    world.left -= 1
            mail.done = True
            world.engine.forget(number, world.clock.now)
            world._obey()

    def _stop(self):
        """The queue manager ends, and starts again when all that was in flight has ended."""
        world = self.world
        if not world.core.is_stopped:
            world.engine.stop(world.clock.now)
            world._obey()
            self.await_end(world.engine, len(world.opened))

    def await_end(self, engine, opened):
        world = self.world
        if world.engine is not engine:
            return  # it was killed meanwhile
        assert len(world.opened) == opened, "a session was opened after stop()"
        if world.sessions or world.in_flight:
            world.clock.after(5, self.await_end, engine, opened)
            return
        assert [budget.name for budget in world.budgets() if budget.used] == []
        self._restart()

    def heal(self):
        """From now on everything answers as servers should; what they limit stays."""
        world = self.world
        world.network.is_up = True
        for server in self.servers:
            server.kind, server.connect_seconds = GREETS, min(server.connect_seconds, 0.5)
            server.hangs_up, server.drops, server.message_reply, server.recipient_reply = False, False, None, None

    def run(self):
        world = self.world
        world.run(SECONDS + 10.0)
        world.finish(6 * DAY)
        world.check_end()
        opened, doors = len(world.opened), self.sites * 4
        retries = sum(world.tries.values()) + world.unsent_count + len(world.mail) * 12
        assert world.core.admission.moves <= 14 * opened + doors + 2 * retries  # P8
        return world


def _first_time(answer, every):
    """Return what answers so to every so manieth recipient at its first try."""
    tried = set()

    def reply(sender, recipient):
        is_first = recipient not in tried
        tried.add(recipient)
        return answer if is_first and sum(recipient) % every == 0 else None

    return reply


def main(first, last):
    """Run these worlds, and print the numbers of those that fail."""
    import traceback

    for number in range(first, last):
        try:
            RandomWorld(number).run()
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            print(number, type(error).__name__, str(error)[:150], place.name, place.lineno, flush=True)
    print("done", first, last, flush=True)


if __name__ == "__main__":
    import sys

    main(int(sys.argv[1]), int(sys.argv[2]))
