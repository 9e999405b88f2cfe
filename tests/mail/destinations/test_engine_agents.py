"""The engine where nothing is opened: the local channel, and agents that connect by themselves."""

import pytest

from pyqmail.mail.destinations.engine import LOCAL, REMOTE
from pyqmail.mail.destinations.orders import DELIVER, DONE, DUE, REPORT
from pyqmail.mail.destinations.outcome import HERE, Outcome
from pyqmail.mail.destinations.outcome import LOCAL as AT_LOCAL
from pyqmail.mail.destinations.waiting.flows import TURN_RECIPIENTS
from tests.mail.destinations.play import ACCEPTED, DATE, LATER, NEVER, SILENT, WEEK, Play, words

UNLIMITED = b":c=1000,i=1000,k=1000/s~1000\n"
LOCAL_LATER = Outcome(b"ZTemporary_error\n", AT_LOCAL)


def agent(total=20, rules=UNLIMITED):
    return Play(total, rules, opens_sessions=False)


def local(total=20, rules=b""):
    return Play(total, rules, channel=LOCAL)


def handles(orders):
    return [recipient for order in words(orders, DELIVER) for recipient, _ in order[3]]


def test_a_message_to_one_local_recipient():
    play = local()
    number = play.arrive(b"me@here.example")
    [deliver] = play.orders()
    assert deliver[:3] == (DELIVER, None, number) and [offset for _, offset in deliver[3]] == [10]
    assert play.engine.used == 1 and play.engine.waiting_count == 1
    assert play.result(deliver[3][0][0]) == b"K"
    assert play.orders() == [(DONE, number)] and play.engine.used == play.engine.waiting_count == 0


@pytest.mark.parametrize("limit, rules", [(2, b""), (1, b"rcpt=me@here.example:c=1\n"), (5, b"rcpt=:c=5\n")])
def test_so_many_at_once_to_one_local_recipient(limit, rules):
    play = local(rules=rules)
    for _ in range(9):
        play.arrive(b"me@here.example")
    running, done, most = handles(play.orders()), 0, 0
    while running:
        most = max(most, len(running))
        play.result(running.pop(0))
        done += 1
        running += handles(play.orders())
    assert (most, done) == (limit, 9)


def test_the_total_bounds_all():
    play = local(total=3)
    for i in range(10):
        play.arrive(b"u%d@here.example" % i)
    running = handles(play.orders())
    assert len(running) == 3 == play.engine.used
    play.result(running[0])
    assert len(handles(play.orders())) == 1 and play.engine.used == 3


def test_one_recipient_a_delivery_and_each_ends_on_its_own():
    play = local()
    number = play.arrive(b"a@x", b"b@x", b"c@x")
    orders = play.orders()
    assert sorted(offset for order in orders for _, offset in order[3]) == [10, 20, 30]
    assert [
        play.result(one, how) for one, how in zip(handles(orders), (ACCEPTED, NEVER, LOCAL_LATER), strict=True)
    ] == [*(b"K", b"D", b"Z")]
    [(word, of, date)] = play.orders()
    assert (word, of) == (DUE, number) and date > DATE
    assert play.engine.waiting_count == 1


@pytest.mark.parametrize("channel, delays", [(LOCAL, [100, 400, 900]), (REMOTE, [400, 1600, 3600, 6400])])
def test_retry_times_are_those_of_qmail(channel, delays):
    """Birth + (sqrt(age) + 10 or 20) squared."""
    play = Play(20, UNLIMITED, channel=channel, opens_sessions=False)
    number, outcome = play.arrive(b"a@x"), LATER if channel == REMOTE else LOCAL_LATER
    # a 4xx to RCPT at first sight would be a greylist's
    outcome = Outcome(b"Z192.0.2.1 failed after I sent the message.\nRemote host said: 451 4.3.0 not now\n")
    if channel == LOCAL:
        outcome = LOCAL_LATER
    orders = play.orders()
    for delay in delays:
        play.result(handles(orders)[0], outcome)
        assert words(play.orders(), DUE) == [(DUE, number, DATE + delay)]
        waiting = DATE + delay - play.date
        assert handles(play.run(waiting - 1, 60)) == []
        orders = play.orders(1)
        assert len(handles(orders)) == 1


def test_mail_that_is_due_later_waits():
    play = local()
    play.arrive(b"a@x", due=DATE + 50)
    assert play.orders() == []  # its date is known
    assert play.engine.next_time() <= play.now + 50
    assert handles(play.orders(49)) == []
    assert len(handles(play.orders(2))) == 1


def test_a_message_in_slices_is_done_after_the_last():
    play = local()
    play.engine.arrived(7, b"s", 10, DATE, [(0, b"a@x")], is_more_to_come=True, now=play.now)
    play.result(handles(play.orders())[0])
    assert play.orders() == []
    play.engine.arrived(7, b"s", 10, DATE, [(10, b"b@x")], now=play.now)
    play.result(handles(play.orders())[0])
    assert play.orders() == [(DONE, 7)]


def test_a_message_whose_last_slice_is_empty_is_done():
    play = local()
    play.engine.arrived(7, b"s", 10, DATE, [(0, b"a@x")], is_more_to_come=True, now=play.now)
    play.result(handles(play.orders())[0])
    play.engine.arrived(7, b"s", 10, DATE, [], now=play.now)
    assert play.orders() == [(DONE, 7)]


def test_a_deferral_of_a_message_that_is_too_old_is_a_failure():
    play = local()
    number = play.arrive(b"a@x", birth=DATE - WEEK - 5)
    assert play.result(handles(play.orders())[0], LOCAL_LATER) == b"D"
    assert play.orders() == [(DONE, number)]


def test_what_is_too_old_and_deferred_has_a_last_try():
    play = local()
    number = play.arrive(b"a@x", birth=DATE - WEEK + 1000)
    assert play.result(handles(play.orders())[0], LOCAL_LATER) == b"Z"
    last = handles(play.run(WEEK, 600))
    assert len(last) == 1 and play.result(last[0], LOCAL_LATER) == b"D"
    assert play.orders() == [(DONE, number)]


def test_forgotten_mail_does_not_start_and_in_flight_has_no_effect():
    play = local(total=1)
    number = play.arrive(b"a@x", b"b@x")
    [one] = handles(play.orders())
    play.engine.forget(number, play.now)
    assert play.orders() == []
    play.result(one, LOCAL_LATER)
    assert play.orders() == [] and play.engine.waiting_count == 0 and play.engine.used == 0
    assert not play.engine._core.rows.message_count


def test_forgotten_mail_that_waits_for_its_time():
    play = local()
    number = play.arrive(b"a@x")
    play.result(handles(play.orders())[0], LOCAL_LATER)
    play.orders()
    play.engine.forget(number, play.now)
    assert play.orders() == [] and play.engine.waiting_count == 0
    assert handles(play.run(5000, 50)) == []
    assert len(handles([play.arrive(b"a@x")] and play.orders())) == 1  # its rows are used again


@pytest.mark.parametrize("how, again", [("dropped", None), ("put_off", 123)])
def test_a_delivery_that_could_not_start(how, again):
    play = local()
    number = play.arrive(b"a@x")
    [one] = handles(play.orders())
    getattr(play, how)(*([one] if again is None else [one, again]))
    if again is None:
        assert play.orders() == [(DONE, number)]
        return
    assert [order[0] for order in play.orders()] == [DUE]
    assert handles(play.orders(122)) == [] and len(handles(play.orders(3))) == 1


def test_alarm_makes_all_due():
    play = local()
    for i in range(3):
        play.arrive(b"u%d@x" % i)
    for one in handles(play.orders()):
        play.result(one, LOCAL_LATER)
    play.orders()
    play.make_due()
    assert len(handles(play.orders())) == 3


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.96, 0.999])
def test_a_retry_time_is_kept_to_the_second(fraction):
    """Whenever in a second the engine was made, and though the date is read a moment after the time."""
    play = Play(20, b"", channel=LOCAL)
    play.now += fraction
    number = play.arrive(b"a@x", birth=DATE)
    play.result(handles(play.orders())[0], LOCAL_LATER)
    play.engine.advance(play.date + 0.001, play.now)
    assert play.engine.take_orders() == [(DUE, number, DATE + 100)]


def test_a_large_message_does_not_hold_up_the_next():
    play = local(total=2)
    play.arrive(*[b"u%d@here.example" % i for i in range(50)])
    running = handles(play.orders())
    late = play.arrive(b"other@here.example", sender=b"other.example")
    for turn in range(1, 50):  # noqa: B007
        play.result(running.pop(0))
        orders = play.orders()
        running += handles(orders)
        if any(order[2] == late for order in words(orders, DELIVER)):
            break
    assert turn <= TURN_RECIPIENTS + 1  # a turn of the first one's, begun when it came


def test_stop_starts_nothing_more():
    play = local(total=1)
    play.arrive(b"a@x")
    play.arrive(b"b@x")
    [one] = handles(play.orders())
    play.engine.stop(play.now)
    play.result(one)
    assert handles(play.run(10)) == [] and play.engine.used == 0


def test_an_unknown_domain_gets_no_more_than_its_default():
    play = Play(100, b":i=50\n", opens_sessions=False)
    for _ in range(50):
        play.arrive(b"x.example")
    running = handles(play.orders())
    assert len(running) == 1  # nobody has answered yet
    play.result(running[0])
    assert len(handles(play.orders())) == 10


def test_a_group_of_domains_has_one_limit():
    play = agent(100, b":c=50,i=50,k=1000/s~1000\nyahoo.*:@yahoo\n@yahoo:C=3\n")
    for domain in (b"yahoo.com", b"yahoo.de", b"other.example"):
        for _ in range(10):
            play.arrive(domain)
    counts, running = {}, handles(play.orders())
    for _ in range(200):
        if not running:
            break
        play.result(running.pop(0))
        running += handles(play.orders())
        budgets = dict(play.engine._core.budgets.all_budgets())
        for key, budget in budgets.items():
            counts[key[1]] = max(counts.get(key[1], 0), budget.used)
    assert counts[b"@yahoo"] == 3 and play.engine.waiting_count == 0 and counts[b"other.example"] > 3


def test_an_agent_that_could_not_connect_costs_the_parcel_nothing():
    play = agent()
    number = play.arrive(b"x.example")
    [one] = handles(play.orders())
    assert play.result(one, SILENT) == b"Z"
    orders = play.run(30)
    assert words(orders, DUE, REPORT, DONE) == [] and handles(orders) == []  # parked: the site is dead
    [one] = handles(play.run(60))  # the probe
    assert play.result(one) == b"K" and (DONE, number) in play.orders()


def test_what_is_lacking_here_blames_nobody():
    play = agent()
    play.arrive(b"x.example")
    assert play.result(handles(play.orders())[0], Outcome(b"Zno memory. (#4.3.0)\n", HERE)) == b"Z"
    play.arrive(b"x.example")
    assert len(handles(play.orders())) == 1
