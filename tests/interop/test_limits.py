"""Limits, through the real server in all serving modes: who is denied, what it is told, what is logged.

The originals have none of this; the form of the deny line and the variables are those of the limits patch.
"""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DENIED = 25600


def rules(place, source):
    from pyqmail.system.cdb import write_cdb
    from pyqmail.tcp.rules.source import compile_lines

    write_cdb(place / "rules.cdb", place / "rules.tmp", compile_lines(source))


def deny(server, remark):
    """Wait for a deny line with this remark, and for its end line."""
    found = server.log.find(rb"tcpserver: deny (\d+) 0:[^ ]*:%d :[^ ]*::\d+%b\n" % (server.port, remark))
    server.log.find(rb"tcpserver: end %b status %d\n" % (found[1], DENIED))


@pytest.mark.parametrize(
    "options, variables",
    [
        (["--per-address", "2", "--excess-reply", "421 too many"], {}),
        ([], {"MAXCONNIP": "2", "DIEMSG": "421 too many"}),
        (["--per-address", "2"], {"MAXCONNIP": "9", "DIEMSG": "421 too many"}),
    ],
)
def test_an_address_has_its_share(serve, mode, options, variables):
    server = serve(mode, "-v", *options, env=variables)
    clients = [server.connect("127.0.0.2") for _ in range(2)]
    assert all(client.greeting() for client in clients)
    third = server.connect("127.0.0.2")
    assert (third.line(), third.line()) == (b"421 too many\r\n", b"")
    deny(server, b" MAXCONNIP:2")
    server.log.find(rb"status: 2/40\n", 2)
    assert server.connect("127.0.0.3").greeting()
    clients[0].leave()
    server.log.find(rb"status: 2/40\n", 3)
    assert server.connect("127.0.0.2").greeting()


def test_a_network_has_its_share(serve, mode):
    server = serve(mode, "-v", "--per-network", "2")
    assert server.connect("127.0.0.2").greeting() and server.connect("127.0.0.3").greeting()
    assert server.connect("127.0.0.4").line() == b""
    deny(server, b" MAXCONNC:2")
    assert server.connect("127.0.1.4").greeting()


def test_an_address_comes_only_so_often(serve, mode):
    server = serve(mode, "-v", "--rate", "2")
    for count in range(2):
        client = server.connect("127.0.0.2")
        assert client.greeting()
        client.leave()
        server.log.find(rb"status: 0/40\n", count + 2)
    assert server.connect("127.0.0.2").line() == b""
    deny(server, b" MAXCONNRATE:2")
    assert server.connect("127.0.0.3").greeting()


def test_everybody_is_denied_under_load(serve, mode):
    if os.getloadavg()[0] < 0.02:
        pytest.skip("there is no load")
    server = serve(mode, "-v", "--max-load", "1", "--excess-reply", "421 busy")
    client = server.connect()
    assert (client.line(), client.line()) == (b"421 busy\r\n", b"")
    deny(server, rb" LOAD:\d+")


def test_a_rule_says_otherwise(serve, mode, tmp_path):
    source = b"""127.0.0.2:allow,MAXCONNIP="1",DIEMSG="no more of you"
127.0.0.3:allow,MAXCONNIP="2"
127.0.0.4:allow,MAXCONNC="0",DIEMSG_MAXCONNC="not from there"
127.0.0.5:allow,GREETHOLD="0"
:allow
"""
    rules(tmp_path, source)
    server = serve(mode, "-v", "-xrules.cdb", "--per-address", "0")
    assert server.connect("127.0.0.5").line() == b""
    deny(server, b" MAXCONNIP:0")
    assert server.connect("127.0.0.2").greeting()
    assert server.connect("127.0.0.2").line() == b"no more of you\r\n"
    deny(server, b" MAXCONNIP:1")
    assert server.connect("127.0.0.3").greeting() and server.connect("127.0.0.3").greeting()
    assert server.connect("127.0.0.3").line() == b""
    deny(server, b" MAXCONNIP:2")
    assert server.connect("127.0.0.4").line() == b""
    server = serve(mode, "-v", "-xrules.cdb", "--per-address", "9")
    assert server.connect("127.0.0.4").line() == b"not from there\r\n"
    deny(server, b" MAXCONNC:0")


def test_ipv6_networks_are_of_64_bits(serve, mode):
    if not socket.has_ipv6 or not _has_ip6():
        pytest.skip("no IPv6 here")
    server = serve(mode, "-v", "--per-network", "1", host="::1")
    assert server.connect("::1").greeting()
    assert server.connect("::1").line() == b""
    server.log.find(rb"tcpserver: deny \d+ 0:::1:\d+ :::1::\d+ MAXCONNC:1\n")


def _has_ip6():
    with socket.socket(socket.AF_INET6) as sock:
        return sock.connect_ex(("::1", 1)) != 99


def test_helpers_know_the_counts(serve):
    server = serve("spawn_each", "-v", "--workers", "3", "--per-address", "20", "-c100", "-b100")
    server.burst(20)
    assert server.connect().line() == b""
    deny(server, b" MAXCONNIP:20")


def test_helpers_hold_clients_back_too(serve):
    server = serve("spawn_each", "-v", "--workers", "3", "--greet-delay", "1", "-c100", "-b100")
    clients = server.burst(20)
    assert [client.ask(b"env EARLYTALKER") for client in clients] == [b"unset\n"] * 20


@pytest.mark.parametrize("options", [(), ("--workers", "0")])
def test_smtp_clients_in_excess_are_told_so(system, options):
    limits = ("--per-address", "1", "--excess-reply", "421 too many connections (#4.7.0)", "--greet-delay", "1")
    system.start_smtp(options=("-v", "-RHl0", *options, *limits))
    address = system.address
    with socket.create_connection(address) as first, socket.create_connection(address) as second:
        assert second.makefile("rb").read() == b"421 too many connections (#4.7.0)\r\n"
        assert first.recv(4) == b"220 "
    system.smtp_log.find(rb"tcpserver: deny \d+ 0:127.0.0.1:\d+ :127.0.0.1::\d+ MAXCONNIP:1\n")


@pytest.mark.parametrize("early", [b"unset\n", b"1\n"])
def test_who_talks_before_its_time_is_marked(serve, mode, early):
    server = serve(mode, "-v", "--greet-delay", "1", env={"EARLYTALKER": "stale"})
    client = server.connect()
    if early == b"1\n":
        client.sock.sendall(b"env EARLYTALKER\n")
        assert client.greeting()
        assert client.line() == early
    else:
        assert client.greeting()
        assert client.ask(b"env EARLYTALKER") == early


def test_a_rule_holds_a_client_back_and_what_was_inherited_says_nothing(serve, mode, tmp_path):
    rules(tmp_path, b'127.0.0.2:allow,GREETHOLD="600"\n127.0.0.3:allow,EARLYTALKER="2"\n:allow\n')
    server = serve(mode, "-v", "-xrules.cdb", env={"EARLYTALKER": "1", "GREETHOLD": "600"})
    held, free, ruled = (server.connect(ip) for ip in ("127.0.0.2", "127.0.0.1", "127.0.0.3"))
    assert free.greeting() and ruled.greeting()
    assert free.ask(b"env EARLYTALKER") == b"unset\n"
    assert ruled.ask(b"env EARLYTALKER") == b"2\n"
    server.log.find(rb"tcpserver: ok ", 3)
    held.sock.sendall(b"env EARLYTALKER\n")
    assert held.greeting()
    assert held.line() == b"1\n"


# files


def test_a_limit_stands_in_a_file_and_is_read_again_at_hup(serve, mode, tmp_path):
    (tmp_path / "limit").write_text("1\n2\n")
    server = serve(mode, "-v", "-c", "./limit")
    server.log.find(rb"^tcpserver: status: 0/1\n")
    assert server.connect().greeting()
    second = server.connect()
    (tmp_path / "limit").write_text(" 2 \nas many as we can\n")
    server.process.send_signal(signal.SIGHUP)
    assert second.greeting()
    server.log.find(rb"tcpserver: status: 1/2\n")
    for content, warning in (
        ("many\n", b"no number in the first line of ./limit"),
        ("", b"no number in the first line"),
    ):
        (tmp_path / "limit").write_text(content)
        server.process.send_signal(signal.SIGHUP)
        server.log.find(rb"tcpserver: warning: limit stays as it is, %b" % re.escape(warning), 1 if content else 2)
    (tmp_path / "limit").unlink()
    server.process.send_signal(signal.SIGHUP)
    server.log.find(rb"warning: limit stays as it is, unable to read ./limit: file does not exist\n")
    (tmp_path / "limit").write_text("3")
    server.process.send_signal(signal.SIGHUP)
    server.log.find(rb"tcpserver: status: 2/3\n")


def test_other_limits_too(serve, mode, tmp_path):
    (tmp_path / "share").write_text("1\n")
    server = serve(mode, "-v", "--per-address", "./share", "--per-network=./share")
    assert server.connect().greeting()
    assert server.connect().line() == b""
    deny(server, b" MAXCONNIP:1")
    (tmp_path / "share").write_text("0\n")
    server.process.send_signal(signal.SIGHUP)
    (tmp_path / "share").write_text("5\n")
    server.process.send_signal(signal.SIGHUP)

    def welcome():
        return server.connect().greeting()

    for _ in range(50):
        if welcome():
            break
    else:
        raise AssertionError("the limit has not changed")


def test_helpers_hear_of_new_limits(serve, tmp_path):
    (tmp_path / "share").write_text("50\n")
    server = serve("spawn_each", "-v", "--workers", "3", "--per-address", "./share", "-c100", "-b100")
    clients = server.burst(20)
    (tmp_path / "share").write_text("0\n")
    server.process.send_signal(signal.SIGHUP)
    while server.connect().greeting():  # until it has heard the signal
        pass
    server.process.send_signal(signal.SIGSTOP)
    late = [server.connect() for _ in range(20)]
    server.process.send_signal(signal.SIGCONT)
    assert [client.line() for client in late] == [b""] * 20
    assert clients[0].ask(b"still here") == b"still here\n"


FATAL = [
    # options                              content     said
    (["-c", "./limit"],                    None,       b"unable to read ./limit: file does not exist"),
    (["-c", "./limit"],                    "\n1\n",    b"no number in the first line of ./limit"),
    (["-c", "./limit"],                    "-1\n",     b"no number in the first line of ./limit"),
    (["-c", "."  "/"],                     None,       b"unable to read ./: is a directory"),
    (["-c", "/dev/zero"],                  None,       b"no number in the first line of /dev/zero"),
    (["--rate", "./limit"],                "1 2\n",    b"no number in the first line of ./limit"),
    (["--ready-fd", "3"],                  None,       b"unable to use descriptor 3: file descriptor not open"),
    (["--ready-fd", "9" * 30],             None,
     b"unable to use descriptor " + b"9" * 30 + b": file descriptor not open"),
    (["--status-socket", "no/such/place"], None,       b"unable to bind no/such/place: file does not exist"),
]  # fmt: skip


@pytest.mark.parametrize("options, content, said", FATAL, ids=lambda value: str(value))
def test_what_cannot_be_used_is_said_at_the_start(tmp_path, options, content, said):
    if content is not None:
        (tmp_path / "limit").write_text(content)
    done = subprocess.run(
        [sys.executable, f"{ROOT}/bin/pytcpserver", *options, "127.0.0.1", "0", "cat"],
        capture_output=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (111, b"", b"tcpserver: fatal: " + said + b"\n")


def test_without_files_hup_is_not_ours(serve, mode):
    server = serve(mode, "-v", "--per-address", "5")
    server.process.send_signal(signal.SIGHUP)
    assert server.ended() == -signal.SIGHUP
    server = serve(mode, "-v", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    server.process.send_signal(signal.SIGHUP)
    assert server.connect().greeting()
