"""Limits of a client over its sessions: which hold for whom, what is asked, what is said without anybody who counts.

With the real server, which counts: tests/interop/test_client_limits.py.
"""

import pathlib

import pytest

from pyqmail.base.numbers import event_rate
from pyqmail.mail.smtpd.client_limits import AT_ONCE, RATES, ClientLimits, read_client_limits
from pyqmail.mail.smtpd.limits_over_time import LimitsOverTime
from pyqmail.mail.smtpd.session import ALL_CONTROLS
from pyqmail.system.controls import Controls
from pyqmail.system.driver import drive


class Meter:
    """Admits what is below its own number, and notes what it is asked and told."""

    def __init__(self, address=1, network=1, limited_before=(), admitted=1000):
        self.connections = {"clientconnections": address, "clientnetwork": network}
        self.limited_before, self.admitted, self.asked, self.refused = limited_before, admitted, [], []

    async def admit(self, name, limit, seconds):
        self.asked.append((name, limit, seconds))
        return len(self.asked) <= self.admitted

    def note_refusal(self, name):
        self.refused.append(name)


def limits(home, **contents):
    for name, text in contents.items():
        (pathlib.Path(home.control) / name).write_bytes(text)
    said = []
    return read_client_limits(Controls(home.control, ALL_CONTROLS, complain=said.append)), said


RATES_OF = [
    (b"0", (0, 60)),
    (b"20", (20, 60)),
    (b"20/60", (20, 60)),
    (b"600/1h", (600, 3600)),
    (b"7/30s", (7, 30)),
    (b"7/2m", (7, 120)),
    (b"5000/30d", (5000, 30 * 86400)),
]


@pytest.mark.parametrize("text, rate", RATES_OF)
def test_rates(home, text, rate):
    assert event_rate(text) == event_rate(text.decode()) == rate
    assert limits(home, clientmessages=text + b"\n")[0].clientmessages == rate


BAD_RATES = [
    b"",
    b"x",
    b"-1",
    b"2147483649",
    b"1/",
    b"1/0",
    b"1/x",
    b"1/h",
    b"1/1w",
    b"1/31d",
    b"1/1h2",
    b"1 / 1h",
    b"/1h",
]


@pytest.mark.parametrize("text", BAD_RATES)
def test_what_is_no_rate_is_said_and_the_default_counts(home, text):
    found, said = limits(home, clientmessages=text, clientrate=text)
    assert found.clientmessages == found.clientrate == (0, 60)
    shown = text.decode().replace(" ", "?")
    assert [line for line in said if "clientmessages" in line] == [
        f"control/clientmessages: {shown} is no rate, so the default counts"
    ]


def test_built_in_limits(home):
    found, said = limits(home)
    assert [getattr(found, name) for name in (*AT_ONCE, *RATES)] == [50, 250, (0, 60), (0, 60), (0, 60)]
    assert said == [] and found.is_said == frozenset()


AT_ONCE_ROWS = [
    # what stands in clientconnections, from the address, from the network, limited by pytcpserver; the limit above
    (None, 50, 250, (), ""),
    (None, 51, 51, (), "clientconnections"),
    (None, 1, 251, (), "clientnetwork"),
    (None, 51, 251, ("clientconnections",), "clientnetwork"),
    (None, 51, 251, AT_ONCE, ""),
    (b"60", 51, 251, AT_ONCE, ""),
    (b"60", 61, 61, AT_ONCE, "clientconnections"),
    (b"0", 1000, 250, (), ""),
    (b"nonsense", 51, 51, (), "clientconnections"),
]


@pytest.mark.parametrize("text, address, network, limited_before, excess", AT_ONCE_ROWS)
def test_connections_at_once(home, text, address, network, limited_before, excess):
    found, _ = limits(home, **({} if text is None else {"clientconnections": text}))
    meter = Meter(address, network, limited_before)
    assert drive(LimitsOverTime(found, meter).excess()) == excess
    assert meter.refused == [excess] * bool(excess) and meter.asked == []


def test_a_rule_says_otherwise_and_who_may_relay_is_not_limited(home):
    found, _ = limits(home, clientrate=b"1", clientmessages=b"2", clientrecipients=b"3", clientconnections=b"4")
    said = []
    rule = found.for_client({b"CLIENTRATE": b"7/1h", b"CLIENTNETWORK": b"9", b"CLIENTMESSAGES": b"x"}, said.append)
    assert (rule.clientrate, rule.clientnetwork, rule.clientmessages) == ((7, 3600), 9, (2, 60))
    assert rule.is_said == {"clientconnections", "clientnetwork"}
    assert said == ["CLIENTMESSAGES=x is no rate, so control/clientmessages counts"]
    relay = found.for_client({b"RELAYCLIENT": b""}, said.append)
    assert [getattr(relay, name) for name in (*AT_ONCE, *RATES)] == [0, 0, (0, 60), (0, 60), (0, 60)]
    assert relay.errorlimit == found.errorlimit == 20
    relay = found.for_client({b"RELAYCLIENT": b"", b"CLIENTRECIPIENTS": b"8"}, said.append)
    assert (relay.clientrecipients, relay.clientmessages) == ((8, 60), (0, 60)) and len(said) == 1


def test_what_is_not_limited_is_not_asked():
    meter = Meter()
    over_time = LimitsOverTime(ClientLimits(clientmessages=(5, 60)), meter)
    assert drive(over_time.excess()) == "" and drive(over_time.admits_recipient())
    assert meter.asked == []
    assert drive(over_time.admits_message()) and meter.asked == [("clientmessages", 5, 60)]


def test_each_event_is_asked_for():
    meter = Meter(admitted=2)
    over_time = LimitsOverTime(ClientLimits(clientrate=(1, 2), clientmessages=(3, 4), clientrecipients=(5, 6)), meter)
    assert drive(over_time.excess()) == "" and drive(over_time.admits_message())
    assert not drive(over_time.admits_recipient()) and not drive(over_time.admits_message())
    assert drive(over_time.excess()) == "clientrate"
    assert meter.asked == [("clientrate", 1, 2), ("clientmessages", 3, 4), ("clientrecipients", 5, 6),
                           ("clientmessages", 3, 4), ("clientrate", 1, 2)]  # fmt: skip


def test_where_nobody_counts_that_is_said_of_what_was_set(home):
    said = []
    found, _ = limits(home)
    LimitsOverTime(found, None).complain(said.append)
    assert said == []
    found, _ = limits(home, clientconnections=b"7", clientnetwork=b"0", clientmessages=b"8")
    over_time = LimitsOverTime(found, None)
    over_time.complain(said.append)
    assert said == [
        f"{name} does not hold: only a worker of pytcpserver counts clients"
        for name in ("clientconnections", "clientmessages")
    ]
    assert drive(over_time.excess()) == "" and drive(over_time.admits_message()) and drive(over_time.admits_recipient())
    LimitsOverTime(found, Meter()).complain(said.append)
    assert len(said) == 2
