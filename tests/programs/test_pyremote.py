"""pyremote as a program: every conversation of tests/transcripts/remote-* over a real socket, its controls, its limits.

Untested here: a connection that really times out on its way (no such address on loopback); the note it leaves is.
"""

import glob
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading

import pytest

from tests.waiting import until

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAMES = sorted(os.path.basename(path) for path in glob.glob(f"{TESTS}/transcripts/remote-*.txt"))
NO_CONNECTION = b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n\0"


@pytest.fixture
def remote(run, home):
    """remote(*words, message=b"x\\n", routes=None, env={}, **controls) -> the report; asserts exit 0 and silence."""

    def deliver(*words, message=b"x\n", routes=None, env=None, prefix=(), **controls):
        for name, value in {"helohost": b"h.example", "smtproutes": routes, **controls}.items():
            if value is not None:
                with open(f"{home.control}/{name}", "wb") as file:
                    file.write(value + b"\n")
        words = [os.fsdecode(word) for word in words]
        environ = {"PYQMAIL_HOME": home.path, **(env or {})}
        code, out, err = run("pyremote", *words, input=message, env=environ, prefix=prefix)
        assert (code, err) == (0, b"")
        return out

    return deliver


@pytest.mark.parametrize("name", NAMES)
def test_conversation(remote, smtp_peer, transcript, name):
    script = transcript(name)
    smtp_peer.scripts.append(script.steps)
    assert remote(*script.args, message=script.message, routes=smtp_peer.route()) == script.report
    assert not smtp_peer.mismatches


@pytest.mark.parametrize("words", [(), (b"d.test",), (b"d.test", b"s@x.test")])
def test_too_few_words(remote, words):
    assert remote(*words) == b"DI (qmail-remote) was invoked improperly. (#5.3.5)\n\0"


def test_a_word_with_a_dash_is_no_option(remote, smtp_peer):
    assert remote(b"-d", b"-s", b"--", routes=smtp_peer.route())[:2] == b"r\0"
    assert smtp_peer.mails[0][0] == b"MAIL FROM:<-s>\r\nRCPT TO:<-->\r\nDATA\r\n"


def test_no_home(run):
    result = run("pyremote", "d.test", "s@x", "a@d.test", env={"PYQMAIL_HOME": "/nonexistent"})
    assert result == (0, b"ZUnable to switch to home directory. (#4.3.0)\n\0", b"")


def test_control_files_that_cannot_be_read(remote, home):
    os.mkdir(f"{home.control}/timeoutremote")
    assert remote(b"d.test", b"s@x", b"a@d.test") == b"ZUnable to read control files. (#4.3.0)\n\0"


def test_nobody_has_a_name(remote, home):
    os.unlink(f"{home.control}/me")
    wanted = b"ZUnable to read control files. (#4.3.0)\n\0"
    assert remote(b"d.test", b"s@x", b"a@d.test", helohost=None) == wanted


def test_me_is_the_name_without_helohost(remote, smtp_peer):
    smtp_peer.scripts.append([(b"S", b"220 x\r\n"), (b"C", b"EHLO here.example\r\n"), (b"S", b"421 x\r\n")])
    assert remote(b"d.test", b"s@x", b"a@d.test", helohost=None, routes=smtp_peer.route())[:1] == b"Z"
    assert not smtp_peer.mismatches


@pytest.mark.parametrize("has_pipelining", [True, False])
def test_a_thousand_recipients(remote, smtp_peer, has_pipelining):
    smtp_peer.has_pipelining = has_pipelining
    recipients = [b"u%d@d.test" % i for i in range(1000)]
    report = remote(b"d.test", b"s@x.test", *recipients, routes=smtp_peer.route())
    assert report == b"r\0" * 1000 + b"K127.0.0.1 accepted message.\nRemote host said: 250 ok 1\n\0"
    assert smtp_peer.mails[0][0].count(b"RCPT TO:<u") == 1000


def test_fifty_megabytes(remote, smtp_peer):
    line = b".%d " % 1 + b"x" * 60 + b"\n"
    message = line * (50_000_000 // len(line))
    assert remote(b"d.test", b"s@x.test", b"a@d.test", message=message, routes=smtp_peer.route())[:3] == b"r\0K"
    assert smtp_peer.mails[0][1] == message.replace(b"\n", b"\r\n").replace(b".1 ", b"..1 ")


def test_nobody_listens(remote, home):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        route = b":127.0.0.1:%d" % unused.getsockname()[1]
    assert remote(b"d.test", b"s@x", b"a@d.test", routes=route) == NO_CONNECTION
    with open(f"{home.queue}/lock/tcpto", "rb") as table:
        assert table.read() == bytes(1024)


def test_a_peer_that_does_not_answer_the_connection(remote, home):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = []
        for _ in range(4):  # a full backlog drops what comes
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        report = remote(b"d.test", b"s@x", b"a@d.test", routes=b":127.0.0.1:%d" % port, timeoutconnect=b"1")
        for filler in fillers:
            filler.close()
    assert report == NO_CONNECTION
    with open(f"{home.queue}/lock/tcpto", "rb") as table:
        assert table.read()[:5] == bytes((127, 0, 0, 1, 1))


def test_an_address_that_timed_out_twice_is_not_tried(remote, home, smtp_peer):
    import time

    with open(f"{home.queue}/lock/tcpto", "r+b") as table:
        table.write(bytes((127, 0, 0, 1, 2, 0, 0, 0)) + struct.pack("<I", int(time.time())))
    assert remote(b"d.test", b"s@x", b"a@d.test", routes=smtp_peer.route()) == NO_CONNECTION
    assert smtp_peer.sessions == 0


@pytest.mark.parametrize("script", [[], [(b"S", b"220 x\r\n"), (b"C", b"EHLO h.example\r\n"), (b"S", b"250-x")]])
def test_a_peer_that_falls_silent(remote, smtp_peer, script):
    smtp_peer.scripts.append([*script, (b"C", b"never said")])
    report = remote(b"d.test", b"s@x", b"a@d.test", routes=smtp_peer.route(), timeoutremote=b"1")
    assert report == b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n\0"


def test_hosts_come_from_dns(remote, name_server):
    name_server.zone |= {
        (b"own.test", 1): [socket.inet_aton("127.0.0.1")],
        (b"cname.test", 15): [b"\0\1" + name_server.name(b"gone.test")],
        b"ill.test": "servfail",
    }
    env = {"PYQMAIL_DNS": f"127.0.0.1:{name_server.port}"}
    wanted = {
        b"own.test": b"DSorry. Although I'm listed as a best-preference MX or A for that host,\n"
        b"it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n\0",
        b"cname.test": b"DSorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n\0",
        b"gone.test": b"DSorry, I couldn't find any host named gone.test. (#5.1.2)\n\0",
        b"ill.test": b"ZSorry, I couldn't find any host by that name. (#4.1.2)\n\0",
    }
    for host, report in wanted.items():
        assert remote(host, b"s@x", b"a@" + host, env=env) == report


BEST_IS_ME = (
    b"DSorry. Although I'm listed as a best-preference MX or A for that host,\n"
    b"it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n\0"
)


def records(server, zone):
    """Put {domain: address, or {preference: address}} into a name server's zone."""
    for domain, hosts in zone.items():
        exchangers = hosts if isinstance(hosts, dict) else {}
        for preference, address in exchangers.items():
            name = b"mx%d." % preference + domain
            server.zone.setdefault((domain, 15), []).append(preference.to_bytes(2, "big") + server.name(name))
            records(server, {name: address})
        if not exchangers:
            family = socket.AF_INET6 if ":" in hosts else socket.AF_INET
            server.zone[domain, 28 if ":" in hosts else 1] = [socket.inet_pton(family, hosts)]


def test_exchangers_that_are_preferred_to_ourselves_get_the_mail(remote, own_network, own_servers):
    names, first, last = own_servers("198.18.0.1", "198.18.0.3")
    zone = {
        b"both.test": {10: "198.18.0.1", 20: "127.0.0.2", 30: "198.18.0.3"},
        b"down.test": {10: "198.18.0.9", 20: "127.0.0.2", 30: "198.18.0.3"},
        b"last.test": {10: "198.18.0.9", 20: "198.18.0.3"},
        b"host.test": "198.18.0.1",
    }
    records(names, zone)

    def deliver(host):
        return remote(host, b"s@x", b"a@d", prefix=own_network.prefix, env={"PYQMAIL_DNS": "127.0.0.1"})

    said = b" accepted message.\nRemote host said: 250 ok %d\n\0"
    assert deliver(b"both.test") == b"r\0K198.18.0.1" + said % 1
    assert deliver(b"down.test") == NO_CONNECTION and not last.mails
    assert deliver(b"last.test") == b"r\0K198.18.0.3" + said % 1
    assert deliver(b"host.test") == b"r\0K198.18.0.1" + said % 2
    assert deliver(b"[198.18.0.1]") == b"r\0K198.18.0.1" + said % 3


OURS = ["127.0.0.2", "0.0.0.0", "0.0.0.1", "::1", "::ffff:127.0.0.2", "224.0.0.1", "ff02::1"]


@pytest.mark.parametrize("address", OURS)
def test_no_mail_goes_to_ourselves_by_dns(remote, own_network, own_servers, address):
    names, loopback = own_servers("127.0.0.2")
    records(names, {b"mx.test": {10: address, 20: "198.18.0.1"}, b"host.test": address})
    literal = b"[IPv6:%b]" if ":" in address else b"[%b]"
    for host in (b"mx.test", b"host.test", literal % address.encode()):
        how = {"prefix": own_network.prefix, "env": {"PYQMAIL_DNS": "127.0.0.1"}}
        assert remote(host, b"s@x", b"a@d", **how) == BEST_IS_ME
    assert loopback.sessions == 0


def test_mail_goes_to_ourselves_by_a_route(remote, own_network, own_servers):
    names, loopback = own_servers("127.0.0.2")
    records(names, {b"relay.test": "127.0.0.2"})
    for relay in (b"relay.test", b"127.0.0.2", b"[127.0.0.2]"):
        how = {"prefix": own_network.prefix, "env": {"PYQMAIL_DNS": "127.0.0.1"}}
        assert remote(b"d.test", b"s@x", b"a@d", routes=b"d.test:" + relay, **how)[:3] == b"r\0K"
    assert len(loopback.mails) == 3


def test_a_relay_may_be_a_name(remote, name_server, smtp_peer):
    name_server.zone[b"relay.test", 1] = [socket.inet_aton("127.0.0.1")]
    env = {"PYQMAIL_DNS": f"127.0.0.1:{name_server.port}"}
    routes = b"d.test:relay.test:%d" % smtp_peer.port
    assert remote(b"D.test", b"s@x", b"a@d.test", routes=routes, env=env)[:3] == b"r\0K"
    assert remote(b"d.test", b"s@x", b"a@d.test", routes=b"d.test:gone.test", env=env) == (
        b"DSorry, I couldn't find any host named gone.test. (#5.1.2)\n\0"
    )


@pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="needs IPv6")
def test_a_relay_may_be_an_ipv6_address(remote):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        listener.settimeout(30)
        route = b":[::1]:%d" % listener.getsockname()[1]
        refusing = threading.Thread(target=lambda: listener.accept()[0].sendall(b"554 no\r\n"))
        refusing.start()
        report = remote(b"d.test", b"s@x", b"a@d.test", routes=route)
        refusing.join()
    assert report == b"ZConnected to ::1 but greeting failed.\nRemote host said: 554 no\n\0"


def test_a_literal_route_needs_no_dns_library(home, smtp_peer):
    with open(f"{home.control}/smtproutes", "wb") as file:
        file.write(smtp_peer.route())
    code = (
        "import sys; from pyqmail.programs.pyremote import main; main(['pyremote', 'd.test', 's@x', 'a@d.test']);"
        "heavy = {'dns', 'asyncio', 'random', 're', 'subprocess', 'typing'};"
        "sys.stderr.write(' '.join(sorted(heavy & set(sys.modules))))"
    )
    environ = {"PYQMAIL_HOME": home.path, "PYTHONPATH": os.path.dirname(TESTS)}
    done = subprocess.run([sys.executable, "-c", code], input=b"x\n", capture_output=True, env=environ, timeout=30)
    assert done.stdout[:3] == b"r\0K" and done.stderr == b""


def accepts(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(not shutil.which("smtp-sink"), reason="needs smtp-sink of Postfix")
def test_smtp_sink_takes_it(remote, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    sink = subprocess.Popen(["smtp-sink", *user, f"127.0.0.1:{port}", "10"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: sink.poll() is not None or accepts(port))
        report = remote(b"d.test", b"s@x", b"a@d.test", b"b@d.test", routes=b":127.0.0.1:%d" % port)
    finally:
        sink.kill()
        sink.wait()
    assert report.startswith(b"r\0r\0K127.0.0.1 accepted message.\nRemote host said: 250 ")


# what a server does not bear

GREETING = [(b"S", b"220 x\r\n"), (b"C", b"EHLO h.example\r\n")]
PIPELINING = [*GREETING, (b"S", b"250-x\r\n250 PIPELINING\r\n")]
HELO = [(b"S", b"220 x\r\n"), (b"C", b"HELO h.example\r\n")]
BATCH = b"MAIL FROM:<s@x>\r\nRCPT TO:<a@d.test>\r\nDATA\r\n"
DIED = b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n\0"
ACCEPTED = b"r\0K127.0.0.1 accepted message.\nRemote host said: 250 ok 1\n\0"

NAMES_REJECTED = [
    # the first connection, the second, report
    (GREETING, HELO, DIED),
    (GREETING, [], DIED),
    (GREETING, [(b"S", b"421 not now\r\n")],
     b"ZConnected to 127.0.0.1 but greeting failed.\nRemote host said: 421 not now\n\0"),
    ([*GREETING, (b"S", b"554 eh\r\n")], HELO,
     b"ZConnected to 127.0.0.1 but my name was rejected.\nRemote host said: 554 eh\n\0"),
    ([*GREETING, (b"S", b"554 eh\r\n")], [*HELO, (b"S", b"550 you\r\n")],
     b"ZConnected to 127.0.0.1 but my name was rejected.\nRemote host said: 550 you\n\0"),
]  # fmt: skip


@pytest.mark.parametrize("first, second, report", NAMES_REJECTED)
def test_a_server_that_hangs_up_on_ehlo_is_told_helo_and_no_more(remote, smtp_peer, first, second, report):
    smtp_peer.scripts += [first, second]
    assert remote(b"d.test", b"s@x", b"a@d.test", routes=smtp_peer.route()) == report
    assert smtp_peer.sessions == 2 and not smtp_peer.mismatches


@pytest.mark.parametrize("first", [GREETING, [*GREETING, (b"R", b"")], [*GREETING, (b"S", b"500 eh\r\n")]])
def test_helo_delivers_where_ehlo_is_hung_up_on(remote, smtp_peer, first):
    smtp_peer.scripts += [first]
    smtp_peer.decide = lambda seen, line: b"" if line.startswith(b"EHLO") else None
    assert remote(b"d.test", b"s@x", b"a@d.test", routes=smtp_peer.route()) == ACCEPTED
    assert smtp_peer.sessions == 2


LOST_AHEAD = [[], [(b"S", b"250 ok\r\n")], [(b"S", b"250 ok\r\n250 ok\r\n")], [(b"R", b"")]]


@pytest.mark.parametrize("said", LOST_AHEAD)
def test_one_command_at_a_time_where_several_together_are_hung_up_on(remote, smtp_peer, said):
    """Nobody else will remember it: pyremote tries again itself."""
    commands = [b"MAIL FROM:<s@x>\r\n", b"RCPT TO:<a@d.test>\r\n"]
    one_by_one = [step for command in commands for step in ((b"C", command), (b"S", b"250 ok\r\n"))]
    data = [(b"C", b"DATA\r\n"), (b"S", b"354 go\r\n"), (b"C", b"x\r\n.\r\n"), (b"S", b"250 ok 1\r\n")]
    smtp_peer.scripts += [[*PIPELINING, (b"C", BATCH), *said], [*PIPELINING, *one_by_one, *data]]
    assert remote(b"d.test", b"s@x", b"a@d.test", routes=smtp_peer.route()) == ACCEPTED
    assert smtp_peer.sessions == 2 and not smtp_peer.mismatches


def test_a_connection_that_dies_each_time_is_not_tried_for_ever(remote, smtp_peer):
    smtp_peer.scripts += [[*PIPELINING, (b"C", BATCH)], [*PIPELINING, (b"C", BATCH[:17])]]
    assert remote(b"d.test", b"s@x", b"a@d.test", routes=smtp_peer.route()) == DIED
    assert smtp_peer.sessions == 2


# what the server said before it hung up

LAST_WORDS = [
    # what follows the greeting, report
    ([(b"C", BATCH), (b"S", b"554 not you\r\n"), (b"R", b"")],
     b"DConnected to 127.0.0.1 but sender was rejected.\nRemote host said: 554 not you\n\0"),
    ([(b"C", BATCH), (b"S", b"421 not now\r\n")],
     b"ZConnected to 127.0.0.1 but sender was rejected.\nRemote host said: 421 not now\n\0"),
    ([(b"C", BATCH), (b"S", b"250 ok\r\n550 nobody\r\n"), (b"R", b"")],
     b"h127.0.0.1 does not like recipient.\nRemote host said: 550 nobody\n\0DGiving up on 127.0.0.1.\n\0"),
    ([(b"C", BATCH), (b"S", b"250 ok\r\n250 ok\r\n554 no\r\n"), (b"R", b"")],
     b"r\0D127.0.0.1 failed on DATA command.\nRemote host said: 554 no\n\0"),
    ([(b"S", b"421 go away\r\n"), (b"R", b"")],
     b"ZConnected to 127.0.0.1 but sender was rejected.\nRemote host said: 421 go away\n\0"),
]  # fmt: skip


@pytest.mark.parametrize("script, report", LAST_WORDS)
def test_a_refusal_counts_though_the_server_hangs_up(remote, smtp_peer, script, report):
    smtp_peer.scripts.append([*PIPELINING, *script])
    assert remote(b"d.test", b"s@x", b"a@d.test", routes=smtp_peer.route()) == report
    assert smtp_peer.sessions == 1 and not smtp_peer.mismatches


@pytest.mark.parametrize("words", [b"421 closing\r\n", b"552 too much\r\n"])
@pytest.mark.parametrize("size", [1, 20_000_000])
def test_a_refusal_in_the_middle_of_content_counts(remote, smtp_peer, words, size):
    go = [(b"C", BATCH), (b"S", b"250 ok\r\n250 ok\r\n354 go\r\n")]
    smtp_peer.scripts.append([*PIPELINING, *go, (b"S", words), (b"R", b"")])
    report = remote(b"d.test", b"s@x", b"a@d.test", message=b"x\n" * size, routes=smtp_peer.route())
    letter = b"D" if words[:1] == b"5" else b"Z"
    said = words.replace(b"\r", b"")
    assert report == b"r\0" + letter + b"127.0.0.1 failed after I sent the message.\nRemote host said: " + said + b"\0"


def test_a_yes_in_the_middle_of_content_is_none(remote, smtp_peer):
    go = [(b"C", BATCH), (b"S", b"250 ok\r\n250 ok\r\n354 go\r\n"), (b"S", b"250 thanks\r\n"), (b"R", b"")]
    smtp_peer.scripts.append([*PIPELINING, *go])
    report = remote(b"d.test", b"s@x", b"a@d.test", message=b"x\n" * 20_000_000, routes=smtp_peer.route())
    assert report == b"r\0" + DIED


def test_a_greeting_that_refuses_and_hangs_up(remote, smtp_peer):
    smtp_peer.scripts.append([(b"S", b"554 go away\r\n"), (b"R", b"")])
    report = b"ZConnected to 127.0.0.1 but greeting failed.\nRemote host said: 554 go away\n\0"
    assert remote(b"d.test", b"s@x", b"a@d.test", routes=smtp_peer.route()) == report


# replies without end

ENDLESS = [b"220-x\r\n" * 20000, b"220 " + b"x" * 140000, b"220-" + b"x" * 70000 + b"\r\n220 x\r\n"]


@pytest.mark.parametrize("endless", ENDLESS)
@pytest.mark.parametrize("before", [[], GREETING, [*PIPELINING, (b"C", BATCH)]])
def test_a_reply_without_end_is_a_deferral(remote, smtp_peer, before, endless):
    smtp_peer.scripts.append([*before, (b"S", endless), (b"C", b"never said" * 100)])
    report = remote(b"d.test", b"s@x", b"a@d.test", routes=smtp_peer.route())
    assert report[:1] == b"Z" and b"Remote host said: " + endless[:100].replace(b"\r", b"") in report


@pytest.mark.parametrize("before", [b"", b"220 x\r\n"])
def test_a_reply_that_comes_in_drops_has_a_time_limit(remote, before):
    """A byte comes now and then; the reply as a whole does not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        is_over = threading.Event()

        def drip():
            with listener.accept()[0] as sock:
                sock.sendall(before)
                try:
                    while not is_over.wait(0.2):
                        sock.sendall(b"2")
                except OSError:
                    pass

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            route = b":127.0.0.1:%d" % listener.getsockname()[1]
            assert remote(b"d.test", b"s@x", b"a@d.test", routes=route, timeoutremote=b"1") == DIED
        finally:
            is_over.set()
            dripping.join()


# limits of a transaction, of a connection

LIMITS = [452, 552]


def recipients_of(mails):
    return sorted(line[9:-1] for commands, _ in mails for line in commands.split(b"\r\n") if line[:4] == b"RCPT")


@pytest.mark.parametrize("code", LIMITS)
@pytest.mark.parametrize("most", [1, 7])
@pytest.mark.parametrize("has_pipelining", [True, False])
def test_a_server_that_takes_few_recipients_at_once_gets_all(remote, smtp_peer, code, most, has_pipelining):
    def decide(seen, line):
        return b"%d too many\r\n" % code if line[:4] == b"RCPT" and seen.recipients >= most else None

    smtp_peer.decide, smtp_peer.has_pipelining = decide, has_pipelining
    recipients = [b"u%03d@d.test" % number for number in range(100)]
    report = remote(b"d.test", b"s@x", *recipients, routes=smtp_peer.route())
    assert report == b"r\0" * 100 + b"K127.0.0.1 accepted message.\nRemote host said: 250 ok 1\n\0"
    assert sorted(line for mail in smtp_peer.mails for line in mail[0].split(b"\r\n") if line[:4] == b"RCPT") == [
        b"RCPT TO:<%b>" % recipient for recipient in recipients
    ]
    assert smtp_peer.sessions == 1 and len(smtp_peer.mails) == -(-100 // most)
    assert {data for _, data in smtp_peer.mails} == {b"x\r\n"}


def test_the_message_is_read_again_for_each_transaction(remote, smtp_peer):
    smtp_peer.decide = lambda seen, line: b"452 too many\r\n" if line[:4] == b"RCPT" and seen.recipients else None
    message = b"0123456789abcde\n" * 20000
    report = remote(b"d.test", b"s@x", b"a@d", b"b@d", b"c@d", message=message, routes=smtp_peer.route())
    assert report[:7] == b"r\0r\0r\0K"
    assert [data for _, data in smtp_peer.mails] == [message.replace(b"\n", b"\r\n")] * 3


def test_a_message_in_a_file_is_read_again_from_where_it_began(home, smtp_peer, tmp_path):
    smtp_peer.decide = lambda seen, line: b"452 too many\r\n" if line[:4] == b"RCPT" and seen.recipients else None
    for name, value in {"helohost": b"h.example\n", "smtproutes": smtp_peer.route()}.items():
        with open(f"{home.control}/{name}", "wb") as file:
            file.write(value)
    (tmp_path / "message").write_bytes(b"not this\nx\n")
    with open(tmp_path / "message", "rb") as file:
        os.lseek(file.fileno(), 9, os.SEEK_SET)
        words = [sys.executable, f"{os.path.dirname(TESTS)}/bin/pyremote", "d.test", "s@x", "a@d", "b@d"]
        environ = {"PYQMAIL_HOME": home.path, "PYTHONPATH": os.path.dirname(TESTS)}
        subprocess.run(words, stdin=file, capture_output=True, env=environ, timeout=30, check=True)
    assert [data for _, data in smtp_peer.mails] == [b"x\r\n"] * 2


@pytest.mark.parametrize("code, letter", [(452, b"s"), (552, b"h")])
def test_a_recipient_that_is_too_many_even_alone_has_that_answer(remote, smtp_peer, code, letter):
    smtp_peer.decide = lambda seen, line: b"%d full\r\n" % code if line == b"RCPT TO:<full@d>\r\n" else None
    report = remote(b"d.test", b"s@x", b"a@d", b"full@d", b"b@d", routes=smtp_peer.route())
    assert report == (
        b"r\0" + letter + b"127.0.0.1 does not like recipient.\nRemote host said: %d full\n\0" % code
        + b"r\0K127.0.0.1 accepted message.\nRemote host said: 250 ok 1\n\0"
    )  # fmt: skip
    assert recipients_of(smtp_peer.mails) == [b"a@d", b"b@d"]


def test_a_server_that_hangs_up_after_too_many_gets_the_rest_over_other_connections(remote, smtp_peer):
    """One recipient a transaction, and one mistake a connection."""

    def decide(seen, line):
        if line[:4] == b"RCPT" and seen.recipients:
            seen.mistakes = getattr(seen, "mistakes", 0) + 1
            return b"421 too many mistakes\r\n" if seen.mistakes > 1 else b"452 too many\r\n"
        return None

    smtp_peer.decide = decide
    report = remote(b"d.test", b"s@x", *[b"u%d@d" % number for number in range(5)], routes=smtp_peer.route())
    assert report[:12] == b"r\0" * 5 + b"K1" and len(smtp_peer.mails) == 5


CONNECTION_LIMITS = [
    (b".\r\n", b"421 enough\r\n"),  # anything else is about the message
    *(
        (command, reply)
        for command in (b"MAIL", b"RCPT", b"DATA")
        for reply in (b"421 enough\r\n", b"451 enough\r\n", b"550 enough\r\n", b"")
        if (command, reply[:1]) != (b"RCPT", b"5")  # that is about the recipient
    ),
]


@pytest.mark.parametrize("command, reply", CONNECTION_LIMITS)
def test_what_a_used_connection_is_refused_a_fresh_one_decides(remote, smtp_peer, command, reply):
    """One message a connection, one recipient a message."""

    def decide(seen, line):
        if line[:4] == b"RCPT" and seen.recipients:
            return b"452 too many\r\n"
        return reply if seen.messages and line.startswith(command) else None

    smtp_peer.decide = decide
    report = remote(b"d.test", b"s@x", b"a@d", b"b@d", b"c@d", routes=smtp_peer.route())
    assert report[:8] == b"r\0r\0r\0K1" and len(smtp_peer.mails) == 3


def test_each_transaction_of_one_run_has_its_end_told(remote, smtp_peer):
    said = [b"554 spam\r\n", None]

    def decide(seen, line):
        if line[:4] == b"RCPT" and seen.recipients:
            return b"452 too many\r\n"
        return said.pop(0) if line == b".\r\n" else None

    smtp_peer.decide = decide
    report = remote(b"d.test", b"s@x", b"a@d", b"b@d", routes=smtp_peer.route())
    assert report == (
        b"h127.0.0.1 failed after I sent the message.\nRemote host said: 554 spam\n\0"
        b"r\0K127.0.0.1 accepted message.\nRemote host said: 250 ok 1\n\0"
    )
    said[:] = [b"554 spam\r\n"] * 2
    report = remote(b"d.test", b"s@x", b"a@d", b"b@d", routes=smtp_peer.route())
    assert report == b"r\0r\0D127.0.0.1 failed after I sent the message.\nRemote host said: 554 spam\n\0"


@pytest.mark.parametrize("has_pipelining", [True, False])
def test_who_was_not_asked_does_not_fail_since_the_server_left_at_another(remote, smtp_peer, has_pipelining):
    smtp_peer.has_pipelining = has_pipelining
    smtp_peer.decide = lambda seen, line: b"421 busy\r\n" if line[:4] == b"RCPT" else None
    report = remote(b"d.test", b"s@x", b"a@d", b"b@d", b"c@d", routes=smtp_peer.route())
    record = b"s127.0.0.1 does not like recipient.\nRemote host said: 421 busy\n\0"
    assert report == 3 * record + b"DGiving up on 127.0.0.1.\n\0"
