"""The options of a spawner that say which dialect it speaks: call.dialect is NARROW, WIDE, or None for our own."""

from pyqmail.base.options import Flag
from pyqmail.protocol.wires.stock_dialect import NARROW, WIDE

_WIDE_MEANING = "delivery numbers of two bytes, as with the big-concurrency patch"

DIALECT_OPTIONS = (
    Flag(None, "dialect", _WIDE_MEANING, WIDE, "wide", default=NARROW),
    Flag(None, "dialect", "our own dialect, as pysend --native speaks it", None, long="native"),
)
