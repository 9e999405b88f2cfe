"""Status lines: how many deliveries run on each channel.

One follows each start and end of a delivery.  One is also needed when the numbers changed in silence, since sessions
connect and end without a line of their own: a second after the last line, if the numbers then differ.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class ChannelLoad(Protocol):
        """How many of `limit` deliveries are `busy`: connecting or delivering."""

        limit: int

        @property
        def busy(self) -> int: ...

    class LineLog(Protocol):
        def add_line(self, line: bytes) -> None: ...


QUIET_SECONDS = 1.0


class QuietChange:
    """When the log needs a status line though nothing started or ended.  Pure: the time is given."""

    def __init__(self) -> None:
        self._numbers: tuple[int, int] | None = None
        self._when = 0.0

    def shown(self, numbers: tuple[int, int], now: float) -> None:
        """A line with these numbers was written."""
        self._numbers, self._when = numbers, now

    def due(self, numbers: tuple[int, int]) -> float | None:
        """Return when a line is needed if none comes before: a second after the last; None if that still holds."""
        return None if numbers == self._numbers else self._when + QUIET_SECONDS


class StatusLines:
    """Writes status lines.  local and remote are what the numbers are read from, whenever a line is written.

    After say_exiting() each line ends in `exitasap`.
    """

    def __init__(
        self, log: "LineLog", local: "ChannelLoad", remote: "ChannelLoad", clock: "Callable[[], float]"
    ) -> None:
        self._log, self._local, self._remote, self._clock = log, local, remote, clock
        self._quiet, self._end = QuietChange(), b""

    def say_exiting(self) -> None:
        self._end = b" exitasap"

    def write_line(self) -> None:
        local, remote = self._local, self._remote
        busy = local.busy, remote.busy
        values = busy[0], local.limit, busy[1], remote.limit, self._end
        self._log.add_line(b"status: local %d/%d remote %d/%d%b" % values)
        self._quiet.shown(busy, self._clock())

    def write_if_due(self) -> float | None:
        """Write a line if one is due in silence; otherwise return when one will be, None if the last still holds."""
        when = self._quiet.due((self._local.busy, self._remote.busy))
        if when is None or when > self._clock():
            return when
        self.write_line()
        return None
