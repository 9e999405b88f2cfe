"""Looking into a pipe without taking anything out."""

import os

import pytest

from pyqmail.system.pipe_peek import PipePeek
from tests.processes import open_descriptors


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
    peek = PipePeek(reading)
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
    peek, sent = PipePeek(reading), b""
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


def test_what_is_taken_is_returned_and_never_waited_for(pipe):
    """Somebody else may have been faster."""
    reading, writing = pipe
    peek = PipePeek(reading)
    os.write(writing, b"abc")
    assert peek.look(10) == b"abc"
    assert os.read(reading, 2) == b"ab"
    os.write(writing, b"d")
    assert [peek.take(3), peek.take(3)] == [b"cd", b""]
    os.close(writing)
    assert peek.take(1) == b""
    peek.close()


@pytest.mark.parametrize("count", [1, 4, 5, 7, 10, 11])
def test_a_packet_that_is_taken_in_part_keeps_its_rest(count):
    reading, writing = os.pipe2(os.O_DIRECT)
    peek = PipePeek(reading)
    os.write(writing, b"abcde")
    os.write(writing, b"fghijk")
    os.close(writing)
    assert peek.look(count) == b"abcdefghijk"[:count]
    assert peek.take(count) == b"abcdefghijk"[:count]
    assert peek.look(100) == b"abcdefghijk"[count:]
    peek.close()
    os.close(reading)


def test_only_a_pipe(tmp_path):
    (tmp_path / "file").touch()
    before = open_descriptors()
    for flags in (os.O_RDONLY, os.O_WRONLY):
        fd = os.open(tmp_path / "file", flags)
        with pytest.raises(OSError):
            PipePeek(fd)
        os.close(fd)
    assert os.listdir("/proc/self/fd") == before
