"""Sending mail over one SMTP connection: the client's engine, a peer, and the message file."""

import os

from pyqmail.protocol.smtp_client import CONTENT, OVER, TALKING, Client
from pyqmail.protocol.smtp_outgoing import Outgoing, PartialLine
from pyqmail.protocol.smtp_report import (
    PARTIAL_LINE,
    RECIPIENT_BREAK,
    RECIPIENTS,
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


class Died(Exception):
    """The connection was lost, or the server was silent for too long."""


class Message:
    """A message file, read block by block from where its descriptor stands; close() closes that."""

    __slots__ = ("_fd", "_whole")

    def __init__(self, fd: int) -> None:
        self._fd, self._whole = fd, None

    def read(self) -> bytes:
        """Return the next block, empty at the end.  Raises OSError."""
        if self._fd >= 0:
            return os.read(self._fd, BLOCK)
        block, self._whole = self._whole, b""
        return block

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
    is_untouched True if the server was gone before it took notice: another may be tried at once
    """

    __slots__ = ("recipients", "message", "is_untouched")

    def __init__(self, recipients, message, is_untouched=False):
        self.recipients, self.message, self.is_untouched = recipients, message, is_untouched


class Transmission:
    """A connection to a server at `address` (its text), which we tell our name.

    is_usable is True as long as another transaction may be begun; is_broken once nothing more can be said, or may.
    """

    __slots__ = ("address", "is_usable", "is_broken", "_driver", "_peer", "_engine", "_is_kept")

    def __init__(self, driver, peer, address: bytes, name: bytes) -> None:
        self.address, self.is_usable, self.is_broken = address, True, False
        self._driver, self._peer, self._engine, self._is_kept = driver, peer, Client(name), False

    async def greet(self) -> tuple[str, int, bytes] | None:
        """Exchange greetings; return None, or (situation, code, reply) if the server refuses.  Raises Died."""
        await self._talk()
        self.is_usable = self._engine.state is not OVER
        return self._engine.refusal

    async def deliver(self, sender: bytes, recipients: list[bytes], message: Message) -> Outcome:
        """Make one transaction.  The message stays the caller's to close."""
        if _has_break(sender):
            return Outcome([None] * len(recipients), SENDER_BREAK)
        engine = self._engine
        if self._is_kept and (engine.is_ahead or self._peer.has_input()):
            # it has left, or said what nobody asked for: each reply would be taken for the one before
            self.is_usable = False
            return Outcome([None] * len(recipients), died(self.address, False), True)
        self._is_kept = True
        sendable = [recipient for recipient in recipients if not _has_break(recipient)]
        if sendable:
            engine.begin(sender, sendable)
            record = await self._transact(message)
            self.is_usable = self.is_usable and engine.state is not OVER
        else:
            record = refused(RECIPIENTS, self.address, 0, b"")
        answers = iter(engine.answers if sendable else ())
        records = []
        for recipient in recipients:
            if _has_break(recipient):
                records.append(RECIPIENT_BREAK)
                continue
            answer = next(answers, None)
            records.append(answer and recipient_record(self.address, *answer))
        return Outcome(records, record, bool(sendable) and not self.is_usable and not engine.has_begun)

    async def quit(self) -> None:
        """Say good-bye, without waiting for an answer; nothing is raised if nobody is there any more."""
        self.is_usable = False
        if self.is_broken:
            return
        try:
            self._peer.put(self._engine.quit())
            await self._peer.flush()
        except (TimedOut, Gone):
            pass

    async def _transact(self, message):
        engine = self._engine
        try:
            await self._talk()
            if engine.state is CONTENT:
                failure = await self._send(message)
                if failure is not None:
                    self._break()  # the server still waits for content: only closing is safe
                    return failure
                await self._talk()
        except Died:
            return died(self.address, engine.is_critical)
        if engine.refusal is not None:
            return refused(engine.refusal[0], self.address, *engine.refusal[1:])
        if engine.state is OVER:
            return died(self.address, False)
        return accepted(self.address, engine.reply)

    async def _send(self, message):
        """Send the content and the lone dot; returns None, or the record of what makes that impossible."""
        outgoing, peer, count = Outgoing(), self._peer, 0
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
            await self._peer.flush()
        except (TimedOut, Gone):
            self._break()
            raise Died from None

    async def _talk(self):
        """Send and receive until it is not the engine's turn.  Raises Died."""
        engine, peer = self._engine, self._peer
        try:
            while True:
                output = engine.output()
                if output:
                    peer.put(output)
                    await peer.flush()
                if engine.state is not TALKING:
                    return
                data = await peer.read()
                if not data:
                    raise Gone
                engine.receive(data)
        except (TimedOut, Gone):
            self._break()
            raise Died from None

    def _break(self):
        self.is_usable, self.is_broken = False, True


def _has_break(address):
    return b"\n" in address or b"\r" in address
