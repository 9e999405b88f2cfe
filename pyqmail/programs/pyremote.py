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

from pyqmail.base.options import Rest
from pyqmail.mail.remote.habits import KnownServers
from pyqmail.mail.remote.host_tries import HostTries, read_settings
from pyqmail.mail.remote.smtp_delivery import BLOCK, MessageFile, OneMessage, deliver_to_first
from pyqmail.mail.remote.tcpto import Timeouts
from pyqmail.mail.routing.exchangers import Unroutable
from pyqmail.mail.routing.hosts_now import find_hosts
from pyqmail.protocol.smtp import report as smtp_report
from pyqmail.system.command_line import Program
from pyqmail.system.controls import Controls
from pyqmail.system.driver import BlockingDriver, drive
from pyqmail.system.home import find_home
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
        controls = Controls(home.control, PROGRAM.controls)
        settings, routes = read_settings(controls), controls.get("smtproutes")
    except (OSError, LookupError):
        return [smtp_report.NO_CONTROLS]
    try:
        hosts = find_hosts(words[0], routes, environ)
    except Unroutable as reason:
        return [reason.report]
    except OSError:
        return [smtp_report.NO_RESOURCES]
    try:
        message = open_message(len(words) > 3)
    except OSError:
        return [smtp_report.UNREADABLE]
    timeouts = Timeouts(f"{home.queue}/lock/tcpto", os.getpid())
    tries = HostTries(BlockingDriver(), KnownServers(), timeouts, is_only_try=True)
    return drive(deliver_to_first(tries, hosts, settings, OneMessage(words[1], words[2:], message)))


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
