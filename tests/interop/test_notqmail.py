"""Mixed with an installed notqmail: its queue manager over our agents, ours over its, and a queue that changes hands.

NOTQMAIL names its home (the compiled-in one).  Each program sees a copy of it there, in a mount namespace of its own;
the home itself is not touched.  Needs root, qmail's users (their homes are not looked at), and a checkout that others
can read.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from pyqmail.system.home import Home
from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOME = os.environ.get("NOTQMAIL", "")
NAMESPACE = 'mount --bind "$0" "$1" && shift && exec "$@"'
NOBODY = 65534
FIRST = {"theirs": "qmail-start", "ours": "pystart"}

# the name under which a starter looks for a part in PATH -> what it finds there
OUR_AGENTS = {f"qmail-{part}": f'{sys.executable} {ROOT}/bin/py{part} "$@"' for part in ("lspawn", "rspawn", "clean")}
THEIR_AGENTS = {
    "pylspawn": f'{HOME}/bin/qmail-lspawn "$2"',  # $1 is --exec
    "pyrspawn": f"{HOME}/bin/qmail-rspawn",
    "pyclean": f"{HOME}/bin/qmail-clean",
}

pytestmark = pytest.mark.skipif(
    not HOME or os.getuid() != 0, reason="NOTQMAIL names no installed notqmail, or not root"
)


@pytest.fixture
def mixed(make_system, smtp_peer, tmp_path):
    """A System in a copy of the installed home; it has user demo and routes all mail to smtp_peer."""
    copy = f"{tmp_path}/home"
    subprocess.run(["cp", "-a", f"{HOME}/.", copy], check=True)
    for folder in ("pid", "intd", "todo", "bounce", "mess", "info", "local", "remote"):
        for place, _, names in os.walk(f"{copy}/queue/{folder}"):
            for name in names:
                os.unlink(f"{place}/{name}")
    shutil.rmtree(f"{copy}/control")
    for folder in (
        "control",
        "mix",
        "demo",
        "nobody",
        *(f"demo/Maildir{part}" for part in ("", "/tmp", "/new", "/cur")),
    ):
        os.mkdir(f"{copy}/{folder}")
    for place in (
        "nobody",
        *(f"demo{part}" for part in ("", "/Maildir", "/Maildir/tmp", "/Maildir/new", "/Maildir/cur")),
    ):
        os.chown(f"{copy}/{place}", NOBODY, NOBODY)
    prefix = ("unshare", "-m", "sh", "-c", NAMESPACE, copy, HOME)
    environ = {
        "PYQMAIL_HOME": HOME,
        "MIXED": str(tmp_path),
        "PATH": f"{HOME}/mix:{ROOT}/bin:{HOME}/bin:{os.path.dirname(sys.executable)}:/usr/bin:/bin",
    }
    system = Mixed(make_system(Home(copy), environ, prefix), str(tmp_path))
    system.control("me", b"here.example\n")
    system.control("smtproutes", smtp_peer.route())
    with open(f"{copy}/users/assign", "w", encoding="ascii") as file:
        file.write(f"=demo:demo:{NOBODY}:{NOBODY}:{HOME}/demo:::\n+demo-:demo:{NOBODY}:{NOBODY}:{HOME}/demo:-::\n")
        file.write(f"+:alias:{NOBODY}:{NOBODY}:{HOME}/nobody:-::\n.\n")  # whatever the machine's alias has for a home
    assert system.run("qmail-newu").returncode == 0
    yield system
    system.close()


class Mixed:
    """A System whose programs are named as they come; parts() says what stands in PATH before them."""

    def __init__(self, system, mark):
        self.system, self._mark = system, f"MIXED={mark}\0".encode()
        self.control, self.queued, self.files = system.control, system.queued, system.files
        self._copy = system.home.path

    def run(self, *words, **how):
        return self.system.run(*words, **how)

    def parts(self, commands):
        for name, command in commands.items():
            with open(f"{self._copy}/mix/{name}", "w", encoding="ascii") as file:
                file.write(f"#!/bin/sh\nexec {command}\n")
            os.chmod(f"{self._copy}/mix/{name}", 0o755)

    def start(self, starter):
        words = [starter, "./Maildir/"] if starter == "qmail-start" else [starter, "--classic", "./Maildir/"]
        self.manager, self.log = self.system.says(*words)
        self.log.find(rb"^status: local 0/10 remote 0/20\n")

    def queue(self, program, sender, recipients, text):
        """Queue a message with qmail-queue or pyqueue."""
        message, envelope = os.pipe(), os.pipe()
        os.write(message[1], text)
        os.write(envelope[1], b"F%b\0%b\0" % (sender, b"".join(b"T%b\0" % one for one in recipients)))
        os.close(message[1])
        os.close(envelope[1])
        process = self.system.start(program, stdin=message[0], stdout=envelope[0])
        os.close(message[0])
        os.close(envelope[0])
        assert process.wait(30) == 0

    def arrived(self):
        """Return what is in the user's Maildir."""
        new = f"{self._copy}/demo/Maildir/new"
        found = []
        for name in os.listdir(new):
            with open(f"{new}/{name}", "rb") as file:
                found.append(file.read())
        return found

    def stop(self):
        self.manager.terminate()
        assert self.manager.wait(30) == 0
        return self.log.finish()

    def close(self):
        """Kill whatever of this home still runs."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as environ:
                if self._mark in environ.read():
                    os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("program", ["qmail-queue", "pyqueue"])
@pytest.mark.parametrize("starter, agents", [("qmail-start", OUR_AGENTS), ("pystart", THEIR_AGENTS), ("pystart", {})])
def test_one_manager_over_the_agents_of_the_other(mixed, smtp_peer, starter, agents, program):
    mixed.parts(agents)
    mixed.start(starter)
    mixed.queue(
        program,
        b"demo@here.example",
        [b"demo@here.example", b"bob@far.example", b"nobody.such@here.example"],
        b"Subject: x\n",
    )
    until(lambda: len(mixed.arrived()) == 2 and not mixed.files())
    ((commands, data),) = smtp_peer.mails
    assert b"RCPT TO:<bob@far.example>" in commands and data.endswith(b"\r\nSubject: x\r\n")
    mail, bounce = sorted(mixed.arrived(), key=len)
    received = rb"Received: \(qmail [0-9]+ invoked by uid 0\); [^\n]* -0000\n"
    assert re.fullmatch(
        rb"Return-Path: <demo@here.example>\nDelivered-To: demo@here.example\n" + received + rb"Subject: x\n", mail
    )
    assert (
        bounce.startswith(b"Return-Path: <>\nDelivered-To: demo@here.example\nReceived: (qmail ")
        and b" invoked for bounce); " in bounce
    )
    assert b"\n<nobody.such@here.example>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n---" in bounce
    log = mixed.stop()
    for line in (
        rb"\nnew msg [0-9]+\ninfo msg [0-9]+: bytes [0-9]+ from <demo@here.example> qp [0-9]+ uid 0\n",
        rb"\ndelivery [0-9]: success: did_1\+0\+0/\n",
        rb"\ndelivery [0-9]: failure: Sorry,_no_mailbox_here_by_that_name._\(#5.1.1\)/\n",
        rb"\ndelivery [0-9]: success: 127.0.0.1_accepted_message./Remote_host_said:_250_ok_1/\n",
        rb"\nbounce msg [0-9]+ qp [0-9]+\n",
    ):
        assert re.search(line, log), (line, log)
    assert log.count(b"\nend msg ") == 2 and log.endswith(b"status: exiting\n")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("first, second", [("qmail-start", "pystart"), ("pystart", "qmail-start")])
def test_a_queue_changes_hands(mixed, smtp_peer, first, second, end):
    """One manager is ended, or killed, amid deliveries and with mail that nobody has seen; the other delivers all."""
    count = 6
    hung = [(b"S", b"421 busy\r\n")] if end == signal.SIGTERM else [(b"C", b"more than is ever said" * 1000)]
    smtp_peer.scripts += [hung] * count
    mixed.start(first)
    for number in range(count):
        recipients = [b"demo@here.example", b"bob%d@far.example" % number, b"nobody.such@here.example"]
        mixed.queue(("qmail-queue", "pyqueue")[number % 2], b"demo@here.example", recipients, b"Subject: %d\n" % number)
    mixed.log.find(rb": success: did_1\+0\+0/", count)
    mixed.log.find(rb": failure: Sorry", count)
    if end == signal.SIGTERM:
        mixed.log.find(rb": deferral: Connected", count)
    mixed.manager.send_signal(end)
    mixed.manager.wait(30)
    mixed.close()
    mixed.queue("qmail-queue", b"demo@here.example", [b"late@far.example"], b"Subject: late\n")
    smtp_peer.scripts.clear()
    mixed.start(second)
    mixed.log.find(rb"\ninfo msg ")  # it has read the queue
    mixed.manager.send_signal(signal.SIGALRM)
    until(lambda: len(smtp_peer.mails) >= count + 1 and not mixed.queued())
    told = {re.search(rb"RCPT TO:<(.*)>", commands)[1] for commands, _ in smtp_peer.mails}
    assert told == {b"late@far.example", *(b"bob%d@far.example" % number for number in range(count))}
    arrived = mixed.arrived()
    bounces = [mail for mail in arrived if b"\nHi. This is the qmail-send program" in mail]
    assert {mail[mail.rindex(b"Subject: ") :] for mail in bounces} == {
        b"Subject: %d\n" % number for number in range(count)
    }
    assert len(bounces) >= count and len(arrived) >= 2 * count
    mixed.stop()
