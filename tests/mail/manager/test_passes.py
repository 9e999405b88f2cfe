"""A pass over channel files of every shape, read in slices; marks and bounce texts."""

import os
import time

import pytest

from pyqmail.mail.manager import passes
from pyqmail.mail.manager.passes import Broken, Files, Pass
from pyqmail.mail.queue.files import QueueNames


@pytest.fixture
def files(home):
    return Files(QueueNames(home.queue, 23))


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def whole(files, number, now=1000):
    """Read a remote file as deliveries do; return the pass and all its recipients."""
    pass_, found = files.open_pass("remote", number, now, 604800)
    while not pass_.at_end:
        found += files.read_next_slice(pass_)
    return pass_, found


@pytest.mark.parametrize("count", [0, 1, 700, 5000])
@pytest.mark.parametrize("slice_bytes", [2048, 32768])
def test_slices_give_each_recipient_once(files, home, count, slice_bytes, monkeypatch):
    monkeypatch.setattr(passes, "SLICE_BYTES", slice_bytes)
    names = QueueNames(home.queue, 23)
    records = [(b"T", b"D")[i % 3 == 1] + b"user%d@far.example" % i for i in range(count)]
    write(names.remote(50), b"".join(record + b"\0" for record in records))
    write(names.info(50), b"Fs@x\0")
    pass_, found = whole(files, 50)
    wanted = [record[1:] for record in records if record.startswith(b"T")]
    assert [recipient.address for recipient in found] == wanted
    assert pass_.undone == pass_.running == len(wanted) and not pass_.is_odd
    pass_.marks = [recipient.offset for recipient in found]
    files.write_marks(pass_)
    with open(names.remote(50), "rb") as file:
        assert file.read() == b"".join(b"D" + record[1:] + b"\0" for record in records)


@pytest.mark.parametrize(
    "content, addresses",
    [
        (b"Ta\0Xb\0Tc\0", [b"a"]),
        (b"Ta\0Tb", [b"a"]),
        (b"\0Ta\0", []),
        (b"T" + b"x" * 40000 + b"\0", []),
    ],
)
def test_an_odd_file_is_never_done(files, home, content, addresses):
    names = QueueNames(home.queue, 23)
    write(names.remote(50), content)
    write(names.info(50), b"Fs@x\0")
    pass_, found = whole(files, 50)
    assert [recipient.address for recipient in found] == addresses
    assert pass_.is_odd and pass_.undone == len(addresses) + 1


@pytest.mark.parametrize("info", [b"", b"Fs@x", b"Ts@x\0"])
def test_info_that_is_none(files, home, info):
    names = QueueNames(home.queue, 23)
    write(names.remote(50), b"Ta@b\0")
    write(names.info(50), info)
    with pytest.raises(Broken):
        files.open_pass("remote", 50, 0, 1)


def test_only_the_first_record_of_info_counts(files, home):
    names = QueueNames(home.queue, 23)
    write(names.info(50), b"Fs@x\0hmore\0")
    os.utime(names.info(50), (7, 7))
    assert files.read_info(50) == (b"s@x", 7)


def test_dying_and_retry():
    assert not Pass(1, "remote", b"", 0, 604800, 604800).is_dying
    assert Pass(1, "remote", b"", 0, 604801, 604800).is_dying
    assert Pass(1, "local", b"", 0, 100, 1).retry == 400


def test_bounces_are_appended(files, home):
    assert files.append_bounces({1: b"one\n", 2: b"two\n"}) == set()
    assert files.append_bounces({1: b"more\n"}) == set()
    with open(f"{home.queue}/bounce/1", "rb") as file:
        assert file.read() == b"one\nmore\n"


def test_a_bounce_that_cannot_be_written(files, home):
    os.mkdir(f"{home.queue}/bounce/1")
    assert files.append_bounces({1: b"one\n", 2: b"two\n"}) == {1}


@pytest.mark.parametrize(
    "channel, age, seconds, wanted",
    [
        ("remote", 0, 0, 400),
        ("remote", 0, 399, 400),
        ("remote", 0, 400, 1600),  # it took longer than its retry time: counted again from the end
        ("remote", 0, 1200, (34 + 20) ** 2),
        ("remote", 400, 2000, (48 + 20) ** 2),
        ("local", 0, 0, 100),
        ("local", 0, 100, 400),
    ],
)
def test_a_retry_never_comes_before_the_end_of_the_try_it_follows(channel, age, seconds, wanted):
    began = time.monotonic()
    pass_ = Pass(50, channel, b"s@x", 1000, 1000 + age, 604800)
    pass_.at_end = True
    pass_.record_end(began + seconds + 0.5)
    assert pass_.retry == 1000 + wanted > 1000 + age + seconds
    pass_.retry = 5  # an ALRM has made it due since
    pass_.record_end(began + 9000)
    assert pass_.retry == 5
