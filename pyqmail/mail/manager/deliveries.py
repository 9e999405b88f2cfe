"""The deliveries of one channel that are under way: started, reported, logged; and what else the engine is told.

    Channel  --start-->  ChannelDeliveries  --orders-->  spawner (mail/spawners)
                             |        <--reports--
    engine (mail/destinations)  <-- every report, and every answer of the lookup (mail/routing)
    DirtyMessages               <-- each message that a delivery of has ended

What is kept true:

- A slot is a delivery's number for the spawner.  It is free again only when its report has come: another delivery under
  the same number could otherwise be ended by the report of this one.  The lowest free slot goes first, since others
  rely on small ones.
- The engine names a recipient by a handle until its delivery has ended.  So a handle is in one slot at most.
- A delivery has one number in the log, even if a session gave it back and another one takes it.
- A delivery that ends without having been tried has its two lines in the log all the same: who counts lines counts it.
- A message that somebody else removed may have deliveries under way: they are reported and logged as any other, the
  engine hears of them, and nothing comes of it on disk.
- What a turn brought is acted on once, at its end: then a session that has greeted counts as busy until it is given
  what was bound to it, so that a status line shows no dip between the two.
"""

import heapq
import time

from pyqmail.mail.destinations.outcome import LOOKUP, Outcome
from pyqmail.mail.manager_log.slow_waits import SlowLines
from pyqmail.protocol.bounce_notice import TOO_OLD, paragraph
from pyqmail.protocol.verp import expand_verp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyqmail.mail.destinations.engine import Engine
    from pyqmail.mail.destinations.orders import Limits
    from pyqmail.mail.manager.marks import DirtyMessages, OpenMessage
    from pyqmail.mail.manager.parts import DeliveryLines, SpawnerClient
    from pyqmail.mail.queue.files import QueueNames
    from pyqmail.mail.routing.exchangers import Hosts
    from pyqmail.mail.routing.rewrite import Rewriter


LOST_PROCESS = b"warning: lost a session process: what it had under way is delivered again"


class RunningDelivery:
    """One recipient under way.  handle: the engine's name for it; number: the log's; batch: of its session, or None."""

    __slots__ = ("handle", "offset", "address", "message", "number", "batch")

    def __init__(
        self, handle: int, offset: int, address: bytes, message: "OpenMessage", number: int, batch: int | None
    ) -> None:
        self.handle, self.offset, self.address, self.message, self.number = handle, offset, address, message, number
        self.batch = batch


class Slots:
    """RunningDelivery slots: the lowest free number first."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = 0
        self._used: dict[int, RunningDelivery] = {}
        self._by_handle: dict[int, int] = {}

    def assign(self, delivery: RunningDelivery) -> int:
        """Return the slot that the delivery has from now on."""
        if self._free:
            slot = heapq.heappop(self._free)
        else:
            slot, self._next = self._next, self._next + 1
        self._used[slot] = delivery
        self._by_handle[delivery.handle] = slot
        return slot

    def release(self, slot: int) -> RunningDelivery | None:
        """Return the delivery that had the slot; None if nobody has it."""
        delivery = self._used.pop(slot, None)
        if delivery is not None:
            heapq.heappush(self._free, slot)
            del self._by_handle[delivery.handle]
        return delivery

    def release_handle(self, handle: int) -> RunningDelivery | None:
        """Return the delivery of a handle; None if it is not under way."""
        return self.release(self._by_handle.get(handle, -1))


class Load:
    """How busy a channel is: what status lines show.

    running: deliveries that were started and not reported.  batches: how many deliveries of each batch are among them;
    it counts as one.  greeted: sessions that have greeted in this turn and are
    not yet given what was bound to them.
    """

    def __init__(self, engine: "Engine") -> None:
        self._engine, self.limit, self.running = engine, engine.total, 0
        self.greeted: set[int] = set()
        self.batches: dict[int, int] = {}
        self._beside = 0  # deliveries of batches beside the first of each

    @property
    def busy(self) -> int:
        """How many of the limit connect or deliver."""
        return min(self.limit, self._engine.connecting + len(self.greeted) + self.running - self._beside)

    def start(self, batch: int | None) -> None:
        """A delivery starts, of a batch or of none."""
        self.running += 1
        if batch is not None:
            count = self.batches[batch] = self.batches.get(batch, 0) + 1
            self._beside += count > 1

    def end(self, batch: int | None) -> None:
        """A delivery is over."""
        self.running -= 1
        if batch is not None:
            count = self.batches[batch] = self.batches[batch] - 1
            self._beside -= count > 0
            if not count:
                del self.batches[batch]


class ChannelDeliveries:
    """One channel's deliveries, and whom its spawner and the lookup report to.

    load belongs to this channel and is shown by status lines.
    """

    def __init__(
        self,
        name: str,
        engine: "Engine",
        load: Load,
        spawner: "SpawnerClient",
        lines: "DeliveryLines",
        names: "QueueNames",
        rewriting: "Rewriter",
        dirty: "DirtyMessages",
        finish_turn_soon: "Callable[[], None]",
        clock: "Callable[[], float]" = time.monotonic,
    ) -> None:
        self._engine, self._load, self._spawner, self._lines = engine, load, spawner, lines
        self._names, self._rewriting, self._dirty = names, rewriting, dirty
        self._finish_turn_soon, self._clock = finish_turn_soon, clock
        self.return_orders: Callable[[int], None] = lambda session: None  # what is not obeyed yet comes back first
        self._slots, self._log_name = Slots(), name.encode()
        self.is_lost = self._has_news = False
        self.slow = SlowLines()

    @property
    def has_running(self) -> bool:
        """True while a report will come: of a delivery that runs, by a spawner that lives."""
        return self._load.running > 0 and not self.is_lost

    def take_news(self) -> bool:
        """Return whether the engine has been told of anything since the last time that it may learn from."""
        has_news, self._has_news = self._has_news, False
        return has_news

    # what the spawner reports

    def reported(self, slot: int, outcome: Outcome, carried: int = 0, accepted: int = 0) -> None:
        """A delivery has ended."""
        delivery = self._slots.release(slot)
        if delivery is None:
            self._lines.log_unknown_slot()
            return
        now = self._clock()
        letter = self._engine.result(delivery.handle, outcome, carried=carried, accepted=accepted, now=now)
        self._end(delivery, outcome, letter)
        self._note_news()

    def unsent(self, slot: int) -> None:
        """A delivery came back untouched, since its session ended before it."""
        delivery = self._slots.release(slot)
        if delivery is None:
            self._lines.log_unknown_slot()
            return
        message = delivery.message
        message.returned[delivery.offset] = delivery.number
        message.running -= 1
        self._load.end(delivery.batch)
        self._engine.unsent(delivery.handle, self._clock())
        self._dirty.add_soon(message)

    def waiting(self, session: int) -> None:
        """A session's server has not answered yet."""
        self._engine.waiting(session, self._clock())
        self._finish_turn_soon()

    def ready(self, session: int, host: bytes, address: bytes, limits: "Limits") -> None:
        """A session has greeted."""
        self.slow.end_connect(session)
        connecting = self._engine.connecting
        self._engine.ready(session, host, address, limits, self._clock())
        if self._engine.connecting < connecting:  # otherwise it was to close before it greeted
            self._load.greeted.add(session)
        self._note_news()

    def refused(self, session: int, outcome: Outcome) -> None:
        """A session's server answered, and not with a greeting."""
        self._engine.refused(session, outcome, self._clock())
        self._note_news()

    def failed(self, session: int, outcome: Outcome) -> None:
        """A session's server could not be reached."""
        self._engine.failed(session, outcome, self._clock())
        self._note_news()

    def closed(self, session: int, outcome: Outcome | None, carried: int = 0) -> None:
        """A session is gone."""
        self.slow.end_connect(session)
        self._load.greeted.discard(session)
        self.return_orders(session)
        self._engine.closed(session, outcome, self._clock(), carried=carried)
        self._note_news()

    def lacking(self) -> None:
        """Something here was lacking for a session."""
        self._engine.lacking(self._clock())

    def lost_process(self, sessions: "Sequence[int]", will_return: bool = False) -> None:
        """The process of these sessions has gone: what they had under way is delivered again."""
        if not will_return:
            self._lines.log_lines([LOST_PROCESS])
        self._load.greeted.difference_update(sessions)
        for session in sessions:
            self.slow.end_connect(session)
            self.return_orders(session)
        self._engine.lost(sessions, self._clock())
        self._finish_turn_soon()

    def lose_spawner(self) -> None:
        """The spawner has gone: its deliveries are not waited for, and will be made again."""
        self.is_lost = True
        self.stop()

    def stop(self) -> None:
        """Start nothing more."""
        self._engine.stop(self._clock())

    def note_turn_end(self, lines: list[bytes]) -> None:
        """All orders of this turn are obeyed; lines are what the engine wants the log to have."""
        self._load.greeted.clear()
        self._lines.log_lines(lines + self.slow.lines(self._clock()))

    def _note_news(self):
        self._has_news = True
        self._finish_turn_soon()

    # what the lookup found

    def resolved(self, domain: bytes, hosts: "Hosts") -> None:
        """Mail for the domain goes to these hosts."""
        self.slow.end_question(domain)
        ttl, more = hosts.seconds, {"port": hosts.port, "route": hosts.route, "is_ours": hosts.is_ours}
        self._engine.resolved(domain, hosts.hosts, ttl, hosts.is_stale, **more, now=self._clock())
        self._finish_turn_soon()

    def nowhere(self, domain: bytes, report: bytes) -> None:
        """There is no host to deliver to: report says why."""
        self.slow.end_question(domain)
        self._engine.nowhere(domain, Outcome(report, LOOKUP, host=domain), self._clock())
        self._finish_turn_soon()

    def trouble(self, domain: bytes, reason: bytes) -> None:
        """It could not be found out where mail for the domain goes."""
        self.slow.end_question(domain)
        self._engine.trouble(domain, reason, self._clock())
        self._finish_turn_soon()

    # the beginning and the end of deliveries

    def start(
        self, session: int | None, message: "OpenMessage", recipients: "Sequence[tuple[int, int, bytes]]"
    ) -> None:
        """Deliver a message to recipients: (handle, offset, address), at least one, over a session if there are any."""
        if session is not None:
            self._load.greeted.discard(session)
        pairs, batch = [], session if self._spawner.max_together > 1 else None
        for handle, offset, address in recipients:
            delivery = self._log_start(handle, offset, address, message, batch)
            pairs.append((self._slots.assign(delivery), address))
        sender = expand_verp(message.sender, pairs[0][1]) if message.is_alone else message.sender
        self._spawner.deliver(session, self._names.below(message.number).encode(), sender, pairs)

    def end_started(self, handle: int, outcome: Outcome) -> bool:
        """End a delivery that its session took with it; returns False if there is none under this handle."""
        delivery = self._slots.release_handle(handle)
        if delivery is None:
            return False
        self._end(delivery, outcome, outcome.letter)
        return True

    def end_untried(self, message: "OpenMessage", offset: int, address: bytes, outcome: Outcome) -> None:
        """A recipient's delivery ends as it begins."""
        self._end(self._log_start(0, offset, address, message), outcome, outcome.letter)

    def _log_start(self, handle, offset, address, message, batch=None):
        self._load.start(batch)
        message.running += 1
        number = message.returned.pop(offset, None)
        if number is None:  # otherwise a session gave it back, and it goes on under its number
            number = self._lines.log_start(message.number, self._log_name, address)
        return RunningDelivery(handle, offset, address, message, number, batch)

    def _end(self, delivery, outcome, letter):
        """A delivery has ended, and counts as letter: note what is to be written."""
        message, text = delivery.message, outcome.text
        self._load.end(delivery.batch)
        message.running -= 1
        message.has_result = True
        if letter == b"D":
            if outcome.letter != b"D":
                text += TOO_OLD
            message.paragraphs.append(paragraph(self._rewriting.strip_prepend(delivery.address), text))
        if letter in (b"K", b"D"):
            message.marks.append(delivery.offset)
        self._dirty.add(message)
        self._lines.log_end(delivery.number, letter if outcome.letter in (b"K", b"Z", b"D") else outcome.letter, text)
