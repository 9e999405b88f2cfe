"""What ps shows of a process: seen from outside, in a process that really changes it."""

import os
import subprocess
import sys

import pytest

from pyqmail.system import title

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def shown(pid):
    with open(f"/proc/{pid}/comm", "rb") as name, open(f"/proc/{pid}/cmdline", "rb") as words:
        return name.read().rstrip(b"\n"), words.read().rstrip(b"\0").split(b"\0")


class Shower:
    """A fresh interpreter that runs code and then waits."""

    def __init__(self, code, *words):
        code = f"import sys; sys.path.insert(0, {ROOT!r}); from pyqmail.system import libc, title; import os\n{code}"
        words = [sys.executable, "-c", f"{code}\nos.write(1, b'.'); os.read(0, 1)", *words]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"A": "environment"})
        assert self.process.stdout.read(1) == b"."

    def __enter__(self):
        return self.process.pid

    def __exit__(self, *_):
        with self.process:
            self.process.stdin.close()


@pytest.mark.parametrize(
    "words, name, line",
    [
        (["pysend", "--native"], b"pysend", [b"pysend", b"--native"]),
        (["/opt/a b/pysend", "", "x y"], b"pysend", [b"pysend", b"", b"x y"]),
        ([b"\xff\xfe", b"\n"], b"\xff\xfe", [b"\xff\xfe", b"\n"]),
        (["pytcprulescheck"], b"pytcprulescheck", [b"pytcprulescheck"]),
        (["a-name-of-more-than-15"], b"a-name-of-more-", [b"a-name-of-more-than-15"]),
    ],
)
def test_name_and_words(words, name, line):
    with Shower(f"title.show_command({words!r})") as pid:
        assert shown(pid) == (name, line)


def test_what_is_too_long_is_cut_and_the_environment_stays():
    with Shower("title.show_command(['pysend', 'x' * 9999])") as pid:
        name, words = shown(pid)
        assert (name, words[0], set(words[1])) == (b"pysend", b"pysend", set(b"x")) and len(words) == 2
        with open(f"/proc/{pid}/environ", "rb") as file:
            assert file.read() == b"A=environment\0"


def test_twice_and_shorter():
    with Shower("title.show_command(['pysoftlimit', '-m9', 'pysend']); title.show_command(['pysend'])") as pid:
        assert shown(pid) == (b"pysend", [b"pysend"])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change ids")
@pytest.mark.parametrize(
    "code",
    [
        "title.hold_title(); os.setuid(65534); title.show_command(['x']); title.show_command(['pymultilog', 't'])",
        "libc.prctl(15, b'python'); os.setuid(65534); title.show_command(['pymultilog', 't'])",
    ],
    ids=["a title from before", "the C library from before"],
)
def test_after_a_change_of_uid(code):
    with Shower(code) as pid:
        assert shown(pid) == (b"pymultilog", [b"pymultilog", b"t"])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change ids")
def test_what_cannot_be_shown_is_left():
    with Shower("os.setuid(65534); title.show_command(['pymultilog'])", "word") as pid:
        name, words = shown(pid)
        assert name.startswith(b"python") and words[-1] == b"word"


def test_where_nothing_is_known_of_the_place(tmp_path):
    assert title.fitted([b"a", b"bc"], 8) == b"a\0bc\0\0\0\0"
    assert title.fitted([b"a", b"bcdef"], 6) == b"a\0bcd\0"


def only_child(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return int(file.read())


@pytest.mark.parametrize("place", ["title.words_place()", "None"])
def test_a_fork_shows_what_any_process_would(place):
    code = f"place = {place}\nif pid := os.fork(): os.waitpid(pid, 0); os._exit(0)\n"
    with Shower(f"{code}title.show_in_fork([b'pysupervise', b'log'], place)") as pid:
        assert shown(only_child(pid)) == (b"pysupervise", [b"pysupervise", b"log"])
