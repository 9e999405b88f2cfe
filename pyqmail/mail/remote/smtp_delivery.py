"""Sending mail over one SMTP connection: the client's engine, a peer, and the message file."""

import os
import time

from pyqmail.base.failure import Temporary
from pyqmail.mail.remote.habits import Habits
from pyqmail.protocol.smtp.client import CONTENT, LEAVING, MALFORMED, OVER, TALKING, Client
from pyqmail.protocol.smtp.outgoing import Outgoing, PartialLine
from pyqmail.protocol.smtp.report import (
    ACCEPTED,
    DATA,
    MESSAGE,
    NAME,
    PARTIAL_LINE,
    RECIPIENT_BREAK,
    RECIPIENTS,
    SENDER,
    SENDER_BREAK,
    UNREADABLE,
    accepted,
    died,
    recipient_record,
    refused,
)
from pyqmail.system.channel import Gone
from pyqmail.system.loop import TimedOut

BLOCK, SMALL = 65536, 16384
_LAST = (b"", b"\n", b"\r")  # what a message may end with; a CR there is sent as a line end
TURN_BLOCKS = 16  # of a large message, before others of the loop have their turn
_TOO_MANY = (452, 552)  # RFC 5321 section 4.5.3.1.10: if another recipient was accepted, the limit is the transaction's
_TOO_MANY_STATUS = (b"4.5.3", b"5.5.3")  # RFC 3463: too many recipients, whatever the code
_FEWER = 4  # a server that dies over several recipients gets so many times fewer together at the next try
_OUT_OF_ORDER = 503  # the server has another idea of what was said before


class Died(Exception):
    """The connection was lost, or the server was silent for too long."""


class Message:
    """A message file, read block by block from where its descriptor stands; close() closes that.

    start is where it stands, to rewind() to.
    """

    __slots__ = ("_fd", "_start", "_whole", "_is_read")

    def __init__(self, fd: int, start: int = 0) -> None:
        self._fd, self._start, self._whole, self._is_read = fd, start, None, False

    def read(self) -> bytes:
        """Return the next block, empty at the end.  Raises OSError."""
        was_read, self._is_read = self._is_read, True
        if self._fd >= 0:
            return os.read(self._fd, BLOCK)
        return b"" if was_read else self._whole

    def rewind(self) -> None:
        """Have it read again from its start.  Raises OSError."""
        if self._is_read and self._fd >= 0:
            os.lseek(self._fd, self._start, os.SEEK_SET)
        self._is_read = False

    def has_whole_lines(self) -> bool:
        """Return whether the last line of a regular file, not yet read from, has its end.  Raises OSError.

        A small message is taken into memory by the way, and its descriptor is free again.
        """
        block = os.read(self._fd, SMALL)
        if len(block) < SMALL:
            self.close()
            self._whole = block
            return block[-1:] in _LAST
        size = os.lseek(self._fd, 0, os.SEEK_END)
        os.lseek(self._fd, 0, os.SEEK_SET)
        return os.pread(self._fd, 1, size - 1) in _LAST

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Outcome:
    """How a transaction ended, as qmail-remote's records without their NUL.

    recipients   one for each recipient: its record, None if the server was never asked or never answered
    message      the record of the message
    postponed    positions of recipients that are for another transaction: this one had too many
    returned     positions of recipients that are for another connection: what was said is said of this one, which has
                 carried mail before, or bears fewer recipients than were tried
    is_untouched True if the server was gone before it took notice
    """

    __slots__ = ("recipients", "message", "postponed", "returned", "is_untouched")

    def __init__(self, recipients, message, postponed=(), returned=(), is_untouched=False):
        self.recipients, self.message, self.is_untouched = recipients, message, is_untouched
        self.postponed, self.returned = postponed, returned


class Transmission:
    """A connection, peer, to a server at `address` (its text), which we tell our name.

    is_usable is True as long as another transaction may be begun; is_broken once nothing more can be said, or may.
    habits is what is known of the server, and learns.  is_only_try: nobody comes back later to use what it learned.
    """

    __slots__ = (
        *("address", "peer", "is_usable", "is_broken", "recipient_limit"),
        *("_driver", "_engine", "_habits", "_is_only_try", "_is_used", "_is_limit_known", "_was_passed_over"),
    )

    def __init__(self, driver, peer, address: bytes, name: bytes, habits=None, is_only_try=False) -> None:
        self.address, self.peer, self.is_usable, self.is_broken = address, peer, True, False
        self._driver, self._habits = driver, habits or Habits()
        self._engine = Client(name, self._habits.is_helo_only, self._habits.is_one_by_one)
        self._is_only_try, self._is_used = is_only_try, False
        self._was_passed_over = False  # the last transaction took others after a recipient that it had too many of
        self.recipient_limit, self._is_limit_known = self._habits.recipient_limit, True

    async def greet(self) -> tuple[str, int, bytes] | None:
        """Exchange greetings; return None, or (situation, code, reply) if the server refuses.  Raises Died."""
        try:
            await self._talk()
        except Died:
            if self._engine.is_ehlo_lost:
                self._habits.note(is_helo_only=True)
            if self._engine.refusal is None:
                raise
        self.is_usable = self._engine.state is not OVER
        self._doubt_ehlo()
        return self._engine.refusal

    def _doubt_ehlo(self):
        """Remember a server that loses count over the lines of EHLO."""
        engine = self._engine
        if engine.is_ahead or (engine.refusal is not None and engine.refusal[:2] == (NAME, MALFORMED)):
            self._habits.note(is_helo_only=True)

    async def deliver(self, sender: bytes, recipients: list[bytes], message: Message) -> Outcome:
        """Make one transaction.  The message stays the caller's to close."""
        if _has_break(sender):
            return Outcome([None] * len(recipients), SENDER_BREAK)
        engine, was_used = self._engine, self._is_used
        if was_used and (engine.is_ahead or self.peer.has_input()):
            # it has left, or said what nobody asked for: each reply would be taken for the one before
            self.is_usable = False
            everybody = range(len(recipients))
            return Outcome([None] * len(recipients), died(self.address, False), (), everybody, True)
        sendable = [recipient for recipient in recipients if not _has_break(recipient)]
        if not sendable:
            return Outcome([RECIPIENT_BREAK] * len(recipients), refused(RECIPIENTS, self.address, 0, b""))
        self._is_used = True
        engine.begin(sender, sendable)
        record, is_lost = await self._transact(message)
        self.is_usable = self.is_usable and engine.state is not OVER
        outcome = self._outcome(recipients, record, is_lost, was_used)
        if is_lost and engine.is_batch_lost and (engine.has_begun or not was_used):
            self._habits.note(is_one_by_one=True)
        if not outcome.returned and self._may_be_for_number(record, is_lost):
            crowd = sum(answer is None or answer == ACCEPTED for answer in outcome.recipients)
            self._doubt_number(crowd)
        outcome.is_untouched = not self.is_usable and not engine.has_begun
        return outcome

    async def quit(self) -> None:
        """Say good-bye, without waiting for an answer; nothing is raised if nobody is there any more."""
        self.is_usable = False
        if self.is_broken:
            return
        try:
            self.peer.put(self._engine.quit())
            await self.peer.flush()
        except (TimedOut, Gone):
            pass

    def close(self) -> None:
        """Close the peer; may be called again."""
        self.is_usable, self.is_broken = False, True
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.close()

    @property
    def has_lost_ehlo(self) -> bool:
        """True if the server hung up where one that knows only HELO might have."""
        return self.is_broken and self._engine.is_ehlo_lost and not self._engine.is_silent

    def _outcome(self, recipients, record, is_lost, was_used):
        answers = iter(self._engine.answers)
        records, undecided, later, postponed = [], [], [], []
        has_accepted, was_passed_over, self._was_passed_over = False, self._was_passed_over, False
        for position, recipient in enumerate(recipients):
            if _has_break(recipient):
                records.append(RECIPIENT_BREAK)
                continue
            code, text = next(answers, (None, b""))
            records.append(self._record(code, text))
            if code is None or code // 100 == 2:
                undecided.append(position)
                has_accepted = has_accepted or code is not None
                self._was_passed_over = self._was_passed_over or (code is not None and bool(postponed))
            elif has_accepted and _is_too_many(code, text):
                postponed.append(position)
            elif code // 100 != 5 or (was_used and not was_passed_over and _may_be_of_connection(code, text)):
                later.append(position)
        if has_accepted and not self._is_only_try and self._has_left_at_recipient():
            later, postponed = later[:-1], [*postponed, later[-1]]  # 421 for one too many
        returned = self._returned(undecided, later, postponed, is_lost, was_used)
        self._learn_limit(bool(postponed), bool(returned))
        if returned:
            self.is_usable = False
        return Outcome(records, record, [position for position in postponed if position not in returned], returned)

    def _record(self, code, text):
        """Return the record of a recipient; code is None if it was not answered."""
        refusal = self._engine.refusal
        if code is not None:
            return recipient_record(self.address, code, text)
        if refusal is not None and refusal[0] == RECIPIENTS:
            # the server left at the first ones: those who were not asked must not fail for it
            return recipient_record(self.address, *refusal[1:])
        return None

    def _has_left_at_recipient(self):
        return bool(self._engine.answers) and self._engine.answers[-1][0] == LEAVING

    def _returned(self, undecided, later, postponed, is_lost, was_used):
        """Return the positions of those whom another connection may get further with."""
        refusal = self._engine.refusal
        is_leaving = is_lost or (refusal is not None and refusal[1] == LEAVING)
        if is_leaving and (postponed or (self._is_only_try and self._engine.is_batch_lost)):
            return {*undecided, *later, *postponed}
        if was_used and (is_leaving or (refusal is not None and refusal[0] in (SENDER, DATA))):
            return {*undecided, *later, *postponed}
        return set(later) if was_used else set()

    def _learn_limit(self, has_postponed, is_over):
        """Keep what a transaction tells about how many recipients are too many."""
        codes = [code for code, _ in self._engine.answers]
        accepted = sum(code // 100 == 2 for code in codes)
        if has_postponed:
            self.recipient_limit, self._is_limit_known = accepted, is_over
        elif self._is_limit_known or not codes:
            return
        elif accepted:
            self._is_limit_known = True
        else:  # alone they are refused, too: they were not too many
            self.recipient_limit, self._is_limit_known = self._habits.recipient_limit, True
            return
        if self._is_limit_known:
            self._habits.note(recipient_limit=self.recipient_limit)

    def _may_be_for_number(self, record, is_lost):
        """Return whether a transaction may have ended for the number of its recipients, though no reply said so."""
        engine, refusal = self._engine, self._engine.refusal
        if is_lost or record == died(self.address, True):
            return engine.has_begun
        if refusal is None or refusal[0] not in (DATA, MESSAGE) or record[:1] != b"Z":
            return False
        return refusal[1] == LEAVING or _is_too_many(*refusal[1:])

    def _doubt_number(self, count):
        """Have fewer than count recipients together at the next try: one of them alone may be welcome."""
        if count > 1:
            self.recipient_limit, self._is_limit_known = max(1, count // _FEWER), True
            self._habits.note(recipient_limit=self.recipient_limit)

    async def _transact(self, message):
        """Return the record of the message, and whether the connection ended before that could be accepted."""
        engine = self._engine
        try:
            await self._talk()
            if engine.state is CONTENT:
                if engine.is_ahead:  # it has an answer to what it has not seen
                    engine.cut_short()
                    await self._lose(Gone("ahead"))
                failure = await self._send(message)
                if failure is not None:
                    self._break()  # the server still waits for content: only closing is safe
                    return failure, False
                await self._talk()
        except Died:
            if engine.refusal is None:
                return died(self.address, engine.is_critical), not engine.is_critical
        if engine.refusal is not None:
            return refused(engine.refusal[0], self.address, *engine.refusal[1:]), False
        if engine.state is OVER:
            return died(self.address, False), True
        return accepted(self.address, engine.reply), False

    async def _send(self, message):
        """Send the content and the lone dot; returns None, or the record of what makes that impossible."""
        outgoing, peer, count = Outgoing(), self.peer, 0
        try:
            block = message.read()
            while ahead := message.read():
                peer.put(outgoing.send(block))
                await self._flush()
                block, count = ahead, count + 1
                if count % TURN_BLOCKS == 0:
                    await self._driver.sleep(0)
            peer.put(outgoing.send(block) + outgoing.end())
        except OSError:
            return UNREADABLE
        except PartialLine:
            return PARTIAL_LINE
        self._engine.ended()
        await self._flush()
        return None

    async def _flush(self):
        try:
            await self.peer.flush()
        except (TimedOut, Gone) as end:
            self._engine.cut_short()
            await self._lose(end)

    async def _talk(self):
        """Send and receive until it is not the engine's turn.  Raises Died."""
        engine, peer = self._engine, self.peer
        try:
            while True:
                output = engine.output()
                if output:
                    peer.put(output)
                    await peer.flush()
                if engine.state is not TALKING:
                    return
                await self._listen()
        except (TimedOut, Gone) as end:
            await self._lose(end)

    async def _listen(self):
        """Receive one reply or more; all of one has the time that one read may take.  Raises TimedOut, Gone."""
        engine, peer, seconds = self._engine, self.peer, self.peer.timeout_seconds
        count, until = engine.reply_count, time.monotonic() + seconds
        engine.receive(b"")  # it may have come with the reply before
        try:
            while engine.reply_count == count:
                data = await peer.read()
                if not data:
                    raise Gone("connection closed")
                engine.receive(data)
                peer.timeout_seconds = until - time.monotonic()
                if peer.timeout_seconds <= 0 and engine.reply_count == count:
                    raise TimedOut
        finally:
            peer.timeout_seconds = seconds

    async def _lose(self, end):
        """The connection has ended: hear what the server said before, and raise Died."""
        engine, peer = self._engine, self.peer
        engine.receive(b"")
        try:
            while engine.is_waiting and peer.has_input() and (data := await peer.read()):
                engine.receive(data)
        except (TimedOut, Gone):
            pass
        engine.lost(isinstance(end, TimedOut))
        if isinstance(end, Temporary):
            self._habits = Habits()  # it failed for want of something here: that tells nothing of the server
        self.is_usable, self.is_broken = False, True
        raise Died from None

    def _break(self):
        self.is_usable, self.is_broken = False, True


async def open_connection(driver, connect, address: bytes, name: bytes, habits, is_only_try=False):
    """Return (Transmission, None), or (it, what its greet() gave) if the server refuses us.

    connect() is awaited for a peer.  A server that hangs up on EHLO is tried once more, with HELO.
    Raises Died; TimedOut and OSError as connect() does, the first time.
    """
    connection, refusal = await _greeted(driver, await connect(), address, name, habits, is_only_try)
    if not connection.has_lost_ehlo:
        if connection.is_broken and refusal is None:
            raise Died
        return connection, refusal
    try:
        peer = await connect()
    except (TimedOut, OSError):
        peer = None
    if peer is not None:
        again, said = await _greeted(driver, peer, address, name, habits, is_only_try)
        if said is not None or not again.is_broken:
            return again, said
    if refusal is None:
        raise Died
    return connection, refusal


async def _greeted(driver, peer, address, name, habits, is_only_try):
    """Return (Transmission, refusal); it is broken, and closed, if it died."""
    connection = Transmission(driver, peer, address, name, habits, is_only_try)
    try:
        refusal = await connection.greet()
    except Died:
        refusal = None
    except BaseException:
        connection.close()
        raise
    if connection.is_broken:
        connection.close()
    return connection, refusal


async def deliver_to_all(connection, sender: bytes, recipients: list[bytes], message: Message, report) -> list[int]:
    """Deliver a message in as many transactions as the server makes of it.

    report(position, recipient record, message record) is called for each recipient whose lot is known.  Returns the
    positions of the others, in order: they are for another connection.  Raises OSError if the message cannot be read
    once more.
    """
    pending = list(range(len(recipients)))
    while pending and connection.is_usable:
        count = connection.recipient_limit or len(pending)
        some, rest = pending[:count], pending[count:]
        message.rewind()
        outcome = await connection.deliver(sender, [recipients[position] for position in some], message)
        again = []
        for place, position in enumerate(some):
            if place in outcome.postponed or place in outcome.returned:
                again.append(position)
            else:
                report(position, outcome.recipients[place], outcome.message)
        if outcome.returned:
            return again + rest
        may_be_accepted = outcome.message[:1] == b"K" or outcome.message == died(connection.address, True)
        if not connection.is_usable and not may_be_accepted:
            # a fresh connection's refusal: those who have not been tried would meet the same
            for position in rest:
                report(position, None, outcome.message)
            rest = []
        pending = again + rest
    return pending


def _is_too_many(code, text):
    """Return whether an answer to RCPT speaks of how many recipients there are, not of this one."""
    return code in _TOO_MANY or text[4:10].rstrip() in _TOO_MANY_STATUS


def _may_be_of_connection(code, text):
    """Return whether a 5xx to RCPT may be about what the connection has carried before; 550 is about the recipient."""
    if text[4:8] in (b"5.1.", b"5.2."):
        return False  # RFC 3463: the address; the mailbox, one that is full for instance
    return code == _OUT_OF_ORDER or _is_too_many(code, text)


def _has_break(address):
    return b"\n" in address or b"\r" in address
