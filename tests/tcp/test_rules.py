"""Rules: sources and records, which rule holds, and when a changed file is seen."""

import os

import pytest

from pyqmail.system.cdb import write_cdb
from pyqmail.tcp.rules import BadLine, Instruction, Rules, compile_lines, find_rule

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
    (b"1.2.3.37-39:allow",             [(b"1.2.3.37", b""), (b"1.2.3.38", b""), (b"1.2.3.39", b"")]),
    (b"18.23-24.:deny",                [(b"18.23.", b"D\0"), (b"18.24.", b"D\0")]),
    (b"1.2-3.4.5:allow",               [(b"1.2.4.5", b""), (b"1.3.4.5", b"")]),
    (b"37-38:allow",                   [(b"37", b""), (b"38", b"")]),
    (b"1.2.3.007-009:allow",           [(b"1.2.3.7", b""), (b"1.2.3.8", b""), (b"1.2.3.9", b"")]),
    (b"1.2.3.-1:allow",                [(b"1.2.3.0", b""), (b"1.2.3.1", b"")]),
    (b"1.2.3.5-3:allow",               []),
    (b"1.2.3.3-:allow",                []),
    (b"1.254-999.:allow",              [(b"1.254.", b""), (b"1.255.", b"")]),
    (b"=a-b.c:allow",                  [(b"=a-b.c", b"")]),
    (b"x@1-2:allow",                   [(b"x@1-2", b"")]),
]  # fmt: skip
WRONG = [b":allowed", b":deny,", b":deny,A", b":deny,A=", b':deny,A="x', b':deny,A="x"y', b": deny", b":Deny",
         b":", b"1.2.3.4-5-6:allow", b"a-b:allow", b"1:allow\r", b":allow,A=\"b\" C"]  # fmt: skip


@pytest.mark.parametrize("line, records", SOURCE)
def test_a_line_becomes_records(line, records):
    assert list(compile_lines(b"\n" + line)) == records


@pytest.mark.parametrize("line", WRONG)
def test_a_line_that_is_no_rule_is_named_without_its_last_blanks(line):
    with pytest.raises(BadLine) as caught:
        list(compile_lines(b"1.:allow\n" + line + b" \t\n:deny\n"))
    assert caught.value.line == line


ORDER = [
    b"joe@1.2.3.4", b"joe@=a.b.example", b"1.2.3.4", b"=a.b.example", b"1.2.3.", b"1.2.", b"1.",
    b"=.b.example", b"=.example", b"=", b"",
]  # fmt: skip


def test_the_order_in_which_addresses_count():
    for at, key in enumerate(ORDER):
        rules = {later: b"" for later in ORDER[at:]}
        assert find_rule(rules.get, b"1.2.3.4", b"a.b.example", b"joe").key == key


def test_what_is_unknown_is_not_looked_for_but_an_empty_info_is():
    seen = []
    assert find_rule(seen.append, b"1.2.3.4", None, None) is None
    assert seen == [b"1.2.3.4", b"1.2.3.", b"1.2.", b"1.", b""]
    assert find_rule({b"@1.2.3.4": b"D\0"}.get, b"1.2.3.4", None, b"").is_denied


def test_an_instruction_ignores_what_it_does_not_know():
    rule = Instruction(b"k", b"+A=b=c\0+bad\0Xx\0\0+B=\0+unended=1")
    assert (rule.is_denied, rule.variables) == (False, [(b"A", b"b=c"), (b"B", b"")])


class Place:
    def __init__(self, folder):
        self.path = str(folder / "rules.cdb")

    def write(self, source):
        write_cdb(self.path, self.path + ".tmp", compile_lines(source))


def test_a_replaced_file_is_followed_at_once(tmp_path):
    place = Place(tmp_path)
    rules = Rules(place.path)
    with pytest.raises(FileNotFoundError):
        rules.find(b"1.2.3.4", None, None)
    assert Rules(place.path, absent_allows=True).find(b"1.2.3.4", None, None) is None
    place.write(b":deny\n")
    assert rules.find(b"1.2.3.4", None, None).is_denied
    place.write(b":allow\n")
    assert not rules.find(b"1.2.3.4", None, None).is_denied
    os.unlink(place.path)
    with pytest.raises(FileNotFoundError):
        rules.find(b"1.2.3.4", None, None)
    place.write(b":deny\n")
    assert rules.find(b"1.2.3.4", None, None).is_denied


def test_a_relative_name_stays_where_it_was(tmp_path, monkeypatch):
    Place(tmp_path).write(b":deny\n")
    monkeypatch.chdir(tmp_path)
    rules = Rules("rules.cdb")
    monkeypatch.chdir("/")
    assert rules.find(b"1.2.3.4", None, None).is_denied
