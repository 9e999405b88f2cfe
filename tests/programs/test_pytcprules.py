"""pytcprules beside the original: files, lines and exit codes."""

import shutil
import subprocess

import pytest

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
        cdb = folder / "rules.cdb"
        seen.append((result, cdb.read_bytes() if cdb.exists() else None, (folder / "rules.tmp").exists()))
    assert seen[0] == seen[1]


@pytest.mark.skipif(shutil.which("tcprules") is None, reason="needs ucspi-tcp")
@pytest.mark.parametrize("arguments", [(), ("one",), ("rules.cdb", "absent/tmp"), (".", "tmp")])
def test_what_cannot_be_done_is_said_as_the_original_does(run, tmp_path, arguments):
    assert tuple(run("pytcprules", *arguments, cwd=tmp_path)) == original(*arguments, cwd=tmp_path)


def test_a_compiled_file_is_readable_by_all(run, tmp_path):
    assert run("pytcprules", "rules.cdb", "rules.tmp", input=b":allow\n", cwd=tmp_path).code == 0
    assert (tmp_path / "rules.cdb").stat().st_mode & 0o444 == 0o444
