"""pysvok as a program: its three answers."""

import os


def test_the_answers(run, tmp_path):
    (tmp_path / "a/supervise").mkdir(parents=True)
    (tmp_path / "none").mkdir()
    (tmp_path / "wrong/supervise/ok").mkdir(parents=True)
    os.mkfifo(tmp_path / "a/supervise/ok")

    def ask(*words):
        return run("pysvok", *words, cwd=tmp_path)

    assert ask("none") == (100, b"", b"")
    assert ask("a") == (100, b"", b"")
    reader = os.open(tmp_path / "a/supervise/ok", os.O_RDONLY | os.O_NONBLOCK)
    assert ask("a", "ignored") == (0, b"", b"")
    os.close(reader)
    assert ask("wrong") == (111, b"", b"svok: fatal: unable to open wrong/supervise/ok: is a directory\n")
    assert ask("missing") == (111, b"", b"svok: fatal: unable to chdir to missing: file does not exist\n")
    assert ask("-x") == (111, b"", b"svok: fatal: unable to chdir to -x: file does not exist\n")
    assert ask() == (100, b"", b"svok: usage: svok dir\n")
