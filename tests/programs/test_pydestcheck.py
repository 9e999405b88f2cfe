"""pydestcheck as a program: the lines that match an address, and what results."""

import os
import socket
import time

import pytest

MX, A = 15, 1


@pytest.fixture
def check(run, home):
    """check(*arguments, rules=b"") -> Result, with these rules compiled."""

    def show(*arguments, rules=None, env=None):
        environ = {"PYQMAIL_HOME": home.path, **(env or {})}
        if rules is not None:
            with open(f"{home.control}/destinations", "wb") as file:
                file.write(rules)
            assert run("pydestrules", env=environ).code == 0
        return run("pydestcheck", *arguments, env=environ)

    return show


RULES = b"""\
yahoo.*:@yahoo
@yahoo:C=100,n=20
.example.com:c=2
mx=.mail.example:@hoster
@hoster:c=25,n=7
ip=10.0.0.0/24:k=5/m
rcpt=list@here.example:c=1
from=a.example.com:die=1d
"""


def test_the_lines_and_the_limits(check):
    done = check("Joe@Yahoo.com", rules=RULES)
    assert (done.code, done.err) == (0, b"")
    lines = done.out.decode().splitlines()
    assert lines[:4] == [
        "lines that match, the one that wins first:",
        "  destinations line 1: yahoo.*:@yahoo",
        "  destinations line 2: @yahoo:C=100,n=20",
        "  built in: :" + lines[3].partition(" :")[2],
    ]
    limits = lines[lines.index("limits:") + 1 : lines.index("otherwise:")]
    assert limits == [
        "  300 connections in 60 s, 20 at once from each source, for each site: built in",
        "  100 sessions at once over all sources, for @yahoo together: destinations line 2",
    ]
    assert "  n=20: destinations line 2" in lines and "  m=50: built in" in lines


def test_a_domain_and_its_lines_as_a_sender(check):
    out = check("a.example.com", rules=RULES).out
    assert b"\n  2 sessions at once from each source, for each domain: destinations line 3\n" in out
    assert b"\n  10 to 200 sessions at once from each source, for each organisation: 2 for each address" in out
    assert out.endswith(b"as an envelope sender:\n  destinations line 8: from=a.example.com:die=1d\n")


def test_a_local_recipient(check):
    out = check("-l", "List@Here.example", rules=RULES).out
    assert b"\n  destinations line 7: rcpt=list@here.example:c=1\n" in out
    assert out.endswith(b"limits:\n  1 delivery at once to each recipient: destinations line 7\n")


def test_hosts_are_looked_up(check, name_server):
    name_server.zone[b"b.example", MX] = [
        b"\0\5" + name_server.name(b"mx1.mail.example"),
        b"\0\7" + name_server.name(b"mx2.mail.example"),
    ]
    for number in (1, 2):
        name_server.zone[b"mx%d.mail.example" % number, A] = [socket.inet_aton(f"10.0.{number - 1}.9")]
    done = check("-m", "b.example", rules=RULES, env={"PYQMAIL_DNS": f"127.0.0.1:{name_server.port}"})
    assert (done.code, done.err) == (0, b"")
    lines = done.out.decode().splitlines()
    assert "  25 sessions at once from each source, for @hoster together: destinations line 5" in lines
    first, second = lines.index("host mx1.mail.example 10.0.0.9:"), lines.index("host mx2.mail.example 10.0.1.9:")
    assert lines[first + 1 : second] == [
        "  5 connections in 60 s, 1 at once from each source, for each address: destinations line 6"
    ]
    assert lines[second + 1 :] == []


FAILURES = [
    ({}, 100, b"Sorry, I couldn't find any host"),
    ({b"b.example": "servfail"}, 111, b"Sorry, I couldn't find any host by that name."),
]


@pytest.mark.parametrize("zone, code, text", FAILURES)
def test_a_domain_without_hosts(check, name_server, zone, code, text):
    name_server.zone.update(zone)
    done = check("-m", "b.example", rules=RULES, env={"PYQMAIL_DNS": f"127.0.0.1:{name_server.port}"})
    assert (done.code, done.out) == (code, b"") and text in done.err


@pytest.mark.parametrize("routes, rules", [(b"b.example:10.0.0.7:26\n", b"")])
@pytest.mark.parametrize("options", [[], ["-m"]])
def test_a_relay_is_the_destination(check, home, routes, rules, options):
    with open(f"{home.control}/smtproutes", "wb") as file:
        file.write(routes)
    out = check(*options, "b.example", rules=b"10.0.0.7:c=100\n" + rules).out
    assert out.startswith(b"b.example: by the relay 10.0.0.7\n")
    assert b"\n  100 sessions at once from each source, for each domain: destinations line 1\n" in out


def test_other_rules_are_tried(check, tmp_path):
    (tmp_path / "new").write_bytes(b"yahoo.com:n=3\n")
    out = check("-f", f"{tmp_path}/new", "yahoo.com", rules=RULES).out
    assert b"\n  n=3: destinations line 1\n" in out and b"@yahoo" not in out
    (tmp_path / "new").write_bytes(b"a:c=1\nyahoo.com:n=3,c=0\n")
    done = check("-f", f"{tmp_path}/new", "yahoo.com")
    said = f"pydestcheck: fatal: {tmp_path}/new:2:17: c=0: a limit of 0: write hold\n"
    assert done == (100, b"", said.encode())


def test_what_holds_for_now_wins(check, home):
    with open(f"{home.control}/destinations.now", "wb") as file:
        file.write(b"@yahoo:hold,until=2999-01-01\nyahoo.com:n=1,until=2020-01-01\n")
    out = check("yahoo.com", rules=RULES).out
    assert b"\n  destinations.now line 1: @yahoo:hold,until=2999-01-01\n" in out
    assert b"\n  hold: destinations.now line 1\n" in out and b"n=20" in out and b"n=1:" not in out
    with open(f"{home.control}/destinations.now", "wb") as file:
        file.write(b"@nobody:hold\n")
    done = check("yahoo.com")
    assert (done.code, done.out) == (100, b"")
    assert done.err.endswith(b"/destinations.now:1:1: no line is in the group @nobody\n")


def test_without_compiled_rules_the_built_in_ones_hold(check, home):
    done = check("yahoo.com")
    assert done.code == 0 and b"\n  10 sessions at once from each source, for each site: built in\n" in done.out
    said = f"pydestcheck: warning: {home.control}/destinations.cdb does not exist: the built-in limits hold\n"
    assert done.err == said.encode()


def test_rules_that_have_changed_since_are_named(check, home):
    check("yahoo.com", rules=RULES)
    later = time.time() + 5
    os.utime(f"{home.control}/destinations", (later, later))
    done = check("yahoo.com")
    said = f"pydestcheck: warning: {home.control}/destinations has changed since it was compiled\n"
    assert (done.code, done.err) == (0, said.encode())


def test_a_new_home_has_rules_for_providers(run, tmp_path):
    from pyqmail.operations import private_home
    from pyqmail.programs import registry
    from pyqmail.system.home import Home

    home = Home(f"{tmp_path}/home")
    os.mkdir(home.path)
    os.mkdir(home.control)
    assert private_home.make_destinations(home, registry.load) is True
    out = run("pydestcheck", "yahoo.co.jp", env={"PYQMAIL_HOME": home.path}).out
    assert b"\n  10 recipients in 1 s, 1 at once from each source, for each domain: destinations line " in out
    assert private_home.make_destinations(home, registry.load) is False
    os.unlink(f"{home.control}/destinations.cdb")
    with open(f"{home.control}/destinations", "wb") as file:
        file.write(b"a:n=1\n")
    assert private_home.make_destinations(home, registry.load) is True
    assert b"n=1: destinations line 1" in run("pydestcheck", "a", env={"PYQMAIL_HOME": home.path}).out


def test_damaged_rules_are_an_error(check, home):
    with open(f"{home.control}/destinations.cdb", "wb") as file:
        file.write(bytes(2048))
    done = check("yahoo.com")
    assert (done.code, done.out) == (111, b"") and done.err.endswith(b"protocol error\n")


USAGE = b"pydestcheck: usage: pydestcheck [ -ml ] [ -f FILE ] ADDRESS\n"
MISUSED = [
    ([], b""),
    (["-r", "log", "a.example"], b"pydestcheck: illegal option -- r\n"),
    (["-ml", "a.example"], b"pydestcheck: a local recipient is not looked up\n"),
]


@pytest.mark.parametrize("arguments, complaint", MISUSED)
def test_wrong_usage(run, arguments, complaint):
    assert run("pydestcheck", *arguments) == (100, b"", complaint + USAGE)
