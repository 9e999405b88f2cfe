"""One SMTP connection to a server: its engine (protocol/smtp/client.py), a peer, and one transaction at a time."""

import time

from pyqmail.base.failure import Temporary
from pyqmail.mail.remote.habits import Habits
from pyqmail.mail.remote.recipient_answers import (
    RecipientLimit,
    SortedRecipients,
    TransactionResult,
    deferral_codes,
    has_break,
    is_too_many,
)
from pyqmail.protocol.smtp.client import CONTENT, NOTHING, OVER, TALKING, Client
from pyqmail.protocol.smtp.outgoing import Outgoing, PartialLine
from pyqmail.protocol.smtp.reply import LEAVING, MALFORMED
from pyqmail.protocol.smtp.report import (
    ACCEPTED,
    DATA,
    MESSAGE,
    NAME,
    PARTIAL_LINE,
    RECIPIENT_BREAK,
    RECIPIENTS,
    SENDER_BREAK,
    UNREADABLE,
    accepted,
    died,
    refused,
)
from pyqmail.system.channel import Gone
from pyqmail.system.coroutines import TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.remote.smtp_delivery import MessageFile

TURN_BLOCKS = 16  # of a large message, before others of the loop have their turn
FAREWELL_SECONDS = 2.0  # a server counts a connection until it is gone, but we do not wait longer
FAREWELL_BYTES = 65536  # nor listen to more


class Died(Exception):
    """The connection was lost, or the server was silent for too long (is_silent)."""

    def __init__(self, is_silent: bool = False) -> None:
        super().__init__("silent" if is_silent else "lost")
        self.is_silent = is_silent


class SmtpConnection:
    """A connection, peer, to a server at `address` (its text), which we tell our name.

    is_usable is True as long as another transaction may be begun; is_broken once nothing more can be said, or may.
    carried is how many messages were accepted over it.  ending is None, or (situation, code, reply) of what made the
    server's end of it, not ours: situation NOTHING, code 0 and no reply if it was just gone.
    habits is what is known of the server, and learns.  is_only_try: nobody comes back later to use what it learned.
    no_ehlo, no_pipelining: somebody else knows that the server does not bear these.
    """

    __slots__ = (
        *("address", "peer", "is_usable", "is_broken", "carried", "ending"),
        *("_driver", "_engine", "_habits", "_is_only_try", "_is_used", "_begun", "_limit", "_was_passed_over"),
    )

    def __init__(
        self,
        driver,
        peer,
        address: bytes,
        name: bytes,
        habits=None,
        is_only_try=False,
        no_ehlo=False,
        no_pipelining=False,
    ) -> None:
        self.address, self.peer, self.is_usable, self.is_broken = address, peer, True, False
        self.carried, self.ending = 0, None
        self._driver, self._habits = driver, habits or Habits()
        known = self._habits
        self._engine = Client(name, no_ehlo or known.is_helo_only, no_pipelining or known.is_one_by_one)
        self._is_only_try, self._is_used, self._begun = is_only_try, False, 0
        self._was_passed_over = False  # the last transaction took others after a recipient that it had too many of
        self._limit = RecipientLimit(self._habits.recipient_limit)

    @property
    def recipient_limit(self) -> int | None:
        """How many recipients the next transaction should have at most; None for no limit."""
        learned, announced = self._limit.count, self._engine.limits[1]
        return min(learned, announced) if learned and announced else learned or announced or None

    @property
    def announced_limits(self) -> tuple[int, int]:
        """Messages a connection, recipients a message that the server announced; 0 for either that it did not."""
        return self._engine.limits

    @property
    def is_full(self) -> bool:
        """True if as many transactions were begun as the server announced that it takes."""
        return 0 < self._engine.limits[0] <= self._begun

    @property
    def is_helo_only(self) -> bool:
        """True if the server was greeted with HELO."""
        return not self._engine.is_extended

    @property
    def is_one_by_one(self) -> bool:
        """True if it gets one command at a time."""
        return not self._engine.has_pipelining

    @property
    def is_silent(self) -> bool:
        """True if the connection was given up since the server said nothing for too long."""
        return self._engine.is_silent

    @property
    def has_lost_ehlo(self) -> bool:
        """True if the server hung up where one that knows only HELO might have."""
        return self.is_broken and self._engine.is_ehlo_lost and not self._engine.is_silent

    async def greet(self, greeted=lambda connection: None) -> tuple[str, int, bytes] | None:
        """Exchange greetings; return None, or (situation, code, reply) if the server refuses.  Raises Died.

        greeted(self) is called once the server has sent its greeting, before it is told our name.
        """
        engine = self._engine
        try:
            await self._hear_greeting()
            if engine.refusal is None:
                greeted(self)
            await self._talk()
        except Died:
            if engine.is_ehlo_lost:
                self._habits.note(is_helo_only=True)
            if engine.refusal is None:
                raise
        self.is_usable = engine.state is not OVER
        if engine.is_ahead or (engine.refusal is not None and engine.refusal[:2] == (NAME, MALFORMED)):
            self._habits.note(is_helo_only=True)  # it loses count over the lines of EHLO
        return engine.refusal

    async def deliver(self, sender: bytes, recipients: list[bytes], message: "MessageFile") -> TransactionResult:
        """Make one transaction.  The message stays the caller's to close."""
        if has_break(sender):
            return TransactionResult([None] * len(recipients), SENDER_BREAK)
        engine, was_used = self._engine, self._is_used
        if was_used and (engine.is_ahead or self.peer.has_input()):
            # it has left, or said what nobody asked for: each reply would be taken for the one before
            await self._hear_farewell()
            everybody = range(len(recipients))
            return TransactionResult([None] * len(recipients), died(self.address, False), (), everybody, True)
        sendable = [recipient for recipient in recipients if not has_break(recipient)]
        if not sendable:
            return TransactionResult([RECIPIENT_BREAK] * len(recipients), refused(RECIPIENTS, self.address, 0, b""))
        self._is_used, self._begun = True, self._begun + 1
        engine.begin_transaction(sender, sendable)
        record, is_lost = await self._transact(message)
        self.is_usable = self.is_usable and engine.state is not OVER and not self.is_full
        result = self._result(recipients, record, is_lost, was_used)
        self._note_trouble(result, is_lost, was_used)
        result.is_untouched = not self.is_usable and not engine.has_begun
        self.carried += record[:1] == b"K"
        return result

    async def quit(self) -> None:
        """Say good-bye, without waiting for an answer; nothing is raised if the server has gone."""
        self.is_usable = False
        if self.is_broken:
            return
        try:
            self.peer.put(self._engine.quit())
            await self.peer.flush()
        except (TimedOut, Gone):
            pass

    async def part(self) -> None:
        """Say QUIT and wait until the server has closed, FAREWELL_SECONDS at most; nothing is raised."""
        if self.is_broken:
            return
        peer, until, heard = self.peer, time.monotonic() + FAREWELL_SECONDS, 0
        peer.timeout_seconds = FAREWELL_SECONDS
        await self.quit()
        try:
            while (left := until - time.monotonic()) > 0 and heard < FAREWELL_BYTES:
                peer.timeout_seconds = left
                data = await peer.read()
                if not data:
                    return
                heard += len(data)
        except (TimedOut, Gone):
            pass

    def close(self) -> None:
        """Close the peer; may be called again."""
        self.is_usable, self.is_broken = False, True
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.close()

    def _result(self, recipients, record, is_lost, was_used):
        may_doubt = was_used and not self._was_passed_over
        found = SortedRecipients(self.address, self._engine, recipients, may_doubt, self._habits.deferral_codes)
        self._was_passed_over = found.is_passed_over
        if not was_used:
            self._note_deferral_codes()
        if not self._is_only_try:
            found.postpone_last()  # 421 for one too many
        returned = found.returned(is_lost, was_used, self._is_only_try)
        self._limit.learn(self._habits, self._engine.answers, bool(found.postponed), bool(returned))
        if returned:
            self.is_usable = False
        postponed = [position for position in found.postponed if position not in returned]
        self._note_ending(found, returned, is_lost)
        result = TransactionResult(found.records, record, postponed, returned)
        result.carried = self.carried
        if postponed and not found.is_passed_over:
            result.accepted = sum(code // 100 == 2 for code, _ in self._engine.answers)
        return result

    def _note_deferral_codes(self):
        codes = deferral_codes(self._engine.answers)
        if not codes <= self._habits.deferral_codes:
            self._habits.note(deferral_codes=self._habits.deferral_codes | codes)

    def _note_ending(self, found, returned, is_lost):
        """Keep what made the server's end of the connection, if a transaction was the last."""
        engine = self._engine
        if engine.farewell is not None:
            self.ending = engine.farewell
        elif engine.refusal is not None and (returned or engine.state is OVER):
            self.ending = engine.refusal
        elif returned and found.doubted is not None:
            self.ending = RECIPIENTS, *found.doubted
        elif is_lost or engine.state is OVER:
            self.ending = NOTHING, 0, b""

    async def _hear_farewell(self):
        """Take what the server said unasked: it has left, or is of no more use."""
        peer, engine, heard = self.peer, self._engine, 0
        self.is_usable = False
        engine.take_unasked(b"")
        try:
            while engine.farewell is None and heard < FAREWELL_BYTES and peer.has_input():
                data = await peer.read()
                if not data:
                    break
                heard += len(data)
                engine.take_unasked(data)
        except (TimedOut, Gone):
            pass
        self.ending = engine.farewell or (NOTHING, 0, b"")

    def _note_trouble(self, result, is_lost, was_used):
        """Remember what the server may not bear: commands sent together, so many recipients."""
        engine = self._engine
        if is_lost and engine.is_batch_lost and (engine.has_begun or not was_used):
            self._habits.note(is_one_by_one=True)
        if not result.returned and self._may_be_for_number(result.message, is_lost):
            tried = sum(answer is None or answer == ACCEPTED for answer in result.recipients)
            self._limit.lower(self._habits, tried)

    def _may_be_for_number(self, record, is_lost):
        """Return whether a transaction may have ended for the number of its recipients, though no reply said so."""
        engine, refusal = self._engine, self._engine.refusal
        if is_lost or record == died(self.address, True):
            return engine.has_begun
        if refusal is None or refusal[0] not in (DATA, MESSAGE) or record[:1] != b"Z":
            return False
        return refusal[1] == LEAVING or is_too_many(*refusal[1:])

    async def _transact(self, message):
        """Return the record of the message, and whether the connection ended before that could be accepted."""
        engine = self._engine
        try:
            await self._talk()
            if engine.state is CONTENT:
                failure = await self._send_message(message)
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

    async def _send_message(self, message):
        """Send the content and the lone dot; return None, or the record of what makes that impossible.  Raises Died."""
        if self._engine.is_ahead:  # it has an answer to what it has not seen
            self._engine.content_cut_short()
            await self._lose(Gone("ahead"))
        outgoing = Outgoing()
        try:
            last = await self._send_blocks(outgoing, message)
            self.peer.put(outgoing.send(last) + outgoing.end())
        except OSError:
            return UNREADABLE
        except PartialLine:
            return PARTIAL_LINE
        self._engine.content_ended()
        await self._flush()
        return None

    async def _send_blocks(self, outgoing, message):
        """Send all of a message but its last block, which is returned.  Raises OSError, Died."""
        block, count = message.read(), 0
        while ahead := message.read():
            self.peer.put(outgoing.send(block))
            await self._flush()
            block, count = ahead, count + 1
            if count % TURN_BLOCKS == 0:
                await self._driver.sleep(0)
        return block

    async def _flush(self):
        """Send content.  Raises Died."""
        try:
            await self.peer.flush()
        except (TimedOut, Gone) as end:
            self._engine.content_cut_short()
            await self._lose(end)

    async def _hear_greeting(self):
        """Wait for the greeting.  Raises Died."""
        try:
            await self._await_reply()
        except (TimedOut, Gone) as end:
            await self._lose(end)

    async def _talk(self):
        """Send and receive until it is not the engine's turn.  Raises Died."""
        engine, peer = self._engine, self.peer
        try:
            while True:
                output = engine.take_output()
                if output:
                    peer.put(output)
                    await peer.flush()
                if engine.state is not TALKING:
                    return
                await self._await_reply()
        except (TimedOut, Gone) as end:
            await self._lose(end)

    async def _await_reply(self):
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
        engine.connection_lost(isinstance(end, TimedOut))
        if isinstance(end, Temporary):
            self._habits = Habits()  # it failed for want of something here: that tells nothing of the server
        self._break()
        raise Died(engine.is_silent) from None

    def _break(self):
        self.is_usable, self.is_broken = False, True
