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
    total = Budget(b"total", TOTAL, draw(st.integers(1, 6)))
    shared = SharedBudget(total)
    world.budgets += [total, shared]
    return organisations, groups, sources, total, shared, one


def doors_of(world, draw):
    organisations, groups, sources, total, shared, one = budgets_of(world, draw)
    hosts = [one(b"h%d" % i, HOST, 1) for i in range(3)] if draw(st.booleans()) else []
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


# one by one


def simple(world, name, *chain, mail=1):
    door = Door(name, chain, mail)
    world.doors.append(door)
    world.budgets += [budget for budget in chain if budget not in world.budgets]
    return door


def test_the_reserve_is_for_who_has_no_session_and_what_is_left_for_all():
    """Total 3: two for doors with a session; the third waits until the first session of another ends."""
    world = World()
    total = Budget(b"total", TOTAL, 3)
    shared = SharedBudget(total)
    one, other = simple(world, "one", total, mail=3), simple(world, "other", total)
    one.next_chain = (shared, total)
    world.budgets.append(shared)
    world.admission.seek(one, 0.0)
    assert (one.sessions, one.place) == (2, shared)
    world.admission.seek(other, 0.0)
    assert (other.sessions, total.used, shared.used) == (1, 3, 3)
    number = next(number for number, (door, _) in enumerate(world.open) if door is other)
    world.close(number, 1.0)
    assert (one.sessions, one.place) == (2, shared)  # two of three are taken: the last is the reserve
    world.close(next(number for number, (_, units) in enumerate(world.open) if shared not in units), 2.0)
    assert (one.sessions, one.mail) == (2, 0)
    world.check(2.0)


def test_who_waits_at_several_hosts_goes_to_the_first_that_has_room_and_leaves_the_others():
    world = World(with_hosts=True)
    total, hosts = Budget(b"total", TOTAL, 9), [Budget(b"h%d" % i, HOST, 1) for i in range(2)]
    world.budgets += hosts
    doors = [simple(world, f"d{i}", Budget(b"d", DOOR, 9), total) for i in range(5)]
    for door in doors:
        door.host_budgets = tuple(hosts)
        world.admission.seek(door, 0.0)
    assert [door.place for door in doors] == [None, None, tuple(hosts), tuple(hosts), tuple(hosts)]
    world.close(1, 1.0)
    assert [door.sessions for door in doors] == [1, 0, 1, 0, 0]
    assert [len(host.room) for host in hosts] == [2, 2]
    world.check(1.0)
    drain(world, 1.0)


def test_an_offer_of_a_host_goes_to_the_next_when_who_carried_it_gives_up():
    """The head of the host's room goes up to the total with the offer; when it withdraws, the next one has it."""
    world = World(with_hosts=True)
    total, host = Budget(b"total", TOTAL, 1), Budget(b"h", HOST, 1)
    world.budgets.append(host)
    first, second, third = (simple(world, f"d{i}", Budget(b"d", DOOR, 9), total) for i in range(3))
    for door in (first, second, third):
        door.host_budgets = (host,)
    total.limit = 2
    for door in (first, second, third):
        world.admission.seek(door, 0.0)
    assert (second.place, third.place) == ((host,), (host,))
    stranger = simple(world, "stranger", total)
    world.admission.seek(stranger, 0.0)
    total.limit = 1
    world.close(0, 1.0)
    assert (second.place, third.place) == (total, (host,))
    second.mail = 0
    world.admission.withdraw(second, 2.0)
    assert (second.place, third.place) == (None, total)
    world.check(2.0)


def test_what_open_session_asks_for_is_done_after_it():
    """It may seek for others, and give units back at once."""
    world = World()
    total = Budget(b"total", TOTAL, 1)
    one, other = simple(world, "one", total), simple(world, "other", total)

    def on_open(door, now):
        if door is one:
            world.admission.seek(other, now)
            assert other.place is None
            world.close(0, now)

    world.on_open = on_open
    world.admission.seek(one, 0.0)
    assert (one.opened, other.opened, total.used, other.place) == (1, 1, 1, None)


def test_recipients_in_flight_take_of_the_total_what_is_there_and_give_it_back():
    world = World()
    total = Budget(b"total", TOTAL, 10)
    shared = SharedBudget(total)
    door = simple(world, "one", total)
    assert world.admission.take((shared, total), 50, 0.0) == 9
    assert (total.used, shared.used) == (9, 9)
    door.mail = 2
    world.admission.seek(door, 0.0)
    assert (door.sessions, door.place) == (1, total)
    world.admission.give((shared, total), 9, 1.0)
    assert (door.sessions, total.used, shared.used) == (2, 2, 2)


def test_moves_count_places_in_rooms():
    world = World()
    total = Budget(b"total", TOTAL, 1)
    one, other = simple(world, "one", total), simple(world, "other", total)
    world.admission.seek(one, 0.0)
    assert world.admission.moves == 0
    world.admission.seek(other, 0.0)
    world.admission.seek(other, 0.0)
    assert (world.admission.moves, world.admission.place_of(other)) == (1, 0)
