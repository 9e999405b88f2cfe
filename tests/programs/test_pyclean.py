"""pyclean as a program: commands in, answers out, files gone.  Untested: an unlink that fails (root may always)."""

import os

import pytest


def test_removes_and_answers(run, home):
    queue = home.queue
    for path in ("intd/30", "mess/7/30", "intd/31", "todo/31", "mess/8/31"):
        open(f"{queue}/{path}", "w").close()
    done = run("pyclean", input=b"foop/30\0todo/31\0foop/99\0nonsense\0foop/12/999\0", env={"PYQMAIL_HOME": home.path})
    assert done == (0, b"+++xx", b"")
    left = [
        path
        for path in ("intd/30", "mess/7/30", "intd/31", "todo/31", "mess/8/31")
        if os.path.exists(f"{queue}/{path}")
    ]
    assert left == ["mess/8/31"]


def test_an_unlink_that_fails_is_answered(run, home):
    os.mkdir(f"{home.queue}/intd/30")
    open(f"{home.queue}/mess/7/30", "w").close()
    assert run("pyclean", input=b"foop/30\0", env={"PYQMAIL_HOME": home.path}) == (0, b"!", b"")
    assert os.path.exists(f"{home.queue}/mess/7/30")


def test_a_queue_it_may_not_enter_is_an_answer(run, home):
    os.rename(f"{home.queue}/intd", f"{home.queue}/away")
    with open(f"{home.queue}/intd", "w"):
        pass
    assert run("pyclean", input=b"foop/30\0", env={"PYQMAIL_HOME": home.path}) == (0, b"!", b"")


def test_sweeps_old_files_from_pid(run, home):
    for name, age in (("1.2.3", 129700), (".name", 129700), ("4.5.6", 60)):
        path = f"{home.queue}/pid/{name}"
        open(path, "w").close()
        seen = os.stat(path).st_atime - age
        os.utime(path, (seen, seen))
    assert run("pyclean", input=b"foop/1\0", env={"PYQMAIL_HOME": home.path}).out == b"+"
    assert os.listdir(f"{home.queue}/pid") == ["4.5.6"]


def test_no_queue(run, tmp_path):
    assert run("pyclean", env={"PYQMAIL_HOME": str(tmp_path)}) == (111, b"", b"")


def test_envelopes_without_a_message_are_swept(run, home):
    queue = home.queue
    for path in ("intd/30", "intd/31", "mess/8/31", "intd/32", "todo/32", "intd/x"):
        open(f"{queue}/{path}", "w").close()
    assert run("pyclean", input=b"foop/1\0", env={"PYQMAIL_HOME": home.path}).out == b"+"
    assert sorted(os.listdir(f"{queue}/intd")) == ["31", "32", "x"]
    assert os.listdir(f"{queue}/todo") == ["32"] and os.listdir(f"{queue}/mess/8") == ["31"]


def test_an_envelope_stays_if_it_cannot_be_known_that_its_message_has_gone(run, home):
    open(f"{home.queue}/intd/30", "w").close()
    os.symlink("30", f"{home.queue}/mess/7/30")  # whatever it is, it is there
    assert run("pyclean", input=b"foop/1\0", env={"PYQMAIL_HOME": home.path}).out == b"+"
    assert os.listdir(f"{home.queue}/intd") == ["30"]


def test_mess_without_its_directories_is_no_queue(run, home):
    os.rename(f"{home.queue}/mess", f"{home.queue}/elsewhere")
    os.mkdir(f"{home.queue}/mess")
    open(f"{home.queue}/intd/30", "w").close()
    assert run("pyclean", input=b"foop/1\0", env={"PYQMAIL_HOME": home.path}) == (111, b"", b"")
    assert os.listdir(f"{home.queue}/intd") == ["30"]


@pytest.mark.parametrize("folder", ["intd", "pid"])
def test_what_cannot_be_removed_does_not_keep_the_others(folder, run, home):
    """Whatever the order is in which the directory has them."""
    place, long_ago = f"{home.queue}/{folder}", (1, 1)
    for number in range(10):
        os.mkdir(f"{place}/{100 + number}")
        open(f"{place}/{200 + number}", "w").close()
        os.utime(f"{place}/{100 + number}", long_ago)
        os.utime(f"{place}/{200 + number}", long_ago)
    assert run("pyclean", input=b"foop/1\0", env={"PYQMAIL_HOME": home.path}).out == b"+"
    assert sorted(os.listdir(place)) == [str(100 + number) for number in range(10)]
