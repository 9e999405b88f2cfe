"""The deliveries of one channel: passes that are due, recipients started, reports and what they mean, marks.

A Channel owns the heap of due messages, the scheduler's engine and the spawner.  What the reports of one turn of the
loop brought is settled together at its end: bounce texts on disk first, then the marks, then passes that have ended.

What is kept true, so that no mail is lost and as little as possible goes out twice:

- A message has at most one pass under way here (_passes), and only its end says when the next one is due.
- A recipient is marked as done only once that is so: delivered, or its bounce text written.  While the text cannot be
  written, neither the marks of that pass nor its end follow.
- A slice that could not be read, or marks that could not be written, for a reason that may pass are tried again after a
  pause; meanwhile the pass neither reads on nor ends.  After MAX_RETRIES what was not read stays undone, and what was
  not marked is delivered twice, which the log says.
- A file in which nothing is undone needs no marks: it goes.  A crash before that delivers again.
- A pass is_concluded once it has ended, or was abandoned because somebody else removed its message: from then on
  nothing is delivered for it, and no file written.  Its number may be another message's.
- A slot is a delivery's number for the spawner; it is free again only when its report has come.
"""

import heapq
import time

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_temporary
from pyqmail.base.printable import logsafe
from pyqmail.mail.destinations.engine import CLOSE, DELIVER, OPEN, REPORT
from pyqmail.mail.destinations.retry import TROUBLE_SECONDS, DueHeap
from pyqmail.mail.manager.passes import READ_AHEAD, Broken, Removed
from pyqmail.protocol.bounce_notice import TOO_OLD, paragraph
from pyqmail.protocol.verp import expand_verp

MAX_RECIPIENTS = 50000  # in memory for one channel, or four for each delivery at once if that is more
PASSES_A_TURN = 100
BOUNCE_SECONDS = 10  # until a bounce text that could not be written is tried again
SYNC_SECONDS = 5  # between the syncs of marks
MAX_RETRIES = 7  # of a read or a mark that failed for a reason that may pass: two minutes
_WORDS = {b"K": b"success", b"Z": b"deferral", b"D": b"failure"}


class Slots:
    """Delivery slots: the lowest free number first; others rely on small ones."""

    def __init__(self) -> None:
        self._free, self._next = [], 0
        self.used = {}  # slot -> Recipient

    def take(self, recipient) -> int:
        if self._free:
            slot = heapq.heappop(self._free)
        else:
            slot, self._next = self._next, self._next + 1
        self.used[slot] = recipient
        return slot

    def give_back(self, slot: int):
        """Return the recipient that had the slot; None if nobody has it."""
        recipient = self.used.pop(slot, None)
        if recipient is not None:
            heapq.heappush(self._free, slot)
        return recipient


class Retries:
    """The passes something failed for that may pass."""

    def __init__(self) -> None:
        self._backoffs = {}

    def pause(self, one, error: OSError) -> float | None:
        """Return after how many seconds to try again; None if that cannot help, or has not helped often enough."""
        backoff = self._backoffs.setdefault(one, Backoff(1.0, 60.0))
        if is_temporary(error) and backoff.tries < MAX_RETRIES:
            return backoff.next_seconds()
        self.end(one)
        return None

    def end(self, one) -> None:
        """It worked, or is given up."""
        self._backoffs.pop(one, None)


class Channel:
    """office is what all parts share (manager.py); resolve(domain, channel) is called for a domain to look up."""

    def __init__(self, office, name: str, engine, spawner, resolve=None) -> None:
        self._office, self.name, self.engine, self._spawner, self._resolve = office, name, engine, spawner, resolve
        self.limit = engine.total
        self.heap = DueHeap()
        self.running = 0  # deliveries started and not reported
        self._greeted = set()  # sessions that have greeted in this turn and are not yet given what was bound to them
        self.waiting = 0  # recipients in memory
        self.most = max(MAX_RECIPIENTS, 4 * self.limit)
        self.is_lost = False
        self._slots = Slots()
        self._passes = {}  # number -> the pass that is under way, of a message that has files
        self._touched = {}  # passes that something happened to in this turn; an ordered set
        self._unsynced, self._sync_timer = {}, None
        self._unread = set()  # passes whose next slice waits for a while, since it could not be read
        self._reads, self._marks = Retries(), Retries()
        self._opens = {}  # message -> Backoff, while its pass cannot be opened for a reason that may pass

    # what the spawner says

    def reported(self, slot: int, outcome) -> None:
        recipient = self._slots.give_back(slot)
        if recipient is None:
            self._office.log.put(b"warning: internal error: delivery report out of range")
            return
        self.running -= 1
        self.engine.result(recipient, outcome, self._office.clock())
        self._end(recipient, outcome)
        self._office.settle_soon()

    def unsent(self, slot: int) -> None:
        recipient = self._slots.give_back(slot)
        if recipient is None:
            self._office.log.put(b"warning: internal error: delivery report out of range")
            return
        self.running -= 1
        self.engine.unsent(recipient, self._office.clock())
        self._office.settle_soon()

    @property
    def busy(self) -> int:
        """How many of the limit connect or deliver: what status lines show."""
        return min(self.limit, self.engine.connecting + len(self._greeted) + self.running)

    def trying(self, session: int, host: bytes) -> None:
        self.engine.trying(session, host, self._office.clock())

    def ready(self, session: int, address: bytes) -> None:
        connecting = self.engine.connecting
        self.engine.ready(session, address, self._office.clock())
        if self.engine.connecting < connecting:  # else it was to close before it greeted
            self._greeted.add(session)
        self._office.settle_soon()

    def failed(self, session: int, outcome) -> None:
        self.engine.failed(session, outcome, self._office.clock())
        self._office.settle_soon()

    def closed(self, session: int) -> None:
        self.engine.closed(session, self._office.clock())
        self._office.settle_soon()

    def resolved(self, domain: bytes, candidates) -> None:
        self.engine.resolved(domain, candidates, self._office.clock())
        self._office.settle_soon()

    def unroutable(self, domain: bytes, report: bytes) -> None:
        self.engine.unroutable(domain, report, self._office.clock())
        self._office.settle_soon()

    def lose(self) -> None:
        """The spawner, or one process of it, has gone: its deliveries are not waited for, and will be made again."""
        self.is_lost = True
        self.engine.stop()

    # passes

    @property
    def has_room(self) -> bool:
        return self.waiting < self.most

    def admit(self, one, recipients) -> None:
        """Take the recipients of a pass that are now in memory."""
        self.waiting += len(recipients)
        self._touched[one] = None
        self.engine.arrived(one, recipients, self._office.clock())

    def open_passes(self, now: int) -> bool:
        """Begin passes that are due, as far as there is room; returns whether more could be begun at once."""
        if not self.limit:
            return False
        for _ in range(PASSES_A_TURN):
            if not self.has_room:
                return False
            number = self.heap.pop_due(now)
            if number is None:
                return False
            self._open_pass(number, now)
        return True

    def next_due(self) -> int | None:
        """Return when a pass becomes due that could then begin."""
        return self.heap.next_due() if self.limit and self.has_room else None

    def _open_pass(self, number, now):
        office = self._office
        if number in self._passes:
            return  # its end decides when the next one is
        try:
            one, recipients = office.files.open_pass(self.name, number, now, office.lifetime)
        except Removed as removed:
            self._opens.pop(number, None)
            office.log.put(removed.warning)
            office.completion.check_soon(number)  # of a message that was removed whole, nothing remains to be done
            return
        except Broken as broken:
            office.log.put(broken.warning)
            self.heap.push(now + self._pause_after(number, broken.error), number)
            return
        self._opens.pop(number, None)
        self._passes[number] = one
        self._warn_if_odd(one)
        self.admit(one, recipients)

    def forget(self, number: int) -> None:
        """The message of this number was removed by somebody else, and the number is another's now."""
        self.heap.discard(number)
        self._opens.pop(number, None)
        one = self._passes.pop(number, None)
        if one is not None:
            self.abandon(one)

    def abandon(self, one) -> None:
        """Do nothing more for a pass: it makes no delivery, and writes nothing into files that are another's now."""
        one.is_concluded = True
        self._unsynced.pop(one, None)
        self._unread.discard(one)
        self._reads.end(one)
        self._marks.end(one)

    def _pause_after(self, number, error):
        """Return after how many seconds a pass that could not be opened is opened again: what may pass, soon."""
        if error is None or not is_temporary(error):
            return TROUBLE_SECONDS
        return int(self._opens.setdefault(number, Backoff(1.0, TROUBLE_SECONDS)).next_seconds())

    def _read_on(self, one):
        try:
            recipients = self._office.files.read_on(one)
        except OSError as error:
            path = self._office.files.shown(self._office.files.path(self.name, one.number))
            self._office.log.put(b"warning: trouble reading %b; will try again later" % path)
            pause = self._reads.pause(one, error)
            if pause is None:
                one.give_up()
                self._touched[one] = None  # it may have nothing running that would end it
            else:
                self._unread.add(one)
                self._touch_after(pause, one)
            return
        self._reads.end(one)
        self._warn_if_odd(one)
        self.admit(one, recipients)

    def _warn_if_odd(self, one):
        if one.is_odd:
            path = self._office.files.shown(self._office.files.path(self.name, one.number))
            self._office.log.put(b"warning: unknown record type in %b!" % path)

    # the end of a turn

    def advance(self) -> None:
        """Let the engine go on, and do what it orders."""
        engine, now = self.engine, self._office.clock()
        engine.advance(now)
        while orders := engine.take_orders():
            for order in orders:
                kind = order[0]
                if kind == DELIVER:
                    self._deliver(order[1], order[2])
                elif kind == REPORT:
                    self._report(order[1], order[2])
                elif kind == OPEN:
                    self._spawner.open(*order[1:])
                elif kind == CLOSE:
                    self._spawner.end(order[1])
                else:
                    self._resolve(order[1], self)
            engine.advance(now)
        self._greeted.clear()
        for line in engine.log_lines(now):
            self._office.log.put(line)

    def _start(self, recipient):
        office = self._office
        self.running += 1
        if recipient.number is None:  # else it has come back from another session, and goes on under its number
            recipient.number = office.next_delivery()
            office.log.put(
                b"starting delivery %d: msg %d to %b %b"
                % (recipient.number, recipient.owner.number, self.name.encode(), logsafe(recipient.address))
            )
            office.log_status()

    def _deliver(self, session, recipients):
        self._greeted.discard(session)
        one = recipients[0].owner
        if one.is_concluded:
            self._drop(session, recipients)
            return
        pairs = []
        for recipient in recipients:
            recipient.session, recipient.slot = session, self._slots.take(recipient)
            self._start(recipient)
            pairs.append((recipient.slot, recipient.address))
        sender = expand_verp(one.sender, recipients[0].address) if one.is_alone else one.sender
        self._spawner.deliver(session, self._office.names.below(one.number).encode(), sender, pairs)

    def _drop(self, session, recipients):
        """Take recipients of an abandoned pass for delivered, without a word."""
        for recipient in recipients:
            recipient.session = session
            self.waiting -= 1
            self.engine.result(recipient, None, self._office.clock())

    def _report(self, recipients, outcome):
        for recipient in recipients:
            if recipient.owner.is_concluded and self._slots.used.get(recipient.slot) is not recipient:
                self.waiting -= 1
                continue
            if self._slots.used.get(recipient.slot) is recipient:
                self._slots.give_back(recipient.slot)  # its session ended without a word about it
            else:
                self._start(recipient)
            self.running -= 1
            self._end(recipient, outcome)

    def _end(self, recipient, outcome):
        """A delivery has ended: log its report, and remember what is to be written."""
        office, one = self._office, recipient.owner
        letter, text = outcome.letter, outcome.text
        if letter == b"Z" and one.is_dying:
            letter, text = b"D", text + TOO_OLD
        word = _WORDS.get(letter)
        if word is None:
            office.log.put(b"delivery %d: report mangled, will defer" % recipient.number)
        else:
            office.log.put(b"delivery %d: %b: %b" % (recipient.number, word, logsafe(text)))
        if letter == b"D":
            one.paragraphs.append(paragraph(office.rewriting.strip_prepend(recipient.address), text))
        if letter in (b"K", b"D"):
            one.marks.append(recipient.offset)
            one.undone -= 1
        one.running -= 1
        self.waiting -= 1
        self._touched[one] = None
        office.log_status()

    @property
    def is_touched(self) -> bool:
        """True while something waits to be settled."""
        return bool(self._touched)

    def write_back(self) -> None:
        """Keep on disk what the heap says, where an ALRM made it differ."""
        for due, number in self.heap.items():
            try:
                self._office.files.set_due(self.name, number, due)
            except OSError:
                path = self._office.files.shown(self._office.files.path(self.name, number))
                self._office.log.put(b"warning: unable to utime %b; message will be retried too soon" % path)

    def touch(self, one) -> None:
        """A young message has files now: have its pass settled at the end of this turn."""
        self._passes[one.number] = one
        self._touched[one] = None

    def settle(self) -> None:
        """Write what this turn brought: bounce texts, then marks, then what the end of a pass means."""
        if not self._touched:
            return
        touched, self._touched = self._touched, {}
        failed, clock = self._write_bounces(touched), time.monotonic()
        for one in touched:
            if one.has_ended:
                one.end(clock)
            if one.is_concluded or one.number in failed and one.paragraphs:
                continue
            if one.young is not None:
                one.young.touched(one)
            elif one.has_ended:
                if not one.undone or self._mark(one):
                    self._conclude(one)
            else:
                self._mark(one)
                if not one.at_end and one.running <= self._read_ahead and one not in self._unread:
                    self._read_on(one)

    @property
    def _read_ahead(self):
        """With how many recipients in memory a message is read on: all that can run, if there is room."""
        return max(READ_AHEAD, self.limit) if self.has_room else READ_AHEAD

    def _write_bounces(self, touched):
        texts = {one.number: b"".join(one.paragraphs) for one in touched if one.paragraphs and _is_to_be_written(one)}
        if not texts:
            return ()
        failed = self._office.files.append_bounces(texts)
        for one in touched:
            if one.number in texts and one.number not in failed and _is_to_be_written(one):
                one.paragraphs = []
        if failed:
            self._office.log.put(b"alert: unable to append to bounce message; HELP! sleeping...")
            again = [one for one in touched if one.number in failed and one.paragraphs]
            self._office.loop.after(BOUNCE_SECONDS, lambda: self._try_again(again))
        return failed

    def _try_again(self, passes):
        for one in passes:
            self._touched[one] = None
        self._office.settle_soon()

    def _mark(self, one):
        """Write the marks of a pass; returns False if that is to be tried again, and nothing may follow it yet."""
        if not one.marks:
            return True
        try:
            self._office.files.mark(one)
        except OSError as error:
            path = self._office.files.shown(self._office.files.path(self.name, one.number))
            pause = self._marks.pause(one, error)
            if pause is not None:
                self._office.log.put(b"warning: trouble marking %b; will try again later" % path)
                self._touch_after(pause, one)
                return False
            self._office.log.put(b"warning: trouble marking %b; message will be delivered twice!" % path)
        self._marks.end(one)
        one.marks = []
        self._unsynced[one] = None
        if self._sync_timer is None:
            self._sync_timer = self._office.loop.after(SYNC_SECONDS, self._sync)
        return True

    def _touch_after(self, seconds, one):
        """Have a pass settled again after a while."""

        def touch():
            self._unread.discard(one)
            self._touched[one] = None
            self._office.settle_soon()

        self._office.loop.after(seconds, touch)

    def _sync(self):
        """Put marks of passes that still run on disk, a few in each turn."""
        until = time.monotonic() + 0.01
        while self._unsynced and time.monotonic() < until:
            one = next(iter(self._unsynced))
            del self._unsynced[one]
            self._office.files.sync(one)
        self._sync_timer = self._office.loop.after(0, self._sync) if self._unsynced else None

    def _conclude(self, one):
        """A pass has ended: the file goes if nothing in it is left undone, else the message waits for its next pass."""
        self._passes.pop(one.number, None)
        one.is_concluded = True  # a try that was put off may still touch it
        self._unsynced.pop(one, None)
        self._marks.end(one)
        if one.undone:
            self.keep(one, one.retry)
        else:
            self._office.completion.channel_done(self, one)

    def keep(self, one, due: int) -> None:
        """The file of a pass that has ended stays, with its marks, until the next one."""
        self._mark(one)
        self._unsynced.pop(one, None)
        self.wait_until(one.number, due)

    def wait_until(self, number: int, due: int) -> None:
        """Put a message into the heap, its due time kept on disk."""
        self.heap.push(due, number)
        try:
            self._office.files.set_due(self.name, number, due)
        except OSError:
            path = self._office.files.shown(self._office.files.path(self.name, number))
            self._office.log.put(b"warning: unable to utime %b; message will be retried too soon" % path)


def _is_to_be_written(one):
    return one.young is None and not one.is_concluded
