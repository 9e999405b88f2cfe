"""What one MAIL ... DATA gathers: envelope and message, and their way into the queue.  RFC 5321 section 3.3

A message is collected first and queued as a whole after its last line: a client that vanishes, a message too big or
looping leave nothing behind.

Its recipients take memory that all clients of a process have together.  FLOOR_BYTES of each transaction are never
refused, whatever others do: that is more than a thousand usual addresses.  What goes beyond is taken from the common
memory, where messages give way first, by moving to their files; and all transactions of one client address together may
have a part of it only.
"""

import _socket as socket  # without its enums: each cold start would pay for them
import time

from pyqmail.base.addresses import received_text
from pyqmail.base.dates import header_date
from pyqmail.mail.queue.client import MEMORY_BYTES, MessageBuffer, MessageMemory, outcome_text
from pyqmail.mail.queue.space import BufferSpace
from pyqmail.mail.smtpd.policy import LOOPING, NO_SPACE, NOT_QUEUED, TOO_BIG
from pyqmail.system.bounded_log import log_at_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LABEL = "qmail-smtpd"  # at the head of its lines
NO_ROOM = 53  # exit code of qmail-queue: insufficient system storage, RFC 5321 section 4.2.3
FLOOR_BYTES = 64 << 10
ADDRESS_BYTES = MEMORY_BYTES // 8
MAX_BYTES = 16 << 20  # of one transaction: the original takes what memory holds, but has it for itself


class Shares:
    """memory is what all have; of_address: client -> what its transactions have of it."""

    def __init__(self, memory: MessageMemory) -> None:
        self.memory = memory
        self.of_address: dict[bytes, int] = {}


class Share:
    """What one transaction holds.  client: see client_of()."""

    __slots__ = ("_shares", "_client", "_held")

    def __init__(self, shares: Shares, client: bytes) -> None:
        self._shares, self._client, self._held = shares, client, 0

    def take(self, size: int) -> bool:
        """Return whether there is room for so many bytes more."""
        held = self._held + size
        extra = max(0, held - FLOOR_BYTES) - self._extra
        if extra and (held > MAX_BYTES or not self._take_extra(extra)):
            return False
        self._held = held
        return True

    def clear(self) -> None:
        """Give all of it back."""
        extra, self._held = self._extra, 0
        if extra:
            self._shares.memory.release(extra)
            left = self._shares.of_address[self._client] - extra
            if left:
                self._shares.of_address[self._client] = left
            else:
                del self._shares.of_address[self._client]

    @property
    def _extra(self):
        return max(0, self._held - FLOOR_BYTES)

    def _take_extra(self, extra):
        shares = self._shares
        had = shares.of_address.get(self._client, 0)
        if had + extra > ADDRESS_BYTES or not shares.memory.reserve_before_messages(extra):
            return False
        shares.of_address[self._client] = had + extra
        return True


def client_of(environ) -> bytes:
    """Return who counts as one client: an IPv4 address, an IPv6 network of 64 bits, or the uid of a UNIX client."""
    ip = environ.get(b"TCPREMOTEIP")
    if ip is None:
        return b"uid " + environ.get(b"UNIXREMOTEEUID", b"")
    if b":" in ip:
        try:
            return socket.inet_pton(socket.AF_INET6, ip.decode().partition("%")[0])[:8]
        except (OSError, ValueError):
            pass  # whatever a rule made of it
    return ip


class Transaction:
    """The mail a client is sending, as far as it has come; the next one of the session uses it again.

    share is this client's, memory and space are those of all clients together.
    is_bad_sender: the envelope sender may not send, which each recipient is answered with.
    """

    __slots__ = (
        *("is_bad_sender", "_queueing", "_environ", "_share", "_memory", "_space"),
        *("_sender", "_recipients", "_count", "_buffer"),
    )

    def __init__(self, queueing, environ, share: Share, memory: MessageMemory, space: BufferSpace) -> None:
        self._queueing, self._environ = queueing, environ
        self._share, self._memory, self._space = share, memory, space
        self.is_bad_sender, self._sender = False, b""
        self._recipients, self._count = bytearray(), 0
        self._buffer: MessageBuffer | Any = None  # from DATA to its end

    def begin(self, sender: bytes, is_bad_sender: bool) -> None:
        """Start with an envelope sender; what there was is given up."""
        self.forget()
        self._sender, self.is_bad_sender = sender, is_bad_sender

    def add_recipient(self, recipient: bytes, max_recipients: int) -> bool:
        """Add an envelope recipient; returns whether there was room.  max_recipients: 0 for no limit."""
        if 0 < max_recipients <= self._count or not self._share.take(len(recipient) + 2):
            return False
        self._recipients += b"T%b\0" % recipient
        self._count += 1
        return True

    def open_message(self, received: bytes) -> None:
        """Begin the message with our Received line."""
        self._buffer = MessageBuffer(memory=self._memory, space=self._space)
        self._buffer.write(received)

    def add_content(self, text: bytes, content) -> None:
        """Add text to the message; content (protocol/smtp/content.py) tells what is wrong with it so far."""
        if content.is_too_big or content.is_looping:
            self.forget()  # it is still read to its end: only then does the client hear a reply
        elif text:
            self._buffer.write(text)

    def forget(self) -> None:
        """Give up the recipients, and the message, if one is being collected."""
        if self._count:
            self._share.clear()
            self._recipients, self._count = bytearray(), 0
        if self._buffer is not None:
            self._buffer.close()
            self._buffer = None

    async def queue_message(self, content) -> bytes:
        """Queue the message, which is complete; returns the reply to it."""
        if content.is_looping:
            return LOOPING
        if content.is_too_big:
            return TOO_BIG
        if self._buffer.failed and self._buffer.is_refused:
            return NO_SPACE
        envelope = b"".join((b"F", self._sender, b"\0", self._recipients, b"\0"))
        try:
            outcome = await self._queueing.queue(self._buffer, envelope, self._environ)
        except OSError:
            return NOT_QUEUED
        if outcome.why and self._queueing.is_news(outcome.why):
            log_at_once(LABEL.encode() + b": warning: unable to queue: " + outcome.why)
        return queue_reply(outcome, int(time.time()))


def queue_reply(outcome, unix_seconds: int) -> bytes:
    """Return the reply that says what became of a message; outcome is the queue's."""
    text = outcome_text(outcome)
    if not text:
        return b"250 ok %d qp %d\r\n" % (unix_seconds, outcome.qp)
    line = text[1:].rstrip(b"\r\n").replace(b"\r", b" ").replace(b"\n", b" ")  # it may be a foreign program's
    if text.startswith(b"D"):
        code = b"554"
    else:
        code = b"452" if outcome.exit_code == NO_ROOM else b"451"
    return b"%b %b\r\n" % (code, line)


def received_line(environ, helo: bytes | None, unix_seconds: int) -> bytes:
    """Return the Received line of this host, two lines long.  helo None: nothing was said.

    What the client claims to be is written only where it differs from the name we know it by.
    """
    host = environ.get(b"TCPREMOTEHOST", b"unknown")
    claim = b"" if helo is None or helo.lower() == host.lower() else b" (HELO %b)" % received_text(helo)
    info = environ.get(b"TCPREMOTEINFO")
    return b"Received: from %b%b (%b%b)\n  by %b with SMTP; %b\n" % (
        received_text(host),
        claim,
        b"" if info is None else received_text(info) + b"@",
        received_text(environ.get(b"TCPREMOTEIP", b"unknown")),
        received_text(environ.get(b"TCPLOCALHOST", environ.get(b"TCPLOCALIP", b"unknown"))),
        header_date(unix_seconds),
    )
