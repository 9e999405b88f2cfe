"""Source and sink as engines, without a socket: what each says, and each with the other, in any pieces."""

import pytest

from pyqmail.load_tools import qmqp_source, smtp_source
from pyqmail.load_tools.acceptor import COUNTS, SinkServer
from pyqmail.load_tools.qmqp_sink import QmqpSinkSession
from pyqmail.load_tools.server_models import MODELS, Model
from pyqmail.load_tools.smtp_sink import SinkPlan, SinkSession
from pyqmail.load_tools.smtp_source import Ended, Plan
from pyqmail.load_tools.tally import Tally

PIECES = [1, 2, 3, 7, 1 << 20]


def make_server(plan=None, model=None):
    return SinkServer(plan or SinkPlan(b"sink"), model or Model(lambda: 0.0), Tally(*COUNTS), lambda: None)


def play(protocol, plan, engine, server, numbers, piece):
    """Let a source talk to a sink; return (how its messages ended, what it sent, what it heard, contents taken)."""
    taken, sent, heard, ends = [], b"", b"", []
    session = engine(server, "127.0.0.1", lambda one, content: taken.append(content))
    session.begin()
    talk, held, expected, numbers = protocol.converse(plan, numbers[0]), bytearray(), 1, list(numbers[1:])
    wanted = next(talk)
    while True:
        if isinstance(wanted, Ended):
            ends.append(wanted.refused)
            wanted = talk.send(None if wanted.is_over or not numbers else numbers.pop(0))
            continue
        data, expected = wanted
        sent += data
        replies, held = None, bytearray()
        for at in range(0, len(data), piece) or [0]:
            session.feed(data[at : at + piece])
        while replies is None:
            while session.late is not None:
                session.resume()
            assert session.out, "the source waits for a reply, and the sink for nothing"
            held += session.out[:piece]
            heard += session.out[:piece]
            del session.out[:piece]
            replies = protocol.find_replies(held, expected)
        try:
            wanted = talk.send(replies)
        except StopIteration:
            return ends, sent, heard, taken


def make_plan(**options):
    plan = Plan(b"s@x", b"r@y", b"me.example", 1)
    plan.date = b"1 Jan 2026 00:00:00 -0000"
    for name, value in options.items():
        setattr(plan, name, value)
    plan.begin_numbers(7, 42)
    return plan.made()


@pytest.mark.parametrize("piece", PIECES)
def test_a_session_of_two_messages(piece):
    plan = make_plan(subject=b"hello", length=10)
    keeping = SinkPlan(b"sink")
    keeping.keeps = True
    ends, sent, heard, taken = play(smtp_source, plan, SinkSession, make_server(keeping), [0, 1], piece)
    content = (
        b"From: <s@x>\r\nTo: <r@y>\r\nDate: 1 Jan 2026 00:00:00 -0000\r\nMessage-Id: <%d.42.load@me.example>\r\n"
        b"Subject: hello\r\n\r\nXXXXXXXX\r\n"
    )
    transaction = b"MAIL FROM:<s@x>\r\nRCPT TO:<r@y>\r\nDATA\r\n"
    assert ends == ["", ""]
    assert (
        sent
        == b"HELO me.example\r\n"
        + b"".join(transaction + content % number + b".\r\n" for number in (0, 1))
        + b"QUIT\r\n"
    )
    assert taken == [content % 0, content % 1]
    took = b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n250 2.0.0 Ok\r\n"
    assert heard == b"220 sink ESMTP\r\n250 sink\r\n" + 2 * took + b"221 2.0.0 Bye\r\n"


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize(
    "options, recipients",
    [
        ({"has_pipelining": True}, [b"r@y"]),
        ({"has_pipelining": True, "recipients": 3}, [b"0r@y", b"1r@y", b"2r@y"]),
        ({"recipients": 2, "has_numbers": True}, [b"7r@y", b"8r@y"]),
        ({"is_old": True, "length": 200}, [b"r@y"]),
        ({"content": b"X: y\r\n\r\n..\r\n"}, [b"r@y"]),
        ({"content": b""}, [b"r@y"]),
    ],
)
def test_each_kind_of_message_is_taken(options, recipients, piece):
    server = make_server()
    ends, sent, _, _ = play(smtp_source, make_plan(**options), SinkSession, server, [0], piece)
    assert ends == [""] and server.tally.counts["recipients"] == len(recipients)
    assert sent.count(b"RCPT TO") == len(recipients) and all(b"<%b>" % one in sent for one in recipients)
    assert (b"HELO" in sent or b"EHLO" in sent) is not bool(options.get("is_old"))


@pytest.mark.parametrize("piece", PIECES)
def test_lmtp_has_a_reply_for_each_recipient(piece):
    sink = SinkPlan(b"sink")
    sink.is_lmtp = True
    server = make_server(sink)
    ends, sent, heard, _ = play(smtp_source, make_plan(is_lmtp=True, recipients=3), SinkSession, server, [0], piece)
    assert ends == [""] and sent.startswith(b"LHLO ") and heard.count(b"250 2.0.0 Ok\r\n") == 3


@pytest.mark.parametrize("has_pipelining", [False, True])
@pytest.mark.parametrize("command, ends", [
    (b"CONNECT", ["CONNECT 450"]), (b"MAIL", ["MAIL 450"] * 2), (b"RCPT", ["RCPT 450"] * 2),
    (b"DATA", ["DATA 450"] * 2), (b".", [". 450"] * 2),
])  # fmt: skip
def test_what_is_refused_is_named_by_its_stage_and_the_next_is_tried(command, ends, has_pipelining):
    sink = SinkPlan(b"sink")
    sink.faults[command] = b"450 4.3.0 no"
    server = make_server(sink)
    found, _, _, _ = play(smtp_source, make_plan(has_pipelining=has_pipelining), SinkSession, server, [0, 1], 1 << 20)
    assert found == ends and server.tally.counts["messages"] == 0


def test_421_ends_a_conversation():
    sink = SinkPlan(b"sink")
    sink.faults[b"RCPT"] = b"421 4.3.0 no"
    session = SinkSession(make_server(sink), "127.0.0.1", lambda one, content: None)
    session.begin()
    session.feed(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nNOOP\r\n")
    assert session.is_over and session.out.endswith(b"421 4.3.0 no\r\n")
    talk = smtp_source.converse(make_plan(), 0)
    next(talk)
    for reply in (b"220 x", b"250 x", b"250 x"):
        talk.send([reply])
    assert talk.send([b"421 4.3.0 no"]).is_over


@pytest.mark.parametrize("held", [b"hello\r\n", b"25\r\n", b"\r\n", b"x" * 70_000])
def test_what_is_no_reply_is_an_error(held):
    with pytest.raises(ValueError):
        smtp_source.find_replies(bytearray(held), 1)


@pytest.mark.parametrize("held", [b"", b"2", b"250-x\r\n", b"250-x\r\n250 y", b"250 x"])
def test_a_reply_that_is_not_there_yet(held):
    assert smtp_source.find_replies(bytearray(held), 1) is None


@pytest.mark.parametrize("name", sorted(MODELS))
def test_each_model_greets_or_does_not(name):
    session = SinkSession(make_server(model=MODELS[name](lambda: 0.0)), "127.0.0.1", lambda one, content: None)
    session.begin()
    assert bool(session.out) is (session.late is None)
    assert session.is_over is (name == "refusing")


def test_late_replies_come_one_after_the_other():
    sink = SinkPlan(b"sink")
    sink.delays[b"MAIL"] = lambda: 2.5
    session = SinkSession(make_server(sink), "127.0.0.1", lambda one, content: None)
    session.begin()
    session.feed(b"HELO x\r\nMAIL FROM:<>\r\nNOOP\r\n")
    assert session.late == 2.5 and session.has_more and session.out.endswith(b"250 sink\r\n")
    session.resume()
    assert session.late is None and session.out.endswith(b"250 2.1.0 Ok\r\n250 2.0.0 Ok\r\n")


def test_a_line_without_an_end_is_bounded():
    session = SinkSession(make_server(), "127.0.0.1", lambda one, content: None)
    session.begin()
    session.feed(b"x" * 70_000)
    assert session.is_over


@pytest.mark.parametrize("piece", PIECES)
def test_qmqp(piece):
    server, plan = make_server(), make_plan(recipients=2, length=100)
    ends, sent, heard, _ = play_qmqp(plan, server, piece)
    assert (ends, heard, server.tally.counts["messages"]) == ([""], b"3:Kok,", 1)
    size, _, rest = sent.partition(b":")
    assert len(rest) == int(size) + 1 and rest.endswith(b"3:s@x,5:00r@y"[:6] + b"4:0r@y,4:1r@y,,")


def play_qmqp(plan, server, piece):
    talk = qmqp_source.converse(plan, 0)
    data, _ = next(talk)
    session = QmqpSinkSession(server, "127.0.0.1", lambda one, content: None)
    session.begin()
    for at in range(0, len(data), piece):
        session.feed(data[at : at + piece])
    heard = bytes(session.out)
    assert session.is_over
    for end in range(len(heard)):
        assert qmqp_source.find_replies(bytearray(heard[:end]), 1) is None
    ended = talk.send(qmqp_source.find_replies(bytearray(heard), 1))
    return [ended.refused], data, heard, None


@pytest.mark.parametrize("data", [b"x", b":,", b"3:abcd", b"12345678901:", b"9999999999:"])
def test_what_is_no_netstring_ends_a_session(data):
    session = QmqpSinkSession(make_server(), "127.0.0.1", lambda one, content: None)
    session.feed(data)
    assert session.is_over and session.server.tally.counts["messages"] == (data == b":,")


@pytest.mark.parametrize("held", [b"x", b"123456", b"0:,", b"1:Kx", b"99999999:"])
def test_what_is_no_netstring_is_no_reply(held):
    with pytest.raises(ValueError):
        qmqp_source.find_replies(bytearray(held), 1)
