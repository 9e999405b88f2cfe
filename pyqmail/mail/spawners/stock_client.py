"""A spawner that speaks the stock dialect or its wide form, seen from the queue manager."""

import os

from pyqmail.mail.destinations.outcome import Outcome
from pyqmail.protocol.wires import stock_dialect
from pyqmail.system.stream import Pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyqmail.mail.spawners.faces import DeliveryReports
    from pyqmail.system.loop import Loop


class StockSpawner:
    """`limit` is known after greet(), and no slot may reach it.

    stage is that of all its outcomes; empty if each report says it.
    """

    max_together = 1

    def __init__(
        self,
        loop: "Loop",
        write_fd: int,
        read_fd: int,
        width: int,
        before_write: "Callable[[], None] | None" = None,
        stage: str = "",
    ) -> None:
        self._loop, self._fds, self._width = loop, (write_fd, read_fd), width
        self._before, self._stage = before_write, stage
        self._reports, self.limit = stock_dialect.StockReports(width), 0
        self._pipe: Pipe | None = None

    def greet(self) -> bool:
        """Wait for the spawner's first bytes; returns whether they came."""
        try:
            first = b""
            while len(first) < self._width and (piece := os.read(self._fds[1], self._width - len(first))):
                first += piece
        except OSError:
            return False
        self.limit = stock_dialect.limit_of(first)
        return len(first) == self._width

    def listen(self, reports: "DeliveryReports", lost: "Callable[[], None]") -> None:
        """Give what comes back to reports; lost() is called once the spawner has gone."""

        def received(data: bytes) -> None:
            for slot, report in self._reports.receive(data):
                reports.reported(slot, Outcome(report, self._stage))

        self._pipe = Pipe(self._loop, *self._fds, received, lost, self._before)
        self._pipe.listen()

    def deliver(self, session: None, path: bytes, sender: bytes, pairs: "Sequence[tuple[int, bytes]]") -> None:
        """pairs is one (slot, recipient).  listen() has been called."""
        assert self._pipe is not None
        for slot, recipient in pairs:
            self._pipe.put(stock_dialect.command(slot, path, sender, recipient, self._width))

    def close(self) -> None:
        """Let the spawner end after what it is doing."""
        if self._pipe is not None:
            self._pipe.close()
