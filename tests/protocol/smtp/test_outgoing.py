import pytest

from pyqmail.protocol.smtp.outgoing import Outgoing, PartialLine

MESSAGES = [
    # message                     on the wire
    (b"", b".\r\n"),
    (b"\n", b"\r\n.\r\n"),
    (b"a\n\nb\n", b"a\r\n\r\nb\r\n.\r\n"),
    (b".\n", b"..\r\n.\r\n"),
    (b".a\n..\n", b"..a\r\n...\r\n.\r\n"),
    (b"a.\n", b"a.\r\n.\r\n"),
    (b"a\r\nb\r\n", b"a\r\nb\r\n.\r\n"),
    (b"a\rb\n", b"a b\r\n.\r\n"),
    (b"a\r\r\nb\n", b"a \r\nb\r\n.\r\n"),
    (b"a\r.\rb\n", b"a . b\r\n.\r\n"),
    (b"a\r.\r\nb\n", b"a .\r\nb\r\n.\r\n"),
    (b"a\n.\r\nb\n", b"a\r\n..\r\nb\r\n.\r\n"),
    (b"a\n\r.\n", b"a\r\n .\r\n.\r\n"),
    (b"\r\n.\n", b"\r\n..\r\n.\r\n"),
    (b"a\r", b"a\r\n.\r\n"),
    (b"a\r\r", b"a \r\n.\r\n"),
    (b"\0\xff\n", b"\0\xff\r\n.\r\n"),
]


def send(message, size):
    outgoing = Outgoing()
    wire = b"".join(outgoing.send(message[at : at + size]) for at in range(0, len(message), size))
    return wire + outgoing.end()


@pytest.mark.parametrize("size", [1, 2, 3, 65536])
@pytest.mark.parametrize("message, wire", MESSAGES)
def test_wire_is_the_same_in_any_pieces(message, wire, size):
    assert send(message, size) == wire


def test_no_short_message_puts_a_lone_cr_or_lf_or_an_early_end_on_the_wire():
    import itertools

    for letters in itertools.product(b"a.\r\n", repeat=6):
        message = bytes(letters) + b"\n"
        for size in (1, 2, 7):
            wire = send(message, size)
            assert wire.count(b"\r") == wire.count(b"\n") == wire.count(b"\r\n")
            assert (b"\r\n" + wire).find(b"\r\n.\r\n") == len(wire) - 3


@pytest.mark.parametrize("message", [b"a", b"a\n.", b"a\rb", b" "])
def test_a_partial_final_line_is_not_completed(message):
    with pytest.raises(PartialLine):
        send(message, 65536)
