"""What a logger reads, and what is still in the pipe if it is killed before it has written that."""

import fcntl
import os

import pytest

from pyqmail.supervise.logs.input import ConsumingReader, KeepingReader


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
    (b"one\ntwo\n",                       [b"one\nt", b"w"],      b"two\n"),
    (b"one\ntwo\n",                       [b"one\nt", b"wo\n"],   b""),
    (b"one\ntwo\nthree\n",                [b"one\nt", b"wo\nt"],  b"three\n"),
    (b"one\nt",                           [b"one\nt"],            b""),
    (b"one",                              [b"o", b"n"],           b"one"),
    (b"one",                              [b"o", b"n", b"e"],     b""),
    (b"x" * 3000,                         [b"x" * 2048],          b"x" * 3000),
    (b"x" * 3000,                         [b"x" * 2048] + [b"x"], b"x" * 3000),
    (b"x" * 65536,                        [b"x" * 63488],         b"x" * 65536),
    (b"x" * 65536,                        [b"x" * 64512],         b"x" * 1024),
    (b"x" * 65536,                        [b"x" * 63488, b"x" * 1024], b"x" * 1024),
]  # fmt: skip


@pytest.mark.parametrize("given, pieces, left", LEFT)
def test_what_is_done_is_gone_but_for_the_start_of_a_line(pipe, given, pieces, left):
    reading, writing = pipe
    kept = KeepingReader(reading)
    os.write(writing, given)
    for piece in pieces:
        assert kept.read(len(piece)) == piece
        kept.mark_done()
        kept.mark_done()  # nothing was read since
    kept.close()
    assert left_in(reading) == left


@pytest.mark.parametrize("given, pieces, left", LEFT)
def test_what_is_not_done_is_all_there(pipe, given, pieces, left):
    reading, writing = pipe
    kept = KeepingReader(reading)
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
    kept, sent, got, total = KeepingReader(reading), 0, [], line * (200_000 // len(line) + 1)
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
        kept.mark_done()
    assert b"".join(got) == total
    assert all(len(piece) <= 1024 or len(piece) % 1024 == 0 for piece in got)
    kept.close()


@pytest.mark.parametrize("given, blocks", [
    (b"one\ntwo\n", [b"one\n", b"two\n"]),
    (b"\n\none", [b"\n", b"\n", b"one"]),
    (b"x" * 5000 + b"\none\n", [b"x" * 5000 + b"\n", b"one\n"]),
    (b"x" * 65535 + b"\n", [b"x" * 65535 + b"\n"]),
    (b"x" * 65536, [b"x" * 64512, b"x" * 1024]),
])  # fmt: skip
def test_to_the_end_of_a_line(pipe, given, blocks):
    reading, writing = pipe
    kept = KeepingReader(reading)
    os.write(writing, given)
    for block in blocks:
        assert kept.read(65536, True) == block
        kept.mark_done()
    with pytest.raises(BlockingIOError):
        kept.read(65536, True)
    kept.close()


def test_pages_that_hold_little():
    """Each packet has a page of its own in a pipe that has more of them than ours would."""
    reading, writing = os.pipe2(os.O_DIRECT)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
    kept = KeepingReader(reading)
    given = b"".join(b"%d and more and more and more\n" % number for number in range(1000))
    for at in range(0, len(given), 137):
        os.write(writing, given[at : at + 137])
    os.close(writing)
    pieces = []
    while piece := kept.read(65536):
        kept.mark_done()
        pieces.append(piece)
    assert b"".join(pieces) == given
    assert len(pieces) == 2  # the last piece of 1024 or less is one for itself
    kept.close()
    os.close(reading)


def test_somebody_else_reads_the_same_pipe(pipe):
    reading, writing = pipe
    kept = KeepingReader(reading)
    os.write(writing, b"one\ntwo\n")
    assert kept.read(5) == b"one\nt"
    kept.mark_done()
    assert left_in(reading) == b"two\n"
    with pytest.raises(BlockingIOError):
        kept.read(5)
    os.write(writing, b"five\n")
    assert kept.read(100) == b"five\n"
    kept.close()


OTHERS = [
    # in the pipe        read           somebody else reads, writes    comes out and is in no file
    (b"one\ntwo\n",      b"one\ntwo\n", 8, b"three\nfour\n",           b"three\nfo"),
    (b"one\ntwo\n",      b"one\ntwo\n", 4, b"three\n",                 b"two\nthre"),
    (b"one\ntwo\n",      b"one\ntwo\n", 8, b"x\n",                     b"x\n"),
    (b"one\ntwo\n",      b"one\ntwo\n", 8, b"",                        b""),
    (b"one\none\n",      b"one\none\n", 4, b"one\n",                   b""),
    (b"one\ntwo\n",      b"one\nt",     5, b"three\n",                 b"wo\nt"),
]  # fmt: skip


@pytest.mark.parametrize("given, block, count, after, unseen", OTHERS)
def test_somebody_else_reads_before_it_is_done(pipe, given, block, count, after, unseen):
    """Nothing is taken out that nobody has seen; what was looked at first may be in two places."""
    reading, writing = pipe
    kept = KeepingReader(reading)
    os.write(writing, given)
    assert kept.read(len(block)) == block
    assert os.read(reading, count) == given[:count]
    os.write(writing, after)
    os.set_blocking(reading, True)
    assert [kept.mark_done(), kept.mark_done()] == [unseen, b""]
    kept.close()
    os.set_blocking(reading, False)
    assert left_in(reading) == (given + after)[count + block.rfind(b"\n") + 1 :]


def test_the_end(pipe):
    reading, writing = os.pipe()
    kept = KeepingReader(reading)
    os.write(writing, b"one\ntwo")
    os.close(writing)
    assert kept.read(100) == b"one\ntwo"
    kept.mark_done()
    assert kept.read(100) == b""
    kept.mark_done()
    kept.close()
    os.close(reading)


def test_a_file_is_no_pipe(tmp_path):
    (tmp_path / "file").write_bytes(b"one\n")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(OSError):
        KeepingReader(fd)
    taken = ConsumingReader(fd)
    assert (taken.read(3), taken.mark_done(), taken.read(3), taken.read(3)) == (b"one", b"", b"\n", b"")
    os.close(fd)
