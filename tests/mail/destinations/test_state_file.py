"""The state file: what is written is read; whatever else stands there, what is good is read and the rest is told."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqmail.mail.destinations.state_file import (
    COUNT,
    MAX_PAUSE,
    SINCE,
    TEXT,
    BudgetRecord,
    DayRecord,
    HostRecord,
    SiteRecord,
    State,
    read,
    write,
)

DATE = 1764523021
SAMPLE = b"""\
destinations-state 1 1764523021
site 0f3a name=google.com#aspmx.l+4 organisation=google.com seen=1764523000 messages=20 text=421%204.7.0%20busy
budget site 0f3a - name=google.com#aspmx.l+4 seen=1764523000 size=5.5 ceiling=5 closed=1764523321.25
budget rule @yahoo * seen=1764523000 paused=1764526621 reason=reputation
host mx-2.example.org seen=1764523000 penalty=3 off=1764523156
day google.com began=1764460800 accepted=12 deferred=1
end 5
"""


def facts(state):
    return [
        (type(record), *(getattr(record, name) for name in record.__slots__), *(f[0] for f in record.FIELDS))
        for record in state.records()
    ]


def sample():
    state = State(DATE)
    site = SiteRecord(b"0f3a")
    site.name, site.organisation, site.seen, site.messages = b"google.com#aspmx.l+4", b"google.com", DATE - 21, 20
    site.text = b"421 4.7.0 busy"
    door = BudgetRecord(b"site", b"0f3a", b"")
    door.name, door.seen, door.size, door.ceiling, door.closed = site.name, DATE - 21, 5.5, 5, DATE + 300.25
    group = BudgetRecord(b"rule", b"@yahoo", b"*")
    group.seen, group.paused, group.reason = DATE - 21, DATE + 3600, b"reputation"
    host = HostRecord(b"mx-2.example.org")
    host.seen, host.penalty, host.off = DATE - 21, 3, DATE + 135
    day = DayRecord(b"google.com")
    day.began, day.accepted, day.deferred = 1764460800, 12, 1
    for record in (site, door, group, host, day):
        state.add(record)
    return state


def test_a_state_has_its_bytes():
    assert write(sample()) == SAMPLE


def test_the_bytes_have_their_state():
    state, reason = read(SAMPLE, DATE)
    assert (facts(state), state.date, reason) == (facts(sample()), DATE, "")


@st.composite
def records(draw):
    kind = draw(st.sampled_from([SiteRecord, BudgetRecord, HostRecord, DayRecord]))
    record = kind(*(draw(st.binary(max_size=20)) for _ in kind.KEY))
    for name, what, _, longest in kind.FIELDS:
        if what == TEXT:
            setattr(record, name, draw(st.binary(max_size=30)))
        elif what == COUNT:
            setattr(record, name, draw(st.integers(0, 1000)))
        elif what == SINCE:
            setattr(record, name, DATE - draw(st.integers(0, 80000)))
        else:
            setattr(record, name, draw(st.integers(0, 1000)) / 8 if not longest else DATE + draw(st.integers(0, 3600)))
    return record


@st.composite
def states(draw):
    state = State(DATE)
    for record in draw(st.lists(records(), max_size=8)):
        state.add(record)
    return state


@settings(max_examples=200, deadline=None)
@given(states())
def test_what_is_written_is_read(state):
    again, reason = read(write(state), DATE)
    assert (facts(again), reason) == (facts(state), "")
    assert write(again) == write(state)


@settings(max_examples=200, deadline=None)
@given(states(), st.data())
def test_a_file_that_is_cut_gives_what_was_whole(state, data):
    text = write(state)
    cut = data.draw(st.integers(1, len(text) - 1))
    part, reason = read(text[:cut], DATE)
    whole = facts(state)
    assert reason != ""
    assert facts(part) == whole[: max(0, text[:cut].count(b"\n") - 1)][: len(facts(part))]
    assert len(facts(part)) == min(len(whole), max(0, text[:cut].count(b"\n") - 1))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, len(SAMPLE)), st.integers(0, len(SAMPLE)))
def test_whatever_stands_there_it_does_not_raise(rubbish, start, end):
    for text in (rubbish, SAMPLE[:start] + rubbish + SAMPLE[end:]):
        state, reason = read(text, DATE)
        assert write(state).startswith(b"destinations-state 1 ")
        assert isinstance(reason, str)


HEAD, TAIL = b"destinations-state 1 1764523021\n", b"end %d\n"
GOOD = b"host a seen=1764523000 penalty=1\n"
FILES = [
    # file, hosts that are read, reason
    (b"", 0, ""),
    (b"rubbish\n", 0, "no state file of destinations"),
    (b"destinations-state one 17\n", 0, "no state file of destinations"),
    (b"destinations-state 2 1764523021\n" + GOOD + b"end 1\n", 0, "version 2 is not known"),
    (HEAD + GOOD, 1, "it is cut short"),
    (HEAD + GOOD + b"end 2\n", 1, "it is cut short"),
    (HEAD + GOOD + b"end 1\nmore", 1, "it is cut short"),
    (HEAD + GOOD + b"end 1\n", 1, ""),
    # a later version may add kinds and fields
    (HEAD + b"planet mars seen=1\n" + GOOD + b"end 2\n", 1, ""),
    (HEAD + GOOD[:-1] + b" colour=red size=-\n" + b"end 1\n", 1, ""),
    # lines that cannot be
    (HEAD + GOOD + b"host\nhost b seen\n\n" + GOOD + b"end 5\n", 2, "2 lines cannot be read, the first is line 3"),
    (HEAD + b"host b%4 seen=1764523000\nend 1\n", 0, "1 lines cannot be read, the first is line 2"),
    (HEAD + b"host b%zz seen=1764523000\nend 1\n", 0, "1 lines cannot be read, the first is line 2"),
    (HEAD + b"host b seen=nan\nend 1\n", 0, "1 lines cannot be read, the first is line 2"),
    (HEAD + b"host b seen=-5\nend 1\n", 0, "1 lines cannot be read, the first is line 2"),
    (HEAD + b"host b seen=1e9\nend 1\n", 0, "1 lines cannot be read, the first is line 2"),
    (HEAD + b"host b seen=1764523000 off=9999999999999999\nend 1\n", 0, "1 lines cannot be read, the first is line 2"),
    # not seen for 30 days, or never
    (HEAD + b"host b seen=1761931020 penalty=1\nhost c penalty=2\nend 2\n", 0, ""),
]  # fmt: skip


@pytest.mark.parametrize("text, hosts, reason", FILES)
def test_what_is_good_is_read_and_the_rest_is_told(text, hosts, reason):
    state, why = read(text, DATE)
    assert (len(state.hosts), why) == (hosts, reason)


def test_dates_that_cannot_be_are_brought_to_the_nearest_that_can():
    """Written while the clock was a year ahead."""
    state = sample()
    for record in state.records():
        for name, kind, _, longest in record.FIELDS:
            if kind == SINCE or longest:
                setattr(record, name, DATE + 365 * 86400)
    state.date = DATE + 365 * 86400
    again, reason = read(write(state), DATE)
    assert (again.date, reason) == (DATE, "")
    assert [site.seen for site in again.sites] == [DATE]
    assert [(one.dead_since, one.paused, one.closed) for one in again.budgets] == [
        (DATE, DATE + MAX_PAUSE, DATE + 7200)
    ] * 2
    assert [host.off for host in again.hosts] == [DATE + 3600]


@pytest.mark.parametrize(
    "value, again",
    [(1764523000.0001, 1764523000), (1764523000.25, 1764523000.25), (1e-9, 0), (1 / 60, 0.016667), (1e12, 1e9)],
)
def test_numbers_keep_the_digits_that_matter(value, again):
    state, site = State(DATE), SiteRecord(b"a")
    site.seen, site.grey_lo = min(value, DATE) if value > 1e6 else DATE, value
    state.add(site)
    found, reason = read(write(state), DATE)
    assert (reason, found.sites[0].grey_lo) == ("", pytest.approx(min(again, 1e9)))


def test_a_long_reply_is_shortened():
    state, site = State(DATE), SiteRecord(b"a")
    site.seen, site.text = DATE, b"x" * 100000
    state.add(site)
    assert len(read(write(state), DATE)[0].sites[0].text) == 500
