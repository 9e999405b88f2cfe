"""Delivering one message by SMTP: a connection that is greeted, and as many transactions as the server wants."""

from pyqmail.base.failure import is_lack
from pyqmail.mail.remote.message_file import MessageFile
from pyqmail.mail.remote.smtp_connection import Died, SmtpConnection
from pyqmail.protocol.smtp.report import died
from pyqmail.system.coroutines import TimedOut


async def open_connection(driver, connect, address: bytes, name: bytes, habits, is_only_try=False):
    """Return (SmtpConnection, None), or (it, what its greet() gave) if the server refuses us.

    connect() is awaited for a peer.  A server that hangs up on EHLO is tried once more, with HELO.
    Raises Died; TimedOut and OSError as connect() does, the first time; what is lacking here, the second time, too.
    """
    connection, refusal = await _greeted(driver, await connect(), address, name, habits, is_only_try)
    if not connection.has_lost_ehlo:
        if connection.is_broken and refusal is None:
            raise Died
        return connection, refusal
    try:
        peer = await connect()
    except (TimedOut, OSError) as error:
        if refusal is None and is_lack(error):
            raise  # the server is not to blame
        peer = None
    if peer is not None:
        again, said = await _greeted(driver, peer, address, name, habits, is_only_try)
        if said is not None or not again.is_broken:
            return again, said
    if refusal is None:
        raise Died
    return connection, refusal


async def _greeted(driver, peer, address, name, habits, is_only_try):
    """Return (SmtpConnection, refusal); it is broken, and closed, if it died."""
    connection = SmtpConnection(driver, peer, address, name, habits, is_only_try)
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


async def deliver_to_all(connection, sender: bytes, recipients: list[bytes], message: MessageFile, report) -> list[int]:
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
        result = await connection.deliver(sender, [recipients[position] for position in some], message)
        again = _report_decided(result, some, report)
        if result.returned:
            return again + rest
        may_be_accepted = result.message[:1] == b"K" or result.message == died(connection.address, True)
        if not connection.is_usable and not may_be_accepted:
            # a fresh connection's refusal: those who have not been tried would meet the same
            for position in rest:
                report(position, None, result.message)
            rest = []
        pending = again + rest
    return pending


def _report_decided(result, positions, report):
    """Report those recipients of a transaction whose lot is known; return the positions of the others."""
    again = []
    for place, position in enumerate(positions):
        if place in result.postponed or place in result.returned:
            again.append(position)
        else:
            report(position, result.recipients[place], result.message)
    return again
