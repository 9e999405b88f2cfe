"""A home that is not private, with qmail's users: which process has which uid, whose each file is, who is let do what.

The users exist in a mount namespace only, where copies of /etc/passwd and /etc/group are mounted over the system's.
Needs root.
"""

import grp
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile

import pytest

from pyqmail.system.home import Home
from tests.folders import open_folder
from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TAKEN = {entry.pw_uid for entry in pwd.getpwall()} | {entry.gr_gid for entry in grp.getgrall()}
FIRST = next(first for first in range(71001, 99001, 100) if TAKEN.isdisjoint(range(first, first + 60)))
NAMES = ("alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails", "joe", "ann")
UID = {name: FIRST + number for number, name in enumerate(NAMES)}
QMAIL, NOFILES = FIRST + 50, FIRST + 51
IN_NOFILES = ("alias", "qmaild", "qmaill", "qmailp")
NAMESPACE = 'mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group && exec "$@"'
SPLIT = 23


def prefix(folder):
    return ["unshare", "-m", "sh", "-c", NAMESPACE, folder]


def is_possible():
    if os.getuid() != 0 or not shutil.which("unshare"):
        return False
    with tempfile.TemporaryDirectory() as folder:
        for name in ("passwd", "group"):
            shutil.copy(f"/etc/{name}", folder)
        if subprocess.run([*prefix(folder), "true"], check=False, capture_output=True).returncode:
            return False
    # whoever runs the parts must be able to read them
    reading = [sys.executable, "-c", "import pyqmail.programs.pysend"]
    how = {
        "user": UID["qmails"],
        "group": QMAIL,
        "extra_groups": [],
        "env": {},
        "cwd": "/",
        "capture_output": True,
    }
    try:
        return subprocess.run(reading, check=False, **how).returncode == 0
    except PermissionError:
        return False  # others may not even run this interpreter


pytestmark = pytest.mark.skipif(
    not is_possible(), reason="needs root, a mount namespace, and a checkout that others can read"
)


def make(path, owner=0, group=0, mode=0o755):
    os.makedirs(path, exist_ok=True)
    os.chown(path, owner, group)
    os.chmod(path, mode)


def write(path, content, owner=0, group=0, mode=0o644):
    with open(path, "wb") as file:
        file.write(content)
        os.fchown(file.fileno(), owner, group)
        os.fchmod(file.fileno(), mode)


def make_home(path):
    """Make what the original's installer makes.  Source: hier.c of qmail"""
    q, s, r = UID["qmailq"], UID["qmails"], UID["qmailr"]
    for name in ("", "/control", "/users"):
        make(path + name)
    make(f"{path}/alias", UID["alias"], QMAIL, 0o2755)
    queue = f"{path}/queue"
    make(queue, q, QMAIL, 0o750)
    for name, owner, mode in (
        ("pid", q, 0o700),
        ("intd", q, 0o700),
        ("todo", q, 0o750),
        ("bounce", s, 0o700),
        ("lock", q, 0o750),
    ):
        make(f"{queue}/{name}", owner, QMAIL, mode)
    for name, owner, mode in (("mess", q, 0o750), ("info", s, 0o700), ("local", s, 0o700), ("remote", s, 0o700)):
        for part in ("", *(f"/{number}" for number in range(SPLIT))):
            make(f"{queue}/{name}{part}", owner, QMAIL, mode)
    write(f"{queue}/lock/sendmutex", b"", s, QMAIL, 0o600)
    write(f"{queue}/lock/tcpto", bytes(1024), r, QMAIL, 0o644)
    os.mkfifo(f"{queue}/lock/trigger")
    os.chown(f"{queue}/lock/trigger", s, QMAIL)
    os.chmod(f"{queue}/lock/trigger", 0o622)
    for name, content in (("me", b"here.example\n"), ("locals", b"here.example\n"), ("rcpthosts", b"here.example\n")):
        write(f"{path}/control/{name}", content)


def make_people(folder):
    """Make passwd and group with qmail's users, joe and ann, who have homes with Maildirs."""
    passwd = without("/etc/passwd", NAMES)
    for name in NAMES:
        group = NOFILES if name in IN_NOFILES else QMAIL if name.startswith("qmail") else UID[name]
        place = (
            f"{folder}/qmail/alias"
            if name == "alias"
            else f"{folder}/{name}"
            if UID[name] > UID["qmails"]
            else f"{folder}/qmail"
        )
        passwd += f"{name}:x:{UID[name]}:{group}::{place}:/bin/sh\n".encode()
        if UID[name] > UID["qmails"]:
            for part in ("", "/Maildir", "/Maildir/tmp", "/Maildir/new", "/Maildir/cur"):
                make(f"{folder}/{name}{part}", UID[name], UID[name], 0o700)
    write(f"{folder}/passwd", passwd)
    group = without("/etc/group", ("qmail", "nofiles")) + f"qmail:x:{QMAIL}:\nnofiles:x:{NOFILES}:\n".encode()
    write(f"{folder}/group", group)


def without(path, names):
    """Return a file of accounts without those names: the system may have some of its own."""
    with open(path, "rb") as file:
        return b"".join(line for line in file if line.partition(b":")[0].decode() not in names)


@pytest.fixture
def place():
    """A folder with a qmail home and people; not below pytest's, which only root can enter."""
    folder = open_folder()
    make_home(f"{folder}/qmail")
    make_people(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def real(place, make_system, smtp_peer):
    """A System in a home that is not private, its services made, nothing started; other mail goes to smtp_peer."""
    one = make_system(Home(f"{place}/qmail"), {}, prefix(place))
    one.place = place
    one.control("smtproutes", smtp_peer.route())
    one.make_services()
    yield one
    one.close()


def qmail_file(real, user, name, content):
    uid = UID[user]
    write(f"{real.home.alias if user == 'alias' else f'{real.place}/{user}'}/.qmail{name}", content, uid, uid, 0o600)


def maildir(real, user, count=1):
    """Wait for so many messages; returns them, each the user's own."""
    new = f"{real.place}/{user}/Maildir/new"
    until(lambda: len(os.listdir(new)) >= count)
    messages = []
    for name in os.listdir(new):
        seen = os.stat(f"{new}/{name}")
        assert (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)) == (UID[user], UID[user], 0o600)
        with open(f"{new}/{name}", "rb") as file:
            messages.append(file.read())
    assert len(messages) == count
    return messages


def classic(text):
    return text.replace("exec pystart", "exec pystart --classic")


MODES = pytest.mark.parametrize("edit", [None, classic], ids=["native", "classic"])


def identity(pid):
    """Return (name, uid, gid, supplementary groups) of a process; real, effective and saved must agree."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
        words = file.read().split("\0")
    name = fields["Name"]
    if name.startswith("python") or name == "pysetuidgid":
        name = os.path.basename(words[1])
    if name == "pysetuidgid":
        name = words[3]  # which goes on in its process
    uids, gids = set(fields["Uid"].split()), set(fields["Gid"].split())
    assert len(uids) == len(gids) == 1, (name, fields)
    return name, int(uids.pop()), int(gids.pop()), tuple(map(int, fields["Groups"].split()))


WHO = {
    "pyqueued": (UID["qmailq"], QMAIL),
    "pytcpserver": (UID["qmaild"], NOFILES),
    "pysmtpd": (UID["qmaild"], NOFILES),  # its workers
    "pysend": (UID["qmails"], QMAIL),
    "pylspawn": (0, QMAIL),
    "pyrspawn": (UID["qmailr"], QMAIL),
    "pyresolve": (UID["qmailr"], NOFILES),
    "pyclean": (UID["qmailq"], QMAIL),
    "pymultilog": (UID["qmaill"], NOFILES),
}


@MODES
def test_each_process_is_its_own_user(real, edit):
    real.supervise("pysvscan", edit=edit)
    seen = {}
    for pid in real.pids():
        name, uid, gid, groups = identity(pid)
        seen.setdefault(name, set()).add((uid, gid, groups))
    for name, (uid, gid) in WHO.items():
        if name == "pyresolve" and edit:
            continue
        for got in seen[name]:
            # root's own groups are nobody else's; an empty list or the group itself is as good
            assert got[:2] == (uid, gid) and set(got[2]) <= {gid}, (name, seen)
    assert set(seen) - set(WHO) == {"pysvscan", "pysupervise"} | (set() if edit else {"pystart"})


@pytest.mark.parametrize("part", ["pylspawn", "pyrspawn", "pyclean", "pyresolve"])
def test_a_part_that_is_lost_is_started_again_as_its_own_user(real, part):
    """pysend, as qmails, could become nobody."""
    real.supervise("pysvscan")

    def of(name):
        return [pid for pid in real.pids() if identity(pid)[0] == name]

    (before,), sender, was = of(part), of("pysend"), identity(of(part)[0])
    os.kill(before, signal.SIGKILL)
    until(lambda: b"warning: lost %b, killed by signal 9 (KILL)" % part.encode() in log(real))
    (after,) = until(lambda: [pid for pid in of(part) if pid != before and identity(pid) == was])
    assert of("pysend") == sender


@MODES
def test_whose_each_file_is(real, edit, smtp_peer):
    smtp_peer.scripts += [[(b"S", b"421 busy\r\n")]] * 3
    real.supervise("pysvscan", edit=edit)
    real.mail(b"ann@here.example", [b"nosuch@here.example", b"bob@remote.example"], b"Subject: x\r\n")
    until(lambda: len([path for path in real.files() if path.startswith(("bounce", "remote"))]) == 2)
    until(lambda: not [path for path in real.files() if path.startswith(("todo", "intd", "local"))])
    owners = {
        "mess": ("qmailq", 0o644),
        "info": ("qmails", 0o600),
        "remote": ("qmails", 0o600),
        "bounce": ("qmails", 0o600),
    }
    for path in real.files():
        seen = os.stat(f"{real.home.queue}/{path}")
        owner, mode = owners.pop(path.split("/")[0])
        assert (seen.st_uid, stat.S_IMODE(seen.st_mode)) == (UID[owner], mode), path
    assert not owners
    assert os.stat(real.home.queue_socket).st_uid == UID["qmailq"]
    for name in services(real):
        seen = os.stat(f"{real.services}/{name}/log/main/current")
        assert seen.st_uid == UID["qmaill"]
        main = os.stat(f"{real.services}/{name}/log/main")
        assert (main.st_uid, stat.S_IMODE(main.st_mode)) == (UID["qmaill"], 0o700)
        assert os.stat(f"{real.services}/{name}/log").st_uid == os.stat(f"{real.services}/{name}/log/run").st_uid == 0


def services(real):
    return sorted(name for name in os.listdir(real.services) if name[0] != ".")


@pytest.mark.parametrize("owner", ["root", "qmaill"])
@pytest.mark.parametrize("there", ["nothing", "link", "link to nothing", "file"])
def test_root_gives_away_nothing_but_a_directory_it_made(real, owner, there):
    """Whatever stands in the place of a log's main, and whoever may put it there."""
    victim, name = f"{real.place}/victim", services(real)[0]
    folder = f"{real.services}/{name}/log"
    make(victim, 0, 0, 0o700)
    shutil.rmtree(f"{folder}/main", ignore_errors=True)
    if there.startswith("link"):
        os.symlink(victim if there == "link" else f"{victim}/new", f"{folder}/main")
    elif there == "file":
        write(f"{folder}/main", b"")
    os.chown(folder, UID[owner] if owner != "root" else 0, 0)
    done = subprocess.run(
        real.command([f"{folder}/run"]),
        cwd=folder,
        env=real.environ,
        input=b"a line\n",
        capture_output=True,
        timeout=60,
    )
    assert os.stat(victim).st_uid == 0 and os.listdir(victim) == []
    assert (done.returncode == 0) == (there == "nothing"), done
    if there == "nothing":
        assert os.stat(f"{folder}/main").st_uid == UID["qmaill"]


def test_what_waits_in_todo(real):
    real.start_queue()
    sent = real.run(
        "pyqueue", preexec_fn=None, input=b"hello\n"
    )  # root, with an empty envelope: descriptor 1 is a pipe
    assert sent.returncode != 0 and real.files() == []
    for user in ("root", "qmaild", "alias", "qmails", "joe"):
        queue_as(real, user)
    found = {}
    for number in os.listdir(f"{real.home.queue}/todo"):
        with open(f"{real.home.queue}/todo/{number}", "rb") as file:
            record = file.read()
        with open(f"{real.home.queue}/mess/{int(number) % SPLIT}/{number}", "rb") as file:
            line = file.readline()
        found[int(re.match(rb"u([0-9]+)\0p[0-9]+\0F", record)[1])] = re.fullmatch(
            rb"Received: \(qmail [0-9]+ invoked (.*)\); .*\n", line
        )[1]
        for path in (f"todo/{number}", f"intd/{number}", f"mess/{int(number) % SPLIT}/{number}"):
            seen = os.stat(f"{real.home.queue}/{path}")
            assert (seen.st_uid, stat.S_IMODE(seen.st_mode)) == (UID["qmailq"], 0o644)
    assert found == {
        0: b"by uid 0",
        UID["qmaild"]: b"from network",
        UID["alias"]: b"by alias",
        UID["qmails"]: b"for bounce",
        UID["joe"]: b"by uid %d" % UID["joe"],
    }


def queue_as(real, user):
    envelope = os.memfd_create("envelope")
    os.write(envelope, b"Fjoe@here.example\0Tann@here.example\0\0")
    os.lseek(envelope, 0, os.SEEK_SET)
    uid = UID.get(user, 0)
    words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "pyqueue"]
    done = real.run(*words, input=b"hello\n", stdout=envelope, stderr=subprocess.PIPE, capture_output=False)
    os.close(envelope)
    assert (done.returncode, done.stderr) == (0, b"")


@MODES
def test_mail_to_people(real, edit, smtp_peer):
    qmail_file(real, "joe", "", b"./Maildir/\n| { id -u; id -g; id -G; umask; pwd; } > ran\n")
    qmail_file(real, "joe", "-on", b"&ann@here.example\n&bob@remote.example\n")
    qmail_file(real, "joe", "-gone", b"&nosuch@here.example\n")
    qmail_file(real, "joe", "-fails", b"|echo not today; exit 111\n")
    qmail_file(real, "alias", "-postmaster", b"&ann\n")
    qmail_file(real, "alias", "-root", b"&ann@here.example\n")
    real.supervise("pysvscan", edit=edit)

    # joe's own: a Maildir and a program
    real.mail(b"x@client.example", [b"joe@here.example"], b"Subject: x\r\n")
    (message,) = maildir(real, "joe")
    assert re.match(
        rb"Return-Path: <x@client.example>\nDelivered-To: joe@here.example\n"
        rb"Received: \(qmail [0-9]+ invoked from network\); .*\nReceived: from unknown \(HELO client.example\) \(127\.",
        message,
    )
    until(lambda: os.path.exists(f"{real.place}/joe/ran") and log(real).count(b"end msg") == 1)
    uid = str(UID["joe"])
    with open(f"{real.place}/joe/ran", encoding="ascii") as file:
        assert file.read().split() == [uid, uid, uid, "0077", f"{real.place}/joe"]
    assert os.stat(f"{real.place}/joe/ran").st_uid == UID["joe"]
    assert re.search(
        rb"info msg [0-9]+: bytes [0-9]+ from <x@client.example> qp [0-9]+ uid %d\n" % UID["qmaild"], log(real)
    )

    # what joe forwards is joe's
    real.mail(b"x@client.example", [b"joe-on@here.example"], b"Subject: on\r\n")
    (message,) = maildir(real, "ann")
    assert re.match(
        rb"Return-Path: <x@client.example>\nDelivered-To: ann@here.example\n"
        rb"Received: \(qmail [0-9]+ invoked by uid %d\); .*\nDelivered-To: joe-on@here.example\n"
        rb"Received: \(qmail [0-9]+ invoked from network\); " % UID["joe"],
        message,
    )
    until(lambda: len(smtp_peer.mails) == 1)

    # aliases are alias's; root is nobody
    for number, name in enumerate((b"postmaster", b"root"), 2):
        real.mail(b"x@client.example", [name + b"@here.example"], b"Subject: to %b\r\n" % name)
        found = [one for one in maildir(real, "ann", number) if b"Subject: to %b\n" % name in one]
        assert re.search(
            rb"\nReceived: \(qmail [0-9]+ invoked by alias\); .*\nDelivered-To: %b@here.example\n" % name, found[0]
        )

    # a bounce of what joe forwarded goes to who sent it, and is qmails's
    real.mail(b"ann@here.example", [b"joe-gone@here.example"], b"Subject: gone\r\n")
    found = [one for one in maildir(real, "ann", 4) if b"\nHi. This is the qmail-send program at here.example." in one]
    assert re.match(
        rb"Return-Path: <>\nDelivered-To: ann@here.example\nReceived: \(qmail [0-9]+ invoked for bounce\); ", found[0]
    )

    real.mail(b"ann@here.example", [b"joe-fails@here.example"], b"Subject: later\r\n")
    until(lambda: b"deferral: not_today/\n" in log(real))
    assert b"uid %d\n" % UID["alias"] in log(real) and b"uid %d\n" % UID["qmails"] in log(real)


def log(real):
    """Return the log of pysend without time stamps."""
    return re.sub(rb"(?m)^@[0-9a-f]{24} ", b"", real.log_of("pysend"))


@MODES
def test_users_assign_is_obeyed_and_root_is_not_delivered_to(real, edit):
    uid = UID["joe"]
    joe = f"joe:{uid}:{uid}:{real.place}/joe"
    lines = f"=sales:{joe}:::\n+lists-:{joe}:-::\n=boss:root:0:0:/root:::\n.\n"
    write(f"{real.home.users}/assign", lines.encode())
    assert real.run("pynewu").returncode == 0
    qmail_file(real, "joe", "-dev", b"./Maildir/\n")
    real.supervise("pysvscan", edit=edit)
    for name in (b"sales", b"lists-dev", b"joe", b"boss"):
        real.mail(b"", [name + b"@here.example"], b"Subject: x\r\n")
    messages = maildir(real, "joe", 3)
    told = {re.search(rb"\nDelivered-To: (.*)\n", one)[1] for one in messages}
    assert told == {b"sales@here.example", b"lists-dev@here.example", b"joe@here.example"}
    until(lambda: b"deferral: Not_allowed_to_perform_deliveries_as_root./\n" in log(real))


def test_strangers_cannot_touch_the_queue(real):
    """Without pyqueued a stranger has no way to queue, and none to read; with it only to queue."""
    envelope = os.memfd_create("envelope")
    os.write(envelope, b"F\0Tann@here.example\0\0")
    os.lseek(envelope, 0, os.SEEK_SET)
    words = ["setpriv", f"--reuid={UID['joe']}", f"--regid={UID['joe']}", "--clear-groups"]
    done = real.run(*words, "pyqueue", input=b"x\n", stdout=envelope, stderr=subprocess.PIPE, capture_output=False)
    os.close(envelope)
    assert done.returncode == 62 and real.files() == []
    for path in ("mess", "todo", "lock/trigger", "info"):
        assert real.run(*words, "cat", f"{real.home.queue}/{path}").returncode != 0


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="not installed: systemd-analyze")
def test_mail_arrives_under_the_sandbox_of_the_printed_units(real):
    """Local and remote, small and over 1 MB; one by a user's program.

    What confined.py cannot imitate stays untested.
    """
    units = f"{real.place}/units"
    make(units)
    for name in services(real):
        shutil.rmtree(f"{real.services}/{name}/log")
    made = real.run("pyqmail", "units", "--to", units, real.services)
    assert (made.returncode, made.stderr) == (0, b""), made
    qmail_file(real, "joe", "", b"|cat >prog && id -u >>prog\n./Maildir/\n")
    confined = f"{ROOT}/tests/interop/confined.py"
    started = {}
    for name in ("pyqueued", "pysend", "pysmtpd"):
        folder = f"{real.services}/{name}"
        with open(f"{real.place}/log.{name}", "wb") as log:
            words = (sys.executable, confined, f"{units}/{name}.service", f"{folder}/run")
            started[name] = real.start(*words, cwd=folder, stdout=log, stderr=log)
    until(lambda: real.accepts() and os.path.exists(real.home.queue_socket))
    for text in (
        b"Subject: small\r\n",
        b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" * 2 + (b"y" * 70 + b"\r\n") * 20000,
    ):
        real.mail(b"ann@here.example", [b"joe@here.example", b"ann@here.example", b"bob@remote.example"], text)
    maildir(real, "joe", 2)
    maildir(real, "ann", 2)
    with open(f"{real.place}/joe/prog", encoding="utf-8") as file:
        assert file.read().splitlines()[-1] == str(UID["joe"])
    until(lambda: not real.files())
    with open(f"{real.place}/log.pysend", "rb") as log:
        assert len(re.findall(rb"delivery \d+: success: ", log.read())) == 6
    for name, process in started.items():
        with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
            assert "Seccomp:\t2" in file.read(), name
