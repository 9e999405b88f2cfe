"""Waiting in tests: the one until(), and what reads or turns until something holds.

A test waits for what it needs to see, never for a time.  SECONDS is only the time after which it gives up: so long that
no machine is too busy for it.
"""

import inspect
import os
import select
import time

SECONDS = 60
STEP_SECONDS = 0.01


def step(seconds):
    """Wait a moment: for what has no event of its own (a file, /proc, a socket that is not ours)."""
    select.select([], [], [], min(seconds, STEP_SECONDS))


def until(condition, what="", *, wait=step, seconds=SECONDS):
    """Ask condition() until what it gives is true, and return that; fail after `seconds` with what was waited for.

    what   said beside the condition's source: a text, or a function that returns it once it is needed
    wait   wait(seconds left) returns when it is worth asking again: at an event, where there is one
    """
    limit = time.monotonic() + seconds
    while not (found := condition()):
        left = limit - time.monotonic()
        assert left > 0, f"not within {seconds} seconds: {_source(condition)}{what() if callable(what) else what}"
        wait(left)
    return found


def read_until(fd, is_enough, text=b""):
    """Read from a descriptor until is_enough(all that was read after `text`); return text and all that was read.

    Fails if it ends before.
    """

    def read():
        nonlocal text
        while not is_enough(text) and select.select([fd], [], [], 0)[0]:
            piece = os.read(fd, 65536)
            assert piece, f"ended: {text[-2000:]!r}"
            text += piece
        return is_enough(text)

    until(read, lambda: repr(text[-2000:]), wait=lambda left: select.select([fd], [], [], left))
    return text


def turn_until(loop, condition, what=""):
    """Turn a loop until condition() is true; return what it gave."""
    return until(condition, what, wait=loop.turn)


def _source(condition):
    try:
        return inspect.getsource(condition).strip() + "\n"
    except (OSError, TypeError):
        return f"{condition!r}\n"
