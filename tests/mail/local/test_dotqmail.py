import pytest

from pyqmail.mail.local.dotqmail import (
    BLANK,
    FILE,
    FORWARD,
    LIST,
    MAILDIR,
    PROGRAM,
    candidates,
    instructions,
    owner_files,
)

CANDIDATES = [
    # dash, ext           file names, and what DEFAULT would be (None: not set)
    (b"", b"", [(b".qmail", None), (b".qmaildefault", b"")]),
    (b"-", b"", [(b".qmail-", None), (b".qmail-default", b"")]),
    (b"-", b"list", [(b".qmail-list", None), (b".qmail-default", b"list")]),
    (
        b"-",
        b"a-b-c",
        [
            (b".qmail-a-b-c", None),
            (b".qmail-a-b-default", b"c"),
            (b".qmail-a-default", b"b-c"),
            (b".qmail-default", b"a-b-c"),
        ],
    ),
    (b"-", b"a-", [(b".qmail-a-", None), (b".qmail-a-default", b""), (b".qmail-default", b"a-")]),
    (b"-", b"First.Last", [(b".qmail-first:last", None), (b".qmail-default", b"First.Last")]),
    (
        b"-",
        b"x-DEFAULT",
        [(b".qmail-x-default", b"DEFAULT"), (b".qmail-x-default", b"DEFAULT"), (b".qmail-default", b"x-DEFAULT")],
    ),
    (b"-/", b"x", [(b".qmail-/x", None), (b".qmail-/default", b"x")]),
    (b"-", b"A\xc4", [(b".qmail-a\xc4", None), (b".qmail-default", b"A\xc4")]),
]

LINES = [
    # text                                   instructions
    (b"", [(BLANK, b"")]),
    (b"\n./Mailbox\n", [(BLANK, b""), (FILE, b"./Mailbox")]),
    (b" \t\n", [(BLANK, b"")]),
    (b"# nothing\n", []),
    (b"# nothing\n\n \n./Mailbox", [(FILE, b"./Mailbox")]),
    (b"./Maildir/ \t\n/var/x\n.hidden\n", [(MAILDIR, b"./Maildir/"), (FILE, b"/var/x"), (FILE, b".hidden")]),
    (b"|cat  \n| cat\n", [(PROGRAM, b"cat"), (PROGRAM, b" cat")]),
    (
        b"&me@x\nme@y\n  me@z\n& me\n&\n",
        [(FORWARD, b"me@x"), (FORWARD, b"me@y"), (FORWARD, b"  me@z"), (FORWARD, b" me"), (FORWARD, b"")],
    ),
    (b"+list\n+other\n+lists\na@b", [(LIST, b""), (FORWARD, b"a@b")]),
    (b"a\0b\n\0\n", [(FORWARD, b"a")]),
    (b"Mailbox\r\n", [(FORWARD, b"Mailbox\r")]),
]


@pytest.mark.parametrize("dash, ext, names", CANDIDATES)
def test_file_names(dash, ext, names):
    assert [(name, None if at is None else ext[at:]) for name, at in candidates(dash, ext)] == names


@pytest.mark.parametrize("text, said", LINES)
def test_lines(text, said):
    assert list(instructions(text)) == said


def test_owner_files_are_of_the_exact_extension():
    assert owner_files(b"-", b"My.List") == (b".qmail-my:list-owner", b".qmail-my:list-owner-default")
    assert owner_files(b"", b"") == (b".qmail-owner", b".qmail-owner-default")
