"""The body of an HTTP/1.0 answer, whole, in pieces, and beside the awk program of the original."""

import itertools
import random
import shutil
import subprocess

import pytest

from pyqmail.protocol.http_body import Body

ANSWERS = [
    # answer                                    body
    (b"",                                       b""),
    (b"HTTP/1.0 200 ok\nA: b\n",                b""),
    (b"no line end",                            b""),
    (b"HTTP/1.0 200 ok\n\nx\n",                 b"x\n"),
    (b"HTTP/1.0 200 ok\n\nx",                   b"x\n"),
    (b"a\n\n",                                  b""),
    (b"\nx\n",                                  b"x\n"),
    (b"\n\n\n\nx\n\n\ny\n\n",                   b"x\ny\n"),
    (b"\r\n\nx\r\n\r\ny",                       b"x\r\n\r\ny\n"),
    (b"a\n\0\n\n\0\0\n\n\xff",                  b"\0\0\n\xff\n"),
    (b"a\n \n\nx\n \n\ty",                      b"x\n \n\ty\n"),
]  # fmt: skip
AWK = "/^$/ { body = 1; next } { if (body) print }"


def body_of(pieces):
    engine = Body()
    return b"".join(map(engine.receive, pieces)) + engine.end()


def cut(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("answer, body", ANSWERS)
def test_body_is_the_same_in_any_pieces(answer, body):
    for size in (1, 2, 3, 4096):
        pieces = cut(answer, size)
        assert body_of(pieces) == body
        assert body_of(itertools.chain.from_iterable((piece, b"") for piece in [b"", *pieces])) == body


@pytest.mark.skipif(not shutil.which("mawk"), reason="needs mawk, which keeps NULs")
@pytest.mark.parametrize("seed", range(20))
def test_body_is_what_awk_prints(seed):
    chance = random.Random(seed)
    answer = bytes(chance.choice(b"\n\n\nab\r\0\xff") for _ in range(chance.randrange(400)))
    theirs = subprocess.run(["mawk", AWK], input=answer, capture_output=True, check=True, timeout=60)
    assert body_of(cut(answer, chance.randrange(1, 20))) == theirs.stdout
    assert body_of([answer]) == theirs.stdout


def test_many_empty_lines_in_one_piece():
    assert body_of([b"\n" * 1_000_000 + b"x" + b"\n" * 1_000_000]) == b"x\n"
