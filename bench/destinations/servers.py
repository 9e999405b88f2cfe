"""Models of SMTP servers: what a connection is answered, what a transaction takes, and what the server itself counts.

A Server stands behind one address.  Its limits are objects which several servers may share: all hosts of a site, all
sites of an organisation.  Connections know nothing of our engine.
"""

import errno

from pyqmail.mail.destinations.outcome import (
    CONNECT,
    DATA,
    DIALOGUE,
    DOUBTFUL,
    GREETING,
    HERE,
    MESSAGE,
    RECIPIENTS,
    SENDER,
)
from pyqmail.mail.remote.recipient_answers import is_too_many

RATE_REPLY = b"421 4.7.0 temporarily rate limited due to ip reputation"
GREETS, REFUSES, RESETS, SILENT, MUTE = "greets", "refuses", "resets", "silent", "mute"
NOT_HERE = "not here"  # no server answers: the session has no such address to connect from


class SessionLimit:
    """How many sessions at once: `limit` may be changed as it runs.  up, peak and refusals are the server's count."""

    def __init__(self, limit: int | None = None, reply: bytes = b"421 too many connections"):
        self.limit, self.reply, self.up, self.peak, self.refusals, self.sessions = limit, reply, 0, 0, 0, 0
        self.refused_at, self.peaks_when_refused = [], []

    def enter(self, now) -> bytes | None:
        """Count a new session in; or return the reply that refuses it."""
        if self.limit is not None and self.up >= self.limit:
            self.refusals += 1
            self.refused_at.append(now)
            return self.reply
        self.up += 1
        self.sessions += 1
        self.peak = max(self.peak, self.up)
        return None

    def leave(self):
        self.up -= 1


class RateBan:
    """Messages a minute, and a ban for those who exceed it; each try during the ban makes it a minute longer.

    tries_in_ban does not count what was on its way when the ban began.
    """

    def __init__(self, per_minute: int, ban_seconds: float):
        self.per_minute, self.ban_seconds = per_minute, ban_seconds
        self.bans, self.tries_in_ban, self.banned_until, self._times, self._first = 0, 0, 0.0, [], 0
        self._banned_at = 0.0

    def is_banned(self, now) -> bool:
        if now >= self.banned_until:
            return False
        if now > self._banned_at + 1:
            self.tries_in_ban += 1
            self.banned_until += 60
        return True

    def accepts(self, now) -> bool:
        """Return whether one more message may pass; if not, a ban begins."""
        while self._first < len(self._times) and self._times[self._first] <= now - 60:
            self._first += 1
        if len(self._times) - self._first >= self.per_minute:
            self.bans += 1
            self._banned_at, self.banned_until = now, now + self.ban_seconds
            return False
        self._times.append(now)
        return True


class Greylist:
    """Defers a triple that it has not known for `seconds`."""

    def __init__(self, seconds: float):
        self.seconds, self.first_seen, self.tries = seconds, {}, {}

    def accepts(self, triple, now) -> bool:
        self.tries[triple] = self.tries.get(triple, 0) + 1
        return now - self.first_seen.setdefault(triple, now) >= self.seconds


class Server:
    """One address.  Everything may be changed as it runs.

    kind                how a connection is answered
    connect_seconds     until TCP has connected and the server has greeted
    seconds             a transaction takes; or a function that returns them
    limits              SessionLimits, all of which count a connection
    most_messages       of a connection; then `full_reply` at `full_stage`, or it hangs up with it (is_full_close)
    most_recipients     of a transaction; what is beyond is refused with beyond_reply
    regions             a transaction may have recipients of one region only, by their number; likewise
    disliked            source -> what refuses its connections
    recipient_reply, message_reply   (sender, recipient) -> what refuses it at RCPT, or after the message; or None
    """

    def __init__(self, seconds=0.5, *, kind=GREETS, connect_seconds=0.02, limits=(), rate=None, greylist=None, **other):
        self.seconds, self.kind, self.connect_seconds, self.limits = seconds, kind, connect_seconds, list(limits)
        self.rate, self.greylist = rate, greylist
        self.most_messages, self.full_reply, self.full_stage, self.is_full_close = None, b"421 enough", SENDER, True
        self.most_recipients, self.hangs_up = None, False
        self.regions, self.beyond_reply = 0, b"452 4.5.3 too many recipients"
        self.transactions = []  # how many recipients each parcel had
        self.refusal = b"421 service not available"
        self.recipient_reply = self.message_reply = None  # (sender, recipient) -> a reply that refuses, or None
        self.disliked = {}
        self.announced = (0, 0)  # LIMITS of EHLO: messages, recipients
        self.connections, self.greeted, self.accepted, self.accepted_at = 0, 0, 0, []
        for name, value in other.items():
            if not hasattr(self, name):
                raise TypeError(name)
            setattr(self, name, value)

    def connect(self, now, source=b"") -> "Answer":
        """Return how a connection is answered; after GREETS a Connection stands in it, and it counts until closed."""
        self.connections += 1
        if source in self.disliked:
            return Answer(REFUSES, self.connect_seconds, self.disliked[source])
        if self.kind != GREETS:
            return Answer(self.kind, self.connect_seconds, self.refusal)
        if self.rate and self.rate.is_banned(now):
            return Answer(REFUSES, self.connect_seconds, RATE_REPLY)
        entered = []
        for limit in self.limits:
            reply = limit.enter(now)
            if reply:
                for other in entered:
                    other.leave()
                return Answer(REFUSES, self.connect_seconds, reply)
            entered.append(limit)
        self.greeted += 1
        return Answer(GREETS, self.connect_seconds, b"", Connection(self))


class Answer:
    """seconds: until the server answers.  reply: what it says if it refuses."""

    def __init__(self, kind, seconds, reply=b"", connection=None):
        self.kind, self.seconds, self.reply, self.connection = kind, seconds, reply, connection


class Transaction:
    """What came of a parcel: results [(recipient, stage, reply)]; a reply that begins with 2 accepts.

    is_untouched: the server refused before it looked at anything of it.  closing: what it said as it hung up, b"" for
    nothing; None: it stays.  closing_stage belongs to it.  accepted: see Engine.result().
    """

    def __init__(self, seconds, results=(), *, is_untouched=False, closing=None, closing_stage=DIALOGUE, accepted=0):
        self.seconds, self.results, self.is_untouched = seconds, list(results), is_untouched
        self.closing, self.closing_stage, self.accepted = closing, closing_stage, accepted


class Connection:
    """One that was greeted.  carried: how many messages it has taken."""

    def __init__(self, server: Server):
        self.server, self.carried, self.is_open = server, 0, True

    def close(self):
        if self.is_open:
            self.is_open = False
            for limit in self.server.limits:
                limit.leave()

    def transact(self, sender, number, recipients, now) -> Transaction:
        """Take a parcel: recipients are keys of the caller's."""
        server = self.server
        server.transactions.append(len(recipients))
        if server.hangs_up:
            return Transaction(0.01, is_untouched=True, closing=b"")
        if server.most_messages is not None and self.carried >= server.most_messages:
            return self._full(recipients)
        if server.rate:
            return self._at_a_rate(recipients, now)
        results, accepted, rounds, left = [], 0, 0, list(recipients)
        while left:
            taken, later = [], []
            for recipient in left:
                if self._is_beyond(recipient, taken):
                    later.append(recipient)
                    continue
                reply = self._recipient_reply(sender, number, recipient, now)
                taken += [recipient] if reply is None else []
                stage = RECIPIENTS if reply else MESSAGE
                if not reply and server.message_reply:
                    reply = server.message_reply(sender, recipient)
                results.append((recipient, stage, reply or b"250 ok"))
            rounds, accepted, left = rounds + 1, len(taken) if later else accepted, later
            if later and not is_too_many(int(server.beyond_reply[:3]), server.beyond_reply):
                results += [(recipient, RECIPIENTS, server.beyond_reply) for recipient in later]
                accepted, left = 0, []
        seconds = server.seconds() if callable(server.seconds) else server.seconds
        good = sum(reply == b"250 ok" for _, _, reply in results)
        self.carried += rounds if good else 0
        self._count(good, now + seconds * rounds)
        return Transaction(seconds * rounds, results, accepted=accepted)

    def _is_beyond(self, recipient, taken) -> bool:
        """Return whether a recipient is refused because of those that the transaction has taken."""
        server = self.server
        if server.most_recipients and len(taken) >= server.most_recipients:
            return True
        return bool(server.regions and taken and taken[0][1] % server.regions != recipient[1] % server.regions)

    def _recipient_reply(self, sender, number, recipient, now):
        server = self.server
        if server.greylist and not server.greylist.accepts((sender, number, recipient), now):
            return b"451 4.7.1 greylisted, try again later"
        return server.recipient_reply(sender, recipient) if server.recipient_reply else None

    def _full(self, recipients) -> Transaction:
        """The connection has carried as much as it may."""
        server = self.server
        if server.is_full_close:
            return Transaction(0.01, is_untouched=True, closing=server.full_reply, closing_stage=server.full_stage)
        return Transaction(0.01, [(recipient, server.full_stage, server.full_reply) for recipient in recipients])

    def _at_a_rate(self, recipients, now) -> Transaction:
        server = self.server
        seconds = server.seconds() if callable(server.seconds) else server.seconds
        if server.rate.is_banned(now) or not server.rate.accepts(now):
            results = [(recipient, MESSAGE, RATE_REPLY) for recipient in recipients]
            return Transaction(seconds, results, closing=RATE_REPLY, closing_stage=MESSAGE)
        self.carried += 1
        self._count(len(recipients), now + seconds)
        return Transaction(seconds, [(recipient, MESSAGE, b"250 ok") for recipient in recipients])

    def _count(self, messages, now):
        if messages:
            self.server.accepted += messages
            self.server.accepted_at.append(now)


ERRORS = {
    NOT_HERE: (HERE, errno.EADDRNOTAVAIL),
    RESETS: (CONNECT, errno.ECONNREFUSED),
    SILENT: (CONNECT, errno.ETIMEDOUT),
    MUTE: (DIALOGUE, errno.ETIMEDOUT),
}
STAGES = (CONNECT, GREETING, SENDER, RECIPIENTS, DATA, MESSAGE, DIALOGUE, DOUBTFUL)
