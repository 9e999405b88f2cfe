"""Deliveries to one local recipient that count as one: the engine where the spawner takes batches."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqmail.mail.destinations.engine import LOCAL
from pyqmail.mail.destinations.orders import DELIVER, DONE
from pyqmail.mail.destinations.outcome import LOCAL as AT_LOCAL
from pyqmail.mail.destinations.outcome import MAILDIR, Outcome
from pyqmail.mail.destinations.scheduling.local_channel import MAX_TOGETHER
from tests.mail.destinations.play import Play, words

ME, OTHER = b"me@here.example", b"other@here.example"
STORED = Outcome(b"Kdid 1+0+0\n", MAILDIR)
RAN = Outcome(b"Kdid 0+0+1\n", AT_LOCAL)
LATER = Outcome(b"ZTemporary error on maildir delivery. (#4.3.0)\n", AT_LOCAL)


def local(total=20, rules=b"", most=MAX_TOGETHER):
    return Play(total, rules, channel=LOCAL, max_together=most)


def batches(orders):
    """{number of the batch: [(message, handle), ...]} in the order of the orders."""
    found = {}
    for _, number, message, [(handle, _)] in words(orders, DELIVER):
        found.setdefault(number, []).append((message, handle))
    return found


def keep_lane(play, key):
    """Have the engine know of a key that it goes to Maildirs, with mail of it still there."""
    first, second = play.arrive(key), play.arrive(key)
    [one, two] = batches(play.orders()).values()
    assert [message for message, _ in one + two] == [first, second]
    play.result(one[0][1], STORED)
    return two[0][1]


def test_the_first_to_a_recipient_goes_alone():
    play = local()
    for _ in range(9):
        play.arrive(ME)
    assert [len(some) for some in batches(play.orders()).values()] == [1, 1]
    assert play.engine.used == 2


def test_what_waits_goes_together_and_counts_as_one():
    play = local()
    left = keep_lane(play, ME)
    numbers = [play.arrive(ME) for _ in range(50)]
    got = batches(play.orders())
    assert [[message for message, _ in some] for some in got.values()] == [numbers[:1]]
    [[(_, handle)]] = got.values()
    play.result(handle, STORED)
    [some] = batches(play.orders()).values()
    assert [message for message, _ in some] == numbers[1:21] and play.engine.used == 2
    play.result(left, STORED)
    [more] = batches(play.orders()).values()
    assert [message for message, _ in more] == numbers[21:41] and play.engine.used == 2
    for _, handle in some[:-1]:
        play.result(handle, STORED)
        assert not words(play.orders(), DELIVER) and play.engine.used == 2  # the batch has its unit until its last
    play.result(some[-1][1], STORED)
    [rest] = batches(play.orders()).values()
    assert [message for message, _ in rest] == numbers[41:]
    for _, handle in more + rest:
        play.result(handle, STORED)
    assert len(words(play.orders(), DONE)) > 0 and play.engine.used == play.engine.waiting_count == 0


def test_they_go_together_with_as_many_at_once_as_there_are_places():
    play = local(total=2, rules=b"rcpt=:c=2\n")
    left = keep_lane(play, ME)
    for _ in range(10):
        play.arrive(ME)
    [[(_, one)]] = batches(play.orders()).values()
    play.result(left, STORED)
    play.result(one, STORED)
    assert [len(some) for some in batches(play.orders()).values()] == [9]


@pytest.mark.parametrize("outcome", [RAN, LATER])
def test_after_anything_else_they_go_alone_again(outcome):
    play = local()
    left = keep_lane(play, ME)
    for _ in range(10):
        play.arrive(ME)
    [[(_, one)]] = batches(play.orders()).values()
    play.result(one, outcome)
    [[(_, one)]] = batches(play.orders()).values()
    play.result(left, STORED)
    assert [len(some) for some in batches(play.orders()).values()] == [8]
    play.result(one, outcome)


def test_without_batches_all_is_as_before():
    play = local(most=1)
    left = keep_lane_without_numbers(play)
    for _ in range(5):
        play.arrive(ME)
    play.result(left, STORED)
    orders = words(play.orders(), DELIVER)
    assert [order[1] for order in orders] == [None] * len(orders)


def keep_lane_without_numbers(play):
    play.arrive(ME)
    [(_, session, _, [(handle, _)])] = words(play.orders(), DELIVER)
    assert session is None
    return handle


def test_what_was_deferred_goes_alone():
    play = local()
    left = keep_lane(play, ME)
    poison = play.arrive(ME)
    [[(message, handle)]] = batches(play.orders()).values()
    assert message == poison
    play.result(handle, LATER)
    play.result(left, STORED)
    play.now += 5000
    rest = [play.arrive(ME) for _ in range(5)]
    for some in batches(play.orders()).values():
        assert len(some) == 1 or poison not in [message for message, _ in some]
    assert rest


def test_a_rate_is_for_each():
    play = local(rules=b"rcpt=:c=2,r=1/s\n")
    for _ in range(9):
        play.arrive(ME)
    sizes = []
    for _ in range(20):
        for some in batches(play.orders(1)).values():
            sizes.append(len(some))
            for _, handle in some:
                play.result(handle, STORED)
    assert sizes == [1] * 9


def test_nobody_is_passed_over_for_a_batch():
    """Of what is not set aside, only the head of the queue joins."""
    play = local(total=2, rules=b"rcpt=:c=2\n")
    left = keep_lane(play, ME)
    mine = play.arrive(ME)
    [[(_, one)]] = batches(play.orders()).values()
    first, theirs, last = play.arrive(ME), play.arrive(OTHER), play.arrive(ME)
    play.result(left, STORED)
    [some] = batches(play.orders()).values()
    assert [message for message, _ in some] == [first] and mine
    play.result(one, STORED)
    [some] = batches(play.orders()).values()
    assert [message for message, _ in some] == [theirs] and last


def test_a_message_that_is_forgotten_leaves_the_batch_whole():
    play = local()
    left = keep_lane(play, ME)
    for _ in range(5):
        play.arrive(ME)
    [[(_, one)]] = batches(play.orders()).values()
    play.result(one, STORED)
    [some] = batches(play.orders()).values()
    play.engine.forget(some[1][0], play.now)
    for _, handle in some:
        play.result(handle, STORED)
    play.result(left, STORED)
    play.orders()
    assert play.engine.used == play.engine.waiting_count == 0


def test_what_waits_aside_is_not_stuck_when_what_had_come_back_is_forgotten():
    play = local(total=2)
    mine = [play.arrive(ME) for _ in range(4)]
    got = batches(play.orders())
    running = [handle for some in got.values() for _, handle in some]
    others = [play.arrive(b"u%d@here.example" % n, sender=b"") for n in range(4)]
    play.result(running[0], RAN)
    play.orders()
    for number in mine[2:3]:
        play.engine.forget(number, play.now)
    done = 0
    for _ in range(20):
        for handle in list(play.engine._deliveries._sessions):
            [recipient] = play.engine._core.rows.recipients(handle)
            play.result(recipient, RAN)
            done += 1
        play.orders()
    assert play.engine.waiting_count == 0 and others and done


WORLDS = st.fixed_dictionaries(
    {
        "total": st.sampled_from((1, 3, 10)),
        "rules": st.sampled_from((b"", b"rcpt=:c=1\n", b"rcpt=:c=10\n")),
        "steps": st.lists(
            st.one_of(
                st.tuples(st.just("mail"), st.integers(0, 3), st.integers(1, 30)),
                st.tuples(st.just("end"), st.integers(0, 99), st.sampled_from(("stored", "ran", "later"))),
                st.tuples(st.just("forget"), st.integers(0, 99), st.just(0)),
            ),
            max_size=60,
        ),
    }
)
OUTCOMES = {"stored": STORED, "ran": RAN, "later": LATER}


@given(WORLDS)
@settings(max_examples=100, deadline=None)
def test_random_worlds(plan):
    """No recipient has more batches than its limit, no batch more than MAX_TOGETHER; all is delivered, and once."""
    play, running, batch_of, done = local(plan["total"], plan["rules"]), {}, {}, []
    limit = {b"": 2, b"rcpt=:c=1\n": 1, b"rcpt=:c=10\n": 10}[plan["rules"]]
    keys, gone = {}, set()

    def obey():
        for _, number, message, [(handle, _)] in words(play.orders(), DELIVER):
            assert handle not in running
            running[handle], batch_of[handle] = message, number
        alive = {}
        for handle, message in running.items():
            alive.setdefault(keys[message], {}).setdefault(batch_of[handle], []).append(handle)
        assert all(len(some) <= limit for some in alive.values())
        assert all(len(one) <= MAX_TOGETHER for some in alive.values() for one in some.values())
        assert sum(len(some) for some in alive.values()) <= plan["total"]

    def end(handle, outcome):
        message = running.pop(handle)
        if play.result(handle, outcome) == b"K":
            done.append(message)

    for kind, which, what in plan["steps"]:
        if kind == "mail":
            for _ in range(what):
                keys[play.arrive(b"u%d@here.example" % which)] = which
        elif kind == "end" and running:
            end(sorted(running)[which % len(running)], OUTCOMES[what])
        elif kind == "forget" and keys:
            number = sorted(keys)[which % len(keys)]
            gone.add(number)
            play.engine.forget(number, play.now)
        obey()
    for _ in range(400):
        if not play.engine.waiting_count and not running:
            break
        for handle in list(running):
            end(handle, STORED)
        play.now += 20
        obey()
    assert play.engine.waiting_count == play.engine.used == 0 and not running
    assert len(done) == len(set(done)) and set(keys) - gone <= set(done)
