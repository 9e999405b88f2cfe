"""The pages of formats beside the real programs: their examples work, their tables are what stands on disk.

The wires: tests/interop/wires.
"""

import os
import re
import types

import pytest

from pyqmail.mail.local.users import find_assigned
from pyqmail.mail.queue.files import STATES, STEPS
from pyqmail.operations import real_home
from pyqmail.system.cdb import Reader

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def blocks(page, heading):
    """Return the texts of a section that are shown as they stand, without their indentation."""
    with open(f"{ROOT}/man/{page}", encoding="utf-8") as file:
        section = file.read().partition(f"\n.SH {heading}\n")[2].partition("\n.SH ")[0]
    found = re.findall(r"^\.nf\n(.*?)^\.fi$", section, re.MULTILINE | re.DOTALL)
    return ["".join(line[4:] for line in text.replace("\\-", "-").splitlines(keepends=True)) for text in found]


def test_the_rules(run, tmp_path):
    rules, _ = blocks("pyqmail-rules.5", "EXAMPLE")
    done = run("pytcprules", "rules.cdb", "rules.tmp", input=rules.encode(), cwd=tmp_path)
    assert (done.code, done.out, done.err) == (0, b"", b"")
    assert run("pytcprules", "--lint", input=rules.encode()) == (0, b"", b"")
    asked = [
        ("127.0.0.1", b"RELAYCLIENT=\n"),
        ("192.0.2.77", b"MAXCONNIP=200\n"),
        ("2001:db8::7", b"RELAYCLIENT=\n"),
        ("203.0.113.9", b"deny connection\n"),
        ("198.51.100.1", b"GREETHOLD=2\n"),
    ]
    for ip, wanted in asked:
        said = run("pytcprulescheck", "rules.cdb", env={"TCPREMOTEIP": ip}, cwd=tmp_path).out
        assert wanted in said, (ip, said)


def test_the_keys_of_networks(run, tmp_path):
    run("pytcprules", "rules.cdb", "rules.tmp", input=b"10.0.0.0/8:deny\n2001:db8::1:deny\n", cwd=tmp_path)
    compiled = (tmp_path / "rules.cdb").read_bytes()
    with open(f"{ROOT}/man/pyqmail-rules.5", "rb") as file:
        assert b"10.0.0.0/8 is \\fB_0000e0g0\\fR" in file.read()
    # a record: length of the key, length of the data, key, data
    assert b"\x09\0\0\0\x02\0\0\0_0000e0g0D\0" in compiled
    assert b"\x27\0\0\0\x02\0\0\0002001:0DB8:0000:0000:0000:0000:0000:0001D\0" in compiled


ADDRESSES = [
    # local part    user, dash, extension
    ("joe",         (b"joe", b"", b"")),
    ("Joe-X",       (b"joe", b"-", b"X")),
    ("list-news",   (b"lists", b"-", b"list-news")),
    ("other",       (b"alias", b"-", b"other")),
]  # fmt: skip


@pytest.mark.parametrize("local, wanted", ADDRESSES)
def test_the_users(run, home, local, wanted):
    _, assign = blocks("pyqmail-users.5", "USERS/ASSIGN")
    with open(f"{home.users}/assign", "w", encoding="ascii") as file:
        file.write(assign)
    assert run("pynewu", env={"PYQMAIL_HOME": home.path}) == (0, b"", b"")
    reader = Reader(f"{home.users}/cdb")
    account = find_assigned(reader.get, local.encode())
    reader.close()
    assert (account.user, account.dash, account.ext) == wanted


def test_the_dot_qmail_file(run, tmp_path):
    (text,) = blocks("pydot-qmail.5", "EXAMPLE")
    (tmp_path / ".qmail-x").write_text(text)
    words = "-n", "joe", str(tmp_path), "joe-x", "-", "x", "here.example", "s@there.example", "./Mailbox"
    message = tmp_path / "message"
    message.write_bytes(b"\n")
    done = run("pylocal", *words, prefix=("sh", "-c", f'exec "$@" <{message}', "sh"))
    assert (done.code, done.err) == (0, b"")
    program = b'program /usr/local/bin/filter "$SENDER" || exit 111\n'
    assert done.out == b"maildir ./Maildir/\n" + program + b"forward joe@there.example\ndid 1+1+1\n"


def test_the_states_of_a_message():
    states, steps = blocks("pyqmail-queue.5", "STATES")
    shown = {line.split()[0]: "".join(line.split()[1:8]) for line in states.splitlines()[1:]}
    assert shown == STATES
    words = [line.split(maxsplit=3) for line in steps.splitlines()]
    shown = {(before, after): rest.split()[0] for before, _, after, rest in words}
    done = {(before, after): what.split()[0] for (before, what), after in STEPS.items() if what != "unlink intd"}
    assert shown == {step: {"create": "make"}.get(what, what) for step, what in done.items()}


# numbers that no account has, by the letters of the table
UIDS, GID = {"q": 64010, "s": 64011, "r": 64012}, 64020


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make such a queue")
def test_the_folders_of_the_queue(tmp_path):
    (shown,) = blocks("pyqmail-queue.5", "FOLDERS")
    users = types.SimpleNamespace(uid={f"qmail{letter}": uid for letter, uid in UIDS.items()}, gid={"qmail": GID})
    real_home._make_queue(str(tmp_path / "queue"), users)
    for line in shown.splitlines()[1:]:
        name, owner, mode, *_ = line.split()
        if name == "lock/pyqueued":
            continue  # pyqueued makes it
        seen = os.stat(tmp_path / "queue" / ("." if name == "queue" else name.replace("/N", "/7")))
        found = seen.st_uid, seen.st_gid, f"{seen.st_mode & 0o7777:04o}"
        assert found == (UIDS[owner], GID, mode), name
