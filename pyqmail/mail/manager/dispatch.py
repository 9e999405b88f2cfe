"""The recipients of one channel that are in memory: what the engine orders is done, what a spawner reports is heard.

    Channel  --add_recipients-->  Dispatch  --arrived-->  engine (mail/destinations): who goes next, over which session
                                     |     <--orders---
                                     |     ---orders-->   spawner (mail/spawners), lookup (mail/routing)
    DirtyPasses  <-- ended recipients-    <--reports---

What is kept true:

- A recipient is in memory from add_recipients() on until its delivery has ended, and counted in `waiting`.  Its pass
  counts it as running as long.
- A slot is a delivery's number for the spawner.  It is free again only when its report has come: another delivery under
  the same number could otherwise be ended by the report of this one.  The lowest free slot goes first, since others
  rely on small ones.
- A delivery has one number in the log for as long as its recipient is in memory, even if a session gave it back.
- A pass that is concluded (channel.py) while recipients of it wait makes no delivery: they count as delivered, without
  a word.  What the spawner has already begun for it is reported and logged as any other.
- What a turn brought is acted on once, at its end: then a session that has greeted counts as busy until it is given
  what was bound to it, so that a status line shows no dip between the two.
"""

import heapq
import time

from pyqmail.mail.destinations.old.orders import CLOSE, DELIVER, OPEN, REPORT
from pyqmail.protocol.bounce_notice import TOO_OLD, paragraph
from pyqmail.protocol.verp import expand_verp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyqmail.mail.destinations.old.lanes import Recipient
    from pyqmail.mail.destinations.outcome import Outcome
    from pyqmail.mail.manager.parts import DeliveryLog, Engine, HostLookup, SpawnerClient
    from pyqmail.mail.manager.passes import DirtyPasses, Pass
    from pyqmail.mail.queue.files import QueueNames
    from pyqmail.mail.routing.rewrite import Rewriter

MAX_RECIPIENTS = 50000  # in memory for one channel, or four for each delivery at once if that is more


class Slots:
    """Delivery slots: the lowest free number first."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = 0
        self.used: dict[int, Recipient] = {}

    def assign(self, recipient: "Recipient") -> int:
        """Return the slot that the recipient has from now on."""
        if self._free:
            slot = heapq.heappop(self._free)
        else:
            slot, self._next = self._next, self._next + 1
        self.used[slot] = recipient
        return slot

    def release(self, slot: int) -> "Recipient | None":
        """Return the recipient that had the slot; None if nobody has it."""
        recipient = self.used.pop(slot, None)
        if recipient is not None:
            heapq.heappush(self._free, slot)
        return recipient


class Load:
    """How busy a channel is: what status lines show.

    running: deliveries that were started and not reported.  greeted: sessions that have greeted in this turn and are
    not yet given what was bound to them.
    """

    def __init__(self, engine: "Engine") -> None:
        self._engine, self.limit, self.running = engine, engine.total, 0
        self.greeted: set[int] = set()

    @property
    def busy(self) -> int:
        """How many of the limit connect or deliver."""
        return min(self.limit, self._engine.connecting + len(self.greeted) + self.running)


class Dispatch:
    """One channel's engine and spawner.  lookup is asked for what the engine wants resolved; None if it never does.

    load belongs to this channel and is shown by status lines.  dirty gets each pass that a delivery has ended of.
    """

    def __init__(
        self,
        name: str,
        engine: "Engine",
        load: Load,
        spawner: "SpawnerClient",
        lookup: "HostLookup | None",
        deliveries: "DeliveryLog",
        names: "QueueNames",
        rewriting: "Rewriter",
        dirty: "DirtyPasses",
        finish_turn_soon: "Callable[[], None]",
        clock: "Callable[[], float]" = time.monotonic,
    ) -> None:
        self._name, self._engine, self._load, self._spawner = name, engine, load, spawner
        self._lookup, self._deliveries, self._names, self._rewriting = lookup, deliveries, names, rewriting
        self._dirty, self._finish_turn_soon, self._clock = dirty, finish_turn_soon, clock
        self._slots = Slots()
        self._log_name = name.encode()
        self._max_waiting = max(MAX_RECIPIENTS, 4 * engine.total)
        self.waiting = 0  # recipients in memory
        self.is_lost = False

    # recipients

    @property
    def limit(self) -> int:
        """How many deliveries may run at once."""
        return self._load.limit

    @property
    def has_room(self) -> bool:
        """True while more recipients may come into memory."""
        return self.waiting < self._max_waiting

    @property
    def has_running(self) -> bool:
        """True while a report will come: of a delivery that runs, by a spawner that lives."""
        return self._load.running > 0 and not self.is_lost

    def add_recipients(self, pass_: "Pass", recipients: "list[Recipient]") -> None:
        """Deliver to recipients of a pass that are now in memory."""
        self.waiting += len(recipients)
        self._dirty.add(pass_)
        self._engine.arrived(pass_, recipients, self._clock())

    # what the spawner reports

    def reported(self, slot: int, outcome: "Outcome") -> None:
        """A delivery has ended."""
        recipient = self._slots.release(slot)
        if recipient is None:
            self._deliveries.log_unknown_slot()
            return
        self._load.running -= 1
        self._engine.result(recipient, outcome, self._clock())
        self._end_delivery(recipient, outcome)
        self._finish_turn_soon()

    def unsent(self, slot: int) -> None:
        """A delivery came back untouched, since its session ended before it."""
        recipient = self._slots.release(slot)
        if recipient is None:
            self._deliveries.log_unknown_slot()
            return
        self._load.running -= 1
        self._engine.unsent(recipient, self._clock())
        self._finish_turn_soon()

    def trying(self, session: int, host: bytes) -> None:
        """A session connects to this host now."""
        self._engine.trying(session, host, self._clock())

    def ready(self, session: int, address: bytes) -> None:
        """A session has greeted."""
        connecting = self._engine.connecting
        self._engine.ready(session, address, self._clock())
        if self._engine.connecting < connecting:  # otherwise it was to close before it greeted
            self._load.greeted.add(session)
        self._finish_turn_soon()

    def failed(self, session: int, outcome: "Outcome") -> None:
        """A session could not be opened."""
        self._engine.failed(session, outcome, self._clock())
        self._finish_turn_soon()

    def closed(self, session: int) -> None:
        """A session is gone."""
        self._engine.closed(session, self._clock())
        self._finish_turn_soon()

    def lose_spawner(self) -> None:
        """The spawner, or one process of it, has gone: its deliveries are not waited for, and will be made again."""
        self.is_lost = True
        self._engine.stop()

    def stop(self) -> None:
        """Start nothing more."""
        self._engine.stop()

    # what the lookup found

    def resolved(self, domain: bytes, candidates: "Sequence[tuple[bytes, bytes, int]]") -> None:
        """Mail for the domain goes to these, in this order."""
        self._engine.resolved(domain, candidates, self._clock())
        self._finish_turn_soon()

    def unroutable(self, domain: bytes, report: bytes) -> None:
        """There is nowhere to deliver to, for now or for good: report says which."""
        self._engine.unroutable(domain, report, self._clock())
        self._finish_turn_soon()

    # the end of a turn

    def next_time(self) -> float | None:
        """Return when obey_engine() must be called even if nothing happens, as the clock counts."""
        return self._engine.next_time()

    def obey_engine(self) -> None:
        """Let the engine go on, and do what it orders."""
        engine, now = self._engine, self._clock()
        engine.advance(now)
        while orders := engine.take_orders():
            for order in orders:
                self._obey(*order)
            engine.advance(now)
        self._load.greeted.clear()
        self._deliveries.log_lines(engine.log_lines(now))

    def _obey(self, kind, *order):
        if kind == DELIVER:
            self._deliver(*order)
        elif kind == REPORT:
            self._report(*order)
        elif kind == OPEN:
            self._spawner.open_session(*order)
        elif kind == CLOSE:
            self._spawner.close_session(*order)
        else:
            self._lookup.resolve(*order, self)

    def _deliver(self, session, recipients):
        self._load.greeted.discard(session)
        pass_ = recipients[0].owner
        if pass_.is_concluded:
            self._drop(session, recipients)
            return
        pairs = []
        for recipient in recipients:
            recipient.session, recipient.slot = session, self._slots.assign(recipient)
            self._start_delivery(recipient)
            pairs.append((recipient.slot, recipient.address))
        sender = expand_verp(pass_.sender, recipients[0].address) if pass_.is_alone else pass_.sender
        self._spawner.deliver(session, self._names.below(pass_.number).encode(), sender, pairs)

    def _drop(self, session, recipients):
        """Count recipients of a concluded pass as delivered, without a word."""
        for recipient in recipients:
            recipient.session = session
            self.waiting -= 1
            self._engine.result(recipient, None, self._clock())

    def _report(self, recipients, outcome):
        """End deliveries as the engine decided: it has nowhere to send them, or their session is gone."""
        for recipient in recipients:
            has_slot = self._slots.used.get(recipient.slot) is recipient
            if has_slot:
                self._slots.release(recipient.slot)  # its session ended without a word about it
            elif recipient.owner.is_concluded:
                self.waiting -= 1
                continue
            else:
                self._start_delivery(recipient)
            self._load.running -= 1
            self._end_delivery(recipient, outcome)

    # one delivery

    def _start_delivery(self, recipient):
        self._load.running += 1
        if recipient.number is None:  # otherwise a session gave it back, and it goes on under its number
            message = recipient.owner.number
            recipient.number = self._deliveries.log_start(message, self._log_name, recipient.address)

    def _end_delivery(self, recipient, outcome):
        """A delivery has ended: remember in its pass what is to be written."""
        pass_, letter, text = recipient.owner, outcome.letter, outcome.text
        if letter == b"Z" and pass_.is_dying:
            letter, text = b"D", text + TOO_OLD
        if letter == b"D":
            pass_.paragraphs.append(paragraph(self._rewriting.strip_prepend(recipient.address), text))
        if letter in (b"K", b"D"):
            pass_.marks.append(recipient.offset)
            pass_.undone -= 1
        pass_.running -= 1
        self.waiting -= 1
        self._dirty.add(pass_)
        self._deliveries.log_end(recipient.number, letter, text)
