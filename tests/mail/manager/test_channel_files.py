"""Channel files of every shape, read in slices and at offsets; marks, due times and bounce texts."""

import os

import pytest

from pyqmail.mail.manager import channel_files
from pyqmail.mail.manager.channel_files import Broken, QueueFiles, Removed, parse_records
from pyqmail.mail.queue.files import QueueNames


@pytest.fixture
def names(home):
    return QueueNames(home.queue, 23)


@pytest.fixture
def files(names):
    return QueueFiles(names)


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def whole(files, number):
    """Read a remote file as the queue manager does; return (recipients, whether it met nonsense)."""
    found, position = [], 0
    while True:
        some, position, is_end, is_odd, _ = files.read_slice("remote", number, position)
        found += some
        if is_end or is_odd:
            return found, is_odd


@pytest.mark.parametrize("count", [0, 1, 700, 5000])
@pytest.mark.parametrize("slice_bytes", [2048, 32768])
def test_slices_give_each_recipient_once(files, names, count, slice_bytes, monkeypatch):
    monkeypatch.setattr(channel_files, "SLICE_BYTES", slice_bytes)
    records = [(b"T", b"D")[i % 3 == 1] + b"user%d@far.example" % i for i in range(count)]
    write(names.remote(50), b"".join(record + b"\0" for record in records))
    wanted = [record[1:] for record in records if record.startswith(b"T")]
    found, is_odd = whole(files, 50)
    assert [address for _, address in found] == wanted and not is_odd
    if not wanted:
        return
    offsets = [offset for offset, _ in found]
    for some in (offsets, offsets[::-1], offsets[:1], [offsets[0], offsets[-1]]):
        assert files.read_addresses("remote", 50, some) == [dict(found)[offset] for offset in some]
    files.write_marks("remote", 50, offsets)
    assert set(files.read_addresses("remote", 50, offsets)) == {None}
    with open(names.remote(50), "rb") as file:
        assert file.read() == b"".join(b"D" + record[1:] + b"\0" for record in records)


def test_marks_leave_the_due_time(files, names):
    write(names.remote(50), b"Ta@b\0Tc@d\0")
    files.set_due("remote", 50, 12345)
    files.write_marks("remote", 50, [5])
    assert os.stat(names.remote(50)).st_mtime == 12345 and files.read_slice("remote", 50, 0)[4] == 12345


@pytest.mark.parametrize(
    "content, addresses",
    [
        (b"Ta\0Xb\0Tc\0", [b"a"]),
        (b"Ta\0Tb", [b"a"]),
        (b"\0Ta\0", []),
        (b"T" + b"x" * 40000 + b"\0", []),
    ],
)
def test_an_odd_file_is_never_read_to_its_end(files, names, content, addresses):
    write(names.remote(50), content)
    found, is_odd = whole(files, 50)
    assert [address for _, address in found] == addresses and is_odd


@pytest.mark.parametrize("offset", [1, 5, 9, 10, 4000])
def test_where_no_record_stands_nothing_is_taken_for_one(files, names, offset):
    """A file that was cut, or is not what was read before: the recipient is not done."""
    write(names.remote(50), b"Ta@b\0Qhm\0")
    with pytest.raises(Broken) as broken:
        files.read_addresses("remote", 50, [0, offset])
    assert broken.value.warning == b"warning: unknown record type in remote/4/50!"


def test_a_long_address_and_one_far_behind(files, names):
    long = b"x" * 5000 + b"@far.example"
    write(names.remote(50), b"T%b\0" % long + b"Dd@e\0" * 9000 + b"Tz@y\0")
    assert files.read_addresses("remote", 50, [0, len(long) + 2 + 9000 * 5]) == [long, b"z@y"]


def test_a_channel_file_that_is_not_there(files, names):
    with pytest.raises(Removed):
        files.read_addresses("remote", 50, [0])
    os.rename(os.path.dirname(names.remote(50)), names.queue + "/away")
    for read in (lambda: files.read_addresses("remote", 50, [0]), lambda: files.read_slice("remote", 50, 0)):
        with pytest.raises(Broken) as broken:
            read()
        assert not isinstance(broken.value, Removed)


@pytest.mark.parametrize("info", [b"", b"Fs@x", b"Ts@x\0", None])
def test_info_that_is_none(files, names, info):
    if info is not None:
        write(names.info(50), info)
    with pytest.raises(Broken) as broken:
        files.read_sender(50)
    assert broken.value.warning == b"warning: trouble opening info/4/50; will try again later"


def test_only_the_first_record_of_info_counts(files, names):
    write(names.info(50), b"Fs@x\0hmore\0")
    os.utime(names.info(50), (7, 7))
    assert files.read_info(50) == files.read_sender(50) == (b"s@x", 7)


def test_bounces_are_appended(files, home):
    for text in (b"one\n", b"more\n"):
        os.close(files.append_bounce(1, text))
    with open(f"{home.queue}/bounce/1", "rb") as file:
        assert file.read() == b"one\nmore\n"
    os.mkdir(f"{home.queue}/bounce/2")
    with pytest.raises(OSError):
        files.append_bounce(2, b"two\n")


def test_records_in_memory():
    assert parse_records(b"") == ([], 0, False)
    assert parse_records(b"Ta\0Db\0Tc\0", 100) == ([(100, b"a"), (106, b"c")], 9, False)
    assert parse_records(b"Ta\0Tb") == ([(0, b"a")], 3, False)
    assert parse_records(b"Ta\0Qb\0Tc\0") == ([(0, b"a")], 3, True)
