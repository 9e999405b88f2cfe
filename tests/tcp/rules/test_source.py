"""Rules in source form: which records a line becomes, and which line is no rule."""

import pytest

from pyqmail.tcp.rules.source import BadLine, compile_lines

SOURCE = [
    # line                             records
    (b"# a comment: x",                []),
    (b"",                              []),
    (b" \t",                           []),
    (b"127.0.0.1 allow",               []),
    (b"1.2.3.4:allow",                 [(b"1.2.3.4", b"")]),
    (b"1.2.3.4:allow \t",              [(b"1.2.3.4", b"")]),
    (b" 1.2.3.4:deny",                 [(b" 1.2.3.4", b"D\0")]),
    (b":deny",                         [(b"", b"D\0")]),
    (b'1.:deny,A="b"',                 [(b"1.", b"D\0+A=b\0")]),
    (b"1.:allow,A=xyzx,B==c=,C=,,",    [(b"1.", b"+A=yz\0+B=c\0+C=\0")]),
    (b'1.:allow, B="c",="d"',          [(b"1.", b"+ B=c\0+=d\0")]),
    (b'1.:allow,R="a:b",D="0"',        [(b"1.", b"+R=a:b\0+D=0\0")]),
    (b'1.:allow,R=":deny"',            [(b"1.", b"+R=:deny\0")]),
    (b"1.2.3.37-39:allow",             [(b"1.2.3.37", b""), (b"1.2.3.38", b""), (b"1.2.3.39", b"")]),
    (b"18.23-24.:deny",                [(b"18.23.", b"D\0"), (b"18.24.", b"D\0")]),
    (b"1.2-3.4.5:allow",               [(b"1.2.4.5", b""), (b"1.3.4.5", b"")]),
    (b"37-38:allow",                   [(b"37", b""), (b"38", b"")]),
    (b"1.2.3.007-009:allow",           [(b"1.2.3.7", b""), (b"1.2.3.8", b""), (b"1.2.3.9", b"")]),
    (b"1.2.3.-1:allow",                [(b"1.2.3.0", b""), (b"1.2.3.1", b"")]),
    (b"1.2.3.5-3:allow",               []),
    (b"1.2.3.3-:allow",                []),
    (b"1.254-999.:allow",              [(b"1.254.", b""), (b"1.255.", b"")]),
    (b"1.18446744073709551616-0:deny", [(b"1.0", b"D\0")]),
    (b"=a-b.c:allow",                  [(b"=a-b.c", b"")]),
    (b"x@1-2:allow",                   [(b"x@1-2", b"")]),
    (b"unix:allow",                    [(b"unix", b"")]),
    (b"1000@unix:deny",                [(b"1000@unix", b"D\0")]),
    # networks of IPv4, and what is none
    (b"10.0.0.0/8:deny",               [(b"_0000e0g0", b"D\0")]),
    (b"10.1.2.3/8:deny",               [(b"_0000e0g0", b"D\0")]),
    (b"192-193.0.0.0/2:deny",          [(b"_ab", b"D\0"), (b"_ab", b"D\0")]),
    (b"10.0.0.0/0:deny",               [(b"10.0.0.0/0", b"D\0")]),
    (b"10.0.0.0/33:deny",              [(b"10.0.0.0/33", b"D\0")]),
    (b"10.0.0/8:deny",                 [(b"10.0.0/8", b"D\0")]),
    (b"10.0.0.256/8:deny",             [(b"10.0.0.256/8", b"D\0")]),
    (b"10.0.0.0/:deny",                [(b"10.0.0.0/", b"D\0")]),
    (b"joe@10.0.0.0/8:deny",           [(b"joe@10.0.0.0/8", b"D\0")]),
    # IPv6
    (b'2001:db8::1:allow,A="x:y"',     [(b"2001:0DB8:0000:0000:0000:0000:0000:0001", b"+A=x:y\0")]),
    (b'::1:deny,A=":allow"',           [(b"0000:0000:0000:0000:0000:0000:0000:0001", b"D\0+A=:allow\0")]),
    (b":::allow",                      [(b"0000:0000:0000:0000:0000:0000:0000:0000", b"")]),
    (b"joe@::A:allow",                 [(b"joe@0000:0000:0000:0000:0000:0000:0000:000A", b"")]),
    (b"2000::/3:allow",                [(b"^00`", b"")]),
    (b"2000:0::allow",                 [(b"^00`" + b"0" * 29, b"")]),
    (b"2000:0:0:0:0:0:0::allow",       [(b"^00`" + b"0" * 109, b"")]),
]  # fmt: skip
WRONG = [
    b":allowed", b":deny,", b":deny,A", b":deny,A=", b':deny,A="x', b':deny,A="x"y', b": deny", b":Deny", b":",
    b"1.2.3.4-5-6:allow", b"a-b:allow", b"1:allow\r", b':allow,A="b" C', b"1.2.3.4:25:allow", b"=a:b:allow",
    b"::allow", b"2001::allow", b"::/0:allow", b"::/129:allow", b"::/:allow", b"1::2::3:allow", b"12345::1:allow",
    b"fe80::1%lo:allow",
    b"joe@::/8:allow", b"joe@2001:db8::allow", b"1:2:3:4:5:6:7:8::allow", b"[::1]:allow", b"::1 :allow", b"g::1:allow",
    b"::\x001:allow", b"\xff::1:allow",
]  # fmt: skip


@pytest.mark.parametrize("line, records", SOURCE)
def test_a_line_becomes_records(line, records):
    assert list(compile_lines(b"\n" + line)) == records


@pytest.mark.parametrize("line", WRONG)
def test_a_line_that_is_no_rule_is_named_without_its_last_blanks(line):
    with pytest.raises(BadLine) as caught:
        list(compile_lines(b"1.:allow\n" + line + b" \t\n:deny\n"))
    assert caught.value.line == line


@pytest.mark.parametrize(
    "line", [b"x" * 1_000_000, b":allow," + b"A" * 1_000_000, b"9" * 999_999 + b"-1:allow", b":" * 999_999]
)
def test_a_line_of_a_megabyte_is_soon_read(line):
    try:
        assert list(compile_lines(line)) in ([], [(b"1", b"")])
    except BadLine as bad:
        assert bad.line == line
