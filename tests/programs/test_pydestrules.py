"""pydestrules as a program: what it compiles, what it refuses, what it converts."""

import os
import subprocess
import sys

import pytest

from pyqmail.mail.destinations.rules.defaults import SHIPPED, SHIPPED_RESPONSES
from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.system.cdb import Reader

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def compiled(run, home):
    """compiled(destinations, responses=None) -> (Result, RuleSet of destinations.cdb or None)."""

    def compile_files(destinations, responses=None):
        for name, content in (("destinations", destinations), ("responses", responses)):
            if content is not None:
                with open(f"{home.control}/{name}", "wb") as file:
                    file.write(content)
        done = run("pydestrules", env={"PYQMAIL_HOME": home.path})
        path = f"{home.control}/destinations.cdb"
        return done, RuleSet(Reader(path)) if os.path.exists(path) else None

    return compile_files


def test_rules_are_compiled(compiled, home):
    done, rules = compiled(b"yahoo.*:@yahoo\n@yahoo:C=100\n", b"@yahoo:421:[TSS04]:pause 2h\n")
    assert done == (0, b"", b"")
    (limit,) = [one for one in rules.for_site(b"yahoo.example").limits if one.kind == b"C"]
    assert (limit.value, limit.owner, limit.line) == (100, b"@yahoo:C=100", 2)
    assert rules.responses.match(421, b"", b"x [tss04]", [b"@yahoo"]).seconds == 7200
    assert os.stat(f"{home.control}/destinations.cdb").st_mode & 0o777 == 0o644
    assert sorted(os.listdir(home.control)) == ["destinations", "destinations.cdb", "me", "responses"]


def test_without_responses_the_shipped_ones_are_compiled(compiled):
    _, rules = compiled(b"")
    assert rules.responses.match(421, b"", b"too many connections").action == b"ceiling"


def test_the_shipped_files_compile_without_a_word(compiled):
    assert compiled(SHIPPED, SHIPPED_RESPONSES)[0] == (0, b"", b"")


def test_the_list_of_public_suffixes_is_asked(compiled):
    said = b"pydestrules: fatal: control/destinations:1:1: this is a public suffix: .co.uk\n"
    assert compiled(b".co.uk:c=1")[0] == (100, b"", said)


WRONG = [
    # destinations, responses                     lines on descriptor 2
    (b"a:c=1\nb:c=1,tls=must\n", None,            [b"destinations:2:7: unknown key: tls"]),
    (b"a:share=no\nb:lost=stop\n", None,          [b"destinations:1:3: unknown key: share",
                                                   b"destinations:2:3: unknown key: lost"]),
    (b"a:c=1\n", b"\n@a:4:x:rate\n",              [b"responses:2:1: no line of destinations defines the group @a"]),
    (b"a:c=1\n", b":4:x:wait",                    [b"responses:1:6: not an action: ceiling, rate, pause, n, m, grey, "
                                                   b"fail, defer, ignore"]),
]  # fmt: skip


@pytest.mark.parametrize("destinations, responses, lines", WRONG)
def test_an_invalid_file_never_replaces_a_valid_one(compiled, home, destinations, responses, lines):
    compiled(b"a:n=7", b"")
    before = os.stat(f"{home.control}/destinations.cdb")
    done, rules = compiled(destinations, responses)
    said = b"".join(b"pydestrules: fatal: control/" + line + b"\n" for line in lines)
    assert done == (100, b"", said)
    assert os.stat(f"{home.control}/destinations.cdb") == before
    assert rules.for_site(b"a").messages == 7
    assert not os.path.exists(f"{home.control}/destinations.cdb.tmp")


def test_what_is_odd_is_said_and_compiled(compiled):
    done, rules = compiled(b"mx=.google.com:c=9\na:@g,@h\nb:@g\nc:@h\n@g:c=1\n@h:c=2\n")
    assert done == (
        0,
        b"",
        b"pydestrules: warning: control/destinations:2:1: groups overlap, and none is within the other: @g, @h\n"
        b"pydestrules: warning: control/destinations:1:1: shipped as @google; if another value "
        b"is meant, begin the line with !\n",
    )
    assert rules.for_site(b"a").groups == (b"@g", b"@h")


def test_without_a_file_there_is_nothing_to_compile(run, home):
    done = run("pydestrules", env={"PYQMAIL_HOME": home.path})
    said = f"pydestrules: fatal: unable to read {home.control}/destinations: file does not exist\n".encode()
    assert done == (111, b"", said)


def test_a_file_that_cannot_be_read_is_not_a_missing_one(compiled, home):
    os.mkdir(f"{home.control}/responses")
    done, rules = compiled(b"")
    assert (done.code, rules) == (111, None)
    assert done.err.startswith(b"pydestrules: fatal: unable to read ")


def test_what_cannot_be_written_is_said(run, home):
    os.mkdir(f"{home.control}/destinations.cdb")
    with open(f"{home.control}/destinations", "wb"):
        pass
    done = run("pydestrules", env={"PYQMAIL_HOME": home.path})
    assert (done.code, done.err) == (
        111,
        f"pydestrules: fatal: unable to move {home.control}/destinations.cdb: is a directory\n".encode(),
    )


USAGE = b"pydestrules: usage: pydestrules [ -c KIND ] [ FILE ... ]\n"
MISUSED = [
    (["file"], b"pydestrules: files belong to -c\n"),
    (
        ["-c", "exim"],
        b"pydestrules: nothing to convert from: exim: channels, drate, postfix, sendmail, powermta, kumomta, "
        b"kumomta-responses\n",
    ),
    (["-c", "kumomta"], b"pydestrules: -c kumomta needs what is to be converted\n"),
    (["-c", "postfix"], b"pydestrules: -c postfix needs what is to be converted\n"),
    (["-c", "powermta", "a", "b"], b"pydestrules: -c powermta needs what is to be converted\n"),
]


@pytest.mark.parametrize("arguments, complaint", MISUSED)
def test_wrong_usage(run, home, arguments, complaint):
    assert run("pydestrules", *arguments, env={"PYQMAIL_HOME": home.path}) == (100, b"", complaint + USAGE)


def test_channels_are_converted_from_control(run, home):
    for name, content in (("suppls0", b"gmail.com\n"), ("concurrencysuppl0", b"5\n")):
        with open(f"{home.control}/{name}", "wb") as file:
            file.write(content)
    text = b"# suppls0\ngmail.com:@suppl0\n# concurrencysuppl0\n@suppl0:C=5\n"
    assert run("pydestrules", "-c", "channels", env={"PYQMAIL_HOME": home.path}) == (0, text, b"")
    assert run("pydestrules", "-c", "channels", home.control) == (0, text, b"")


def test_drate_is_converted(run, tmp_path):
    (tmp_path / "gmail.com").write_bytes(b"100/3600\x000\x001\x001\x00")
    (tmp_path / "googlemail.com").symlink_to("gmail.com")
    (tmp_path / "folder").mkdir()
    done = run("pydestrules", "-c", "drate", tmp_path)
    assert (done.code, done.err) == (0, b"")
    assert b"\ngooglemail.com:@drate-gmail.com\n" in done.out and b"\n@drate-gmail.com:r=100/h~100\n" in done.out


OTHERS = [
    ("postfix", [b"slow_destination_concurrency_limit = 2", b"a.example slow:"], b"a.example:@slow\n"),
    ("sendmail", [b"Qbig, R=2", b"QGRP:a.example big"], b"a.example:@big\n"),
    ("powermta", [b"<domain a.example>\nmax-smtp-out 2\n</domain>"], b"a.example:c=2\n"),
    ("kumomta", [b"['a.example']\nmx_rollup=false", b"['a.example']\nconnection_limit=2"], b"a.example:c=2\n"),
]


@pytest.mark.parametrize("kind, contents, line", OTHERS)
def test_others_are_converted_and_compiled(run, compiled, tmp_path, kind, contents, line):
    names = []
    for number, content in enumerate(contents):
        names.append(f"{tmp_path}/{number}")
        with open(names[-1], "wb") as file:
            file.write(content + b"\n")
    done = run("pydestrules", "-c", kind, *names)
    assert (done.code, done.err) == (0, b"") and b"\n" + line in done.out
    assert compiled(done.out)[0] == (0, b"", b"")


def test_responses_of_kumomta_are_converted(run, tmp_path):
    (tmp_path / "shaping").write_bytes(b"[[default.automation]]\nregex='TS04'\naction='Suspend'\nduration='2h'\n")
    text = b'# "default": TS04\n::TS04:pause 2h site\n'
    assert run("pydestrules", "-c", "kumomta-responses", tmp_path / "shaping") == (0, text, b"")


@pytest.mark.parametrize(
    "content, why",
    [
        (b"a =\n", b"Invalid value (at line 1, column 4)"),
        (b"\xff\n", b"'utf-8' codec"),
        (b"a = " + b"9" * 5000, b"Exceeds the limit"),
        (b"a = 0x" + b"f" * 5000, b"an integer has more than 64 bits"),
        (b"a = " + b"[" * 200 + b"]" * 200, b"nested deeper than 50"),
        (b"a = " + b"[" * 20_000, b"maximum recursion depth exceeded"),
    ],
)
def test_a_shaping_file_that_is_none(run, tmp_path, content, why):
    (tmp_path / "shaping").write_bytes(content)
    done = run("pydestrules", "-c", "kumomta", tmp_path / "shaping")
    assert (done.code, done.out) == (100, b"") and done.err.startswith(
        b"pydestrules: fatal: %b/shaping: %b" % (bytes(tmp_path), why)
    )


@pytest.mark.parametrize("kind", ["postfix", "sendmail", "powermta", "kumomta"])
def test_a_file_without_end_is_no_settings(run, kind):
    done = run("pydestrules", "-c", kind, "/dev/zero")
    assert done == (100, b"", b"pydestrules: fatal: /dev/zero: larger than 67108864 bytes\n")


def test_what_is_not_there_cannot_be_converted(run, tmp_path):
    for kind in ("drate", "postfix"):
        done = run("pydestrules", "-c", kind, f"{tmp_path}/absent")
        assert (done.code, done.out) == (111, b"") and b"file does not exist" in done.err


def test_what_cannot_be_written_to_descriptor_1_is_an_error():
    command = [sys.executable, f"{ROOT}/bin/pydestrules", "-c", "powermta", "/dev/stdin"]
    source = b"<domain a>\nmax-smtp-out 2\n</domain>"
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, input=source, stdout=full, stderr=subprocess.PIPE, timeout=30, check=False)
    said = b"pydestrules: fatal: unable to write output: out of disk space\n"
    assert (done.returncode, done.stderr) == (111, said)
