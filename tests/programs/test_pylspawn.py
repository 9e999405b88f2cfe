"""pylspawn with real workers and real programs, in every dialect.

Untested: NFS, a full process table, LDAP.  Changing uids is tested when the tests run as root.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys

import pytest

from pyqmail.mail.local.delivery_tasks import report_for
from pyqmail.mail.local.users import compile_assign
from pyqmail.protocol.wires import native_dialect, stock_dialect
from pyqmail.system.cdb import write_cdb

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
USAGE = b"qmail-local: usage: qmail-local [ -nN ] user homedir local dash ext domain sender aliasempty\n"
SECONDS = 60
NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to change the uid")


class Manager:
    """The queue manager's end of one pylspawn: order(...) and report() -> (number, text)."""

    def __init__(self, home, default, options=(), command=None, env=None):
        self._dialect = (
            "native" if "--native" in options else stock_dialect.WIDE if "--wide" in options else stock_dialect.NARROW
        )
        self.process = subprocess.Popen(
            [*(command or [sys.executable, f"{ROOT}/bin/pylspawn"]), *options, default],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={
                "PATH": f"{ROOT}/bin:{os.path.dirname(sys.executable)}:/usr/bin:/bin",
                "PYQMAIL_HOME": home.path,
                **(env or {}),
            },
        )
        self._reports = (
            native_dialect.Unpacker() if self._dialect == "native" else stock_dialect.StockReports(self._dialect)
        )
        self._ready = []
        if self._dialect == "native":
            ((kind, self.limit, _),) = self._reports.receive(self._read(10))
            assert kind == native_dialect.HELLO
        else:
            self.limit = stock_dialect.limit_of(self._read(self._dialect))

    def order(self, number, recipient=b"joe@here.example", path=b"0/1", sender=b"s@x.example"):
        if self._dialect == "native":
            data = native_dialect.deliver(number, path, sender, [(number, recipient)])
        else:
            data = stock_dialect.command(number, path, sender, recipient, self._dialect)
        self.process.stdin.write(data)

    def report(self):
        while not self._ready:
            data = self._read(65536)
            assert data, "pylspawn has gone"
            found = self._reports.receive(data)
            self._ready += (
                [native_dialect.split_result(body)[:2] for _, _, body in found] if self._dialect == "native" else found
            )
        return self._ready.pop(0)

    def deliver(self, *arguments, **more):
        self.order(0, *arguments, **more)
        number, text = self.report()
        assert number == 0
        return text

    def is_silent(self):
        return not self._ready and not select.select([self.process.stdout], [], [], 0)[0]

    def close(self):
        """End the orders; returns the exit code and what else was reported."""
        self.process.stdin.close()
        rest = []
        while data := self._read(65536):
            found = self._reports.receive(data)
            rest += (
                [native_dialect.split_result(body)[:2] for _, _, body in found] if self._dialect == "native" else found
            )
        return self.process.wait(SECONDS), rest

    def _read(self, size):
        assert select.select([self.process.stdout], [], [], SECONDS)[0], "pylspawn says nothing"
        return os.read(self.process.stdout.fileno(), size)


@pytest.fixture
def tmp_path(open_path):
    """Others are at home here, too."""
    return open_path


@pytest.fixture
def place(home, tmp_path):
    """A private home with a message 0/1, and user joe with a Maildir in the directory `user`."""
    for folder in ("tmp", "new", "cur"):
        (tmp_path / "user/Maildir" / folder).mkdir(parents=True)
    os.chmod(tmp_path / "user", 0o755)
    home.user = tmp_path / "user"
    write_message(home, b"Subject: x\n\nhello\n")
    assign(
        home, f"=joe:joe:1:1:{home.user}:::\n+joe-:joe:1:1:{home.user}:-::\n=nowhere:joe:1:1:{tmp_path}/none:::\n.\n"
    )
    return home


def write_message(home, text):
    with open(f"{home.queue}/mess/0/1", "wb") as file:
        file.write(text)


def assign(home, text):
    """Make users/cdb, as pynewu does."""
    write_cdb(f"{home.users}/cdb", f"{home.users}/cdb.tmp", compile_assign(text.encode()))


@pytest.fixture
def start(place):
    """start(default, *options) -> Manager; what is still running at the end is killed."""
    with contextlib.ExitStack() as stack:

        def start_one(default, *options, **more):
            manager = Manager(more.pop("home", place), default, options, **more)
            stack.callback(manager.process.stdout.close)
            stack.callback(manager.process.stdin.close)
            stack.callback(manager.process.wait, SECONDS)
            stack.callback(manager.process.kill)
            return manager

        yield start_one


DIALECTS = [(), ("--wide",), ("--native",), ("--exec",)]


@pytest.mark.parametrize("options", DIALECTS)
def test_a_delivery_in_every_dialect(start, place, options):
    manager = start("./Maildir/\n|echo done", *options)
    assert manager.limit == 255 if options in ((), ("--exec",)) else manager.limit > 255
    assert manager.deliver() == b"Kdone\ndid 1+0+1\n"
    (name,) = os.listdir(place.user / "Maildir/new")
    head = b"Return-Path: <s@x.example>\nDelivered-To: joe@here.example\n"
    assert (place.user / "Maildir/new" / name).read_bytes() == head + b"Subject: x\n\nhello\n"
    assert manager.close() == (0, [])


ENDS = [
    # default delivery, recipient                       report
    ("./Maildir/", b"joe@here.example", b"Kdid 1+0+0\n"),
    ("./Maildir/", b"Joe@x@here.example", b"DSorry, no mailbox here by that name. (#5.1.1)\n"),
    ("./Maildir/", b"joe-x@here.example", b"DSorry, no mailbox here by that name. (#5.1.1)\n"),
    ("./Maildir/", b"nobody@here.example", b"DSorry, no mailbox here by that name. (#5.1.1)\n"),
    ("|exit 1", b"@here.example", b"K"),
    ("|exit 1", b"joe", b"DSorry, address must include host name. (#5.1.3)\n"),
    ("|echo no; exit 100", b"joe@h", b"Dno\n"),
    ("|echo wait; exit 111", b"joe@h", b"Zwait\n"),
    ("|echo what; exit 3", b"joe@h", b"Zwhat\n"),
    ("|printf 'a\\000b'; exit 100", b"joe@h", b"Da"),
    ("|head -c 3000 /dev/zero | tr '\\0' x; exit 100", b"joe@h", b"D" + b"x" * 3000),
    ("|head -c 90000 /dev/zero | tr '\\0' x", b"joe@h", b"K" + b"x" * 2966 + b"\nError report too long, sorry.\n"),
    ("|echo out; echo err >&2", b"joe@h", b"Kout\nerr\ndid 0+0+1\n"),
    ("\n", b"joe@h", b"ZUh-oh: first line of .qmail file is blank. (#4.2.1)\n"),
]


@pytest.mark.parametrize("options", [(), ("--exec",)])
@pytest.mark.parametrize("default, recipient, report", ENDS)
def test_reports(start, options, default, recipient, report):
    assert start(default, *options).deliver(recipient) == report


def test_no_home_is_a_deferral(start, tmp_path):
    text = f"ZUnable to switch to {tmp_path}/none: file does not exist. (#4.3.0)\n"
    assert start("./Maildir/").deliver(b"nowhere@h") == text.encode()


HOMES = [
    # home in users/assign, from {user} on             the report
    ("", b"D" + USAGE),
    ("home", b"D" + USAGE),
    ("../user", b"D" + USAGE),
    (".", b"D" + USAGE),
    ("./{user}", b"D" + USAGE),
    ("{user}", b"Kdid 1+0+0\n"),
    ("{user}/", b"Kdid 1+0+0\n"),
    ("/{user}", b"Kdid 1+0+0\n"),
    ("{user}/none", b"ZUnable to switch to {user}/none: file does not exist. (#4.3.0)\n"),
    ("{user}/file", b"ZUnable to switch to {user}/file: not a directory. (#4.3.0)\n"),
    ("{user}/loop", b"ZUnable to switch to {user}/loop: symbolic link loop. (#4.3.0)\n"),
    ("/" + 300 * "x", b"ZUnable to switch to /" + 300 * b"x" + b": file name too long. (#4.3.0)\n"),
    ("{user}/open", b"ZUh-oh: home directory is writable. (#4.7.0)\n"),
    ("{user}/sticky", b"ZHome directory is sticky: user is editing his .qmail file. (#4.2.1)\n"),
]


@pytest.mark.parametrize("options", DIALECTS)
@pytest.mark.parametrize("written, report", HOMES)
def test_odd_homes_in_users_assign(start, place, options, written, report):
    """A worker does what pylocal does, which is what qmail-local does."""
    (place.user / "file").touch()
    (place.user / "loop").symlink_to("loop")
    for name, mode in (("open", 0o777), ("sticky", 0o1755)):
        (place.user / name).mkdir()
        (place.user / name).chmod(mode)
    for folder in ("home", "user"):  # where a relative home could lead
        os.makedirs(f"{place.path}/{folder}/Maildir/new", exist_ok=True)
    assign(place, f"=joe:joe:1:1:{written.replace('{user}', str(place.user))}:::\n.\n")
    manager = start("./Maildir/", *options)
    assert manager.deliver() == report.replace(b"{user}", os.fsencode(place.user))


CODES = [
    (None, b"Zqmail-local crashed.\n"),
    (0, b"Ktext"),
    (100, b"Dtext"),
    (1, b"Dtext"),
    (111, b"Ztext"),
    (71, b"Ztext"),
    (74, b"Ztext"),
    (75, b"Ztext"),
    (112, b"ZInternal qmail-lspawn bug.\n"),
    (113, b"ZNot allowed to perform deliveries as root.\n"),
    (115, b"ZNFS failure in qmail-local.\n"),
    (116, b"ZUnable to find alias user!\n"),
    (117, b"ZTrouble reading users/cdb in qmail-lspawn.\n"),
    (118, b"ZTemporary failure in qmail-lspawn.\n"),
    (119, b"ZOut of memory in qmail-lspawn.\n"),
    (120, b"ZUnable to run qmail-local.\n"),
    (121, b"ZUnable to run qmail-getpw.\n"),
    (126, b"ZUnable to run qmail-local.\n"),
    (127, b"ZUnable to run qmail-local.\n"),
]


@pytest.mark.parametrize("code, report", CODES)
def test_what_exit_codes_mean(code, report):
    assert report_for(code, b"text\0more") == report


def test_one_worker_makes_delivery_after_delivery(start):
    manager = start("|echo $PPID")
    assert len({manager.deliver() for _ in range(5)}) == 1


def test_a_delivery_leaves_no_trace(start, place):
    (place.user / ".qmail-default").write_bytes(b"|cd /; umask 0; exec env -0\n")
    (place.user / ".qmail-x").write_bytes(b'|umask; pwd; echo "$DEFAULT"; echo $EXT2\n')
    manager = start("|readlink /proc/$PPID/cwd; ls /proc/$PPID/fd | tr '\\n' ' '", env={"DEFAULT": "inherited"})
    fresh = manager.deliver()
    assert b"DEFAULT=y-z" not in fresh
    manager.deliver(b"joe-y-z@h")
    assert manager.deliver(b"joe-x@h") == b"K0077\n%s\ninherited\n\ndid 0+0+1\n" % os.fsencode(place.user)
    # its own: null, null, null, socket, message, pipe
    assert manager.deliver() == fresh == b"K%s\n0 1 2 3 4 5 did 0+0+1\n" % os.fsencode(place.user)


def test_a_killed_worker_is_a_crash_and_the_next_does_better(start):
    manager = start("|test -e ok && echo fine || { touch ok; kill -9 $PPID; }")
    assert manager.deliver() == b"Zqmail-local crashed.\n"
    assert manager.deliver() == b"Kfine\ndid 0+0+1\n"


def test_an_idle_worker_that_is_killed_is_not_missed(start):
    manager = start("|echo $PPID")
    pid = int(manager.deliver()[1:].split()[0])
    fd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([fd], [], [], SECONDS)[0]
    os.close(fd)
    assert int(manager.deliver()[1:].split()[0]) != pid


@pytest.mark.parametrize("options", [(), ("--exec",)])
def test_a_background_process_holds_the_report(start, place, options):
    os.mkfifo(place.user / "gate")
    (place.user / ".qmail-x").write_bytes(b"|(read x < gate; echo late) & echo early\n")
    manager = start("|echo quick", *options)
    manager.order(1, b"joe-x@h")
    assert manager.deliver() == b"Kquick\ndid 0+0+1\n"
    assert manager.is_silent()
    with open(place.user / "gate", "w") as gate:
        gate.write("go\n")
    number, text = manager.report()
    assert number == 1 and sorted(text[1:].splitlines()) == [b"did 0+0+1", b"early", b"late"]


def test_slow_deliveries_do_not_wait_for_each_other(start, place):
    """Each of forty waits until all forty are there."""
    os.mkfifo(place.user / "here")
    os.mkfifo(place.user / "gate")
    here, gate = os.open(place.user / "here", os.O_RDWR), os.open(place.user / "gate", os.O_RDWR)
    manager = start("|echo x > here; head -c 1 gate > /dev/null")
    for number in range(40):
        manager.order(number)
    arrived = b""
    while len(arrived) < 80:
        assert select.select([here], [], [], SECONDS)[0], f"{len(arrived) // 2} of 40 came"
        arrived += os.read(here, 80)
    os.write(gate, b"g" * 40)
    assert {manager.report() for _ in range(40)} == {(number, b"Kdid 0+0+1\n") for number in range(40)}
    os.close(here)
    os.close(gate)


@pytest.mark.parametrize("size", [0, 50 << 20])
def test_messages_of_any_size(start, place, size):
    text = b"0123456789abcde\n" * (size // 16)
    write_message(place, text)
    assert start("./Maildir/\n./Mailbox").deliver() == b"Kdid 2+0+0\n"
    (name,) = os.listdir(place.user / "Maildir/new")
    assert (place.user / "Maildir/new" / name).read_bytes().endswith(b"Delivered-To: joe@here.example\n" + text)
    assert (place.user / "Mailbox").read_bytes().endswith(b"Delivered-To: joe@here.example\n" + text + b"\n")


def test_hundreds_of_deliveries(start, place):
    manager = start("./Maildir/", "--native")
    for number in range(500):
        manager.order(number)
    assert {manager.report() for _ in range(500)} == {(number, b"Kdid 1+0+0\n") for number in range(500)}
    assert len(os.listdir(place.user / "Maildir/new")) == 500
    assert os.listdir(place.user / "Maildir/tmp") == []


def test_a_changed_users_cdb_is_seen_by_the_next_delivery(start, place):
    manager = start("|echo $LOCAL")
    assert manager.deliver(b"jim@h").startswith(b"DSorry, no mailbox")
    assign(place, f"=jim:jim:1:1:{place.user}:::\n.\n")
    assert manager.deliver(b"jim@h") == b"Kjim\ndid 0+0+1\n"
    with open(f"{place.users}/cdb", "wb") as broken:
        broken.write(b"short")
    assert manager.deliver(b"jim@h") == b"ZTrouble reading users/cdb in qmail-lspawn.\n"
    os.unlink(f"{place.users}/cdb")
    assert manager.deliver(b"jim@h").startswith(b"DSorry, no mailbox")


def test_alias_in_a_private_home(start, place):
    with open(f"{place.alias}/.qmail-postmaster", "w") as file:
        file.write("|echo $USER $HOME\n")
    assert start("x").deliver(b"Postmaster@h") == f"Kalias {place.alias}\ndid 0+0+1\n".encode()


def test_running_deliveries_are_reported_after_the_end_of_orders(start, place):
    os.mkfifo(place.user / "gate")
    manager = start("|read x < gate")
    manager.order(7)
    manager.process.stdin.close()
    with open(place.user / "gate", "w") as gate:
        gate.write("go\n")
    assert manager.report() == (7, b"Kdid 0+0+1\n")
    assert manager.process.wait(SECONDS) == 0


def test_workers_end_with_it_and_when_idle(start):
    manager = start("|echo $PPID")
    worker = os.pidfd_open(int(manager.deliver()[1:].split()[0]))
    assert select.select([worker], [], [], SECONDS)[0]  # idle
    os.close(worker)
    worker = os.pidfd_open(int(manager.deliver()[1:].split()[0]))
    manager.process.kill()
    assert select.select([worker], [], [], SECONDS)[0]
    os.close(worker)


def test_it_leaves_no_worker_behind(start):
    manager = start("|echo $PPID")
    worker = os.pidfd_open(int(manager.deliver()[1:].split()[0]))
    assert manager.close() == (0, [])
    assert select.select([worker], [], [], 5)[0]
    os.close(worker)


def test_without_default_delivery(run, place):
    assert run("pylspawn", env={"PYQMAIL_HOME": place.path}) == (100, b"", b"")


def test_without_a_queue(run, tmp_path):
    (tmp_path / "private").touch()
    assert run("pylspawn", "x", env={"PYQMAIL_HOME": str(tmp_path)}) == (111, b"", b"")


def test_nonsense_in_the_native_dialect(run, place):
    done = run("pylspawn", "--native", "x", input=b"x" * 100, env={"PYQMAIL_HOME": place.path})
    assert (done.code, done.err) == (111, b"qmail-lspawn: fatal: nonsense on descriptor 0\n")


def test_orders_from_dev_null(place):
    env = {"PYQMAIL_HOME": place.path}
    done = subprocess.run(
        [sys.executable, f"{ROOT}/bin/pylspawn", "x"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=env,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stdout) == (0, b"\xff")


@pytest.mark.parametrize("option, hello", [("--wide", b"\1\0"), ("--native", b"\0\0\0\6\2\1\0\0\0\1")])
def test_with_few_descriptors_it_makes_one_delivery_at_a_time(place, option, hello):
    words = ["sh", "-c", 'ulimit -n 30; exec "$@"', "x", sys.executable, f"{ROOT}/bin/pylspawn", option, "x"]
    env = {"PYQMAIL_HOME": place.path}
    done = subprocess.run(words, input=b"", capture_output=True, env=env, timeout=SECONDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, hello, b"")


def test_forwards_go_through_qmailqueue(start, place):
    os.makedirs(f"{place.path}/bin")
    with open(f"{place.path}/bin/q", "w") as queue:
        queue.write("#!/bin/sh\ncat > message; cat <&1 > envelope\n")
    os.chmod(f"{place.path}/bin/q", 0o755)
    manager = start("one@x\n&two@y", env={"QMAILQUEUE": "bin/q"})
    for _ in range(2):  # the second by the same worker
        assert manager.deliver().startswith(b"Kdid 0+2+0\nqp ")
        with open(f"{place.path}/envelope", "rb") as envelope:
            assert envelope.read() == b"Fs@x.example\0Tone@x\0Ttwo@y\0\0"
        with open(f"{place.path}/message", "rb") as message:
            assert message.read() == b"Delivered-To: joe@here.example\nSubject: x\n\nhello\n"
        os.unlink(f"{place.path}/message")


# A home that is not private, without the system users: who they are is said here.
PUBLIC = """
import os, sys
from pyqmail.programs import pylspawn
from pyqmail.system.home import Home

class Public(Home):
    owner = lambda self: None
    uid = lambda self, user: 0 if user == "qmailq" else 65534
    gid = lambda self, group: 65534

pylspawn.Home = Public
sys.exit(pylspawn.main(["pylspawn", *sys.argv[1:]]))
"""


@pytest.fixture
def public(place):
    os.unlink(f"{place.path}/private")
    for folder, _, _ in os.walk(place.user):
        os.chown(folder, NOBODY, NOBODY)
    return place


def public_command():
    return [sys.executable, "-c", PUBLIC]


@as_root
@pytest.mark.parametrize("options", [(), ("--exec",)])
def test_deliveries_have_the_users_identity_and_one_group(start, public, options):
    assign(public, f"=joe:joe:{NOBODY}:12345:{public.user}:::\n.\n")
    manager = start(
        "./Maildir/\n|id -u; id -g; id -G; grep -E '^(Uid|Gid)' /proc/self/status", *options, command=public_command()
    )
    uids = f"{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}"
    expected = f"K{NOBODY}\n12345\n12345\nUid:\t{uids}\nGid:\t12345\t12345\t12345\t12345\ndid 1+0+1\n"
    assert manager.deliver() == expected.encode()
    (name,) = os.listdir(public.user / "Maildir/new")
    assert os.stat(public.user / "Maildir/new" / name).st_uid == NOBODY


@as_root
@pytest.mark.parametrize("options", [(), ("--exec",)])
@pytest.mark.parametrize(
    "uid, report",
    [(0, b"ZNot allowed to perform deliveries as root.\n"), (2**32 - 1, b"ZInternal qmail-lspawn bug.\n")],
)
def test_nobody_delivers_as_root(start, public, options, uid, report):
    assign(public, f"=joe:joe:{uid}:0:{public.user}:::\n.\n")
    assert start("|touch ran", *options, command=public_command()).deliver() == report
    assert not (public.user / "ran").exists()


@as_root
def test_two_users_have_two_workers(start, public):
    assign(public, f"=joe:joe:{NOBODY}:1:{public.user}:::\n=jim:jim:{NOBODY - 1}:1:{public.user}:::\n.\n")
    manager = start("|id -u", command=public_command())
    for number, local in enumerate([b"joe", b"jim"] * 10):
        manager.order(number, local + b"@h")
    uids = dict(manager.report() for _ in range(20))
    assert uids == {number: b"K%d\ndid 0+0+1\n" % (NOBODY - number % 2) for number in range(20)}


@as_root
@pytest.mark.parametrize(
    "default, report", [("./Maildir/", b"Kdid 1+0+0\n"), ("|exit 100", b"D"), ("|echo x", b"Kx\ndid 0+0+1\n")]
)
def test_a_qmail_home_out_of_the_users_reach_makes_no_delivery_undone(start, public, tmp_path, default, report):
    """Where the worker goes back to after a delivery is no matter of the mail's: it was deferred, and made again."""
    home, public.path = public.path, f"{tmp_path}/closed/home"
    (tmp_path / "closed").mkdir(mode=0o700)
    os.rename(home, public.path)
    public.queue, public.users = f"{public.path}/queue", f"{public.path}/users"
    assign(public, f"=joe:joe:{NOBODY}:{NOBODY}:{public.user}:::\n.\n")
    manager = start(default, command=public_command())
    for _ in range(2):
        assert manager.deliver() == report


CANNOT_RUN = {
    "no #!": "hm\n",
    "env": "#!/usr/bin/env no-such-python\n",
    "shell": "#!/bin/sh\nexec /nowhere/program\n",
    "not executable": "#!/bin/sh\nexec /etc/passwd\n",
    "modules": f"#!{sys.executable} -I\nimport pyqmail.no_such_module\n",
}


@pytest.mark.parametrize("kind", CANNOT_RUN)
def test_a_pylocal_that_cannot_be_run_is_a_deferral(start, tmp_path, kind):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pylocal").write_text(CANNOT_RUN[kind])
    (tmp_path / "bin/pylocal").chmod(0o755)
    manager = start("./Maildir/", "--exec", env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"})
    assert manager.deliver() == b"ZUnable to run qmail-local.\n"


@pytest.mark.parametrize("missing", ["nothing", "not executable", "no interpreter"])
def test_pylocal_is_found_beside_pylspawn_after_path(start, tmp_path, missing):
    (tmp_path / "bin").mkdir()
    if missing != "nothing":
        (tmp_path / "bin/pylocal").write_text("#!/nowhere/python\n")
        (tmp_path / "bin/pylocal").chmod(0o644 if missing == "not executable" else 0o755)
    manager = start("./Maildir/", "--exec", env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"})
    assert manager.deliver() == b"Kdid 1+0+0\n"


@as_root
@pytest.mark.parametrize("kind", CANNOT_RUN)
def test_a_pygetpw_that_cannot_be_run_is_a_deferral(start, public, tmp_path, kind):
    os.unlink(f"{public.users}/cdb")
    (public.user / "pygetpw").write_text(CANNOT_RUN[kind])
    os.chmod(public.user / "pygetpw", 0o755)
    manager = start("x", "--exec", command=public_command(), env={"PATH": f"{public.user}:/usr/bin:/bin"})
    assert manager.deliver() == b"ZUnable to run qmail-getpw.\n"


@as_root
def test_the_password_database_is_read_by_qmailp(start, public):
    """With --exec pygetpw is a program of PATH, here one that tells who runs it."""
    os.unlink(f"{public.users}/cdb")
    bin_ = public.user / "bin"
    bin_.mkdir()
    (bin_ / "pygetpw").write_text(f"#!/bin/sh\nprintf '%s\\0' joe `id -u` {NOBODY} {public.user} - \"$1\"\n")
    os.chmod(bin_ / "pygetpw", 0o755)
    (public.user / ".qmail-default").write_text("|echo $DEFAULT; id -u\n")
    path = f"{bin_}:{ROOT}/bin:{os.path.dirname(sys.executable)}:/usr/bin:/bin"
    manager = start("x", "--exec", command=public_command(), env={"PATH": path})
    assert manager.deliver(b"Some.One@h") == b"KSome.One\n%d\ndid 0+0+1\n" % NOBODY
    (bin_ / "pygetpw").write_text("#!/bin/sh\nexit 115\n")
    assert manager.deliver() == b"ZNFS failure in qmail-local.\n"


ALIASES = {
    # what alias has for a home -> the report about mail for somebody who is not there
    None: b"ZUnable to find alias user!\n",
    "nowhere": b"ZUnable to switch to {home}: file does not exist. (#4.3.0)\n",
    "user": b"DSorry, no mailbox here by that name. (#5.1.1)\n",
}


@as_root
@pytest.mark.parametrize("options", [(), ("--exec",)])
@pytest.mark.parametrize("recipient", [b"root@h", b"no-such-user@h"])
@pytest.mark.parametrize("alias", ALIASES)
def test_who_is_not_in_the_password_database(start, public, accounts, tmp_path, alias, recipient, options):
    os.unlink(f"{public.users}/cdb")
    home = f"{tmp_path}/{alias}"
    lines = [] if alias is None else [f"alias:x:{NOBODY}:{NOBODY}:alias:{home}:/bin/sh"]
    manager = start("|exit 100", *options, command=[*accounts(*lines), *public_command()])
    assert manager.deliver(recipient) == ALIASES[alias].replace(b"{home}", home.encode())


@as_root
def test_a_private_home_of_somebody_else(start, place):
    os.chown(f"{place.path}/private", NOBODY, NOBODY)
    os.chown(f"{place.queue}/mess/0/1", NOBODY, NOBODY)
    assert start("|id -u; id -G").deliver() == b"K%d\n%d\ndid 0+0+1\n" % (NOBODY, NOBODY)


def test_a_quick_delivery_is_not_held_up_by_slow_ones(start, place):
    """There are more slow ones than workers are started at once."""
    os.mkfifo(place.user / "gate")
    gate = os.open(place.user / "gate", os.O_RDWR)
    (place.user / ".qmail-slow").write_bytes(b"|head -c 1 gate > /dev/null\n")
    manager = start("|true")
    for number in range(1, 20):
        manager.order(number, b"joe-slow@h")
    assert manager.deliver() == b"Kdid 0+0+1\n"
    os.write(gate, b"g" * 19)
    assert len({manager.report() for _ in range(19)}) == 19
    os.close(gate)
