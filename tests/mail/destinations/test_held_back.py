"""A limit holds mail back for the first time: a line names the line to write; and that line does allow more."""

import pytest

from pyqmail.mail.destinations.engine import LOCAL
from pyqmail.mail.destinations.orders import DELIVER, NO_LIMITS, OPEN
from pyqmail.mail.destinations.rules.lookup import RuleSet
from tests.mail.destinations.play import Play, words

FAST = b":i=99,k=1000/s~1000\n"
TWO_HOSTS = ((10, b"mx1.big.example", [b"192.0.2.1"]), (20, b"mx2.big.example", [b"198.51.100.1"]))
ONE_HOST = ((10, b"mx.example", [b"192.0.2.1"]),)


def busy(rules, domains, hosts, **options):
    """Return a play with much mail to domains that lead to hosts, as many sessions as are allowed, and their number."""
    play = Play(500, FAST + rules)
    for number in range(120):
        play.arrive(domains[number % len(domains)])
    play.orders()
    for domain in domains:
        play.resolved(domain, hosts, **options)
    return play, sessions(play)


def sessions(play):
    count = 0
    for _ in range(6):
        for _, session, opening in words(play.orders(), OPEN):
            count += 1
            play.engine.ready(session, opening.host, opening.address, NO_LIMITS, play.now)
    return count


def advice(play):
    lines = [line for line in play.engine.log_lines(play.now) if b": full with " in line]
    assert not any(word in line for line in lines for word in (b" from ", b" to remote ", b" to local "))
    return lines


@pytest.mark.parametrize(
    "rules, domains, hosts, line",
    [
        (
            b"",
            [b"x.test"],
            TWO_HOSTS,
            b"site big.example#mx1+1: full with 10 sessions: to allow more write x.test:c=20",
        ),
        (
            *(b"", [b"x.test", b"y.test"], TWO_HOSTS),
            b"site big.example#mx1+1: full with 10 sessions: to allow more write mx=.big.example:c=20",
        ),
        (
            *(b"", [b"x.test", b"y.test"], ONE_HOST),
            b"site mx.example: full with 10 sessions: to allow more write mx=mx.example:c=20",
        ),
        (
            b"x.test:c=4\n",
            [b"x.test"],
            TWO_HOSTS,
            b"domain x.test: full with 4 sessions: to allow more write x.test:c=8",
        ),
        (
            *(b"mx=.big.example:@two\n@two:C=3\n", [b"x.test", b"y.test"], TWO_HOSTS),
            b"group @two: full with 3 sessions: to allow more write @two:C=6",
        ),
        (
            *(b"mx=.big.example:c=3/org\n", [b"x.test"], TWO_HOSTS),
            b"org big.example: full with 3 sessions: to allow more write mx=.big.example:c=6/org",
        ),
    ],
)
def test_the_line_that_is_named_allows_more(rules, domains, hosts, line):
    play, count = busy(rules, domains, hosts)
    assert advice(play) == [line]
    named = line.rpartition(b" write ")[2]
    kept = b"".join(one for one in rules.splitlines(True) if one.partition(b":")[0] != named.partition(b":")[0])
    play.engine.use_rules(RuleSet.of_text(FAST + kept + named + b"\n"), play.now)
    assert sessions(play) == count  # twice as many now
    assert int(named.rpartition(b"=")[2].partition(b"/")[0]) == 2 * count


def test_a_relay_is_a_destination_like_any_other():
    relay, domains = ((0, b"relay.example", [b"192.0.2.1"]),), [b"x.test", b"y.test"]
    play, count = busy(b"", domains, relay, route=b"relay.example")
    assert count == 10 and advice(play)[0].endswith(b" write relay.example:c=20")
    assert busy(b"relay.example:c=40\n", domains, relay, route=b"relay.example")[1] == 40
    assert busy(b"relay.example:c=40\nx.test:c=3\n", domains, relay, route=b"relay.example")[1] == 40
    assert busy(b"relay.example:c=40\nx.test:c=3\n", domains[:1], relay, route=b"relay.example")[1] == 3


def test_a_relay_without_a_name():
    relay = ((0, b"192.0.2.1", [b"192.0.2.1"]),)
    play, count = busy(b"", [b"x.test"], relay, route=b"192.0.2.1")
    assert count == 10 and advice(play)[0].endswith(b" write 192.0.2.1:c=20")
    assert busy(b"192.0.2.1:c=20\n", [b"x.test"], relay, route=b"192.0.2.1")[1] == 20


def test_a_local_recipient():
    play = Play(50, b"", channel=LOCAL)
    for _ in range(9):
        play.arrive(b"me@here.example")
    assert len(words(play.orders(), DELIVER)) == 2
    assert advice(play) == [
        b"recipient me@here.example: full with 2 sessions: to allow more write rcpt=me@here.example:c=4"
    ]
    play.engine.use_rules(RuleSet.of_text(b"rcpt=me@here.example:c=4\n"), play.now)
    assert len(words(play.orders(), DELIVER)) == 2


@pytest.mark.parametrize("total, rules", [(5, b""), (500, b":i=2\n")])
def test_nothing_is_said_of_the_total_or_of_what_is_learned(total, rules):
    play = Play(total, rules or FAST)
    for _ in range(40):
        play.arrive(b"x.test")
    play.orders()
    play.resolved(b"x.test", TWO_HOSTS)
    assert words(play.orders(), OPEN) and play.engine.moves
    assert advice(play) == []
