import collections
import errno
import os

import pytest

from pyqmail.mail.local.users import (
    BUG,
    CDB,
    NFS,
    NO_ALIAS,
    BadFormat,
    Unknown,
    compile_assign,
    find_assigned,
    find_in_passwd,
    find_in_private_home,
    unpack,
)  # fmt: skip

ASSIGN = [
    # users/assign                              records
    (b".\n", [(b"", b"")]),
    (b".", [(b"", b"")]),
    (b"=Joe:joe:1:2:/home/joe:::\n.\n", [(b"!joe\0", b"joe\0001\0002\0/home/joe\0\0"), (b"", b"")]),
    (b"+joe-:joe:1:2:/h:-::\n.\n", [(b"!joe-", b"joe\0001\0002\0/h\0-\0"), (b"", b"-")]),
    (b"+:alias:1:2:/a:-::\n.x\nrubbish", [(b"!", b"alias\0001\0002\0/a\0-\0"), (b"", b"")]),
    (b"=a:b:c:d:e:f:g:h:i\n.\n", [(b"!a\0", b"b\0c\0d\0e\0f\0g"), (b"", b"")]),
    (b"?a:b:1:2:e:f:g:\n.\n", [(b"!a\0", b"b\0001\0002\0e\0f\0g"), (b"", b"")]),
    (
        b"+a-:u:1:2:h:-::\n+b+:u:1:2:h:-::\n+c-:u:1:2:h:-::\n+dX:u:1:2:h:-::\n.\n",
        [(key, b"u\0001\0002\0h\0-\0") for key in (b"!a-", b"!b+", b"!c-", b"!dx")] + [(b"", b"-+X")],
    ),
]

BAD = [
    b"",
    b"\n.\n",
    b"=a:b:1:2:h:-:\n.\n",
    b"=a:b:1:2:h:-:x:\n",
    b":b:1:2:h:-::\n.\n",
    b"#\n.\n",
    b"=a:b\0:1:2:h:-::\n.\n",
    b"=a:b:1:2:h:-::",
]


@pytest.mark.parametrize("text, records", ASSIGN)
def test_assign_becomes_records(text, records):
    assert compile_assign(text) == records


@pytest.mark.parametrize("text", BAD)
def test_bad_assign(text):
    with pytest.raises(BadFormat):
        compile_assign(text)


TABLE = (
    b"=joe:joe:1:2:/joe:::\n+joe-:joe:1:2:/joe:-::\n+joe-list-:joe:1:2:/joe:-:l-:\n"
    b"=Dup:first:1:2:/::: \n=dup:second:1:2:/:::\n+jo:short:1:2:/jo:-:pre:\n+:alias:3:4:/alias:-::\n.\n"
)
FOUND = [
    # local                user, dash, ext
    (b"joe", (b"joe", b"", b"")),
    (b"JOE", (b"joe", b"", b"")),
    (b"joe-X.y", (b"joe", b"-", b"X.y")),
    (b"Joe-List-Foo", (b"joe", b"-", b"l-Foo")),
    (b"joe-", (b"joe", b"-", b"")),
    (b"dup", (b"first", b"", b"")),
    (b"jo", (b"short", b"-", b"pre")),
    (b"jonas", (b"short", b"-", b"prenas")),
    (b"someone", (b"alias", b"-", b"someone")),
    (b"Someone.Else-X", (b"alias", b"-", b"Someone.Else-X")),
]


def reader(text):
    table = {}
    for key, data in compile_assign(text):
        table.setdefault(key, data)
    return table.get


@pytest.mark.parametrize("local, expected", FOUND)
def test_lookup_in_the_compiled_file(local, expected):
    account = find_assigned(reader(TABLE), local)
    assert (account.user, account.dash, account.ext) == expected


def test_nobody_without_catch_all():
    assert find_assigned(reader(b"=joe:joe:1:2:/joe:::\n.\n"), b"jim") is None


def test_prefix_ending_in_an_upper_case_letter_never_matches():
    assert find_assigned(reader(b"+joeX:joe:1:2:/joe:-::\n.\n"), b"joeXy") is None


def test_a_cdb_that_is_not_compiled_from_assign_is_trouble():
    with pytest.raises(Unknown) as unknown:
        find_assigned({}.get, b"joe")
    assert unknown.value.code == CDB


def test_too_few_fields_are_our_bug():
    with pytest.raises(Unknown) as unknown:
        unpack(b"joe\0001\0002\0/home\0-\0ext")
    assert unknown.value.code == BUG


Entry = collections.namedtuple("Entry", "pw_name pw_uid pw_gid pw_dir")
PASSWD = {
    name: Entry(name, uid, 100, home)
    for name, uid, home in [
        ("root", 0, "/root"), ("joe", 1, "/joe"), ("joe-x", 2, "/joex"), ("foreign", 3, "/joe"),
        ("homeless", 4, "/none"),
        ("alias", 9, "/alias"), ("a" * 31, 5, "/long"), ("b" * 32, 6, "/longer"), ("stale", 7, "/stale"),
    ]
}  # fmt: skip
HOMES = {"/joe": 1, "/joex": 2, "/root": 0, "/alias": 9, "/long": 5, "/longer": 6}


def stat(path):
    if path == "/stale":
        raise OSError(errno.ESTALE, "stale")
    if path not in HOMES:
        raise FileNotFoundError(errno.ENOENT, path)
    return collections.namedtuple("Stat", "st_uid")(HOMES[path])


PASSWD_FOUND = [
    # local                user, dash, ext
    (b"joe", (b"joe", b"", b"")),
    (b"Joe-Y", (b"joe", b"-", b"Y")),
    (b"joe-x", (b"joe-x", b"", b"")),
    (b"JOE-X-y-z", (b"joe-x", b"-", b"y-z")),
    (b"joe-", (b"joe", b"-", b"")),
    (b"joe+y", (b"alias", b"-", b"joe+y")),
    (b"root", (b"alias", b"-", b"root")),
    (b"foreign-x", (b"alias", b"-", b"foreign-x")),
    (b"homeless", (b"alias", b"-", b"homeless")),
    (b"a" * 31 + b"-x", (b"a" * 31, b"-", b"x")),
    (b"b" * 32, (b"alias", b"-", b"b" * 32)),
    (b"-x", (b"alias", b"-", b"-x")),
    (b"\xe4", (b"alias", b"-", b"\xe4")),
]


@pytest.mark.parametrize("local, expected", PASSWD_FOUND)
def test_lookup_in_the_password_database(local, expected):
    account = find_in_passwd(local, PASSWD.__getitem__, stat)
    assert (account.user, account.dash, account.ext) == expected


def test_home_out_of_reach():
    with pytest.raises(Unknown) as unknown:
        find_in_passwd(b"stale-x", PASSWD.__getitem__, stat)
    assert unknown.value.code == NFS


def test_no_alias_user():
    with pytest.raises(Unknown) as unknown:
        find_in_passwd(b"nobody", {}.__getitem__, stat)
    assert unknown.value.code == NO_ALIAS


def test_in_a_private_home_the_owner_is_alias_to_everybody(home):
    account = find_in_private_home(home, b"Any.One")
    assert (account.user, account.uid, account.home) == (b"alias", os.getuid(), os.fsencode(home.alias))
    assert unpack(account.pack()).ext == b"Any.One"
