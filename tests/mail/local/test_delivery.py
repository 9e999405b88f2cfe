"""The pieces of a delivery; the whole is tested as a program in tests/programs/test_pylocal.py."""

import os

import pytest

from pyqmail.mail.local import delivery, local_message
from pyqmail.mail.local.local_message import LocalMessage

HEADERS = [
    # message, whether it has the line b"D: x\n" in its header
    (b"", False),
    (b"D: x\n", True),
    (b"D: x", False),
    (b"A: b\nD: x\n\nbody", True),
    (b"A: b\n\nD: x\n", False),
    (b"\nD: x\n", False),
    (b"AD: x\n\n", False),
    (b"D: x\r\n", False),
    (b"D: y\n D: x\nD: x\n", True),
    (b"A: b\nD: x\n\n", True),
]


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 65536])
@pytest.mark.parametrize("text, has", HEADERS)
def test_header_lines_in_any_blocks(tmp_path, monkeypatch, text, has, block_bytes):
    monkeypatch.setattr(local_message, "BLOCK_BYTES", block_bytes)
    (tmp_path / "m").write_bytes(text)
    fd = os.open(tmp_path / "m", os.O_RDONLY)
    message = LocalMessage(fd)
    assert message.has_header_line(b"D: x\n") is has
    assert b"".join(message.blocks()) == text
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0  # the offset is the programs'
    os.close(fd)


@pytest.mark.parametrize("kind", ["file", "mailbox", "", None, b"mbox", "imap"])
@pytest.mark.parametrize("describe", [False, True])
def test_an_unknown_kind_of_instruction_is_a_deferral_and_no_file(tmp_path, monkeypatch, kind, describe):
    """No text leads to one today: this is for the day when dotqmail.py learns one that is forgotten here."""
    monkeypatch.setattr(delivery.dotqmail, "instructions", lambda text: [(kind, b"./thing"), ("mbox", b"./after")])
    (tmp_path / "home").mkdir()
    home, said = os.fsencode(tmp_path / "home"), []
    with open(tmp_path / "message", "w+b") as message:
        request = delivery.DeliveryRequest(b"joe", home, b"joe", b"", b"", b"h", b"s@x", b"./thing", describe=describe)
        before = os.getcwd()
        try:
            code = delivery.Delivery(request, message.fileno(), {}, Said(said), None, None).run()
        finally:
            os.chdir(before)
    assert (code, said) == (111, [b"Internal error: unknown kind of instruction. (#4.3.5)\n"])
    assert os.listdir(home) == []


class Said:
    def __init__(self, texts):
        self.say = self.complain = texts.append
