"""What is known of a service, from its status and its details: for JSON, and in words."""

import time

from pyqmail.supervise.details import KILLED, Details
from pyqmail.supervise.status import WANT_DOWN, WANT_UP, Status

_OBVIOUS = (None, "up", "paused", "down")  # states that svstat's words show already


def status_json(status: Status, details: Details, has_down_file: bool, now_unix_seconds: int) -> dict:
    """Return what a status and its details mean, for JSON; what is unknown is left out."""
    code, number = details.ended or (None, None)
    known = {
        "up": status.pid != 0,
        "pid": status.pid,
        "seconds": status.age_seconds(now_unix_seconds),
        "paused": status.pid != 0 and status.paused,
        "wish": {WANT_UP: "up", WANT_DOWN: "down"}.get(status.wish, "once"),
        "has_down_file": has_down_file,
        "state": details.state,
        "ready_seconds": None if details.ready is None else max(0, now_unix_seconds - details.ready),
        "wait_seconds": details.wait,
        "starts": details.starts,
        "exit_code": None if code == KILLED else code,
        "signal": number or None,
    }
    return {name: value for name, value in known.items() if value is not None}


def describe_details(
    details: Details, status: Status, has_notification: bool, now_unix_seconds: int | None = None
) -> str:
    """Return what follows svstat's words in the long form: `; ready 11 seconds, started 3 times`; empty if nothing."""
    now = int(time.time()) if now_unix_seconds is None else now_unix_seconds
    code, number = details.ended or (None, 0)
    notes = [
        (details.state not in _OBVIOUS, details.state),
        (details.ready is not None, f"ready {max(0, now - (details.ready or 0))} seconds"),
        (details.ready is None and has_notification and status.pid, "not ready"),
        (details.wait is not None, f"{details.wait} seconds between starts"),
        (details.starts is not None, _started(details.starts)),
        (number, f"last killed by signal {number}"),
        (details.ended and not number, f"last exit code {code}" if code != KILLED else "last end unknown"),
    ]
    words = ", ".join(text for holds, text in notes if holds)
    return f"; {words}" if words else ""


def _started(number):
    return {0: "not started yet", 1: "started once"}.get(number, f"started {number} times")
