"""The ident client's reading of answers: tcpserver's lenience."""

import pytest

from pyqmail.protocol.ident import REPLY_LIMIT, IdentAnswer, question

ANSWERS = [
    # from the server                              ended   text
    (b"4711 , 25 : USERID : UNIX : joe\r\n",        True,  b"joe"),
    (b"4711,25:USERID:UNIX:joe\n",                  True,  b"joe"),
    (b"4711,25:USERID:UNIX: a b\tc:d:\r\n",         True,  b"abc:d:"),
    (b"4711,25:ERROR:NO-USER\r\n",                  True,  b""),
    (b"\n",                                         True,  b""),
    (b"1,2:USERID:UNIX:joe",                        False, b"joe"),
    (b"1,2:USERID:UNIX:" + b"x" * 300,              True,  b"x" * 257),
    (b"1,2:USERID:UNIX:" + b"x" * 256,              False, b"x" * 256),
    (b"1,2:USERID:UNIX:ab\0cd\n",                   True,  b"ab"),
    (b"x" * 5000 + b":::y\nz",                      True,  b"y"),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, 10000])
@pytest.mark.parametrize("data, ended, text", ANSWERS)
def test_an_answer_is_the_same_in_any_pieces(data, ended, text, size):
    answer = IdentAnswer()
    for at in range(0, len(data), size):
        if not answer.ended:
            answer.receive(data[at : at + size])
    assert (answer.ended, answer.text) == (ended, text)


def test_the_question_names_the_clients_port_first():
    assert question(b"4711", b"25") == b"4711 , 25\r\n"


@pytest.mark.parametrize("piece", [b" ", b"x" * 1000, b"1,2:USERID:UNIX"])
def test_an_answer_without_end_is_too_long(piece):
    answer, heard = IdentAnswer(), 0
    while not answer.is_too_long and not answer.ended:
        answer.receive(piece)
        heard += len(piece)
        assert heard < REPLY_LIMIT + 2000
