"""Finding, running and becoming programs.  The search is compared with the original envdir's when it is there."""

import os
import select
import shutil
import signal
import stat
import subprocess
import sys

import pytest

from pyqmail.system import processes
from pyqmail.system.descriptors import arrange, read_all


def script(path, text, mode=0o755):
    path.write_text(text)
    path.chmod(mode)
    return path


SEARCH = [
    # what stands in a and b: "x" runs, "-" not executable, "d" a directory, "n" no #! line, "i" a missing interpreter
    ("x", "", "a"),
    ("", "x", "b"),
    ("-", "x", "b"),
    ("-", "", "access denied"),
    ("d", "", "access denied"),
    ("n", "x", "exec format error"),
    ("i", "x", "b"),
    ("", "", "file does not exist"),
]


@pytest.fixture
def places(tmp_path):
    def put(in_a, in_b):
        for name, what in (("a", in_a), ("b", in_b)):
            (tmp_path / name).mkdir()
            place = tmp_path / name / "prog"
            if what == "d":
                place.mkdir()
            elif what:
                first = {"n": "echo ", "i": "#!/nowhere/sh\necho "}.get(what, "#!/bin/sh\necho ")
                script(place, f"{first}{name}\n", 0o644 if what == "-" else 0o755)
        return os.fsencode(f"{tmp_path}/a:{tmp_path}/b")

    return put


@pytest.mark.parametrize("in_a, in_b, outcome", SEARCH)
def test_search(places, in_a, in_b, outcome):
    from pyqmail.base.failure import reason

    path = places(in_a, in_b)
    read_end, write_end = os.pipe()
    try:
        pid = processes.spawn([b"prog"], {b"PATH": path}, path, {1: write_end})
        os.close(write_end)
        got = read_all(read_end).decode().strip()
        os.waitpid(pid, 0)
    except OSError as error:
        got = reason(error)
    assert got == outcome


@pytest.mark.skipif(not shutil.which("envdir"), reason="daemontools is not installed")
@pytest.mark.parametrize("in_a, in_b, outcome", SEARCH)
def test_search_of_the_original(places, tmp_path, in_a, in_b, outcome):
    path = places(in_a, in_b)
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [shutil.which("envdir"), tmp_path / "empty", "prog"],
        env={"PATH": os.fsdecode(path)},
        capture_output=True,
        text=True,
    )
    assert outcome in (done.stdout.strip(), done.stderr.strip().rpartition(": ")[2])


def beside(name):
    return os.path.join(sys.prefix, "bin", name)


@pytest.mark.skipif(not os.path.exists(beside("pyclean")), reason="needs an installation")
@pytest.mark.parametrize("path", [b"/nowhere", b"", b".", None, b"/nowhere:/usr/bin"])
def test_our_own_are_looked_for_beside_ourselves_after_path(path):
    assert os.path.realpath(processes.find(b"pyclean", path)) == os.path.realpath(os.fsencode(beside("pyclean")))
    assert processes.find_ours(b"pyclean", path) == "pyclean"
    assert processes.find_ours(b"pymconnect-io", path) == "pymconnect-io"
    assert processes.find_ours(b"pywho@", path) == "pywho@"
    pid = processes.spawn([b"pyclean", b"--help"], {}, path, {1: os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)})
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("name", [b"pip", b"python", b"pytest", b"py", b"pyno-such", b"pyclean/", b"qmail-clean"])
def test_nothing_else_is_looked_for_there(name):
    assert processes.find(name, b"/nowhere") is None


def test_path_comes_first(tmp_path):
    """A program of the same name that is not ours is the one that is meant; a link to ours leads to ours."""
    script(tmp_path / "pyclean", "#!/bin/sh\n")
    (tmp_path / "links").mkdir()
    (tmp_path / "links/qmail-clean").symlink_to(beside("pyclean"))
    (tmp_path / "far").symlink_to(tmp_path / "links")
    assert processes.find(b"pyclean", os.fsencode(tmp_path)) == os.fsencode(tmp_path / "pyclean")
    assert processes.find_ours(b"pyclean", os.fsencode(tmp_path)) is None
    if os.path.exists(beside("pyclean")):
        assert processes.find_ours(os.fsencode(tmp_path / "far/qmail-clean"), None) == "pyclean"


def test_enotdir_ends_the_search(tmp_path):
    script(tmp_path / "prog", "#!/bin/sh\n")
    with pytest.raises(NotADirectoryError):
        processes.spawn([b"prog"], {}, os.fsencode(f"{tmp_path}/prog:{tmp_path}"))


def test_candidates():
    assert processes.candidates(b"a/b", b"/x") == [b"a/b"]
    assert processes.candidates(b"p", None) == [b"/bin/p", b"/usr/bin/p"]
    assert processes.candidates(b"p", b"") == [b"./p"]
    assert processes.candidates(b"p", b"/x::/y") == [b"/x/p", b"./p", b"/y/p"]


def test_descriptors_that_cross_each_other():
    (first, first_end), (second, second_end) = os.pipe(), os.pipe()
    os.write(first_end, b"first")
    os.write(second_end, b"second")
    for fd in (first_end, second_end):
        os.close(fd)
    out, out_end = os.pipe()
    wanted = {first: second, second: first, 1: out_end}
    pid = processes.spawn([b"sh", b"-c", b"cat /dev/fd/%d /dev/fd/%d" % (first, second)], {}, None, wanted)
    os.close(out_end)
    assert read_all(out) == b"secondfirst"
    os.waitpid(pid, 0)


def test_fork_ends_the_child_whatever_happens():
    def status(work):
        read_end, write_end = os.pipe()

        def quiet():
            os.dup2(write_end, 2)
            return work()

        pid = processes.fork(quiet)
        os.close(write_end)
        said = read_all(read_end)
        os.close(read_end)
        return os.WEXITSTATUS(os.waitpid(pid, 0)[1]), b"ZeroDivisionError" in said

    assert status(lambda: 7) == (7, False)
    assert status(lambda: None) == (0, False)
    assert status(lambda: 1 // 0) == (111, True)
    assert status(lambda: sys.exit(5)) == (5, False)


def test_find_ours(tmp_path):
    ours = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "bin")
    os.symlink(f"{ours}/pyclean", tmp_path / "qmail-clean")
    path = os.fsencode(f"{tmp_path}:{ours}")
    assert processes.find_ours(b"pyclean", path) == "pyclean"
    assert processes.find_ours(b"qmail-clean", path) == "pyclean"
    assert processes.find_ours(os.fsencode(f"{ours}/pyclean"), b"") == "pyclean"
    assert processes.find_ours(b"sh", b"/bin") is None
    script(tmp_path / "pyclean", "#!/bin/sh\n")
    assert processes.find_ours(b"pyclean", path) is None  # something foreign of that name comes first


def test_become_ours_replaces_the_environment(tmp_path):
    ours = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "bin")

    class Module:
        @staticmethod
        def main(argv):
            return 9 if (argv, dict(os.environb)) == (["pyclean", "x"], {b"A": b"b"}) else 1

    pid = processes.fork(
        lambda: processes.become(["pyclean", "x"], {b"A": b"b"}, lambda name: Module, os.fsencode(ours))
    )
    assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 9


def test_arrange():
    read_end, write_end = os.pipe()
    pid = processes.fork(lambda: arrange_and_tell(write_end))
    os.close(write_end)
    assert read_all(read_end) == b"0 1 2 5"
    os.waitpid(pid, 0)


def arrange_and_tell(write_end):
    null = os.open("/dev/null", os.O_RDWR)
    arrange({0: null, 1: write_end, 2: null, 5: write_end})
    there = [fd for fd in range(100) if _is_open(fd)]
    assert stat.S_ISFIFO(os.fstat(5).st_mode)
    os.write(1, " ".join(map(str, there)).encode())
    return 0


def _is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_time_limit_interrupts_a_wait_and_leaves_signals_as_they_were():
    class Late(Exception):
        pass

    before = signal.getsignal(signal.SIGALRM)
    ours, theirs = os.pipe()
    with pytest.raises(Late), processes.time_limit(1, Late()):
        select.select([ours], [], [], 30)
    with processes.time_limit(100, Late()):
        pass
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.alarm(0) == 0
    os.close(ours)
    os.close(theirs)
