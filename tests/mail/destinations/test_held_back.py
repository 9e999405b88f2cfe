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


NETS = ((10, b"mx1.one.example", [b"192.0.2.1"]),)
OTHER_NET = ((10, b"mx1.two.example", [b"192.0.2.2"]),)


def test_the_line_for_a_net_allows_more_to_its_hosts_together():
    """Two organisations whose hosts stand in one network, which has a limit of its own."""
    rules = b"ip=192.0.2.0/24:c=6/net\n"
    play = Play(500, FAST + rules)
    for number in range(60):
        play.arrive((b"x.test", b"y.test")[number % 2])
    play.orders()
    play.resolved(b"x.test", NETS)
    play.resolved(b"y.test", OTHER_NET)
    assert sessions(play) == 6
    assert advice(play) == [b"net 192.0.2.0/24: full with 6 sessions: to allow more write ip=192.0.2.0/24:c=12/net"]
    play.engine.use_rules(RuleSet.of_text(FAST + b"ip=192.0.2.0/24:c=12/net\n"), play.now)
    assert sessions(play) == 6


def test_the_line_for_the_built_in_limit_of_a_net_allows_more():
    domains = [b"d%d.test" % number for number in range(30)]
    play = Play(900, FAST)
    for number in range(240):
        play.arrive(domains[number % 30])
    play.orders()
    for number, domain in enumerate(domains):
        play.resolved(domain, ((10, b"mx.d%d.test" % number, [b"192.0.2.%d" % (number + 1)]),))
    assert sessions(play) == 100
    [line] = advice(play)
    assert line == b"net 192.0.2.0/24: full with 100 sessions: to allow more write ip=192.0.2.0/24:c=200/net"
    play.engine.use_rules(RuleSet.of_text(FAST + b"ip=192.0.2.0/24:c=200/net\n"), play.now)
    assert sessions(play) == 100


def test_the_line_for_the_built_in_limit_of_an_organisation_allows_more():
    """Tenants with hosts of their own on the machines of one organisation."""

    def tenants(rules):
        play = Play(500, FAST + rules)
        for number in range(60):
            play.arrive((b"x.test", b"y.test")[number % 2])
        play.orders()
        play.resolved(b"x.test", ((10, b"x.big.example", [b"192.0.2.1"]),))
        play.resolved(b"y.test", ((10, b"y.big.example", [b"198.51.100.1"]),))
        return play, sessions(play)

    play, count = tenants(b"")
    assert count == 10
    lines = [line for line in advice(play) if line.startswith(b"org ")]
    assert lines == [b"org big.example: full with 10 sessions: to allow more write mx=.big.example:c=20"]
    assert tenants(b"mx=.big.example:c=20\n")[1] == 20


RATES = [
    # rules, and the line of the log
    (
        b":k=6/m~2\n",
        b"site mx.example: full with 6 connections in 60 s, 2 at once: to allow more write x.test:k=12/m~4",
    ),
    (
        b"x.test:k=6/m~2\n",
        b"domain x.test: full with 6 connections in 60 s, 2 at once: to allow more write x.test:k=12/m~4",
    ),
    (
        b"mx=mx.example:@g\n@g:k=6/m~2\n",
        b"group @g: full with 6 connections in 60 s, 2 at once: to allow more write @g:k=12/m~4",
    ),
    (
        b"mx=mx.example:k=6/m~2/org\n",
        b"org mx.example: full with 6 connections in 60 s, 2 at once: to allow more write mx=mx.example:k=12/m~4/org",
    ),
    (
        b"ip=192.0.2.0/24:k=6/m~2/net\n",
        b"net 192.0.2.0/24: full with 6 connections in 60 s, 2 at once: to allow more write "
        b"ip=192.0.2.0/24:k=12/m~4/net",
    ),
]


@pytest.mark.parametrize("rules, line", RATES)
def test_the_line_that_is_named_for_a_rate_allows_twice_as_many(rules, line):
    def opened(rules):
        play = Play(500, b":i=99,c=99,k=1000/s~1000\n" + rules if not rules.startswith(b":") else b"")
        if rules.startswith(b":"):
            play.engine.use_rules(RuleSet.of_text(b":i=99,c=99," + rules[1:]), play.now)
        for _ in range(60):
            play.arrive(b"x.test")
        play.orders()
        play.resolved(b"x.test", ONE_HOST)
        return play, sessions(play)

    play, count = opened(rules)
    assert count == 2
    lines = [one for one in play.engine.log_lines(play.now) if b": to allow more write " in one]
    assert lines == [line]
    named = lines[0].rpartition(b" write ")[2]
    kept = b"".join(one for one in rules.splitlines(True) if one.partition(b":")[0] != named.partition(b":")[0])
    assert opened(kept + named + b"\n")[1] == 4


def test_nothing_is_said_of_a_rate_that_was_learned_or_of_a_pause():
    play, _ = busy(b"", [b"x.test"], ONE_HOST)
    play.engine.log_lines(play.now)
    budget = play.engine.tables.ways.find(b"x.test").door.site_budget
    rate = play.engine._consequences.rate_of(budget)
    rate.refused(play.now)
    budget.use_rates((), (rate.gcra,))
    budget.send(9, play.now)
    play.arrive(b"x.test")
    play.orders()
    assert not [line for line in play.engine.log_lines(play.now) if b"to allow more" in line]


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
