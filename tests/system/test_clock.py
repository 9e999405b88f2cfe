"""The wall clock and its labels."""

from pyqmail.system import clock


def test_the_clock_has_whole_microseconds_and_500():
    first, second = clock.now(), clock.now()
    assert first <= second and first[1] % 1000 == 500
    assert clock.now_text_label()[:7] == b"@400000" and len(clock.now_label()) == 12
