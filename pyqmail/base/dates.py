"""Dates as mail writes them."""

import time

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")


def header_date(unix_seconds: int) -> bytes:
    """Return `3 Jan 1996 01:05:34 -0000`: UTC, the day not padded, no weekday.  RFC 5322 section 3.3"""
    t = time.gmtime(unix_seconds)
    return b"%d %b %d %02d:%02d:%02d -0000" % (t[2], _MONTHS[t[1] - 1], t[0], t[3], t[4], t[5])


def mbox_date(unix_seconds: int) -> bytes:
    """Return `Mon Jan 05 04:03:02 2026`: UTC, as the From_ line of an mbox carries it."""
    t = time.gmtime(unix_seconds)
    return b"%b %b %02d %02d:%02d:%02d %d" % (_DAYS[t[6]], _MONTHS[t[1] - 1], t[2], t[3], t[4], t[5], t[0])
