"""What a logger reads, and what is still in the pipe if it is killed before it has written that."""

import os

import pytest

from pyqmail.supervise.intake import Kept, Taken


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def left_in(fd):
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


LEFT = [
    # in the pipe                         read and done           what a next logger finds
    (b"one\n",                            [b"one\n"],             b""),
    (b"one\ntwo\n",                       [b"one\n"],             b"two\n"),
    (b"one\ntwo\n",                       [b"one\nt"],            b"two\n"),
    (b"one\ntwo\n",                       [b"one\nt", b"w"],      b"o\n"),
    (b"one\ntwo\n",                       [b"one\nt", b"wo\n"],   b""),
    (b"one\ntwo\nthree\n",                [b"one\nt", b"wo\nt"],  b"three\n"),
    (b"one\nt",                           [b"one\nt"],            b""),
    (b"one",                              [b"o", b"n"],           b"e"),
]  # fmt: skip


@pytest.mark.parametrize("given, pieces, left", LEFT)
def test_what_is_done_is_gone_but_for_the_start_of_a_line(pipe, given, pieces, left):
    reading, writing = pipe
    kept = Kept(reading)
    os.write(writing, given)
    for piece in pieces:
        assert kept.read(len(piece)) == piece
        kept.done()
        kept.done()  # nothing was read since
    kept.close()
    assert left_in(reading) == left


@pytest.mark.parametrize("given, pieces, left", LEFT)
def test_what_is_not_done_is_all_there(pipe, given, pieces, left):
    reading, writing = pipe
    kept = Kept(reading)
    os.write(writing, given)
    kept.read(len(pieces[0]))
    kept.close()
    assert left_in(reading) == given


@pytest.mark.parametrize("limit", [1, 7, 1024, 2048, 65536])
@pytest.mark.parametrize(
    "line", [b"x\n", b"x" * 99 + b"\n", b"x" * 1023 + b"\n", b"x" * 5000 + b"\n", b"x" * 70000 + b"\n"]
)
def test_everything_is_read_once_in_order(pipe, line, limit):
    reading, writing = pipe
    os.set_blocking(writing, False)
    kept, sent, got, total = Kept(reading), 0, [], line * (200_000 // len(line) + 1)
    total = total[: max(10 * limit, 140_000)]
    while True:
        try:
            while sent < len(total):
                sent += os.write(writing, total[sent : sent + 3000])
        except BlockingIOError:
            pass
        try:
            got.append(kept.read(limit))
        except BlockingIOError:
            break
        kept.done()
    assert b"".join(got) == total
    assert all(len(piece) <= 1024 or len(piece) % 1024 == 0 for piece in got)
    kept.close()


def test_somebody_else_reads_the_same_pipe(pipe):
    reading, writing = pipe
    kept = Kept(reading)
    os.write(writing, b"one\ntwo\n")
    assert kept.read(5) == b"one\nt"
    kept.done()
    assert left_in(reading) == b"two\n"
    with pytest.raises(BlockingIOError):
        kept.read(5)
    os.write(writing, b"five\n")
    assert kept.read(100) == b"five\n"
    kept.close()


def test_the_end(pipe):
    reading, writing = os.pipe()
    kept = Kept(reading)
    os.write(writing, b"one\ntwo")
    os.close(writing)
    assert kept.read(100) == b"one\ntwo"
    kept.done()
    assert kept.read(100) == b""
    kept.done()
    kept.close()
    os.close(reading)


def test_a_file_is_no_pipe(tmp_path):
    (tmp_path / "file").write_bytes(b"one\n")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(OSError):
        Kept(fd)
    taken = Taken(fd)
    assert (taken.read(3), taken.done(), taken.read(3), taken.read(3)) == (b"one", None, b"\n", b"")
    os.close(fd)
