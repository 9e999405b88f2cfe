"""Files that are whole before they are visible, and take the place of whatever was there; the order of system calls.

Untested: that a disk keeps what fsync(2) promises.
"""

import errno
import os

import pytest

from pyqmail.system.durable import NotWritten, open_new, replace_file, sync_directory
from tests.processes import open_descriptors


@pytest.fixture
def calls(monkeypatch):
    """What is done to files, in order: (call, name)."""
    seen, names, real_open = [], {}, os.open

    def note(name, shown):
        real = getattr(os, name)

        def call(*arguments, **more):
            seen.append((name, shown(*arguments)))
            return real(*arguments, **more)

        monkeypatch.setattr(os, name, call)

    def open_file(path, flags, *rest, **more):
        fd = real_open(path, flags, *rest, **more)
        names[fd] = os.path.basename(path)
        seen.append(("open", names[fd]))
        return fd

    note("fsync", names.get)
    note("close", lambda fd: names.pop(fd, fd))
    note("rename", lambda old, new: os.path.basename(new))
    monkeypatch.setattr(os, "open", open_file)
    return seen


@pytest.mark.parametrize("is_synced", [True, False])
def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, calls, is_synced):
    path = f"{tmp_path}/file"
    replace_file(path, f"{path}.new", 0o640, lambda fd: os.write(fd, b"content"), is_synced=is_synced)
    sync = [("fsync", "file.new")] if is_synced else []
    assert calls == [("open", "file.new"), *sync, ("close", "file.new"), ("rename", "file")]
    assert (tmp_path / "file").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["file"]


def test_names_are_put_on_disk_through_their_directory(tmp_path, calls):
    sync_directory(f"{tmp_path}")
    name = tmp_path.name
    assert calls == [("open", name), ("fsync", name), ("close", name)]


def full(fd):
    raise OSError(errno.ENOSPC, "full")


FAILURES = [
    # what is there before, how it is filled      step      what is there afterwards
    (lambda place: (place / "file.new").mkdir(), lambda fd: 0, "create", ["file", "file.new"]),
    (lambda place: None, full, "write", ["file", "file.new"]),
    (lambda place: ((place / "file").unlink(), (place / "file").mkdir()), lambda fd: 0, "move", ["file", "file.new"]),
]


@pytest.mark.parametrize("spoil, fill, step, left", FAILURES)
def test_what_fails_leaves_the_old_file(tmp_path, spoil, fill, step, left):
    path = f"{tmp_path}/file"
    (tmp_path / "file").write_text("old")
    spoil(tmp_path)
    before = len(open_descriptors())
    with pytest.raises(NotWritten) as failed:
        replace_file(path, f"{path}.new", 0o644, fill)
    assert failed.value.step == step and isinstance(failed.value.error, OSError)
    assert len(os.listdir("/proc/self/fd")) == before
    assert sorted(os.listdir(tmp_path)) == left
    assert step == "move" or (tmp_path / "file").read_text() == "old"


def test_a_directory_that_is_missing_is_an_error(tmp_path):
    for is_strict in (True, False):
        with pytest.raises(FileNotFoundError):
            sync_directory(tmp_path / "missing", is_strict)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_that_we_may_not_read_is_left_alone_if_it_may_be(tmp_path):
    os.chmod(tmp_path, 0o300)
    try:
        sync_directory(tmp_path, is_strict=False)
        with pytest.raises(PermissionError):
            sync_directory(tmp_path)
    finally:
        os.chmod(tmp_path, 0o700)


@pytest.mark.parametrize("kind", ["nothing", "file", "link", "second name", "fifo"])
def test_a_new_file_follows_and_overwrites_nothing(tmp_path, kind):
    victim, path = tmp_path / "victim", tmp_path / "status.new"
    victim.write_text("precious")
    if kind == "file":
        path.write_text("old and long")
    elif kind == "link":
        path.symlink_to(victim)
    elif kind == "second name":
        path.hardlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(path)
    folder = os.open(tmp_path, os.O_RDONLY)
    for place, where in ((path, None), (path.name, folder)):
        fd = open_new(place, 0o640, where)
        os.write(fd, b"new")
        os.close(fd)
        assert path.read_text() == "new" and not path.is_symlink() and path.stat().st_nlink == 1
    os.close(folder)
    assert victim.read_text() == "precious"


def test_a_directory_is_not_replaced(tmp_path):
    (tmp_path / "status.new").mkdir()
    with pytest.raises(OSError):
        open_new(tmp_path / "status.new", 0o600)
