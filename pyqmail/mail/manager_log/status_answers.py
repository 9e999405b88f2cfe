"""What pysend's status socket answers (protocol/wires/send_status_wire.py), from the engines of both channels."""

import os
import time

from pyqmail.mail.destinations import explain
from pyqmail.protocol.wires import send_status_wire as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
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

    def start(self, log: "object") -> None:
        """Answer from now on.  log takes lines (mail/manager/parts.py)."""

        def warn(text: str) -> None:
            log.add_line(b"warning: " + os.fsencode(text))

        self._socket.start(self._loop, self.answer, warn, log.flush, wire.QUESTION_BYTES, reaps=True)

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
        if kind == wire.TOP:
            fields = explain.top(self._remote, last, now)
            fields["longest_turn_ms"] = round(self._meter.longest(now) * 1000, 3)
        elif kind == wire.SHAPE:
            fields = explain.shape((self._remote, self._local), word.decode(), last, now, date)
        else:
            fields = explain.why((self._remote, self._local), word.decode(), last, now, date)
        return wire.pack({**common, **fields})
