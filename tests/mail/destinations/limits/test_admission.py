"""Admission over random rules, checked by brute force after each event; and the figures it is to reach."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pyqmail.mail.destinations.limits.admission import Admission
from pyqmail.mail.destinations.limits.budgets import (
    DOOR,
    GROUP,
    HOST,
    ORGANISATION,
    SOURCE,
    TOTAL,
    Budget,
    Pause,
    SharedBudget,
)
from pyqmail.mail.destinations.limits.rates import Gcra


class Door:
    """Some mail that needs so many sessions, one after the other or at once."""

    def __init__(self, name, chain, mail=0):
        self.name, self.chain, self.mail = name, chain, mail
        self.place, self.sessions, self.opened = None, 0, 0
        self.host_budgets = ()
        self.first_chain = self.next_chain = chain

    @property
    def wants(self):
        return self.mail > 0

    def __repr__(self):
        return self.name


class World:
    """Doors over one Admission; what is open is a list of (door, units)."""

    def __init__(self, *, with_hosts=False):
        self.open = []
        self.admission = Admission(self.opened, self.choose if with_hosts else None)
        self.doors, self.budgets = [], []
        self.on_open = None

    def choose(self, door, now):
        """Any host that has room, else those that have none."""
        blocked = []
        for host in door.host_budgets:
            if host.is_free(now):
                return (host,)
            blocked.append(host)
        return tuple(blocked)

    def opened(self, door, units, now):
        door.mail -= 1
        door.sessions += 1
        door.opened += 1
        door.chain = door.next_chain
        self.open.append((door, units))
        if self.on_open is not None:
            self.on_open(door, now)

    def close(self, number, now):
        self.open[number], self.open[-1] = self.open[-1], self.open[number]
        door, units = self.open.pop()
        door.sessions -= 1
        if not door.sessions and door.first_chain is not door.chain:
            self.admission.change_chain(door, door.first_chain, now)
        self.admission.release(units, now)
        self.admission.seek(door, now)
        return door

    def could_open(self, door, now):
        if not door.wants or not all(budget.is_free(now) for budget in door.chain):
            return False
        return not door.host_budgets or any(host.is_free(now) for host in door.host_budgets)

    def check(self, now):
        """F1: nobody who wants could open.  P1, P2: the counters are what is open, and below the limits."""
        assert [door for door in self.doors if self.could_open(door, now)] == []
        taken = {}
        for _, units in self.open:
            for budget in units:
                taken[budget] = taken.get(budget, 0) + 1
        for budget in self.budgets:
            if not isinstance(budget, SharedBudget):
                assert budget.used == taken.get(budget, 0), budget.name
        for door in self.doors:
            self.check_place(door)

    def check_place(self, door):
        places = door.place if isinstance(door.place, tuple) else (door.place,)
        for budget in self.budgets:
            assert (budget in places) == (budget.room is not None and door in list(budget.room)), (door, budget.name)


def budgets_of(world, draw):
    """Groups that overlap, two organisations, two sources, a total; some with rates."""

    def one(name, kind, high):
        rates = (Gcra(draw(st.sampled_from([0.5, 3.0])), draw(st.integers(1, 3))),) if draw(st.booleans()) else ()
        budget = Budget(name, kind, draw(st.integers(1, high)), connect_rates=rates)
        world.budgets.append(budget)
        return budget

    organisations = [one(b"o%d" % i, ORGANISATION, 5) for i in range(2)]
    groups = [one(b"g%d" % i, GROUP, 6) for i in range(3)]
    sources = [one(b"s%d" % i, SOURCE, 8) for i in range(2)]
    total = Budget(b"total", TOTAL, draw(st.integers(1, 12)))
    shared = SharedBudget(total)
    world.budgets += [total, shared]
    return organisations, groups, sources, total, shared, one


def doors_of(world, draw):
    organisations, groups, sources, total, shared, one = budgets_of(world, draw)
    hosts = [one(b"h%d" % i, HOST, 3) for i in range(3)] if draw(st.booleans()) else []
    for i in range(draw(st.integers(1, 9))):
        chain = [one(b"d%d" % i, DOOR, 4)]
        if draw(st.booleans()):
            chain.append(draw(st.sampled_from(organisations)))
        chain += [group for group in groups if draw(st.booleans())]
        chain.append(draw(st.sampled_from(sources)))
        door = Door(f"d{i}", (*chain, total))
        door.next_chain = (*chain, shared, total) if draw(st.booleans()) else door.first_chain
        door.host_budgets = tuple(host for host in hosts if draw(st.booleans()))
        world.doors.append(door)


EVENTS = ["close"] * 6 + ["seek", "time", "time", "due", "pause", "lift", "limit", "learned", "withdraw", "chain"]


def happen(world, event, draw, now):
    """One event; returns the time after it."""
    admission = world.admission
    door, budget = draw(st.sampled_from(world.doors)), draw(st.sampled_from(world.budgets))
    if event == "close" and world.open:
        world.close(draw(st.integers(0, len(world.open) - 1)), now)
    elif event == "seek":
        door.mail += 1
        admission.seek(door, now)
    elif event == "time":
        now += draw(st.sampled_from([0.25, 1.0, 5.0]))
    elif event == "due":
        now = max(now, admission.next_time() or now)
    elif event == "pause":
        budget.pause(Pause(now + 4, b"test"))
        admission.changed(budget, now)
    elif event == "lift":
        budget.lift()
        admission.changed(budget, now)
    elif event == "limit" and not isinstance(budget, SharedBudget):
        budget.limit = draw(st.integers(1, 8))
        admission.changed(budget, now)
    elif event == "learned" and not isinstance(budget, SharedBudget):
        budget.learned = draw(st.sampled_from([None, 1, 3]))
        admission.changed(budget, now)
    elif event == "withdraw":
        door.mail = 0
        admission.withdraw(door, now)
    elif event == "chain":
        other = draw(st.sampled_from(world.doors))
        door.first_chain = door.next_chain = (door.chain[0], *other.first_chain[1:])
        admission.change_chain(door, door.first_chain, now)
    admission.due(now)
    return now


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_unit_idles_while_somebody_wants_it(data):
    """Spec 5.6 and F1, by brute force; P1 and P2; and all counters are zero in the end."""
    world = World(with_hosts=data.draw(st.booleans()))
    doors_of(world, data.draw)
    if not world.admission._choose:
        for door in world.doors:
            door.host_budgets = ()
    now = 100.0
    for door in world.doors:
        door.mail = data.draw(st.integers(0, 6))
        world.admission.seek(door, now)
        world.check(now)
    for _ in range(data.draw(st.integers(1, 40))):
        now = happen(world, data.draw(st.sampled_from(EVENTS)), data.draw, now)
        world.check(now)
    drain(world, now)


def drain(world, now):
    """All mail goes when sessions end and time passes: no wake-up is lost."""
    while world.open or any(door.wants for door in world.doors):
        if world.open:
            world.close(0, now)
        else:
            now = world.admission.next_time()
            assert now is not None, "somebody waits for nothing"
        world.admission.due(now)
        world.check(now)
    assert all(budget.used == 0 for budget in world.budgets)
