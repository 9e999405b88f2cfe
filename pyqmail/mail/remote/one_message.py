"""One message for recipients of one host, delivered from beginning to end: what qmail-remote does.

The hosts are tried in order until one lets us connect.  Over that one go all recipients, in as many transactions and
over as many connections as the server makes necessary: nobody comes back later for what was left.
"""

from pyqmail.mail.remote.host_tries import CONNECT, HostTries
from pyqmail.mail.remote.message_file import MessageFile
from pyqmail.mail.remote.smtp_delivery import deliver_to_all
from pyqmail.mail.routing.exchangers import NO_CONNECTION
from pyqmail.protocol.smtp import report as smtp_report

MAX_VAIN = 3  # connections in a row that bring no recipient further


class OneMessage:
    """A message for several recipients, and what is known of each: its record, and that of its message.

    Both are qmail-remote's; the first is None for one that the server never answered for.
    """

    def __init__(self, sender: bytes, recipients: list[bytes], message: MessageFile) -> None:
        self.sender, self.recipients, self.message = sender, recipients, message
        self.pending = list(range(len(recipients)))
        self._known: dict[int, tuple] = {}

    async def deliver_pending(self, connection) -> bool:
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


async def deliver_to_first(tries: HostTries, hosts, settings, mail: OneMessage) -> list[bytes]:
    """Deliver to the first of hosts, [(host, address, port)], that lets us connect; return the records."""
    tried = await tries.open_one_of(hosts, settings, is_end=_lets_us_connect)
    if tried is None or not _lets_us_connect(tried):
        return [NO_CONNECTION]
    await _converse(tries, tried, settings, mail)
    return mail.records()


def _lets_us_connect(tried):
    return tried.stage != CONNECT


async def _converse(tries, tried, settings, mail):
    """Deliver over the connection that is open, and over others as long as the server makes that necessary."""
    vain = 0
    while mail.pending:
        if tried.connection is None:
            mail.give_up(tried.report if _lets_us_connect(tried) else NO_CONNECTION)
            return
        vain = 0 if await mail.deliver_pending(tried.connection) else vain + 1
        await tried.connection.quit()
        tried.connection.close()
        if mail.pending and vain >= MAX_VAIN:
            mail.give_up(smtp_report.died(tried.address, False))
        elif mail.pending:
            tried = await tries.open(tried.host, tried.address, tried.port, settings)
