"""pyfinger@ asks port 79 of servers of the test's own.  Beside the original: tests/interop/test_at_programs.py"""

import pytest

QUESTIONS = [
    # arguments          what the server hears
    ([],                 b"\r\n"),
    ([b""],              b"\r\n"),
    ([b"user"],          b"user\r\n"),
    ([b"/W user", b"x"], b"/W user\r\n"),
    ([b"-n"],            b"-n\r\n"),
    ([b"a\\tb\\c"],      b"a\\tb\\c\r\n"),
    ([b"\xff\x01"],      b"\xff\x01\r\n"),
]  # fmt: skip


@pytest.mark.parametrize("arguments, question", QUESTIONS)
def test_the_question_is_the_user_as_it_is(run, one_call, arguments, question):
    server = one_call(b"Login: user\r\n\0\r\n", hears=b"\r\n", port=79)
    assert run("pyfinger@", server.host, *arguments) == (0, b"Login: user\n^@\n", b"")
    assert server.heard() == question


def test_a_server_that_closes_at_once(run, one_call):
    server = one_call(port=79)
    assert run("pyfinger@", server.host, "user") == (0, b"", b"")


def test_nobody_there(run):
    code, out, err = run("pyfinger@", "127.255.1.1", "user")
    assert (code, out) == (0, b"")
    assert err == b"tcpclient: unable to connect to 127.255.1.1 port 79: connection refused\n"
