"""pysvscanboot on a directory of its own: what runs, with which environment, and what ps shows.

Untested: /service and /etc/service, which are the machine's.
"""

import os
import re
import shutil

import pytest

from pyqmail.programs import pysvscanboot
from pyqmail.system.processes import starter
from tests.waiting import until

COMPLAINING = "#!/bin/sh\ncat /proc/$$/environ >environment\necho complaint >&2\nexec sleep 600\n"


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def command(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return [word for word in file.read().split(b"\0") if word]


def descriptors(pid):
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)]


def test_services_run_and_their_complaints_are_shown(stage):
    folder = stage.service("a", COMPLAINING)
    boot = stage.start("pysvscanboot", stage.place)
    scanner, title = until(lambda: len(found := children(boot.pid)) == 2 and found)
    until(lambda: command(title)[-1:] == [b"." * 390 + b"complaint\n"])
    name, *words = command(title)
    assert (os.path.basename(name), words[:2]) == (b"pyreadproctitle", [b"service", b"errors:"])
    name, *words = command(scanner)
    assert (os.path.basename(name), words) == (b"pysvscan", [os.fsencode(stage.place)])
    pipe = descriptors(title)[0]
    assert descriptors(title)[1:] == descriptors(boot.pid)[1:] == ["/dev/null"] * 2
    assert descriptors(scanner) == ["/dev/null", pipe, pipe]
    path = os.path.dirname(starter("pysvscanboot")) + b":" + pysvscanboot.PATH
    for file in (f"/proc/{scanner}/environ", f"/proc/{title}/environ", folder / "environment"):
        with open(file, "rb") as content:
            assert content.read() == b"PATH=" + path + b"\0"
    os.kill(scanner, 15)
    stage.run("pysvc", "-dx", "a")
    assert boot.wait(30) == 0  # nobody holds the pipe any more


@pytest.mark.parametrize("environ", [{}, {"SUPERVISEDIR": "elsewhere"}])
def test_leftovers_are_told_to_end(stage, environ):
    """Where the services that it starts are: without SUPERVISEDIR."""
    folder = stage.service("a", log="#!/bin/sh\nexec sleep 600\n")
    left = [stage.start("pysupervise", "a"), stage.start("pysupervise", "log", cwd=folder)]
    stage.up(folder)
    stage.up(folder / "log")
    stage.service(".hidden")
    hidden = stage.start("pysupervise", ".hidden")
    until(lambda: stage.is_supervised(stage.place / ".hidden"))
    stage.start("pysvscanboot", ".", env={**stage.environ(), **environ})
    assert [process.wait(30) for process in left] == [0, 0]
    assert hidden.poll() is None


def test_a_directory_that_is_not_there(stage):
    """The complaint is in the process table as long as pysvscan lives, which is not long."""
    assert stage.run("pysvscanboot", "none") == (0, b"", b"")


@pytest.mark.skipif(not shutil.which("svscanboot"), reason="daemontools is not installed")
def test_the_path_and_the_dots_are_the_original_s():
    with open(shutil.which("svscanboot"), "rb") as file:
        script = file.read()
    assert re.search(rb"^PATH=(.*)$", script, re.M)[1] == pysvscanboot.PATH
    assert len(re.search(rb"readproctitle service errors: (\.+)$", script, re.M)[1]) == pysvscanboot.DOTS


def test_no_options(stage):
    assert stage.run("pysvscanboot", "-x").code == 0  # a directory that is not there
    assert stage.run("pysvscanboot", "--help").out.startswith(b"usage: pysvscanboot [ dir ]\n")
