"""`pyqmail home`: from a system without qmail to a delivered message, in three commands.

In mount, network and host name namespaces with an /etc of their own, so that the machine's accounts stay as they are.
Needs root.  Untested here: systems whose accounts are not made by useradd.
"""

import grp
import os
import pwd
import shutil
import stat
import subprocess
import sys

import pytest

from pyqmail.mail.destinations.rules.defaults import SHIPPED, SHIPPED_RESPONSES
from tests.folders import open_folder

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
USERS = ("alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails")
GROUPS = ("qmail", "nofiles")
INSIDE = (
    'mount --bind "$0/etc" /etc && hostname here.example && ip link set lo up && cd / && '
    'PATH=/usr/sbin:/usr/bin:/sbin:/bin && export PATH && exec "$@"'
)
NAMESPACES = ["unshare", "-m", "-n", "-u", "sh", "-c", INSIDE]


@pytest.fixture
def place():
    """A folder with an etc without qmail's users; not below pytest's, which only root can enter."""
    folder = open_folder()
    shutil.copytree("/etc", f"{folder}/etc", symlinks=True, ignore_dangling_symlinks=True)
    for name in ("passwd", "shadow", "group", "gshadow"):
        if os.path.exists(f"{folder}/etc/{name}"):
            with open(f"{folder}/etc/{name}", "r+") as file:
                lines = [line for line in file if line.partition(":")[0] not in (*USERS, *GROUPS)]
                file.seek(0)
                file.truncate()
                file.writelines(lines)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def inside(place):
    """inside(*words) -> what a command ends with, there."""
    if os.getuid() or not all(map(shutil.which, ("unshare", "useradd", "ip", "hostname"))):
        pytest.skip("needs root, unshare, useradd, ip and hostname")

    def run(*words, timeout=120):
        words = [*NAMESPACES, place, *map(str, words)]
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)

    if run("true").returncode:
        pytest.skip("namespaces are not for this user")
    return run


def ids(place):
    """Return name -> id of qmail's users, and of its groups, in the etc of place."""
    found = []
    for file in ("passwd", "group"):
        with open(f"{place}/etc/{file}") as lines:
            fields = [line.split(":") for line in lines]
        found.append({one[0]: int(one[2]) for one in fields if one[0] in (*USERS, *GROUPS)})
    return found


def tree(path):
    """Return relative path -> (mode, uid, gid, content or the names in it) of all that stands below a folder."""
    found = {}
    for folder, folders, files in os.walk(path):
        for name in [*folders, *files, "."]:
            one = os.path.join(folder, name)
            seen = os.lstat(one)
            content = None
            if stat.S_ISREG(seen.st_mode):
                with open(one, "rb") as file:
                    content = file.read()
            found[os.path.relpath(one, path)] = (seen.st_mode, seen.st_uid, seen.st_gid, content)
    return found


def test_without_the_users_they_are_named_and_nothing_is_made(inside, place):
    done = inside(f"{ROOT}/bin/pyqmail", "home", f"{place}/qmail")
    assert (done.returncode, done.stdout) == (100, "")
    assert done.stderr == (
        "pyqmail: fatal: the system has no group nofiles, no group qmail, "
        f"{', '.join(f'no user {user}' for user in USERS)}: with --users they are made\n"
    )
    assert not os.path.exists(f"{place}/qmail")


def test_the_layout_is_the_originals(inside, place):
    done = inside(f"{ROOT}/bin/pyqmail", "home", "--users", f"{place}/qmail")
    assert (done.returncode, done.stderr) == (0, "")
    users, groups = ids(place)
    assert sorted(users) == sorted(USERS) and {*GROUPS} <= set(groups)
    with open(f"{place}/etc/passwd") as lines:
        accounts = {fields[0]: fields for line in lines if (fields := line.split(":"))[0] in USERS}
    for user in USERS:
        group = "nofiles" if user in ("alias", "qmaild", "qmaill", "qmailp") else "qmail"
        home = f"{place}/qmail/alias" if user == "alias" else f"{place}/qmail"
        assert (int(accounts[user][3]), accounts[user][5]) == (groups[group], home)
    found = tree(f"{place}/qmail")
    q, s, r, qmail = users["qmailq"], users["qmails"], users["qmailr"], groups["qmail"]
    expected = {
        ".": (0, qmail, 0o755), "control": (0, qmail, 0o755), "users": (0, qmail, 0o755),
        "alias": (users["alias"], qmail, 0o2755), "run": (q, qmail, 0o755), "queue": (q, qmail, 0o750),
        "queue/pid": (q, qmail, 0o700), "queue/intd": (q, qmail, 0o700), "queue/todo": (q, qmail, 0o750),
        "queue/bounce": (s, qmail, 0o700), "queue/lock": (q, qmail, 0o750), "queue/lock/sendmutex": (s, qmail, 0o600),
        "queue/lock/tcpto": (r, qmail, 0o644), "queue/lock/trigger": (s, qmail, 0o622),
        "alias/Maildir/new": (users["alias"], qmail, 0o2700),  # as its folder's
    }  # fmt: skip
    for name, owner, mode in (("mess", q, 0o750), ("info", s, 0o700), ("local", s, 0o700), ("remote", s, 0o700)):
        expected |= {f"queue/{name}{part}": (owner, qmail, mode) for part in ("", *(f"/{n}" for n in range(23)))}
    for name in ("pyqueued", "pysend", "pysmtpd"):
        expected[f"service/{name}/log"] = (0, 0, 0o755)
        expected[f"service/{name}/run"] = (0, 0, 0o755)
        expected[f"service/{name}/log/main"] = (users["qmaill"], groups["nofiles"], 0o2755)
    got = {name: (found[name][1], found[name][2], stat.S_IMODE(found[name][0])) for name in expected}
    assert got == expected
    assert stat.S_ISFIFO(found["queue/lock/trigger"][0]) and found["queue/lock/tcpto"][3] == bytes(1024)
    controls = {name[8:]: one[3] for name, one in found.items() if name.startswith("control/") and "smtp" not in name}
    assert stat.S_IMODE(found["control/destinations.cdb"][0]) == 0o644 and controls.pop("destinations.cdb")
    assert "." not in controls
    me = b"here.example\n"
    assert controls == {
        "me": me, "locals": me, "rcpthosts": me, "defaultdomain": b"example\n", "plusdomain": b"example\n",
        "defaultdelivery": b"./Maildir/\n", "concurrencyremote": b"2000\n",
        "destinations": SHIPPED, "responses": SHIPPED_RESPONSES,
    }  # fmt: skip
    assert found["control/smtp-rules.cdb"][0] & 0o444 == 0o444
    assert {"alias/.qmail-postmaster", "alias/.qmail-root", "alias/.qmail-mailer-daemon"} <= set(found)


def test_again_it_changes_nothing_but_what_is_wrong(inside, place):
    make = [f"{ROOT}/bin/pyqmail", "home", "--users", f"{place}/qmail"]
    assert inside(*make).returncode == 0
    with open(f"{place}/qmail/control/me", "w") as file:
        file.write("other.example\n")
    with open(f"{place}/qmail/service/pysend/run", "a") as file:
        file.write("# mine\n")
    with open(f"{place}/qmail/control/destinations", "w") as file:
        file.write("half a li")
    before, people = tree(f"{place}/qmail"), ids(place)
    os.chmod(f"{place}/qmail/queue/todo", 0o755)
    os.unlink(f"{place}/qmail/queue/lock/tcpto")
    done = inside(*make)
    assert (done.returncode, done.stderr) == (0, "")
    assert tree(f"{place}/qmail") == before and ids(place) == people


@pytest.mark.parametrize("name", ["queue", "queue/lock/trigger", "alias", "run"])
def test_a_link_is_not_followed(inside, place, name):
    make = [f"{ROOT}/bin/pyqmail", "home", "--users", f"{place}/qmail"]
    assert inside(*make).returncode == 0
    target = f"{place}/not-qmails"
    os.rename(f"{place}/qmail/{name}", target)
    os.chown(target, 0, 0)
    os.chmod(target, 0o711)
    os.symlink(target, f"{place}/qmail/{name}")
    done = inside(*make)
    assert (done.returncode, done.stderr) == (100, f"pyqmail: fatal: {place}/qmail/{name} is a link\n")
    seen = os.stat(target)
    assert (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)) == (0, 0, 0o711)


def test_a_private_home_is_left_alone(inside, place):
    os.mkdir(f"{place}/qmail")
    open(f"{place}/qmail/private", "w").close()
    done = inside(f"{ROOT}/bin/pyqmail", "home", "--users", f"{place}/qmail")
    assert (done.returncode, os.listdir(f"{place}/qmail")) == (100, ["private"])


def test_not_root(run, tmp_path):
    if os.getuid() == 0:
        how = {"preexec_fn": lambda: os.setresuid(65534, 65534, 65534), "cwd": "/"}
        words = [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {ROOT!r}); from pyqmail.programs import pyqmail; "
            "sys.exit(pyqmail.main(sys.argv))",
        ]
        try:
            done = subprocess.run([*words, "home", "/nowhere/qmail"], capture_output=True, timeout=60, **how)
        except PermissionError:
            pytest.skip("others cannot run this interpreter")
        code, err = done.returncode, done.stderr
        if b"Error" in err:
            pytest.skip("others cannot read this checkout")
    else:
        code, _, err = run("pyqmail", "home", "/nowhere/qmail")
    assert (code, err.count(b"\n")) == (100, 1) and b"only root" in err


# the README's commands, in a path with a blank; then a message for postmaster, from root
THREE = """set -eu
{bin}/pyqmail home --users {home} >"$LOG"
{bin}/pysvscan --stop-on-term {home}/service >>"$LOG" 2>&1 &
{bin}/pysvwait -U -t 60 {home}/service/pysmtpd
printf 'Subject: it works\\n\\nhello\\n' | PYQMAIL_HOME={home} {bin}/pyqmail send --port 25 postmaster@here.example
until ls {home}/alias/Maildir/new/* 2>/dev/null; do sleep 0.05; done
cat {home}/alias/Maildir/new/*
for pid in $({bin}/pysvstat {home}/service/* {home}/service/*/log | sed 's/.*(pid \\([0-9]*\\)).*/\\1/')
do ps -o user=,comm= -p $pid; done
kill %1 || kill $!
wait
"""


def test_three_commands_and_a_message_arrives(inside, place):
    """Nothing in PATH leads to our programs; the accounts need not be able to read them."""
    shutil.copytree(f"{ROOT}/bin", f"{place}/our programs/bin")
    shutil.copytree(f"{ROOT}/pyqmail", f"{place}/our programs/pyqmail", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(f"{ROOT}/services", f"{place}/our programs/services")
    os.symlink(os.path.dirname(os.path.dirname(sys.executable)), f"{place}/our programs/.venv")
    os.chmod(f"{place}/our programs", 0o700)
    script = THREE.format(bin=f"'{place}/our programs/bin'", home=f"{place}/qmail")
    done = inside("env", f"LOG={place}/log", "timeout", "100", "sh", "-c", script)
    with open(f"{place}/log") as file:
        assert done.returncode == 0, (done, file.read())
    assert "\nSubject: it works\n" in done.stdout and "Delivered-To: postmaster@here.example\n" in done.stdout
    who = {
        tuple(line.split()) for line in done.stdout.splitlines() if len(line.split()) == 2 and line.startswith("qmail")
    }
    assert who >= {("qmaill", "pymultilog"), ("qmails", "pysend"), ("qmailq", "pyqueued"), ("qmaild", "pytcpserver")}


def test_the_machine_has_kept_its_accounts(inside, place):
    before = pwd.getpwall(), grp.getgrall()
    assert inside(f"{ROOT}/bin/pyqmail", "home", "--users", f"{place}/qmail").returncode == 0
    assert (pwd.getpwall(), grp.getgrall()) == before
