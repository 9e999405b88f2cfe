import contextlib
import fcntl
import os
import select
import subprocess
import sys

import pytest

from pyqmail.mail.local import mbox

ROOT = os.path.abspath(f"{os.path.dirname(__file__)}/../../..")
QUOTED = [
    # content                           as it stands in the file, with the blank line
    (b"", b"\n"),
    (b"a\n", b"a\n\n"),
    (b"a", b"a\n\n"),
    (b"From x\n", b">From x\n\n"),
    (b"From ", b">From \n\n"),
    (b"From", b"From\n\n"),
    (b"From:\nxFrom y\n>From z\n>>>From z\n", b"From:\nxFrom y\n>>From z\n>>>>From z\n\n"),
    (b"a\nFrom b\nc From d\n> From e\n", b"a\n>From b\nc From d\n> From e\n\n"),
    (b">>From From \n", b">>>From From \n\n"),
    (b"From >From >From \n", b">From >From >From \n\n"),
    (b"\0From \n\xffFrom \n>\nFrom \n", b"\0From \n\xffFrom \n>\n>From \n\n"),
    (b"FFrom \nFrFrom \n>F\n>Fro", b"FFrom \nFrFrom \n>F\n>Fro\n\n"),
    (b">" * 9 + b"From x" + b">" * 9, b">" * 10 + b"From x" + b">" * 9 + b"\n\n"),
]


def no_limit(seconds):
    return contextlib.nullcontext()


def refuse(seconds):
    raise mbox.LockTimeout


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 65536])
@pytest.mark.parametrize("content, quoted", QUOTED)
def test_quoting_is_the_same_in_any_pieces(content, quoted, size):
    quoting = mbox.Quoting()
    got = (
        b"".join(quoting.receive(content[i : i + size]) for i in range(0, len(content), size))
        + quoting.finish()
        + b"\n"
    )
    assert got == quoted


def test_appends_with_mode_0600(tmp_path):
    path = os.fsencode(tmp_path / "box")
    mbox.deliver(path, b"From x\nRP\n", [b"a\nFrom ", b"b"], no_limit)
    mbox.deliver(path, b"From y\nRP\n", [b""], no_limit)
    assert (tmp_path / "box").read_bytes() == b"From x\nRP\na\n>From b\n\nFrom y\nRP\n\n"
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_failure_leaves_the_file_as_it_was(tmp_path):
    def broken():
        yield b"x" * 100000
        raise OSError(5, "io")

    path = tmp_path / "box"
    path.write_bytes(b"before\n")
    with pytest.raises(mbox.NotAppended) as failed:
        mbox.deliver(os.fsencode(path), b"From x\n", broken(), no_limit)
    assert failed.value.text == b"Unable to read message: input/output error. (#4.3.0)"
    assert path.read_bytes() == b"before\n"


def test_full_disk(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with pytest.raises(mbox.NotAppended) as failed:
        mbox.deliver(b"/dev/full", b"From x\n", [b"x"], no_limit)
    assert failed.value.text == b"Unable to write /dev/full: out of disk space. (#4.3.0)"


def test_dev_null_takes_all():
    before, read = os.stat("/dev/null"), []

    def content():
        for piece in (b"x", b"y"):
            read.append(piece)
            yield piece

    mbox.deliver(b"/dev/null", b"From x\n", content(), no_limit)
    assert read == [b"x", b"y"]
    assert os.stat("/dev/null").st_mode == before.st_mode


OPENED = [
    (b"no/such", b"Unable to open no/such: file does not exist. (#4.2.1)"),
    (b"directory", b"Unable to open directory: is a directory. (#4.2.1)"),
    (b"fifo", b"Unable to open fifo: device not configured. (#4.2.1)"),
]


@pytest.mark.parametrize("path, text", OPENED)
def test_what_cannot_be_opened(tmp_path, monkeypatch, path, text):
    monkeypatch.chdir(tmp_path)
    os.mkdir("directory")
    os.mkfifo("fifo")
    with pytest.raises(mbox.NotAppended) as failed:
        mbox.deliver(path, b"", [b""], no_limit)
    assert failed.value.text == text


def test_a_lock_held_too_long(tmp_path):
    path = tmp_path / "box"
    with open(path, "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(mbox.NotAppended) as failed:
            mbox.deliver(os.fsencode(path), b"From x\n", [b"x"], refuse)
    assert failed.value.text == mbox.LOCKED
    assert path.read_bytes() == b""


WAIT = """
import contextlib, os, sys
from pyqmail.mail.local import mbox

def tell(seconds):
    os.write(1, b"waiting")
    return contextlib.nullcontext()

mbox.deliver(os.fsencode(sys.argv[1]), b"From x\\n", [b"new\\n"], tell)
"""


def test_waits_for_the_lock_and_follows_a_file_that_was_replaced(tmp_path):
    path = tmp_path / "box"
    path.write_bytes(b"old")
    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            [sys.executable, "-c", WAIT, path], stdout=subprocess.PIPE, bufsize=0, env={"PYTHONPATH": ROOT}
        )
        try:
            assert select.select([waiting.stdout], [], [], 30)[0] and waiting.stdout.read(99) == b"waiting"
            (tmp_path / "next").write_bytes(b"")
            os.rename(tmp_path / "next", path)
            other.close()
            assert waiting.wait(30) == 0
        finally:
            waiting.kill()
            waiting.wait()
            waiting.stdout.close()
    assert path.read_bytes() == b"From x\nnew\n\n"
