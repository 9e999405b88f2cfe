"""The environment of a connection's program: its order, and the session's view of it."""

from pyqmail.base.environment import merged
from pyqmail.tcp.access.environment import SessionEnvironment

BASE = {b"A": b"1", b"TCPREMOTEINFO": b"stale", b"B": b"2", b"PROTO": b"old", b"C": b"3"}


def test_a_place_that_becomes_free_is_filled_by_the_last():
    environ = merged(BASE, [(b"PROTO", b"TCP"), (b"TCPREMOTEINFO", None), (b"X", b"y"), (b"A", b"9"), (b"NONE", None)])
    assert list(environ.items()) == [(b"X", b"y"), (b"PROTO", b"TCP"), (b"B", b"2"), (b"C", b"3"), (b"A", b"9")]
    assert BASE[b"PROTO"] == b"old"


def test_the_later_of_two_additions_wins_and_an_empty_name_is_left_out():
    assert merged({}, [(b"A", b"1"), (b"", b"x"), (b"A", b"2")]) == {b"A": b"2"}


def test_a_session_sees_its_own_over_what_all_share():
    environ = SessionEnvironment({b"A": b"1", b"B": b"2"}, [(b"B", b"own"), (b"C", b""), (b"D", None), (b"", b"x")])
    assert dict(environ) == {b"A": b"1", b"B": b"own", b"C": b""}
    assert {**environ} == dict(environ)
    assert (len(environ), b"D" in environ, environ.get(b"D")) == (3, False, None)
    assert (environ.get(b"C"), environ[b"A"]) == (b"", b"1")
    assert dict(zip(environ.keys(), environ.values(), strict=True)) == dict(environ)
