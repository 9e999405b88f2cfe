"""Receiving mail over SMTP: one session, from the greeting to its exit code.

The engine (protocol/smtp/server.py) knows the conversation, Acceptance the policy, Queueing the queue; here they
meet.  A message is collected first and queued as a whole after its last line: a client that vanishes, a
message too big or looping leave nothing behind.
"""

import os
import time

from pyqmail.base.addresses import received_text
from pyqmail.base.dates import header_date
from pyqmail.base.failure import Failure, reason
from pyqmail.mail.queue.client import Memory, Queueing, Spool, outcome_text
from pyqmail.mail.queue.space import SpoolSpace
from pyqmail.mail.smtpd.policy import CONTROLS, NoAddresses, exceeds, read_acceptance
from pyqmail.mail.smtpd.recipient_shares import Share, Shares, client_of
from pyqmail.protocol.smtp.server import DATA, GO_AHEAD, MAIL, OK, TIMEOUT, Server
from pyqmail.system.bounded_log import log_at_once
from pyqmail.system.channel import Gone
from pyqmail.system.controls import Controls
from pyqmail.system.descriptors import log
from pyqmail.system.home import Home
from pyqmail.system.loop import TimedOut

NO_CONTROLS = b"421 unable to read controls (#4.3.0)\r\n"
NO_ADDRESSES = b"421 unable to figure out my IP addresses (#4.3.0)\r\n"
SYNTAX = b"555 syntax error (#5.5.4)\r\n"
BAD_SENDER = b"553 sorry, your envelope sender is in my badmailfrom list (#5.7.1)\r\n"
NOT_OURS = b"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)\r\n"
TOO_MANY = b"452 sorry, too many recipients (#4.5.3)\r\n"
TOO_BIG = b"552 sorry, that message size exceeds my databytes limit (#5.3.4)\r\n"
LOOPING = b"554 too many hops, this message is looping (#5.4.6)\r\n"
NOT_QUEUED = b"451 qqt failure (#4.3.0)\r\n"
FRUITLESS_COMMANDS = 1000  # that brought no mail: whoever goes on so is read from no more than now and then
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.1, 1.0  # for each so many of them
NO_SPACE = b"452 sorry, I have no room for your message now (#4.3.1)\r\n"

NO_ROOM = 53  # exit code of qmail-queue: insufficient system storage, RFC 5321 section 4.2.3


class Reception:
    """The handler of a session program: call it with (peer, environ) for each connection.

    It lives as long as its process, whose working directory becomes the home.  Control files are looked at for
    each connection, and read if one has changed.
    """

    def __init__(self, driver, home: Home, queueing=None) -> None:
        self._driver, self._home, self._queueing = driver, home, queueing
        self._shares, self._space = Shares(Memory()), SpoolSpace()
        self._controls = self._known = None
        try:
            self._enter()
        except OSError:
            pass  # each client is told, and it is tried again for the next

    async def __call__(self, peer, environ) -> int:
        """Receive from a client; returns 0 after QUIT, 1 after any other end.  environ maps bytes to bytes."""
        try:
            acceptance = self._acceptance()
        except (OSError, LookupError) as error:
            say_unreadable(error)
            return await refuse(peer, NO_CONTROLS)
        peer.timeout_seconds = acceptance.timeout_seconds
        engine = Server(acceptance.greeting, acceptance.limit_bytes(environ))
        transaction = Transaction(engine, acceptance, self._queueing, environ, self._shares, self._space)
        try:
            await converse(engine, transaction, peer)
        except Failure:
            raise  # our own, which is to be said
        except (Gone, TimedOut):
            return 1
        finally:
            transaction.forget()
        return engine.exit_code

    def _acceptance(self):
        if self._controls is None:
            self._enter()
        if self._known is None or self._controls.have_changed(self._known[1]):
            self._known = None
            known = self._controls.reading(lambda controls: read_acceptance(controls, own_addresses))
            if not self._controls.is_settled(known[1]):
                return known[0]
            self._known = known
        return self._known[0]

    def _enter(self):
        # a QMAILQUEUE without a slash at its head is found from the home
        os.chdir(self._home.path)
        home = self._home = Home(os.getcwd())
        self._queueing = self._queueing or Queueing(self._driver, home)
        complain = lambda text: log(f"qmail-smtpd: warning: {text}")  # noqa: E731
        self._controls = Controls(home.control, CONTROLS, complain=complain)


def own_addresses() -> set[bytes]:
    """Return every address that leads to this host.  Raises OSError."""
    from pyqmail.system import interfaces  # few sessions need it

    return interfaces.own_addresses() | {b"0.0.0.0"}


def say_unreadable(error) -> None:
    """Log why a client is told that the controls cannot be read; the client is told no more than from the original."""
    if isinstance(error, OSError):
        text = f"unable to read {os.fsdecode(error.filename or 'control')}: {reason(error)}"
    else:
        text = "there is neither control/me nor control/smtpgreeting"
    log_at_once(os.fsencode(f"qmail-smtpd: warning: {text}"))


async def refuse(peer, reply: bytes) -> int:
    """Say one reply and no more; returns the session's exit code."""
    peer.put(reply)
    try:
        await peer.flush()
    except (Gone, TimedOut):
        pass
    return 1


async def converse(engine: Server, transaction, peer) -> None:
    """Pump an engine until its conversation is over.

    Raises Gone when the connection has failed, TimedOut when the client does not take our replies.
    """
    while not engine.closed:
        event = engine.next_event()
        if event is not None:
            await transaction.decide(event)
        must_speak = engine.must_speak
        if must_speak or event is None:
            if not engine.is_in_transaction:
                transaction.forget()
            await speak(engine, peer)  # say all we have before we listen
        if event is None and not must_speak and not engine.closed:
            peer.is_bulk = engine.is_in_content
            peer.pause_seconds = 0 if engine.is_in_content else pause_after(engine.fruitless)
            try:
                engine.receive(await peer.read())
            except TimedOut:
                engine.close(TIMEOUT)
    await speak(engine, peer)


def pause_after(fruitless: int) -> float:
    """Return how many seconds a client waits before it is read from, after so many commands that brought no mail."""
    return min(fruitless // FRUITLESS_COMMANDS * PAUSE_SECONDS, MAX_PAUSE_SECONDS)


async def speak(engine: Server, peer) -> None:
    """Send the replies that have gathered."""
    replies = engine.take_replies()
    if replies:
        peer.put(replies)
        await peer.flush()


class Transaction:
    """The mail a client is sending: envelope and message as far as they have come.

    shares and space are those of all clients together.
    """

    __slots__ = (
        "_engine", "_acceptance", "_queueing", "_environ", "_memory", "_space", "_share",
        "_relay", "_sender", "_is_bad", "_recipients", "_count", "_spool",
    )  # fmt: skip

    def __init__(self, engine: Server, acceptance, queueing, environ, shares: Shares, space: SpoolSpace) -> None:
        self._engine, self._acceptance, self._queueing, self._environ = engine, acceptance, queueing, environ
        self._memory, self._space, self._share = shares.memory, space, Share(shares, client_of(environ))
        self._relay = environ.get(b"RELAYCLIENT")
        self._sender, self._is_bad, self._recipients, self._count = b"", False, bytearray(), 0
        self._spool = None

    async def decide(self, event) -> None:
        """Answer one event of the engine, or end the conversation if what policy needs cannot be read."""
        engine = self._engine
        verb = event.verb
        try:
            if verb is None:
                await self._take(event)
            elif verb == MAIL:
                engine.answer(event, self._mail(event.argument))
            elif verb == DATA:
                self._start()
                engine.answer(event, GO_AHEAD)
            else:
                engine.answer(event, self._recipient(event.argument))
        except NoAddresses:
            engine.close(NO_ADDRESSES)
        except OSError as error:
            say_unreadable(error)
            engine.close(NO_CONTROLS)

    def forget(self) -> None:
        """Give up the recipients, and the message, if one is being collected."""
        if self._count:
            self._share.clear()
            self._recipients, self._count = bytearray(), 0
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _mail(self, argument):
        sender, parameters = self._acceptance.read_path(argument)
        if sender is None:
            return SYNTAX
        if parameters and exceeds(parameters.get(b"SIZE", b""), self._engine.limit_bytes):
            return TOO_BIG
        self.forget()
        self._sender, self._is_bad = sender, self._acceptance.is_bad_sender(sender)
        return OK

    def _recipient(self, argument):
        recipient, _ = self._acceptance.read_path(argument)
        if recipient is None:
            return SYNTAX
        if self._is_bad:
            return BAD_SENDER
        if self._relay is not None:
            recipient += self._relay
        elif not self._acceptance.is_our_recipient(recipient):
            return NOT_OURS
        most = self._acceptance.max_recipients
        if 0 < most <= self._count or not self._share.take(len(recipient) + 2):
            return TOO_MANY
        self._recipients += b"T%b\0" % recipient
        self._count += 1
        return OK

    def _start(self):
        self._spool = Spool(memory=self._memory, space=self._space)
        self._spool.write(received_line(self._environ, self._engine.helo, int(time.time())))

    async def _take(self, piece):
        content = piece.content
        if content.is_too_big or content.is_looping:
            self.forget()  # it is still read to its end: only then does the client hear a reply
        elif piece.text:
            self._spool.write(piece.text)
        if piece.is_last:
            reply = await self._end(content)
            self.forget()
            self._engine.answer(piece, reply)

    async def _end(self, content):
        if content.is_looping:
            return LOOPING
        if content.is_too_big:
            return TOO_BIG
        if self._spool.failed and self._spool.is_refused:
            return NO_SPACE
        envelope = b"F%b\0%b\0" % (self._sender, self._recipients)
        try:
            outcome = await self._queueing.queue(self._spool, envelope, self._environ)
        except OSError:
            return NOT_QUEUED
        text = outcome_text(outcome)
        if outcome.why and self._queueing.is_news(outcome.why):
            log_at_once(b"qmail-smtpd: warning: unable to queue: " + outcome.why)
        if not text:
            return b"250 ok %d qp %d\r\n" % (time.time(), outcome.qp)
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
