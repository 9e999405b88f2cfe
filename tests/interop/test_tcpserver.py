"""pytcpserver beside ucspi-tcp's tcpserver: the same command line, the same clients, the same lines.

Process numbers and ports are taken out of the lines; look-ups are only those that need no network.
"""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from tests.waiting import read_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [sys.executable, f"{ROOT}/bin/pytcpserver"]
THEIRS = ["tcpserver"]

pytestmark = pytest.mark.skipif(shutil.which("tcpserver") is None, reason="needs ucspi-tcp")


# ours says which numbers it read as others than they say
_ODD = re.compile(rb"^\w+: warning: (?:[^\n]* is read as [\d+]+|a limit of 0: no connection is accepted)\n", re.M)


class Running:
    """A server on a port of the kernel's choice.  lines: what it has written to descriptor 2 so far."""

    def __init__(self, command, arguments, cwd, env=None, host="127.0.0.1", **more):
        environ = {"PATH": os.environ["PATH"], "HOME": "/", **(env or {})}
        self.process = subprocess.Popen(
            [*command, "-1", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd, env=environ, **more
        )
        self.text = b""
        self.host = host
        port = self.process.stdout.readline()
        assert port, self.process.stderr.read()
        self.port = int(port)

    def connect(self):
        return socket.create_connection((self.host, self.port), timeout=20)

    def ask(self, data=b""):
        """Send data and, if there was any, a half close; return all that comes until the end."""
        with self.connect() as sock:
            if data:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            got = b""
            while piece := sock.recv(65536):
                got += piece
            return got

    def wait_for(self, mark, count=1):
        """Read lines until mark stands in them count times."""
        fd = self.process.stderr.fileno()
        self.text = read_until(fd, lambda text: text.count(mark) >= count, self.text)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=20)
        self.close()
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def lines(self):
        """Return the lines, processes' and sessions' numbers as PID, the ports as PORT and CLIENT."""
        text = _ODD.sub(b"", self.text).replace(b":%d " % self.port, b":PORT ")
        text = re.sub(rb"(pid|ok|deny|end) \d+", rb"\1 PID", text)
        return re.sub(rb":\d+\n", b":CLIENT\n", text).decode()


@pytest.fixture
def start(tmp_path):
    running = []

    def run(command, *arguments, **more):
        running.append(Running(command, arguments, tmp_path, **more))
        return running[-1]

    yield run
    for server in running:
        server.close()


def rules(tmp_path, source):
    subprocess.run(["tcprules", "rules.cdb", "rules.tmp"], input=source, cwd=tmp_path, check=True)


RULES = b"""127.0.0.1:allow,A="b",TCPREMOTEIP="changed",PROTO=/x=y/,NEW="1"
:deny
"""
DENY = b'127.:deny,A="b"\n'
EXIT7 = ["sh", "-c", "exit 7"]
KILLED = ["sh", "-c", "kill -9 $$"]
CASES = [
    # options                                program                    rules
    (["-vHRl0"],                             ["cat"],                   None),
    (["-vHR", "-l", "me:%here\tx"],          ["cat"],                   None),
    (["-vHR", "-l", ""],                     ["env"],                   None),
    (["-vHR", "-l", "x" * 99],               ["true"],                  None),
    (["-vHR", "-l", "x" * 100],              ["true"],                  None),
    (["-HRl0"],                              ["cat"],                   None),
    (["-qHRl0"],                             ["nonesuch"],              None),
    (["-HRl0"],                              ["nonesuch"],              None),
    (["-vHRl0"],                             ["/etc/passwd"],           None),
    (["-vHRl0"],                             ["./script"],              None),
    (["-vHRl0"],                             EXIT7,                     None),
    (["-vHRl0"],                             KILLED,                    None),
    (["-vHRl0", "-xrules.cdb"],              ["env"],                   RULES),
    (["-vHRl0", "-xrules.cdb"],              ["env"],                   DENY),
    (["-vHRl0", "-xrules.cdb", "-Bhello\r\n"], ["env"],                 DENY),
    (["-vHRl0", "-xrules.cdb"],              ["cat"],                   None),
    (["-HRl0", "-xrules.cdb"],               ["cat"],                   None),
    (["-vHRl0", "-Xxrules.cdb"],             ["env"],                   None),
    (["-vHRl0", "-Xx", "script/rules"],      ["cat"],                   None),
    (["-vHRl0", "-x", ""],                   ["env"],                   None),
    (["-vHRl0", "-Xx", ""],                  ["env"],                   None),
    (["-vHRDoB", "hello "],                  ["cat"],                   None),
    (["-vHl0", "-t5"],                       ["env"],                   None),
    (["-vHl0", "-t5", "-xrules.cdb"],        ["cat"],                   DENY),
    (["-vHl0"],                              ["nonesuch"],              None),
    (["-vHRl0", "-c3x"],                     ["sh", "-c", "ls /proc/$$/fd; pwd; umask; echo $0 $@", "a", "b c"], None),
    (["-vHRl0"],                             ["grep", "Sig[IBC]", "/proc/self/status"], None),
]  # fmt: skip
INHERITED = {
    "TCPREMOTEHOST": "stale", "TCPREMOTEINFO": "stale", "RELAYCLIENT": "kept", "TCPLOCALIP": "stale", "PROTO": "SSL",
    "A": "old", "Z": "last",
}  # fmt: skip


@pytest.mark.parametrize("options, program, source", CASES, ids=[" ".join([*c[0], *c[1]])[:50] for c in CASES])
def test_lines_answers_and_environment_are_the_originals(start, tmp_path, options, program, source):
    if source is not None:
        rules(tmp_path, source)
    (tmp_path / "script").write_text("echo no interpreter line\n")
    (tmp_path / "script").chmod(0o755)
    seen = []
    for command in (THEIRS, OURS):
        server = start(command, *options, "127.0.0.1", "0", *program, env=INHERITED)
        answers = []
        for data in (b"one", b"two\n"):
            # data that nobody reads would make the kernel reset the connection
            is_read = program == ["cat"] and not re.search("-X?x", " ".join(options))
            answer = server.ask(data if is_read else b"")
            answer = re.sub(rb"(REMOTEPORT|LOCALPORT)=\d+", rb"\1=N", answer)
            # signals 32 and 33 are the C library's own: posix_spawn leaves them ignored, here or in whoever started us
            answers.append(re.sub(rb"(Sig...:\t0000000)[01][08](?=0{7})", rb"\g<1>00", answer))
            if options[0].startswith("-v"):
                server.wait_for(b"tcpserver: end", len(answers))
                server.wait_for(b"tcpserver: status: 0/", len(answers) + 1)
        if not options[0].startswith(("-v", "-q")) and (program == ["nonesuch"] or "-xrules.cdb" in options):
            server.wait_for(b"\n", 2)
        seen.append((answers, server.lines(), server.process.poll(), server.stop()))
    assert seen[0] == seen[1]


USAGE = [
    [], ["127.0.0.1"], ["127.0.0.1", "0"], ["0", "nosuchport"], ["0", "nosuchport", "cat"], ["-z", "0", "0", "cat"],
    ["-vHR", "-c"], ["127.1", "0", "cat"], ["[1.2", "0", "cat"], ["0", "25x", "cat"], ["0", "-1", "cat"],
    ["-q", "0"], ["-q", "0", "nosuchport", "cat"], ["-qz"], ["-vl"], ["192.0.2.1", "0", "cat"],
    ["-Q", "300.0.2.1", "0", "x"],
]  # fmt: skip


def ended(command, *arguments):
    """Run a server that does not come up."""
    environ = {"PATH": os.environ["PATH"]}
    return subprocess.run([*command, *arguments], capture_output=True, timeout=60, env=environ)


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_a_wrong_command_line_ends_as_the_originals(arguments):
    seen = []
    for command in (THEIRS, OURS):
        done = ended(command, *arguments)
        seen.append((done.returncode, done.stdout, done.stderr.replace(b"pytcpserver: ", b"tcpserver: ")))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("host, port", [("0", "0"), ("", ""), ("127.000.000.001", "65536"), ("[127.0.0.1]", "0")])
def test_words_for_host_and_port(start, host, port):
    for command in (THEIRS, OURS):
        server = start(command, "-vHRl0", host, port, "sh", "-c", "echo $TCPLOCALIP")
        assert server.ask() == b"127.0.0.1\n"
        assert server.stop() == 0


def test_a_port_in_use_is_said_as_the_original_does(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command in (THEIRS, OURS):
            done = ended(command, "127.0.0.1", port, "cat")
            assert (done.returncode, done.stderr) == (111, b"tcpserver: fatal: unable to bind: address already used\n")


@pytest.mark.parametrize("command", [THEIRS, OURS])
def test_at_the_limit_clients_wait_and_term_still_works(start, command):
    server = start(command, "-vHRl0", "-c1", "127.0.0.1", "0", "cat")
    with server.connect() as first, server.connect() as second:
        second.sendall(b"hello")
        server.wait_for(b"ok ")
        assert not select.select([second], [], [], 0)[0]
        first.shutdown(socket.SHUT_WR)
        assert second.recv(10) == b"hello"
        assert server.stop() == 0
        second.sendall(b"still here")
        assert second.recv(100) == b"still here"  # whoever is connected goes on


def test_descriptors_that_are_missing_do_no_harm(start):
    server = start(OURS, "-HRl0", "127.0.0.1", "0", "cat", preexec_fn=lambda: os.close(0))
    assert server.ask(b"x") == b"x"


BURSTS = [
    # options                         program                       wait status
    (["-vHRl0"],                      ["sh", "-c", "echo $$; exit 3"], 768),
    (["-vHRl0"],                      ["nonesuch"],                 28416),
    (["-vHRl0", "-x", "rules.cdb"],   ["cat"],                      25600),
]  # fmt: skip


@pytest.mark.parametrize("options, program, wait_status", BURSTS, ids=lambda value: str(value))
def test_a_burst_is_shared_and_said_like_any_other(start, tmp_path, options, program, wait_status):
    """The listener is stopped while 30 clients connect: it finds them all at once and shares them with starters."""
    rules(tmp_path, b":deny\n")
    server = start(OURS, *options, "--workers", "3", "-c100", "-b100", "127.0.0.1", "0", *program)
    server.process.send_signal(signal.SIGSTOP)
    clients = [server.connect() for _ in range(30)]
    server.process.send_signal(signal.SIGCONT)
    said = [client.makefile("rb").read() for client in clients]
    server.wait_for(b"tcpserver: end ", 30)
    server.wait_for(b"tcpserver: status: 0/100\n", 2)
    children = open(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read().split()
    assert len(children) == 2  # the starters
    ended = re.findall(rb"end (\d+) status %d\n" % wait_status, server.text)
    for mark in (rb"pid (\d+) from 127.0.0.1\n", rb"(?:ok|deny) (\d+) 0:127.0.0.1:%d :127" % server.port):
        assert sorted(re.findall(mark, server.text)) == sorted(ended)
    assert len(set(ended)) == 30
    if wait_status == 768:
        assert sorted(ended) == sorted(line.strip() for line in said)
    if program == ["nonesuch"]:
        assert server.text.count(b"unable to run nonesuch: file does not exist\n") == 30
    for client in clients:
        client.close()
    assert server.stop() == 0


def test_inherited_descriptors_reach_the_program(start, tmp_path):
    (tmp_path / "data").write_text("seen")
    for command in (THEIRS, OURS):
        fd = os.open(tmp_path / "data", os.O_RDONLY)
        server = start(command, "-HRl0", "127.0.0.1", "0", "sh", "-c", f"cat /proc/self/fd/{fd}", pass_fds=[fd])
        os.close(fd)
        assert server.ask() == b"seen"


def test_rules_are_followed_as_soon_as_they_are_replaced(start, tmp_path):
    rules(tmp_path, b":allow\n")
    for command in (THEIRS, OURS):
        rules(tmp_path, b":allow\n")
        server = start(command, "-HRl0", "-x", "rules.cdb", "127.0.0.1", "0", "cat")
        assert server.ask(b"x") == b"x"
        rules(tmp_path, b":deny\n")
        assert server.ask() == b""
        (tmp_path / "rules.cdb").write_bytes(bytes(100))
        server.ask()
        server.wait_for(b"tcpserver: warning: dropping connection, unable to read rules.cdb: protocol error\n")


def test_rights_are_given_up(start):
    if os.getuid():
        pytest.skip("needs root")
    for command in (THEIRS, OURS):
        server = start(command, "-HRl0", "-g", "12", "-u", "34x", "127.0.0.1", "0", "sh", "-c", "id -u; id -g; id -G")
        assert server.ask() == b"34\n12\n12\n"
        environ = {"UID": "56", "GID": "78"}
        server = start(command, "-UHRl0", "127.0.0.1", "0", "sh", "-c", "id -u; id -g; id -G", env=environ)
        assert server.ask() == b"56\n78\n78\n"


def test_a_name_for_a_user_is_refused_rather_than_taken_as_root():
    done = ended(OURS, "-u", "nobody", "0", "0", "cat")
    assert done.returncode == 100
    assert done.stderr.startswith(b"tcpserver: not a number: nobody\ntcpserver: usage: ")
