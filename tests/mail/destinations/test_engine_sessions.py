"""The engine with sessions of its own: questions, OPEN to CLOSED, late binding, what comes back."""

import errno

import pytest

from pyqmail.mail.destinations.orders import CLOSE, DELIVER, DONE, DUE, MORE, OPEN, REPORT, RESOLVE, Limits
from pyqmail.mail.destinations.outcome import CONNECT, DIALOGUE, DOUBTFUL, GREETING, LOOKUP, Outcome
from tests.mail.destinations.play import ACCEPTED, DATE, NEVER, Play, words

FREE = b":c=100,i=100,k=1000/s~1000\n"
TWO = ((10, b"mx1.x", [b"192.0.2.1"]), (10, b"mx2.x", [b"198.51.100.1"]))


def refusal(address=b"192.0.2.1", host=b"mx.example", code=421, text=b"too busy"):
    report = b"ZConnected to %b but greeting failed.\nRemote host said: %d %b\n" % (address, code, text)
    return Outcome(report, GREETING, code, host, address)


def silence(address=b"192.0.2.1", host=b"mx.example", code=errno.ETIMEDOUT):
    return Outcome(b"Zconnect timed out\n", CONNECT, code, host, address)


def opened(count=1, total=20, rules=FREE, domain=b"x"):
    """Return a play with a session that has greeted, and (session, recipient) of its first delivery."""
    play = Play(total, rules)
    for _ in range(count):
        play.arrive(domain)
    assert play.orders() == [(RESOLVE, domain)]
    play.resolved(domain)
    [open_] = words(play.orders(), OPEN)
    play.ready(open_[1])
    orders = play.engine.take_orders()
    first = words(orders, DELIVER)[0]
    play.rest = [order for order in orders if order is not first]
    return play, open_[1], first[3][0][0]


def test_what_one_site_teaches_is_not_learned_of_another():
    play = Play()
    sessions = {}
    for number, domain in enumerate((b"x", b"y", b"z")):
        play.arrive(domain)
        play.orders()
        play.resolved(domain, ((10, b"mx." + domain, [b"192.0.%d.1" % number]),))
        [(_, sessions[domain], _)] = words(play.orders(), OPEN)
    play.ready(sessions[b"x"], b"mx.x", b"192.0.0.1")
    play.failed(sessions[b"y"], silence(b"192.0.1.1", b"mx.y"))
    windows = [lane.door.site_budget.window for lane in play.engine.tables.ways.all_lanes()]
    assert [window.is_unproven(play.now) for window in windows] == [False, True, True]
    assert [window.dead_since is None for window in windows] == [True, False, True]
    assert [window.is_shared for window in windows] == [False, False, True]


def test_a_number_that_is_forgotten_twice_and_one_that_was_never_there():
    play = Play()
    number = play.arrive(b"x")
    play.engine.forget(number, play.now)
    play.engine.forget(number, play.now)
    play.engine.forget(number + 1, play.now)
    assert play.engine.waiting_count == 0 and not words(play.orders(), DONE)


def test_from_arrival_to_the_end_of_a_session():
    play = Play()
    number = play.arrive(b"x")
    assert play.orders() == [(RESOLVE, b"x")]
    play.resolved(b"x")
    [(word, session, opening)] = play.orders()
    assert (word, opening.host, opening.address, opening.port) == (OPEN, b"mx.example", b"192.0.2.1", 25)
    assert opening.connect_seconds == 10 and opening.hedge_seconds == 2 and play.engine.connecting == 1
    play.ready(session)
    [deliver] = play.orders()
    assert deliver[:3] == (DELIVER, session, number) and play.engine.connecting == 0
    play.result(deliver[3][0][0])
    assert play.orders() == [(DONE, number)]
    more = play.arrive(b"x")  # the session that idles takes it
    [deliver] = play.orders()
    assert deliver[:3] == (DELIVER, session, more)
    play.result(deliver[3][0][0])
    assert play.orders() == [(DONE, more)] and play.engine.next_time() <= play.now + 2
    assert play.orders(2) == [(CLOSE, session)] and play.engine.used == 1
    play.closed(session, None)
    assert play.orders() == [] and play.engine.used == 0


def test_a_session_is_bound_to_mail_only_when_it_has_greeted():
    play = Play(rules=FREE)
    play.arrive(b"x")
    play.orders()
    play.resolved(b"x")
    assert words(play.run(30), DELIVER, REPORT, DUE) == []


def test_one_session_until_the_first_greeting_and_then_the_window():
    play = Play(100, b":c=50,i=3\n")
    for _ in range(9):
        play.arrive(b"x")
    play.orders()
    play.resolved(b"x")
    [first] = words(play.orders(), OPEN)
    play.ready(first[1])
    assert len(words(play.orders(), OPEN)) == 2


def test_recipients_of_one_message_go_together_up_to_m():
    play = Play(100, FREE + b"x:m=4\n")
    play.arrive(*[b"x"] * 10)
    play.orders()
    play.resolved(b"x")
    [first] = words(play.orders(), OPEN)
    play.ready(first[1])
    orders = play.orders()
    assert [len(order[3]) for order in words(orders, DELIVER)] == [4] and len(words(orders, OPEN)) == 2
    assert play.engine.used == 6  # a delivery holds a place


def test_verp_recipients_go_alone_and_at_once():
    play = Play(100, FREE)
    play.arrive(*[b"x"] * 20, is_alone=True)
    play.orders()
    play.resolved(b"x")
    [first] = words(play.orders(), OPEN)
    play.ready(first[1])
    orders = play.orders()
    assert [len(order[3]) for order in words(orders, DELIVER)] == [1] and len(words(orders, OPEN)) == 19


@pytest.mark.parametrize("hosts", [TWO, TWO[:1]])
def test_hosts_are_tried_in_turn_and_then_the_site_is_dead(hosts):
    play = Play(rules=FREE)
    play.arrive(b"x")
    play.orders()
    play.resolved(b"x", hosts)
    orders, tried = play.orders(), []
    while orders:
        word, session = orders[0][:2]
        if word == CLOSE:
            break
        opening = orders[0][2]
        tried.append(opening.address)
        play.failed(session, silence(opening.address, opening.host))
        orders = play.orders()
    assert sorted(tried) == sorted(host[2][0] for host in hosts) and word == CLOSE
    play.closed(session, None)
    assert play.orders() == [] and play.engine.used == 0
    assert words(play.run(50), OPEN, DUE, REPORT) == []  # parked: no time of the parcel changes
    [probe] = words(play.run(30), OPEN)
    play.ready(probe[1], probe[2].host, probe[2].address)
    assert len(words(play.orders(), DELIVER)) == 1


def test_a_host_that_keeps_us_waiting_is_hedged_and_the_first_greeting_wins():
    play = Play(rules=FREE)
    play.arrive(b"x")
    play.orders()
    play.resolved(b"x", TWO)
    [(_, session, first)] = play.orders()
    assert first.hedge_seconds == 2
    play.now += 2
    play.waiting(session)
    [(word, same, second)] = play.orders()
    assert (word, same) == (MORE, session) and second.address != first.address
    play.failed(session, silence(first.address, first.host, errno.ECANCELED))
    play.ready(session, second.host, second.address)
    assert len(words(play.orders(), DELIVER)) == 1 and play.engine.used == 1
    assert play.engine._core.hosts.get(first.host).penalty == 1


def test_alarm_probes_dead_sites_some_at_once_and_the_rest_within_a_minute():
    play = Play(200, FREE)
    domains = [b"d%d.example" % number for number in range(30)]
    for number, domain in enumerate(domains):
        play.arrive(domain)
        play.orders()
        play.resolved(domain, ((10, b"mx.%b" % domain, [b"192.0.%d.1" % number]),))
        [(_, session, opening)] = words(play.orders(), OPEN)
        play.failed(session, silence(opening.address, opening.host, errno.ECONNREFUSED))
        play.orders()
        play.closed(session, None)
    assert words(play.run(10), OPEN) == []
    play.make_due()
    assert len(words(play.orders(), OPEN)) == 20
    assert len(words(play.run(29), OPEN)) == 5


def test_of_many_that_wait_three_are_hedged_and_the_others_once_the_host_is_known_to_fail():
    play = Play(40, FREE)
    for _ in range(21):
        play.arrive(b"x")
    play.orders()
    play.resolved(b"x", TWO)
    [(_, proof, opening)] = words(play.orders(), OPEN)
    play.ready(proof, opening.host, opening.address)
    opened = {session: opening for _, session, opening in words(play.orders(), OPEN)}
    silent = next(opening.address for opening in opened.values())
    slow = [session for session, opening in opened.items() if opening.address == silent]
    assert len(slow) > 4
    play.now += 2
    for session in slow:
        play.waiting(session)
    beside = [session for _, session, _ in words(play.orders(), MORE)]
    assert beside == slow[:3]
    play.failed(beside[0], silence(silent, opened[beside[0]].host, errno.ECANCELED))
    assert words(play.orders(), MORE) == []
    assert [session for _, session, _ in words(play.orders(2), MORE)] == slow[3:]


def test_no_mail_counts_on_a_session_that_waits_and_may_not_be_hedged():
    play = Play(40, FREE)
    play.arrive(b"x")
    play.orders()
    play.resolved(b"x", TWO)
    [(_, proof, opening)] = words(play.orders(), OPEN)
    play.ready(proof, opening.host, opening.address)
    play.orders()
    for _ in range(6):
        play.arrive(b"x")
    sessions = [session for _, session, _ in words(play.orders(), OPEN)]
    assert len(sessions) == 6
    play.now += 2
    for session in sessions:
        play.waiting(session)
    orders = play.orders()
    assert [session for _, session, _ in words(orders, MORE)] == sessions[:3]
    assert len(words(orders, OPEN)) == 3
    play.ready(sessions[5], TWO[0][1], TWO[0][2][0])
    assert len(words(play.orders(), DELIVER)) == 1


def test_a_refused_session_costs_nothing_while_another_works():
    play, session, recipient = opened(3)
    others = words(play.rest + play.orders(), OPEN)
    assert len(others) == 2
    for _, number, opening in others:
        play.refused(number, refusal(opening.address, opening.host, text=b"too many connections"))
        assert (CLOSE, number) in play.orders()
        play.closed(number, None)
    assert words(play.orders(), DUE, REPORT) == []
    delivered = 0
    for _ in range(3):
        play.result(recipient)
        delivered += 1
        deliver = words(play.orders(), DELIVER)
        if deliver:
            assert deliver[0][1] == session
            recipient = deliver[0][3][0][0]
    assert delivered == 3 and play.engine.waiting_count == 0


def test_what_is_reported_is_what_counts():
    play, session, recipient = opened()
    assert play.result(recipient, NEVER) == b"D"
    assert words(play.orders(), DONE) == [(DONE, 1)]


def test_a_session_that_ends_without_a_word_defers_what_it_had():
    play, session, recipient = opened()
    play.closed(session, None)
    [report] = words(orders := play.orders(), REPORT)
    assert report[1] == 1 and report[2] == [(recipient, 10)] and report[3].stage == DOUBTFUL
    assert report[3].report == b"ZConnected to 192.0.2.1 but connection died. Possible duplicate! (#4.4.2)\n"
    assert words(orders, DUE) == [(DUE, 1, DATE + 400)] and play.engine.used == 0


def test_unsent_goes_over_another_session_and_is_deferred_the_third_time():
    play, session, recipient = opened()
    for turn in range(3):
        play.unsent(recipient)
        play.closed(session, None)
        orders = play.run(70)
        if turn == 2:
            assert len(words(orders, DUE)) == 1 and words(orders, OPEN, DELIVER) == []
            return
        session = words(orders, OPEN)[0][1]
        play.ready(session)
        recipient = words(play.orders(), DELIVER)[0][3][0][0]


def test_what_came_back_of_a_message_that_has_gone_is_not_counted_against_the_next():
    play, session, recipient = opened()
    for turn in range(2):
        play.unsent(recipient)
        play.closed(session, None)
        if turn == 0:
            session = words(play.run(70), OPEN)[0][1]
            play.ready(session)
            recipient = words(play.orders(), DELIVER)[0][3][0][0]
    play.engine.forget(1, play.now)
    play.arrive(b"x")
    session = words(play.run(200), OPEN)[0][1]
    play.ready(session)
    [deliver] = words(play.orders(), DELIVER)
    assert deliver[3][0][0] == recipient  # the row is used again
    play.unsent(recipient)
    play.closed(session, None)
    assert words(play.run(300), DUE) == []


def test_what_a_used_session_gives_back_is_for_a_new_one():
    play, session, recipient = opened(1)
    play.result(recipient)
    play.arrive(b"x")
    [deliver] = words(play.orders(), DELIVER)
    play.arrive(b"x")
    orders = play.orders()
    assert len(words(orders, OPEN)) == 1
    fresh = words(orders, OPEN)[0][1]
    back = deliver[3][0][0]
    play.unsent(back)
    play.engine.closed(session, Outcome(b"Z\n", DIALOGUE), play.now, carried=1)
    play.ready(fresh)
    assert words(play.orders(), DELIVER)[0][2] == deliver[2]


def test_an_idle_session_gives_way():
    play, session, recipient = opened(total=1)
    play.result(recipient)
    play.orders()
    play.arrive(b"y")
    assert words(play.orders(), RESOLVE) == [(RESOLVE, b"y")]
    play.resolved(b"y", [(10, b"mx.y", [b"203.0.113.1"])])
    assert words(play.orders(), CLOSE, OPEN) == [(CLOSE, session)]
    play.closed(session, None)
    assert [order[0] for order in play.orders()] == [OPEN]


def test_a_busy_session_gives_way_after_ten_messages():
    play, session, recipient = opened(50, total=1)
    play.arrive(b"y")
    play.orders()
    play.resolved(b"y", [(10, b"mx.y", [b"203.0.113.1"])])
    for turn in range(1, 60):  # noqa: B007
        play.result(recipient)
        orders = play.orders()
        if words(orders, CLOSE):
            break
        recipient = words(orders, DELIVER)[0][3][0][0]
    assert turn == 10
    play.closed(session, None)
    [open_] = words(play.orders(), OPEN)
    assert open_[2].host == b"mx.y"


@pytest.mark.parametrize("rules, announced, carried", [(b"x:n=3\n", 0, 3), (b"", 2, 2), (b"x:n=3\n", 5, 3)])
def test_a_session_carries_n_messages(rules, announced, carried):
    play = Play(2, FREE + rules)
    for _ in range(9):
        play.arrive(b"x")
    play.orders()
    play.resolved(b"x")
    [open_] = words(play.orders(), OPEN)
    play.ready(open_[1], limits=Limits(messages=announced))
    for turn in range(1, 10):  # noqa: B007
        [deliver] = words(play.orders(), DELIVER)
        play.result(deliver[3][0][0])
        if (CLOSE, open_[1]) in play.engine._core.orders:
            break
    assert turn == carried


def test_nowhere_counts_three_times_over_an_hour():
    play = Play()
    number = play.arrive(b"x")
    outcome = Outcome(b"DSorry, I couldn't find any host named x. (#5.1.2)\n", LOOKUP)
    play.orders()
    letters, start = [], play.now
    while True:
        play.nowhere(b"x", outcome)
        orders = play.engine.take_orders()
        [report] = words(orders, REPORT)
        letters.append(report[3].letter)
        if (DONE, number) in orders:
            break
        assert words(play.run(5000, 50), RESOLVE)
    assert letters == [b"Z", b"Z", b"D"] and play.now - start >= 3600


def test_a_null_mx_fails_at_once():
    play = Play()
    number = play.arrive(b"x")
    play.orders()
    play.nowhere(b"x", Outcome(b"DDomain does not accept mail (#5.1.10)\n", LOOKUP))
    [report, done] = play.orders()
    assert (report[0], report[3].letter, done) == (REPORT, b"D", (DONE, number))


def test_trouble_of_the_resolver_defers_nothing():
    play = Play()
    play.arrive(b"x")
    play.orders()
    play.trouble(b"x", b"timed out")
    assert play.run(59) == [] and play.run(3) == [(RESOLVE, b"x")]
    play.resolved(b"x")
    assert len(words(play.orders(), OPEN)) == 1


def test_lacking_lowers_the_total_for_a_minute():
    play = Play(20)
    play.engine.lacking(play.now)
    assert play.engine.total == 18
    play.run(61)
    assert play.engine.total == 20


def test_a_lost_process_blames_nobody():
    play, session, recipient = opened(2)
    play.engine.lost([session], play.now)
    orders = play.orders()
    assert words(orders, REPORT)[0][3].stage == DOUBTFUL and play.engine._core.hosts.get(b"mx.example").penalty == 0
    play.closed(session, None)  # it comes no more; nothing happens
    assert play.engine.used == len(words(play.rest, OPEN)) == 1


def test_stop_lets_what_is_in_flight_land():
    play, session, recipient = opened(3)
    connecting = [order[1] for order in words(play.rest + play.orders(), OPEN)]
    play.engine.stop(play.now)
    assert sorted(play.orders()) == sorted((CLOSE, number) for number in connecting)
    play.result(recipient)
    assert play.orders() == [(DONE, 1), (CLOSE, session)]
    for number in (*connecting, session):
        play.closed(number, None)
    assert play.orders(100) == [] and play.engine.used == 0


def test_accepted_mail_of_many_domains_at_one_site_shares_its_sessions():
    play = Play(20, FREE)
    for domain in (b"a", b"b", b"c"):
        play.arrive(domain)
    assert len(words(play.orders(), RESOLVE)) == 3
    for domain in (b"a", b"b", b"c"):
        play.resolved(domain)
    [open_] = words(play.orders(), OPEN)
    play.ready(open_[1])
    numbers = []
    orders = play.orders()
    for _ in range(3):
        for order in words(orders, DELIVER):
            numbers.append(order[2])
            play.result(order[3][0][0], ACCEPTED)
        orders = play.orders()
    assert sorted(numbers)[:1] == [1]


def test_what_a_smaller_transaction_leaves_wants_sessions_of_its_own():
    """Once a server has shown that it takes one recipient a message, what waits makes more transactions."""
    play = Play(100, FREE + b"x:m=5\n")
    play.arrive(b"x")
    play.orders()
    play.resolved(b"x")
    [open_] = words(play.orders(), OPEN)
    play.ready(open_[1])
    [deliver] = words(play.orders(), DELIVER)
    play.arrive(*[b"x"] * 5)
    assert len(words(play.orders(), OPEN)) == 1
    play.result(deliver[3][0][0], ACCEPTED, accepted=1)
    assert len(words(play.orders(), OPEN)) >= 3
