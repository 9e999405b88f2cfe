import pytest

from pyqmail.supervise.stamps import stamp_lines

BLOCKS = [
    # block         at the start of a line?  stamped
    (b"", True, b""),
    (b"a", True, b"#a"),
    (b"a", False, b"a"),
    (b"a\n", True, b"#a\n"),
    (b"\n", True, b"#\n"),
    (b"\n", False, b"\n"),
    (b"a\n\nb", True, b"#a\n#\n#b"),
    (b"a\nb\n", False, b"a\n#b\n"),
]


@pytest.mark.parametrize("block, at_start, stamped", BLOCKS)
def test_stamps(block, at_start, stamped):
    assert stamp_lines(block, b"#", at_start) == stamped
