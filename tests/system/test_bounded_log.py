"""A log nobody reads holds nobody up, and one reason is one line a second."""

import fcntl
import os
import socket

import pytest

from pyqmail.system import bounded_log
from pyqmail.system.bounded_log import KEPT_BYTES, BoundedLog
from pyqmail.system.coroutines import READ
from pyqmail.system.loop import Loop
from tests.waiting import turn_until


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.abandon()


def pipe():
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(reader, False)
    return reader, writer


def sockets():
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.setblocking(False)
    return ours.detach(), theirs.detach()


def read(fd):
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("old_kernel", [False, True])
@pytest.mark.parametrize("make", [pipe, sockets])
def test_what_is_not_read_is_kept_then_dropped_and_counted(loop, monkeypatch, make, old_kernel):
    if old_kernel:

        def no_such_write(*_):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(bounded_log.os, "pwritev", no_such_write)
    reader, writer = make()
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    log = BoundedLog(loop, "pytest", writer)
    lines = [f"line {number} " + "x" * 90 for number in range(3000)]
    for line in lines:
        log.put(line)
    assert fcntl.fcntl(writer, fcntl.F_GETFL) == flags
    got = bytearray()

    def all_there():
        got.extend(read(reader))
        return got.endswith(b"lines of the log dropped\n")

    turn_until(loop, all_there)
    *kept, last = got.decode().splitlines()
    assert kept == lines[: len(kept)]
    assert sum(len(line) + 1 for line in kept) > KEPT_BYTES - 200
    assert last == f"pytest: warning: {len(lines) - len(kept)} lines of the log dropped"
    log.put("and on")
    assert read(reader) == b"and on\n"
    os.close(reader), os.close(writer)


def test_one_reason_is_one_line_in_a_second_and_the_others_are_counted(loop):
    reader, writer = pipe()
    log = BoundedLog(loop, "pytest", writer)
    for number in range(1000):
        log.put(f"full {number}", reason=53)
    log.put("other", reason=54)
    log.put("free")
    assert read(reader) == b"full 0\nother\nfree\n"
    loop.watch(reader, READ, lambda _: loop.stop())
    loop.after(20, loop.stop)
    loop.run()
    assert read(reader) == b"full 999 (999 in the last second)\n"
    os.close(reader), os.close(writer)


def test_a_reader_that_has_gone_is_no_error(loop):
    reader, writer = pipe()
    log = BoundedLog(loop, "pytest", writer)
    os.close(reader)
    log.put("nobody reads")
    log.put("this either")
    assert not loop._watched
    reader, other = pipe()
    os.dup2(other, writer)
    log.put("somebody does")
    assert read(reader) == b"somebody does\n"  # and is not told of lines that nobody wanted
    os.close(reader), os.close(writer), os.close(other)


def test_a_full_disk_drops_and_goes_on(loop, tmp_path):
    full, place = os.open("/dev/full", os.O_WRONLY), tmp_path / "log"
    log = BoundedLog(loop, "pytest", full)
    for _ in range(3):
        log.put("no room")
    fd = os.open(place, os.O_WRONLY | os.O_CREAT)
    os.dup2(fd, full)
    log.put("room")
    assert place.read_text() == "room\npytest: warning: 3 lines of the log dropped\n"
    os.close(full), os.close(fd)
