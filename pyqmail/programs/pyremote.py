"""Deliver a message to one host by SMTP.

Reads the message from descriptor 0 and sends it to HOST's mail exchangers, or to the relay that
control/smtproutes names, for all RECIPIENTs.  Says on descriptor 1 how it went: for each recipient `r`
(accepted), `h` (refused for good) or `s` (refused for now), then for the message `K`, `Z` or `D`; each with a
text and a NUL.  The message must end with a newline.  A CR that no newline follows becomes a space.

Addresses at which connecting timed out are remembered in queue/lock/tcpto and not tried for an hour.
"""

import os
import time

from pyqmail.base.options import Program, Rest
from pyqmail.mail.remote.exchangers import (
    NO_CONNECTION,
    NO_EXCHANGER,
    SOFT_DNS,
    Unroutable,
    choose,
    no_host,
    plan_for,
    settle_literal,
)
from pyqmail.mail.remote.tcpto import Timeouts
from pyqmail.mail.remote.transmission import Died, Message, Transmission
from pyqmail.protocol import resolve_wire, smtp_report
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
    exits={0: "always: descriptor 1 tells how it went"},
    controls=["me", "helohost", "smtproutes", "timeoutconnect", "timeoutremote"],
    environment=["PYQMAIL_HOME", "PYQMAIL_DNS", "DNSCACHEIP"],
    see=["pyrspawn(8)", "pyresolve(8)"],
)

LONGEST_SECONDS = 2_000_000  # poll() takes no more


class Settings:
    """What control/ says.  Raises OSError."""

    def __init__(self, controls) -> None:
        self.connect_seconds = min(controls.get("timeoutconnect"), LONGEST_SECONDS)
        self.talk_seconds = min(controls.get("timeoutremote"), LONGEST_SECONDS)
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
        settings = Settings(Controls(home.control))
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
    return drive(transmit(BlockingDriver(), hosts, settings, timeouts, words[1], words[2:]))


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


async def transmit(driver, hosts, settings, timeouts, sender, recipients) -> list[bytes]:
    """Deliver to the first of hosts that lets us connect; return the records."""
    for _, address, port in hosts:
        if timeouts.is_dead(address, int(time.time())):
            continue
        try:
            peer = await driver.connect((address.decode(), port), settings.connect_seconds)
        except TimedOut:
            timeouts.note(address, True, int(time.time()))
            continue
        except OSError as error:
            timeouts.note(address, isinstance(error, TimeoutError), int(time.time()))
            continue
        timeouts.note(address, False, int(time.time()))
        peer.timeout_seconds = settings.talk_seconds
        return await converse(driver, peer, address, settings.name, sender, recipients)
    return [NO_CONNECTION]


async def converse(driver, peer, address, name, sender, recipients) -> list[bytes]:
    """Make the one transaction of this connection; return the records."""
    connection = Transmission(driver, peer, address, name)
    try:
        refusal = await connection.greet()
    except Died:
        return [smtp_report.died(address, False)]
    if refusal is not None:
        await connection.quit()
        return [smtp_report.refused(refusal[0], address, *refusal[1:])]
    outcome = await connection.deliver(sender, recipients, Message(0))
    await connection.quit()
    answered = [record for record in outcome.recipients if record is not None]
    return [*answered, outcome.message]
