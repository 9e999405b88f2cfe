"""pyenvuidgid with programs of ours and others' behind it; beside the original in tests/interop."""

import pwd

NOBODY = pwd.getpwnam("nobody")


def test_the_ids_reach_a_program_of_ours(run, tmp_path):
    (tmp_path / "GID").write_text("7")
    words = ["nobody", "pyenvdir", tmp_path, "sh", "-c", "echo $UID $GID"]
    assert run("pyenvuidgid", *words, env={"UID": "1"}) == (0, b"%d 7\n" % NOBODY.pw_uid, b"")


def test_the_last_one_holds(run):
    assert run("pyenvuidgid", "root", "pyenvuidgid", "nobody", "sh", "-c", "echo $UID $GID; exit 5") == (
        5,
        b"%d %d\n" % (NOBODY.pw_uid, NOBODY.pw_gid),
        b"",
    )


def test_no_such_account(run):
    assert run("pyenvuidgid", "no such", "env") == (111, b"", b"envuidgid: fatal: unknown account no such\n")
    assert run("pyenvuidgid", "nobody") == (100, b"", b"envuidgid: usage: envuidgid account child\n")


def test_the_locale_is_the_one_we_were_given(run):
    """The interpreter changes or adds LC_CTYPE where the locale is C; programs do not see that."""
    words = ["nobody", "sh", "-c", "echo ${LC_CTYPE-none}"]
    for given in ("C", "POSIX", "C.UTF-8", ""):
        assert run("pyenvuidgid", *words, env={"LC_CTYPE": given}).out == given.encode() + b"\n"
    assert run("pyenvuidgid", *words).out == b"none\n"
