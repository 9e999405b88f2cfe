"""What a session in a worker may ask about its client: the listener counts, for all workers together.

A session that asks waits for the answer; no other one does.  A listener that does not answer, or has gone, limits
nobody: after PATIENCE_SECONDS the session goes on.
"""

from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.coroutines import TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.tcp.access.connection import Connection
    from pyqmail.tcp.serving.worker_stream import WorkerStream

PATIENCE_SECONDS = 5.0
_OURS = {b"MAXCONNIP": "clientconnections", b"MAXCONNC": "clientnetwork"}


class ClientMeter:
    """One session's.  connections: how many there were at its start, by the name of the limit on them, itself included.

    limited_before: the names of those that a limit of our own has been asked about already.
    """

    __slots__ = ("connections", "limited_before", "_stream", "_number")

    def __init__(self, stream: "WorkerStream", client: "Connection", limits: "set[bytes]") -> None:
        self._stream, self._number = stream, client.number
        address, network = client.counts[:2] if client.counts else (0, 0)
        is_ip6 = b":" in client.ip
        self.connections = {"clientconnections": network if is_ip6 else address, "clientnetwork": network}
        self.limited_before = {name for variable, name in _OURS.items() if variable in limits}

    async def admit(self, name: str, limit: int, period_seconds: int) -> bool:
        """Return whether one more event of the client is within limit of so many seconds; it counts if it is."""
        promise = self._stream.ask(self._number, name, limit, period_seconds)
        try:
            return bool(await promise.within(self._stream.loop, PATIENCE_SECONDS))
        except TimedOut:
            return True

    def note_refusal(self, name: str) -> None:
        """Tell the listener that the client was refused by a limit on connections, for pytcptop."""
        self._stream.send_frame(wire.above(self._number, name))
