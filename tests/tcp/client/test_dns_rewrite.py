"""Host names completed and rewritten.  That the original does the same is in tests/interop/test_tcpclient.py."""

import pytest

from pyqmail.tcp.client.dns_rewrite import alternatives, find_rules

COMPLETE = [b"?:+.a.x+.b.x", b"*.:"]
TABLE = [
    # name         rules                       names to ask for
    (b"h",         [],                         [b"h"]),
    (b"h",         COMPLETE,                   [b"h.a.x", b"h.b.x"]),
    (b"h.c",       COMPLETE,                   [b"h.c"]),
    (b"h.",        COMPLETE,                   [b"h"]),
    (b"h..",       COMPLETE,                   [b"h."]),
    (b"[h",        COMPLETE,                   [b"[h"]),
    (b"h]",        COMPLETE,                   [b"h]"]),
    (b"",          COMPLETE,                   [b".a.x", b".b.x"]),
    (b"h",         [b"?:.dom"],                [b"h.dom"]),
    (b"h.old",     [b"*.old:.new"],            [b"h.new"]),
    (b"h.OLD",     [b"*.oLd:.new"],            [b"h.new"]),
    (b".old",      [b"*.old:.new"],            [b".new"]),
    (b"h",         [b"*.old:.new"],            [b"h"]),
    (b"h",         [b"*:.new"],                [b"h.new"]),
    (b"h.x",       [b"*:.new"],                [b"h.x.new"]),
    (b"hold",      [b"?old:new"],              [b"hnew"]),
    (b"h.old",     [b"?old:new"],              [b"h.old"]),
    (b"h",         [b"=h:a.b"],                [b"a.b"]),
    (b"H",         [b"=h:a.b"],                [b"a.b"]),
    (b"xh",        [b"=h:a.b"],                [b"xh"]),
    (b"",          [b"=:a.b"],                 [b"a.b"]),
    (b"x.h",       [b"-h:a.b"],                [b"a.b"]),
    (b"x.h",       [b"-:a.b"],                 [b"a.b"]),
    (b"h.x",       [b"-h:a.b"],                [b"h.x"]),
    (b"h",         [b"=h:a:b"],                [b"a:b"]),
    (b"h",         [b"=h:i", b"=i:j"],         [b"j"]),
    (b"h",         [b"=i:j", b"=h:i"],         [b"i"]),
    (b"h",         [b"", b"h", b"=h", b"#=h:i", b" =h:i", b":"], [b"h"]),
    (b"h\xc4",     [b"*\xe4:i"],               [b"h\xc4"]),
    (b"a+b+c",     [],                         [b"ab", b"ac"]),
    (b"a+",        [],                         [b"a"]),
    (b"a+b+",      [],                         [b"ab", b"a"]),
    (b"+b",        [],                         [b"b"]),
]  # fmt: skip


@pytest.mark.parametrize("name, rules, names", TABLE)
def test_rules_are_applied_in_turn(name, rules, names):
    assert alternatives(name, rules) == names


SOURCES = [
    # DNSREWRITEFILE   LOCALDOMAIN  resolv.conf                            rules
    (b"*a:b\n?c:d",    b"e",        "search f",                            [b"*a:b", b"?c:d"]),
    (b"*a:b \t\r\n\n", None,        "",                                    [b"*a:b", b"", b""]),
    (b"*a:b\0*c:d",    None,        "",                                    [b"*a:b", b"*c:d"]),
    (b"",              b"e",        "search f",                            [b""]),
    (None,             b"e f",      "search g",                            [b"?:+.e+.f", b"*.:"]),
    (None,             b"",         "search g",                            [b"?:+.", b"*.:"]),
    (None,             b"e  f",     "",                                    [b"?:+.e+.+.f", b"*.:"]),
    (None,             None,        "nameserver 1.2.3.4\nsearch g  h\ti ", [b"?:+.g+.h+.i", b"*.:"]),
    (None,             None,        "domain\tg\nsearch h",                 [b"?:+.g", b"*.:"]),
    (None,             None,        "search \nsearch h",                   [b"?:", b"*.:"]),
]  # fmt: skip


@pytest.mark.parametrize("file, domains, resolv_conf, rules", SOURCES)
def test_rules_come_from_the_first_source(tmp_path, file, domains, resolv_conf, rules):
    environ = {b"DNSREWRITEFILE": bytes(tmp_path / "rules")}
    if file is not None:
        (tmp_path / "rules").write_bytes(file)
    if domains is not None:
        environ[b"LOCALDOMAIN"] = domains
    (tmp_path / "resolv.conf").write_text(resolv_conf)
    assert find_rules(environ, tmp_path / "resolv.conf") == rules


@pytest.mark.parametrize("resolv_conf", ["/nowhere", "/dev/null"])
@pytest.mark.parametrize("machine, rules", [("h", [b"*.:"]), ("h.a.x", [b"?:.a.x", b"*.:"])])
def test_the_last_source_is_the_name_of_this_machine(machine, rules, resolv_conf):
    assert find_rules({b"DNSREWRITEFILE": b"/nowhere"}, resolv_conf, machine) == rules


def test_rules_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(IsADirectoryError):
        find_rules({b"DNSREWRITEFILE": bytes(tmp_path)})
    with pytest.raises(IsADirectoryError):
        find_rules({b"DNSREWRITEFILE": b"/nowhere"}, tmp_path)
