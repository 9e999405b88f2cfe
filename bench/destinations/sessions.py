"""What a session process does with the engine's orders, and what it reports: OPEN, MORE, DELIVER, CLOSE of one session.

As mail/remote does it: the first greeting wins, a refusal or failure of one address ends nothing, a connection that was
used before and refuses the next mail at MAIL or DATA returns it untouched and closes.
"""

import errno
from collections import deque

from bench.destinations.servers import ERRORS, GREETS, MUTE, REFUSES, SILENT, Answer
from pyqmail.mail.destinations.orders import Limits
from pyqmail.mail.destinations.outcome import (
    CONNECT,
    DATA,
    DIALOGUE,
    GREETING,
    LOCAL,
    MESSAGE,
    RECIPIENTS,
    SENDER,
    Outcome,
)

_WORDS = {
    GREETING: b"Connected to %b but greeting failed.\n",
    SENDER: b"Connected to %b but sender was rejected.\n",
    RECIPIENTS: b"%b does not like recipient.\n",
    DATA: b"%b failed on DATA command.\n",
    MESSAGE: b"%b failed after I sent the message.\n",
}
_DIED = b"Connected to %b but connection died. (#4.4.2)\n"
_UNREACHED = b"Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"


def answered(stage, reply, host, address, letter=None) -> Outcome:
    """Return the outcome of a server's reply; it accepts if it begins with 2."""
    if reply[:1] == b"2":
        return Outcome(b"K%b accepted message.\nRemote host said: %b\n" % (address, reply), MESSAGE, 0, host, address)
    letter = letter or (b"D" if reply[:1] == b"5" else b"Z")
    words = _WORDS.get(stage, _DIED)
    report = letter + words % address + (b"Remote host said: " + reply + b"\n" if reply else b"")
    return Outcome(report, stage, int(reply[:3]) if reply[:3].isdigit() else 0, host, address)


def unreached(stage, code, host, address) -> Outcome:
    """Return the outcome of an address that could not be reached."""
    report = b"Z" + (_UNREACHED if stage == CONNECT else _DIED % address)
    return Outcome(report, stage, code, host, address)


class Try:
    """An address that is tried."""

    def __init__(self, opening, answer):
        self.opening, self.answer, self.is_over = opening, answer, False

    def drop(self):
        self.is_over = True
        if self.answer.connection:
            self.answer.connection.close()


class ModelSession:
    """One session.  world is asked for servers, the clock and the random numbers, and told what to report."""

    def __init__(self, world, number, opening):
        self.world, self.number, self.tries, self.connection = world, number, [], None
        self.host, self.address, self.source = b"", b"", opening.source
        self.orders, self.in_hand, self.is_closing, self.is_over = deque(), None, False, False
        self.was_used = False
        self.begin(opening)

    # connecting

    def begin(self, opening):
        """Try an address: OPEN, MORE."""
        world = self.world
        answer = world.connect(opening)
        attempt = Try(opening, answer)
        self.tries.append(attempt)
        if opening.hedge_seconds and world.is_hedged:
            world.clock.after(opening.hedge_seconds, self._still_waiting, attempt)
        if answer.kind == SILENT:
            seconds = opening.connect_seconds
        elif answer.kind == MUTE or answer.seconds > opening.greeting_seconds:
            seconds = opening.greeting_seconds
        else:
            seconds = answer.seconds
        world.clock.after(seconds, self._answered, attempt, seconds)

    def _still_waiting(self, attempt):
        if not attempt.is_over and not self.connection:
            self.world.report("waiting", self.number)

    def _answered(self, attempt, seconds):
        if attempt.is_over:
            return
        attempt.is_over = True
        answer, opening = attempt.answer, attempt.opening
        if answer.kind == REFUSES:
            outcome = answered(GREETING, answer.reply, opening.host, opening.address, b"Z")
            self.world.report("refused", self.number, outcome)
        elif answer.kind != GREETS or seconds < answer.seconds:
            attempt.drop()
            stage, code = ERRORS.get(answer.kind, ERRORS[MUTE])
            self.world.report("failed", self.number, unreached(stage, code, opening.host, opening.address))
        else:
            self._greeted(attempt)

    def _greeted(self, attempt):
        for other in self.tries:
            if not other.is_over:
                other.drop()
                lost = unreached(CONNECT, errno.ECANCELED, other.opening.host, other.opening.address)
                self.world.report("failed", self.number, lost)
        self.connection = attempt.answer.connection
        self.host, self.address = attempt.opening.host, attempt.opening.address
        limits = Limits(*self.connection.server.announced)
        self.world.report("ready", self.number, self.host, self.address, limits)

    # mail

    def deliver(self, number, recipients):
        """DELIVER: recipients are (handle, offset)."""
        self.orders.append((number, recipients))
        self._next()

    def close(self):
        """CLOSE: after what is in hand, or at once if it still connects."""
        self.is_closing = True
        if not self.connection:
            for attempt in self.tries:
                attempt.drop()
            self.world.clock.after(0, self._end, None)
        elif not self.in_hand and not self.orders:
            self.world.clock.after(self.world.quit_seconds, self._end, None)

    def _next(self):
        if self.in_hand or self.is_over or not self.orders:
            return
        number, recipients = self.orders.popleft()
        world, carried = self.world, self.connection.carried
        offsets = {(number, offset): handle for handle, offset in recipients}
        transaction = self.connection.transact(world.mail[number].sender, number, list(offsets), world.clock.now)
        self.in_hand = (offsets, transaction, carried)
        world.clock.after(transaction.seconds, self._transacted)

    def _transacted(self):
        if self.is_over:
            return
        world = self.world
        if not world.network.is_up:  # TCP waits until packets pass again
            world.clock.after(max(1.0, (world.network.back_at or 0) - world.clock.now + world.random.uniform(0, 10)),
                              self._transacted)  # fmt: skip
            return
        (offsets, transaction, carried), self.in_hand = self.in_hand, None
        refusals = [result for result in transaction.results if result[1] in (SENDER, DATA) and result[2][:1] != b"2"]
        was_used, self.was_used = self.was_used, True
        if transaction.is_untouched or (refusals and was_used):
            for handle in offsets.values():
                world.unsent(handle)
            stage, reply = refusals[0][1:] if refusals else (transaction.closing_stage, transaction.closing)
            self._end(answered(stage, reply, self.host, self.address, b"Z"))
            return
        for recipient, stage, reply in transaction.results:
            outcome = answered(stage, reply, self.host, self.address)
            world.result(offsets[recipient], outcome, carried, transaction.accepted)
        if transaction.closing is not None:
            self._end(answered(transaction.closing_stage, transaction.closing, self.host, self.address, b"Z"))
        elif self.orders:
            self._next()
        elif self.is_closing:
            world.clock.after(world.quit_seconds, self._end, None)

    def _end(self, outcome):
        if self.is_over:
            return
        self.is_over = True
        for _, recipients in self.orders:
            for handle, _ in recipients:
                self.world.unsent(handle)
        self.orders.clear()
        carried = self.connection.carried if self.connection else 0
        if self.connection:
            self.connection.close()
        self.world.closed(self.number, outcome, carried)

    def kill(self):
        """Its process has died: it reports nothing any more."""
        self.is_over = True
        for attempt in self.tries:
            attempt.drop()
        if self.connection:
            self.connection.close()


class ModelLocalDelivery:
    """A delivery on this machine: address -> (seconds, letter) says world.local_delivery."""

    def __init__(self, world, handle, address):
        self._world, self._handle = world, handle
        seconds, self._letter = world.local_delivery(address)
        world.clock.after(seconds, self._end)

    def _end(self):
        self._world.result(self._handle, Outcome(self._letter + b"did_0+0+1/\n", LOCAL), 0, 0)


class ModelAgent:
    """An agent that looks up, connects and delivers by itself, one recipient at a time: qmail-remote."""

    def __init__(self, world, number, handle, offset, domain):
        self.world, self.number, self.handle, self.offset = world, number, handle, offset
        zone = world.names.zones.get(domain)
        places = [(preference, world.random.random(), name, address)
                  for preference, name, addresses in (zone.hosts if zone else ()) for address in addresses]  # fmt: skip
        self._places = deque(sorted(places))
        self._next_place()

    def _next_place(self):
        clock = self.world.clock
        if not self._places:
            self.world.result(self.handle, unreached(CONNECT, errno.ETIMEDOUT, b"", b""), 0, 0)
            return
        _, _, self.host, self.address = self._places.popleft()
        server = self.world.servers.get(self.address)
        answer = server.connect(clock.now) if server and self.world.network.is_up else Answer(SILENT, 60)
        if answer.kind == GREETS:
            clock.after(answer.seconds, self._greeted, answer.connection)
        elif answer.kind == REFUSES:
            outcome = answered(GREETING, answer.reply, self.host, self.address, b"Z")
            clock.after(answer.seconds, self.world.result, self.handle, outcome, 0, 0)
        else:
            clock.after(60 if answer.kind in (SILENT, MUTE) else answer.seconds, self._next_place)

    def _greeted(self, connection):
        world = self.world
        sender = world.mail[self.number].sender
        transaction = connection.transact(sender, self.number, [(self.number, self.offset)], world.clock.now)
        world.clock.after(transaction.seconds, self._transacted, connection, transaction)

    def _transacted(self, connection, transaction):
        connection.close()
        if transaction.is_untouched:
            outcome = answered(DIALOGUE, transaction.closing, self.host, self.address, b"Z")
        else:
            _, stage, reply = transaction.results[0]
            outcome = answered(stage, reply, self.host, self.address)
        self.world.result(self.handle, outcome, 0, 0)
