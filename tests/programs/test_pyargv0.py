"""pyargv0; beside the original in tests/interop/test_filters.py."""


def test_the_name_of_a_foreign_program(run):
    assert run("pyargv0", "cat", "other", "/proc/self/cmdline").out == b"other\0/proc/self/cmdline\0"


def test_the_name_of_one_of_ours(run):
    code, _, err = run("pyargv0", "pysetlock", "folder/other", "-q")
    assert code == 100
    assert err.startswith(b"other: illegal option -- q\n")


def test_an_empty_name_is_the_files(run):
    out = run("pyargv0", "cat", "", "/proc/self/cmdline").out
    assert out.split(b"\0")[0].endswith(b"/cat")


def test_a_program_that_is_not_there(run):
    assert run("pyargv0", "no-such-program", "x") == (
        111,
        b"",
        b"argv0: fatal: unable to run no-such-program: file does not exist\n",
    )
