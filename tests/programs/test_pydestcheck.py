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


@pytest.mark.parametrize(
    "routes, rules", [(b"b.example:10.0.0.7:26\n", b""), (b".example:[10.0.0.8]\n", b"b.example:route=[10.0.0.7]:26\n")]
)
@pytest.mark.parametrize("options", [[], ["-m"]])
def test_a_relay_is_the_destination(check, home, routes, rules, options):
    with open(f"{home.control}/smtproutes", "wb") as file:
        file.write(routes)
    out = check(*options, "b.example", rules=b"10.0.0.7:c=100\n" + rules).out
    assert out.startswith(b"b.example: by the relay 10.0.0.7:26\n")
    assert b"\n  destinations line 1: 10.0.0.7:c=100\n" in out
    assert b"\n  100 sessions at once from each source, for each site: destinations line 1\n" in out


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


USAGE = b"pydestcheck: usage: pydestcheck [ -ml ] [ -f FILE ] [ -r LOG ] [ --sender ADDRESS ] [ ADDRESS ]\n"
NOTHING = b"pydestcheck: it needs ADDRESS, or -r and neither ADDRESS nor -l\n"
MISUSED = [
    ([], NOTHING),
    (["-r", "log", "a.example"], NOTHING),
    (["-l", "-r", "log"], NOTHING),
    (["-x", "a.example"], b"pydestcheck: illegal option -- x\n"),
    (["foo@"], b"pydestcheck: no domain: foo@\n"),
    (["-ml", "a.example"], b"pydestcheck: a local recipient is not looked up\n"),
]


@pytest.mark.parametrize("arguments, complaint", MISUSED)
def test_wrong_usage(run, arguments, complaint):
    assert run("pydestcheck", *arguments) == (100, b"", complaint + USAGE)


LOG = """\
2026-11-29 00:00:00.000000000 info msg 7: bytes 283 from <joe@s.example> qp 1 uid 0
2026-11-29 00:00:00.100000000 starting delivery 1: msg 7 to remote u@b.example
2026-11-29 00:00:02.100000000 delivery 1: success: 10.0.0.9_accepted_message./Remote_host_said:_250_ok/
"""


def test_a_log_is_played(check, tmp_path, run, home):
    path = tmp_path / "log"
    path.write_text(LOG)
    done = check("-r", str(path), rules=b"b.example:c=2\n")
    assert (done.code, done.err) == (0, b"")
    lines = done.out.decode().splitlines()
    assert lines[0] == "2s of log: 1 messages, 1 recipients in 1 domains"
    assert ["delivered", "1", "1"] in [line.split() for line in lines]
    assert "  1, 1: 2 sessions at once from each source, for each domain: destinations line 1" in lines
    with open(path, "rb") as log:
        assert run("pydestcheck", "-r", "-", input=log.read(), env={"PYQMAIL_HOME": home.path}).out == done.out


def test_the_files_of_a_multilog_are_played_in_their_order(check, tmp_path):
    first, *rest = LOG.splitlines(True)
    (tmp_path / "@4000000065f0.s").write_text(first)
    (tmp_path / "current").write_text("".join(rest))
    (tmp_path / "state").write_text("not a log\n")
    done = check("-r", str(tmp_path), rules=b"")
    assert done.out.startswith(b"2s of log: 1 messages, 1 recipients in 1 domains\n")


def test_a_log_with_its_domains_looked_up(check, name_server, tmp_path):
    name_server.zone[b"b.example", MX] = [b"\0\5" + name_server.name(b"mx1.mail.example")]
    name_server.zone[b"mx1.mail.example", A] = [socket.inet_aton("10.0.0.9")]
    path = tmp_path / "log"
    path.write_text(LOG)
    done = check("-m", "-r", str(path), rules=RULES, env={"PYQMAIL_DNS": f"127.0.0.1:{name_server.port}"})
    assert b"\n  1, 1: 25 sessions at once from each source, for @hoster together: destinations line 5\n" in done.out


@pytest.mark.parametrize(
    "text, code, error",
    [
        ("", 100, "no line begins with a time"),
        ("status: local 0/10\n", 100, "no line begins with a time"),
        (LOG.splitlines(True)[0], 100, "there is no delivery to a remote server in it"),
        (None, 111, "file does not exist"),
    ],
)
def test_what_is_no_log(check, tmp_path, text, code, error):
    path = tmp_path / "log"
    if text is not None:
        path.write_text(text)
    done = check("-r", str(path), rules=b"")
    assert done.code == code
    assert done.err.decode().rstrip().endswith(error)


def test_the_line_of_a_relay_and_that_of_the_domain_are_both_shown(check, home):
    with open(f"{home.control}/smtproutes", "w", encoding="ascii") as file:
        file.write("a.example:Relay.example:2525\n")
    out = check("a.example", rules=b"relay.example:c=100\na.example:c=3\n").out.decode()
    assert out.startswith("a.example: by the relay relay.example:2525\n")
    assert "  100 sessions at once from each source" in out and "  destinations line 1: relay.example:c=100\n" in out
    assert "  3 sessions at once from each source, for each domain: destinations line 2" in out


POOL = b"""\
%out:192.0.2.1=mx1.example*3,192.0.2.2
:src=%out
slow.example:by=sender
from=list.example:src=%list
%list:192.0.2.9
"""


def test_the_sources_and_which_of_them_a_sender_has(check):
    shown = check("joe@example.com", rules=POOL).out.decode()
    two = "\n  192.0.2.1 as mx1.example: 3 of 4 parts\n  192.0.2.2: 1 of 4 parts\n"
    assert "\nsources, %out:" + two in shown
    assert "this sender" not in shown and "sources" not in check("joe@example.com", rules=RULES).out.decode()
    shown = check("--sender", "ann@s.example", "slow.example").out.decode()
    assert "mail of this sender goes through" not in shown  # other rules are there now
    shown = check("--sender", "ann@s.example", "slow.example", rules=POOL).out.decode()
    first = shown.partition("mail of this sender goes through, the best first: ")[2].split("\n")[0]
    assert sorted(first.split(", ")) == ["192.0.2.1", "192.0.2.2"]
    assert (
        "sources, %list:\n  192.0.2.9: 1 of 1 parts\n" in check("--sender", "x@list.example", "a.example").out.decode()
    )


def test_the_day_of_a_warm_up(check):
    today = time.strftime("%Y-%m-%d", time.gmtime())
    shown = check("a.example", rules=b":src=%p\n%p:192.0.2.1,warm=192.0.2.2@" + today.encode() + b"\n").out.decode()
    assert "192.0.2.2: 1 of 2 parts, day 1 of its warm-up: 200 recipients to each organisation\n" in shown
