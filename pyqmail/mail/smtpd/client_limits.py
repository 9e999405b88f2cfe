"""How a client of SMTP has to behave: limits from control files and rule variables, and the counters of one session.

ClientLimits is what the administrator says, Conduct what one session has done.  Conduct is pure: it is told of each
reply as it is given (protocol/smtp/server.py calls count()), and of the time where that matters.

What is counted, and what sets it back:

    errors        replies 4xx and 5xx, and junk beyond junklimit; but     an accepted message
                  a message that gets 4xx fails for want of space, or of
                  a queue, and that is our fault
    junk          NOOP, RSET, VRFY, HELP, HELO, EHLO, MAIL again          an accepted message
    recipients    RCPT, however it is answered                            MAIL, the end of the message
    overshoot     replies `452 too many recipients`: the first 1000 of    MAIL, the end of the message
                  a message are no errors, so that a client which has
                  a long list sends the rest in another message
    tarpit        seconds that RCPT waited, MAX_TARPIT_SECONDS at most    MAIL, the end of the message
    invalid       recipients that badrcptto refused                       nothing

What follows:

    errors reach softerrorlimit    this reply and all later ones wait errordelay
    errors reach errorlimit        this reply goes out, then 421, and the session is over
    recipients pass tarpitcount    this reply waits tarpitdelay
    invalid reach brtlimit         the next RCPT is answered with 421, and the session is over

A reply that waits is the last that is given before the session has waited, so that nothing is read meanwhile: of what
the client sends ahead no more is kept than one read gives.

Time.  A session has sessionidle seconds for a message to be accepted, and as many again after it.  With mindatarate
the timeout is that of a request: a command has to be complete within it, and a message has it from its start, and one
second more for each mindatarate bytes that came, but never more than the timeout from now.  Content that comes fast
enough is not cut off by sessionidle: a large message over a slow line could never be sent at all.  Without mindatarate
the timeout is for each read, as in qmail-smtpd.

Source: smtpd_soft_error_limit, smtpd_hard_error_limit, smtpd_junk_command_limit, smtpd_recipient_overshoot_limit,
smtpd_per_request_deadline and smtpd_min_data_rate of Postfix; tarpitcount and brtlimit of the qmail family.
"""

from pyqmail.base.addresses import domain_part, suffixes
from pyqmail.base.controls import MAX_LIMIT
from pyqmail.base.numbers import event_rate, whole_number
from pyqmail.mail.smtpd.policy import TOO_MANY
from pyqmail.protocol.smtp.server import MAIL, MAIL_FIRST, RCPT, TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

NUMBERS = (
    "softerrorlimit", "errordelay", "errorlimit", "junklimit", "maxrcpt", "tarpitcount", "tarpitdelay", "earlytalkers",
    "sessionidle", "mindatarate", "brtlimit",
)  # fmt: skip
AT_ONCE = ("clientconnections", "clientnetwork")  # of a client, over all its sessions: limits_over_time.py
RATES = ("clientrate", "clientmessages", "clientrecipients")
LISTS = ("badhelo", "badrcptto")
CONTROLS = (*NUMBERS, *AT_ONCE, *RATES, *LISTS)
VARIABLES = tuple((name, name.upper().encode()) for name in CONTROLS)

NO_RATE = (0, 60)
EARLY_TALKER = b"554 SMTP protocol violation\r\n"
TOO_MANY_ERRORS = b"421 too many errors (#4.7.0)\r\n"
TOO_MANY_INVALID = b"421 too many invalid addresses, goodbye (#4.3.0)\r\n"
NO_MESSAGE = b"421 no message for too long, goodbye (#4.4.2)\r\n"
BAD_HELO = b"553 sorry, your HELO host name has been denied (#5.7.1)\r\n"
BAD_RECIPIENT = b"553 sorry, your envelope recipient has been denied (#5.7.1)\r\n"

MAX_OVERSHOOT = 1000  # replies 452 of a message that are no errors
MAX_TARPIT_SECONDS = 60  # of a message
MAX_DELAY_SECONDS = 240  # of a reply: clients give up after five minutes.  RFC 5321 section 4.5.3.2
MAX_LINES = 10  # of a session in the log, beside the one about its end
SHOWN_BYTES = 100  # of what a client said, in a line of the log
MAX_NAME_BYTES = 255  # of a host.  RFC 1035 section 2.3.4
_KEPT_BYTES = SHOWN_BYTES + 1  # so that it is seen that there was more
_PATTERN = frozenset(b"*^$?|()\\")


class ClientLimits:
    """What the control files say, or the rule of one client: each number and each list under its control file's name.

    A list is a frozenset of lower-case bytes, a rate a pair (events, seconds).  A number that is left out is 0, a list
    empty: nothing is limited.  is_said: the names of AT_ONCE that hold whatever else is limited, since somebody has
    set them.
    """

    __slots__ = (*CONTROLS, "is_said")
    if TYPE_CHECKING:
        softerrorlimit: int
        errordelay: int
        errorlimit: int
        junklimit: int
        maxrcpt: int
        tarpitcount: int
        tarpitdelay: int
        earlytalkers: int
        sessionidle: int
        mindatarate: int
        brtlimit: int
        clientconnections: int
        clientnetwork: int
        clientrate: tuple[int, int]
        clientmessages: tuple[int, int]
        clientrecipients: tuple[int, int]
        badhelo: frozenset[bytes]
        badrcptto: frozenset[bytes]

    def __init__(self, is_said: "Iterable[str]" = AT_ONCE, **values) -> None:
        self.is_said = frozenset(is_said)
        for name in (*NUMBERS, *AT_ONCE):
            setattr(self, name, values.get(name, 0))
        for name in RATES:
            setattr(self, name, values.get(name) or NO_RATE)
        for name in LISTS:
            setattr(self, name, frozenset(entry.lower() for entry in values.get(name, ())))

    def for_client(self, environ: "Mapping[bytes, bytes]", complain: "Callable[[str], object]") -> "ClientLimits":
        """Return what holds for a client of this environment: what its variables say, otherwise what we say.

        A list's entries are separated by blanks.  complain(text) hears of a value that is no number, which is ignored.
        With RELAYCLIENT the limits of AT_ONCE and RATES hold only if they have a variable.
        """
        given = {name: value for name, variable in VARIABLES if (value := environ.get(variable)) is not None}
        may_relay = b"RELAYCLIENT" in environ
        if not given and not may_relay:
            return self
        values = {name: getattr(self, name) for name in CONTROLS}
        if may_relay:
            values |= {name: 0 for name in (*AT_ONCE, *RATES) if name not in given}
        for name, value in given.items():
            if name in LISTS:
                values[name] = value.split()
                continue
            try:
                values[name] = event_rate(value, MAX_LIMIT) if name in RATES else whole_number(value, MAX_LIMIT)
            except ValueError:
                what = "rate" if name in RATES else f"number up to {MAX_LIMIT}"
                complain(f"{name.upper()}={shown(value)} is no {what}, so control/{name} counts")
        return ClientLimits(is_said=self.is_said | given.keys() & set(AT_ONCE), **values)

    def refuses_early_talker(self, environ: "Mapping[bytes, bytes]") -> bool:
        """Return whether this client is refused for having spoken before its greeting: pytcpserver --greet-delay."""
        return self.earlytalkers > 0 and environ.get(b"EARLYTALKER") == b"1" and b"RELAYCLIENT" not in environ

    def is_bad_helo(self, helo: bytes | None) -> bool:
        """Return whether badhelo has the name, or an end of it that starts with a dot.  None: none was given."""
        if not self.badhelo or helo is None:
            return False
        return any(end in self.badhelo for end in suffixes(helo[-MAX_NAME_BYTES:].lower()))

    def is_bad_recipient(self, recipient: bytes) -> bool:
        """Return whether badrcptto has the address, or @ with its domain part."""
        if not self.badrcptto:
            return False
        address = recipient.lower()
        return address in self.badrcptto or (b"@" in address and b"@" + domain_part(address) in self.badrcptto)


def read_client_limits(controls) -> ClientLimits:
    """Return what the control files say now.  controls is system.controls.Controls.  Raises OSError."""
    values = {name: controls.get(name) for name in CONTROLS}
    for name in LISTS:
        odd = next((entry for entry in values[name] if _is_pattern(entry)), None)
        if odd is not None:
            controls.complain(f"control/{name}: {shown(odd)} is read as it stands: there are no patterns")
    for name in RATES:
        values[name] = values[name] or NO_RATE
    return ClientLimits(is_said=[name for name in AT_ONCE if controls.has_file(name)], **values)


def _is_pattern(entry):
    """Return whether an entry looks like one of the regular expressions or wildcards of patched qmails."""
    is_class = b"[" in entry.removeprefix(b"[").replace(b"@[", b"@")
    return is_class or entry.startswith(b"!") or not _PATTERN.isdisjoint(entry)


def shown(said: bytes) -> str:
    """Return what a client said, or the start of it, as it stands in the log: what is not printable is escaped."""
    text = ascii(said[:SHOWN_BYTES].decode("latin-1"))[1:-1]
    return text + "..." if len(said) > SHOWN_BYTES else text


class Conduct:
    """What one session has done.  timeout_seconds: that of timeoutsmtpd.

    farewell is the reply that ends the session once count() has returned True, b"" while there is none.  refused is
    the start of the command that was refused last.  delay_seconds: see take_delay().
    """

    __slots__ = (
        *("limits", "errors", "farewell", "refused", "delay_seconds", "_timeout", "_junk", "_lines"),
        *("_recipients", "_overshoot", "_tarpit", "_invalid", "_idle_until", "_until"),
    )

    def __init__(self, limits: ClientLimits, timeout_seconds: float) -> None:
        self.limits, self._timeout = limits, timeout_seconds
        self.errors = self._junk = self._invalid = self._lines = 0
        self.farewell = self.refused = b""
        self.delay_seconds: float = 0
        # None: from the next look at the time on
        self._idle_until: float | None = None
        self._until: float | None = None
        self._begin_message()

    def count(self, verb: bytes | None, reply: bytes, said: bytes, is_junk: bool = False) -> bool:
        """Count a reply; returns whether it ends what is answered together: it has to wait, or is the last.

        verb: of the command, None for a message.  said: what stood behind it.  is_junk: the command brings no mail.
        """
        limits = self.limits
        is_error = reply[0] not in b"23"
        if verb is None:
            self._begin_message()
            is_error = is_error and reply[0] not in b"4"  # that is for want of something here
            if reply[0] in b"23":
                self.errors = self._junk = 0
                self._idle_until = None
        elif verb == RCPT and reply != MAIL_FIRST:
            is_error = self._count_recipient(reply) and is_error
        elif verb == MAIL and not is_error:
            self._begin_message()
        if is_junk:
            self._junk += 1
            is_error = is_error or 0 < limits.junklimit < self._junk
        if is_error:
            self.errors += 1
            self.refused = b"%b %b" % ((verb or b"DATA")[:_KEPT_BYTES], said[:_KEPT_BYTES]) if said else verb or b"DATA"
            self.refused = self.refused[:_KEPT_BYTES]
        if self.errors:
            if 0 < limits.softerrorlimit <= self.errors:
                self.delay_seconds += limits.errordelay
            if 0 < limits.errorlimit <= self.errors:
                self.farewell = TOO_MANY_ERRORS
                return True
        return self.delay_seconds > 0

    def _begin_message(self) -> None:
        self._recipients = self._overshoot = 0
        self._tarpit: float = 0

    def _count_recipient(self, reply: bytes) -> bool:
        """Count an answer to RCPT; returns whether it is an error if it is a refusal."""
        limits = self.limits
        self._recipients += 1
        if 0 < limits.tarpitcount < self._recipients:
            seconds = min(limits.tarpitdelay, MAX_TARPIT_SECONDS - self._tarpit)
            self._tarpit += seconds
            self.delay_seconds += seconds
        if reply != TOO_MANY:
            return True
        self._overshoot += 1
        return self._overshoot > MAX_OVERSHOOT

    def add_invalid(self) -> None:
        """Count a recipient that badrcptto refused."""
        self._invalid += 1

    @property
    def has_too_many_invalid(self) -> bool:
        """Whether the next RCPT ends the session."""
        return 0 < self.limits.brtlimit <= self._invalid

    @property
    def is_first_too_many(self) -> bool:
        """Whether no recipient of this message has been one too many before."""
        return self._overshoot == 0

    def take_delay(self) -> float:
        """Return how many seconds the replies that were counted have to wait, and forget it."""
        seconds, self.delay_seconds = self.delay_seconds, 0
        return min(seconds, MAX_DELAY_SECONDS)

    def take_line(self) -> bool:
        """Return whether this session may write one line more into the log."""
        self._lines += 1
        return self._lines <= MAX_LINES

    # time

    def end_request(self) -> None:
        """All that was said has been answered: what comes from now on is another request."""
        self._until = None

    def add_content(self, size: int, now: float) -> None:
        """Give a message its time for so many bytes that came."""
        if self._until is not None:
            self._until = min(self._until + size / self.limits.mindatarate, now + self._timeout)

    def time_left(self, now: float, is_content: bool) -> tuple[float, bytes]:
        """Return how many seconds may pass until more comes, and the reply that ends the session after them.

        The seconds may be 0 or less.  is_content: what comes is content of a message.
        """
        limits, seconds = self.limits, self._timeout
        if limits.mindatarate:
            if self._until is None:
                self._until = now + seconds
            seconds = self._until - now
        if limits.sessionidle and not (is_content and limits.mindatarate):
            if self._idle_until is None:
                self._idle_until = now + limits.sessionidle
            if self._idle_until - now < seconds:
                return self._idle_until - now, NO_MESSAGE
        return seconds, TIMEOUT
