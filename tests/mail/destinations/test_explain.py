"""What an engine says of itself: the shape of its mail, why something waits, who is busy."""

import errno

import pytest

from pyqmail.mail.destinations import explain
from pyqmail.mail.destinations.engine import LOCAL
from pyqmail.mail.destinations.limits.budgets import Pause
from pyqmail.mail.destinations.orders import DELIVER, OPEN
from pyqmail.mail.destinations.outcome import CONNECT, GREETING, Outcome
from pyqmail.protocol.wires import send_status_wire as wire
from tests.mail.destinations.play import LATER, Play, words

HOSTS = ((10, b"mx1.big.example", [b"192.0.2.1"]), (20, b"mx2.big.example", [b"198.51.100.1"]))


def carried(question, fields):
    """What the reader of the status wire has of it."""
    return wire.unpack(question, wire.pack({**fields, "pid": 1, "now": 0.0}))


def shape(play, key="domain", most=20):
    return carried(wire.SHAPE, explain.shape([play.engine], key, most, play.now, play.date))


def why(play, kind, name):
    return carried(wire.WHY, explain.why([play.engine], kind, name, play.now, play.date))["entries"]


def counts(row):
    return row["name"], row["total"], row["flying"], row["ready"], row["retry"]


def waiting(rules=b":c=2,i=9\n", mail=5, domain=b"big.example", hosts=HOSTS):
    """A play with a site whose two sessions deliver, and more mail that is ready."""
    play = Play(20, rules)
    for _ in range(mail):
        play.arrive(domain)
    play.orders()
    play.resolved(domain, hosts)
    [first] = words(play.orders(), OPEN)
    play.ready(first[1], *opening(first))
    orders = play.orders()
    for order in words(orders, OPEN):
        play.ready(order[1], *opening(order))
    play.flying = [recipient for order in words(orders + play.orders(), DELIVER) for recipient, _ in order[3]]
    return play


def opening(order):
    return order[2].host, order[2].address


def test_the_shape_of_nothing():
    found = shape(Play())
    assert (found["rows"], found["left_out"], counts(found["total"])) == ([], 0, ("TOTAL", 0, 0, 0, 0))
    assert found["total"]["ages"] == [0] * 10


def test_the_shape_counts_what_flies_what_is_ready_and_what_waits():
    play = waiting()
    play.arrive(b"later.example", b"later.example", due=play.date + 500)
    found = shape(play)
    assert [counts(row) for row in found["rows"]] == [
        ("big.example", 5, 2, 3, 0),
        ("later.example", 2, 0, 0, 2),
    ]
    assert counts(found["total"]) == ("TOTAL", 7, 2, 3, 2)
    assert found["rows"][0]["state"] == "full: site big.example#mx1+1 2/2 (:c=2 (destinations line 1))"
    assert [row["ages"][0] for row in (*found["rows"], found["total"])] == [5, 2, 7]


def test_the_largest_rows_are_shown_and_the_others_counted():
    play = Play()
    for number in range(9):
        play.arrive(*[b"d%d" % number] * (number + 1))
    found = shape(play, most=2)
    assert [row["name"] for row in found["rows"]] == ["d8", "d7"]
    assert (found["left_out"], found["total"]["total"]) == (7, 45)
    assert found["rows"][0]["state"] == "the name servers are being asked"


@pytest.mark.parametrize(
    "key, name",
    [
        ("domain", "big.example"),
        ("site", "big.example#mx1+1"),
        ("organisation", "big.example"),
        ("group", "@big"),
        ("source", "-"),
        ("sender", "s.example"),
    ],
)
def test_every_key_has_its_names(key, name):
    play = waiting(b":c=2,i=9\nbig.example:@big\n@big:C=5\n")
    assert [counts(row)[:2] for row in shape(play, key)["rows"]] == [(name, 5)]


def test_ages_stand_in_their_bands():
    play = Play()
    for minutes in (0, 4, 6, 11, 19, 21, 1279, 1281, 9000):
        play.arrive(b"x", birth=int(play.date) - 60 * minutes)
    play.arrive(b"x", b"x", b"x", birth=int(play.date) - 60 * 200)
    found = shape(play)
    assert found["total"]["ages"] == [2, 1, 2, 1, 0, 0, 3, 0, 1, 2]
    assert found["rows"][0]["ages"] == found["total"]["ages"]


def test_a_full_limit_is_named_with_its_line_and_the_place():
    play = waiting()
    [entry] = why(play, "domain", b"big.example")
    assert (entry["state"], entry["reason"]) == (
        "full",
        "full: site big.example#mx1+1 2/2 (:c=2 (destinations line 1))",
    )
    assert (entry["channel"], entry["domain"], entry["recipients"], entry["place"]) == ("remote", "big.example", 5, 1)
    assert [budget["name"] for budget in entry["budgets"] if budget["stands_here"]] == ["big.example#mx1+1"]
    assert entry["hosts"][0] == {
        "name": "mx1.big.example",
        "preference": 10,
        "addresses": ["192.0.2.1"],
        "state": "",
    }
    play.now += 7
    [entry] = why(play, "domain", b"big.example")
    assert entry["answer_age"] == 7
    assert entry["expected_seconds"] == 7  # two sessions of 14 s: one of them every 7 s


def test_a_recipient_and_a_message_are_found_by_their_lane():
    play = waiting()
    assert why(play, "recipient", b"Joe@BIG.example") == why(play, "domain", b"big.example")
    states = [why(play, "message", b"%d" % number)[0]["state"] for number in range(1, 6)]
    assert sorted(states) == ["flying", "flying", "full", "full", "full"]
    for kind, name in (("domain", b"none.example"), ("message", b"99"), ("message", b"x"), ("recipient", b"")):
        assert why(play, kind, name) == []


def test_a_deferred_message_says_when_it_is_tried_again():
    play = waiting(mail=1)
    play.result(play.flying[0], LATER)
    play.orders()
    [entry] = why(play, "message", b"1")
    assert (entry["state"], entry["reason"]) == ("retry", "deferred: tried again in 6m40s")
    assert entry["expected_seconds"] == pytest.approx(400, abs=1)


def test_a_pause_tells_the_reply_that_set_it():
    play = waiting()
    budget = play.engine.tables.ways.find(b"big.example").door.site_budget
    budget.pause(Pause(play.now + 7200, b"rule 9", b"421 OFR_999\n"))
    [entry] = why(play, "domain", b"big.example")
    assert (entry["state"], entry["expected_seconds"], entry["last_reply"]) == ("paused", 7200, "421 OFR_999")
    assert entry["reason"] == "site big.example#mx1+1 paused for 2h00m more, responses line 9: 421 OFR_999"
    assert [one["paused_seconds"] for one in entry["budgets"]].count(7200) == 1


def test_a_dead_site_says_since_when_and_when_the_next_probe_is():
    play = Play(20, b"")
    play.arrive(b"dead.example")
    play.orders()
    play.resolved(b"dead.example", ((10, b"mx.dead.example", [b"192.0.2.9"]),))
    [order] = words(play.orders(), OPEN)
    outcome = Outcome(b"Zconnect timed out\n", CONNECT, errno.ETIMEDOUT, b"mx.dead.example", b"192.0.2.9")
    play.engine.failed(order[1], outcome, play.now)
    play.engine.closed(order[1], None, now=play.now)
    play.orders(10)
    [entry] = why(play, "domain", b"dead.example")
    assert entry["state"] == "dead"
    assert entry["reason"].startswith("dead for 10s, next probe in ")
    assert entry["reason"].endswith(": connect timed out")
    assert entry["hosts"][0]["state"].startswith("off for ")
    assert 40 < entry["expected_seconds"] < 60


def test_a_ceiling_is_told_with_the_reply_that_taught_it():
    play = waiting(b":c=9,i=9\n", mail=9)
    play.arrive(b"big.example")
    play.orders()
    budget = play.engine.tables.ways.find(b"big.example").door.site_budget
    budget.window.refused(play.now, 2, None)
    budget.learned_owner = b"421 too many connections"
    budget.refresh(play.now)
    [entry] = why(play, "domain", b"big.example")
    assert entry["reason"] == (
        "full: site big.example#mx1+1 9/2 (ceiling 2, one more is tried in 10m00s: 421 too many connections)"
    )
    assert (entry["last_reply"], entry["expected_seconds"]) == ("421 too many connections", 0)


def test_a_hold_names_its_line():
    play = Play(20, b":c=2,i=9\nbig.example:hold\n")
    play.arrive(b"big.example")
    play.orders()
    play.resolved(b"big.example", HOSTS)
    assert words(play.orders(), OPEN) == []
    [entry] = why(play, "domain", b"big.example")
    assert (entry["state"], entry["reason"]) == ("held", "held, destinations line 2")


def test_a_hold_is_told_before_name_servers_are_asked():
    play = Play(20, b"big.example:hold\n")
    play.arrive(b"big.example")
    assert play.orders() == []
    [entry] = why(play, "domain", b"big.example")
    assert (entry["state"], entry["reason"]) == ("held", "held, destinations line 1")
    [row] = explain.shape([play.engine], "domain", 9, play.now, play.date)["rows"]
    assert (row["ready"], row["retry"], row["state"]) == (1, 0, "held, destinations line 1")


def test_a_hold_of_a_local_recipient_is_told():
    play = Play(20, b"rcpt=me@here.example:hold\n", channel=LOCAL)
    play.arrive(b"me@here.example")
    assert play.orders() == []
    [entry] = why(play, "recipient", b"me@here.example")
    assert (entry["state"], entry["reason"]) == ("held", "held, destinations line 1")


def test_our_own_network_comes_before_all_else():
    play = waiting()
    play.engine.tables.core.is_us = True
    assert why(play, "domain", b"big.example")[0]["state"] == "frozen"


def test_name_servers_that_do_not_answer_are_told():
    play = Play()
    play.arrive(b"x.example")
    play.orders()
    play.engine.trouble(b"x.example", b"SERVFAIL", play.now)
    [entry] = why(play, "domain", b"x.example")
    assert (entry["state"], entry["reason"]) == (
        "resolving",
        "no answer of name servers (SERVFAIL); asked again in 1m00s",
    )
    assert (entry["site"], entry["hosts"], entry["budgets"], entry["expected_seconds"]) == ("", [], [], 60)


def test_the_local_channel_knows_whole_addresses():
    play = Play(20, b"", channel=LOCAL)
    for _ in range(3):
        play.arrive(b"joe@here.example")
    play.orders()
    for kind, name in (("recipient", b"joe@here.example"), ("domain", b"here.example")):
        [entry] = why(play, kind, name)
        assert (entry["channel"], entry["domain"], entry["recipients"]) == ("local", "joe@here.example", 3)
        assert entry["reason"] == "full: recipient joe@here.example 2/2 (rcpt=:c=2 (built in))"
        stands = [(budget["name"], budget["used"]) for budget in entry["budgets"] if budget["stands_here"]]
        assert (stands, entry["place"]) == ([("joe@here.example", 2)], None)
        assert [budget["name"] for budget in entry["budgets"]] == ["joe@here.example", "total"]
    assert why(play, "recipient", b"jane@here.example") == []


def test_a_name_that_is_no_text_is_shown_all_the_same():
    play = Play()
    play.arrive(b"\xff\n.example")
    assert shape(play)["rows"][0]["name"].encode("utf-8", "surrogateescape") == b"\xff\n.example"


def test_the_top_shows_organisations_by_their_sessions():
    play = waiting()
    play.arrive(b"new.example")
    play.orders()
    play.resolved(b"new.example", ((10, b"mx.new.example", [b"203.0.113.1"]),))
    play.orders()
    found = carried(wire.TOP, explain.top(play.engine, 10, play.now) | {"longest_turn_ms": 1.5})
    assert [found[name] for name in ("total", "used", "connecting", "open", "left_out")] == [20, 3, 1, 2, 0]
    first, second = found["rows"]
    assert (first["name"], first["sessions"], first["ready"], second["name"]) == ("big.example", 2, 3, "new.example")
    assert first["state"].startswith("full: ")
    assert explain.top(play.engine, 1, play.now)["left_out"] == 1


def test_the_top_counts_the_last_minute():
    play = waiting()
    first, second = play.flying
    play.result(first)
    play.result(second, LATER)
    play.arrive(b"new.example")
    play.orders()
    play.resolved(b"new.example", ((10, b"mx.new.example", [b"203.0.113.1"]),))
    [order] = words(play.orders(), OPEN)
    refusal = Outcome(b"Zbusy\nRemote host said: 421 busy\n", GREETING, 421, b"mx.new.example", b"203.0.113.1")
    play.engine.refused(order[1], refusal, play.now)
    rows = {row["name"]: row for row in explain.top(play.engine, 10, play.now)["rows"]}
    assert [rows["big.example"][name] for name in ("accepted", "deferred", "refused")] == [1, 1, 0]
    assert [rows["new.example"][name] for name in ("accepted", "deferred", "refused")] == [0, 0, 1]


def test_what_is_in_delivery_has_no_place_and_no_limit_is_marked():
    play = waiting()
    [entry] = why(play, "message", b"1")
    assert (entry["state"], entry["place"], entry["expected_seconds"]) == ("flying", None, None)
    assert not any(budget["stands_here"] for budget in entry["budgets"])


def test_what_was_delivered_waits_for_nothing():
    play = waiting(mail=1)
    play.result(play.flying[0])
    play.orders()
    assert why(play, "message", b"1") == why(play, "domain", b"big.example") == []


def test_when_all_should_have_gone_follows_from_what_the_sessions_carried():
    play = waiting(mail=8)
    play.now += 10
    for recipient in list(play.flying):
        play.result(recipient)
    play.orders()
    play.now += 10
    [entry] = why(play, "domain", b"big.example")
    assert entry["recipients"] == 6
    assert entry["expected_seconds"] == 40  # 2 sessions carried 2 in 20 s; 4 are ready


def test_a_deferral_and_the_day_are_told():
    play = waiting(mail=2)
    first, second = play.flying
    play.result(first)
    play.result(second, LATER)
    [entry] = why(play, "domain", b"big.example")
    assert entry["last_reply"] == "192.0.2.1 does not like recipient. Remote host said: 450 4.2.1 not now"
    assert entry["today"] == {"accepted": 1, "deferred": 1, "failed": 0, "refused": 0}
    play.now += 86400
    assert why(play, "domain", b"big.example")[0]["today"]["accepted"] == 0
