"""The commands of pyclean, whole and in pieces."""

import pytest

from pyqmail.protocol.wires.clean_wire import CleanCommands, parse

COMMANDS = [
    (b"foop/12", (b"foop", 12)),
    (b"todo/2385526", (b"todo", 2385526)),
    (b"foop/1", (b"foop", 1)),
    (b"foop/", None),
    (b"todo", None),
    (b"", None),
    (b"fooo/12", None),
    (b"foop/12/999", None),
    (b"foop/-1", None),
    (b"foop/ 1", None),
    (b"foop/" + b"1" * 94, (b"foop", int("1" * 94))),
    (b"foop/" + b"1" * 95, None),
]


@pytest.mark.parametrize("text, command", COMMANDS)
def test_parse(text, command):
    assert parse(text) == command


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_commands_are_the_same_in_any_pieces(size):
    sent = b"".join(text + b"\0" for text, _ in COMMANDS) + b"foop/7"
    engine, got = CleanCommands(), []
    for at in range(0, len(sent), size):
        got += engine.receive(sent[at : at + size])
    assert got == [command for _, command in COMMANDS]


def test_an_endless_command_takes_no_memory():
    engine = CleanCommands()
    for _ in range(100):
        assert engine.receive(b"1" * 4096) == []
    assert engine.receive(b"\0foop/3\0") == [None, (b"foop", 3)]
