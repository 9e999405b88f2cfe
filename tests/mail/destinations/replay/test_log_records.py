"""What a log says of remote mail, whatever writes the times."""

import pytest

from pyqmail.base.tai import text_label
from pyqmail.mail.destinations.replay import log_records
from pyqmail.mail.destinations.replay.log_records import MAX_GREETING_SECONDS, LogRecords, split_time

MOMENT = 1_795_910_400  # 2026-11-29 00:00:00 UTC
STAMPS = [
    # line                                          time            the rest
    (text_label(MOMENT, 500_000_000) + b" x y",     MOMENT + 0.5,   b"x y"),
    (b"2026-11-29 00:00:00.250000000 x y",          MOMENT + 0.25,  b"x y"),
    (b"2026-11-29T00:00:00.250000Z x y",            MOMENT + 0.25,  b"x y"),
    (b"2024-02-29 23:59:59 x",                      1709251199.0,   b"x"),
    (b"1970-01-01 00:00:00 x",                      0.0,            b"x"),
    (b"@40000000 x",                                None,           b"@40000000 x"),
    (b"2026-11-29 00:00 x",                         None,           b"2026-11-29 00:00 x"),
    (b"2026-11-2\xb2 00:00:00 x",                   None,           b"2026-11-2\xb2 00:00:00 x"),
    (b"status: local 0/10",                         None,           b"status: local 0/10"),
    (b"",                                           None,           b""),
]  # fmt: skip


@pytest.mark.parametrize("line, when, rest", STAMPS)
def test_times(line, when, rest):
    assert split_time(line) == (when, rest)


def records(*lines, start=MOMENT):
    """Lines of (seconds, text)."""
    found = LogRecords()
    found.read(text_label(start + int(when), int(when % 1 * 1e9)) + b" " + text + b"\n" for when, text in lines)
    return found


def test_the_tries_of_a_message():
    found = records(
        (0, b"new msg 7"),
        (0, b"info msg 7: bytes 283 from <Joe@S.example> qp 11 uid 0"),
        (1, b"starting delivery 1: msg 7 to remote U@Big.example"),
        (1, b"starting delivery 2: msg 7 to local me@here.example"),
        (1, b"starting delivery 3: msg 7 to remote v@big.example"),
        (3.5, b"delivery 1: success: 192.0.2.9_accepted_message./Remote_host_said:_250_ok/"),
        (3.5, b"delivery 2: success: did_1+0+0/"),
        (4, b"delivery 3: deferral: 192.0.2.9_does_not_like_recipient./Remote_host_said:_450_4.2.1_not_now/"),
        (9, b"starting delivery 4: msg 7 to remote v@big.example"),
        (9, b"delivery 9: success: of_another/"),
        (10, b"delivery 4: failure: 192.0.2.9_does_not_like_recipient./Remote_host_said:_550_no/"),
        (10, b"end msg 7"),
        (20, b"starting delivery 5: msg 7 to remote w@other.example"),
    )
    first, second = found.messages
    assert (first.when, first.size, first.sender) == (MOMENT, 283, b"s.example")
    u, v = first.recipients.values()
    assert (u.domain, u.address, u.tries) == (b"big.example", b"192.0.2.9", [(MOMENT + 1, 2.5, b"K")])
    assert [report for _, _, report in v.tries] == [
        b"Z192.0.2.9 does not like recipient.\nRemote host said: 450 4.2.1 not now\n",
        b"D192.0.2.9 does not like recipient.\nRemote host said: 550 no\n",
    ]
    assert (second.when, second.sender, second.recipients[b"w@other.example"].tries) == (MOMENT + 20, b"", [])
    assert (found.first, found.last) == (MOMENT, MOMENT + 20)


def test_what_sites_taught():
    found = records(
        (0, b"site big.example#mx+1: open: greeting 0.213 s"),
        (5, b"site big.example#mx+1: ceiling 5 for 600: 421_too_many_connections"),
        (6, b"org big.example: ceiling 9 for 600: 421_too_many_connections"),
        (7, b"site small.example#mx: paused 61: refused: 421_busy"),
        (8, b"site big.example#mx+1: window 5 to 6"),
        (9, b"site strange: ceiling x for"),
    )
    assert found.greetings == {b"big.example#mx+1": 0.213}
    assert found.ceilings == [(MOMENT + 5, b"big.example#mx+1", 5), (MOMENT + 6, b"big.example", 9)]
    assert (found.refusals, found.messages) == (3, [])


def test_lines_without_a_time_are_counted():
    found = LogRecords()
    found.read([b"starting delivery 1: msg 7 to remote u@big.example\n", b"\n"])
    assert (found.timeless, found.first, found.messages) == (2, None, [])


HUGE = b"9" * 5000


def test_numbers_without_end_are_none():
    found = records(
        (0, b"info msg 1: bytes %b from <a@b.example> qp 1" % HUGE),
        (0, b"starting delivery 1: msg 1 to remote u@big.example"),
        (1, b"site big.example#mx: ceiling %b for 600: 421_busy" % HUGE),
        (1, b"site a.example#mx: greeting inf s"),
        (1, b"site b.example#mx: greeting nan s"),
    )
    assert [message.size for message in found.messages] == [1000] and found.ceilings == []
    assert found.greetings == {b"a.example#mx": MAX_GREETING_SECONDS, b"b.example#mx": 0.0}


@pytest.mark.parametrize("stamp", [
    b"@000000000000000000000000", b"@7fffffffffffffff00000000", b"@4fffffffffffffff00000000", b"0001-01-01 00:00:00",
    b"1989-12-31 23:59:59", b"2100-01-01 00:00:00", b"9999-99-99 99:99:99",
])  # fmt: skip
def test_a_time_that_no_log_has_counts_as_none(stamp):
    found = LogRecords()
    found.read([stamp + b" starting delivery 1: msg 1 to remote u@big.example"])
    assert (found.first, found.messages, found.timeless) == (None, [], 1)


def test_messages_that_never_end_are_not_all_kept(monkeypatch):
    monkeypatch.setattr(log_records, "MAX_OPEN", 2)
    info = [(0, b"info msg %d: bytes 5 from <a@b.example> qp 1" % number) for number in range(4)]
    tries = [(1, b"starting delivery %d: msg %d to remote u@big.example" % (number, number)) for number in range(4)]
    assert [message.size for message in records(*info, *tries).messages] == [5, 5, 1000, 1000]
