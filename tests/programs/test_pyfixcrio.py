"""pyfixcrio; beside the original in tests/interop/test_filters.py."""


def test_both_directions_are_completed(run):
    code, out, err = run("pyfixcrio", "sh", "-c", "od -An -c | tr -d ' '; exit 7", input=b"a\nb\r\nc")
    assert (code, out, err) == (7, rb"a\r\nb\r\nc" + b"\r\n", b"")


def test_one_of_ours_is_not_executed(run):
    assert run("pyfixcrio", "pydelcr", input=b"a\n\rb") == (0, b"a\r\n\rb", b"")


def test_nothing_to_run(run):
    assert run("pyfixcrio") == (100, b"", b"fixcrio: usage: fixcrio program [ arg ... ]\n")
