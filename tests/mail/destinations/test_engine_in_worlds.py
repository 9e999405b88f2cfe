"""Faults that random worlds found, each in the smallest world that has it."""

import pytest

from bench.destinations.servers import GREETS, REFUSES, RESETS, SILENT, RateBan, Server, SessionLimit
from pyqmail.mail.destinations.limits.budgets import NET
from pyqmail.mail.destinations.outcome import DATA
from tests.mail.destinations.engine_checks import CheckedWorld

SITE = b"site.example"


@pytest.mark.parametrize("idle", [b"0s", b"2s", b"1m"])
def test_a_session_that_a_rate_holds_back_ends(idle):
    world = CheckedWorld(SITE + b":c=3,r=2/s~2,idle=" + idle + b"\n")
    limit = SessionLimit()
    world.place(SITE, Server(0.3, limits=[limit]))
    for _ in range(20):
        world.send([SITE])
    world.finish(100)
    world.check_end()
    assert limit.up == 0


def test_a_session_that_is_lost_as_it_connects_is_counted_once():
    world = CheckedWorld(b"", total=1)
    world.place(SITE, Server(0.3, connect_seconds=4.0))
    world.place(b"other.example", Server(0.3, connect_seconds=4.0))
    world.send([SITE, b"other.example"])
    world.run(1)
    world.lose(1)
    world.finish(100)
    world.check_end()


@pytest.mark.parametrize("kind", [SILENT, "greets"])
def test_hosts_are_asked_for_again_while_mail_waits(kind):
    world = CheckedWorld(SITE + b":c=1,n=1\n")
    world.place(SITE, Server(10.0, kind=kind), ttl=300)
    for _ in range(100):
        world.send([SITE])
    world.run(120)
    new = Server(0.1)
    world.place(SITE, new, ttl=300, hosts=[b"new.site.example"])
    world.run(1200)
    assert new.accepted > 0
    assert world.left == 0
    assert not world.deferrals


def test_a_door_seeks_while_its_session_closes():
    world = CheckedWorld(SITE + b":c=5,n=1\n")
    world.quit_seconds = 2.0
    limit = SessionLimit()
    world.place(SITE, Server(0.1, limits=[limit]))
    for _ in range(30):
        world.send([SITE])
    world.run(5)
    assert limit.peak > 2


def test_one_session_shows_whether_a_pause_is_over():
    world = CheckedWorld(SITE + b":c=10\n")
    server = Server(0.3, rate=RateBan(60, 600.0))
    world.place(SITE, server)
    for _ in range(300):
        world.send([SITE])
    world.run(1500)
    assert server.rate.bans == 1
    assert server.rate.tries_in_ban <= 4
    rate = next(line for _, line in world.log if b"a minute" in line)
    assert 35 <= float(rate.split()[-3]) <= 42  # 0.7 of what passed in the minute before


def test_a_budget_is_cautious_until_something_is_accepted_after_the_pause():
    world = CheckedWorld(SITE + b":c=10,i=10\n")
    limit = SessionLimit()
    server = Server(5.0, limits=[limit], kind=REFUSES, refusal=b"554 go away")
    world.place(SITE, server)
    for _ in range(50):
        world.send([SITE])
    world.run(60)
    server.kind = GREETS
    world.run(1800)
    first = min(time for time, address in world.opened if time > 1100)
    assert sum(first <= time < first + 4 for time, _ in world.opened) == 1
    world.finish(100)
    assert limit.peak == 10


def test_a_probe_before_its_time_is_followed_by_a_pause():
    world = CheckedWorld(b"")
    world.place(SITE, Server(kind=RESETS))
    world.send([SITE])
    world.run(600)
    before = len(world.opened)
    world.engine.make_due(world.clock.now)
    world._obey()
    world.run(30)
    assert len(world.opened) == before + 1


@pytest.mark.parametrize("refusal", [b"421 too many connections", b"421 rate limited due to ip reputation"])
@pytest.mark.parametrize("kind", [RESETS, REFUSES])
def test_who_refuses_is_not_asked_again_at_once_with_learn_no(kind, refusal):
    world = CheckedWorld(SITE + b":c=5,learn=no\n")
    world.place(SITE, Server(kind=kind, refusal=refusal))
    world.send([SITE] * 5)
    world.run(60)
    assert len(world.opened) <= 3 * 5


def test_who_refuses_less_than_the_floor_is_not_asked_again_at_once():
    world = CheckedWorld(SITE + b":f=2,n=1\n")
    limit = SessionLimit(1)
    world.place(SITE, Server(20.0, limits=[limit]))
    for _ in range(5):
        world.send([SITE])
    world.run(120)
    assert 0 < limit.refusals <= 6


@pytest.mark.parametrize("reply", [b"451 4.3.0 not now", b"452 4.3.1 disk full"])
def test_a_server_that_defers_all_at_data_is_not_shutting_down(reply):
    """A kept connection returns the next mail untouched and closes: that is not the server's end of it."""
    world = CheckedWorld(SITE + b":c=5,i=5\n")
    server = Server(0.5, most_messages=0, full_stage=DATA, full_reply=reply, is_full_close=False)
    world.place(SITE, server)
    for number in range(60):
        world.send([SITE], b"s%d.example" % (number % 2))
    world.run(300)
    assert len(world.deferrals) >= 60
    assert not [line for _, line in world.log if b"host " in line]


@pytest.mark.parametrize("reply", [b"421 enough", b""])
@pytest.mark.parametrize("seconds", [0.5, 1.3])
def test_connections_that_are_full_at_once_are_no_shutdown(reply, seconds):
    world = CheckedWorld(SITE + b":c=5,i=5\n")
    world.place(SITE, Server(lambda: world.random.uniform(0.9, 1.1) * seconds, most_messages=7, full_reply=reply))
    for _ in range(300):
        world.send([SITE])
    world.finish(300)
    world.check_end()
    lines = [line for _, line in world.log]
    assert not [line for line in lines if b"host " in line]
    assert [line for line in lines if line.endswith(b"messages a session: 7")]


def test_a_server_that_shuts_down_ends_each_where_it_stands():
    world = CheckedWorld(SITE + b":c=5,i=5\n")
    server = Server(lambda: world.random.uniform(0.2, 1.0))
    world.place(SITE, server)
    for _ in range(200):
        world.send([SITE])
    world.run(8)
    server.hangs_up, server.kind = True, REFUSES
    world.run(3)
    lines = [line for _, line in world.log]
    assert [line for line in lines if b"host mx1.site.example: off" in line]
    assert not [line for line in lines if b"ceiling" in line]


def test_a_silent_network_is_noticed_in_seconds_and_nobody_is_blamed():
    """Of sites that were alive: the timeout of a connection would take a minute."""
    world = CheckedWorld(b"")
    names = [b"u%d.example" % number for number in range(40)]
    for name in names:
        world.place(name, Server(0.1))
        world.send([name])
    world.run(60)
    world.network.is_up, world.network.back_at = False, world.clock.now + 120
    down, opened = world.clock.now, len(world.opened)
    for name in names:
        world.send([name])
    world.run(10)
    times = [time for time, line in world.log if b"network: suspected" in line]
    assert len(times) == 1 and times[0] < down + 5
    assert len([line for _, line in world.log if b"network: frozen" in line]) == 1
    assert len(world.opened) - opened <= 40 + 5 * 8
    world.clock.after(110, setattr, world.network, "is_up", True)
    world.finish(300)
    world.check_end()
    assert not [line for _, line in world.log if b"dead" in line or b"host " in line]
    assert not world.deferrals


def test_budgets_of_hosts_that_are_not_chosen_are_forgotten():
    world = CheckedWorld(b"")
    for number in range(20):
        world.place(b"d%d.example" % number, Server(0.1), Server(0.1), Server(0.1))
        world.send([b"d%d.example" % number] * 3, is_alone=True)
    world.finish(600)
    world.check_end()
    assert not [budget.name for budget in world.budgets() if budget.kind == NET]
