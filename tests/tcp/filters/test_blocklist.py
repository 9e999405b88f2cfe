"""Who is refused, and how it hears so.  The lists are a real name server's, with a look-up of one short round."""

import itertools
import types

import pytest

from pyqmail.system import resolver
from pyqmail.tcp.filters.blocklist import ACCEPT, BOUNCE, REFUSE, UNDECIDED, Dialogue, Judgement

TXT, A, AAAA, CNAME = 16, 1, 28, 5
TROUBLE = "temporary RBL lookup error"


@pytest.fixture
def judgement(name_server):
    """judgement(ip, given) -> a Judgement that asks name_server."""
    environ, waits = name_server.environ(), (0.2,)
    lookups = types.SimpleNamespace(
        text_of=lambda name: resolver.text_of(name, environ, waits),
        addresses_of=lambda name, kinds: resolver.addresses_of(name, environ, waits, kinds),
        reversed_labels=resolver.reversed_labels,
        Soft=resolver.Soft,
    )
    return lambda ip=b"1.2.3.4", given=None: Judgement(lookups, ip, given)


def put_lists(server, labels):
    for name, kind, records in (
        (b"bad", TXT, [b"\4Bad!"]),
        (b"two", TXT, [b"\1a\1b", b"\1c"]),
        (b"void", TXT, [b"\0"]),
        (b"good", A, [b"\x7f\0\0\2"]),
        (b"other", AAAA, [bytes(16)]),
        (b"alias", TXT, [(CNAME, server.name(b"elsewhere")), (TXT, b"\4seen")]),
    ):
        server.zone[labels + b"." + name, kind] = records
    for trouble in ("servfail", "silent", "malformed"):
        server.zone[labels + b"." + trouble.encode()] = trouble
    server.zone[labels + b".loop", TXT] = [(CNAME, server.name(labels + b".loop"))]
    server.zone[labels + b".huge"] = "cut"
    server.zone[labels + b".huge", TXT] = [b"\xff" + b"x" * 255] * 200


# b: whom a list finds is bounced from here on; c: trouble refuses.  r, a: a list, an anti-list is asked
STEPS = [
    # RBLSMTPD     steps                            decision     message
    (None, [], UNDECIDED, None),
    (b"", ["r bad"], ACCEPT, None),
    (b"no\n\xff", ["a good"], REFUSE, b"451 no??"),
    (b"-go away", ["a good"], BOUNCE, b"553 go away"),
    (b"-", [], BOUNCE, b"553 "),
    (b"--x", [], BOUNCE, b"553 -x"),
    (None, ["r none", "r void", "r bad"], REFUSE, b"451 Bad!"),
    (None, ["b", "r bad"], BOUNCE, b"553 Bad!"),
    (None, ["r bad", "b"], REFUSE, b"451 Bad!"),
    (None, ["b", "B", "r bad"], REFUSE, b"451 Bad!"),
    (None, ["r bad", "r two"], REFUSE, b"451 Bad!"),
    (None, ["r two"], REFUSE, b"451 abc"),
    (None, ["r alias"], REFUSE, b"451 seen"),
    (None, ["r loop"], UNDECIDED, None),
    (None, ["r huge"], REFUSE, b"451 " + b"x" * 200),
    (None, ["a none", "a bad", "r bad"], REFUSE, b"451 Bad!"),
    (None, ["a good", "r bad"], ACCEPT, None),
    (None, ["r bad", "a good"], REFUSE, b"451 Bad!"),
    (None, ["a other", "r bad"], REFUSE, b"451 Bad!"),
    *[
        case
        for trouble in ("servfail", "silent", "malformed", "x" * 64, "x." * 130)
        for case in (
            (None, [f"r {trouble}"], UNDECIDED, None),
            (None, ["b", f"r {trouble}", "r bad"], BOUNCE, b"451 Bad!"),
            (None, ["c", f"r {trouble}"], REFUSE, b"451 " + TROUBLE.encode()),
            (None, ["bc", f"r {trouble}"], REFUSE, b"451 " + TROUBLE.encode()),
            (None, ["c", "C", f"r {trouble}"], UNDECIDED, None),
            (None, [f"a {trouble}", "r bad"], ACCEPT, None),
            (None, ["bc", f"a {trouble}", "r bad"], BOUNCE, b"451 Bad!"),
        )
    ],
]


@pytest.mark.parametrize("given, steps, decision, message", STEPS, ids=lambda value: str(value)[:40])
def test_decisions(name_server, judgement, given, steps, decision, message):
    put_lists(name_server, b"4.3.2.1")
    judged, bounces, fails_closed = judgement(given=given), False, False
    for step in steps:
        what, _, base = step.partition(" ")
        if what == "r":
            judged.ask_list(base.encode(), bounces, fails_closed)
        elif what == "a":
            judged.ask_exemptions(base.encode(), fails_closed)
        else:
            bounces = "b" in what or (bounces and "B" not in what)
            fails_closed = "c" in what or (fails_closed and "C" not in what)
    assert judged.decision == decision
    if message is not None:
        assert judged.message() == message
    assert judged.is_by_list is (given is None and message is not None)


NIBBLES = b"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"


@pytest.mark.parametrize(
    "ip, asked",
    [
        (b"1.2.3.4", b"4.3.2.1.base"),
        (b"2001:db8::1", NIBBLES + b".base"),
        (b"2001:DB8::1%eth0", NIBBLES + b".base"),
        (b"::ffff:1.2.3.4", b"4.3.2.1.base"),
        (b"", b"base"),
        (b"unknown", b"unknown.base"),
        (b"1.2..", b"2.1.base"),
        (b":not:an:address", b":not:an:address.base"),
    ],
)
def test_names_that_are_asked(name_server, judgement, ip, asked):
    judged = judgement(ip)
    judged.ask_list(b"base", False, False)
    judged.ask_exemptions(b"base", False)
    assert set(name_server.asked) == {(asked, TXT), (asked, A)}


def test_an_anti_list_of_ipv6_clients_may_answer_with_either_kind(name_server, judgement):
    put_lists(name_server, NIBBLES)
    for base in (b"good", b"other"):
        judged = judgement(b"2001:db8::1")
        judged.ask_exemptions(base, False)
        assert judged.decision == ACCEPT


SAID = [
    # the client says                           it hears
    (b"", b""),
    (b"HELO", b""),
    (b"helo x\r\nEhlo\nMAIL FROM:<>\r\nrset\r\nNoOp\r\nquit now\r\nhelo\r\n", b"oooooq"),
    (b"\n\r\n\r\r\n hello\r\nhelo\t\r\nquit\0\nrcpt\ndata\nquitx\nquit\r x\r\n", b"rrrrrrrrrr"),
    (b"rcpt to:<a@b>\r\nquit", b"r"),
    (b"helo" + b" " * 200 + b"\nhelo" + b"x" * 200 + b"\n" + b"y" * 200 + b" helo\nQUIT\r\n", b"orrq"),
]
HEARD = {b"o": b"250 rblsmtpd.local\r\n", b"q": b"221 rblsmtpd.local\r\n", b"r": b"451 no\r\n"}


@pytest.mark.parametrize("said, heard", SAID, ids=range(len(SAID)))
def test_dialogues_in_any_pieces(said, heard):
    wanted = [HEARD[heard[at : at + 1]] for at in range(len(heard))]
    sizes = [[size] * (len(said) // size + 1) for size in (1, 2, 3, 7, 63, 64, 65, 4096)]
    for pieces in [*sizes, *([cut, len(said)] for cut in range(min(len(said), 80)))]:
        dialogue, ends = Dialogue(b"451 no"), [0, *itertools.accumulate(pieces)]
        replies = [dialogue.receive(said[a:b]) for a, b in itertools.pairwise(ends)]
        assert [*itertools.chain(*replies)] == wanted
        assert dialogue.ended is (b"q" in heard)


def test_a_line_without_end_takes_no_memory():
    dialogue = Dialogue(b"451 no")
    for _ in range(100):
        assert dialogue.receive(b"x" * 65536) == []
    assert len(dialogue._begun) == 64
    assert dialogue.receive(b"\n") == [b"451 no\r\n"]
