"""poll(2) of one descriptor.  Apart from descriptors.py, which programs import that have nothing to poll."""

import select


def is_readable(fd, seconds: float = 0) -> bool:
    """Return whether fd, or a socket, has something to read or has ended; waits so long for it."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def has_hung_up(fd) -> bool:
    """Return whether the other end of a pipe or socket is closed; what lies unread in it is not touched."""
    poll = select.poll()
    poll.register(fd, 0)  # errors and hang-ups are always reported
    return bool(poll.poll(0))
