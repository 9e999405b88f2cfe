"""pysetuidgid beside the original.  Changing ids needs root; without, only the refusals are tested."""

import os
import pwd
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [sys.executable, f"{ROOT}/bin/pysetuidgid"]
needs_original = pytest.mark.skipif(not shutil.which("setuidgid"), reason="daemontools is not installed")
ME = next((entry.pw_name for entry in pwd.getpwall() if entry.pw_uid == os.getuid()), "root")

CASES = [
    [],
    ["nobody"],
    ["65534", "id"],
    ["-x", "id"],
    ["no such account", "id"],
    ["", "id"],
    [ME, "id"],
    ["nobody", "id"],
    ["nobody", "sh", "-c", "echo $HOME $USER; exit 4"],
    ["nobody", "./private/program"],
    ["nobody", "no-such-program-at-all"],
]


@needs_original
@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_as_the_original(tmp_path, words):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "program").write_text("#!/bin/sh\n")
    (private / "program").chmod(0o755)
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/home/of/nobody", "USER": "somebody"}
    ours, theirs = [
        subprocess.run([*command, *words], capture_output=True, cwd=tmp_path, env=environ, timeout=60)
        for command in (OURS, ["setuidgid"])
    ]
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change ids")
def test_one_group_is_left():
    words = [*OURS, "nobody", "grep", "-E", "^(Uid|Gid|Groups)", "/proc/self/status"]
    done = subprocess.run(words, capture_output=True, timeout=60)
    account = pwd.getpwnam("nobody")
    uid, gid = str(account.pw_uid), str(account.pw_gid)
    expected = [["Uid:"] + [uid] * 4, ["Gid:"] + [gid] * 4, ["Groups:", gid]]
    assert [line.split() for line in done.stdout.decode().splitlines()] == expected
