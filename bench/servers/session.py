"""A staged server: what stands behind one line of a plan.  Its sessions are those of pysmtpsink(1)."""

import time

from pyqmail.load_tools.acceptor import COUNTS, SinkServer
from pyqmail.load_tools.server_models import counts_of
from pyqmail.load_tools.smtp_sink import SinkPlan
from pyqmail.load_tools.tally import Tally


class Server(SinkServer):
    """A model, and counts.

    counts()     now, most: sessions that are open, the maximum of that so far; sessions that there were, refused of
                 them were not greeted; messages, recipients that were taken; what the model counts
    arrivals     (monotonic seconds, sender, recipients) of each message that was taken
    """

    def __init__(self, name: str, model, log=lambda line: None) -> None:
        plan = SinkPlan(b"staged")
        plan.extensions = [b"PIPELINING"]
        super().__init__(plan, model, Tally(*COUNTS), lambda: None)
        self.name, self._log, self.refused = name, log, 0
        self.arrivals: list[tuple] = []

    def add_session(self) -> None:
        most = self.tally.counts["sessions_most"]
        super().add_session()
        if self.tally.counts["sessions_most"] > most:
            self._log(f"{self.name}: sessions {most + 1}")

    def add_message(self, session) -> None:
        super().add_message(session)
        self.arrivals.append((time.monotonic(), session.sender, session.recipients))

    def refuse(self, reply: bytes) -> None:
        super().refuse(reply)
        self.refused += 1
        self._log(f"{self.name}: refused: {reply.decode()}")

    def counts(self) -> dict[str, int]:
        counted = self.tally.counts
        shown = {name: counted[name] for name in ("sessions", "messages", "recipients")}
        shown |= {"now": self.now, "most": counted["sessions_most"], "refused": self.refused}
        return counts_of(self.model) | shown  # a model has options so named
