"""A spawner that speaks the stock dialect or its wide form, seen from the queue manager."""

import os

from pyqmail.mail.destinations.outcome import Outcome
from pyqmail.protocol.wires import stock_dialect
from pyqmail.system.stream import Pipe


class StockSpawner:
    """deliver() orders one delivery; what comes back is given to the channel: reported(slot, outcome).

    lost() is called once the spawner has gone.  `limit` is known after greet(), and no slot may reach it.  stage is that
    of all its outcomes; empty if each report says it.
    """

    def __init__(self, loop, write_fd: int, read_fd: int, width: int, before_write=None, stage: str = "") -> None:
        self._fds, self._width, self._before, self._stage = (loop, write_fd, read_fd), width, before_write, stage
        self._reports, self._pipe, self.limit = stock_dialect.StockReports(width), None, None

    def greet(self) -> bool:
        """Wait for the spawner's first bytes; returns whether they came."""
        try:
            first = b""
            while len(first) < self._width and (piece := os.read(self._fds[2], self._width - len(first))):
                first += piece
        except OSError:
            return False
        self.limit = stock_dialect.limit_of(first)
        return len(first) == self._width

    def start(self, channel, lost) -> None:
        def received(data):
            for slot, report in self._reports.receive(data):
                channel.reported(slot, Outcome(report, self._stage))

        loop, write_fd, read_fd = self._fds
        self._pipe = Pipe(loop, write_fd, read_fd, received, lost, self._before)
        self._pipe.listen()

    def deliver(self, session, path: bytes, sender: bytes, pairs) -> None:
        """pairs is one (slot, recipient)."""
        for slot, recipient in pairs:
            self._pipe.put(stock_dialect.command(slot, path, sender, recipient, self._width))

    def close(self) -> None:
        """Let the spawner end after what it is doing."""
        self._pipe.close()
