"""What needs more than one line: groups, pools, addresses that stand twice; warnings; the way back to text."""

import io

import pytest
from cdblib import Reader as Cdb
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqmail.mail.destinations.rules import defaults
from pyqmail.mail.destinations.rules.tables import MAX_PROBLEMS, compile_rules, decompile, read_lines, table_of
from pyqmail.mail.destinations.rules.text import BadRules
from pyqmail.system.cdb import write_cdb

NO_WORDS = "no words, or blanks around them, or a control character"
SHIPPED_AS = "shipped as @google; if another value is meant, begin the line with !"
WRONG = [
    # text                                     line, column, text, whether of responses
    (b"a:c=1\nA.:c=2",            b"",         2, 1, "the same address as in line 1: a", False),
    (b"ip=10.0.0.0/8:c=1\n\nip=10.0.0.0/8:c=1", b"", 3, 1, "the same address as in line 1: ip=10.0.0.0/8", False),
    (b"a:c=1,@b",                 b"",         1, 7, "no line defines the group @b", False),
    (b"@b:c=1",                   b"",         1, 1, "no line is in the group @b", False),
    (b"@b/10.0.0.1:c=1",          b"",         1, 1, "no line is in the group @b/10.0.0.1", False),
    (b"a:n=1,src=%bulk",          b"",         1, 11, "no line defines the pool %bulk", False),
    (b"a:@b\n@b:@c\n@c:@b",       b"",         2, 1, "the group is within itself: @b", False),
    (b"a:c=1",                    b"\n@b:4:words:rate", 2, 1, "no line of destinations defines the group @b", True),
    (b"a:c=1",                    b"x:4:words:rate", 1, 1, "not a group, for example @yahoo: x", True),
    (b"a:c=1",                    b":6:words:rate", 1, 2, "not a code or its first digits: 6", True),
    (b"a:c=1",                    b":4210:words:rate", 1, 2, "not a code or its first digits: 4210", True),
    (b"a:c=1",                    b":42::rate", 1, 5, NO_WORDS, True),
    (b"a:c=1",                    b":42: x:rate", 1, 5, NO_WORDS, True),
    (b"a:c=1",                    b":42:a:b:rate fast", 1, 14, "not a scope: flow, source, site, org", True),
    (b"a:c=1",                    b":42:a:wait", 1, 7, "not an action: ceiling, rate, pause, n, m, grey, fail, defer, "
                                               "ignore", True),
    (b"a:c=1",                    b":42:a:pause", 1, 12, "not a time, for example 30s, 5m, 2h, 7d", True),
    (b"a:c=1",                    b":42:rate", 1, 9, "a response rule is group:code:words:action", True),
]  # fmt: skip


@pytest.mark.parametrize("text, responses, line, column, said, is_of_responses", WRONG)
def test_what_is_wrong_is_named_with_its_place(text, responses, line, column, said, is_of_responses):
    with pytest.raises(BadRules) as bad:
        compile_rules(text, responses)
    first = bad.value.problems[0]
    assert (first.line, first.column, first.text, first.is_of_responses) == (line, column, said, is_of_responses)


def test_a_file_of_nonsense_names_a_screen_of_it():
    with pytest.raises(BadRules) as bad:
        compile_rules(b"x\n" * 1000, None)
    assert len(bad.value.problems) == MAX_PROBLEMS


WARNED = [
    # text, maximum of sessions                                      line, column, text
    (b"a:@g,@h\nb:@g\nc:@h\n@g:c=1\n@h:c=1", 0, 1, 1, "groups overlap, and none is within the other: @g, @h"),
    (b"a:@g\n@g:c=9,n=2\nb:n=1,c=600", 500,     3, 7, "c=600: a process may have 500 descriptors"),
    (b"%p:10.0.0.1",                  0,     1, 1, "no line uses the pool %p"),
    (b"\nmx=.google.com:@g\n@g:c=1",  0,     2, 1, SHIPPED_AS),
    (b"mx=.yahoodns.net:@yahoo\n@yahoo:C=9", 0, 2, 1, SHIPPED_AS.replace("@google", "c=10,n=20")),
]  # fmt: skip


@pytest.mark.parametrize("text, most, line, column, said", WARNED)
def test_what_is_odd_is_compiled_and_named(text, most, line, column, said):
    warnings = compile_rules(text, None, shipped=defaults.SHIPPED, most_sessions=most).warnings
    assert [(one.line, one.column, one.text) for one in warnings] == [(line, column, said)]


NOT_ODD = [
    b"a:@g,@h\nb:@g\n@g:c=1\n@h:c=1",  # within the other
    b"a:@g\nb:@h\n@g:c=1,@h\n@h:c=1",
    b"!mx=.google.com:@g\n@g:c=1",
    b"mx=.google.com:@google\n@google:c=5,n=50,m=100",
    b":c=1",
    b"yahoo.*:@yahoo\n@yahoo:C=100",
    b"mx=.yahoodns.net:@yahoo\n!@yahoo:C=100",
]


@pytest.mark.parametrize("text", NOT_ODD)
def test_what_is_not_odd(text):
    assert compile_rules(text, None, shipped=defaults.SHIPPED).warnings == []


def test_a_shipped_response_needs_no_group():
    compiled = compile_rules(b"", b"@apple:4:HCM1:pause 15m org", shipped_responses=defaults.SHIPPED_RESPONSES)
    assert compiled.records[-1][1] == b"1\0@apple:4:HCM1:pause 15m org\n"


def test_a_public_suffix_is_what_the_list_says():
    assert read_lines(b".co.uk:c=1")[0].key == b".co.uk"
    with pytest.raises(BadRules, match="public suffix"):
        read_lines(b".co.uk:c=1", is_public_suffix=lambda name: name == b"co.uk")


def test_the_count_of_lines_that_attach_a_group_is_compiled():
    table = table_of(read_lines(b"a:@g\nb:@g\nc:@h\n@g:@h\n@h:c=1"))
    assert (table[b"@g"], table[b"@h"]) == (b"4\0@h\x002", b"5\0c=1\x003")


# back to text (P10)

NAMES = st.sampled_from([b"a", b"b.example", b"mx.a.example", b"x-1.co.uk"])
VALUES = st.lists(
    st.sampled_from(
        [b"c=5", b"C=50", b"r=5/s~2", b"k=1/2h/org", b"n=5", b"m=3", b"hold=2026-11-01T10:00Z", b"c=9/net"]
    ),
    min_size=1,
    unique_by=lambda one: one,
)
ADDRESSES = st.one_of(
    NAMES,
    NAMES.map(lambda name: b".z." + name),
    NAMES.map(lambda name: b"mx=" + name),
    NAMES.map(lambda name: b"mx=.z." + name),
    st.sampled_from([b"", b"l.*", b"ip=10.0.0.0/8", b"ip=2001:db8::/32", b"ip=::1", b"@g", b"@g/::1", b"[::1]"]),
)
FILES = st.dictionaries(ADDRESSES, st.tuples(st.sampled_from([b"", b"!", b"\n", b"# comment\n"]), VALUES))
RESPONSES = st.none() | st.lists(
    st.sampled_from([b"", b"#", b":4:Words: of:pause 5m org", b"@g:421:[x]:n", b"::a:ignore  "])
).map(b"\n".join)


@given(FILES, RESPONSES)
@settings(max_examples=300)
def test_what_is_decompiled_compiles_to_the_same(lines, responses):
    lines = {**lines, b"@g": (b"", [b"n=1"]), b"member": (b"", [b"@g"])}
    text = b"".join(start + address + b":" + b",".join(items) + b"\n" for address, (start, items) in lines.items())
    records = compile_rules(text, responses).records
    assert compile_rules(*decompile(records)).records == records
    assert len(records) >= len(lines) + 2


def test_so_does_a_cdb(tmp_path):
    records = compile_rules(defaults.SHIPPED, defaults.SHIPPED_RESPONSES).records
    write_cdb(f"{tmp_path}/cdb", f"{tmp_path}/tmp", records)
    found = list(Cdb((tmp_path / "cdb").read_bytes()).iteritems())
    assert found == records
    destinations, responses = decompile(found)
    assert compile_rules(destinations, responses).records == records
    assert len(io.BytesIO(responses).readlines()) == len(defaults.SHIPPED_RESPONSES.splitlines())


def test_a_hundred_thousand_lines_are_compiled():
    text = b"".join(b"d%d.example:c=%d,@g\n" % (number, number % 50 + 1) for number in range(100_000)) + b"@g:C=500\n"
    table = dict(compile_rules(text, None).records)
    assert table[b"dd99999.example"] == b"100000\0@g,c=50"
    assert table[b"@g"] == b"100001\0C=500\x00100000"
