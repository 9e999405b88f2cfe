"""The status file of a supervised service: 18 bytes, and what they mean in words.

    offset  bytes  content
    0       12     binary TAI64N label: when the PID last changed, or the supervisor started
    12      4      PID of the service, little-endian; 0 is down
    16      1      1 if paused; always 0 while down
    17      1      the wish: `u` up, `d` down, NUL once (no wish)

Longer files (of other supervisors) start with the same 18 bytes.
"""

import time

from pyqmail.base.tai import EPOCH

STATUS_BYTES = 18
WANT_UP, WANT_DOWN, ONCE = b"u", b"d", b"\0"


def pack_status(label: bytes, pid: int, paused: bool, wish: bytes) -> bytes:
    """Return the 18 bytes.  label: binary, 12 bytes; wish: WANT_UP, WANT_DOWN or ONCE."""
    return label + pid.to_bytes(4, "little") + (b"\1" if paused and pid else b"\0") + wish


class Status:
    """What the first 18 bytes of a status file say.  Raises ValueError if there are fewer.

    pid 0 is down; wish is one byte, whatever stands there.
    """

    __slots__ = ("label", "count", "pid", "paused", "wish")

    def __init__(self, data: bytes) -> None:
        if len(data) < STATUS_BYTES:
            raise ValueError("bad format")
        self.label, self.count = data[:12], int.from_bytes(data[:8], "big")
        self.pid = int.from_bytes(data[12:16], "little")
        self.paused = data[16] != 0
        self.wish = data[17:18]

    def age_seconds(self, now_unix_seconds: int) -> int:
        """Return for how long the PID has been what it is; never negative.

        The original's is a double; the difference shows only in the absurd ages of a garbage file.
        """
        return int(float(max(0, EPOCH + now_unix_seconds - self.count)))


def describe(status: Status, has_down_file: bool, now_unix_seconds: int | None = None) -> str:
    """Return svstat's words: `up (pid 7) 12 seconds, normally down`.  now None: the clock's."""
    now = int(time.time()) if now_unix_seconds is None else now_unix_seconds
    up = status.pid != 0
    words = [f"up (pid {status.pid})" if up else "down", f"{status.age_seconds(now)} seconds"]
    notes = [
        (up and has_down_file, "normally down"),
        (not up and not has_down_file, "normally up"),
        (up and status.paused, "paused"),
        (not up and status.wish == WANT_UP, "want up"),
        (up and status.wish == WANT_DOWN, "want down"),
    ]
    return ", ".join([" ".join(words), *(text for holds, text in notes if holds)])
