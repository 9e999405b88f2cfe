"""The engine alone: order of commands, its own replies, lines in any pieces.

Whole conversations: tests/mail/smtpd/test_session.py.
"""

import pytest

from pyqmail.protocol.smtp import server
from pyqmail.protocol.smtp.server import LINE_LIMIT, OK, Command, Server

QUIT = b"QUIT\r\n"


def talk(sent, size=1 << 20, decide=None):
    """Return the engine, all it says, and the commands it asked about; pieces of the message are answered 250."""
    engine, said, asked = Server(b"here"), [], []
    for at in range(0, len(sent), size):
        engine.receive(sent[at : at + size])
        while (event := engine.next_event()) is not None or engine.must_speak:
            if event is None:
                said.append(engine.take_replies())
            elif type(event) is Command:
                asked.append((event.verb, event.argument))
                engine.answer(event, decide(event) if decide else OK)
            elif event.is_last:
                engine.answer(event, OK)
        said.append(engine.take_replies())
    return engine, b"".join(said).removeprefix(b"220 here ESMTP\r\n"), asked


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_commands_are_the_same_in_any_pieces(size):
    sent = b"mail  FROM:<a>\r\nrCPT TO:<b>\nDATA x\r\n.\r\nRSET\r\n"
    engine, said, asked = talk(sent, size)
    assert asked == [(b"MAIL", b"FROM:<a>"), (b"RCPT", b"TO:<b>"), (b"DATA", b"x")]
    assert said == OK * 4 + b"250 flushed\r\n"
    assert not engine.closed


def test_a_refused_command_changes_nothing():
    def decide(command):
        return b"553 no\r\n" if command.argument == b"<b>" else OK

    _, said, _ = talk(b"MAIL <a>\r\nRCPT <a>\r\nMAIL <b>\r\nDATA\r\n", decide=decide)
    assert said == OK * 2 + b"553 no\r\n" + OK
    _, said, _ = talk(b"MAIL <a>\r\nRCPT <b>\r\nDATA\r\n", decide=decide)
    assert said == OK + b"553 no\r\n" + server.RCPT_FIRST


def test_data_refused_keeps_the_transaction():
    sent = b"MAIL <a>\r\nRCPT <b>\r\nDATA\r\nDATA\r\n"
    _, said, asked = talk(sent, decide=lambda command: b"451 no\r\n" if command.verb == b"DATA" else OK)
    assert said == OK * 2 + b"451 no\r\n" * 2 and len(asked) == 4


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_a_line_without_end_ends_the_conversation(size):
    engine, said, _ = talk(b"x" * (LINE_LIMIT + 2000), size)
    assert (engine.closed, engine.exit_code, said) == (True, 1, server.OUT_OF_MEMORY)


def test_a_long_line_with_an_end_is_a_line():
    engine, said, _ = talk(b"x" * LINE_LIMIT + b"\r\nNOOP\r\n", 5000)
    assert said == server.UNIMPLEMENTED + OK


def test_the_end_of_the_client_is_a_failure_without_words():
    engine = Server(b"here")
    engine.take_replies()
    engine.receive(b"")
    assert (engine.next_event(), engine.closed, engine.exit_code, engine.take_replies()) == (None, True, 1, b"")


def test_nothing_is_heard_after_quit():
    engine, said, _ = talk(b"QUIT\r\nNOOP\r\n")
    assert (said, engine.exit_code, engine.closed) == (b"221 here\r\n", 0, True)


@pytest.mark.parametrize("command", [b"NOOP\r\n", b"\n", b"EHLO\n"])
def test_its_own_replies_do_not_grow_without_bound(command):
    engine, longest = Server(b"here"), 0
    engine.receive(command * 10000 + QUIT)
    while not engine.closed:
        assert engine.next_event() is None
        longest = max(longest, len(engine.take_replies()))
    assert longest < 17000 and engine.exit_code == 0


def test_many_replies_must_be_sent_before_going_on():
    engine = Server(b"here")
    engine.receive(b"MAIL\r\n" * 3000)
    while not engine.must_speak:
        engine.answer(engine.next_event(), OK)
    assert 16384 <= len(engine.take_replies()) < 17000 and not engine.must_speak


def test_the_answer_to_a_message_is_not_held_back():
    engine = Server(b"here")
    engine.receive(b"MAIL\r\nRCPT\r\nDATA\r\n.\r\nNOOP\r\n")
    for _ in range(4):
        assert not engine.must_speak
        engine.answer(engine.next_event(), OK)
    assert engine.must_speak


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(
    "verb", ["GET", "POST", "CONNECT", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "PRI", "get", "Post"]
)
def test_a_client_of_the_web_gets_one_reply(verb, size):
    request = verb.encode() + b" / HTTP/1.1\r\nHost: here\r\n\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n"
    engine, said, asked = talk(request, size)
    assert (engine.closed, engine.exit_code, said, asked) == (True, 1, server.NOT_HTTP, [])


def test_only_the_first_command_is_taken_for_one_of_the_web():
    engine, said, _ = talk(b"NOOP\r\nGET / HTTP/1.1\r\nPOST\r\nGETX\r\n")
    assert not engine.closed and said == OK + server.UNIMPLEMENTED * 3
    engine, said, _ = talk(b"GETX / HTTP/1.1\r\nGET / HTTP/1.1\r\n")
    assert not engine.closed and said == server.UNIMPLEMENTED * 2


def test_a_transaction_is_one_from_sender_to_end():
    steps = [(b"", False), (b"MAIL x\r\n", True), (b"RCPT x\r\n", True), (b"RSET\r\n", False), (b"MAIL x\r\n", True),
             (b"HELO x\r\n", False), (b"MAIL x\r\nRCPT x\r\nDATA\r\n", True), (b"x\r\n.\r\n", False)]  # fmt: skip
    for count in range(1, len(steps) + 1):
        engine, _, _ = talk(b"".join(sent for sent, _ in steps[:count]))
        assert engine.is_in_transaction is steps[count - 1][1]


FRUITLESS = [
    # what is sent                                                          how much of it brought no mail
    (b"NOOP\r\nRSET\r\nHELP\r\nVRFY x\r\nHELO x\r\nEHLO x\r\nXXXX\r\n\r\nDATA\r\n",  9),
    (b"MAIL a\r\n" * 5,                                                     5),
    (b"MAIL a\r\n" + b"RCPT b\r\n" * 100,                                  1),
    (b"MAIL a\r\n" + b"RCPT no\r\n" * 100,                                 101),
    (b"NOOP\r\n" * 9 + b"MAIL a\r\nRCPT b\r\nDATA\r\n.\r\n",             0),
    (b"NOOP\r\n" * 9 + b"MAIL a\r\nRCPT b\r\nDATA\r\n.\r\nNOOP\r\n",     1),
    (b"X" * 64000 + b"\r\n",                                               1001),
    (b"HELO " + b"X" * 64000 + b"\r\n",                                    1001),
]  # fmt: skip


@pytest.mark.parametrize("sent, count", FRUITLESS)
def test_what_brings_no_mail_is_counted(sent, count):
    engine, _, _ = talk(sent, decide=lambda command: b"553 no\r\n" if command.argument == b"no" else OK)
    assert engine.fruitless == count
