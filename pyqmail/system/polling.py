"""One question about one descriptor, poll(2): apart from descriptors.py, which programs read that have nothing to poll."""

import select


def is_readable(fd, seconds: float = 0) -> bool:
    """Return whether fd, or a socket, has something to read or has ended; waits so long for it."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def has_hung_up(fd) -> bool:
    """Return whether the other end of a pipe or socket is closed; what lies unread in it is not touched."""
    poll = select.poll()
    poll.register(fd, 0)  # errors and hang-ups are told unasked
    return bool(poll.poll(0))
