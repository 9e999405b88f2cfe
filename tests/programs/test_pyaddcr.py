"""pyaddcr; beside the original in tests/interop/test_filters.py."""


def test_a_return_before_each_newline(run):
    assert run("pyaddcr", "ignored", input=b"a\nb\r\nc") == (0, b"a\r\nb\r\r\nc", b"")
