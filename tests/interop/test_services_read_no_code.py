"""A service that runs opens no file of ours, nor of the interpreter's library: seen with strace
while mail comes and goes.

And an account that cannot read them is served all the same, for they are read before rights are given up.
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile

import pytest

from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SECONDS = 60
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can change ids")
LIBRARIES = tuple({sysconfig.get_path("stdlib"), os.path.dirname(os.__file__), sysconfig.get_path("purelib")})
# the library as the interpreter sees it once it has begun, and what is ours
CODE = (f"{ROOT}/pyqmail", *LIBRARIES)


class Traced:
    """Attaches strace to processes and all that they start, to see which files they look for."""

    def __init__(self, strace, place):
        self._strace, self._out, self._tracer = strace, place / "trace", None

    def attach(self, pids):
        words = [self._strace, "-f", "-e", "trace=%file", "-s", "4096", "-o", str(self._out)]
        self._tracer = subprocess.Popen([*words, *(f"-p{pid}" for pid in pids)], stderr=subprocess.PIPE, text=True)
        attached = 0
        while attached < len(pids):
            line = self._tracer.stderr.readline()
            assert line, "strace has ended"
            attached += "attached" in line

    def code(self):
        """Stop; return the paths below CODE that were looked for."""
        self._tracer.send_signal(signal.SIGINT)
        self._tracer.communicate(timeout=SECONDS)
        text = self._out.read_text(errors="replace")
        assert text  # something was seen
        paths = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
        return sorted({path for path in paths if path.startswith(CODE)})


def test_a_whole_system_reads_no_code_while_it_works(strace_path, system, smtp_peer, tmp_path):
    """Local and remote delivery, a program, a forward, a bounce, what a client does wrong, HUP, ALRM and the end."""
    system.control("smtproutes", smtp_peer.route())
    system.start_queue()
    system.start_smtp()
    system.start_sender()
    with open(f"{system.home.alias}/.qmail-run", "w") as file:
        file.write("|cat >/dev/null\n&demo@here.example\n")
    for name in ("pyresolve", "pyrspawn", "pysmtpd"):  # they do so when they have begun
        until(lambda name=name: all(map(is_without_privileges, system.pids(name))) and system.pids(name))
    traced = Traced(strace_path, tmp_path)
    traced.attach(system.pids())
    data = b"Subject: x\r\n\r\nhello\r\n"
    for to in (b"demo@here.example", b"bob@remote.example", b"run@here.example", b"nobody@here.example"):
        system.mail(b"demo@here.example", [to], data)
    with system.client() as client:
        client.say(b"HELP\r\n", b"214")
        client.say(b"MAIL FROM:<x@[127.0.0.1]>\r\n")
        client.say(b"RCPT TO:<y@[127.0.0.1]>\r\n")
        client.say(b"BOGUS\r\n", b"502")
    system.log.find(rb"end msg [0-9]+\n", 5)
    system.sender.send_signal(signal.SIGHUP)
    system.sender.send_signal(signal.SIGALRM)
    system.mail(b"demo@here.example", [b"demo@here.example"], data)
    system.log.find(rb"end msg [0-9]+\n", 6)
    system.stop_sender()
    assert system.stop(system.queue) == 0
    system.smtp.terminate()
    system.smtp.wait(SECONDS)
    assert traced.code() == []


@pytest.fixture
def place():
    """A folder that everybody can reach."""
    with tempfile.TemporaryDirectory(prefix="pyq", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


@pytest.fixture
def unreadable(tmp_path):
    """A folder of root's with an interpreter, our package and starters that nobody else can read: its bin."""
    folder = tmp_path / "for root"
    folder.mkdir(mode=0o700)
    for name in ("bin", "pyqmail"):
        shutil.copytree(f"{ROOT}/{name}", folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True, timeout=SECONDS)
    (library,) = (folder / ".venv/lib").glob("python*/site-packages")
    import click

    (library / "others.pth").write_text(os.path.dirname(os.path.dirname(click.__file__)) + "\n")
    return folder / "bin"


def served(process):
    """Return what the first session gets from a server that prints its port."""
    port = int(process.stdout.readline())
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as sock:
        sock.sendall(b"QUIT\r\n")
        text = b""
        while piece := sock.recv(4096):
            text += piece
    return text


NOBODY = ["-u", "65534", "-g", "65534"]


@as_root
@pytest.mark.parametrize("workers", ["1", "0"])
@pytest.mark.parametrize(
    "chain",
    [[], ["pyargv0", "pysmtpd"], ["pyrecordio"], ["pyfixcrio"], ["pyrblsmtpd", "-r", "list.test"]],
    ids=" ".join,
)
def test_a_server_whose_user_cannot_read_it(unreadable, place, workers, chain):
    (place / "control").mkdir()
    (place / "control/me").write_text("here.example\n")
    environ = {"PATH": f"{unreadable}:/usr/bin:/bin", "PYQMAIL_HOME": str(place), "PYQMAIL_DNS": "127.0.0.1:1"}
    words = [unreadable / "pytcpserver", "-1", "-vRHl0", *NOBODY, "--workers", workers, "127.0.0.1", "0", *chain]
    words.append("pysmtpd")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ) as process:
        try:
            text = served(process)
            process.terminate()
            said = process.communicate(timeout=SECONDS)[1]
        finally:
            process.kill()
        assert re.fullmatch(rb"220 here\.example ESMTP\r\n221 here\.example\r\n", text), (text, said)
        assert b"Traceback" not in said


@as_root
@pytest.mark.parametrize(
    "words", [["pymultilog", "t", "+*x*", "./main"], ["pysoftlimit", "-o50", "pymultilog", "./main"]], ids=" ".join
)
def test_a_logger_whose_user_cannot_read_it(unreadable, place, words):
    os.chown(place, 65534, 65534)
    environ = {"PATH": f"{unreadable}:/usr/bin:/bin"}
    done = subprocess.run(
        [unreadable / "pysetuidgid", "nobody", *words],
        input=b"a x\n", capture_output=True, cwd=place, env=environ, timeout=SECONDS,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert (place / "main/current").read_bytes().endswith(b"a x\n")


@as_root
def test_what_cannot_be_had_is_one_line_and_111(unreadable):
    """A foreign program that the account may not reach."""
    shutil.copy(shutil.which("true"), unreadable / "some-true")
    environ = {"PATH": f"{unreadable}:/usr/bin:/bin"}
    words = [unreadable / "pysetuidgid", "nobody", "some-true"]
    done = subprocess.run(words, capture_output=True, env=environ, timeout=SECONDS)
    assert done.returncode == 111
    assert re.fullmatch(rb"setuidgid: fatal: unable to run some-true: [^\n]*\n", done.stderr)


# who gives up the right to gain rights


def is_without_privileges(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(line.split()[1] for line in file if line.startswith("NoNewPrivs:")) == "1"


def test_what_never_changes_its_uid_gains_no_rights(system):
    system.start_queue()
    system.start_smtp()
    system.start_sender()
    for name in ("pyqueued", "pyrspawn", "pyresolve", "pysmtpd"):
        until(lambda name=name: all(map(is_without_privileges, system.pids(name))) and system.pids(name))
    for name in ("pylspawn", "pytcpserver"):  # become any user; run whatever they are given
        assert not any(map(is_without_privileges, until(lambda name=name: system.pids(name))))


@pytest.mark.parametrize("words, expected", [(["./main"], True), (["!cat", "./main"], False)])
def test_a_logger_does_unless_it_runs_a_processor(tmp_path, words, expected):
    words = [sys.executable, f"{ROOT}/bin/pymultilog", *words]
    with subprocess.Popen(words, stdin=subprocess.PIPE, cwd=tmp_path) as process:
        until(lambda: os.path.exists(tmp_path / "main/lock"))
        assert is_without_privileges(process.pid) == expected
        process.stdin.close()


@pytest.mark.parametrize("where", ["environment", "rules"])
def test_a_queue_program_keeps_its_set_id_bit(system, where, tmp_path, run):
    """The original's is set-id."""
    options = ("-v", "-R", "-H", "-lhere.example")
    if where == "environment":
        system.environ["QMAILQUEUE"] = "/nowhere/qmail-queue"
    else:
        rules = str(tmp_path / "rules.cdb")
        assert run("pytcprules", rules, f"{rules}.tmp", input=b':allow,QMAILQUEUE="/nowhere/qmail-queue"\n').code == 0
        options += ("-x", rules)
    system.start_smtp(options=options)
    with system.client() as client:  # it serves: what it gives up at the start it has given up
        client.say(b"NOOP\r\n")
        assert not any(map(is_without_privileges, until(lambda: system.pids("pysmtpd"))))
