"""pysvstat as a program: a line for each directory, whatever is wrong with it."""

import os
import re


def test_a_line_for_each(run, tmp_path):
    for name in ("a", "dead", "never", "short", "nostatus", "folder"):
        (tmp_path / name).mkdir()
    readers = []
    for name in ("a", "dead", "short", "nostatus", "folder"):
        (tmp_path / name / "supervise").mkdir()
        os.mkfifo(tmp_path / name / "supervise/ok")
        if name != "dead":
            readers.append(os.open(tmp_path / name / "supervise/ok", os.O_RDONLY | os.O_NONBLOCK))
    (tmp_path / "a/supervise/status").write_bytes(bytes.fromhex("400000006b0475290c38519c4a3e00000075") + b"more")
    (tmp_path / "short/supervise/status").write_bytes(bytes(17))
    (tmp_path / "folder/supervise/status").mkdir()
    done = run("pysvstat", "a", "missing", "dead", "never", "short", "nostatus", "folder", cwd=tmp_path)
    for reader in readers:
        os.close(reader)
    assert (done.code, done.err) == (0, b"")
    assert re.sub(rb"\d+ seconds", b"N seconds", done.out).decode().split("\n") == [
        "a: up (pid 15946) N seconds",
        "missing: unable to chdir: file does not exist",
        "dead: supervise not running",
        "never: unable to open supervise/ok: file does not exist",
        "short: unable to read supervise/status: bad format",
        "nostatus: unable to open supervise/status: file does not exist",
        "folder: unable to read supervise/status: is a directory",
        "",
    ]


def test_nothing_to_say(run):
    assert run("pysvstat") == (0, b"", b"")
