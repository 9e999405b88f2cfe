"""The model world, by an engine that is simple enough to know what must come out."""

import pytest

from bench.destinations.clock import Clock
from bench.destinations.network import NO_ANSWER, NO_SUCH_DOMAIN, Zone
from bench.destinations.servers import MUTE, REFUSES, RESETS, SILENT, Greylist, RateBan, Server, SessionLimit
from bench.destinations.world import Broken, World
from pyqmail.mail.destinations.outcome import CONNECT, DIALOGUE, MESSAGE, RECIPIENTS, SENDER
from tests.mail.destinations.plain_engine import PlainEngine

SITE = b"site.example"


def plain_world(*servers, **other):
    world = World(engine=PlainEngine, **other)
    world.place(SITE, *servers)
    return world


def test_the_clock_runs_in_order_and_then_stands_where_it_was_told():
    clock, seen = Clock(), []
    for seconds, name in ((5, "c"), (1, "a"), (1, "b"), (900, "late")):
        clock.after(seconds, seen.append, name)
    clock.run(1100.0)
    assert (seen, clock.now) == (["a", "b", "c"], 1100.0)


@pytest.mark.parametrize("sessions, seconds", [(1, 50.2), (5, 10.04), (10, 5.02)])
def test_deliveries_take_as_long_as_their_sessions_do(sessions, seconds):
    world = plain_world(Server(0.5), sessions=sessions)
    for _ in range(100):
        world.send([SITE])
    world.run(1000, until_done=True)
    assert len(world.delivered) == 100
    assert seconds * 0.95 <= world.clock.now - 1000 <= seconds * 1.05


def test_a_limit_counts_what_is_up():
    limit = SessionLimit(4)
    world = plain_world(Server(0.5, limits=[limit]), sessions=10)
    for _ in range(100):
        world.send([SITE])
    world.finish(2000)
    assert (limit.peak, limit.up, len(world.delivered)) == (4, 0, 100)
    assert limit.refusals >= 6


def test_one_of_two_silent_hosts_costs_a_sender_without_memory_what_the_formula_says():
    world = plain_world(Server(0.5, kind=SILENT), Server(0.5), sessions=20)
    for _ in range(6000):
        world.send([SITE])
    world.run(3600)
    # sessions of ours last as long as there is mail: the silent host costs each of the 20 one timeout at most
    assert world.timeouts <= 20
    assert len(world.delivered) == 6000


def test_a_hedge_does_not_wait_for_the_timeout():
    world = plain_world(Server(0.5, kind=SILENT), Server(0.5), hedge=2.0)
    for _ in range(100):
        world.send([SITE])
    world.run(100, until_done=True)
    assert (len(world.delivered), world.timeouts) == (100, 0)
    assert world.clock.now - 1000 <= 8.5


KINDS = [
    # kind    stage      seconds until it is known
    (SILENT, CONNECT, 30.0),
    (MUTE, DIALOGUE, 30.0),
    (RESETS, CONNECT, 0.02),
    (REFUSES, "greeting", 0.02),
]


@pytest.mark.parametrize("kind, stage, seconds", KINDS)
def test_servers_that_take_nothing(kind, stage, seconds):
    world = plain_world(Server(0.5, kind=kind))
    seen = []
    for name in ("failed", "refused"):
        setattr(world.engine, name, lambda session, outcome, now: seen.append((outcome.stage, now - 1000)))
    world.send([SITE])
    world.run(40)
    assert [(got, pytest.approx(when, abs=0.1)) for got, when in seen] == [(stage, seconds + 0.02)]


def test_a_network_that_is_down_is_silence_and_deliveries_wait():
    world = plain_world(Server(0.5), sessions=1)
    world.send([SITE])
    world.run(0.3)
    world.network.is_up, world.network.back_at = False, world.clock.now + 100
    world.run(100)
    assert not world.delivered
    world.network.is_up = True
    world.run(20)
    assert len(world.delivered) == 1


def test_a_greylist_and_what_it_counts():
    greylist = Greylist(100)
    world = plain_world(Server(0.1, greylist=greylist))
    world.send([SITE])
    world.run(1000, until_done=True)
    assert len(world.delivered) == 1
    assert [outcome.stage for *_, outcome in world.deferrals] == [RECIPIENTS] * 2
    assert set(greylist.tries.values()) == {3}


def test_a_rate_ban_is_extended_by_tries():
    rate = RateBan(30, 600.0)
    world = plain_world(Server(0.1, rate=rate))
    for _ in range(60):
        world.send([SITE])
    world.run(3000)
    assert rate.bans == 1
    assert rate.tries_in_ban >= 40
    assert len(world.delivered) == 30


@pytest.mark.parametrize("is_closing", [True, False])
def test_a_connection_that_is_full_gives_its_mail_back(is_closing):
    server = Server(0.1, most_messages=10, full_reply=b"452 enough", full_stage=SENDER, is_full_close=is_closing)
    world = plain_world(server, sessions=1)
    for _ in range(35):
        world.send([SITE])
    world.run(1000, until_done=True)
    assert (len(world.delivered), len(world.deferrals), world.unsent_count, server.greeted) == (35, 0, 3, 4)


def test_names_that_have_no_answer():
    world = plain_world(Server(0.1))
    world.names.zones[b"dead.example"] = Zone([], kind=NO_ANSWER)
    world.names.zones[b"none.example"] = Zone([], kind=NO_SUCH_DOMAIN)
    world.send([b"dead.example", b"none.example"])
    world.run(100)
    assert not world.delivered
    world.names.zones[b"dead.example"] = world.names.zones[SITE]
    world.run(100)
    assert len(world.delivered) == 1


def test_agents_connect_for_each_recipient():
    limit = SessionLimit()
    world = plain_world(Server(0.5, limits=[limit]), opens_sessions=False)
    world.send([SITE] * 40)
    world.finish(1000)
    assert (len(world.delivered), limit.sessions, limit.peak, limit.up) == (40, 40, 10, 0)


def test_a_process_that_dies_takes_its_sessions_along():
    limit = SessionLimit()
    world = plain_world(Server(1.0, limits=[limit]), sessions=5)
    for _ in range(50):
        world.send([SITE])
    world.run(3.3)
    world.lose(3)
    assert limit.up <= 5
    world.finish(1000)
    assert (len(world.delivered), limit.up) == (50, 0)


def test_an_engine_that_delivers_twice_is_caught():
    world = plain_world(Server(0.5))
    world.send([SITE])
    world.run(1000, until_done=True)
    lane = world.engine.lanes[SITE]
    lane.ready.append((1, 0))
    world.engine._seek(lane, world.clock.now)
    with pytest.raises(Broken, match="delivered again"):
        world.run(10)


def test_refusals_after_the_message_and_of_recipients():
    server = Server(0.1)
    server.message_reply = lambda sender, recipient: b"451 busy" if recipient[1] == 0 else None
    server.recipient_reply = lambda sender, recipient: b"550 no such user" if recipient[1] == 1 else None
    world = plain_world(server)
    world.send([SITE] * 3)
    world.run(30)
    assert [offset for _, _, offset in world.delivered] == [2]
    assert [offset for _, _, offset in world.failures] == [1]
    assert {outcome.stage for *_, outcome in world.deferrals} == {MESSAGE}
