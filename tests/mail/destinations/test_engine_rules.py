"""The engine under rules that change, and over a restart."""

import pytest

from pyqmail.mail.destinations import state_file
from pyqmail.mail.destinations.engine import LOCAL
from pyqmail.mail.destinations.orders import CLOSE, DELIVER, OPEN, RESOLVE
from pyqmail.mail.destinations.outcome import GREETING, LOOKUP, Outcome
from pyqmail.mail.destinations.rules.lookup import RuleSet
from tests.mail.destinations.play import SILENT, Play, words

FREE = b":c=50,i=50,k=1000/s~1000\n"
TOO_MANY = b":421:too many connections:ceiling\n"


def running(rules, count=30, total=200):
    """Return a play with many sessions to x that each have a delivery: {session: recipient}."""
    play, flying = Play(total, rules), {}
    for _ in range(count):
        play.arrive(b"x")
    play.orders()
    play.resolved(b"x")
    for _ in range(3):
        for _, session, opening in words(play.orders(), OPEN):
            play.ready(session, opening.host, opening.address)
        flying.update(collect(play))
    return play, flying


def collect(play):
    orders = play.engine.take_orders()
    play.engine._core.orders[:0] = [order for order in orders if order[0] != DELIVER]
    return {order[1]: order[3][0][0] for order in words(orders, DELIVER)}


def use(play, text):
    play.engine.use_rules(RuleSet.of_text(text), play.now)


def test_a_lower_limit_cuts_no_session_and_holds_soon():
    play, flying = running(FREE)
    assert len(flying) == 30
    use(play, b":c=5,i=50\n")
    assert words(play.orders(), CLOSE) == []
    for recipient in flying.values():
        play.result(recipient)
    closed = [order[1] for order in words(play.orders(), CLOSE)]
    assert len(closed) >= 25
    for session in closed:
        play.closed(session, None)
    for _ in range(30):
        play.arrive(b"x")
    opened = words(play.orders(), OPEN)
    assert play.engine.used <= 5 and len(opened) <= 5


def test_a_higher_limit_is_used_at_once():
    play, flying = running(b":c=3,i=50,k=1000/s~1000\n")
    assert len(flying) == 3
    use(play, b":c=9,i=50,k=1000/s~1000\n")
    assert len(words(play.orders(), OPEN)) == 6


def test_a_local_limit_changes_live():
    play = Play(50, b"", channel=LOCAL)
    for _ in range(9):
        play.arrive(b"me@here.example")
    assert len(words(play.orders(), DELIVER)) == 2
    use(play, b"rcpt=:c=6\n")
    assert len(words(play.orders(), DELIVER)) == 4 and play.engine.used == 6


def test_more_lanes_than_are_looked_up_at_once():
    play = Play(2000, b":c=3\n")
    for i in range(900):
        play.arrive(b"d%d" % i)
    for _, domain in play.orders():
        play.resolved(domain, [(10, b"mx." + domain, [b"10.0.%d.1" % (int(domain[1:]) % 256)])])
    use(play, b":c=7\n")
    for _ in range(20):
        if play.engine.next_time() > play.now:
            break
        play.engine.advance(play.date, play.now)
    limits = {budget.limit for (scope, _, _), budget in play.engine._core.budgets.all_budgets() if scope == "site"}
    assert limits == {7}


def refuse(play, session, opening):
    report = b"ZConnected to %b but greeting failed.\nRemote host said: 421 too many connections\n" % opening.address
    play.refused(session, Outcome(report, GREETING, 421, opening.host, opening.address))


@pytest.fixture
def capped():
    """A play in which a site has shown that it takes 2 sessions."""
    play = Play(200, b":c=20,i=4\n")
    play.engine._core.rules = RuleSet.of_text(b":c=20,i=4\n", TOO_MANY)
    for _ in range(20):
        play.arrive(b"x")
    play.orders()
    play.resolved(b"x")
    [(_, session, opening)] = words(play.orders(), OPEN)
    play.ready(session, opening.host, opening.address)
    others = words(play.orders(), OPEN)
    play.ready(others[0][1], others[0][2].host, others[0][2].address)
    for _, number, opening in others[1:]:
        refuse(play, number, opening)
    return play


def test_what_was_learned_survives_a_restart(capped):
    state = capped.engine.snapshot(capped.now)
    data = state_file.write(state)
    again = Play(200, b":c=20,i=4\n")
    again.now = 5.0  # another boot: monotonic time begins anew
    read, reason = state_file.read(data, again.date + 995.0)
    assert reason == ""
    again.engine.restore(read, again.now)
    again.arrive(b"x")
    for _ in range(9):
        again.arrive(b"x")
    again.orders()
    again.resolved(b"x")
    opened = words(again.orders(), OPEN)
    assert len(opened) == 2  # neither the one of an unknown site nor the window of a new one


def test_what_waits_for_its_site_is_written_again(capped):
    data = state_file.write(capped.engine.snapshot(capped.now))
    again = Play(200)
    again.engine.restore(state_file.read(data, again.date)[0], again.now)
    once = state_file.write(again.engine.snapshot(again.now))
    assert [line for line in once.split(b"\n") if line.startswith(b"budget site")] == [
        line for line in data.split(b"\n") if line.startswith(b"budget site")
    ]


def test_a_dead_site_is_dead_after_a_restart():
    play = Play()
    play.arrive(b"x")
    play.orders()
    play.resolved(b"x")
    [(_, session, opening)] = words(play.orders(), OPEN)
    play.failed(session, Outcome(SILENT.report, "connect", 110, opening.host, opening.address))
    play.closed(session, None)
    again = Play()
    again.engine.restore(state_file.read(state_file.write(play.engine.snapshot(play.now)), play.date)[0], again.now)
    again.arrive(b"x")
    again.orders()
    again.resolved(b"x")
    assert words(again.run(50), OPEN) == [] and len(words(again.run(30), OPEN)) == 1


def arrived_and_resolved(rules, domain=b"x", hosts=((10, b"mx.example", [b"192.0.2.1", b"2001:db8::1"]),)):
    play = Play(50, rules)
    play.arrive(domain)
    play.orders()
    play.resolved(domain, hosts)
    return play


def test_hold_opens_nothing_until_the_rule_has_gone():
    play = arrived_and_resolved(b"x:hold\n")
    assert words(play.run(100), OPEN) == []
    use(play, b"")
    assert len(words(play.orders(), OPEN)) == 1


def test_a_domain_that_is_held_is_asked_about_when_it_is_released():
    play = Play(50, b"x:hold\n")
    play.arrive(b"x")
    assert play.run(200) == []
    use(play, b"")
    assert words(play.orders(), RESOLVE) == [(RESOLVE, b"x")]
    play.resolved(b"x")
    assert len(words(play.orders(), OPEN)) == 1


@pytest.mark.parametrize("domain", [b"x", b"[192.0.2.1]"])
def test_an_answer_that_comes_while_a_domain_is_held_defers_nothing(domain):
    play = Play(50, b"")
    play.arrive(domain)
    assert play.orders() == [(RESOLVE, domain)]
    use(play, b":hold\n")
    play.engine.nowhere(domain, Outcome(b"DSorry. (#5.1.10)\n", LOOKUP), play.now)
    assert play.run(200) == []
    use(play, b"")
    assert play.orders() == [(RESOLVE, domain)]
    use(play, b":hold\n")
    play.engine.trouble(domain, b"SERVFAIL", play.now)
    assert play.run(200) == []
    use(play, b"")
    assert play.orders() == [(RESOLVE, domain)]


def test_what_waits_to_be_asked_about_is_not_if_it_is_held_by_then():
    play = Play(50, b"")
    for i in range(300):
        play.arrive(b"d%d" % i)
    assert len(words(play.orders(), RESOLVE)) == 256  # young at once
    use(play, b"d280:hold\nd281:hold\n")
    asked = [order[1] for order in words(play.run(5), RESOLVE)]
    assert len(asked) == 42 and not {b"d280", b"d281"} & set(asked)


def test_a_domain_is_held_until_a_date_before_it_is_asked_about():
    play = Play(50, b"")
    play.engine._core.rules.for_site(b"x").held_until = play.date + 90  # as destinations.now has it
    play.arrive(b"x")
    assert play.run(89) == []
    assert words(play.run(2), RESOLVE) == [(RESOLVE, b"x")]


def test_hold_until_a_date():
    play = arrived_and_resolved(b"")
    session = words(play.orders(), OPEN)[0]
    play.ready(session[1])
    play.result(words(play.orders(), DELIVER)[0][3][0][0])
    policy = play.engine._ways.find(b"x").policy
    policy.held_until = play.date + 60  # as destinations.now has it
    play.engine._ways.renew(play.engine._ways.find(b"x"), play.now)
    play.arrive(b"x")
    assert (CLOSE, session[1]) in play.orders()
    play.closed(session[1], None)
    assert words(play.run(58), OPEN, DELIVER) == []
    assert len(words(play.run(4), OPEN)) == 1


@pytest.mark.parametrize("rules, address", [(b"x:v=4\n", b"192.0.2.1"), (b"x:v=6\n", b"2001:db8::1")])
def test_only_addresses_of_a_family(rules, address):
    play = arrived_and_resolved(rules)
    assert [order[2].address for order in words(play.orders(), OPEN)] == [address]


@pytest.mark.parametrize("rules", [b"x:die=1h\n", b"from=s.example:die=1h\n"])
def test_mail_lives_as_long_as_a_rule_says(rules):
    play = arrived_and_resolved(rules + b"x:hold\n" if b"from" in rules else b"x:die=1h,hold\n")
    assert words(play.run(3590, 10), "report") == []
    [report] = words(play.run(30), "report")
    assert report[3].letter == b"D"


def test_a_longer_life_than_that_of_all():
    play = arrived_and_resolved(b"x:die=14d,hold\n")
    assert words(play.run(8 * 86400, 3600), "report") == []
    assert len(words(play.run(7 * 86400, 3600), "report")) == 1
