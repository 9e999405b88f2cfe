"""pytcprules beside the original: files, lines and exit codes."""

import os
import re
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

SOURCES = [
    b"",
    b":allow\n",
    b'# x\n\n1.2.3.4:deny,A="b"\n1.2.3.4:allow\n127.:allow,RELAYCLIENT=""\n=.example.org:allow\n:deny',
    b"1.2.3.37-39:allow\n18.23-24.:deny\n1.2-3.4.5:allow\n37-38:deny\n1.2.3.007-009:allow,A=/x/\n1.2.3.-3:allow\n",
    b"1.2.3.5-3:allow\n1.2.3.3-:allow\n=a-b.c:allow\nx@1-2:deny\n10.0.0.0/40:allow\n1.250-999.:allow\nno colon\n",
    b"".join(b'10.%d.0-255.:allow,N="%d"\n' % (n, n) for n in range(40)),
    b"a\xff\x00b:allow,X=\x00\xfe\x00\n",
    b"1:allow\nok:deny\nx:allowed \t\n:deny\n",
    b"1:allow\r\n",
    b"1.2.3.4-5-6:allow\n",
    b"a-b:allow\n",
    b": deny\n",
    b"x\0y:nonsense\n",
    b':allow,A="b"C\n',
]


def original(*arguments, input=b"", cwd=None):
    done = subprocess.run(["tcprules", *arguments], input=input, capture_output=True, cwd=cwd, timeout=20)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(shutil.which("tcprules") is None, reason="needs ucspi-tcp")
@pytest.mark.parametrize("source", SOURCES)
def test_files_lines_and_exit_codes_are_the_originals(run, tmp_path, source):
    seen = []
    for name, runner in (("theirs", original), ("ours", lambda *a, **k: tuple(run("pytcprules", *a, **k)))):
        folder = tmp_path / name
        folder.mkdir()
        result = runner("rules.cdb", "rules.tmp", "ignored", input=source, cwd=folder)
        # ours says besides which denials do not hold
        result = (*result[:2], re.sub(rb"(?m)^tcprules: warning: line \d+: .*\n", b"", result[2]))
        seen.append((result, {file.name: file.read_bytes() for file in folder.iterdir()}))
    assert seen[0] == seen[1]


@pytest.mark.skipif(shutil.which("tcprules") is None, reason="needs ucspi-tcp")
@pytest.mark.parametrize("arguments", [(), ("one",), ("rules.cdb", "absent/tmp"), (".", "tmp")])
def test_what_cannot_be_done_is_said_as_the_original_does(run, tmp_path, arguments):
    assert tuple(run("pytcprules", *arguments, cwd=tmp_path)) == original(*arguments, cwd=tmp_path)


def test_a_compiled_file_is_readable_by_all(run, tmp_path):
    assert run("pytcprules", "rules.cdb", "rules.tmp", input=b":allow\n", cwd=tmp_path).code == 0
    assert (tmp_path / "rules.cdb").stat().st_mode & 0o444 == 0o444


RULES = (
    b'127.:allow,RELAYCLIENT=""\n10.0.0.0/8:deny\n2001:db8::/32:allow\n=.example.org:allow\nno colon\n1000@unix:deny\n'
)
EXPLAINED = [
    # arguments                               the lines after `no rule for`
    (["127.0.0.1"],                           b'line 1 holds: 127.:allow,RELAYCLIENT=""\n'
                                              b"it is the rule for 127.: the start of the address\n"
                                              b"set environment variable RELAYCLIENT=\nallow connection\n"),
    (["::ffff:10.1.1.1"],                     b"line 2 holds: 10.0.0.0/8:deny\n"
                                              b"it is the rule for 10.0.0.0/8: a network that the address is in\n"
                                              b"deny connection\n"),
    (["2001:DB8:0::1"],                       b"line 3 holds: 2001:db8::/32:allow\n"
                                              b"it is the rule for 2001:db8::/32: a network that the address is in\n"
                                              b"allow connection\n"),
    (["9.9.9.9", "--host", "A.Example.ORG"],  b"line 4 holds: =.example.org:allow\n"
                                              b"it is the rule for =.example.org: the end of the name\n"
                                              b"allow connection\n"),
    (["unix", "--info=1000"],                 b"line 6 holds: 1000@unix:deny\n"
                                              b"it is the rule for 1000@unix: what is known of the user, "
                                              b"and the address\ndeny connection\n"),
    (["9.9.9.9"],                             b"no line holds\nallow connection\n"),
]  # fmt: skip


@pytest.mark.parametrize("arguments, told", EXPLAINED)
def test_explain_names_the_line_and_the_reason_and_writes_nothing(run, tmp_path, arguments, told):
    code, out, err = run("pytcprules", "--explain", *arguments, "rules.cdb", "tmp", input=RULES, cwd=tmp_path)
    assert (code, err, list(tmp_path.iterdir())) == (0, b"", [])
    assert out.endswith(told)
    assert all(line.startswith(b"no rule for ") for line in out.removesuffix(told).splitlines())


def test_lint_names_lines_writes_nothing_and_ends_with_100(run, tmp_path):
    said = b"line 5: no colon, so it is skipped: no colon\n"
    assert run("pytcprules", "--lint", input=RULES, cwd=tmp_path) == (100, said, b"")
    assert run("pytcprules", "--lint", "rules.cdb", "tmp", input=b":allow\n", cwd=tmp_path) == (0, b"", b"")
    assert list(tmp_path.iterdir()) == []


USAGE = b"tcprules: usage: tcprules rules.cdb rules.tmp\n"
WRONG = [
    (["--explain"], b"pytcprules: option requires an argument -- -explain\n"),
    (["--explain", "1.2.3"], b"tcprules: neither an IPv4 address nor one of IPv6 nor unix: 1.2.3\n"),
    (["--explain", "1.2.3.4", "--lint"], b"tcprules: --host and --info belong to --explain, and --lint stands alone\n"),
    (
        ["--host", "x", "rules.cdb", "tmp"],
        b"tcprules: --host and --info belong to --explain, and --lint stands alone\n",
    ),
    (["--lint", "--info="], b"tcprules: --host and --info belong to --explain, and --lint stands alone\n"),
    (["--nonsense"], b"pytcprules: illegal option -- -nonsense\n"),
]


@pytest.mark.parametrize("arguments, complaint", WRONG)
def test_options_that_mean_nothing_are_wrong_usage(run, tmp_path, arguments, complaint):
    code, out, err = run("pytcprules", *arguments, input=RULES, cwd=tmp_path)
    assert (code, out, err.replace(b"/pytcprules", b"pytcprules")) == (100, b"", complaint + USAGE)
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_no_rule_is_not_explained(run):
    code, out, err = run("pytcprules", "--explain", "1.2.3.4", input=b"1.:allow\nx:y\0z\n")
    assert (code, out, err) == (100, b"", b"tcprules: fatal: unable to parse this line: x:y\n")


@pytest.mark.parametrize("program", ["pytcprules --lint", "pytcprules --explain 1.2.3.4", "pytcprulescheck rules.cdb"])
def test_output_that_cannot_be_written_is_said(run, tmp_path, program):
    run("pytcprules", "rules.cdb", "tmp", input=b":allow\n", cwd=tmp_path)
    name, *arguments = program.split()
    command = [sys.executable, f"{ROOT}/bin/{name}", *arguments]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command, input=b"x", stdout=full, stderr=subprocess.PIPE, env={}, cwd=tmp_path, timeout=20
        )
    line = b"%b: fatal: unable to write output: out of disk space\n" % name.removeprefix("py").encode()
    assert (done.returncode, done.stderr) == (111, line)


def test_a_denial_that_does_not_hold_is_said_when_it_is_compiled(run, tmp_path):
    source = b'10.:allow\n10.0.0.0/8:deny\n9.:allow,MAXCONNIP="5k", X="1"\n8.8.8.8 deny\n:allow\n'
    code, out, err = run("pytcprules", "rules.cdb", "tmp", input=source, cwd=tmp_path)
    assert (code, out) == (0, b"")
    assert err == (
        b"tcprules: warning: line 2: never matches: "
        b"line 1 is looked at before it, with all of its addresses: 10.0.0.0/8:deny\n"
        b'tcprules: warning: line 3: MAXCONNIP is no number, and is read as 5: \'5k\': 9.:allow,MAXCONNIP="5k", X="1"\n'
        b"tcprules: warning: line 4: no colon, so it is skipped: 8.8.8.8 deny\n"
    )
    quiet = run(
        "pytcprules", "again.cdb", "tmp", input=source.replace(b"10.0.0.0/8:deny", b"10.0.0.0/7:deny"), cwd=tmp_path
    )
    assert b"line 2" not in quiet.err


@pytest.mark.parametrize("source, code", [(b":allow\n", 0), (b"1.2.3.4:oops\n", 100)])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_nothing_is_written_through_a_link_in_the_place_of_tmp(run, tmp_path, link, source, code):
    """Root's rules in a directory where others make names."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link(victim, tmp_path / "rules.tmp")
    assert run("pytcprules", "rules.cdb", "rules.tmp", input=source, cwd=tmp_path).code == code
    assert victim.read_text() == "precious"
