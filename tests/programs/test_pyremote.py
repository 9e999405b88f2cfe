"""pyremote as a program: every conversation of tests/transcripts/remote-* over a real socket, its controls, its limits.

Untested here: a connection that really times out on its way (no such address on loopback); the note it leaves is.
"""

import glob
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading

import pytest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAMES = sorted(os.path.basename(path) for path in glob.glob(f"{TESTS}/transcripts/remote-*.txt"))
NO_CONNECTION = b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n\0"


@pytest.fixture
def remote(run, home):
    """remote(*words, message=b"x\\n", routes=None, env={}, **controls) -> the report; asserts exit 0 and silence."""

    def deliver(*words, message=b"x\n", routes=None, env=None, **controls):
        for name, value in {"helohost": b"h.example", "smtproutes": routes, **controls}.items():
            if value is not None:
                with open(f"{home.control}/{name}", "wb") as file:
                    file.write(value + b"\n")
        words = [os.fsdecode(word) for word in words]
        code, out, err = run("pyremote", *words, input=message, env={"PYQMAIL_HOME": home.path, **(env or {})})
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
    smtp_peer.scripts.append([(b"S", b"220 x\r\n"), (b"C", b"EHLO here.example\r\n")])
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


@pytest.mark.skipif(not shutil.which("smtp-sink"), reason="needs smtp-sink of Postfix")
def test_smtp_sink_takes_it(remote, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    sink = subprocess.Popen(["smtp-sink", *user, f"127.0.0.1:{port}", "10"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(1000):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert sink.poll() is None
                select.select([], [], [], 0.01)
        report = remote(b"d.test", b"s@x", b"a@d.test", b"b@d.test", routes=b":127.0.0.1:%d" % port)
    finally:
        sink.kill()
        sink.wait()
    assert report.startswith(b"r\0r\0K127.0.0.1 accepted message.\nRemote host said: 250 ")
