"""Numbers that strangers write: whatever stands in their place, every wire and engine answers in its own words.

Beyond 4,300 digits int() raises a ValueError of its own, which is no MalformedFrame; and it takes blanks, signs,
underscores
and the digits of other scripts.  Not tested here: numbers that are bytes rather than digits, which cannot be wrong.
"""

import pytest

from pyqmail.base.controls import read_integer
from pyqmail.base.literals import literal_address
from pyqmail.base.numbers import ULONG, leading_number, whole_number
from pyqmail.mail.destinations.orders import Opening
from pyqmail.mail.routing.smtproutes import route_for
from pyqmail.protocol import ident, proxy_header
from pyqmail.protocol.smtp.address import address_literal
from pyqmail.protocol.smtp.extensions import exceeds
from pyqmail.protocol.wires import clean_wire, handover_wire, native_dialect, resolve_wire, status_wire
from pyqmail.protocol.wires.frames import HEAD_BYTES, MalformedFrame, number_in, split_strings, strings
from pyqmail.tcp.rules.source import rule_of

MANY = b"9" * 5000
NO_NUMBERS = [b"", b" 1", b"1 ", b"+1", b"-1", b"1_0", b"0x1", b"1.0", b"\xd9\xa1", b"\xc2\xb2", b"abc", MANY]
FRAMES = {
    native_dialect.split_deliver: native_dialect.deliver(9, b"1/24", b"", [(7, b"ann@h"), (8, b"bob@h")]),
    native_dialect.split_result: native_dialect.result(5, 7, b"Kdid it", 1, 2),
    native_dialect.split_place: native_dialect.open_session(
        9, Opening(b"a.test", b"192.0.2.1", 26, connect_seconds=1, greeting_seconds=2, reply_seconds=3)
    ),
    native_dialect.split_ready: native_dialect.ready(9, b"a.test", b"192.0.2.1", 10, 100),
    native_dialect.split_failure: native_dialect.failure(native_dialect.FAILED, 9, "here", 24, b"a", b"b", b"Z"),
    native_dialect.split_closed: native_dialect.closed(9, "dialogue", 421, b"Z", 10),
    native_dialect.split_unsent: native_dialect.unsent(9, 7),
    resolve_wire.split_exchangers: resolve_wire.pack(
        resolve_wire.FOUND, 7, resolve_wire.exchangers_body([(10, b"a.test", b"192.0.2.1"), (20, b"b.test", b"::1")])
    ),
    handover_wire.split_connection: handover_wire.connection(
        5, [b"TCP", b"192.0.2.1", b"4000", b"", b"25", b"", b"77 1000 100", b"2 3 1"]
    ),
    handover_wire.split_limits: handover_wire.limits({b"MAXCONNIP": b"7"}),
}


@pytest.mark.parametrize("nonsense", NO_NUMBERS[1:], ids=lambda text: repr(text[:8]))
@pytest.mark.parametrize("split", FRAMES, ids=lambda split: split.__name__)
def test_what_stands_for_a_number_is_malformed_and_nothing_else(split, nonsense):
    texts, tried = split_strings(FRAMES[split][HEAD_BYTES:]), 0
    for at, text in enumerate(texts):
        if text.replace(b" ", b"").isdigit() and text != b"25":  # our own port is only printed
            with pytest.raises(MalformedFrame):
                split(strings(*texts[:at], nonsense, *texts[at + 1 :]))
            tried += 1
    assert tried


@pytest.mark.parametrize("nonsense", NO_NUMBERS, ids=lambda text: repr(text[:8]))
def test_a_number_is_digits_and_nothing_else(nonsense):
    for read in (number_in, whole_number):
        with pytest.raises(ValueError) as raised:
            read(nonsense)
        assert "integer string conversion" not in str(raised.value) and len(str(raised.value)) < 200
    with pytest.raises(ValueError):
        whole_number(nonsense.decode())


WHOLE = [
    # text                 maximum  number, None if it is refused
    (b"0", 0, 0),
    (b"65535", 65535, 65535),
    (b"65536", 65535, None),
    (b"0" * 5000 + b"7", 65535, 7),
    (b"0" * 5000, 65535, 0),
    (b"%d" % (ULONG - 1), ULONG - 1, ULONG - 1),
    (b"%d" % ULONG, ULONG - 1, None),
]


@pytest.mark.parametrize("text, maximum, number", WHOLE, ids=lambda value: repr(value)[:12])
def test_a_number_has_a_maximum(text, maximum, number):
    if number is None:
        with pytest.raises(ValueError):
            whole_number(text, maximum)
    else:
        assert whole_number(text, maximum) == whole_number(text.decode(), maximum) == number


TOLERANT = [
    # reader, what it makes of too many digits
    (lambda: leading_number(MANY), int("9" * 64) % ULONG),
    (lambda: read_integer(MANY + b"\n"), int("9" * 64) % (1 << 32)),
    (lambda: literal_address(MANY + b".0.0.1"), None),
    (lambda: address_literal(b"a@[" + MANY + b".0.0.1]"), None),
    (lambda: clean_wire.parse(b"foop/" + MANY), None),
    (lambda: exceeds(MANY, 1), True),
    (lambda: exceeds(b"0" * 5000 + b"1", 1), False),
    (lambda: route_for(b"a.test", {b"": b"relay:" + MANY}), (b"relay", int("9" * 64) % 65536)),
    (lambda: rule_of(b"1.2.3." + MANY + b"-" + MANY + b":allow")[0], b"1.2.3." + MANY + b"-" + MANY),
    (lambda: list(rule_of(b"10.0.0.0/" + MANY + b":allow")[2]), [b"10.0.0.0/" + MANY]),
]


@pytest.mark.parametrize("number", range(len(TOLERANT)))
def test_what_takes_digits_in_any_number_does_so_beyond_4300(number):
    reader, meaning = TOLERANT[number]
    assert reader() == meaning


def test_a_status_with_too_many_digits_is_malformed():
    with pytest.raises(status_wire.MalformedStatus):
        status_wire.unpack(b'{"version": 1, "pid": ' + MANY + b"}")


@pytest.mark.parametrize("port", [MANY, b"65536", b"-1", b"+1", b"1_0", b"\xb2", b""])
def test_a_proxy_header_with_a_port_that_is_none_is_malformed(port):
    header = proxy_header.Header()
    with pytest.raises(proxy_header.MalformedProxyHeader):
        header.receive(b"PROXY TCP4 192.0.2.1 192.0.2.2 " + port + b" 25\r\n")


def test_an_ident_answer_has_no_number_that_counts():
    answer = ident.IdentAnswer()
    answer.receive(MANY + b" , " + MANY + b" : USERID : UNIX : joe\r\n")
    assert (answer.ended, answer.text) == (True, b"joe")
