"""pyrecordio's lines; beside the original in tests/interop/test_filters.py."""

import re

import pytest

from pyqmail.programs.pyrecordio import record_lines

PIECES = [
    (b"", []),
    (b"\n", [b"7 <  "]),
    (b"a\nb", [b"7 < a ", b"7 < b+"]),
    (b"a\r\n\n\0\xff", [b"7 < a\r ", b"7 <  ", b"7 < \0\xff+"]),
    (b"+ \n", [b"7 < +  "]),
]


@pytest.mark.parametrize("piece, lines", PIECES)
def test_lines_of_a_piece(piece, lines):
    assert record_lines(b"7 < ", piece) == lines


def test_what_a_program_reads_and_writes(run):
    code, out, err = run("pyrecordio", "sh", "-c", "echo $$; cat; exit 7", input=b"x" * 300 + b"\n")
    pid, _, rest = out.partition(b"\n")
    assert (code, rest) == (7, b"x" * 300 + b"\n")
    assert set(re.findall(rb"(?m)^(\d+) [<>] ", err)) == {pid}
    assert [line[len(pid) + 3 :] for line in err.splitlines() if b"<" in line] == [
        b"x" * 256 + b"+",
        b"x" * 44 + b" ",
        b"[EOF]",
    ]


def test_a_program_that_is_not_there(run):
    code, out, err = run("pyrecordio", "no-such-program")
    assert (code, out) == (111, b"")
    assert b"recordio: fatal: unable to run no-such-program: file does not exist\n" in err
