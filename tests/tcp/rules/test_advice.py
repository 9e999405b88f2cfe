"""Advice about rules: which line holds and why, and which lines never can."""

import pytest

from pyqmail.base.controls import CONTROLS, LIMIT, RATE
from pyqmail.tcp.rules.advice import LIMITS, RATES, explain, lint, warnings
from pyqmail.tcp.rules.source import BadLine

GOOD = b"""# who may relay:
127.:allow,RELAYCLIENT=""
192.168.1-3.:allow
10.0.0.0/8:allow
10.1.2.3/32:deny
2001:db8::1:allow,A="x:y"
2001:db8::/32:deny
fe80:0::allow
=:deny
=example.org:allow
=.example.org:allow
joe@127.0.0.1:allow
joe@=example.org:allow
@1.2.3.4:allow
unix:deny
1000@unix:allow
x@::1:allow
1.2.3.0-255:allow
:deny
"""
NEITHER = "never matches: neither an address, a prefix, a range nor a name, which starts with ="
LINT = [
    # line                          what is said of it
    (b"127.0.0.1 allow",            "no colon, so it is skipped"),
    (b"1.2.3.5-3:allow",            "an empty range, so it is skipped"),
    (b"1.2.3.3-:allow",             "an empty range, so it is skipped"),
    (b"300-400.:allow",             "an empty range, so it is skipped"),
    (b"1.2.3.4:allow\r",            "not a rule: it ends in a carriage return"),
    (b"1.2.3.4: allow",             "not a rule: neither deny nor allow after the address"),
    (b"1.2.3.4:Deny",               "not a rule: neither deny nor allow after the address"),
    (b"1.2.3.4:allow,A",            'not a rule: after deny or allow only ,NAME="VALUE" can stand, once or more'),
    (b"a-b:allow",                  "not a rule: a range that is not one of numbers"),
    (b"1::2::3:allow",              "not a rule: the address is neither an IPv6 address nor an IPv6 network"),
    (b"::/0:allow",                 "not a rule: the address is neither an IPv6 address nor an IPv6 network"),
    (b" 1.2.3.4:allow",             "never matches: a blank or NUL in the address"),
    (b"1.2.3.4\t:allow",            "never matches: a blank or NUL in the address"),
    (b"1.2.3.4\0:allow",            "never matches: a blank or NUL in the address"),
    (b"=Example.org:allow",         "never matches: upper case in the name"),
    (b"joe@=Example.org:allow",     "never matches: upper case in the name"),
    (b"=example.org.:allow",        "never matches: a dot at the end of the name"),
    (b"joe@=.example.org:allow",    "never matches: after user@ only a whole address or name can stand"),
    (b"joe@1.2.:allow",             "never matches: after user@ only a whole address or name can stand"),
    (b"10.0.0.0/0:deny",            "never matches: a network of 0 bits; the empty address is for everybody"),
    (b"10.0.0.0/33:deny",           "never matches: not a network: those are four numbers, /, and 1 to 32, "
                                    "without a user before them"),
    (b"10.0.0/8:deny",              "never matches: not a network: those are four numbers, /, and 1 to 32, "
                                    "without a user before them"),
    (b"joe@10.0.0.0/8:deny",        "never matches: not a network: those are four numbers, /, and 1 to 32, "
                                    "without a user before them"),
    (b"::ffff:1.2.3.4:allow",       "never matches: such clients are looked up by their IPv4 address"),
    (b"::ffff:1.2.3.0/120:allow",   "never matches: such clients are looked up by their IPv4 address"),
    (b"1.2.3.256:allow",            "never matches: a number above 255"),
    (b"1.2.3.0-9.5:allow",          "never matches: more than four numbers, or a dot after the fourth"),
    (b"1.2.3.04:allow",             "never matches: zeros before a number"),
    (b"1.2.3.4.:allow",             "never matches: more than four numbers, or a dot after the fourth"),
    (b"1.2.3:allow",                "never matches: neither an address nor a prefix, which ends in a dot"),
    (b"1.2-3:allow",                "never matches: neither an address nor a prefix, which ends in a dot"),
    (b"localhost:allow",            NEITHER),
    (b"*:allow",                    NEITHER),
    (b"joe@:allow",                 NEITHER),
    (b"a=b:allow",                  NEITHER),
    (b"1..2.:allow",                NEITHER),
]  # fmt: skip
SHADOWED = [
    # source                                what is said of its second line
    (b"1.2.3.4:allow\n1.2.3.4:deny",        "never matches: line 1 has the same address, and the first counts"),
    (b":allow\n:allow",                     "never matches: line 1 has the same address, and the first counts"),
    (b"10.1.2.3/8:allow\n10.0.0.0/8:deny",  "never matches: line 1 has the same address, and the first counts"),
    (b"::0:allow\n:::deny",                 "never matches: line 1 has the same address, and the first counts"),
    (b"1.2.3.4:allow\n1.2.3.3-9:deny",      "never matches for 1 of its 7 addresses: line 1 has the same address, "
                                            "and the first counts"),
]  # fmt: skip


def test_there_is_nothing_to_say_of_good_rules():
    assert lint(GOOD) == []
    assert lint(GOOD.replace(b"# who may relay:\n", b"#\r\n\r\n")) == []  # neither line is one that counts


@pytest.mark.parametrize("line, problem", LINT)
def test_what_is_wrong_with_a_line_is_said(line, problem):
    assert [found[:2] for found in lint(b":allow\n" + line + b" \n")] == [(2, problem)]


@pytest.mark.parametrize("source, problem", SHADOWED)
def test_a_line_whose_address_is_taken_is_named_with_the_line_that_has_it(source, problem):
    assert [found[:2] for found in lint(source)] == [(2, problem)]


def test_lines_are_shown_short_and_clean():
    assert lint(b"a\xff\0\x1b[1m" + b"x" * 1_000_000)[0][2] == b"a???[1m" + b"x" * 193 + b"..."


EXPLAINED = [
    # ip, host, info -> the line that holds, the key, why
    ((b"127.0.0.1", None, None), 2, b"127.: the start of the address"),
    ((b"127.0.0.1", None, b"joe"), 12, b"joe@127.0.0.1: what is known of the user, and the address"),
    ((b"9.9.9.9", b"example.org", b"joe"), 13, b"joe@=example.org: what is known of the user, and the name"),
    ((b"1.2.3.4", None, b""), 14, b"@1.2.3.4: what is known of the user, and the address"),
    ((b"10.9.9.9", b"a.example.org", None), 4, b"10.0.0.0/8: a network that the address is in"),
    ((b"10.1.2.3", None, None), 5, b"10.1.2.3/32: a network that the address is in"),
    ((b"10.9.9.9", b"example.org", None), 10, b"=example.org: the name"),
    ((b"9.9.9.9", b"a.example.org", None), 11, b"=.example.org: the end of the name"),
    ((b"9.9.9.9", b"a.example.com", None), 9, b"=: any name"),
    ((b"9.9.9.9", None, None), 19, b"everybody else: the empty address"),
    ((b"1.2.3.200", None, None), 18, b"1.2.3.200: the address"),
    ((b"2001:db8::1", None, None), 6, b"2001:0DB8:0000:0000:0000:0000:0000:0001: the address"),
    ((b"2001:db8::2", None, None), 7, b"2001:db8::/32: a network that the address is in"),
    ((b"fe80::2", None, None), 8, b"fe80::/32: a network that the address is in"),
    ((b"unix", None, b"0"), 15, b"unix: the address"),
    ((b"unix", None, b"1000"), 16, b"1000@unix: what is known of the user, and the address"),
]


@pytest.mark.parametrize("client, number, why", EXPLAINED)
def test_the_line_that_holds_is_explained(client, number, why):
    lines = explain(GOOD, *client).split(b"\n")
    at = next(at for at, line in enumerate(lines) if line.startswith(b"line "))
    assert lines[at] == b"line %d holds: %b" % (number, GOOD.split(b"\n")[number - 1])
    assert lines[at + 1] == b"it is the rule for " + why
    assert all(line.startswith(b"no rule for ") for line in lines[:at])
    assert lines[-2:] in ([b"allow connection", b""], [b"deny connection", b""])


def test_what_was_looked_for_before_is_said():
    assert explain(b"10.0.0.0/8:deny\n1.:allow\n", b"1.2.3.4", b"a.b", b"joe") == (
        b"no rule for joe@1.2.3.4\nno rule for joe@=a.b\nno rule for 1.2.3.4\nno rule for =a.b\n"
        b"no rule for 1.2.3.\nno rule for 1.2.\n"
        b"line 2 holds: 1.:allow\nit is the rule for 1.: the start of the address\nallow connection\n"
    )
    assert explain(b"2001:db8::/32:deny\n=a:allow", b"2001:db9::1", None, None) == (
        b"no rule for 2001:0DB9:0000:0000:0000:0000:0000:0001\nno rule for 2001:db9::/32\nno rule for everybody else\n"
        b"no line holds\nallow connection\n"
    )


def test_the_first_of_two_lines_holds_and_a_source_that_is_none_is_refused():
    assert b"line 1 holds: 1.:allow" in explain(b"1.:allow\n1.:deny\n", b"1.2.3.4", None, None)
    with pytest.raises(BadLine):
        explain(b"1.:allow\n1.: deny\n", b"1.2.3.4", None, None)


COVERED = [
    # source                                                            never reached, and those to be said
    (b"10.:allow\n10.0.0.0/8:deny",                                     [2], [2]),
    (b"10.0.0.0/8:deny\n10.:allow",                                     [1], [1]),  # the lines' order does not matter
    (b"10.:deny\n10.0.0.0/8:deny",                                      [2], []),
    (b"10.:allow\n10.1.0.0/16:deny",                                    [2], [2]),
    (b"10.1.:allow\n10.0.0.0/8:deny",                                   [], []),
    (b"10.0.0.0/7:deny\n10.:allow",                                     [], []),
    (b"10.:allow\n11.:allow\n10.0.0.0/7:deny",                          [3], [3]),
    (b"10.:allow\n11.:deny\n10.0.0.0/7:deny",                           [3], [3]),
    (b"1.2.3.0-255:allow\n1.2.3.:deny",                                 [2], [2]),
    (b"1.2.3.0-254:allow\n1.2.3.:deny",                                 [], []),
    (b"1.2.3.4:allow\n1.2.3.4/32:deny",                                 [2], [2]),
    (b"10.0.0.0/9:allow\n10.128.0.0/9:allow\n10.0.0.0/8:deny",          [3], [3]),
    (b"1.2.3.04:allow\n1.2.3.4/32:deny",                                [1], []),  # what nobody has covers nothing
    (b"1.2-3.:allow\n1.2.0.0/15:deny",                                  [2], [2]),
    (b"2001:db8::1:allow\n2001:db8::1/128:deny",                        [2], [2]),
    (b"2001:db8::/33:allow\n2001:db8:8000::/33:allow\n2001:db8::/32:deny", [3], [3]),
    (b"2001:db8::/31:allow\n2001:db8::/32:deny",                        [], []),
    (b"=a.test:allow\n:deny\n1.2.3.4:allow\nx@1.2.3.4:deny",            [], []),
]  # fmt: skip


@pytest.mark.parametrize("source, unreached, said", COVERED)
def test_what_others_have_all_addresses_of_is_named(source, unreached, said):
    assert [number for number, _, _ in lint(source)] == unreached
    assert [number for number, _, _ in warnings(source)] == said


WARNINGS = [
    # source                                is it said when it is compiled
    (b"127./8:deny",                        True),
    (b"2002/64:deny",                       True),
    (b"127./8:allow",                       False),
    (b"=Example.org:deny",                  True),
    (b"x@10.:deny",                         True),
    (b"1.2.3.4 deny",                       True),
    (b"1.2.3.4 allow",                      False),
    (b"1.2.3.4:allow\n1.2.3.4:deny",        True),
    (b"1.2.3.4:deny\n1.2.3.4:deny",         False),
    (b'1.:allow, RELAYCLIENT=""',           False),
    (b'1.:allow,DATABYTES="10k"',           True),
    (b'1.:allow,DATABYTES="10",X="k"',      False),
    (b'1.:allow,ERRORLIMIT="off"',          True),
    (b'1.:allow,MAXLOAD=""',                True),
    (b"# 1.2.3.4 deny",                     False),
]  # fmt: skip


@pytest.mark.parametrize("source, is_said", WARNINGS)
def test_what_lets_somebody_in_is_said_when_it_is_compiled(source, is_said):
    assert bool(warnings(source)) == is_said


VARIABLES = [
    (b'1.2.3.4:allow, B="c"',               "a blank in the name of a variable: ' B'"),
    (b'1.2.3.4:allow,A="b",\tB="c"',        "a blank in the name of a variable: '?B'"),
    (b'1.2.3.4:allow,="c"',                 "a variable without a name, which cannot be set"),
    (b'1.2.3.4:allow,GREETHOLD="1s"',       "GREETHOLD is no number, and is read as 1: '1s'"),
    (b'1.:allow,ERRORLIMIT="-1"',           "ERRORLIMIT is no number up to 2147483648, and has no effect: '-1'"),
    (b'1.:allow,MAXRCPT="2147483649"',
     "MAXRCPT is no number up to 2147483648, and has no effect: '2147483649'"),
    (b'1.:allow,CLIENTRATE="60/1w"',        "CLIENTRATE is no rate, and has no effect: '60/1w'"),
    (b'1.:allow,DATABYTES="4294967296"',    "DATABYTES is too large a number, and is read as 0: '4294967296'"),
]  # fmt: skip


def test_every_limit_of_a_control_file_is_known():
    assert {name.upper().encode() for name, control in CONTROLS.items() if control.mode == LIMIT} == LIMITS
    assert {name.upper().encode() for name, control in CONTROLS.items() if control.mode == RATE} == RATES


@pytest.mark.parametrize("line, problem", VARIABLES)
def test_what_is_odd_about_a_variable_is_named(line, problem):
    assert [found[:2] for found in lint(line)] == [(1, problem)]
