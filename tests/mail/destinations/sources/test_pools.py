"""What is wrong in lines of pools, and where."""

import pytest

from pyqmail.mail.destinations.rules.overlay import Overlay
from pyqmail.mail.destinations.rules.tables import compile_rules
from pyqmail.mail.destinations.rules.text import BadRules

DATE = 1_793_491_200 + 20 * 86_400.0  # 2026-11-21
USED = b":src=%p,by=sender,spill\na:src=%q\nfrom=s.example:src=%p\n"
Q = b"%q:192.0.2.9\n"
NOTHING_ELSE = "each source is in warm-up: what exceeds that has no other to go to"
OVER = "a warm-up is over after 30 days: leave out warm= and the date"
AHEAD = "a warm-up that begins in more than a year"
ANOTHER = "192.0.2.1 has another name or warm-up in line 4"
WRONG = [
    # the line of %p, line 4             line, column, what is said
    (b"%p:",                                          4, 4, "a pool without sources"),
    (b"%p:192.0.2.1*0",                               4, 4, "192.0.2.1*0: the weight is from 1 to 9999"),
    (b"%p:192.0.2.1*10000",                           4, 4, "192.0.2.1*10000: the weight is from 1 to 9999"),
    (b"%p:192.0.2.1,192.0.2.1=b",                     4, 14, "twice in a line: 192.0.2.1=b"),
    (b"%p:192.0.2.1,,192.0.2.2",                      4, 14, "no item"),
    (b"%p:192.0.2",                                   4, 4, "192.0.2: not the address of a source"),
    (b"%p:[192.0.2.1]",                               4, 4, "[192.0.2.1]: not the address of a source"),
    (b"%p:0.0.0.0",                                   4, 4, "0.0.0.0: no mail can be sent with this address"),
    (b"%p:224.0.0.1",                                 4, 4, "224.0.0.1: no mail can be sent with this address"),
    (b"%p:ff02::1",                                   4, 4, "ff02::1: no mail can be sent with this address"),
    (b"%p:192.0.2.1=a/b",                             4, 4, None),
    (b"%p:warm=192.0.2.1@2026-11-20",                 4, 4, NOTHING_ELSE),
    (b"%p:192.0.2.2,warm=192.0.2.1@2026-10-22",       4, 14, OVER),
    (b"%p:192.0.2.2,warm=192.0.2.1@2027-11-23",       4, 14, AHEAD),
    (b"%p:192.0.2.2,warm=192.0.2.1@2026-02-30",       4, 14, "warm=192.0.2.1@2026-02-30: there is no such date"),
    (b"%p:192.0.2.2,warm=192.0.2.1@soon",             4, 14, None),
    (b"%p:192.0.2.2,warm=192.0.2.1",                  4, 14, None),
    (b"%p:192.0.2.2,warm=192.0.2.1@2026-11-20T00:00Z", 4, 14, None),
    (b"%p:192.0.2.1=a\nb:src=%r\n%r:192.0.2.1=b",     6, 4, ANOTHER),
    (b"%p:192.0.2.1,192.0.2.2\nb:src=%r\n%r:192.0.2.2,warm=192.0.2.1@2026-11-20", 6, 14, ANOTHER),
    (b"%p:192.0.2.1\n@g/192.0.2.1:src=%p\nb:@g",      5, 14, "a line of this address cannot have src"),
    (b"%p:192.0.2.1\n@g/192.0.2.1:spill\nb:@g",       5, 14, "a line of this address cannot have spill"),
]  # fmt: skip


@pytest.mark.parametrize("text, line, column, said", WRONG)
def test_what_is_wrong_is_named_with_its_place(text, line, column, said):
    with pytest.raises(BadRules) as bad:
        compile_rules(USED + text + b"\n" + Q, None, date=DATE)
    first = bad.value.problems[0]
    assert (first.line, first.column) == (line, column)
    assert said is None or first.text == said


GOOD = [
    b"%p:192.0.2.1=mx.example*9999,127.0.0.2,2001:db8::1*2",
    b"%p:192.0.2.2,warm=192.0.2.1=mx.example@2026-10-23",  # its last day
    b"%p:192.0.2.2,warm=192.0.2.1@2027-11-21*3".replace(b"@2027-11-21*3", b"*3@2027-11-21"),
    b"%p:192.0.2.1=a*2\nb:src=%r\n%r:192.0.2.1=a*5",  # a weight is its pool's
    b"%p:192.0.2.1\nb:@g\n@g:c=2\n@g/192.0.2.1:c=1",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_good_is_compiled(text):
    assert compile_rules(USED + text + b"\n" + Q, None, date=DATE).warnings == []


def test_a_warm_up_that_is_over_is_read_all_the_same():
    # what was compiled in its time is obeyed: only who writes rules is told
    assert compile_rules(USED + b"%p:192.0.2.2,warm=192.0.2.1@2020-01-01\n" + Q, None).records


def test_a_group_for_a_source_that_no_pool_has_is_warned_of():
    warnings = compile_rules(b"a:@g\n@g:c=2\n@g/192.0.2.1:c=1\n", None).warnings
    assert [one.text for one in warnings] == ["no pool has the source of @g/192.0.2.1"]


def test_an_overlay_may_have_pools_and_is_checked_alike():
    base = {b"%p": b"1\0" + b"192.0.2.1", b"#": b"%"}
    Overlay.of_text(b"a:src=%p\n%p:192.0.2.2\n", base)
    with pytest.raises(BadRules):
        Overlay.of_text(b"%p:warm=192.0.2.2@2026-11-20\n", base)
