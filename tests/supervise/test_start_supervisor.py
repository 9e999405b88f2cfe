"""What a forked supervisor finds: descriptors as after exec, and the limit we were started with."""

import os
import resource

import pytest

from pyqmail.supervise.start_supervisor import DescriptorLimit, SupervisorStarter, close_others, inherited_descriptors
from pyqmail.system.loop import Loop


def in_child(work):
    """Return what work() returns, as text, in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(write, str(work(write)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    said = os.read(read, 65536)
    os.close(read)
    assert os.waitpid(pid, 0)[1] == 0
    return said.decode()


def test_only_what_was_inherited_stays():
    kept, ours = os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(kept, True)
    try:
        assert kept in inherited_descriptors() and ours not in inherited_descriptors()

        def close(write):
            close_others(sorted((kept, write)))
            return sorted(set(map(int, os.listdir("/proc/self/fd"))) & {kept, ours, write})

        assert in_child(close).startswith(f"[{kept}, ")
        assert str(ours) not in in_child(close).strip("[]").split(", ")
    finally:
        os.close(kept)
        os.close(ours)


def test_the_limit_is_raised_here_and_restored_there():
    def limits(_):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        limit = DescriptorLimit()
        first, second = limit.allow_more(), limit.allow_more()
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        limit.restore()
        return first, second, raised == hard, resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    assert in_child(limits) == "(True, False, True, 64)"


@pytest.mark.parametrize("is_log", [False, True])
def test_ours_is_called_where_exec_would_have_put_it(tmp_path, monkeypatch, is_log):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a/log").mkdir(parents=True)
    read, write = os.pipe()
    report = tmp_path / "report"

    def supervise(directory, environ):
        fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
        report.write_text(
            f"{directory} {environ == dict(os.environb)} {os.path.basename(os.getcwd())} "
            f"{os.fstat(int(not is_log)).st_ino} {len(fds)}"
        )
        return 7

    loop = Loop()
    start = SupervisorStarter(supervise, "supervise", loop, DescriptorLimit())
    theirs = (read, 0) if is_log else (write, 1)
    pid = start(b"a", is_log, theirs)
    status = os.waitpid(pid, 0)[1]
    inode = os.fstat(theirs[0]).st_ino
    os.close(read)
    os.close(write)
    loop.abandon()
    assert os.waitstatus_to_exitcode(status) == 7
    where = "a" if is_log else tmp_path.name
    # 0, 1, 2 and the one that listed them
    assert report.read_text() == f"{'log' if is_log else 'a'} True {where} {inode} 4"


def test_a_foreign_supervisor_is_searched_in_path(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PATH", f"{tmp_path}")
    (tmp_path / "supervise").write_text("#!/bin/sh\necho foreign $1\n")
    (tmp_path / "supervise").chmod(0o755)
    loop = Loop()
    start = SupervisorStarter(None, "supervise", loop, DescriptorLimit())
    assert os.waitpid(start(b"a", False, None), 0)[1] == 0
    (tmp_path / "supervise").chmod(0o644)
    assert os.waitstatus_to_exitcode(os.waitpid(start(b"a", False, None), 0)[1]) == 111
    loop.abandon()
    said = capfd.readouterr()
    assert said.out == "foreign a\n"
    assert said.err == "svscan: warning: unable to start supervise a: access denied\n"
