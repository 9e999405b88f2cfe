"""Lines of rule text: what is read, and the column of what is wrong."""

import pytest

from pyqmail.mail.destinations.rules.tables import compile_rules, read_lines
from pyqmail.mail.destinations.rules.text import ALLOWED, BadRules, network_of, read_address, read_line

THREE = "not three times, for example 30s/60s/10m; an empty one stays as it is"
FACTOR = "the factor is from 1 to 100, and the first time from 1s to the longest"
ASCII = "not a domain: its letters are ASCII, with dashes and dots"
DATE = "not a date, for example 2026-11-01 or 2026-11-01T14:05Z"
WARM = "not the source and the first day of its warm-up, for example warm=192.0.2.1@2026-11-01"
DB8 = bytes.fromhex("20010db8") + bytes(12)
WRONG = [
    # line                                 column, text
    (b"example.com",                       12, "no colon after the address"),
    (b"example.com:",                      13, "no item"),
    (b"example.com:c=1,,n=2",              17, "no item"),
    (b"example.com:c=1,",                  17, "no item"),
    (b"example.com:x=1",                   13, "unknown key: x"),
    (b"example.com:c=1,tls=must",          17, "unknown key: tls"),
    (b"example.com:share=no",              13, "unknown key: share"),
    (b"example.com:lost=stop",             13, "unknown key: lost"),
    (b"example.com:c=1,until=2026-11-01",  17, "only destinations.now has until"),
    (b"example.com:c",                     13, "c: it needs a value"),
    (b"example.com:spill=1",               19, "spill=1: it has no value"),
    (b"example.com:c=",                    15, "c=: not a number from 1 to 1000000000"),
    (b"example.com:n=5,c=0",               19, "c=0: a limit of 0: write hold"),
    (b"example.com:n=5,r=0/s",             19, "r=0/s: a limit of 0: write hold"),
    (b"example.com:c=x",                   15, "c=x: not a number from 1 to 1000000000"),
    (b"example.com:c=5/world",             15, "c=5/world: not a scope: dom, ip, host, site, net, org, rule"),
    (b"example.com:c=5/",                  15, "c=5/: not a scope: dom, ip, host, site, net, org, rule"),
    (b"example.com:r=5",                   15, "r=5: not a rate, for example 300/m or 10/s~20"),
    (b"example.com:r=5/w",                 15, "r=5/w: not a time, for example 30s, 5m, 2h, 7d"),
    (b"example.com:r=5/2d",                15, "r=5/2d: the period of a rate is from 1s to 1d"),
    (b"example.com:r=5/0s",                15, "r=5/0s: the period of a rate is from 1s to 1d"),
    (b"example.com:r=5/s~0",               15, "r=5/s~0: not a number from 1 to 1000000000"),
    (b"example.com:n=0",                   15, "n=0: not a number from 1 to 1000000000"),
    (b"example.com:n=1,n=2",               17, "twice in a line: n=2"),
    (b"example.com:c=1,c=2",               17, "twice in a line: c=2"),
    (b"example.com:@a,@A",                 16, "twice in a line: @A"),
    (b"example.com:@",                     13, "@: not a name: letters, digits, dashes, dots"),
    (b"example.com:c=5,C=4",               17, "C=4 is less than c=5: all sources together get less than each"),
    (b"example.com:to=1s/2s",              16, "to=1s/2s: " + THREE),
    (b"example.com:to=0/1/1",              16, "to=0/1/1: a timeout of 0"),
    (b"example.com:try=0",                 17, "try=0: a retry time of 0"),
    (b"example.com:try=5m*2",              17, "try=5m*2: not retry times, for example 5m*2<4h or 5m;1h;4h"),
    (b"example.com:try=5m*0<4h",           17, "try=5m*0<4h: " + FACTOR),
    (b"example.com:v=5",                   15, "v=5: not one of 4, 6, 46"),
    (b"example.com:w=slow",                15, "w=slow: not one of urgent, normal, bulk"),
    (b"example.com:learn=maybe",           19, "learn=maybe: not one of no, yes"),
    (b"example.com:src=bulk",              17, "src=bulk: not a pool, for example %bulk"),
    (b"example.com:route=a:0",             19, "route=a:0: not a number from 1 to 65535"),
    (b"example.com:route=:0",              19, "route=:0: not a number from 1 to 65535"),
    (b"example.com:route=:a",              19, "route=:a: not a number from 1 to 65535"),
    (b"example.com:route=a b",             20, "a blank or a control character"),
    (b"example.com:route=[a]:26",          19, "route=[a]:26: not an address in brackets"),
    (b"example.com:route",                 13, "route: it needs a value"),
    (b"example.com:route=2001:db8::1",     19, "route=2001:db8::1: an IPv6 address stands in brackets"),
    (b"example.com:hold=soon",             18, "hold=soon: " + DATE),
    (b"example.com:hold=2026-02-29",       18, "hold=2026-02-29: there is no such date"),
    (b"example.com:hold=2026-11-01T14:05", 18, "hold=2026-11-01T14:05: " + DATE),
    (b"example.com:c=1 # comment",         16, "a blank or a control character"),
    (b"example.com:c=1\r",                 16, "a blank or a control character"),
    ("bücher.example:c=1".encode(),        1,  ASCII + ": b??cher.example"),
    (b"a..b:c=1",                          1,  "not a domain: a label is empty: a..b"),
    (b"yahoo.co.*:c=1",                    1,  "one label stands before the star: yahoo.co.*"),
    (b"nonsense=a:c=1",                    1,  "not an address: mx=, ip=, from=, rcpt= are known: nonsense=a"),
    (b"ip=192.0.2.1/24:c=1",               1,  "the address has bits beyond the first 24: ip=192.0.2.1/24"),
    (b"ip=192.0.2.0/33:c=1",               1,  "the length of the prefix is from 1 to 32: ip=192.0.2.0/33"),
    (b"ip=here:c=1",                       1,  "not an address or a network, for example 192.0.2.0/24: ip=here"),
    (b"ip=192.0.2.0/24:c=1,route=a",       21, "a line of this address cannot have route"),
    (b"ip=192.0.2.0/24:src=%a",            17, "a line of this address cannot have src"),
    (b"ip=192.0.2.0/24:v=4",               17, "a line of this address cannot have v"),
    (b"from=a.example:c=1",                16, "a line of this address cannot have c"),
    (b"rcpt=a@b.example:k=1/s",            18, "a line of this address cannot have k"),
    (b"rcpt=:c=0",                         9,  "c=0: a limit of 0: write hold"),
    (b":@a",                               2,  "a line of this address cannot have @"),
    (b"@a/192.0.2.1:@b",                   14, "a line of this address cannot have @"),
    (b"@a/x:c=1",                          1,  "after the slash stands the address of a source: @a/x"),
    (b"!@a b:c=1",                         4,  "a blank or a control character"),
    (b"!a..b:c=1",                         2,  "not a domain: a label is empty: a..b"),
    (b"%bulk:",                            7,  "a pool without sources"),
    (b"%bulk:mx.example",                  7,  "mx.example: not the address of a source"),
    (b"%bulk:192.0.2.1,192.0.2.1=b",       17, "twice in a line: 192.0.2.1=b"),
    (b"%bulk:192.0.2.1*0",                 7,  "192.0.2.1*0: the weight is from 1 to 9999"),
    (b"%bulk:warm=192.0.2.1",              7,  "warm=192.0.2.1: " + WARM),
    (b".com:c=1",                          1,  "this is a public suffix: .com"),
    (b"mx=.com:c=1",                       1,  "this is a public suffix: mx=.com"),
]  # fmt: skip


@pytest.mark.parametrize("line, column, text", WRONG)
def test_what_is_wrong_is_named_with_its_place(line, column, text):
    with pytest.raises(BadRules) as bad:
        compile_rules(b"# a comment\n\n" + line + b"\n", None)
    assert [(one.line, one.column, one.text) for one in bad.value.problems] == [(3, column, text)]
    assert str(bad.value) == f"3:{column}: {text}"


def test_all_wrong_lines_are_named():
    with pytest.raises(BadRules) as bad:
        compile_rules(b"a:c=0\nb:c=1\nc:d\n", None)
    assert [one.line for one in bad.value.problems] == [1, 3]


READ = [
    # line                                  key, address as it is shown, items
    (b":c=10",                              b":", b"", b"c=10"),
    (b"Example.COM.:n=5,c=1",               b"dexample.com", b"example.com", b"c=1,n=5"),
    (b".example.com:c=1",                   b".example.com", b".example.com", b"c=1"),
    (b"yahoo.*:@yahoo",                     b"*yahoo", b"yahoo.*", b"@yahoo"),
    (b"mx=mx.example.com:hold,@b,@a",       b"hmx.example.com", b"mx=mx.example.com", b"@b,@a,hold"),
    (b"mx=.google.com:@google",             b"Hgoogle.com", b"mx=.google.com", b"@google"),
    (b"ip=192.0.2.0/24:c=1",                b"424\xc0\x00\x02\x00", b"ip=192.0.2.0/24", b"c=1"),
    (b"ip=192.0.2.7:c=1",                   b"432\xc0\x00\x02\x07", b"ip=192.0.2.7/32", b"c=1"),
    (b"ip=2001:db8::/32:c=1",               b"6032" + DB8, b"ip=2001:db8::/32", b"c=1"),
    (b"ip=2001:db8:::hold",                 b"6128" + DB8, b"ip=2001:db8::/128", b"hold"),
    (b"ip=::1:c=5/ip",                      b"6128" + bytes(15) + b"\1", b"ip=::1/128", b"c=5/ip"),
    (b"@google:c=5",                        b"@google", b"@google", b"c=5"),
    (b"@google/192.0.2.1:c=5",              b"@google/192.0.2.1", b"@google/192.0.2.1", b"c=5"),
    (b"@google/2001:DB8::1:c=5",            b"@google/2001:db8::1", b"@google/2001:db8::1", b"c=5"),
    (b"from=:die=1d",                       b"f", b"from=", b"die=1d"),
    (b"from=a.example:w=bulk",              b"fa.example", b"from=a.example", b"w=bulk"),
    (b"rcpt=:c=3",                          b"r", b"rcpt=", b"c=3"),
    (b"rcpt=A:b=@Here.example:c=1",         b"ra:b=@here.example", b"rcpt=a:b=@here.example", b"c=1"),
    (b"[192.0.2.1]:c=100",                  b"d192.0.2.1", b"192.0.2.1", b"c=100"),
    (b"[IPv6:2001:db8::1]:c=9",             b"d2001:db8::1", b"[2001:db8::1]", b"c=9"),
    (b"%bulk:192.0.2.1=mx.example*3,warm=2001:db8::1@2026-11-01", b"%bulk", b"%bulk",
     b"192.0.2.1=mx.example*3,warm=2001:db8::1@2026-11-01"),
    (b"a.example:route=[2001:db8::1]:26,fall=B.example~1d", b"da.example", b"a.example",
     b"route=[2001:db8::1]:26,fall=b.example~1d"),
    (b"a.example:c=5/site,c=9/org,c=2 \t",  b"da.example", b"a.example", b"c=5/site,c=9/org,c=2"),
]  # fmt: skip


@pytest.mark.parametrize("text, key, address, items", READ)
def test_what_is_read(text, key, address, items):
    line = read_line(7, text)
    assert (line.number, line.key, line.address, line.text, line.is_meant) == (7, key, address, items, False)
    assert read_address(address)[0] == key  # what is shown can be written
    meant = read_line(7, b"!" + text)
    assert (meant.key, meant.text, meant.is_meant) == (key, items, True)


@pytest.mark.parametrize("line", [b"", b" \t", b"#", b"# c=1"])
def test_what_is_no_line(line):
    assert read_line(1, line) is None


def test_an_overlay_has_until():
    (line,) = read_lines(b"@a:hold,until=2026-11-01T14:05:30Z", is_overlay=True)
    assert [value for key, value, _, _ in line.items if key == b"until"] == [1793541930.0]


def test_each_kind_of_address_allows_something():
    assert all(ALLOWED.values())


@pytest.mark.parametrize("text, packed, length", [(b"10.0.0.0/8", b"\x0a\0\0\0", 8), (b"10.0.0.0", b"\x0a\0\0\0", 32)])
def test_networks(text, packed, length):
    assert network_of(text) == (packed, length)
