"""Mail that is too old and cannot be tried: the bounce says who held it back, and what was said last."""

import errno

import pytest

from pyqmail.mail.destinations.engine import LOCAL
from pyqmail.mail.destinations.limits.budgets import Pause
from pyqmail.mail.destinations.orders import DELIVER, OPEN, REPORT
from pyqmail.mail.destinations.outcome import CONNECT, Outcome
from tests.mail.destinations.play import Play, words

HOSTS = ((10, b"mx.one.example", [b"192.0.2.1"]),)
LIFETIME = 3600
HELD = b"Sorry, this system held the mail for this address back until it was too old. (#4.4.7)\n"


def reports(play, seconds=LIFETIME + 2):
    return [(order[3].letter, order[3].text) for order in words(play.orders(seconds), REPORT)]


@pytest.mark.parametrize("is_known", [False, True])
def test_what_our_own_rule_held_says_so(is_known):
    play = Play(20, b"a.test:hold\n" if not is_known else b"", lifetime=LIFETIME)
    play.arrive(b"a.test", birth=int(play.date))
    play.orders()
    if is_known:
        play.engine.use_rules(play.engine._core.rules.of_text(b"a.test:hold\n"), play.now)
        play.resolved(b"a.test", HOSTS)
    assert reports(play) == [(b"D", HELD)]
    assert play.engine.waiting_count == 0


def test_a_local_recipient_that_was_held_says_so():
    play = Play(20, b"rcpt=joe@a.test:hold\n", channel=LOCAL, lifetime=LIFETIME)
    play.arrive(b"joe@a.test", birth=int(play.date))
    assert words(play.orders(), DELIVER) == []
    assert reports(play) == [(b"D", HELD)]


def test_name_servers_that_never_answered_are_named():
    play = Play(20, b"", lifetime=LIFETIME)
    play.arrive(b"a.test", birth=int(play.date))
    play.orders()
    play.engine.trouble(b"a.test", b"SERVFAIL", play.now)
    assert reports(play) == [(b"D", b"Sorry, I had no answer of name servers about this domain. (#4.4.3)\n")]


def test_a_pause_tells_the_reply_for_which_it_was_made():
    play = Play(20, b"", lifetime=LIFETIME)
    play.arrive(b"a.test", birth=int(play.date))
    play.orders()
    play.resolved(b"a.test", HOSTS, ttl=86400)
    door = play.engine.tables.ways.find(b"a.test").door
    [order] = words(play.orders(), OPEN)
    door.site_budget.pause(Pause(play.now + 9999, b"rule 9", b"Remote host said: 421 [TSS04]\n"))
    play.engine.closed(order[1], None, now=play.now)
    assert reports(play) == [(b"D", b"Remote host said: 421 [TSS04]\n")]


def test_a_dead_site_tells_the_last_error_and_since_when():
    play = Play(20, b"", lifetime=LIFETIME)
    play.arrive(b"a.test", birth=int(play.date))
    play.orders()
    play.resolved(b"a.test", HOSTS, ttl=86400)
    silent = Outcome(b"Zconnect timed out\n", CONNECT, errno.ETIMEDOUT, b"mx.one.example", b"192.0.2.1")
    found = []
    for _ in range(700):
        orders = play.orders(10)
        found += words(orders, REPORT)
        for order in words(orders, OPEN):
            play.engine.failed(order[1], silent, play.now)
            play.engine.closed(order[1], None, now=play.now)
    [report] = found
    assert report[3].text == b"connect timed out\nNothing there has answered for 1h00m.\n"
