"""pydelcr; beside the original in tests/interop/test_filters.py."""


def test_the_return_before_each_newline_goes(run):
    assert run("pydelcr", "ignored", input=b"a\nb\r\nc\r\r\n\r") == (0, b"a\nb\nc\r\n\r", b"")
