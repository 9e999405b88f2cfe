"""Looking into a pipe without taking anything out."""

import os

import pytest

from pyqmail.system.peek import Peek


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        try:
            os.close(fd)
        except OSError:
            pass  # the test has


def test_what_was_seen_is_still_there(pipe):
    reading, writing = pipe
    peek = Peek(reading)
    with pytest.raises(BlockingIOError):
        peek.look(10)
    os.write(writing, b"abcdef")
    assert [peek.look(count) for count in (1, 4, 10, 10)] == [b"a", b"abcd", b"abcdef", b"abcdef"]
    peek.take(2)
    assert peek.look(10) == b"cdef"
    peek.take(4)
    with pytest.raises(BlockingIOError):
        peek.look(10)
    os.close(writing)
    assert peek.look(10) == b""
    peek.close()


@pytest.mark.parametrize("size", [1, 100, 4096, 5000, 65536])
def test_all_that_fits_into_a_pipe_is_seen(pipe, size):
    """Whatever pieces it was written in."""
    reading, writing = pipe
    os.set_blocking(writing, False)
    peek, sent = Peek(reading), b""
    try:
        while len(sent) < 65536:
            piece = bytes((len(sent) % 251,)) * size
            sent += piece[: os.write(writing, piece)]
    except BlockingIOError:
        pass
    assert peek.look(1 << 20) == sent
    peek.take(len(sent))
    with pytest.raises(BlockingIOError):
        peek.look(1)
    peek.close()


def test_only_a_pipe(tmp_path):
    (tmp_path / "file").touch()
    before = os.listdir("/proc/self/fd")
    for flags in (os.O_RDONLY, os.O_WRONLY):
        fd = os.open(tmp_path / "file", flags)
        with pytest.raises(OSError):
            Peek(fd)
        os.close(fd)
    assert os.listdir("/proc/self/fd") == before
