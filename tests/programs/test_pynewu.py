import os
import struct

import pytest

ASSIGN = (
    b"=joe:joe:1:2:/home/joe:::\n+joe-:joe:1:2:/home/joe:-::\n=JOE:second:1:2:/:::rest:more\n"
    + b"".join(b"=user%d:u:%d:2:/h:::\n" % (i, i) for i in range(300))
    + b"+:alias:3:4:/alias:-::\n.\n+ignored\n"
)


def layout(records):
    """Build a cdb by the book.  Source: cdb_make.c of cdb"""
    data, tables, at = b"", [[] for _ in range(256)], 2048
    for key, value in records:
        h = 5381
        for byte in key:
            h = (h * 33) % 2**32 ^ byte
        tables[h % 256].append((h, at))
        record = struct.pack("<II", len(key), len(value)) + key + value
        data, at = data + record, at + len(record)
    head, tail = b"", b""
    for entries in tables:
        slots = [(0, 0)] * (2 * len(entries))
        for h, position in entries:
            where = h // 256 % len(slots)
            while slots[where][1]:
                where = (where + 1) % len(slots)
            slots[where] = h, position
        head += struct.pack("<II", at + len(tail), len(slots))
        tail += b"".join(struct.pack("<II", *slot) for slot in slots)
    return head + data + tail


def test_the_cdb_is_the_originals_byte_for_byte(run, home):
    with open(f"{home.users}/assign", "wb") as assign:
        assign.write(ASSIGN)
    assert run("pynewu", env={"PYQMAIL_HOME": home.path}) == (0, b"", b"")
    records = [
        (b"!joe\0", b"joe\0001\0002\0/home/joe\0\0"),
        (b"!joe-", b"joe\0001\0002\0/home/joe\0-\0"),
        (b"!joe\0", b"second\0001\0002\0/\0\0"),
    ]
    records += [(b"!user%d\0" % i, b"u\0%d\0002\0/h\0\0" % i) for i in range(300)]
    records += [(b"!", b"alias\0003\0004\0/alias\0-\0"), (b"", b"-")]
    with open(f"{home.users}/cdb", "rb") as made:
        assert made.read() == layout(records)
    assert os.stat(f"{home.users}/cdb").st_mode & 0o777 == 0o644
    assert sorted(os.listdir(home.users)) == ["assign", "cdb"]


FAILURES = [
    (
        b"=a:a:1:1:/:::\n=joe:joe\n.\n",
        b"qmail-newu: warning: users/assign: line 2 is not of the form =local:user:uid:gid:home:dash:ext:\n"
        b"qmail-newu: fatal: bad format in users/assign\n",
    ),
    (
        b"",
        b"qmail-newu: warning: users/assign: the last line is not a dot\n"
        b"qmail-newu: fatal: bad format in users/assign\n",
    ),
    (None, b"qmail-newu: fatal: unable to open users/assign\n"),
]


@pytest.mark.parametrize("text, err", FAILURES)
def test_a_failure_leaves_the_old_one(run, home, text, err):
    with open(f"{home.users}/cdb", "wb") as old:
        old.write(b"old")
    if text is not None:
        with open(f"{home.users}/assign", "wb") as assign:
            assign.write(text)
    assert run("pynewu", env={"PYQMAIL_HOME": home.path}) == (111, b"", err)
    with open(f"{home.users}/cdb", "rb") as old:
        assert old.read() == b"old"


def test_trouble_with_the_new_file(run, home):
    with open(f"{home.users}/assign", "wb") as assign:
        assign.write(b".\n")
    os.mkdir(f"{home.users}/cdb.tmp")
    assert run("pynewu", env={"PYQMAIL_HOME": home.path}).err == b"qmail-newu: fatal: unable to open users/cdb.tmp\n"
    os.rmdir(f"{home.users}/cdb.tmp")
    os.mkdir(f"{home.users}/cdb")
    expected = b"qmail-newu: fatal: unable to move users/cdb.tmp to users/cdb\n"
    assert run("pynewu", env={"PYQMAIL_HOME": home.path}).err == expected


def test_no_home(run, tmp_path):
    assert run("pynewu", env={"PYQMAIL_HOME": f"{tmp_path}/none"}) == (
        111,
        b"",
        b"qmail-newu: fatal: unable to chdir\n",
    )


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_the_new_file_is_written_to_nothing_that_stands_there(run, tmp_path, link):
    users, victim = tmp_path / "users", tmp_path / "victim"
    users.mkdir()
    victim.write_text("precious")
    (users / "assign").write_text("=joe:joe:1:1:/home/joe:::\n.\n")
    link(victim, users / "cdb.tmp")
    assert run("pynewu", env={"PYQMAIL_HOME": str(tmp_path)}) == (0, b"", b"")
    assert (
        victim.read_text() == "precious" and not (users / "cdb").is_symlink() and (users / "cdb").stat().st_nlink == 1
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_who_else_could_say_whom_root_becomes(run, tmp_path):
    users = tmp_path / "users"
    users.mkdir()
    (users / "assign").write_text(".\n")
    os.chown(users / "assign", 12345, 0)
    said = f"qmail-newu: warning: users/assign is believed by root, but {users}/assign belongs to uid 12345\n".encode()
    assert run("pynewu", env={"PYQMAIL_HOME": str(tmp_path)}) == (0, b"", said)
