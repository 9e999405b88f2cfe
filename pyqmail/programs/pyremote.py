"""Deliver a message to one host by SMTP.

Reads the message from descriptor 0 and sends it to HOST's mail exchangers, or to the relay that control/smtproutes
names, for all RECIPIENTs.  Reports the results on descriptor 1: for each recipient `r` (accepted), `h` (permanent
failure) or `s` (temporary failure), then for the message `K`, `Z` or `D`; each with a text and a NUL.  The message must
end with a newline.  A CR without a newline after it becomes a space.

A server that accepts fewer RECIPIENTs at once gets the message in several transactions, and over several connections if
necessary; a message from a pipe is then copied into memory first.

Addresses at which connecting timed out are remembered in queue/lock/tcpto and not tried for an hour.
"""

import errno
import os
import time

from pyqmail.base.options import Rest
from pyqmail.mail.remote.habits import Habits
from pyqmail.mail.remote.message_file import BLOCK, MessageFile
from pyqmail.mail.remote.smtp_connection import Died
from pyqmail.mail.remote.smtp_delivery import deliver_to_all, open_connection
from pyqmail.mail.remote.tcpto import Timeouts
from pyqmail.mail.routing.exchangers import (
    NO_CONNECTION,
    NO_EXCHANGER,
    SOFT_DNS,
    Unroutable,
    choose,
    no_host,
    plan_for,
    settle_literal,
)
from pyqmail.protocol.smtp import report as smtp_report
from pyqmail.protocol.wires import resolve_wire
from pyqmail.system.command_line import Program
from pyqmail.system.controls import Controls
from pyqmail.system.driver import BlockingDriver, drive
from pyqmail.system.home import find_home
from pyqmail.system.loop import TimedOut
from pyqmail.system.retrying import write_surely

PROGRAM = Program(
    name="pyremote",
    summary="deliver a message to one host by SMTP",
    original="qmail-remote",
    usage="qmail-remote host sender recip ...",
    arguments=[Rest("words", "the host, the envelope sender, and at least one recipient", metavar="host sender recip")],
    exits={0: "always: the result is on descriptor 1"},
    controls=["me", "helohost", "smtproutes", "timeoutconnect", "timeoutremote"],
    controls_count={"others": "from the next delivery on"},
    environment=["PYQMAIL_HOME", "PYQMAIL_DNS", "DNSCACHEIP"],
    see=["pyrspawn(8)", "pyresolve(8)"],
)

MAX_SECONDS = 2_000_000  # poll() takes no more
MAX_VAIN = 3  # connections in a row that bring no recipient further


class Settings:
    """What control/ says.  Raises OSError."""

    def __init__(self, controls) -> None:
        self.connect_seconds = min(controls.get("timeoutconnect"), MAX_SECONDS)
        self.talk_seconds = min(controls.get("timeoutremote"), MAX_SECONDS)
        self.name = controls.get("helohost")
        self.routes = controls.get("smtproutes")


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, deliver)


def deliver(call) -> int:
    words = [os.fsencode(word) for word in call.words]
    try:
        records = report(words, call.environ)
    except MemoryError:
        records = [smtp_report.OUT_OF_MEMORY]
    write_surely(1, b"".join(record + b"\0" for record in records))
    return 0


def report(words: list[bytes], environ) -> list[bytes]:
    """Return the records for descriptor 1."""
    if len(words) < 3:
        return [smtp_report.IMPROPER]
    home = find_home(environ)
    if not os.path.isdir(home.path):
        return [smtp_report.NO_HOME]
    try:
        settings = Settings(Controls(home.control, PROGRAM.controls))
    except OSError:
        return [smtp_report.NO_CONTROLS]
    if settings.name is None:
        return [smtp_report.NO_CONTROLS]
    try:
        hosts = find_hosts(words[0], settings.routes, environ)
    except Unroutable as reason:
        return [reason.report]
    except OSError:
        return [smtp_report.NO_RESOURCES]
    timeouts = Timeouts(f"{home.queue}/lock/tcpto", os.getpid())
    try:
        message = open_message(len(words) > 3)
    except OSError:
        return [smtp_report.UNREADABLE]
    return drive(transmit(BlockingDriver(), hosts, settings, timeouts, Mail(words[1], words[2:], message)))


def open_message(has_several):
    """Return the MessageFile on descriptor 0; of what cannot be read twice a copy, if several transactions may need it.

    Raises OSError.
    """
    try:
        return MessageFile(0, os.lseek(0, 0, os.SEEK_CUR))
    except OSError as error:
        if error.errno != errno.ESPIPE or not has_several:
            return MessageFile(0)
    copy = os.memfd_create("message")
    while block := os.read(0, BLOCK):
        write_surely(copy, block)
    os.lseek(copy, 0, os.SEEK_SET)
    return MessageFile(copy)


def find_hosts(host, routes, environ):
    """Return [(host, address, port)] in the order to try.  Raises Unroutable, OSError."""
    plan = plan_for(host, routes)
    own = set()
    if not plan.is_routed:
        from pyqmail.system.interfaces import own_addresses

        own = own_addresses()
    if plan.question is None:
        return settle_literal(plan, own)
    from pyqmail.system import resolver

    try:
        if plan.question == resolve_wire.EXCHANGERS:
            return choose(plan, resolver.exchangers_of(plan.name, environ), own)
        addresses = resolver.addresses_of(plan.name, environ)
    except resolver.Soft:
        raise Unroutable(SOFT_DNS) from None
    except resolver.NoHost:
        raise Unroutable(no_host(plan.name)) from None
    except resolver.NoRecord:
        raise Unroutable(NO_EXCHANGER) from None
    if not addresses:
        raise Unroutable(no_host(plan.name))
    return choose(plan, [(0, plan.name, address) for address in addresses], own)


class Mail:
    """A message for several recipients, and what is known of each: its record, and that of its message.

    Both are qmail-remote's; the first is None for one that the server never answered for.
    """

    def __init__(self, sender: bytes, recipients: list[bytes], message: MessageFile) -> None:
        self.sender, self.recipients, self.message = sender, recipients, message
        self.pending, self._known = list(range(len(recipients))), {}

    async def deliver(self, connection) -> bool:
        """Deliver what is pending over a connection; return whether something was, or was refused."""
        places, self.pending = self.pending, []
        had = len(self._known)

        def report(place, *records):
            self._known[places[place]] = records

        try:
            addresses = [self.recipients[place] for place in places]
            left = await deliver_to_all(connection, self.sender, addresses, self.message, report)
            self.pending = [places[place] for place in left]
        except OSError:
            self.pending = [place for place in places if place not in self._known]
            self.give_up(smtp_report.UNREADABLE)
        return len(self._known) > had

    def give_up(self, record: bytes) -> None:
        """Have this be the message's record for all that are pending."""
        for place in self.pending:
            self._known[place] = None, record
        self.pending = []

    def records(self) -> list[bytes]:
        """Return the records of all recipients and the one of the message: of a success if there was one.

        What became of a recipient by another transaction stands in a record of the recipient's own.
        """
        ends = [self._known[place] for place in range(len(self.recipients))]
        outcome = next((message for _, message in ends if message[:1] == b"K"), ends[0][1])
        found = []
        for record, message in ends:
            if record in (None, smtp_report.ACCEPTED) and message != outcome and message[:1] != b"K":
                record = (b"h" if message[:1] == b"D" else b"s") + message[1:]
            if record is not None:
                found.append(record)
        return [*found, outcome]


async def transmit(driver, hosts, settings, timeouts, mail) -> list[bytes]:
    """Deliver to the first of hosts that lets us connect; return the records."""
    for _, address, port in hosts:
        if timeouts.is_dead(address, int(time.time())):
            continue
        server = Server(driver, address, port, settings)
        try:
            refusal = await server.open()
        except TimedOut:
            timeouts.note(address, True, int(time.time()))
            continue
        except OSError as error:
            timeouts.note(address, isinstance(error, TimeoutError), int(time.time()))
            continue
        except Died:
            timeouts.note(address, False, int(time.time()))
            mail.give_up(smtp_report.died(address, False))
            return mail.records()
        timeouts.note(address, False, int(time.time()))
        await converse(server, refusal, mail)
        return mail.records()
    return [NO_CONNECTION]


class Server:
    """One address that takes our mail, over a connection at a time."""

    def __init__(self, driver, address: bytes, port: int, settings) -> None:
        self.address, self.connection = address, None
        self._driver, self._port, self._settings, self._habits = driver, port, settings, Habits()

    async def open(self):
        """Connect; return None, or the refusal.  Raises Died; TimedOut and OSError if connecting fails."""
        self.connection, refusal = await open_connection(
            self._driver, self._connect, self.address, self._settings.name, self._habits, is_only_try=True
        )
        return refusal

    async def _connect(self):
        peer = await self._driver.connect((self.address.decode(), self._port), self._settings.connect_seconds)
        peer.timeout_seconds = self._settings.talk_seconds
        return peer


async def converse(server, refusal, mail) -> None:
    """Deliver over the connection that is open, and over others as long as the server makes that necessary."""
    vain = 0
    while mail.pending:
        if refusal is not None:
            mail.give_up(smtp_report.refused(refusal[0], server.address, *refusal[1:]))
        elif await mail.deliver(server.connection):
            vain = 0
        else:
            vain += 1
        await server.connection.quit()
        server.connection.close()
        if mail.pending:
            refusal = await _open_again(server, mail, vain)


async def _open_again(server, mail, vain):
    """Open another connection, or give up; return what Server.open() does."""
    try:
        if vain < MAX_VAIN:
            return await server.open()
    except (TimedOut, OSError):
        mail.give_up(NO_CONNECTION)
    except Died:
        pass
    mail.give_up(smtp_report.died(server.address, False))
    return None
