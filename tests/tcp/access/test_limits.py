"""Who is one too many: a table, and a load that is given."""

import pytest

from pyqmail.tcp.access.connection import TCP, Connection
from pyqmail.tcp.access.limits import Limits

CASES = [
    # settings                                rule                                    remark, reply; None: welcome
    ({},                                      {},                                     None),
    ({},                                      {b"RELAYCLIENT": b""},                  None),
    ({b"DIEMSG": b"no"},                      {},                                     None),
    ({b"MAXCONNIP": b"2"},                    {},                                     None),
    ({b"MAXCONNIP": b"1"},                    {},                                     (b" MAXCONNIP:1", b"")),
    ({b"MAXCONNIP": b"0"},                    {},                                     (b" MAXCONNIP:0", b"")),
    ({b"MAXCONNIP": b"none"},                 {},                                     (b" MAXCONNIP:0", b"")),
    ({b"MAXCONNIP": b"1"},                    {b"MAXCONNIP": b"2"},                   None),
    ({b"MAXCONNIP": b"2"},                    {b"MAXCONNIP": b"1"},                   (b" MAXCONNIP:1", b"")),
    ({b"MAXCONNC": b"3"},                     {},                                     None),
    ({b"MAXCONNC": b"2"},                     {},                                     (b" MAXCONNC:2", b"")),
    ({b"MAXCONNRATE": b"5"},                  {},                                     None),
    ({b"MAXCONNRATE": b"4"},                  {},                                     (b" MAXCONNRATE:4", b"")),
    ({b"MAXLOAD": b"150"},                    {},                                     None),
    ({b"MAXLOAD": b"149"},                    {},                                     (b" LOAD:150", b"")),
    ({b"MAXLOAD": b"0"},                      {},                                     None),
    ({b"MAXCONNIP": b"1", b"MAXCONNC": b"1"}, {b"MAXCONNRATE": b"1"},                 (b" MAXCONNIP:1", b"")),
    ({b"MAXCONNIP": b"1", b"MAXLOAD": b"1"},  {},                                     (b" LOAD:150", b"")),
    ({b"MAXCONNIP": b"9", b"MAXCONNC": b"1"}, {},                                     (b" MAXCONNC:1", b"")),
    ({b"MAXCONNIP": b"1", b"DIEMSG": b"421 no"}, {},                                  (b" MAXCONNIP:1", b"421 no\r\n")),
    ({b"MAXCONNIP": b"1", b"DIEMSG": b"421 no"}, {b"DIEMSG": b""},                    (b" MAXCONNIP:1", b"")),
    ({b"DIEMSG": b"421 no"}, {b"MAXCONNC": b"1", b"DIEMSG_MAXCONNC": b"net"},    (b" MAXCONNC:1", b"net\r\n")),
    ({b"DIEMSG": b"421 no"}, {b"MAXCONNC": b"1", b"DIEMSG_MAXCONNIP": b"ip"},    (b" MAXCONNC:1", b"421 no\r\n")),
    ({b"MAXLOAD": b"1", b"DIEMSG_MAXLOAD": b"busy"}, {},                              (b" LOAD:150", b"busy\r\n")),
    ({b"MAXCONNIP": b"1", b"DIEMSG": b"x" * 9999}, {},                   (b" MAXCONNIP:1", b"x" * 510 + b"\r\n")),
]  # fmt: skip


def told(limits, rule=()):
    client = Connection(TCP, b"192.0.2.1", b"4711", b"", b"25", counts=(2, 3, 5))
    excess = limits.excess(client, rule)
    return excess and (excess.remark, excess.reply)


@pytest.mark.parametrize("settings, rule, wanted", CASES)
def test_who_is_one_too_many(settings, rule, wanted):
    assert told(Limits(settings, load=lambda: 1.5), list(rule.items())) == wanted


def test_limits_change_and_a_rule_still_comes_first():
    limits = Limits({b"MAXCONNIP": b"1", b"DIEMSG": b"no"})
    limits.change({b"MAXCONNIP": b"2"})
    assert told(limits) is None
    assert told(limits, [(b"MAXCONNIP", b"0")]) == (b" MAXCONNIP:0", b"no\r\n")


EXEMPT = [
    # settings                                rule                                          is welcome
    ({b"MAXCONNIP": b"1", b"MAXCONNC": b"1", b"MAXCONNRATE": b"1"}, {b"RELAYCLIENT": b""},   True),
    ({b"MAXCONNIP": b"1"},                    {b"RELAYCLIENT": b"", b"MAXCONNIP": b"1"},    False),
    ({b"MAXCONNIP": b"1"},                    {b"OTHER": b""},                              False),
    ({b"MAXCONNIP": b"1"},                    {},                                           False),
    ({b"MAXLOAD": b"1"},                      {b"RELAYCLIENT": b""},                        False),
]  # fmt: skip


@pytest.mark.parametrize("settings, rule, is_welcome", EXEMPT)
def test_whose_rule_sets_the_variable_is_exempt_but_from_the_load_and_its_own(settings, rule, is_welcome):
    found = told(Limits(settings, load=lambda: 1.5, exempt=b"RELAYCLIENT"), rule.items())
    assert (found is None) == is_welcome
