"""What a piece of work costs, counted rather than timed."""

import sys


def lines_run(work, limit):
    """Return (what work() returns, how many lines of Python it ran); fail as soon as they are more than limit."""
    count = 0

    def count_line(*_):
        nonlocal count
        count += 1
        assert count <= limit, f"more than {limit} lines were run"
        return count_line

    before = sys.gettrace()
    sys.settrace(count_line)
    try:
        result = work()
    finally:
        sys.settrace(before)
    return result, count
