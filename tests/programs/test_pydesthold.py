"""pydesthold as a program: the lines it writes, what it keeps, what it refuses."""

import os
import re
import time

import pytest

from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.destinations.rules.overlay import Overlay

UNTIL = rb",until=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"


@pytest.fixture
def hold(run, home):
    """hold(*words) -> Result; hold.text(): destinations.now; hold.write(text): it before."""
    path = f"{home.control}/destinations.now"

    def work(*words):
        return run("pydesthold", *words, env={"PYQMAIL_HOME": home.path})

    def text():
        with open(path, "rb") as file:
            return file.read()

    def write(content):
        with open(path, "wb") as file:
            file.write(content)

    work.text, work.write = text, write
    with open(f"{home.control}/destinations", "wb") as file:
        file.write(b"yahoo.*:@yahoo\n@yahoo:C=100\n")
    assert run("pydestrules", env={"PYQMAIL_HOME": home.path}).code == 0
    return work


HELD = [
    # words                                          line
    (["example.com"],                                 rb"example.com:hold"),
    (["@yahoo", "2h"],                                rb"@yahoo:hold" + UNTIL),
    ([".example.com", "90"],                          rb"\.example.com:hold" + UNTIL),
    (["mx=.example.com", "7d"],                       rb"mx=\.example.com:hold" + UNTIL),
    (["rcpt=list@here.example", "5m"],                rb"rcpt=list@here.example:hold" + UNTIL),
    (["example.com", "2999-01-31T12:30Z"],            rb"example.com:hold,until=2999-01-31T12:30:00Z"),
    (["example.com", "2999-01-31"],                   rb"example.com:hold,until=2999-01-31T00:00:00Z"),
]  # fmt: skip


@pytest.mark.parametrize("words, line", HELD)
def test_an_address_is_held(hold, home, words, line):
    assert hold(*words) == (0, b"", b"")
    assert re.fullmatch(line + rb"\n", hold.text())
    assert os.stat(f"{home.control}/destinations.now").st_mode & 0o777 == 0o644
    assert sorted(os.listdir(home.control)) == ["destinations", "destinations.cdb", "destinations.now", "me"]


def test_the_rules_obey_it(hold):
    hold("example.com", "2h")
    overlay = Overlay.of_text(hold.text(), {})
    rules = RuleSet({}, overlay.table(time.time()))
    assert rules.for_site(b"example.com").held_until > time.time()
    assert RuleSet({}, overlay.table(time.time() + 7201)).for_site(b"example.com").held_until <= 0


def test_a_second_hold_replaces_the_first_and_what_has_ended_goes(hold):
    hold.write(b"# by hand\nold.example:hold,until=2001-01-01\nother.example:c=2\nexample.com:hold\n")
    assert hold("Example.COM", "2999-01-01").code == 0
    assert hold.text() == b"# by hand\nother.example:c=2\nExample.COM:hold,until=2999-01-01T00:00:00Z\n"


def test_a_file_without_its_last_newline_is_continued(hold):
    hold.write(b"other.example:c=2")
    assert hold("example.com").code == 0
    assert hold.text() == b"other.example:c=2\nexample.com:hold\n"


def test_it_is_released(hold):
    hold("example.com")
    hold("example.net")
    assert hold("--release", "example.com") == (0, b"", b"")
    assert hold.text() == b"example.net:hold\n"
    assert hold("--release", "example.net") == (0, b"", b"")
    assert hold.text() == b""


def test_the_list(hold):
    assert hold("--list") == (0, b"", b"")
    hold("example.com")
    hold("@yahoo", "2999-01-01")
    assert hold("--list") == (0, b"example.com -\n@yahoo 2999-01-01T00:00:00Z\n", b"")


NOW, MORE = "control/destinations.now: ", "line 1 of control/destinations.now says more: change it there"
REFUSED = [
    # before                  words                          what is reported
    (b"",                     ["@nobody"],                    NOW + "1:1: no line is in the group @nobody"),
    (b"",                     ["example.com", "soon"],        "TIME: not a time, for example 30s, 5m, 2h, 7d"),
    (b"",                     ["example.com", "2001-01-01"],  "TIME: 2001-01-01 is over"),
    (b"",                     ["example.com", "2999-13-01"],  "TIME: there is no such date"),
    (b"",                     ["example.com", "9" * 12 + "d"], "TIME: "),
    (b"",                     ["a b"],                        NOW + "1:2: "),
    (b"",                     ["a:c=2,"],                     NOW + "1:"),
    (b"",                     ["#a"],                         NOW + "1:1: no address"),
    (b"",                     ["a\nb"],                       NOW),
    (b"example.com:c=2\n",    ["example.com"],                MORE),
    (b"example.com:c=2\n",    ["--release", "example.com"],   MORE),
    (b"nonsense\n",           ["example.com"],                NOW + "1:9: no colon after the address"),
    (b"nonsense\n",           ["--list"],                     NOW + "1:9: no colon after the address"),
]  # fmt: skip


@pytest.mark.parametrize("before, words, why", REFUSED)
def test_what_is_wrong_changes_nothing(hold, before, words, why):
    hold.write(before)
    done = hold(*words)
    assert (done.code, done.out) == (100, b"")
    assert done.err.decode().startswith(f"pydesthold: fatal: {why}")
    assert hold.text() == before


def test_nothing_to_release(hold, home):
    done = hold("--release", "example.com")
    path = f"{home.control}/destinations.now"
    assert (done.code, done.err.decode()) == (100, f"pydesthold: fatal: no line of {path} holds example.com\n")
    assert not os.path.exists(path)


@pytest.mark.parametrize("words", [[], ["--release"], ["--release", "example.com", "2h"], ["--list", "example.com"]])
def test_usage(hold, words):
    done = hold(*words)
    assert done.code == 100 and b"usage: pydesthold" in done.err


def test_a_file_that_cannot_be_read(hold, home):
    os.mkdir(f"{home.control}/destinations.now")
    done = hold("example.com")
    path = f"{home.control}/destinations.now"
    assert (done.code, done.err.decode()) == (111, f"pydesthold: fatal: unable to read {path}: is a directory\n")
