"""The stock and the wide dialect: bytes as qmail-send and its spawners exchange them."""

import pytest

from pyqmail.protocol.wires import stock_dialect
from pyqmail.protocol.wires.stock_dialect import NARROW, WIDE, MalformedOrder, StockCommands, StockReports

COMMANDS = [
    # width   slot   bytes
    (NARROW, 0, b"\x0012/2385526\0snd@orig.example\0ann@mx.test\0"),
    (NARROW, 254, b"\xfe12/2385526\0snd@orig.example\0ann@mx.test\0"),
    (WIDE, 0, b"\0\x0012/2385526\0snd@orig.example\0ann@mx.test\0"),
    (WIDE, 258, b"\x02\x0112/2385526\0snd@orig.example\0ann@mx.test\0"),
]


@pytest.mark.parametrize("width, slot, wire", COMMANDS)
def test_command_golden(width, slot, wire):
    assert stock_dialect.command(slot, b"12/2385526", b"snd@orig.example", b"ann@mx.test", width) == wire
    assert StockCommands(width).receive(wire) == [(slot, b"12/2385526", b"snd@orig.example", b"ann@mx.test")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_commands_in_any_pieces(width, size):
    wanted = [(0, b"0/23", b"", b"a@b"), (1, b"1/24", b"s@x", b""), (200, b"22/45", b"\xff", b"u@\xfe")]
    wire = b"".join(stock_dialect.command(*one, width) for one in wanted)
    engine = StockCommands(width)
    got = [one for i in range(0, len(wire), size) for one in engine.receive(wire[i : i + size])]
    assert got == wanted and engine.is_empty


def test_endless_command_is_refused():
    engine = StockCommands()
    with pytest.raises(MalformedOrder):
        for _ in range(20):
            engine.receive(b"x" * 8192)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_reports_in_any_pieces(width, size):
    wanted = [(0, b"Kok\n"), (0, b""), (3, b"Z"), (254, b"Dno\xff such\n")]
    wire = b"".join(stock_dialect.report(slot, text, width) for slot, text in wanted)
    engine = StockReports(width)
    assert [one for i in range(0, len(wire), size) for one in engine.receive(wire[i : i + size])] == wanted


def test_report_golden():
    assert stock_dialect.report(0, b"Kdid 1+0+0\n") == b"\0Kdid 1+0+0\n\0"
    assert stock_dialect.report(258, b"Z\n", WIDE) == b"\2\1Z\n\0"
    assert stock_dialect.report(5, b"Kcut\0here") == b"\5Kcut\0"


@pytest.mark.parametrize("size", [1000, 100000])
def test_long_report_keeps_its_first_9998_bytes_of_text(size):
    wire = stock_dialect.report(7, b"D" + b"x" * 30000) + stock_dialect.report(0, b"K")
    engine = StockReports()
    got = [one for i in range(0, len(wire), size) for one in engine.receive(wire[i : i + size])]
    assert got == [(7, b"D" + b"x" * 9998), (0, b"K")]


def test_hello():
    assert stock_dialect.hello(120) == b"\x78" and stock_dialect.limit_of(b"\x78") == 120
    assert stock_dialect.hello(1000) == b"\xff"
    assert stock_dialect.hello(1000, WIDE) == b"\xe8\x03" and stock_dialect.limit_of(b"\xe8\x03") == 1000
