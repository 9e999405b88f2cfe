"""What pysend's status socket answers (protocol/wires/send_status_wire.py), from the engines of both channels."""

import os
import time

from pyqmail.mail.destinations import explain
from pyqmail.protocol.wires import send_status_wire as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyqmail.mail.destinations.engine import Engine
    from pyqmail.system.loop import Loop
    from pyqmail.system.status_socket import StatusSocket
    from pyqmail.system.turn_meter import TurnMeter


class StatusAnswers:
    """Answers on a socket for as long as the loop turns; each answer is made in a child."""

    def __init__(
        self, loop: "Loop", socket: "StatusSocket", local: "Engine", remote: "Engine", meter: "TurnMeter"
    ) -> None:
        self._loop, self._socket, self._local, self._remote, self._meter = loop, socket, local, remote, meter

    def start(self, add_line: "Callable[[bytes], None]", flush: "Callable[[], None]") -> None:
        """Answer from now on; what goes wrong is a line for the log, which is flushed before each fork."""

        def warn(text: str) -> None:
            add_line(b"warning: " + os.fsencode(text))

        self._socket.start(self._loop, self.answer, warn, flush, wire.QUESTION_BYTES, reaps=True)

    def close(self) -> None:
        self._socket.close()

    def answer(self, line: bytes) -> bytes:
        """Return the answer to a question as it came, in a child of the process that it is about."""
        now, date = time.monotonic(), time.time()
        common = {"pid": os.getppid(), "now": round(date, 3)}
        try:
            kind, word, last = wire.split_question(line)
        except wire.MalformedSendStatus as why:
            return wire.pack({**common, "error": str(why)})
        return wire.pack({**common, **self._describe(kind, word.decode(), last, now, date)})

    def _describe(self, kind: bytes, word: str, last: int | bytes, now: float, date: float) -> "dict[str, Any]":
        engines = self._remote, self._local
        if isinstance(last, bytes):
            return explain.why(engines, word, last, now, date)
        if kind == wire.SHAPE:
            return explain.shape(engines, word, last, now, date)
        return {**explain.top(self._remote, last, now), "longest_turn_ms": round(self._meter.longest(now) * 1000, 3)}
