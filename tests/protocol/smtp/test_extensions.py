"""Rows of extensions in the engine: what EHLO announces, where a command may come, and starting again."""

import pytest

from pyqmail.protocol.smtp.extensions import EIGHT_BIT_MIME, PIPELINING, SIZE, STANDARD, Extension, ExtensionTable
from pyqmail.protocol.smtp.server import FREE, NOT_NOW, OK, RECIPIENTS, SENDER, UNIMPLEMENTED, Command, Server

GUARD = Extension(b"GUARD", commands={b"GUARD": {FREE: FREE}})
STEP = Extension(b"STEP", commands={b"STEP": {FREE: SENDER, SENDER: RECIPIENTS}})
BEFORE, AFTER = ExtensionTable(PIPELINING, GUARD), ExtensionTable(SIZE)


def said_by(engine, sent=b"", yes=OK):
    """Return (replies, commands that became events) of what is sent at once; all are accepted."""
    engine.receive(sent) if sent else None
    asked = []
    while (event := engine.next_event()) is not None:
        if type(event) is Command:
            asked.append((event.verb, event.argument))
        if type(event) is Command or event.is_last:
            engine.answer(event, yes)
    return engine.take_replies(), asked


EHLO = [
    # rows                                  lines
    ((),                                    b"250 here\r\n"),
    ((SIZE,),                               b"250-here\r\n250 SIZE 77\r\n"),
    ((GUARD, PIPELINING),                   b"250-here\r\n250-GUARD\r\n250 PIPELINING\r\n"),
    ((PIPELINING, EIGHT_BIT_MIME, SIZE),    b"250-here\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 77\r\n"),
]  # fmt: skip


@pytest.mark.parametrize("rows, lines", EHLO)
def test_ehlo_announces_the_rows_of_the_session(rows, lines):
    engine = Server(b"here", 77, ExtensionTable(*rows))
    assert said_by(engine, b"EHLO x\r\n")[0] == b"220 here ESMTP\r\n" + lines


def test_the_standard_rows():
    assert [row.keyword for row in STANDARD.rows] == [b"PIPELINING", b"8BITMIME", b"SIZE"]
    assert (STANDARD.mail_parameters, STANDARD.recipient_parameters) == ((b"BODY", b"SIZE"), ())
    assert not STANDARD.verbs and not STANDARD.next


def test_a_command_of_a_row_is_an_event_where_the_row_allows_it():
    engine = Server(b"here", 0, ExtensionTable(STEP))
    engine.take_replies()
    assert said_by(engine, b"step  a b\r\n") == (OK, [(b"STEP", b"a b")])
    assert said_by(engine, b"RCPT x\r\nRSET\r\nMAIL x\r\nSTEP\r\n")[1] == [
        (b"RCPT", b"x"), (b"MAIL", b"x"), (b"STEP", b"")]  # fmt: skip
    assert said_by(engine, b"STEP\r\n") == (NOT_NOW, [])
    assert engine.is_in_transaction


def test_a_refusal_leaves_the_state():
    engine = Server(b"here", 0, ExtensionTable(STEP))
    said_by(engine, b"STEP\r\n", b"550 no\r\n")
    assert not engine.is_in_transaction and engine.fruitless == 1


def test_without_its_row_a_command_is_unimplemented():
    assert said_by(Server(b"here"), b"STEP\r\n") == (b"220 here ESMTP\r\n" + UNIMPLEMENTED, [])


AHEAD = b"MAIL FROM:<evil>\r\nRCPT TO:<b>\r\nQUIT\r\nNOOP"  # its end is half a line
SENT = b"EHLO first\r\nGUARD\r\n" + AHEAD


def pieces():
    """Yield every way to cut SENT in two, and in pieces of one size."""
    yield from ([SENT[:at], SENT[at:]] for at in range(1, len(SENT)))
    yield from ([SENT[at : at + size] for at in range(0, len(SENT), size)] for size in range(1, len(SENT) + 1))


@pytest.mark.parametrize("is_read_ahead", [False, True])
def test_what_came_behind_the_command_is_dropped_in_any_pieces(is_read_ahead):
    """Whether it is all there before the command is obeyed, or as much as came with its last piece."""
    for parts in pieces():
        engine, events = Server(b"here", 7, BEFORE), []
        for part in parts:
            engine.receive(part)
            if is_read_ahead and part is not parts[-1]:
                continue
            event = engine.next_event()
            if event is not None:
                assert type(event) is Command and event.verb == b"GUARD"
                engine.answer(event, b"220 go\r\n")
                assert engine.take_replies().endswith(b"250 GUARD\r\n220 go\r\n")
                engine.restart(AFTER)
                events.append(event)
                break
        assert len(events) == 1 and engine.helo is None and not engine.is_in_transaction
        assert said_by(engine) == (b"", []) and not engine.closed
        assert said_by(engine, b"GUARD\r\nRCPT x\r\nEHLO again\r\nMAIL FROM:<a>\r\n") == (
            UNIMPLEMENTED + b"503 MAIL first (#5.5.1)\r\n250-here\r\n250 SIZE 7\r\n" + OK,
            [(b"MAIL", b"FROM:<a>")],
        )
        assert engine.helo == b"again"


def test_a_transaction_and_content_are_forgotten():
    for sent in (
        b"MAIL x\r\n",
        b"MAIL x\r\nRCPT x\r\n",
        b"MAIL x\r\nRCPT x\r\nDATA\r\n",
        b"MAIL x\r\nRCPT x\r\nDATA\r\nx",
    ):
        engine = Server(b"here")
        said_by(engine, sent)
        engine.restart(STANDARD)
        assert not engine.is_in_transaction and not engine.is_in_content
        assert said_by(engine, b"NOOP\r\n") == (OK, [])


def test_replies_that_wait_and_what_was_fruitless_stay():
    engine = Server(b"here")
    engine.receive(b"NOOP\r\nNOOP\r\n")
    assert engine.next_event() is None
    engine.restart(STANDARD)
    assert engine.take_replies() == b"220 here ESMTP\r\n" + OK * 2 and engine.fruitless == 2
