"""Lines of networks (ip=) in the engine: each key that they may have counts for the address that is tried."""

import pytest

from pyqmail.mail.destinations import explain
from pyqmail.mail.destinations.orders import CLOSE, DELIVER, OPEN
from pyqmail.mail.destinations.rules.lookup import RuleSet
from tests.mail.destinations.play import DATE, Play, words

FREE = b":c=50,i=50,k=1000/s~1000,n=100,m=50\n"
TWO = ((10, b"mx1.x", [b"192.0.2.1"]), (10, b"mx2.x", [b"198.51.100.1"]))
FIRST = ((10, b"mx1.x", [b"192.0.2.1"]),)


def playing(rules, hosts=TWO, count=40, **options):
    """Return a play with `count` messages for x, whose hosts are known."""
    play = Play(100, FREE + rules)
    for _ in range(count):
        play.arrive(b"x", **options)
    play.orders()
    play.resolved(b"x", hosts)
    return play


def greet_all(play, rounds=6):
    """Let every session greet; return the addresses that were opened, and the recipients in flight by session."""
    addresses, flying = [], {}
    for _ in range(rounds):
        orders = play.orders()
        for order in words(orders, OPEN):
            addresses.append(order[2].address)
            play.ready(order[1], order[2].host, order[2].address)
        flying.update({order[1]: [one for one, _ in order[3]] for order in words(orders, DELIVER)})
    return addresses, flying


@pytest.mark.parametrize(
    "rules, first, other",
    [
        (b"ip=192.0.2.0/24:c=3\n", 3, None),
        (b"ip=192.0.2.0/24:c=9\nip=192.0.2.1:c=3\n", 3, None),  # the smaller network wins
        (b"ip=192.0.2.0/24:C=3\n", 3, None),
        (b"ip=192.0.2.0/24:k=3/h~3\n", 3, None),
        (b"ip=192.0.2.0/24:@few\n@few:c=3\n", 3, None),
        (b"ip=192.0.2.0/24:c=2\nip=198.51.100.0/24:c=4\n", 2, 4),
        (b"ip=192.0.2.0/24:hold\n", 0, None),
        (b"ip=192.0.2.0/24:c=3\nip=192.0.2.1:hold\n", 0, None),
    ],
)
def test_how_many_sessions_an_address_gets(rules, first, other):
    addresses, _ = greet_all(playing(rules))
    assert addresses.count(b"192.0.2.1") == first
    rest = addresses.count(b"198.51.100.1")
    assert rest == other if other is not None else first + rest == 40


@pytest.mark.parametrize("rules, most", [(b"", 100), (b"ip=192.0.2.0/24:r=5/h~5\n", 5), (b"ip=192.0.2.1:R=7/h~7\n", 7)])
def test_recipients_in_a_time(rules, most):
    """A rate that an address has is kept by the sessions that are with it."""
    play = playing(rules, FIRST, 20)
    delivered = 0
    _, flying = greet_all(play)
    while any(flying.values()):
        for recipients in flying.values():
            for recipient in recipients:
                play.result(recipient)
                delivered += 1
        _, flying = greet_all(play, 1)
    assert delivered == min(most, 20)


@pytest.mark.parametrize(
    "rules, most",
    [
        (b"", 100),
        (b"ip=192.0.2.0/24:n=3\n", 3),
        (b"ip=192.0.0.0/8:n=7\nip=192.0.2.0/24:n=3\n", 3),
        (b"ip=192.0.2.0/24:n=3\nx:n=9\n", 9),  # a line of the domain wins
        (b"ip=192.0.2.0/24:n=120\n", 110),  # more than the empty address says
        (b"ip=198.51.100.0/24:n=3\n", 100),
    ],
)
def test_messages_of_a_session(rules, most):
    play = Play(100, b":c=1,i=1,k=1000/s~1000\n" + rules)
    for _ in range(110):
        play.arrive(b"x")
    play.orders()
    play.resolved(b"x", (*FIRST, (20, b"mx2.x", [b"203.0.113.1"])))
    [open_] = words(play.orders(), OPEN)
    play.ready(open_[1], open_[2].host, open_[2].address)
    sent = 0
    while found := words(orders := play.orders(), DELIVER):
        sent += 1
        play.result(found[0][3][0][0])
    assert sent == most and (most == 110 or words(orders, CLOSE))


@pytest.mark.parametrize(
    "rules, most",
    [(b"", 50), (b"ip=192.0.2.0/24:m=3\n", 3), (b"ip=192.0.2.0/24:m=70\n", 60), (b"ip=10.0.0.0/8:m=3\n", 50)],
)
def test_recipients_of_a_message(rules, most):
    play = Play(100, b":c=1,i=1,k=1000/s~1000\n" + rules)
    play.arrive(*[b"x"] * 60)
    play.orders()
    play.resolved(b"x", (*FIRST, (20, b"mx2.x", [b"203.0.113.1"])))
    [open_] = words(play.orders(), OPEN)
    play.ready(open_[1], open_[2].host, open_[2].address)
    [deliver] = words(play.orders(), DELIVER)
    assert len(deliver[3]) == most


HELD = b"ip=192.0.2.0/24:hold\nip=198.51.100.0/24:hold=2027-02-01\n"


def test_a_site_of_which_all_hosts_are_held_waits():
    play = playing(HELD)
    assert words(play.run(600, 10.0), OPEN) == []
    [entry] = explain.why([play.engine], "domain", b"x", play.now, play.date)["entries"]
    assert entry["state"] == "held" and entry["reason"].endswith(" more, destinations line 3")
    play.engine.use_rules(RuleSet.of_text(FREE + b"ip=192.0.2.0/24:hold\n"), play.now)
    assert {order[2].address for order in words(play.orders(), OPEN)} == {b"198.51.100.1"}


def test_all_of_a_site_held_by_one_line():
    play = playing(b"ip=192.0.2.0/24:hold\n", FIRST)
    assert words(play.run(600, 10.0), OPEN) == []
    [entry] = explain.why([play.engine], "domain", b"x", play.now, play.date)["entries"]
    assert (entry["state"], entry["reason"]) == ("held", "held, destinations line 2")


def test_a_hold_of_a_network_ends_with_its_date():
    play = playing(HELD.replace(b"2027-02-01", b"2027-01-15T09:00Z"))
    assert DATE < 1_800_003_600  # 2027-01-15T09:00Z is an hour after the play begins
    assert words(play.run(3590, 10.0), OPEN) == []
    assert {order[2].address for order in words(play.run(20), OPEN)} == {b"198.51.100.1"}


def test_a_session_with_an_address_that_is_held_gets_no_more_mail():
    play = playing(b"", FIRST, 3)
    [open_] = words(play.orders(), OPEN)
    play.ready(open_[1], b"mx1.x", b"192.0.2.1")
    [deliver] = [one for one in words(play.orders(), DELIVER) if one[1] == open_[1]]
    play.engine.use_rules(RuleSet.of_text(FREE + b"ip=192.0.2.1:hold\nip=192.0.2.0/24:c=5\n"), play.now)
    assert (CLOSE, open_[1]) not in play.orders()
    play.result(deliver[3][0][0])
    orders = play.run(10)
    assert (CLOSE, open_[1]) in orders and words(orders, DELIVER) == []
