"""One channel: its engine is fed and obeyed, and what deliveries brought is written when the turn ends.

    Todo, QueueScan, ChannelReader     recipients: add_recipients(), open_unsettled()
              |
              v
           engine (mail/destinations): who is delivered to, when, over which session
              | orders                                                    ^ every report
              v                                                           |
    OPEN MORE CLOSE: the spawner   RESOLVE: the lookup   DELIVER: ChannelDeliveries, with addresses from disk or memory
    REPORT: two lines of the log and what comes of them  DUE: mtime of the channel file   DONE: the channel file goes

What is kept true, so that no mail is lost and as little as possible goes out twice:

- All recipients that are not done stand in the engine, and so does when they are due.  Here is only what is under way
  (marks.py), and for each message that an order could not be obeyed for, how long the next pause is.
- A delivery starts only for a record that is not done at that moment: another manager may have marked it.
- A record that cannot be read now is put off: TROUBLE_SECONDS, or less if what was lacking may be there soon.  It is
  never done: the engine hears put_off().
- Bounce texts come before marks, and both before the end of the message (marks.py).
- A message is over in this channel once the engine says DONE, and nothing of it is under way.  Then its file needs no
  marks: it goes.  A crash before that delivers again.
- A file that cannot be removed keeps its marks, and is removed later.
- Nothing is done for a message that was forgotten, since somebody else removed it: its number may be another's.
- One turn writes, obeys and removes for a limited time; the rest is for the next one.

What messages without files have done is theirs to keep: write_progress() returns them (materialize.py).
"""

import collections
import time

from pyqmail.base.addresses import domain_part
from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_temporary
from pyqmail.mail.destinations.orders import CLOSE, DELIVER, DONE, DUE, OPEN, REPORT, RESOLVE
from pyqmail.mail.destinations.retry import TROUBLE_SECONDS
from pyqmail.mail.manager.channel_files import Broken, Removed, address_at
from pyqmail.mail.manager.marks import OpenMessage
from pyqmail.mail.routing.rewrite import REMOTE
from pyqmail.protocol.verp import has_verp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyqmail.mail.destinations.engine import Engine
    from pyqmail.mail.destinations.outcome import Outcome
    from pyqmail.mail.manager.channel_files import QueueFiles
    from pyqmail.mail.manager.deliveries import ChannelDeliveries
    from pyqmail.mail.manager.marks import DirtyMessages, Marks
    from pyqmail.mail.manager.materialize import UnsettledMessage
    from pyqmail.mail.manager.parts import HostLookup, Log, MessageEnds, SpawnerClient

    Recipients = Sequence[tuple[int, int]]  # (handle, offset)

MESSAGES_TOGETHER = 200  # whose progress is written before there is another look at the time


class Channel:
    """name: local or remote.  lookup is asked for what the engine wants resolved; None if it never does.

    dirty: what deliveries and marks share with it.  ends: is told of messages that may be finished.
    """

    def __init__(
        self,
        name: str,
        files: "QueueFiles",
        engine: "Engine",
        deliveries: "ChannelDeliveries",
        marks: "Marks",
        dirty: "DirtyMessages",
        ends: "MessageEnds",
        log: "Log",
        spawner: "SpawnerClient",
        lookup: "HostLookup | None" = None,
        clock: "Callable[[], float]" = time.monotonic,
    ) -> None:
        self.name, self.engine, self.deliveries = name, engine, deliveries
        self._files, self._marks, self._dirty, self._ends, self._log = files, marks, dirty, ends, log
        self._spawner, self._lookup, self._clock = spawner, lookup, clock
        self._messages: dict[int, OpenMessage] = {}
        self._orders: collections.deque[tuple] = collections.deque()  # taken from the engine, not yet obeyed
        self._over: collections.deque[OpenMessage] = collections.deque()  # their files are to be removed
        self._kept: dict[OpenMessage, None] = {}  # their files could not be removed
        self._troubles: dict[int, Backoff] = {}  # message -> pauses, while its files cannot be read for what may pass
        deliveries.return_orders = self._return_orders
        self._own_orders = {DELIVER: self._deliver, REPORT: self._report, DUE: self._note_due, DONE: self.note_done}

    # recipients

    @property
    def has_room(self) -> bool:
        """True while more recipients may come into memory."""
        return self.engine.has_room

    def add_recipients(
        self,
        number: int,
        sender: bytes,
        size: int,
        birth: int,
        recipients: "Sequence[tuple[int, bytes]]",
        due: int = 0,
        *,
        is_bulk: bool = False,
        is_more_to_come: bool = False,
    ) -> None:
        """Deliver to recipients of a message, (offset, address), from due on; size in bytes, dates in Unix seconds."""
        if self.name == REMOTE:
            keys = [(offset, domain_part(address).lower()) for offset, address in recipients]
        else:
            keys = [(offset, address.lower()) for offset, address in recipients]
        self.engine.arrived(
            *(number, domain_part(sender).lower(), size, birth, keys),
            due=due,
            is_alone=has_verp(sender),
            is_bulk=is_bulk,
            is_more_to_come=is_more_to_come,
            now=self._clock(),
        )

    def open_unsettled(self, unsettled: "UnsettledMessage", recipients: "Sequence[tuple[int, bytes]]") -> OpenMessage:
        """Deliver to all recipients of a message that has no files; returns what its deliveries are noted in."""
        message = OpenMessage(unsettled.number, self.name)
        message.set_sender(unsettled.sender)
        message.unsettled = unsettled
        self._messages[unsettled.number] = message
        facts = unsettled.number, unsettled.sender, unsettled.size, unsettled.birth
        self.add_recipients(*facts, recipients, is_bulk=unsettled.is_bulk)
        return message

    def make_due(self) -> None:
        """ALRM: all that waits for its next attempt is due now."""
        self.engine.make_due(self._clock())
        kept, self._kept = self._kept, {}
        self._over.extend(kept)

    # messages that change hands

    def adopt(self, message: OpenMessage, due: int) -> None:
        """Go on with a message that began without files, now that there are some, with that mtime."""
        message.unsettled = None
        if message.due not in (None, due):
            self._write_due(message.number, message.due)
        message.due = None
        self._dirty.add(message)

    def forget_message(self, number: int) -> None:
        """Somebody else removed the message of this number, and the number is another's now."""
        self.engine.forget(number, self._clock())
        self._troubles.pop(number, None)
        message = self._messages.pop(number, None)
        if message is not None:
            message.is_gone = True
            self._kept.pop(message, None)
            self._marks.forget(message)

    # what the engine orders

    def next_time(self) -> float | None:
        """Return when obey_engine() must be called even if nothing happens, as the clock counts."""
        times = self.engine.next_time(), self.deliveries.slow.next_time()
        return min((when for when in times if when is not None), default=None)

    def obey_engine(self, until: float) -> bool:
        """Let the engine go on, and do what it orders until then; returns whether something is left."""
        orders, engine = self._orders, self.engine
        while True:
            if not orders:
                engine.advance(time.time(), self._clock())
                orders.extend(engine.take_orders())
                if not orders:
                    break
            while orders:
                kind, *order = orders.popleft()
                self._obey(kind, order)
                if self._clock() > until:
                    return True
        self.deliveries.note_turn_end(engine.log_lines(self._clock()))
        return False

    def _return_orders(self, session):
        """A session has gone: give back what was to be delivered over it, and is not obeyed yet."""
        orders = [order for order in self._orders if order[:2] == (DELIVER, session)]
        for order in orders:
            self._orders.remove(order)
            for handle, _ in order[3]:
                self.engine.unsent(handle, self._clock())

    def _obey(self, kind, order):
        own = self._own_orders.get(kind)
        if own is not None:
            own(*order)
        elif kind == RESOLVE:
            self._resolve(*order)
        elif kind == CLOSE:
            self.deliveries.slow.end_connect(*order)
            self._spawner.close_session(*order)
        else:
            session, opening = order
            self.deliveries.slow.start_connect(session, opening.host, self._clock())
            (self._spawner.open_session if kind == OPEN else self._spawner.more)(session, opening)

    def _resolve(self, domain, route=None):
        name = route[0] if route is not None else self._routed_name(domain)
        self.deliveries.slow.start_question(domain, name or domain, self._clock())
        self._lookup.resolve(domain, self.deliveries, route)

    def _routed_name(self, domain):
        """Return what is looked up in place of a domain by control/smtproutes; empty for the domain itself."""
        smtp_route = self._lookup.route_of(domain)
        return b"" if smtp_route is None else smtp_route[1]

    def _deliver(self, session: int | None, number: int, recipients: "Recipients") -> None:
        try:
            message, addresses = self._read(number, recipients)
        except Removed as removed:
            self._drop_removed(number, removed)
            self._drop(handle for handle, _ in recipients)
            return
        except Broken as broken:
            self._log.add_line(broken.warning)
            pause = self._pause_after(number, broken.error)
            for handle, _ in recipients:
                self.engine.put_off(handle, pause, self._clock())
            return
        found = [(*one, address) for one, address in zip(recipients, addresses, strict=True) if address is not None]
        if found:
            self.deliveries.start(session, message, found)
        if len(found) < len(recipients):
            self._drop(one[0] for one, address in zip(recipients, addresses, strict=True) if address is None)
            self._dirty.add(message)

    def _drop(self, handles):
        for handle in handles:
            self.engine.dropped(handle, self._clock())

    def _read(self, number, recipients):
        """Return the OpenMessage and the address of each recipient, None for one that is done.  Raises Broken."""
        message, offsets = self._messages.get(number), [offset for _, offset in recipients]
        if message is not None and message.unsettled is not None:
            record = message.unsettled.records[self.name]
            return message, [address_at(record, offset) for offset in offsets]
        addresses = self._files.read_addresses(self.name, number, offsets)
        if message is None or not message.is_known:
            sender, _ = self._files.read_sender(number)
            message = self._open(number)
            message.set_sender(sender)
        self._troubles.pop(number, None)
        return message, addresses

    def _open(self, number):
        """Return the OpenMessage of a number, a new one if there is none."""
        message = self._messages.get(number)
        if message is None:
            message = self._messages[number] = OpenMessage(number, self.name)
        return message

    def _drop_removed(self, number, removed):
        """The channel file is gone: of a message that was removed whole, nothing remains to be done."""
        self._log.add_line(removed.warning)
        self.forget_message(number)
        self._ends.check_soon(number)

    def _pause_after(self, number, error):
        """Return after how many seconds a message that could not be read is read again: what may pass, soon."""
        if error is None or not is_temporary(error):
            return TROUBLE_SECONDS
        return self._troubles.setdefault(number, Backoff(1.0, TROUBLE_SECONDS)).next_seconds()

    def _report(self, number: int, recipients: "Recipients", outcome: "Outcome") -> None:
        untried = [one for one in recipients if not self.deliveries.end_started(one[0], outcome)]
        if untried:
            self._report_untried(number, untried, outcome)

    def _report_untried(self, number, recipients, outcome):
        """Log the end of recipients that were not tried.  A failure is not over before their addresses are known."""
        try:
            message, addresses = self._read(number, recipients)
        except Removed as removed:
            self._drop_removed(number, removed)
            return
        except Broken as broken:
            self._log.add_line(broken.warning)
            if outcome.letter == b"D":
                self._report_later(number, recipients, outcome, self._pause_after(number, broken.error))
            return
        for (_, offset), address in zip(recipients, addresses, strict=True):
            if address is not None:
                self.deliveries.end_untried(message, offset, address, outcome)
        self._dirty.add_soon(message)

    def _report_later(self, number, recipients, outcome, pause):
        message = self._open(number)
        message.unreported += len(recipients)

        def report() -> None:
            if not message.is_gone:
                message.unreported -= len(recipients)
                self._dirty.add(message)
                self._report_untried(number, recipients, outcome)

        self._dirty.call_after(pause, report)

    def _note_due(self, number: int, due: int) -> None:
        message = self._messages.get(number)
        if message is not None and message.unsettled is not None:
            message.due = due
        else:
            self._write_due(number, due)

    def _write_due(self, number, due):
        try:
            self._files.set_due(self.name, number, int(due))
        except OSError:
            path = self._files.shown_path(self.name, number)
            self._log.add_line(b"warning: unable to utime %b; message will be retried too soon" % path)

    def note_done(self, number: int) -> None:
        """Nothing of a message is left in this channel, and no more is to come."""
        message = self._open(number)
        message.is_done = True
        self._dirty.add(message)

    # the end of a turn

    @property
    def is_dirty(self) -> bool:
        """True while there is progress to be written."""
        return bool(self._dirty or self._over)

    def write_progress(self, until: float) -> list[OpenMessage]:
        """Write what this turn brought: bounce texts, then marks; remove the files of messages that are over.

        Files that are left at that time are removed in the next turn.  Returns the messages among them that have none.
        """
        messages, unsettled = self._dirty.remove_some(MESSAGES_TOGETHER), []
        self._marks.write_bounce_texts(messages)
        for message in messages:
            if message.is_gone:
                continue
            if message.unsettled is not None:
                unsettled.append(message)
            elif message.is_over:
                self._over.append(message)
            else:
                self._marks.write(message)
                self._close_if_idle(message)
        while self._over and self._clock() <= until:
            self._remove_file(self._over.popleft())
        return unsettled

    def _close_if_idle(self, message):
        if message.is_idle and self._messages.get(message.number) is message:
            del self._messages[message.number]

    def _remove_file(self, message):
        """A message is over: its file goes.  One that stays has its marks, and is removed later."""
        number = message.number
        if self._messages.get(number) is not message or message in self._kept:
            return  # removed already, and the number may be another's
        if self._ends.remove_channel_file(self.name, number):
            self._messages.pop(number, None)
            self._marks.forget(message)
        elif self._marks.write(message):
            self._kept[message] = None
            self._dirty.call_after(TROUBLE_SECONDS, lambda: self._remove_kept(message))

    def _remove_kept(self, message):
        if message in self._kept:
            del self._kept[message]
            self._over.append(message)
