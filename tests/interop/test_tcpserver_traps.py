"""The traps of ucspi-tcp, numbered: pytcpserver beside tcpserver, in each serving mode of ours.

The modes: a foreign program that the listener starts (`spawn_each`), a chain of ours that is forked (`fork_each`),
sessions of pysmtpd in a worker (`worker_pool`), beside a pysmtpd for each connection of the original's.  What a
session's environment and descriptors are is shown by the program that it runs as QMAILQUEUE.

Test names begin with the trap's number; ELSEWHERE says where the others are.
"""

import fcntl
import os
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = f"{ROOT}/bin:{os.environ['PATH']}"
OURS = [sys.executable, f"{ROOT}/bin/pytcpserver"]
THEIRS = ["tcpserver"]

pytestmark = pytest.mark.skipif(shutil.which("tcpserver") is None, reason="needs ucspi-tcp")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
of_programs = pytest.mark.parametrize("mode", ["spawn_each", "fork_each"])

# trap: (file of a test, part of its name)
ELSEWHERE = {
    7: ("interop/test_tcpclient.py", "test_addresses_are_named_as_the_original_does"),
    11: ("interop/test_listener_faults.py", "test_accept_fails"),
    20: ("interop/test_rules.py", "test_sources_that_are_odd"),
    21: ("interop/test_rules.py", "test_sources_that_are_odd"),
    22: ("interop/test_rules.py", "test_sources_that_are_odd"),
    23: ("interop/test_rules.py", "test_drawn_clients_meet_the_same_rules"),
    24: ("interop/test_rules.py", "test_sources_that_are_odd"),
    27: ("interop/test_rblsmtpd.py", "test_without_lists"),
    28: ("interop/test_rblsmtpd.py", "test_the_time_for_all_is_limited"),
    29: ("interop/test_filters.py", "test_around_a_program"),
    30: ("interop/test_filters.py", "test_a_conversation_is_recorded_in_its_order"),
    31: ("interop/test_filters.py", "test_streams"),
}


def test_each_trap_has_a_test():
    with open(__file__, encoding="utf-8") as file:
        here = {int(number) for number in re.findall(r"^def test_(\d\d)_", file.read(), re.M)}
    assert here | set(ELSEWHERE) == set(range(1, 38))
    for place, name in ELSEWHERE.values():
        with open(f"{ROOT}/tests/{place}", encoding="utf-8") as file:
            assert f"\ndef {name}" in file.read()


def rules(place, source, name="rules.cdb"):
    subprocess.run(["tcprules", name, "rules.tmp"], input=source, cwd=place, check=True)


def same(servers, of):
    """Return what of(server) is for both servers; it has to be the same."""
    theirs, ours = map(of, servers)
    assert theirs == ours
    return ours


def variables(server, **where):
    """Return the sorted lines of what a connection's `env` shows, but for the ports."""
    lines = re.sub(rb"(TCPREMOTEPORT|TCPLOCALPORT)=\d+", rb"\1=N", server.shown(**where)).split(b"\n")
    return sorted(line for line in lines if line and not line.startswith((b"_=", b"PWD=", b"OLDPWD=")))


# --- 1 to 6: the lines and the environment

ENDS = [
    # script                                   wait status
    ("exit 0",                                 0),
    ("exit 1",                                 256),
    ("exit 100",                               25600),
    ("exit 111",                               28416),
    ("exit 255",                               65280),
    ("kill -9 $$",                             9),
    ("kill -TERM $$",                          15),
    ("kill -PIPE $$",                          13),
    ("ulimit -c 0; kill -SEGV $$",             11),
    ("ulimit -c unlimited; kill -SEGV $$",     None),
    ("sh -c 'read x' & exec true",             0),
]  # fmt: skip


@of_programs
@pytest.mark.parametrize("script, wait_status", ENDS, ids=[script for script, _ in ENDS])
def test_01_the_status_is_the_raw_wait_status(beside, mode, script, wait_status):
    servers = beside(mode, ["-vHRl0"], script)
    for server in servers:
        server.ask()
    lines = same(servers, lambda server: server.lines())
    if wait_status is None:
        limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
        wait_status = 11 if limit == 0 else 139
    assert f"end PID status {wait_status}\n" in lines


def test_01_so_is_a_sessions(beside):
    for said, wait_status in ((b"QUIT\r\n", 0), (b"NOOP\r\n", 256)):
        servers = beside("worker_pool", ["-vHRl0"])
        for server in servers:
            assert server.ask(said).startswith(b"220 here.example ESMTP\r\n")
        assert f"end PID status {wait_status}\n" in same(servers, lambda server: server.lines())


RULES = b'127.0.0.1:allow,A="b",TCPREMOTEIP="changed",TCPREMOTEHOST="x",TCPREMOTEINFO="y",PROTO=/x=y/,NEW="1",A="c"\n'
INHERITED = {
    "TCPREMOTEHOST": "stale", "TCPREMOTEINFO": "stale", "RELAYCLIENT": "kept", "TCPLOCALIP": "stale", "PROTO": "SSL",
    "TCPLOCALHOST": "stale", "TCP6REMOTEIP": "kept", "SSLREMOTEIP": "kept", "A": "old", "Z": "last",
}  # fmt: skip


def test_02_rules_have_the_last_word_but_not_in_the_log(beside, mode, tmp_path):
    rules(tmp_path, RULES)
    servers = beside(mode, ["-vHRl0", "-xrules.cdb"], env=INHERITED)
    shown = same(servers, variables)
    assert {b"TCPREMOTEIP=changed", b"TCPREMOTEHOST=x", b"TCPREMOTEINFO=y", b"PROTO=x=y", b"A=c"} <= set(shown)
    assert " :127.0.0.1::CLIENT\n" in same(servers, lambda server: server.lines())


@pytest.mark.parametrize("length", [0, 1, 99, 100, 101, 300])
def test_03_fields_are_cut_and_cleaned_in_the_log_only(beside, mode, length):
    name = (b"a\xff%: " * 60)[:length]
    servers = beside(mode, [b"-vHR", b"-l", name])
    assert b"TCPLOCALHOST=" + name in same(servers, variables)
    shown = "a????" * 20 + "..." if length >= 100 else ("a????" * 20)[:length]
    assert f"ok PID {shown}:127.0.0.1:PORT :" in same(servers, lambda server: server.lines())


def test_04_the_banner_goes_out_before_the_deny(beside, mode, tmp_path):
    rules(tmp_path, b":deny\n")
    servers = beside(mode, ["-vHRl0", "-xrules.cdb", "-Bhello %s\r\n"])
    assert same(servers, lambda server: server.ask()) == b"hello %s\r\n"
    assert "end PID status 25600\n" in same(servers, lambda server: server.lines())


IDENT_CLIENT = "127.0.0.80"


@pytest.fixture
def ident_server():
    """ident_server(said): what the ident server of IDENT_CLIENT says from now on; asked: what it was asked."""
    with open(__file__, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            listener = socket.create_server((IDENT_CLIENT, 113))
        except OSError as error:
            pytest.skip(f"port 113: {error}")
        answers = [b""]

        def serve():
            while True:
                sock, _ = listener.accept()
                with sock:
                    if not sock.recv(100):
                        return
                    sock.sendall(answers[-1])

        thread = threading.Thread(target=serve)
        thread.start()
        yield answers.append
        socket.create_connection((IDENT_CLIENT, 113), timeout=10).close()
        thread.join()
        listener.close()


def test_05_an_ident_error_is_set_and_empty(beside, mode, tmp_path, ident_server):
    ident_server(b"1,2:ERROR:NO-USER\r\n")
    rules(tmp_path, b"@127.0.0.80:deny\n:allow\n")
    servers = beside(mode, ["-vHl0", "-t5", "-X", "-xrules.cdb"], env=INHERITED)
    assert same(servers, lambda server: server.ask(source=IDENT_CLIENT)) == b""
    os.unlink(tmp_path / "rules.cdb")
    assert b"TCPREMOTEINFO=" in same(servers, lambda server: variables(server, source=IDENT_CLIENT))
    assert "deny PID" in same(servers, lambda server: server.lines(2))


def test_06_what_is_unset_does_not_leak(beside, mode):
    shown = same(beside(mode, ["-HRl0"], env=INHERITED), variables)
    names = {line.partition(b"=")[0] for line in shown}
    assert not {b"TCPREMOTEHOST", b"TCPREMOTEINFO"} & names
    assert {b"RELAYCLIENT=kept", b"TCP6REMOTEIP=kept", b"SSLREMOTEIP=kept", b"TCPLOCALHOST=0"} <= set(shown)


ODD = """
import ctypes, os, shutil, sys
argv = [os.fsencode(word) for word in sys.argv[1:]]
environ = [b"%b=%b" % pair for pair in os.environb.items()] + [b"A=1", b"A=2", b"NOTHING"]
environ += [b"=nameless", b"PROTO=a", b"PROTO=b"]
vector = lambda words: (ctypes.c_char_p * (len(words) + 1))(*words, None)
ctypes.CDLL(None).execve(os.fsencode(shutil.which(sys.argv[1])), vector(argv), vector(environ))
"""


def test_06_an_odd_environment_does_no_harm(beside):
    """Different on purpose: what has no name or no value, and what stands there a second time, is not passed on."""
    odd = {b"=nameless", b"A=1", b"A=2", b"NOTHING", b"PROTO=b", b"PROTO=TCP"}
    servers = beside("spawn_each", ["-HRl0"], program=["env"], prefix=[sys.executable, "-c", ODD])
    theirs, ours = (odd & set(server.ask().split(b"\n")) for server in servers)
    assert theirs == odd
    assert ours == {b"A=1", b"PROTO=TCP"}


# --- 8, 9: numbers, and rights

LENIENT = [
    # options         the first line
    (["-c", "3x"],    "status: 0/3"),
    (["-c", "+3"],    "status: 0/0"),
    (["-c", "abc"],   "status: 0/0"),
    (["-c", ""],      "status: 0/0"),
    (["-b", "abc"],   "status: 0/40"),
    (["-b", "9x"],    "status: 0/40"),
    (["-t", "x"],     "status: 0/40"),
]  # fmt: skip


@pytest.mark.parametrize("options, first", LENIENT, ids=[" ".join(options) for options, _ in LENIENT])
def test_08_numbers_are_what_stands_at_the_start(beside, options, first):
    servers = beside("spawn_each", ["-vHRl0", *options])
    for server in servers:
        server.wait_for(b"\n")
        if first == "status: 0/0":
            with server.connect() as sock:  # which the kernel takes
                assert not select.select([sock], [], [], 0)[0]
                assert server.stop() == 0
        else:
            assert server.ask()
    assert same(servers, lambda server: server.text.split(b"\n")[0].decode()) == f"tcpserver: {first}"


ODD_NUMBERS = [
    # options, environment, what is said; of what is read as the number that stands there nothing
    (["-c", "abc"], {}, ["-c abc is read as 0", "a limit of 0: no connection is accepted"]),
    (["-c", "0"], {}, ["a limit of 0: no connection is accepted"]),
    (["-c", "12x"], {}, ["-c 12x is read as 12"]),
    (["-c", "012"], {}, []),
    (["-b", "-5"], {}, ["-b -5 is read as 0"]),
    (["-t", "x\x07y"], {}, ["-t x?y is read as 0"]),
    (["-t", "99999999"], {}, ["-t 99999999 is read as 86400"]),
    (["-g", "0x"], {}, ["-g 0x is read as 0"]),
    (["--drain", "9" * 12], {}, ["--drain 999999999999 is read as 86400"]),
    ([], {"MAXCONNIP": "5k", "MAXLOAD": "800"}, ["MAXCONNIP=5k is read as 5"]),
    ([], {"MAXCONNRATE": ""}, ["MAXCONNRATE= is read as 0"]),
    ([], {"MAXCONNIP": str(1 << 64)}, [f"MAXCONNIP={1 << 64} is read as 0"]),
    (["--per-address", "7"], {"MAXCONNIP": "x"}, []),
    (["-q", "-c", "abc"], {}, []),
]


@pytest.mark.parametrize("port", ["0", "65536"])
@pytest.mark.parametrize("options, environ, said", ODD_NUMBERS)
def test_08_but_what_is_read_as_another_number_is_said(options, environ, said, port):
    process = subprocess.Popen(
        [*OURS, "-1RHl0", *options, "127.0.0.1", port, "true"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": PATH, **environ},
    )
    assert process.stdout.readline().strip().isdigit()
    lines = [process.stderr.readline() for _ in range(len(said) + (port != "0" and "-q" not in options))]
    process.terminate()
    lines += process.stderr.read().splitlines(True)
    process.communicate(timeout=20)
    expected = [f"tcpserver: warning: {text}\n".encode() for text in said]
    if port != "0" and "-q" not in options:
        expected.append(b"tcpserver: warning: port 65536 is read as 0\n")
    assert sorted(lines) == sorted(expected)


@pytest.mark.parametrize(
    "options", [["-u", "nobody"], ["-g", "qmail"], ["-u", ""], ["-u", "-1"], ["-u", "4294967296"], ["-U"]]
)
def test_08_but_a_name_does_not_leave_us_root(options):
    """Different on purpose: the original stays root."""
    environ = {"PATH": PATH, "UID": "nobody"}
    done = subprocess.run([*OURS, *options, "0", "0", "true"], capture_output=True, env=environ, timeout=30)
    assert done.returncode == 100
    assert re.match(rb"tcpserver: not a number: [^\n]*\ntcpserver: usage: [^\n]*\n$", done.stderr)


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
def test_an_identity_from_the_environment_that_becomes_another_is_said():
    environ = {"PATH": PATH, "UID": "7x", "GID": "8 9"}
    process = subprocess.Popen([*OURS, "-UHRl0", "127.0.0.1", "0", "true"], stderr=subprocess.PIPE, env=environ)
    said = sorted(process.stderr.readline() for _ in range(2))
    process.terminate()
    process.communicate(timeout=20)
    assert said == [b"tcpserver: warning: $GID 8 9 is read as 8\n", b"tcpserver: warning: $UID 7x is read as 7\n"]


RIGHTS = [
    # options             environment                 uid   gid  groups
    (["-u34"],            {},                         34,   0,   "5 6"),
    (["-g12"],            {},                         0,    12,  "12"),
    (["-g12", "-u34x"],   {},                         34,   12,  "12"),
    (["-g0", "-u34"],     {},                         34,   0,   "5 6"),
    (["-g12", "-u0"],     {},                         0,    12,  "12"),
    (["-U"],              {"UID": "34", "GID": "12"}, 34,   12,  "12"),
    (["-U"],              {"UID": "34"},              34,   0,   "5 6"),
    (["-u35", "-U"],      {"UID": "34"},              34,   0,   "5 6"),
    (["-U", "-u35"],      {"UID": "34"},              35,   0,   "5 6"),
]  # fmt: skip
IDS = ["grep", "-E", "^(Uid|Gid|Groups):", "/proc/self/status"]


def ids_text(uid, gid, groups):
    return b"".join(
        b"%s:\t%s\n" % (name, text)
        for name, text in (
            (b"Uid", b"\t".join([b"%d" % uid] * 4)),
            (b"Gid", b"\t".join([b"%d" % gid] * 4)),
            (b"Groups", groups.encode()),
        )
    )


@needs_root
@pytest.mark.parametrize("options, environ, uid, gid, groups", RIGHTS, ids=[f"{' '.join(r[0])} {r[1]}" for r in RIGHTS])
def test_09_one_group_or_the_old_ones(beside, options, environ, uid, gid, groups):
    wanted = ids_text(uid, gid, groups)
    for program in (IDS, ["argv0", "grep", *IDS]):  # as it is, and below a program of ours
        program = [*program]
        theirs, ours = (
            beside(
                "spawn_each",
                ["-HRl0", *options],
                program=[f"py{program[0]}", *program[1:]] if side and program[0] == "argv0" else program,
                env=environ,
                only=side,
                extra_groups=[5, 6],
            )[0]
            for side in (0, 1)
        )
        found = same((theirs, ours), lambda server: server.ask())
        assert found.replace(b" \n", b"\n") == wanted


@needs_root
def test_09_so_has_a_worker(beside):
    (server,) = beside("worker_pool", ["-HRl0", "-u34", "-g12"], only=1, extra_groups=[5, 6])
    with server.connect() as sock:
        assert sock.recv(100)
        (worker,) = children(server)
        with open(f"/proc/{worker}/status", "rb") as file:
            lines = [line.replace(b" \n", b"\n") for line in file if line.startswith((b"Uid", b"Gid", b"Groups"))]
        assert b"".join(lines) == ids_text(34, 12, "12")


def children(server):
    with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children", encoding="ascii") as file:
        return [int(pid) for pid in file.read().split()]


# --- 10, 12 to 17: what the program gets

CLOSED = ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"]


@pytest.mark.parametrize("closed", CLOSED)
def test_10_descriptors_that_are_closed_at_the_start(beside, mode, closed):
    """Different on purpose: the original closes its own listening socket, or logs into it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        (server,) = beside(
            mode,
            ["-vHRl0"],
            "ls /proc/self/fd; [ ! /proc/self/fd/0 -ef /proc/self/fd/2 ] && echo apart",
            host=f"fd:{listening.fileno()}",
            port=listening.getsockname()[1],
            port_word="-",
            prefix=["sh", "-c", f'exec "$@" {closed}', "sh"],
            only=1,
            pass_fds=[listening.fileno()],
        )
        server.is_told = "2>&-" not in closed
        for _ in range(2):
            shown = server.shown().split()
            assert shown[-1] == b"apart" or mode == "worker_pool"
            assert {b"0", b"1", b"2"} <= set(shown)
        if "2>&-" in closed:
            assert server.process.stderr.read() == b""
        assert server.stop() == 0


def test_12_term_leaves_connections_alone(beside, mode):
    for server in beside(mode, ["-HRl0"], "echo hello; read x; echo $x"):
        with server.connect() as sock, sock.makefile("rb") as replies:
            assert replies.readline()
            assert server.stop() == 0
            sock.sendall(b"NOOP\r\n")
            assert replies.readline() == (b"250 ok\r\n" if mode == "worker_pool" else b"NOOP\r\n")


PORT_OF_A_LISTENER = ["-1", "-HRl0", "127.0.0.1", "0", "true"]


@pytest.mark.parametrize("command", [THEIRS, OURS], ids=["theirs", "ours"])
def test_12_term_ends_it_before_the_first_connection_too(command):
    """The pipe for the port is full: the listener is there and waits."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write_end, bytes(4096))
    environ = {"PATH": PATH}
    server = subprocess.Popen([*command, *PORT_OF_A_LISTENER], stdout=write_end, stderr=subprocess.DEVNULL, env=environ)
    try:
        until(lambda: server.poll() is not None or waits_in_write(server.pid))
        server.terminate()
        assert server.wait(timeout=20) == 0
    finally:
        server.kill()
        server.wait()
        os.close(read_end)
        os.close(write_end)


def waits_in_write(pid):
    with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
        return "pipe_w" in file.read()


@pytest.mark.parametrize("attempt", range(3))
def test_12_and_just_after_the_port_is_told(beside, mode, attempt):
    for server in beside(mode, ["-HRl0"]):
        assert server.stop() == 0


IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD)
BLOCKED = (signal.SIGUSR2, signal.SIGALRM, signal.SIGCHLD)


def arrange_signals():
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)


@of_programs
def test_13_signals_are_as_the_original_passes_them(beside, mode):
    servers = beside(mode, ["-HRl0"], "exec grep Sig[BIC] /proc/self/status", preexec_fn=arrange_signals)

    def masks(server):
        found = {name: int(mask, 16) for name, mask in re.findall(rb"(Sig...):\t(\S+)", server.ask())}
        # signals 32 and 33 are the C library's own: posix_spawn leaves them ignored, here or in whoever started us
        found[b"SigIgn"] &= 0x7FFFFFFF
        return found

    shown = same(servers, masks)
    assert shown[b"SigIgn"] == sum(1 << (number - 1) for number in (1, 2, 10))
    assert shown[b"SigBlk"] == sum(1 << (number - 1) for number in (12, 14))


def test_14_inherited_descriptors_reach_the_program(beside, mode):
    script = "ls /proc/$$/fd; head -1 <&5; cat <&7"
    servers = beside(mode, ["-HRl0"], script, prefix=["sh", "-c", 'exec "$@" 5</etc/passwd 7</etc/hostname', "sh"])
    shown = same(servers, lambda server: server.shown())
    with open("/etc/passwd", "rb") as file:
        assert file.readline() in shown


@of_programs
def test_15_the_socket_is_blocking(beside, mode):
    script = (
        "cat /proc/self/fdinfo/0 /proc/self/fdinfo/1 | grep flags; [ /proc/self/fd/0 -ef /proc/self/fd/1 ]; echo $?"
    )
    assert same(beside(mode, ["-HRl0"], f"read x <&0; {script}"), lambda server: server.ask(b"x\n")).endswith(b"\n0\n")


def test_16_each_line_is_in_one_write(beside, mode):
    """Descriptor 2 keeps the borders of what is written."""
    lines = rb"(tcpserver: (status: \d+/40|pid \d+ from 127\.0\.0\.1|ok \d+ 0:\S+ \S+|end \d+ status \d+)\n)+"
    count = 20
    for side in (0, 1):
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with here, there:
            here.settimeout(30)
            (server,) = beside(mode, ["-vHRl0"], "exit 0", only=side, stderr=there, preexec_fn=None)
            clients = [server.connect() for _ in range(count)]
            for client in clients:
                client.shutdown(socket.SHUT_WR)
            ended = 0
            while ended < count:
                data = here.recv(65536)
                assert re.fullmatch(lines, data), data
                ended += data.count(b"tcpserver: end ")
            for client in clients:
                client.close()


def furnish_path(place):
    """Make folders with a `prog` that works (good) and with those that do not."""
    contents = {
        "good": b"#!/bin/sh\necho good $TCPLOCALIP\n",
        "bad-format": b"echo no interpreter line\n",
        "bad-interpreter": b"#!/no/where\n",
        "not-executable": b"#!/bin/sh\necho never\n",
    }
    for name, content in contents.items():
        (place / name).mkdir()
        (place / name / "prog").write_bytes(content)
        (place / name / "prog").chmod(0o644 if name == "not-executable" else 0o755)
    (place / "directory/prog").mkdir(parents=True)
    (place / "loop").mkdir()
    os.symlink("prog", place / "loop/prog")
    (place / "empty").mkdir()
    (place / "file").touch()


SEARCHES = [
    # PATH                            program
    ("good",                          "prog"),
    ("empty:good",                    "prog"),
    ("file:good",                     "prog"),
    ("loop:good",                     "prog"),
    ("not-executable:good",           "prog"),
    ("not-executable:empty",          "prog"),
    ("not-executable:file:good",      "prog"),
    ("directory:good",                "prog"),
    ("directory:empty",               "prog"),
    ("bad-format:good",               "prog"),
    ("bad-interpreter:good",          "prog"),
    ("bad-interpreter:empty",         "prog"),
    ("empty::good",                   "script"),
    ("",                              "script"),
    ("empty:",                        "script"),
    ("empty",                         "good/prog"),
    ("good",                          "file/prog"),
    ("good",                          "directory/prog"),
    ("good",                          "./not-executable/prog"),
    ("good",                          "p" * 300),
    ("/" + "d" * 300 + ":good",       "prog"),
    (None,                            "true"),
    (None,                            "prog"),
]  # fmt: skip


@pytest.mark.parametrize("how", ["spawn_each", "fork_each", "chain"])
@pytest.mark.parametrize("path, program", SEARCHES, ids=[f"{path} {program}"[:40] for path, program in SEARCHES])
def test_17_the_program_is_searched_as_the_original_does(tmp_path, beside, how, path, program):
    furnish_path(tmp_path)
    (tmp_path / "script").write_bytes(b"#!/bin/sh\necho script\n")
    (tmp_path / "script").chmod(0o755)
    environ = {} if path is None else {"PATH": path}
    banner = ["-B", "x" * 5000] if how == "fork_each" else []  # too long for the listener itself to write
    chain = [[shutil.which("envdir"), "no-variables"], [f"{ROOT}/bin/pyenvdir", "no-variables"]]
    found = []
    for side, command in enumerate(([shutil.which("tcpserver")], OURS)):
        words = [*(chain[side] if how == "chain" else []), program]
        (server,) = beside(
            "spawn_each", ["-vHRl0", *banner], program=words, only=side, env_exactly=environ, command=command
        )
        found.append((server.ask(), server.lines()))
    assert found[0] == found[1]


@of_programs
def test_17_a_rules_path_is_not_searched(tmp_path, beside, mode):
    furnish_path(tmp_path)
    rules(tmp_path, b':allow,PATH="good"\n')
    for program in ("prog", "printenv"):
        wrapped = [["envdir", "no-variables", program], ["pyenvdir", "no-variables", program]]
        found = []
        for side in (0, 1):
            words = wrapped[side] if mode == "fork_each" else [program]
            (server,) = beside(mode, ["-vHRl0", "-xrules.cdb"], program=words, only=side)
            found.append((re.sub(rb"PORT=\d+", b"", server.ask()), server.lines()))
        assert found[0] == found[1]


# --- 18, 19: rules


def test_18_rules_are_read_for_each_connection(beside, mode, tmp_path):
    rules(tmp_path, b':allow,RULE="1"\n')
    servers = beside(mode, ["-vHRl0", "-x", "rules.cdb"])
    assert b"RULE=1" in same(servers, variables)
    rules(tmp_path, b':allow,RULE="2"\n')  # which renames
    assert b"RULE=2" in same(servers, variables)
    rules(tmp_path, b":deny\n")
    assert same(servers, lambda server: server.ask()) == b""
    os.unlink(tmp_path / "rules.cdb")
    assert same(servers, lambda server: server.ask()) == b""
    rules(tmp_path, b':allow,RULE="3"\n', "other.cdb")
    os.symlink("other.cdb", tmp_path / "rules.cdb")
    assert b"RULE=3" in same(servers, variables)
    same(servers, lambda server: server.lines(5))


NO_RULES = [
    # path                 what is made                           with -X
    ("rules.cdb",          lambda place: None,                    True),
    ("no/rules.cdb",       lambda place: None,                    True),
    ("file/rules.cdb",     lambda place: (place / "file").touch(), False),
    ("loop",               lambda place: os.symlink("loop", place / "loop"), False),
    ("nowhere",            lambda place: os.symlink("no/where", place / "nowhere"), True),
    ("r" * 300,            lambda place: None,                    False),
    ("",                   lambda place: None,                    True),
]  # fmt: skip


@pytest.mark.parametrize("path, make, is_forgiven", NO_RULES, ids=[row[0][:20] for row in NO_RULES])
def test_19_only_a_file_that_is_not_there_is_forgiven(beside, mode, tmp_path, path, make, is_forgiven):
    make(tmp_path)
    for option in ("-X", "-v"):
        servers = beside(mode, ["-vHRl0", option, "-x", path])
        shown = same(servers, variables)
        assert bool(shown) == (is_forgiven and option == "-X")
        lines = same(servers, lambda server: server.lines())
        assert shown or f"dropping connection, unable to read {path}: " in lines


# --- 25, 26, 32, 33: names and addresses


def test_25_look_ups_are_done_one_after_the_other(well_known_name_server, beside, mode):
    names = well_known_name_server
    names.zone[b"1.0.0.127.in-addr.arpa", names.PTR] = [names.name(b"Here.Example")]
    names.zone[b"80.0.0.127.in-addr.arpa", names.PTR] = [names.name(b"Client.Example")]
    names.zone[b"client.example", names.A] = [socket.inet_aton(IDENT_CLIENT)]
    environ = {"DNSCACHEIP": "127.0.0.79", "DNSREWRITEFILE": "/dev/null"}

    def found(server):
        names.asked.clear()
        shown = variables(server, source=IDENT_CLIENT)
        return shown, [name for name, _ in names.asked]

    shown, asked = same(beside(mode, ["-vRp"], env=environ), found)
    assert asked == [b"1.0.0.127.in-addr.arpa", b"80.0.0.127.in-addr.arpa", b"client.example"]
    assert {b"TCPLOCALHOST=here.example", b"TCPREMOTEHOST=client.example"} <= set(shown)
    _, asked = same(beside(mode, ["-vHRl0"], env=environ), found)
    assert asked == []


def test_26_host_0_is_ipv4(beside):
    for server in beside("spawn_each", ["-HRl0"], host="0"):
        assert b"TCPLOCALIP=127.0.0.1\n" in server.ask()
        with socket.socket(socket.AF_INET6) as sock:
            assert sock.connect_ex(("::1", server.port)) != 0


@pytest.mark.parametrize("option", ["-o", "-O"])
def test_32_ip_options_are_no_reason_to_drop_a_connection(beside, mode, option):
    assert b"PROTO=TCP" in same(beside(mode, ["-HRl0", option]), variables)
    try:
        (server,) = beside(mode, ["-HRl0", option], host="::1", only=1)
    except AssertionError as error:
        if b"address" in error.args[0]:
            pytest.skip("needs IPv6")
        raise
    assert b"PROTO=TCP6" in variables(server, source="::1", host="::1")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


PORTS = [
    # word, %d is a free port     what is listened on: None that port, 0 any
    ("%d",                        None),
    ("00000%d",                   None),
    ("+65536",                    None),
    ("0",                         0),
    ("",                          0),
    ("00",                        0),
    ("65536",                     0),
    ("131072",                    0),
]  # fmt: skip


@pytest.mark.parametrize("word, port", PORTS, ids=[word for word, _ in PORTS])
def test_33_port_words_are_modulo_65536(beside, word, port):
    for side in (0, 1):
        free = free_port()
        words = str(65536 + free) if word == "+65536" else word.replace("%d", str(free))
        (server,) = beside("spawn_each", ["-HRl0"], port_word=words, only=side)
        assert port == 0 or server.port == free
        assert b"TCPLOCALPORT=%d\n" % server.port in server.ask()
        server.stop()


@needs_root
@pytest.mark.parametrize("words, port", [(["domain"], 53), (["53"], 53), (["smtp"], 25), (["65561"], 25)])
def test_33_services_have_names(beside, words, port):
    with open(__file__, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for side in (0, 1):
            (server,) = beside("spawn_each", ["-HRl0", "--"], host="127.0.0.81", port_word=words[0], only=side)
            assert server.port == port
            assert b"TCPLOCALPORT=%d\n" % port in server.ask(host="127.0.0.81")
            assert server.stop() == 0


# --- 34 to 37


@pytest.mark.parametrize("blocked", [(), (signal.SIGTERM,)], ids=["free", "blocked"])
def test_34_at_the_limit_term_works(beside, mode, blocked):
    """The original waits there with every signal free, even those that were blocked at its start."""

    def block():
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)

    for server in beside(mode, ["-vHRl0", "-c1"], "echo hello; read x; echo $x", preexec_fn=block):
        with server.connect() as sock, sock.makefile("rb") as replies:
            assert replies.readline()
            with server.connect():
                assert server.stop() == 0
            sock.sendall(b"NOOP\r\n")
            assert replies.readline() == (b"250 ok\r\n" if mode == "worker_pool" else b"NOOP\r\n")


def test_35_the_status_comes_before_the_pid(beside, mode):
    servers = beside(mode, ["-vHRl0"])
    for server in servers:
        server.shown()
    lines = same(servers, lambda server: server.lines()).split("\n")
    words = [" ".join(line.split()[1:3]) for line in lines if line]
    assert words == ["status: 0/40", "status: 1/40", "pid PID", "ok PID", "end PID", "status: 0/40"]


EVERY_BYTE = bytes(range(1, 256)).replace(b"\n", b"")


@pytest.mark.parametrize(
    "said", [EVERY_BYTE[:120], EVERY_BYTE[120:], b"ab\0cd", b"", b"x" * 255, b"x" * 300, b"a:b::c"]
)
def test_36_ident_answers_can_be_anything(beside, mode, ident_server, said):
    ident_server(b"1 , 2 : USERID : UNIX :" + said + b"\r\n")
    show = 'printf "%s" "$TCPREMOTEINFO" | od -An -v -tx1; echo ${TCPREMOTEINFO-unset}'
    servers = beside(mode, ["-vHl0", "-t9"], show)
    shown = same(servers, lambda server: server.shown(source=IDENT_CLIENT))
    wanted = said.translate(None, b" \t\r").partition(b"\0")[0][:257]
    assert wanted.hex().encode() in shown.replace(b" ", b"").replace(b"\n", b"")
    same(servers, lambda server: server.lines())


SILENT = [
    # arguments                                              exit code
    (["-q", "0", "0"],                                       100),
    (["-q", "0"],                                            100),
    (["-q"],                                                 100),
    (["-q", "0", "nosuchport", "true"],                      111),
    (["-q", "127.1", "0", "true"],                           111),
    (["-q", "192.0.2.1", "0", "true"],                       111),
    (["-Qq", "192.0.2.1", "0", "true"],                      111),
    (["-qQ", "192.0.2.1", "0", "true"],                      111),
    (["-qv", "192.0.2.1", "0", "true"],                      111),
    (["-q", "-Z", "0", "0", "true"],                         100),
    (["-q", "-c"],                                           100),
]  # fmt: skip


@pytest.mark.parametrize("arguments, code", SILENT, ids=[" ".join(row[0]) for row in SILENT])
def test_37_q_silences_all_but_option_errors(arguments, code):
    found = []
    for command in (THEIRS, OURS):
        environ = {"PATH": PATH}
        done = subprocess.run([*command, *arguments], capture_output=True, timeout=30, env=environ)
        found.append((done.returncode, done.stdout, done.stderr.replace(b"pytcpserver: ", b"tcpserver: ")))
    assert found[0] == found[1]
    assert found[0][0] == code


def test_37_q_silences_what_happens_to_connections(beside, mode, tmp_path):
    os.symlink("rules.cdb", tmp_path / "rules.cdb")
    servers = beside(mode, ["-qHRl0", "-xrules.cdb"], 'echo "it is mine" >&2')
    for server in servers:
        assert server.ask() == b""
        os.unlink(tmp_path / "rules.cdb")
        rules(tmp_path, b":allow\n")
        server.shown()
        assert mode == "worker_pool" or server.wait_for(b"it is mine\n") is None
        assert server.stop() == 0
        os.unlink(tmp_path / "rules.cdb")
        os.symlink("rules.cdb", tmp_path / "rules.cdb")
    assert same(servers, lambda server: server.text + server.process.stderr.read()) in (b"it is mine\n", b"")


@of_programs
def test_37_not_even_a_program_that_is_missing_is_told(beside, mode):
    program = [["nonesuch"], ["nonesuch"]]
    if mode == "fork_each":
        program = [["argv0", "nonesuch"], ["pyargv0", "nonesuch"]]
    for side in (0, 1):
        (server,) = beside(mode, ["-qHRl0"], program=program[side], only=side)
        assert server.ask() == b""
        assert server.stop() == 0
        assert server.process.stderr.read().count(b"\n") == (mode == "fork_each")
