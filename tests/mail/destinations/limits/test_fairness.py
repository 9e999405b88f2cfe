"""The figures of fair-1000, nested and hostile-rooms, and the bounds of waiting and of moves, with Admission alone.

Doors always have mail; a session ends after its time on a virtual clock.
"""

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqmail.mail.destinations.limits.admission import Admission
from pyqmail.mail.destinations.limits.budgets import DOOR, GROUP, TOTAL, UNPROVEN, Budget, Pause
from pyqmail.mail.destinations.limits.rooms import LeastTriedRoom


class Site:
    def __init__(self, *chain):
        self.chain, self.place, self.opened_at, self.sessions = chain, None, [], 0
        self.most = 1 << 30

    @property
    def wants(self):
        return self.sessions < self.most


class Running:
    """Sessions that end at their time; what is used at most of each budget, and what was used of it in all."""

    def __init__(self, seconds):
        self.admission = Admission(self.opened)
        self.seconds, self.ends, self.number = seconds, [], 0
        self.most, self.used_seconds = {}, {}

    def opened(self, site, units, now):
        self.number += 1
        site.opened_at.append(now)
        site.sessions += 1
        end = now + self.seconds(site)
        heapq.heappush(self.ends, (end, self.number, site, units))
        for budget in units:
            self.most[budget] = max(self.most.get(budget, 0), budget.used)
            self.used_seconds[budget] = self.used_seconds.get(budget, 0) + end - now

    def run(self, until):
        while True:
            times = [self.ends[0][0] if self.ends else until, self.admission.next_time() or until]
            now = min(times)
            if now >= until:
                return
            if times[1] <= times[0]:
                self.admission.due(now)
                continue
            _, _, site, units = heapq.heappop(self.ends)
            site.sessions -= 1
            self.admission.release(units, now)
            self.admission.seek(site, now)


def jain(numbers):
    return sum(numbers) ** 2 / (len(numbers) * sum(number * number for number in numbers))


@pytest.mark.parametrize("count, places, seconds", [(1000, 100, 2000)])
def test_a_thousand_sites_share_a_hundred_sessions(count, places, seconds):
    """fair-1000: 21 or 22 sessions each, exactly 100 at the peak, 1.1 moves a session."""
    total = Budget(b"total", TOTAL, places)
    dice = random.Random(1)
    running = Running(lambda site: dice.uniform(8, 10.4))
    sites = [Site(Budget(b"site", DOOR, 10), total) for _ in range(count)]
    for site in sites:
        site.most = 1  # all are there before anybody wants a second one
        running.admission.seek(site, 0.0)
    for site in sites:
        site.most = 1 << 30
    running.run(seconds)
    opened = [len(site.opened_at) for site in sites]
    assert max(opened) - min(opened) <= 2
    assert jain(opened) >= 0.999
    assert running.most[total] == places
    assert running.admission.moves <= 1.1 * running.number


def test_groups_within_a_total_reach_exactly_their_limits():
    """nested: groups of 20 and 10, sites of 5, 100 in all; the total is used to 99.9 per cent."""
    total = Budget(b"total", TOTAL, 100)
    groups = [Budget(b"a", GROUP, 20), Budget(b"b", GROUP, 10)]
    dice = random.Random(2)
    running = Running(lambda site: dice.uniform(0.5, 3))
    chains = [(groups[0], total)] * 40 + [(groups[1], total)] * 40 + [(total,)] * 40
    sites = [Site(Budget(b"site", DOOR, 5), *chain) for chain in chains]
    for site in sites:
        running.admission.seek(site, 0.0)
    running.run(1000)
    assert [running.most[group] for group in groups] == [20, 10]
    assert max(running.most[site.chain[0]] for site in sites) == 5
    assert running.most[total] == 100
    assert running.used_seconds[total] >= 0.999 * 100 * 1000
    for group in groups:  # their units stand in line for the total, too
        assert running.used_seconds[group] >= 0.85 * group.limit * 1000


def test_hostile_rooms_cost_few_moves():
    """4000 sites, three nested limits, one of them pausing every 40 s: at most 3 moves a session, first ones too."""
    total, outer, inner = Budget(b"total", TOTAL, 100), Budget(b"outer", GROUP, 60), Budget(b"inner", GROUP, 40)
    dice = random.Random(3)
    running = Running(lambda site: dice.uniform(0.5, 3))
    chains = [(inner, outer, total), (outer, total), (total,), (inner, total)]
    sites = [Site(Budget(b"site", DOOR, 3), *chains[number % 4]) for number in range(4000)]
    for site in sites:
        running.admission.seek(site, 0.0)
    for start in range(0, 400, 40):
        outer.pause(Pause(start + 5.0, b"test"))
        running.admission.changed(outer, start)
        running.run(start + 40)
    assert running.number > 10000
    assert running.admission.moves <= 3 * running.number


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nobody_waits_longer_than_a_turn_of_all_others(data):
    """P7, F2: at most ceil(p / c) sessions' time when what is broader is free; P8: few moves."""
    count, is_group = data.draw(st.integers(1, 30)), data.draw(st.booleans())
    total = Budget(b"total", TOTAL, 1000 if is_group else data.draw(st.integers(1, 8)))
    group = Budget(b"group", GROUP, data.draw(st.integers(1, 8)) if is_group else 1000)
    narrow = min(total, group, key=lambda budget: budget.limit)
    dice = random.Random(data.draw(st.integers(0, 99)))
    running = Running(lambda site: dice.uniform(0.5, 1))
    sites = [Site(Budget(b"site", DOOR, data.draw(st.integers(1, 3))), group, total) for _ in range(count)]
    for site in sites:
        running.admission.seek(site, 0.0)
    running.run(100)
    own = 1.0  # a site that is full waits for itself first
    bound = own + -(-count // narrow.limit) * 1.0 + 1e-9
    for site in sites:
        waits = [later - earlier for earlier, later in zip([0.0, *site.opened_at], site.opened_at, strict=False)]
        assert max(waits) <= bound, waits
    assert running.admission.moves <= 2 * 3 * running.number + count


# the unproven


class Unproven:
    """Sites that are silent: each session is given up only when somebody else waits and it has had its 2 s."""

    def __init__(self, places, patience=2.0):
        self.total = Budget(b"total", TOTAL, 2 * places)
        self.unproven = Budget(b"unproven", UNPROVEN, places)
        self.unproven.room = LeastTriedRoom(lambda site: len(site.opened_at), self.yield_one)
        self.admission = Admission(self.opened)
        self.patience, self.connecting, self.asked = patience, {}, 0

    def site(self):
        site = Site(Budget(b"site", DOOR, 1), self.unproven, self.total)
        site.most = 1
        return site

    def opened(self, site, units, now):
        site.opened_at.append(now)
        site.sessions += 1
        self.connecting[site] = (now, units)

    def yield_one(self):
        self.asked += 1

    def pass_time(self, now):
        """Close what has had its time if somebody waits: one for each who does."""
        for site, (began, units) in list(self.connecting.items()):
            if len(self.unproven.room) and now - began >= self.patience:
                del self.connecting[site]
                site.sessions -= 1
                self.admission.release(units, now)
                self.admission.seek(site, now)


def test_a_new_site_is_looked_at_soon_however_many_are_silent():
    """500 silent ones in 20 places, 2 s each; one that comes later opens within two of them."""
    world = Unproven(20)
    for _ in range(500):
        world.admission.seek(world.site(), 0.0)
    assert len(world.connecting) == 20 == world.unproven.used
    assert world.asked == 480
    for now in range(1, 7):
        world.pass_time(float(now))
    late = world.site()
    world.admission.seek(late, 6.5)
    for now in range(7, 11):
        world.pass_time(float(now))
    assert late.opened_at
    assert late.opened_at[0] <= 8
    assert world.unproven.used == 20


def test_all_silent_sites_have_their_turn_and_those_tried_least_come_first():
    world = Unproven(5)
    sites = [world.site() for _ in range(30)]
    for site in sites:
        world.admission.seek(site, 0.0)
    for now in range(1, 200):
        world.pass_time(float(now))
    opened = [len(site.opened_at) for site in sites]
    assert min(opened) >= 10
    assert max(opened) - min(opened) <= 1


def test_a_silent_site_keeps_its_place_while_nobody_waits():
    world = Unproven(5)
    site = world.site()
    world.admission.seek(site, 0.0)
    world.pass_time(60.0)
    assert site.sessions == 1
    assert world.asked == 0


def test_the_three_orders_take_turns():
    room = LeastTriedRoom(lambda name: {"a": 0, "b": 0, "c": 0, "old": 3, "older": 7}[name], lambda: None)
    for name in ("a", "older", "b", "old", "c"):
        room.add(name, ())
    assert list(room) == ["a", "b", "c", "old", "older"]
    taken = [room.take_next([])[0] for _ in range(len(room))]
    assert taken == ["c", "a", "old", "b", "older"]
    assert room.take_next([]) is None
