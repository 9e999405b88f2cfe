import os
import re

import pytest

from pyqmail.mail.local import maildir


@pytest.fixture
def box(tmp_path):
    for folder in ("tmp", "new", "cur"):
        (tmp_path / "Maildir" / folder).mkdir(parents=True)
    return tmp_path / "Maildir"


def deliver(box, blocks):
    before = os.umask(0o077)
    try:
        maildir.deliver(os.fsencode(box) + b"/", b"RP\nDT\n", iter(blocks), maildir.MaildirNames())
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "blocks", [[b""], [b"From x\nno newline"], [b"a" * 65536, b"b" * 65536, b"\n"], [b"\0\xff\r\n"]]
)
def test_a_message_stands_in_new_as_it_is(box, blocks):
    deliver(box, blocks)
    (name,) = os.listdir(box / "new")
    assert (box / "new" / name).read_bytes() == b"RP\nDT\n" + b"".join(blocks)
    assert os.listdir(box / "tmp") == []
    seen = os.stat(box / "new" / name)
    assert (seen.st_mode & 0o777, seen.st_nlink) == (0o600, 1)


def test_names_are_unique_and_end_in_the_host(box):
    names = maildir.MaildirNames()
    made = [names.next() for _ in range(1000)]
    assert len(set(made)) == 1000
    host = re.escape(os.fsencode(os.uname().nodename)[:64])
    assert all(re.fullmatch(rb"\d+\.M\d{1,6}P%dQ\d+\.%s" % (os.getpid(), host), name) for name in made)


class Fixed:
    def next(self):
        return b"1.M2P3Q4.host"


def test_a_name_that_is_taken_is_never_overwritten(box):
    for folder in ("tmp", "new"):
        (box / folder / "1.M2P3Q4.host").write_bytes(b"first")
        with pytest.raises(maildir.NotDelivered) as failed:
            maildir.deliver(os.fsencode(box) + b"/", b"", iter([b"second"]), Fixed())
        assert failed.value.text == maildir.TROUBLE
        assert (box / folder / "1.M2P3Q4.host").read_bytes() == b"first"
        os.unlink(box / folder / "1.M2P3Q4.host")


def broken():
    yield b"x"
    raise OSError(5, "io")


def test_an_unreadable_message_leaves_nothing(box):
    with pytest.raises(maildir.NotDelivered) as failed:
        deliver(box, broken())
    assert failed.value.text == maildir.UNREADABLE
    assert os.listdir(box / "tmp") == os.listdir(box / "new") == []


def test_a_time_limit_leaves_nothing(box):
    def expired():
        yield b"x"
        raise maildir.NotDelivered(maildir.TIMED_OUT)

    with pytest.raises(maildir.NotDelivered) as failed:
        deliver(box, expired())
    assert failed.value.text == maildir.TIMED_OUT
    assert os.listdir(box / "tmp") == os.listdir(box / "new") == []


def test_no_directory_is_told_from_a_broken_one(tmp_path):
    for name, text in (("none", maildir.NO_DIRECTORY), ("file", maildir.NO_DIRECTORY), ("empty", maildir.TROUBLE)):
        (tmp_path / "file").touch()
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(maildir.NotDelivered) as failed:
            deliver(tmp_path / name, [b"x"])
        assert failed.value.text == text


def test_without_new_nothing_stays_in_tmp(box):
    os.rmdir(box / "new")
    with pytest.raises(maildir.NotDelivered):
        deliver(box, [b"x"])
    assert os.listdir(box / "tmp") == []
