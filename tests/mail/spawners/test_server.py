import os
import re

import pytest

from pyqmail.mail.spawners import server
from pyqmail.mail.spawners.server import (
    Collected,
    Messages,
    Native,
    OrderRefused,
    Spawner,
    Stock,
    check_path,
    check_recipient,
    report_text,
)
from pyqmail.protocol.wires import native_dialect, stock_dialect
from pyqmail.system.loop import Loop

PATHS = [
    (b"0/1", None),
    (b"1", None),
    (b"9" * 99, None),
    (b"9" * 100, server.TOO_LONG),
    (b"", server.TOO_SHORT),
    (b"/1", server.NONNUMERICS),
    (b"/", server.NONNUMERICS),
    (b"0/../1", server.NONNUMERICS),
    (b"0/1 ", server.NONNUMERICS),
    (b"x" * 200, server.NONNUMERICS),
    (b"\xb2", server.NONNUMERICS),
]


def refusal(check, value):
    try:
        check(value)
    except OrderRefused as refused:
        return refused.report
    return None


@pytest.mark.parametrize("path, report", PATHS)
def test_paths(path, report):
    assert refusal(check_path, path) == report


def test_recipients():
    assert refusal(check_recipient, b"joe") == server.NO_HOST
    assert refusal(check_recipient, b"@") is None


def test_message_files(home):
    mess = f"{home.queue}/mess/0"
    messages = Messages(home.queue, os.getuid())
    with open(f"{mess}/1", "wb") as file:
        file.write(b"mail")
    os.mkfifo(f"{mess}/2")
    os.mkdir(f"{mess}/3")
    fd = messages.open(b"0/1")
    assert os.read(fd, 9) == b"mail" and not os.get_inheritable(fd)
    os.close(fd)
    assert refusal(messages.open, b"0/2") == refusal(messages.open, b"0/3") == server.WRONG_TYPE
    assert refusal(messages.open, b"0/4") == server.NO_MESSAGE
    assert refusal(Messages(home.queue, os.getuid() + 1).open, b"0/1") == server.WRONG_OWNER


TOO_MUCH = b"x" * 2966 + b"\nError report too long, sorry.\n"
COLLECTED = [
    ([b"a", b"b"], b"ab"),
    ([b"x" * 3000], b"x" * 3000),
    ([b"x" * 3001], TOO_MUCH),
    ([b"x" * 3000, b"y", b"z" * 9000], TOO_MUCH),
]


@pytest.mark.parametrize("pieces, text", COLLECTED)
def test_output_is_cut(pieces, text):
    collected = Collected()
    for piece in pieces:
        collected.add(piece)
    assert collected.text == text and len(text) <= 3000


def test_a_report_ends_at_its_nul():
    assert report_text(b"K", b"a\0b") == b"Ka"


class Pipes:
    """A Spawner over two pipes, whose deliveries are reported at once, or with `hold` a moment later."""

    def __init__(self, home, dialect, limit=3, hold=False):
        self.loop, self.orders = Loop(), []
        commands, self.commands = os.pipe()
        self.reports, reports = os.pipe()
        self.hold = hold
        messages = Messages(home.queue, os.getuid())
        self.spawner = Spawner(self.loop, dialect, limit, messages, self.deliver, commands, reports)
        self._theirs = commands, reports
        self.spawner.start()

    def deliver(self, order):
        os.close(order.message)
        self.orders.append(order)
        report = lambda: self.spawner.report(order.number, b"K" + order.recipient)  # noqa: E731
        self.loop.after(0.01, report) if self.hold else report()

    def close(self):
        os.close(self.commands)
        self.loop.run()
        for fd in self._theirs:
            os.close(fd)
        data = b"".join(iter(lambda: os.read(self.reports, 65536), b""))
        os.close(self.reports)
        return data


@pytest.fixture
def queue(home):
    with open(f"{home.queue}/mess/0/1", "wb") as file:
        file.write(b"mail")
    return home


@pytest.mark.parametrize("width", [1, 2])
def test_stock_orders(queue, width):
    pipes = Pipes(queue, Stock(width))
    command = stock_dialect.command
    for slot, path, recipient in [
        (0, b"0/1", b"a@b"),
        (3, b"0/1", b"c@d"),
        (1, b"0/x", b"e@f"),
        (2, b"0/1", b"g"),
        (1, b"0/9", b"h@i"),
    ]:
        os.write(pipes.commands, command(slot, path, b"s", recipient, width))
    said = pipes.close()
    assert said[:width] == stock_dialect.hello(3, width)
    assert stock_dialect.StockReports(width).receive(said[width:]) == [
        (0, b"Ka@b"), (3, server.TOO_BIG), (1, server.NONNUMERICS), (2, server.NO_HOST), (1, server.NO_MESSAGE),
    ]  # fmt: skip


def test_a_busy_slot_is_answered_under_its_number(queue):
    pipes = Pipes(queue, Stock(), hold=True)
    os.write(pipes.commands, 2 * stock_dialect.command(1, b"0/1", b"s", b"a@b"))
    assert stock_dialect.StockReports().receive(pipes.close()[1:]) == [(1, server.IN_USE), (1, b"Ka@b")]


def test_native_orders(queue):
    pipes = Pipes(queue, Native(), limit=1000)
    os.write(
        pipes.commands,
        native_dialect.deliver(9999, b"0/1", b"s", [(9999, b"a@b")])
        + native_dialect.deliver(7, b"/", b"s", [(7, b"a@b")]),
    )
    frames = native_dialect.Unpacker().receive(pipes.close())
    assert frames[0] == (native_dialect.HELLO, 1000, b"")
    assert [(number, native_dialect.split_result(body)) for _, number, body in frames[1:]] == [
        (9999, (9999, b"Ka@b", 0, 0)), (7, (7, server.NONNUMERICS, 0, 0)),
    ]  # fmt: skip


def test_nonsense_ends_the_orders(queue):
    pipes = Pipes(queue, Native())
    os.write(pipes.commands, native_dialect.pack(native_dialect.OPEN, 1, b"x\0"))
    pipes.close()
    assert pipes.spawner.malformed


def test_texts_are_whole_lines():
    texts = [
        value
        for name, value in vars(server).items()
        if isinstance(value, bytes) and re.match("[A-Z_]+$", name) and name != "REPORT_CUT"
    ]
    assert len(texts) == 11 and all(re.fullmatch(rb"[ZD][^\n]+ \(#[45]\.\d\.\d\)\n", text) for text in texts)
