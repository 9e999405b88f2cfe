"""Deliveries by another program than ours: as the stock dialects order them, and as sessions of the native dialect.

A program with qmail-remote's interface finds hosts by itself and connects for each recipient anew.  So a session that
it stands behind is ready at once, and takes one message for one recipient; then it is over.
"""

import os

from pyqmail.mail.remote.external_agent import run_agent
from pyqmail.mail.spawners.server import OrderRefused, check_path, check_recipient
from pyqmail.protocol.smtp.report import CRASHED
from pyqmail.protocol.wires import native_dialect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.orders import Opening

MAX_MESSAGES = MAX_RECIPIENTS = 1  # of a session


class AgentDeliveries:
    """Runs an agent for every delivery of a Spawner; `report` is set to the Spawner's."""

    def __init__(self, loop, program: bytes, environ) -> None:
        self._loop, self._program, self._environ = loop, program, environ
        self.report: Callable[[int, bytes], object] | None = None  # the spawner's

    def deliver(self, order) -> None:
        self._loop.start(self._deliver(order))

    async def _deliver(self, order):
        try:
            text = await run_agent(
                self._loop, self._program, self._environ, order.sender, order.recipient, order.message
            )
        finally:
            os.close(order.message)
        self.report(order.number, text)


class AgentSession:
    """A session that an agent stands behind.  world: smtp_session.py, SessionWorld; program and environ: what is run.

    An order for more than one recipient has one delivery after the other.
    """

    __slots__ = ("number", "_world", "_program", "_environ", "_task")

    def __init__(self, number: int, world, program: bytes, environ) -> None:
        self.number, self._world, self._program, self._environ = number, world, program, environ
        self._task = None

    def start(self, opening: "Opening") -> None:
        """Say that mail may come."""
        how = MAX_MESSAGES, MAX_RECIPIENTS
        self._world.put(native_dialect.ready(self.number, opening.host, opening.address, *how))

    def add_address(self, opening: "Opening") -> None:
        """It has crossed READY."""

    def add_order(self, order: tuple) -> None:
        """Have the agent deliver; return what comes after that."""
        if self._task is None:
            self._task = self._world.loop.start(self._live(*order))
            return
        for delivery, _ in order[2]:
            self._world.put(native_dialect.unsent(self.number, delivery))

    def close(self) -> None:
        """End, once what runs has ended."""
        if self._task is None:
            self._end()

    end = close

    def _end(self):
        self._world.put(native_dialect.closed(self.number))
        self._world.forget(self)

    async def _live(self, path, sender, recipients):
        try:
            for delivery, recipient in recipients:
                report = await self._deliver(path, sender, recipient)
                self._world.put(native_dialect.result(self.number, delivery, report, 0, 0))
        finally:
            self._end()

    async def _deliver(self, path, sender, recipient):
        """Return what the agent reports of one delivery."""
        fd = None
        try:
            check_path(path)
            check_recipient(recipient)
            fd = self._world.messages.open(path)
            return await run_agent(self._world.loop, self._program, self._environ, sender, recipient, fd)
        except OrderRefused as reason:
            return reason.report
        except Exception as failure:
            self._world.loop.on_error(failure)  # our own bug; the agent may have run
            return CRASHED
        finally:
            if fd is not None:
                os.close(fd)
