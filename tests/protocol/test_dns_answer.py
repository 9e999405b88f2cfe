"""Answers of name servers, byte for byte, beside what dnspython reads in them; and what strangers could write instead.

The clock of the processor is looked at once, with a bound twenty times what it should be: such an answer used to cost
twelve seconds.
"""

import random
import struct

import dns.message
import dns.rrset
import pytest

from pyqmail.protocol import dns_answer
from pyqmail.protocol.dns_answer import MAX_RECORDS, MalformedAnswer, TooManyRecords
from tests.costs import lines_run

A, CNAME, SOA, PTR, MX, TXT, AAAA = 1, 5, 6, 12, 15, 16, 28
ALIKE = b"\xc0\x0c"  # a pointer to the name asked about
LONG = b"\1a" * 126  # the labels of a name of 255 bytes, with two more bytes


def name(text):
    return b"".join(bytes((len(label),)) + label for label in text.split(b".") if label) + b"\0"


def question(kind, text=b"d.test"):
    return b"\1\2\1\0\0\1\0\0\0\0\0\0" + name(text) + struct.pack(">HH", kind, 1)


def record(kind, data, owner=ALIKE, ttl=300, place=1):
    return owner + struct.pack(">HHIH", kind, place, ttl, len(data)) + data


def message(kind, records=(), authority=(), code=0, text=b"d.test"):
    asked = question(kind, text)
    counts = struct.pack(">HHHH", 1, len(records), len(authority), 0)
    return asked[:2] + bytes((0x81, 0x80 | code)) + counts + asked[12:] + b"".join([*records, *authority])


def read(data, kind):
    return dns_answer.read(question(dns_answer.TYPES[kind]), data, kind)


START = len(question(MX))  # where the first record stands

ANSWERS = [
    # kind, records, values
    ("A", [record(A, b"\1\2\3\4"), record(A, b"\1\2\3\4"), record(A, b"\5\6\7\xff")], (b"1.2.3.4", b"5.6.7.255")),
    ("A", [record(CNAME, name(b"e.test")), record(A, b"\1\2\3\4", name(b"e.test"))], (b"1.2.3.4",)),
    ("A", [record(A, b"\1x", place=3), record(AAAA, bytes(16))], ()),
    ("AAAA", [record(AAAA, bytes(15) + b"\1")], (b"::1",)),
    ("MX", [record(MX, b"\0\x14" + name(b"B.test")), record(MX, b"\0\5" + b"\1a" + ALIKE)],
     ((20, b"b.test"), (5, b"a.d.test"))),
    ("MX", [record(MX, b"\0\0\0")], ((0, b"."),)),
    ("PTR", [record(PTR, name(b"Odd Name.test")), record(PTR, name(b"second"))], (b"odd\\040name.test",)),
    ("TXT", [record(TXT, b"\3abc\0\2de"), record(TXT, b"\1x")], (b"abcde", b"x")),
]  # fmt: skip


@pytest.mark.parametrize("kind, records, values", ANSWERS)
def test_values(kind, records, values):
    data = message(dns_answer.TYPES[kind], records)
    assert read(data, kind).values == values


SECONDS = [
    # records, authority, seconds
    ([record(A, b"1234", ttl=90), record(CNAME, ALIKE, ttl=70)], [], 70),
    ([record(A, b"1234", ttl=1 << 31)], [], 0),
    ([], [], None),
    ([record(CNAME, ALIKE, ttl=7)], [], None),
    ([], [record(SOA, b"\0\0" + bytes(16) + struct.pack(">I", 80), ttl=90)], 80),
    ([], [record(SOA, b"\0\0" + bytes(16) + struct.pack(">I", 80), ttl=60), record(2, b"\0", ttl=1)], 60),
    ([], [record(SOA, b"\0\0" + bytes(16) + struct.pack(">I", 80), place=3)], None),
]


@pytest.mark.parametrize("records, authority, seconds", SECONDS)
def test_how_long_an_answer_holds(records, authority, seconds):
    answer = read(message(A, records, authority, code=3), "A")
    assert (answer.code, answer.seconds) == (3, seconds)


MALFORMED = [
    # kind, records
    ("A", [record(A, b"123")]),
    ("AAAA", [record(AAAA, b"1234")]),
    ("TXT", [record(TXT, b"\5abc")]),
    ("TXT", [record(TXT, b"")]),
    ("MX", [record(MX, b"\0")]),
    ("MX", [record(MX, b"\0\1" + name(b"a") + b"x")]),
    ("MX", [record(MX, b"\0\1\1a"), record(MX, b"\0\1\0")]),
    ("MX", [record(MX, b"\0\1" + struct.pack(">H", 0xC000 | START + 14))]),  # a pointer to itself
    ("MX", [record(MX, b"\0\1" + struct.pack(">H", 0xC000 | START + 16)), record(A, b"1234")]),  # and one ahead
    ("MX", [record(MX, b"\0\1\1a" + struct.pack(">H", 0xC000 | START + 14))]),  # back to its own label
    ("MX", [record(MX, b"\0\1\x40abc\0")]),
    ("MX", [record(MX, b"\0\1\x80abc\0")]),
    ("MX", [record(MX, b"\0\1" + LONG + b"\2aa\0")]),
    ("MX", [record(MX, b"\0\1" + LONG + b"\0"), record(MX, b"\0\1\3aaa" + struct.pack(">H", 0xC000 | START + 14))]),
    ("A", [record(A, b"1234", owner=b"\x40\0")]),
    ("A", [record(A, b"1234")[:-1]]),
]


@pytest.mark.parametrize("kind, records", MALFORMED)
def test_what_is_none_is_malformed(kind, records):
    with pytest.raises(MalformedAnswer):
        read(message(dns_answer.TYPES[kind], records), kind)


@pytest.mark.parametrize("kind, records", [row[:2] for row in ANSWERS])
def test_every_beginning_of_an_answer_is_malformed(kind, records):
    asked, data = question(dns_answer.TYPES[kind]), message(dns_answer.TYPES[kind], records)
    for size in range(len(data)):
        assert size >= len(asked) or not dns_answer.is_answer(asked, data[:size])
        if size >= len(asked):
            with pytest.raises(MalformedAnswer):
                dns_answer.read(asked, data[:size], kind)


def test_nothing_but_malformed_comes_of_random_bytes():
    generator = random.Random(6)
    whole = {kind: message(dns_answer.TYPES[kind], records) for kind, records, _ in ANSWERS}
    outcomes = set()
    for _ in range(20000):
        kind = generator.choice(list(whole))
        data = bytearray(whole[kind])
        for _ in range(generator.randrange(1, 6)):
            data[generator.randrange(START, len(data))] = generator.choice((0, 1, 12, 63, 64, 128, 192, 193, 255))
        try:
            read(bytes(data), kind)
            outcomes.add("read")
        except (MalformedAnswer, TooManyRecords) as problem:
            outcomes.add(type(problem))
    assert outcomes >= {"read", MalformedAnswer}


VALUES = {
    "A": lambda record: record.address.encode(),
    "AAAA": lambda record: record.address.encode(),
    "MX": lambda record: (record.preference, record.exchange.to_text(omit_final_dot=True).lower().encode() or b"."),
    "PTR": lambda record: record.target.to_text(omit_final_dot=True).lower().encode(),
    "TXT": lambda record: b"".join(record.strings),
}
SAMPLES = {
    "A": [f"10.0.{n}.1" for n in range(20)],
    "AAAA": [f"2001:db8::{n}" for n in range(20)],
    "MX": [f"{n % 3} h{n}.mail.Example.org." for n in range(20)] + ["0 ."],
    "PTR": ["a.b.example.org."],
    "TXT": ['"one" "two"', '"three"'],
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_same_is_read_as_dnspython_reads(kind):
    asked = dns.message.make_query("d.test.", kind)
    answer = dns.message.make_response(asked)
    answer.answer.append(dns.rrset.from_text("alias.d.test.", 300, "IN", "CNAME", "d.test."))
    answer.answer.append(dns.rrset.from_text("d.test.", 200, "IN", kind, *SAMPLES[kind]))
    data = answer.to_wire()
    wanted = {VALUES[kind](record) for record in dns.message.from_wire(data).answer[1]}
    found = dns_answer.read(asked.to_wire(), data, kind)
    assert (set(found.values), len(found.values), found.seconds) == (wanted, len(wanted), 200)


NO_ANSWERS = [
    # data
    b"",
    question(A),  # a question
    message(A)[:11],
    b"\1\3" + message(A)[2:],
    message(AAAA),
    message(A, text=b"e.test"),
    message(A)[:2] + b"\xa9" + message(A)[3:],  # another operation
    message(A)[:4] + b"\0\0" + message(A)[6:],  # no question, and no trouble either
]


@pytest.mark.parametrize("data", NO_ANSWERS)
def test_what_is_no_answer_to_the_question(data):
    assert not dns_answer.is_answer(question(A), data)


def test_an_answer_may_spell_the_question_otherwise_and_a_trouble_leave_it_out():
    assert dns_answer.is_answer(question(A), message(A, text=b"D.TEST"))
    refused = b"\1\2\x81\x85" + bytes(8)
    assert dns_answer.is_answer(question(A), refused) and read(refused, "A").code == 5


def full(kind, of, first=b""):
    """Return an answer as large as one can be: first, and records of(number, where it stands)."""
    records, size = [first] if first else [], START + len(first)
    while len(records) < MAX_RECORDS:
        piece = of(len(records), size)
        size += len(piece)
        if size > 65535:
            break
        records.append(piece)
    return message(kind, records)


def mx(number, host):
    return record(MX, struct.pack(">H", number) + host)


def to(place):
    return struct.pack(">H", 0xC000 | min(place, 0x3FFF))


ODD = b"".join(bytes((length,)) + bytes((length,)) * length for length in (63, 63, 63, 58))
HEAVY = {
    "A": full(A, lambda n, at: record(A, struct.pack(">I", n))),
    "one owner of 255 bytes": full(A, lambda n, at: record(A, struct.pack(">I", n), owner=LONG + b"\0")),
    "CNAME": full(A, lambda n, at: record(CNAME, ALIKE)),
    "PTR": full(PTR, lambda n, at: record(PTR, to(START + 12)), record(PTR, LONG + b"\0")),
    "AAAA": full(AAAA, lambda n, at: record(AAAA, struct.pack(">QQ", n, n))),
    "TXT": full(TXT, lambda n, at: record(TXT, b"\1" + bytes((n & 255,)))),
    "empty TXT": full(TXT, lambda n, at: record(TXT, bytes(16000))),
    "MX to one": full(MX, lambda n, at: mx(n, to(START + 14)), mx(0, LONG + b"\0")),
    "MX of a label": full(MX, lambda n, at: mx(n, b"\2%02x" % (n & 255) + to(START + 18)), mx(0, LONG + b"\0")),
    "MX of odd bytes": full(MX, lambda n, at: mx(n, b"\2" + struct.pack(">H", n) + to(START + 14)), mx(0, ODD + b"\0")),
    "MX each its own": full(MX, lambda n, at: mx(n, b"\1" + bytes((n & 255,)) + LONG[2:] + b"\0")),
    "MX chained": full(MX, lambda n, at: mx(n, to(at - 2) if at < 0x3FFF else to(START + 14)), mx(0, b"\1a" + ALIKE)),
}  # fmt: skip


@pytest.mark.parametrize("what", HEAVY)
def test_the_largest_answers_cost_little_and_in_slices(what):
    data = HEAVY[what]
    kind = next(kind for kind, number in dns_answer.TYPES.items() if data[START - 4 : START - 2] == bytes((0, number)))
    reading = dns_answer.read_in_slices(question(dns_answer.TYPES[kind]), data, kind)
    slices, _ = lines_run(lambda: len(list(reading)), 20 * len(data))
    assert slices > 2 and len(data) > 57000


def test_more_records_than_the_maximum_are_not_looked_at():
    records = [b"\0" + record(A, b"", owner=b"")] * (MAX_RECORDS + 1)
    with pytest.raises(TooManyRecords):
        read(message(A, records), "A")
    with pytest.raises(TooManyRecords):
        read(message(A, [], records), "A")
