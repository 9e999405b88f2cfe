"""Sources in whole engines, in the model world: who gets which, that it is kept, and what moves mail."""

from collections import Counter
from datetime import UTC, datetime
from itertools import groupby

import pytest

from bench.destinations.network import Zone
from bench.destinations.servers import Greylist, Server, SessionLimit
from bench.destinations.world import World
from tests.mail.destinations.engine_checks import CheckedWorld
from tests.mail.destinations.play import Play, words

A, B, C = b"192.0.2.1", b"192.0.2.2", b"192.0.2.3"
V6 = b"2001:db8::1"
FAST = b"c=50,k=1000/s~1000,i=50"
RULES = b":src=%%p,%b\n%%p:%b\n"
DAY = 86_400
REPUTATION = b"421 4.7.0 [TSS04] deferred due to user complaints"
RESPONSES = b":421:TSS04:pause 2h org\n"


def world_of(pool, items=FAST, more=b"", **words):
    world = CheckedWorld(RULES % (items, pool) + more, **words)
    world.place(b"a.example", Server(0.1))
    return world


def firsts(world):
    """Return the source of the first try of each recipient."""
    return [tries[0] for tries in world.sources.values()]


def test_messages_are_shared_by_weight_and_greet_with_their_source_s_name():
    world = world_of(A + b"=mx1.example*3," + B + b"=mx2.example")
    for _ in range(400):
        world.send([b"a.example"])
    world.finish(600)
    counts = Counter(firsts(world))
    assert not world.left and set(counts) == {A, B} and 270 < counts[A] < 330


def test_open_carries_address_and_name():
    play = Play(rules=b":src=%p\n%p:" + A + b"=mx1.example\n")
    play.arrive(b"a.example")
    play.resolved(b"a.example")
    ((_, _, opening),) = words(play.orders(), "open")
    assert (opening.source, opening.helo) == (A, b"mx1.example")


def test_without_a_pool_nothing_is_parted():
    play = Play(rules=b"b.example:src=%p\n%p:" + A + b"\n")
    play.arrive(b"a.example")
    play.resolved(b"a.example")
    assert [opening.source for _, _, opening in words(play.orders(), "open")] == [b""]
    assert play.engine._ways.find(b"a.example").parts is None


def test_tries_keep_their_source_also_over_a_restart_and_beside_a_new_one():
    world = world_of(A + b"," + B)
    world.place(b"a.example", Server(0.1, greylist=Greylist(900)))
    for _ in range(60):
        world.send([b"a.example"])
    world.run(60)
    world.restart()
    world.run(600)
    world.use_rules(RULES % (FAST, A + b"," + B + b"," + C))
    world.finish(8000)
    assert not world.left
    assert all(len(set(tries)) == 1 and len(tries) > 1 for tries in world.sources.values())
    assert set(firsts(world)) == {A, B}


def test_a_sender_keeps_one_face_towards_a_domain():
    world = world_of(A + b"," + B, FAST + b",by=sender")
    for number in range(200):
        world.send([b"a.example"], b"s%d.example" % (number % 10))
    world.finish(600)
    faces = {}
    for (number, _), tries in world.sources.items():
        faces.setdefault(world.mail[number].sender, set()).update(tries)
    assert all(len(sources) == 1 for sources in faces.values())
    assert len(set().union(*faces.values())) == 2


def test_each_source_has_a_window_and_limits_of_its_own_and_all_of_them_one_together():
    world = world_of(A + b"," + B, b"c=4,C=6/site,k=1000/s~1000")
    limit = SessionLimit()
    world.place(b"a.example", Server(5.0, limits=[limit]))
    for _ in range(100):
        world.send([b"a.example"])
    up = []
    world.after_each.append(lambda world: up.append(Counter(session.source for session in world.sessions.values())))
    world.finish(4000)
    assert not world.left and limit.peak == 6
    assert 6 <= max(counts[A] for counts in up) + max(counts[B] for counts in up) <= 8
    assert max(max(counts.values(), default=0) for counts in up) == 4


def test_a_limit_of_a_group_for_one_source_is_for_that_one():
    rules = b"a.example:@g\n@g:c=5\n@g/" + B + b":c=1\n"
    world = world_of(A + b"," + B, more=rules)
    world.place(b"a.example", Server(5.0))
    for _ in range(60):
        world.send([b"a.example"])
    up = []
    world.after_each.append(lambda world: up.append(Counter(session.source for session in world.sessions.values())))
    world.finish(4000)
    assert not world.left
    assert (max(counts[A] for counts in up), max(counts[B] for counts in up)) == (5, 1)


def test_a_refusal_of_one_source_is_not_the_other_s():
    world = world_of(A + b"," + B, FAST, responses=RESPONSES)
    world.servers[world.names.zones[b"a.example"].hosts[0][2][0]].disliked[A] = REPUTATION
    for _ in range(40):
        world.send([b"a.example"])
    world.run(3000)
    assert {world.sources[number, 0][0] for _, number, _ in world.delivered} == {B}
    assert world.left and not world.deferrals  # what is A's waits: moving it to B is how B is banned, too
    said = [line for _, line in world.log if b"paused" in line]
    assert said and all(line.startswith(b"org a.example by 192.0.2.1: paused 7200:") for line in said)


def test_with_spill_a_paused_source_s_mail_goes_through_the_others():
    world = world_of(A + b"," + B, FAST + b",spill", responses=RESPONSES)
    server = world.servers[world.names.zones[b"a.example"].hosts[0][2][0]]
    server.disliked[A] = REPUTATION
    world.place(b"b.example", Server(0.1))
    for _ in range(1500):
        world.send([b"a.example"])
    world.run(120, until_done=True)
    assert not world.left and {tries[0] for tries in world.sources.values()} == {B}
    for _ in range(20):
        world.send([b"a.example"])
        world.send([b"b.example"])
    world.run(120, until_done=True)
    assert not world.left
    other = {world.sources[number, 0][0] for number in world.mail if world.mail[number].domains == [b"b.example"]}
    assert other == {A, B}  # it is paused for that organisation alone
    world.run(7300)
    server.disliked.clear()
    for _ in range(20):
        world.send([b"a.example"])
    world.run(200, until_done=True)
    assert {world.sources[number, 0][0] for number in list(world.mail)[-20:]} == {A, B}


def test_with_all_sources_paused_mail_waits_and_none_is_lost():
    world = world_of(A + b"," + B, FAST + b",spill", responses=RESPONSES)
    server = world.servers[world.names.zones[b"a.example"].hosts[0][2][0]]
    server.disliked.update({A: REPUTATION, B: REPUTATION})
    for _ in range(50):
        world.send([b"a.example"])
    world.run(600)
    assert world.left == 50 and not world.deferrals
    server.disliked.clear()
    world.finish(8000)
    assert not world.left


def test_an_address_that_is_not_here_is_that_source_s_trouble_alone():
    world = world_of(A + b"," + B)
    world.network.absent[A] = None
    for _ in range(40):
        world.send([b"a.example"])
    world.run(1800)
    assert 0 < world.left < 40 and not world.deferrals and not world.failures
    assert {tries[0] for tries in world.sources.values()} == {B}
    said = [line for _, line in world.log if line.startswith(b"source ")]
    spill = b"its mail waits, or goes through others where a rule says spill"
    assert said == [b"source 192.0.2.1: not an address of this machine: " + spill]
    assert not [line for _, line in world.log if b"dead" in line or b"host " in line or b"lowered" in line]
    del world.network.absent[A]
    world.finish(200)
    assert not world.left
    assert [line for _, line in world.log if line.startswith(b"source ")][1:] and not world.deferrals


def test_with_spill_what_cannot_be_bound_goes_through_the_others():
    world = world_of(A + b"," + B, FAST + b",spill")
    world.network.absent[A] = None
    for _ in range(40):
        world.send([b"a.example"])
    world.run(60, until_done=True)
    assert not world.left and {tries[0] for tries in world.sources.values()} == {B}


@pytest.mark.parametrize("wheel", [False, True])
def test_a_source_that_is_withdrawn_leaves_its_mail_to_the_others(wheel):
    world = world_of(A + b"," + B, FAST)
    server = Server(0.1, greylist=Greylist(300)) if wheel else Server(0.1, limits=[SessionLimit(0)])
    world.place(b"a.example", server)
    for _ in range(40):
        world.send([b"a.example"])
    world.run(30)
    world.use_rules(RULES % (FAST, B))
    if not wheel:
        server.limits[0].limit = None
    world.finish(4000)
    assert not world.left and {tries[-1] for tries in world.sources.values()} == {B}
    lanes = [lane for lane in world.engine._ways.lanes if lane.source == A]
    assert lanes == []  # nothing of it stays


def test_a_pool_that_goes_and_comes_parts_and_joins():
    world = world_of(A + b"," + B, FAST)
    world.place(b"a.example", Server(0.1, greylist=Greylist(2000)))
    for _ in range(20):
        world.send([b"a.example"])
    world.run(60)
    world.use_rules(b":" + FAST + b"\n")
    for _ in range(20):
        world.send([b"a.example"])
    world.run(1000)
    world.use_rules(RULES % (FAST, A + b"," + B))
    world.finish(30_000)
    assert not world.left
    kept = {tuple(source for source, _ in groupby(tries)) for tries in world.sources.values()}
    assert kept == {(A, b"", A), (B, b"", B), (b"", A), (b"", B)}


def test_a_sender_may_have_a_pool_of_its_own():
    rules = b"from=s.example:src=%q\n%q:" + C + b"\n"
    world = world_of(A, FAST, rules)
    for sender in (b"s.example", b"t.example", b""):
        world.send([b"a.example"], sender)
    world.finish(60)
    assert [world.sources[number, 0] for number in (1, 2, 3)] == [[C], [A], [A]]
    world.use_rules(b":" + FAST + b"\nfrom=s.example:src=%q\n%q:" + C + b"\n")
    for sender in (b"s.example", b"t.example"):
        world.send([b"a.example"], sender)
    world.finish(60)
    assert [world.sources[number, 0] for number in (4, 5)] == [[C], [b""]]


def test_a_source_reaches_addresses_of_its_family():
    world = world_of(A + b"," + V6)
    world.names.zones[b"four.example"] = Zone([(10, b"mx.four.example", [b"10.9.9.9"])])
    world.names.zones[b"six.example"] = Zone([(10, b"mx.six.example", [b"2001:db8:9::9"])])
    world.names.zones[b"both.example"] = Zone([(10, b"mx.both.example", [b"10.9.9.9", b"2001:db8:9::9"])])
    world.servers |= {b"10.9.9.9": Server(0.1), b"2001:db8:9::9": Server(0.1)}
    for _ in range(20):
        for domain in (b"four.example", b"six.example", b"both.example"):
            world.send([domain])
    world.finish(600)
    used = {}
    for (number, _), tries in world.sources.items():
        used.setdefault(world.mail[number].domains[0], set()).update(tries)
    assert not world.left
    assert used == {b"four.example": {A}, b"six.example": {V6}, b"both.example": {A, V6}}


def test_hosts_of_another_family_than_all_sources_are_waited_for_and_no_source_is_tried_there():
    world = world_of(A)
    world.names.zones[b"six.example"] = Zone([(10, b"mx.six.example", [b"2001:db8:9::9"])], ttl=60)
    world.servers[b"2001:db8:9::9"] = Server(0.1)
    world.send([b"six.example"])
    world.run(600)
    assert world.left == 1 and not world.opened and not world.deferrals
    world.names.zones[b"six.example"] = Zone([(10, b"mx.six.example", [b"10.9.9.8"])])
    world.servers[b"10.9.9.8"] = Server(0.1)
    world.finish(600)
    assert not world.left


def day_of(date):
    """Return a date as rules have it."""
    return datetime.fromtimestamp(date, UTC).strftime("%Y-%m-%d").encode()


def test_what_exceeds_a_warm_up_goes_through_the_others_at_once():
    date = World().clock.date
    world = world_of(A + b",warm=" + C + b"=mx3.example@" + day_of(date))
    for _ in range(900):
        world.send([b"a.example"])
    world.finish(600)
    counts = Counter(firsts(world))
    assert not world.left and counts[C] == 200 and counts[A] == 700
    world.restart()
    for _ in range(20):
        world.send([b"a.example"])
    world.finish(60)
    assert set(firsts(world)[-20:]) == {A}  # the state file has what was counted
    world.run(DAY)
    for _ in range(900):
        world.send([b"a.example"])
    world.finish(600)
    assert Counter(firsts(world)[-900:])[C] == 300


def test_a_warm_up_that_begins_tomorrow_carries_nothing_today():
    date = World().clock.date
    world = world_of(A + b",warm=" + C + b"@" + day_of(date + DAY))
    for _ in range(50):
        world.send([b"a.example"])
    world.finish(60)
    assert set(firsts(world)) == {A}


def test_mail_that_was_deferred_finds_its_warm_source_again_after_a_restart():
    date = World().clock.date
    world = world_of(A + b",warm=" + C + b"@" + day_of(date))
    world.place(b"a.example", Server(0.1, greylist=Greylist(1200)))
    for _ in range(90):
        for _ in range(10):
            world.send([b"a.example"])
        world.run(1)
    world.run(60)
    world.restart()
    world.run(20 * 60)
    world.restart()
    world.finish(20_000)
    assert not world.left and Counter(firsts(world))[C] == 200
    # those of the second in which the day was full are of either kind
    assert sum(len(set(tries)) > 1 for tries in world.sources.values()) <= 10


def test_agents_are_not_bound_and_the_log_says_so_once():
    world = World(RULES % (FAST, A + b"," + B), opens_sessions=False)
    world.place(b"a.example", Server(0.1))
    for _ in range(5):
        world.send([b"a.example"])
    world.finish(60)
    said = [line for _, line in world.log if line.startswith(b"rules: ")]
    assert said == [b"rules: src= is not obeyed here: agents choose the address that they send with"]
    local = World(RULES % (FAST, A + b"," + B), channel="local", opens_sessions=False)
    local.run(1)
    assert local.log == []


def test_a_relay_takes_nothing_that_has_a_source_and_the_log_says_so_once():
    world = world_of(A, FAST + b",fall=relay.example")
    world.servers[world.names.zones[b"a.example"].hosts[0][2][0]].kind = "resets"
    for _ in range(3):
        world.send([b"a.example"])
    world.run(600)
    assert world.left == 3 and not world.delivered
    said = [line for _, line in world.log if b"fall" in line]
    assert said == [b"rules: fall= is not obeyed where src= says which source mail has"]
