"""Receiving mail over SMTP: one session, from the greeting to its exit code.

The engine (protocol/smtp/server.py) knows the conversation, Policy which mail is taken, Transaction what one MAIL
... DATA gathers; here they meet.
"""

import os
import time

from pyqmail.base.failure import Failure, reason
from pyqmail.mail.queue.client import MessageMemory, QueueClient
from pyqmail.mail.queue.space import BufferSpace
from pyqmail.mail.smtpd import client_limits
from pyqmail.mail.smtpd.client_limits import (
    BAD_HELO,
    BAD_RECIPIENT,
    EARLY_TALKER,
    NO_MESSAGE,
    TOO_MANY_ERRORS,
    TOO_MANY_INVALID,
    Conduct,
    read_client_limits,
    shown,
)
from pyqmail.mail.smtpd.extensions import COMMANDS, MAIL_CHECKS, RECIPIENT_CHECKS, check_parameters, offered
from pyqmail.mail.smtpd.limits_over_time import (
    TOO_MANY_CONNECTIONS,
    TOO_MANY_RECIPIENTS,
    TOO_MUCH_MAIL,
    LimitsOverTime,
)
from pyqmail.mail.smtpd.policy import BAD_SENDER, CONTROLS, NOT_OURS, SYNTAX, TOO_MANY, NoAddresses, read_policy
from pyqmail.mail.smtpd.transaction import LABEL, Share, Shares, Transaction, client_of, received_line
from pyqmail.protocol.smtp.extensions import ExtensionTable
from pyqmail.protocol.smtp.server import DATA, GO_AHEAD, MAIL, NOT_HTTP, OK, RCPT, TIMEOUT, Server
from pyqmail.system.bounded_log import log_at_once
from pyqmail.system.channel import Gone
from pyqmail.system.controls import Controls
from pyqmail.system.coroutines import TimedOut
from pyqmail.system.descriptors import log
from pyqmail.system.home import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.system.peer import Peer

ALL_CONTROLS = (*CONTROLS, *client_limits.CONTROLS)
NO_CONTROLS = b"421 unable to read controls (#4.3.0)\r\n"
NO_ADDRESSES = b"421 unable to figure out my IP addresses (#4.3.0)\r\n"
FRUITLESS_COMMANDS = 1000  # that brought no mail: a client that goes on so is read from no more than now and then
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.1, 1.0  # for each so many of them
LIMITS_SECONDS = 2.0  # how long the control files of limits are not looked at again: there are many
MAX_COMPLAINTS = 64  # about rule variables, in the life of a process
# the reply that ends a session -> what the log says of it
_ENDS = {
    TOO_MANY_ERRORS: "too many errors",
    TOO_MANY_INVALID: "too many invalid addresses",
    NO_MESSAGE: "no message for too long",
    NOT_HTTP: "it speaks HTTP",
}


class SmtpService:
    """The handler of a session program: call it with (peer, environ) for each connection.

    It lives as long as its process, whose working directory becomes the home.  Control files are looked at for
    each connection, those of limits every LIMITS_SECONDS, and read if one has changed.  clock: see time.monotonic().
    """

    def __init__(self, driver, home: Home, queueing=None, clock=time.monotonic) -> None:
        self._driver, self._home, self._queueing, self._clock = driver, home, queueing, clock
        self._shares, self._space = Shares(MessageMemory()), BufferSpace()
        self._controls = None
        self._complaints: set[str] = set()
        self._policy = ControlReading(lambda controls: read_policy(controls, own_addresses), clock)
        self._limits = ControlReading(read_client_limits, clock, LIMITS_SECONDS)
        try:
            self._enter()
        except OSError:
            pass  # each client is told, and it is tried again for the next

    async def __call__(self, peer: "Peer", environ) -> int:
        """Receive from a client; returns 0 after QUIT, 1 after any other end.  environ maps bytes to bytes."""
        try:
            policy, limits = self._read_controls()
        except (OSError, LookupError) as error:
            report_unreadable(error)
            return await refuse(peer, NO_CONTROLS)
        peer.timeout_seconds = policy.timeout_seconds
        limits = limits.for_client(environ, self._complain_once)
        if limits.refuses_early_talker(environ):
            report_client(environ, "it spoke before the greeting")
            return await refuse(peer, EARLY_TALKER)
        over_time = LimitsOverTime(limits, peer.client_meter)
        over_time.complain(self._complain_once)
        excess = await over_time.excess()
        if excess:
            report_client(environ, f"too many connections: {excess}")
            return await refuse(peer, TOO_MANY_CONNECTIONS)
        conduct = Conduct(limits, policy.timeout_seconds)
        engine = Server(policy.greeting, policy.limit_bytes(environ), offered(environ), conduct)
        share = Share(self._shares, client_of(environ))
        transaction = Transaction(self._queueing, environ, share, self._shares.memory, self._space)
        try:
            session = Session(self._driver, peer, engine, policy, conduct, transaction, environ, self._clock)
            session.over_time = over_time
            return await session.run()
        except Failure:
            raise  # our own, which is to be reported
        except (Gone, TimedOut):
            return 1
        finally:
            transaction.forget()

    def _read_controls(self):
        if self._controls is None:
            self._enter()
        return self._policy.value(self._controls), self._limits.value(self._controls)

    def _complain_once(self, text):
        if text not in self._complaints and len(self._complaints) < MAX_COMPLAINTS:
            self._complaints.add(text)
            log_at_once(os.fsencode(f"{LABEL}: warning: {text}"))

    def _enter(self):
        # a QMAILQUEUE without a slash at its head is found from the home
        os.chdir(self._home.path)
        home = self._home = Home(os.getcwd())
        self._queueing = self._queueing or QueueClient(self._driver, home)
        complain = lambda text: log(f"{LABEL}: warning: {text}")  # noqa: E731
        self._controls = Controls(home.control, ALL_CONTROLS, complain=complain)


class ControlReading:
    """What read(controls) says, read again once one of its files has changed; looked at every so many seconds."""

    def __init__(self, read, clock, seconds: float = 0) -> None:
        self._read, self._clock, self._seconds = read, clock, seconds
        self._known = None
        self._fresh_until: float = 0

    def value(self, controls):
        """Return it as it is now.  Raises what read() raises."""
        now = self._clock()
        if self._known is not None and (now < self._fresh_until or not controls.have_changed(self._known[1])):
            if now >= self._fresh_until:
                self._fresh_until = now + self._seconds
            return self._known[0]
        self._known = None
        known = controls.reading(self._read)
        if controls.is_settled(known[1]):
            self._known, self._fresh_until = known, now + self._seconds
        return known[0]


class Session:
    """One client's conversation: pumps the engine and decides its commands.

    peer, engine and transaction are there for the commands of extensions; commands maps their verbs to what they do.
    """

    __slots__ = (
        *("peer", "engine", "transaction", "over_time"),
        *("_driver", "_policy", "_conduct", "_environ", "_relay", "_clock", "_commands"),
    )

    def __init__(
        self, driver, peer: "Peer", engine: Server, policy, conduct: Conduct, transaction: Transaction, environ,
        clock=time.monotonic, commands=COMMANDS,
    ):  # fmt: skip
        self.peer, self.engine, self.transaction = peer, engine, transaction
        self._driver, self._policy, self._conduct, self._clock = driver, policy, conduct, clock
        self._environ, self._relay = environ, environ.get(b"RELAYCLIENT")
        self._commands = commands
        self.over_time = LimitsOverTime(conduct.limits, None)

    async def run(self) -> int:
        """Converse until it is over; returns the exit code.

        Raises Gone when the connection has failed, TimedOut when the client does not take our replies.
        """
        engine = self.engine
        while not engine.closed:
            event = engine.next_event()
            if event is not None:
                await self._decide(event)
            must_speak = engine.must_speak
            if must_speak or event is None:
                if not engine.is_in_transaction:
                    self.transaction.forget()
                await self.send_replies()  # all we have, before we listen
            if event is None and not must_speak and not engine.closed:
                await self._read()
        self._report_end()
        await self.send_replies()
        return engine.exit_code

    async def send_replies(self) -> None:
        """Send the replies that have gathered, the last when it has waited as long as the client's errors say."""
        conduct = self._conduct
        if conduct.delay_seconds:
            await self._send(self.engine.take_ready_replies())
            await self._driver.sleep(conduct.take_delay())
        await self._send(self.engine.take_replies())

    async def _send(self, replies):
        if replies:
            conduct, peer = self._conduct, self.peer
            peer.timeout_seconds = seconds = self._policy.timeout_seconds
            peer.flush_seconds = seconds if conduct.limits.mindatarate else None
            peer.put(replies)
            await peer.flush()
            conduct.end_request()

    async def _read(self):
        """Give the engine what comes next, or end the conversation of a client whose time is up."""
        engine, peer, conduct = self.engine, self.peer, self._conduct
        is_content = self._set_pace()
        seconds, farewell = conduct.time_left(self._clock(), is_content)
        if seconds <= 0:
            engine.close(farewell)
            return
        peer.timeout_seconds = seconds
        try:
            data = await peer.read()
        except TimedOut:
            engine.close(farewell)
            return
        if is_content:
            conduct.add_content(len(data), self._clock())
        engine.receive(data)

    def restart(self, extensions: ExtensionTable, peer: "Peer") -> None:
        """Begin again over this peer, which may wrap the one before: nothing that the client said counts any more.

        What it sent ahead is dropped.  The reply to the command that leads here was sent before.
        """
        self.transaction.forget()
        self.engine.restart(extensions)
        self.peer = peer

    def _set_pace(self):
        """Tell the peer how much to read, and how soon; returns whether content comes."""
        engine, peer = self.engine, self.peer
        peer.is_bulk = is_bulk = engine.is_in_content
        is_fruitful = is_bulk or engine.fruitless < FRUITLESS_COMMANDS
        peer.pause_seconds = 0 if is_fruitful else pause_after(engine.fruitless)
        return is_bulk

    async def _decide(self, event):
        """Answer one event of the engine, or end the conversation if what policy needs cannot be read."""
        engine, verb = self.engine, event.verb
        try:
            if verb is None:
                await self._take_content(event)
            elif verb == RCPT:
                if self._conduct.has_too_many_invalid:
                    engine.close(TOO_MANY_INVALID)
                elif not await self.over_time.admits_recipient():
                    self._report("too many recipients within a time: clientrecipients")
                    engine.answer(event, TOO_MANY_RECIPIENTS)
                else:
                    engine.answer(event, self._add_recipient(event.argument))
            elif verb == MAIL and not await self.over_time.admits_message():
                self._report("too much mail within a time: clientmessages")
                engine.answer(event, TOO_MUCH_MAIL)
            elif verb == MAIL:
                engine.answer(event, self._begin_mail(event.argument))
            elif verb == DATA:
                self.transaction.open_message(received_line(self._environ, engine.helo, int(time.time())))
                engine.answer(event, GO_AHEAD)
            else:
                await self._commands[verb](self, event)
        except NoAddresses:
            engine.close(NO_ADDRESSES)
        except OSError as error:
            report_unreadable(error)
            engine.close(NO_CONTROLS)

    def _begin_mail(self, argument):
        engine = self.engine
        sender, parameters = self._policy.read_path(argument)
        if sender is None:
            return SYNTAX
        if parameters:
            refusal = check_parameters(parameters, engine.extensions.mail_parameters, MAIL_CHECKS, engine)
            if refusal is not None:
                return refusal
        self.transaction.begin(sender, self._policy.is_bad_sender(sender))
        return OK

    def _add_recipient(self, argument):
        limits = self._conduct.limits
        recipient, parameters = self._policy.read_path(argument)
        if recipient is None:
            return SYNTAX
        if limits.is_bad_helo(self.engine.helo):
            self._report(f"badhelo refuses it: {shown(self.engine.helo)}")
            return BAD_HELO
        if self.transaction.is_bad_sender:
            return BAD_SENDER
        if parameters:
            engine = self.engine
            refusal = check_parameters(parameters, engine.extensions.recipient_parameters, RECIPIENT_CHECKS, engine)
            if refusal is not None:
                return refusal
        if self._relay is None and not self._policy.is_our_recipient(recipient):
            return NOT_OURS
        if limits.is_bad_recipient(recipient):
            self._conduct.add_invalid()
            self._report(f"badrcptto refuses a recipient: {shown(recipient)}")
            return BAD_RECIPIENT
        if self.transaction.add_recipient(recipient + (self._relay or b""), limits.maxrcpt):
            return OK
        if self._conduct.is_first_too_many:
            self._report(f"too many recipients: {shown(recipient)}")
        return TOO_MANY

    async def _take_content(self, piece):
        self.transaction.add_content(piece.text, piece.content)
        if piece.is_last:
            reply = await self.transaction.queue_message(piece.content)
            self.transaction.forget()
            self.engine.answer(piece, reply)

    def _report(self, what):
        if self._conduct.take_line():
            report_client(self._environ, what)

    def _report_end(self):
        """Log why the session has ended, if that is the client's conduct."""
        conduct, farewell = self._conduct, self.engine.farewell
        why = _ENDS.get(farewell, "")
        if farewell == TIMEOUT and conduct.limits.mindatarate and self.engine.is_in_request:
            why = "too slow"
        if why:
            refused = shown(conduct.refused)
            report_client(self._environ, f"{why}, last refused: {refused}" if refused else why)


def own_addresses() -> set[bytes]:
    """Return every address that leads to this host.  Raises OSError."""
    from pyqmail.system import interfaces  # few sessions need it

    return interfaces.own_addresses() | {b"0.0.0.0"}


def report_unreadable(error) -> None:
    """Log why a client is told that the controls cannot be read; the client is told no more than from the original."""
    if isinstance(error, OSError):
        text = f"unable to read {os.fsdecode(error.filename or 'control')}: {reason(error)}"
    else:
        text = str(error)
    log_at_once(os.fsencode(f"{LABEL}: warning: {text}"))


def report_client(environ, text: str) -> None:
    """Log what a client did wrong, by its address."""
    client = shown(environ.get(b"TCPREMOTEIP", b"unknown"))
    log_at_once(os.fsencode(f"{LABEL}: client {client}: {text}"))


async def refuse(peer: "Peer", reply: bytes) -> int:
    """Send one reply and no more; returns the session's exit code."""
    peer.put(reply)
    try:
        await peer.flush()
    except (Gone, TimedOut):
        pass
    return 1


def pause_after(fruitless: int) -> float:
    """Return how many seconds a client waits before it is read from, after so many commands that brought no mail."""
    return min(fruitless // FRUITLESS_COMMANDS * PAUSE_SECONDS, MAX_PAUSE_SECONDS)
