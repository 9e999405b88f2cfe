"""Receiving mail over SMTP: one session, from the greeting to its exit code.

The engine (protocol/smtp/server.py) knows the conversation, Policy which mail is taken, Transaction what one MAIL
... DATA gathers; here they meet.
"""

import os
import time

from pyqmail.base.failure import Failure, reason
from pyqmail.mail.queue.client import MessageMemory, QueueClient
from pyqmail.mail.queue.space import BufferSpace
from pyqmail.mail.smtpd.extensions import COMMANDS, MAIL_CHECKS, RECIPIENT_CHECKS, check_parameters, offered
from pyqmail.mail.smtpd.policy import BAD_SENDER, CONTROLS, NOT_OURS, SYNTAX, TOO_MANY, NoAddresses, read_policy
from pyqmail.mail.smtpd.transaction import LABEL, Share, Shares, Transaction, client_of, received_line
from pyqmail.protocol.smtp.extensions import ExtensionTable
from pyqmail.protocol.smtp.server import DATA, GO_AHEAD, MAIL, OK, RCPT, TIMEOUT, Server
from pyqmail.system.bounded_log import log_at_once
from pyqmail.system.channel import Gone
from pyqmail.system.controls import Controls
from pyqmail.system.coroutines import TimedOut
from pyqmail.system.descriptors import log
from pyqmail.system.home import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.system.peer import Peer

NO_CONTROLS = b"421 unable to read controls (#4.3.0)\r\n"
NO_ADDRESSES = b"421 unable to figure out my IP addresses (#4.3.0)\r\n"
FRUITLESS_COMMANDS = 1000  # that brought no mail: a client that goes on so is read from no more than now and then
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.1, 1.0  # for each so many of them


class SmtpService:
    """The handler of a session program: call it with (peer, environ) for each connection.

    It lives as long as its process, whose working directory becomes the home.  Control files are looked at for
    each connection, and read if one has changed.
    """

    def __init__(self, driver, home: Home, queueing=None) -> None:
        self._driver, self._home, self._queueing = driver, home, queueing
        self._shares, self._space = Shares(MessageMemory()), BufferSpace()
        self._controls = self._known = None
        try:
            self._enter()
        except OSError:
            pass  # each client is told, and it is tried again for the next

    async def __call__(self, peer: "Peer", environ) -> int:
        """Receive from a client; returns 0 after QUIT, 1 after any other end.  environ maps bytes to bytes."""
        try:
            policy = self._policy()
        except (OSError, LookupError) as error:
            report_unreadable(error)
            return await refuse(peer, NO_CONTROLS)
        peer.timeout_seconds = policy.timeout_seconds
        engine = Server(policy.greeting, policy.limit_bytes(environ), offered(environ))
        share = Share(self._shares, client_of(environ))
        transaction = Transaction(self._queueing, environ, share, self._shares.memory, self._space)
        try:
            return await Session(peer, engine, policy, transaction, environ).run()
        except Failure:
            raise  # our own, which is to be reported
        except (Gone, TimedOut):
            return 1
        finally:
            transaction.forget()

    def _policy(self):
        if self._controls is None:
            self._enter()
        if self._known is None or self._controls.have_changed(self._known[1]):
            self._known = None
            known = self._controls.reading(lambda controls: read_policy(controls, own_addresses))
            if not self._controls.is_settled(known[1]):
                return known[0]
            self._known = known
        return self._known[0]

    def _enter(self):
        # a QMAILQUEUE without a slash at its head is found from the home
        os.chdir(self._home.path)
        home = self._home = Home(os.getcwd())
        self._queueing = self._queueing or QueueClient(self._driver, home)
        complain = lambda text: log(f"{LABEL}: warning: {text}")  # noqa: E731
        self._controls = Controls(home.control, CONTROLS, complain=complain)


class Session:
    """One client's conversation: pumps the engine and decides its commands.

    peer, engine and transaction are there for the commands of extensions; commands maps their verbs to what they do.
    """

    __slots__ = ("peer", "engine", "transaction", "_policy", "_environ", "_relay", "_commands")

    def __init__(self, peer: "Peer", engine: Server, policy, transaction: Transaction, environ, commands=COMMANDS):
        self.peer, self.engine, self.transaction = peer, engine, transaction
        self._policy, self._environ, self._relay = policy, environ, environ.get(b"RELAYCLIENT")
        self._commands = commands

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
                self._set_pace()
                try:
                    engine.receive(await self.peer.read())
                except TimedOut:
                    engine.close(TIMEOUT)
        await self.send_replies()
        return engine.exit_code

    async def send_replies(self) -> None:
        """Send the replies that have gathered."""
        replies = self.engine.take_replies()
        if replies:
            self.peer.put(replies)
            await self.peer.flush()

    def restart(self, extensions: ExtensionTable, peer: "Peer") -> None:
        """Begin again over this peer, which may wrap the one before: nothing that the client said counts any more.

        What it sent ahead is dropped.  The reply to the command that leads here was sent before.
        """
        self.transaction.forget()
        self.engine.restart(extensions)
        self.peer = peer

    def _set_pace(self):
        """Tell the peer how much to read, and how soon."""
        engine, peer = self.engine, self.peer
        peer.is_bulk = is_bulk = engine.is_in_content
        is_fruitful = is_bulk or engine.fruitless < FRUITLESS_COMMANDS
        peer.pause_seconds = 0 if is_fruitful else pause_after(engine.fruitless)

    async def _decide(self, event):
        """Answer one event of the engine, or end the conversation if what policy needs cannot be read."""
        engine, verb = self.engine, event.verb
        try:
            if verb is None:
                await self._take_content(event)
            elif verb == RCPT:
                engine.answer(event, self._add_recipient(event.argument))
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
        recipient, parameters = self._policy.read_path(argument)
        if recipient is None:
            return SYNTAX
        if self.transaction.is_bad_sender:
            return BAD_SENDER
        if parameters:
            engine = self.engine
            refusal = check_parameters(parameters, engine.extensions.recipient_parameters, RECIPIENT_CHECKS, engine)
            if refusal is not None:
                return refusal
        if self._relay is not None:
            recipient += self._relay
        elif not self._policy.is_our_recipient(recipient):
            return NOT_OURS
        is_added = self.transaction.add_recipient(recipient, self._policy.max_recipients)
        return OK if is_added else TOO_MANY

    async def _take_content(self, piece):
        self.transaction.add_content(piece.text, piece.content)
        if piece.is_last:
            reply = await self.transaction.queue_message(piece.content)
            self.transaction.forget()
            self.engine.answer(piece, reply)


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
