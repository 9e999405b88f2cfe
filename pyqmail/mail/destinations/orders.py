"""What an engine orders: tuples, the first item one of these words; and what two of them, and an event, carry.

    order                                      what to do
    (RESOLVE, domain)                          look it up; then resolved(), nowhere() or trouble()
    (RESOLVE, domain, (relay, port))           so, where a rule routes: the relay is looked up; without one (empty) the
                                               domain's own hosts are, which listen at that port
    (OPEN, session, opening)                   connect; then waiting(), ready(), refused() or failed(), and in any case
                                               closed()
    (MORE, session, opening)                   another address for a session that connects: beside the one that keeps
                                               it waiting, or after one that failed or refused
    (DELIVER, session, number, recipients)     a transaction; result(), unsent(), dropped() or put_off() for each
    (CLOSE, session)                           say goodbye, or drop it if it still connects; closed() follows
    (REPORT, number, recipients, outcome)      they end with this outcome without having been tried on their own
    (DUE, number, date)                        the earliest time at which something deferred of the message is due
    (DONE, number)                             nothing of the message is left in this channel, no more is to come

number is that of the message.  recipients are [(handle, offset)]: the handle names a recipient to the engine until its
delivery has ended, offset is where its record stands in the channel file.  session is None where deliveries need none:
an agent that connects by itself, and the local channel.  The letter of a REPORT's outcome is final: D, or Z for what
waits for its retry time already.  date is Unix seconds.
"""

RESOLVE, OPEN, MORE, DELIVER, CLOSE = "resolve", "open", "more", "deliver", "close"
REPORT, DUE, DONE = "report", "due", "done"


class Opening:
    """One address to connect to, and how.

    source         the local address, empty: any
    helo           the name to greet with, empty: control/helohost
    host           the name of the MX host, or of the relay
    address        the address to connect to, text; empty if the resolver gave none: the host is looked up then
    connect_seconds, greeting_seconds, reply_seconds   time limits; greeting_seconds begins when it is connected
    hedge_seconds  when to report waiting() if nothing has answered; 0: never
    no_ehlo        greet with HELO at once
    no_pipelining  one command at a time
    """

    __slots__ = (
        *("source", "helo", "host", "address", "port", "connect_seconds", "greeting_seconds", "reply_seconds"),
        *("hedge_seconds", "no_ehlo", "no_pipelining"),
    )

    def __init__(
        self,
        host: bytes,
        address: bytes,
        port: int = 25,
        *,
        source: bytes = b"",
        helo: bytes = b"",
        connect_seconds: float,
        greeting_seconds: float,
        reply_seconds: float,
        hedge_seconds: float = 0.0,
        no_ehlo: bool = False,
        no_pipelining: bool = False,
    ) -> None:
        self.host, self.address, self.port, self.source, self.helo = host, address, port, source, helo
        self.connect_seconds, self.greeting_seconds = connect_seconds, greeting_seconds
        self.reply_seconds = reply_seconds
        self.hedge_seconds, self.no_ehlo, self.no_pipelining = hedge_seconds, no_ehlo, no_pipelining


class Limits:
    """What a server announced at its greeting.  messages and recipients: of a session, of a transaction; 0 if unknown.

    Source: the LIMITS extension, RFC 9422: MAILMAX and RCPTMAX.
    """

    __slots__ = ("messages", "recipients", "has_helo_only", "has_no_pipelining")

    def __init__(
        self, messages: int = 0, recipients: int = 0, has_helo_only: bool = False, has_no_pipelining: bool = False
    ) -> None:
        self.messages, self.recipients = messages, recipients
        self.has_helo_only, self.has_no_pipelining = has_helo_only, has_no_pipelining


NO_LIMITS = Limits()
