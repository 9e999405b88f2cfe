"""What became of the mail of a day, by organisation; and that the state file keeps it."""

from pyqmail.mail.destinations import state_file
from pyqmail.mail.destinations.views import day_counts
from pyqmail.mail.destinations.views.day_counts import DayCounts
from pyqmail.mail.destinations.views.last_replies import MAX_DOMAINS, LastReplies
from pyqmail.mail.destinations.waiting.timers import Clock
from tests.mail.destinations.play import LATER, NEVER, Play
from tests.mail.destinations.test_explain import waiting

MIDNIGHT = 1_800_057_600.0  # of a day in UTC


def test_a_day_ends_at_midnight():
    counts = DayCounts(Clock(0.0, MIDNIGHT - 10), 0.0)
    counts.add(b"a", 0, 1.0)
    counts.add(b"a", 3, 9.9)
    assert (counts.of(b"a", 9.9), counts.began) == ([1, 0, 0, 1], MIDNIGHT - 86400)
    counts.add(b"b", 2, 10.1)
    assert counts.items(10.1) == [(b"b", [0, 0, 1, 0])]
    assert counts.began == MIDNIGHT


def test_names_are_bounded_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr(day_counts, "MAX_NAMES", 3)
    counts = DayCounts(Clock(0.0, MIDNIGHT), 0.0)
    for number in range(10):
        counts.add(b"%d" % number, 0, 1.0)
    found = dict(counts.items(1.0))
    assert (len(found), sum(one[0] for one in found.values()), found[b""][0]) == (4, 10, 7)


def test_the_state_file_keeps_the_day():
    play = waiting(mail=3)
    first, second = play.flying
    play.result(first, LATER)
    play.result(second, NEVER)
    text = state_file.write(play.engine.snapshot(play.now))
    assert b"\nday big.example began=" in text
    state, left_out = state_file.read(text, play.date)
    assert left_out == ""
    later = Play()
    later.engine.restore(state, later.now)
    assert later.engine.tables.core.days.of(b"big.example", later.now) == [0, 1, 1, 0]
    tomorrow = Play()
    tomorrow.now += 86400
    tomorrow.engine.advance(tomorrow.date, tomorrow.now)
    tomorrow.engine.restore(state, tomorrow.now)
    assert tomorrow.engine.tables.core.days.of(b"big.example", tomorrow.now) == [0, 0, 0, 0]


def test_replies_are_bounded():
    replies = LastReplies()
    for number in range(MAX_DOMAINS + 1):
        replies.note(b"%d" % number, b"x" * 1000)
    replies.note(b"1", b"again")
    assert (replies.of(b"0"), replies.of(b"1"), len(replies.of(b"2"))) == (b"", b"again", 200)
