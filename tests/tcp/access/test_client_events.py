"""Where events of a client are counted, and what is shown of those that were refused."""

import pytest

from pyqmail.tcp.access.client_events import MAX_SHOWN, SHOWN_SECONDS, ClientEvents
from pyqmail.tcp.access.connection import TCP, TCP6, UNIX, Connection

SECOND = 10**9


class Clock:
    now = 5 * SECOND

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def events(clock):
    return ClientEvents(clock)


def client(ip, uid=None):
    if uid is not None:
        return Connection(UNIX, b"unix", b"", b"/x", b"", credentials=b"7 %d 9" % uid)
    return Connection(TCP6 if b":" in ip else TCP, ip, b"4711", b"", b"25")


SAME = [
    # one client, another, whether they are one; how it is shown
    (client(b"192.0.2.1"), client(b"192.0.2.1"), True, "192.0.2.1"),
    (client(b"192.0.2.1"), client(b"192.0.2.2"), False, "192.0.2.2"),
    (client(b"2001:db8::1"), client(b"2001:db8:0:0:ffff::9"), True, "2001:db8::/64"),
    (client(b"2001:db8::1"), client(b"2001:db8:0:1::1"), False, "2001:db8:0:1::/64"),
    (client(b"", 1000), client(b"", 1000), True, "uid 1000"),
    (client(b"", 1000), client(b"", 1001), False, "uid 1001"),
]


@pytest.mark.parametrize("one, other, are_one, shown", SAME)
def test_who_is_one_client(events, one, other, are_one, shown):
    assert events.admit(one, "clientrate", 1, 60)
    assert events.admit(other, "clientrate", 1, 60) != are_one
    assert not events.admit(other, "clientrate", 1, 60)
    assert events.limited() == [(shown, "clientrate", 1 + are_one, 0)]


def test_who_was_refused_is_shown_for_a_minute_the_last_first(events, clock):
    events.note_refusal(client(b"192.0.2.1"), "clientnetwork")
    clock.now += SECOND
    events.note_refusal(client(b"192.0.2.2"), "clientconnections")
    events.note_refusal(client(b"192.0.2.2"), "clientconnections")
    clock.now += (SHOWN_SECONDS - 1) * SECOND - 1
    assert [row[:3] for row in events.limited()] == [
        ("192.0.2.2", "clientconnections", 2),
        ("192.0.2.1", "clientnetwork", 1),
    ]
    clock.now += 1
    assert [row[0] for row in events.limited()] == ["192.0.2.2"]
    clock.now += SECOND
    assert events.limited() == []
    events.note_refusal(client(b"192.0.2.2"), "clientconnections")
    assert events.limited() == [("192.0.2.2", "clientconnections", 1, 0)]


def test_so_many_are_shown_and_no_more(events):
    for number in range(2 * MAX_SHOWN):
        events.note_refusal(client(b"10.0.%d.%d" % divmod(number, 256)), "clientrate")
    assert len(events.limited()) == MAX_SHOWN
