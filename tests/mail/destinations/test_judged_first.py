"""What an event gives back is offered to others only when all that follows from the event is in force."""

import pytest

from bench.destinations.servers import RESETS, Server
from pyqmail.mail.destinations.orders import CLOSE, MORE, OPEN
from pyqmail.mail.destinations.outcome import CONNECT, GREETING, SENDER, Outcome
from pyqmail.mail.destinations.rules.lookup import RuleSet
from tests.mail.destinations.engine_checks import CheckedWorld
from tests.mail.destinations.play import Play, words

ADDRESS, OTHER = b"192.0.2.1", b"192.0.2.2"
HOSTS = ((10, b"mx.example", [ADDRESS]),)
# two doors of one site, both of which want more than the address takes
RULES = b":i=5\nip=192.0.2.1:c=2\na.example:c=5\nb.example:c=4\n"
RESPONSES = b":421:too many connections:ceiling\n:421:rate limited:rate\n:421:complaints:pause 2h\n"


def said(reply, stage=GREETING, address=ADDRESS):
    words = {GREETING: b"greeting failed", SENDER: b"sender was rejected"}[stage]
    report = b"ZConnected to %b but %b.\nRemote host said: %b\n" % (address, words, reply)
    return Outcome(report, stage, int(reply[:3]), b"mx.example", address)


def silent(address=ADDRESS):
    return Outcome(b"ZSorry. (#4.4.1)\n", CONNECT, 110, b"mx.example", address)


def opened(play):
    return [order[1] for order in words(play.orders(), OPEN, MORE)]


def full_address():
    """Return a Play in which one session is up and another connects, and their numbers; b.example waits."""
    play = Play(rules=RULES)
    play.engine.use_rules(RuleSet.of_text(RULES, RESPONSES), play.now)
    play.arrive(*[b"a.example"] * 6, is_alone=True)
    play.arrive(*[b"b.example"] * 6, is_alone=True)
    play.orders()
    play.resolved(b"a.example", HOSTS)
    play.resolved(b"b.example", HOSTS)
    (first,) = opened(play)
    play.ready(first, address=ADDRESS)
    (second,) = opened(play)
    return play, first, second


@pytest.mark.parametrize(
    "event, outcome",
    [
        ("refused", said(b"421 too many connections")),
        ("refused", said(b"421 rate limited")),
        ("refused", said(b"421 complaints")),
        ("refused", said(b"554 go away")),
        ("refused", said(b"421 shutting down")),
        ("failed", silent()),
    ],
)
def test_a_unit_that_a_refused_session_gives_back_opens_no_other_into_the_site(event, outcome):
    play, _, second = full_address()
    getattr(play, event)(second, outcome)
    assert opened(play) == []
    play.closed(second, None)
    assert opened(play) == []


def test_without_a_fault_the_unit_goes_to_who_waits():
    play, _, second = full_address()
    play.closed(second, None)
    assert len(opened(play)) == 1


@pytest.mark.parametrize("reply", [b"421 too many connections", b"421 rate limited", b"421 complaints"])
def test_a_session_that_the_server_ends_lets_nobody_in_before_it_is_judged(reply):
    play, first, second = full_address()
    play.closed(second, None)
    (third,) = opened(play)
    play.ready(third, address=ADDRESS)
    play.orders()
    play.closed(third, said(reply, SENDER))
    assert opened(play) == []


def test_the_unit_is_free_for_another_address_of_the_same_session():
    play = Play(rules=b"ip=192.0.2.0/24:c=1/net\n")
    play.arrive(b"a.example")
    play.orders()
    play.resolved(b"a.example", ((10, b"mx.example", [ADDRESS]), (20, b"mx2.example", [OTHER])))
    (session,) = opened(play)
    play.failed(session, silent())
    ((_, number, opening),) = words(play.orders(), OPEN, MORE, CLOSE)
    assert (number, opening.address) == (session, OTHER)


def test_a_host_without_room_has_not_failed():
    """One host refuses the connection while all that the other may have connect to it: no failed start of the site."""
    world = CheckedWorld(b"site.example:dead=1,n=1\nip=10.0.2.1:c=1\n")
    world.place(b"site.example", Server(kind=RESETS), Server(0.1, connect_seconds=4.0))
    for _ in range(40):
        world.send([b"site.example"])
    world.finish(3600)
    world.check_end()
    assert not [line for _, line in world.log if b"dead" in line]
    assert sum(address == b"10.0.1.1" for _, address in world.opened) < 15


def test_other_rules_let_nobody_in_before_all_of_them_are_looked_up():
    """The group takes one more, and the one that waits for it is held from now on."""
    play, orders = Play(rules=b"@g:c=1\na.example:@g\nb.example:@g\n"), []
    for domain, address in ((b"a.example", ADDRESS), (b"b.example", OTHER)):
        play.arrive(domain)
        play.orders()
        play.resolved(domain, ((10, b"mx." + domain, [address]),))
        orders += words(play.orders(), OPEN)
    assert [order[2].address for order in orders] == [ADDRESS]
    play.engine.use_rules(RuleSet.of_text(b"@g:c=2\na.example:@g\nb.example:@g,hold\n", b""), play.now)
    assert opened(play) == []
    play.engine.use_rules(RuleSet.of_text(b"@g:c=2\na.example:@g\nb.example:@g\n", b""), play.now)
    assert len(opened(play)) == 1
