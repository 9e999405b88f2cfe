"""Content against its table, and against the original's state machine over many random inputs, in any pieces."""

import random

import pytest

from pyqmail.protocol.smtp.content import Content, StrayNewline

CONTENT = [
    # from the client                      content
    (b".\r\n", b""),
    (b"\r\n.\r\n", b"\n"),
    (b"a\r\n\r\nb\r\n.\r\n", b"a\n\nb\n"),
    (b"..a\r\n.\r\n", b".a\n"),
    (b".x\r\n..\r\n.\r\n", b"x\n.\n"),
    (b"a\rb\r\n.\r\n", b"a\rb\n"),
    (b"a\r\r\n.\r\n", b"a\r\n"),
    (b".\rx\r\n.\r\n", b".\rx\n"),
    (b".\r\r\n.\r\n", b".\r\n"),
    (b"a\r\n.\r.\r\n.\r\n", b"a\n.\r.\n"),
    (b"a\r.\r\n.\r\n", b"a\r.\n"),
    (b"a.\r\n.\r\n", b"a.\n"),
    (b"\0\xff\x80\r\n.\r\n", b"\0\xff\x80\n"),
    (b"\r\r\r\n.\r\n", b"\r\r\n"),
]

STRAY = [b"\n", b"a\n.\r\n", b"a\n.\n", b"a\r\n.\n", b".\n", b"a\r\n\n", b"a\r\n.\r\n"[:-1] + b"x\n", b"..\n"]

HOPS = [
    # raw header lines                                          hops
    (b"Received: x\r\nRECEIVED-spf: y\r\nreceivedz\r\n", 3),
    (b"Delivered-To: x\r\ndElIvErEd\r\nDeliver: no\r\nReceive: no\r\n", 2),
    (b" received: x\r\nX-Received: y\r\n", 0),
    (b".Received: x\r\nReceived\r\n", 1),
    (b"Received: a\r\n\r\nReceived: b\r\n", 1),
    (b"\r\nReceived: b\r\n", 0),
    (b"a\r\r\nReceived: b\r\n", 1),
    (b"a\r\n\r\r\nReceived: b\r\n", 1),
    (b"a\rReceived: b\r\n", 0),
    (b"receive\r\nreceivereceived\r\nreceived", 1),
]


def feed(sent, sizes, limit=0):
    """Return the engine, its text and True if it met a stray newline."""
    engine, got, at = Content(limit), [], 0
    for size in sizes:
        if engine.ended or at >= len(sent):
            break
        try:
            got.append(engine.receive(sent[at : at + size]))
        except StrayNewline:
            return engine, b"".join(got), True
        at += size
    engine.rest += sent[at:] if engine.ended else b""
    return engine, b"".join(got), False


def same(size):
    while True:
        yield size


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 4096])
@pytest.mark.parametrize("sent, content", CONTENT)
def test_content_is_the_same_in_any_pieces(sent, content, size):
    engine, got, stray = feed(sent + b"QUIT\r\n.\r\n", same(size))
    assert (got, engine.ended, stray, engine.size) == (content, True, False, len(content))
    assert engine.rest == b"QUIT\r\n.\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 4096])
@pytest.mark.parametrize("sent", STRAY)
def test_a_newline_without_its_return_is_refused(sent, size):
    assert feed(sent, same(size))[2]


@pytest.mark.parametrize("size", [1, 2, 5, 8, 9, 10, 11, 4096])
@pytest.mark.parametrize("header, hops", HOPS)
def test_hops_are_counted_on_raw_header_lines(header, hops, size):
    assert feed(header + b"\r\n.\r\nReceived: x\r\n", same(size))[0].hops == hops


@pytest.mark.parametrize("count, is_looping", [(99, False), (100, True), (150, True)])
def test_a_hundred_hops_are_a_loop(count, is_looping):
    assert feed(b"received\r\n" * count + b".\r\n", same(77))[0].is_looping is is_looping


@pytest.mark.parametrize("size", [1, 4096])
@pytest.mark.parametrize("limit, is_too_big", [(0, False), (6, False), (5, True), (1, True)])
def test_the_limit_is_on_text_and_equality_passes(limit, is_too_big, size):
    engine, got, _ = feed(b"..ab\r\nc\r\n.\r\n", same(size), limit)
    assert (engine.is_too_big, engine.size, engine.ended) == (is_too_big, 6, True)
    assert got == b".ab\nc\n" or is_too_big


def machine(sent):
    """The original's machine, a byte at a time: (text, hops, bytes taken), or None after a stray newline."""
    text, state, hops = bytearray(), "line", 0
    header, line = True, bytearray()
    for at in range(len(sent)):
        char = sent[at : at + 1]
        if header:
            line += char
            if len(line) == 8 and line.lower() == b"received" or len(line) == 9 and line.lower() == b"delivered":
                hops += 1
            if line == b"\r\n":
                header = False
            if char == b"\n":
                line.clear()
        if char == b"\n":
            if state == "dot-return":
                return bytes(text), hops, at + 1
            if state != "return":
                return None
            text += b"\n"
            state = "line"
        elif char == b"\r":
            if state == "dot":
                state = "dot-return"
            else:
                text += {"dot-return": b".\r", "return": b"\r"}.get(state, b"")
                state = "return"
        elif char == b"." and state == "line":
            state = "dot"
        else:
            text += {"dot-return": b".\r", "return": b"\r"}.get(state, b"") + char
            state = "middle"
    return bytes(text), hops, None


def test_random_input_is_read_as_the_state_machine_reads_it():
    dice = random.Random(4)
    words = [b"\r\n"] * 6 + [b".", b".", b"..", b"\r", b"\r\n.", b"\r\n.\r"]
    words += [b"x", b"abc", b"received", b"Delivered", b"\0"]
    for turn in range(4000):
        pool = words + [b"\n"] * (turn % 3 == 0)
        sent = b"".join(dice.choices(pool, k=dice.randrange(1, 40)))
        wanted = machine(sent)
        engine, got, stray = feed(sent, [dice.choice((1, 2, 3, 5, 9, 30)) for _ in range(len(sent))])
        assert stray == (wanted is None), sent
        if wanted is None:
            continue
        text, hops, taken = wanted
        assert engine.ended == (taken is not None), sent
        if taken is not None:
            assert (got, engine.hops, engine.rest) == (text, hops, sent[taken:]), sent
