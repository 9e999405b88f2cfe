"""The all-classic mode, with the C programs of ucspi-tcp and daemontools around it; and those around our services.

Every box is executed, every delivery has one byte: tcpserver starts pysmtpd for each connection, pystart --classic its
parts, these pylocal and pyremote for each delivery.
"""

import os
import re
import shutil
import signal
import socket
import threading

import pytest

from tests.waiting import until

SECONDS = 30


def needs(*names):
    missing = [name for name in names if not shutil.which(name)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {' '.join(missing)}")


def send_both(system, smtp_peer, text):
    """Send a message to the local user and to another server, and see it arrive in both places."""
    before = len(os.listdir(f"{system.demo}/Maildir/new")), len(smtp_peer.mails)
    system.mail(
        b"ann@client.example", [b"demo@here.example", b"bob@remote.example"], b"Subject: x\r\n\r\n%b\r\n" % text
    )
    message = system.arrived(before[0] + 1)[-1]
    assert message.startswith(b"Return-Path: <ann@client.example>\nDelivered-To: demo@here.example\nReceived: (qmail ")
    assert message.endswith(b"Subject: x\n\n%b\n" % text)
    until(lambda: len(smtp_peer.mails) == before[1] + 1)
    assert smtp_peer.mails[-1][1].endswith(b"Subject: x\r\n\r\n%b\r\n" % text)


@needs("tcpserver", "multilog")
def test_all_classic_under_the_original_tools(system, smtp_peer, tmp_path):
    system.control("smtproutes", smtp_peer.route())
    system.start_queue()
    system.start_smtp(server="tcpserver")
    main = tmp_path / "main"
    system.sender = system.start("pystart", "--classic", "./Maildir/", "multilog", str(main))

    def log():
        return (main / "current").read_bytes() if (main / "current").exists() else b""

    until(lambda: log() == b"status: local 0/10 remote 0/20\n")
    for text in (b"one", b"two\xff\0"):
        send_both(system, smtp_peer, text)
    system.empty()
    until(lambda: log().count(b"end msg ") == 2)
    for line in (
        rb"new msg [0-9]+\ninfo msg [0-9]+: bytes [0-9]+ from <ann@client.example> qp [0-9]+ uid %d\n" % os.getuid(),
        rb"starting delivery 1: msg [0-9]+ to (?:local demo|remote bob)@",
        rb"\nstatus: local 1/10 remote 1/20\n",
        rb"delivery [0-9]+: success: did_1\+0\+0/\n",
        rb"delivery [0-9]+: success: 127.0.0.1_accepted_message./Remote_host_said:_250_ok_1/\n",
    ):
        assert re.search(line, log()), (line, log())
    system.smtp_log.find(rb"tcpserver: end [0-9]+ status 0\n", 2)
    system.sender.terminate()
    assert system.sender.wait(SECONDS) == 0
    until(lambda: log().endswith(b"status: exiting\n"))
    until(lambda: {*system.pids()} <= {system.queue.pid, system.smtp.pid})


@needs("tcpserver")
def test_what_is_unknown_bounces_in_the_classic_mode(system, smtp_peer):
    system.control("smtproutes", smtp_peer.route())
    system.start_queue()
    system.start_smtp(server="tcpserver")
    system.start_sender("--classic")
    refusing = [
        (b"S", b"220 p\r\n"),
        (b"C", b"EHLO here.example\r\n"),
        (b"S", b"250 p\r\n"),
        (b"C", b"MAIL FROM:<demo@here.example>\r\n"),
    ]
    smtp_peer.scripts.append([*refusing, (b"S", b"550 not you\r\n")])
    system.mail(b"demo@here.example", [b"nosuch@here.example", b"bob@remote.example"], b"Subject: x\r\n")
    (message,) = system.arrived()
    assert b"\n<nosuch@here.example>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n" in message
    refused = (
        b"\n<bob@remote.example>:\nConnected to 127.0.0.1 but sender was rejected.\nRemote host said: 550 not you\n\n"
    )
    assert refused in message
    assert message.endswith(b"Subject: x\n")
    system.empty()
    assert system.stop_sender().endswith(b"status: exiting\n")


@needs("tcpserver")
def test_a_full_pipe_of_classic_deliveries(system, smtp_peer):
    """More recipients than delivery slots, every delivery a process of its own, on both channels."""
    system.control("smtproutes", smtp_peer.route())
    system.control("concurrencylocal", b"7\n")
    system.control("concurrencyremote", b"5\n")
    system.control("destinations.now", b":c=1000,learn=no\n")
    system.start_queue()
    system.start_smtp(server="tcpserver")
    system.sender, system.log = system.says("pystart", "--classic", "./Maildir/")
    system.log.find(rb"^status: local 0/7 remote 0/5\n")
    local = [b"demo-%d@here.example" % number for number in range(20)]
    remote = [b"user%d@remote.example" % number for number in range(20)]
    system.mail(b"ann@client.example", [*local, *remote], b"Subject: x\r\n")
    system.log.find(rb"end msg [0-9]+\n")
    found = system.arrived(20, "more")
    assert sorted(re.search(rb"\nDelivered-To: (.*)\n", one)[1] for one in found) == sorted(local)
    told = [re.search(rb"RCPT TO:<(.*)>", commands)[1] for commands, _ in smtp_peer.mails]
    assert sorted(told) == sorted(remote)  # each in a session of its own
    # one of ten places, one at least, is for another destination
    assert b"status: local 7/7 " in system.log.text and b" remote 4/5\n" in system.log.text
    assert b" remote 5/5\n" not in system.log.text


@needs("tcpserver")
def test_pysmtpd_behind_tcpserver_without_a_queue_server(system):
    """Alone it writes the queue itself where it may, as the original's queue program would."""
    system.start_smtp(server="tcpserver")
    assert system.mail(b"ann@client.example", [b"demo@here.example"], b"Subject: x\r\n").startswith(b"250 ok ")
    system.start_sender("--classic")
    assert len(system.arrived()) == 1


@pytest.mark.parametrize("server", ["pytcpserver", pytest.param("tcpserver", marks=needs("tcpserver"))])
def test_a_foreign_program_behind_the_server(system, server):
    system.start_smtp(server=server, program=("/bin/cat",))
    payload = os.urandom(1 << 20)
    connections = [socket.create_connection(system.address, timeout=SECONDS) for _ in range(20)]
    system.smtp_log.find(rb"tcpserver: status: 20/40\n")  # before any can end

    def play(sock):
        sock.sendall(payload)
        sock.shutdown(socket.SHUT_WR)

    def echo(sock):
        with sock, sock.makefile("rb") as file:
            threading.Thread(target=play, args=(sock,), daemon=True).start()
            return file.read()

    got = []
    threads = [threading.Thread(target=lambda sock=sock: got.append(echo(sock) == payload)) for sock in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert got == [True] * 20
    system.smtp_log.find(rb"tcpserver: end [0-9]+ status 0\n", 20)


@pytest.fixture
def services(system, smtp_peer):
    """A System whose parts are services."""
    system.control("smtproutes", smtp_peer.route())
    system.make_services()
    return system


def classic(text):
    """Change a run script of ours to the all-classic mode under the original's server, which has no long options."""
    text = text.replace("exec pystart", "exec pystart --classic").replace("exec pytcpserver", "exec tcpserver")
    return re.sub(r'--(ready-fd|status-socket|per-address|per-network|exempt) (\w+|"[^"]*") ', "", text)


ALL = ("pyqueued", "pysend", "pysmtpd")
SETS = {
    "C svscan, ours below": ("svscan", "pymultilog", None),
    "C svscan, C multilog, C tcpserver, all classic": ("svscan", "multilog", classic),
    "ours": ("pysvscan", "pymultilog", None),
    "ours, C multilog, all classic": ("pysvscan", "multilog", classic),
}


@needs("svscan", "supervise", "svc", "svstat", "svok", "multilog", "tai64nlocal", "tcpserver")
@pytest.mark.parametrize("scanner, loggers, edit", SETS.values(), ids=SETS)
def test_services_under_either_supervisor(services, smtp_peer, scanner, loggers, edit):
    services.supervise(scanner, loggers, edit)
    send_both(services, smtp_peer, b"hello")
    until(lambda: b"end msg " in services.log_of("pysend"))
    for name in ALL:
        folder = f"{services.services}/{name}"
        for place in (folder, f"{folder}/log"):
            said = {tool: services.run(tool, place).stdout for tool in ("svstat", "pysvstat")}
            pattern = rb"%b: up \(pid [0-9]+\) [0-9]+ seconds\n" % place.encode()
            assert re.fullmatch(pattern, said["svstat"]) and re.fullmatch(pattern, said["pysvstat"]), said
            assert services.run("svok", place).returncode == services.run("pysvok", place).returncode == 0
    stamped = services.log_of("pysend")
    ours, theirs = (services.run(tool, input=stamped).stdout for tool in ("pytai64nlocal", "tai64nlocal"))
    assert ours == theirs
    assert re.match(rb"[0-9-]{10} [0-9:.]+ status: local 0/10 remote 0/20\n", theirs)
    assert services.log_of("pyqueued").split(b" ", 1)[1] == b"pyqueued: status: listening\n"
    until(lambda: b" tcpserver: end " in services.log_of("pysmtpd"))
    # one after another killed, and back; then told to go down, by either tool
    for name in ALL:
        pid = pid_of(services, name)
        os.kill(pid, signal.SIGKILL)
        until(lambda name=name, pid=pid: pid_of(services, name) not in (0, pid))
    until(lambda: services.accepts() and services.log_of("pyqueued").count(b"listening") == 2)
    until(lambda: services.log_of("pysend").count(b"status: local 0/10 remote 0/20\n") >= 2)
    send_both(services, smtp_peer, b"again")
    for name, tool in zip(ALL, ("svc", "pysvc", "svc"), strict=False):
        assert services.run(tool, "-d", f"{services.services}/{name}").returncode == 0
        down = rb": down [0-9]+ seconds, normally up\n"
        until(
            lambda name=name, down=down: re.search(down, services.run("svstat", f"{services.services}/{name}").stdout)
        )
    until(lambda: services.log_of("pysend").endswith(b"status: exiting\n"))


def pid_of(system, name):
    said = system.run("svstat", f"{system.services}/{name}").stdout
    found = re.search(rb": up \(pid ([0-9]+)\)", said)
    return int(found[1]) if found else 0


@needs("supervise", "svc", "svstat")
def test_pyqueued_below_the_original_supervise(services):
    folder = f"{services.services}/pyqueued"
    supervise, log = services.says("supervise", folder)
    log.find(rb"pyqueued: status: listening\n")
    first = pid_of(services, "pyqueued")
    assert services.run("svc", "-t", folder).returncode == 0
    log.find(rb"pyqueued: status: listening\n", 2)
    assert pid_of(services, "pyqueued") not in (0, first)
    assert services.run("svc", "-dx", folder).returncode == 0
    assert supervise.wait(SECONDS) == 0
    assert not services.pids()
