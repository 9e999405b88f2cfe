"""What a staged server does: one class for each model, its options with their defaults as attributes.

A model belongs to one server and keeps what it must remember.  Its methods are asked at each step of a session and
return None for the usual answer, a reply as bytes without its line end, HANG_UP, or (seconds, one of these) to be late.
A reply 421 hangs up, too.
"""

HANG_UP = b""
FOREVER = 1e9  # seconds


class Model:
    """Takes everything, each message after some seconds.  limits: what LIMITS says in EHLO, for example MAILMAX=5."""

    seconds = 0.0
    limits = ""

    def __init__(self, clock) -> None:
        self.clock = clock

    def greeting(self, session):
        return None

    def mail(self, session):
        return None

    def recipient(self, session, address):
        return None

    def data(self, session):
        return None

    def content(self, session):
        return (self.seconds, None) if self.seconds else None


class SessionLimit(Model):
    """Takes so many sessions at once; others are told so, and hung up on."""

    limit = 5
    reply = "421 4.7.0 too many connections"

    def greeting(self, session):
        return self.reply.encode() if session.server.now > self.limit else None


class Rate(Model):
    """Takes so many messages in a minute; whoever sends more is banned, and each try during the ban makes it longer."""

    messages = 200
    minute = 60.0
    ban = 600.0
    reply = "421 4.7.28 unusual rate of mail from your address"

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.taken: list[float] = []
        self.banned_until, self.bans, self.tries = 0.0, 0, 0

    def greeting(self, session):
        if self.clock() >= self.banned_until:
            return None
        self.tries += 1
        return self._banned()

    def mail(self, session):
        now = self.clock()
        self.taken = [when for when in self.taken if when > now - self.minute]
        if now < self.banned_until:
            return self._banned()
        if len(self.taken) < self.messages:
            return None
        self.bans += 1
        return self._banned()

    def content(self, session):
        self.taken.append(self.clock())
        return super().content(session)

    def _banned(self):
        self.banned_until = self.clock() + self.ban
        return self.reply.encode()


class Greylist(Model):
    """Puts off a sender, a recipient and a network that it does not know, until some seconds are over."""

    wait = 300.0
    reply = "451 4.7.1 greylisted, please try again later"

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.seen: dict[tuple[str, str, str], float] = {}
        self.deferred = 0

    def recipient(self, session, address):
        key = session.client.rpartition(".")[0], session.sender, address
        if self.clock() - self.seen.setdefault(key, self.clock()) >= self.wait:
            return None
        self.deferred += 1
        return self.reply.encode()


class Silent(Model):
    """Accepts, and never says a word."""

    def greeting(self, session):
        return FOREVER, None


class Refusing(Model):
    """Refuses in place of a greeting."""

    reply = "554 5.7.1 no mail from you"

    def greeting(self, session):
        return self.reply.encode()


class SlowGreeter(Model):
    """Greets after some seconds."""

    wait = 20.0

    def greeting(self, session):
        return self.wait, None


class ConnectionLimit(Model):
    """Takes so many messages over a connection, which it keeps open; `at` mail or data."""

    messages = 10
    at = "mail"
    reply = "452 4.3.2 too many messages over this connection"

    def mail(self, session):
        return self._limited(session, "mail")

    def data(self, session):
        return self._limited(session, "data")

    def _limited(self, session, at):
        return self.reply.encode() if at == self.at and session.messages >= self.messages else None


class TransactionLimit(Model):
    """Takes so many recipients of a message."""

    recipients = 5
    reply = "452 4.5.3 too many recipients"

    def recipient(self, session, address):
        return self.reply.encode() if len(session.recipients) >= self.recipients else None


class GreetsAndCloses(Model):
    """Greets, takes EHLO, and is gone at MAIL."""

    def mail(self, session):
        return HANG_UP


MODELS = {
    "takes-all": Model,
    "session-limit": SessionLimit,
    "rate": Rate,
    "greylist": Greylist,
    "silent": Silent,
    "refusing": Refusing,
    "slow-greeter": SlowGreeter,
    "connection-limit": ConnectionLimit,
    "transaction-limit": TransactionLimit,
    "greets-and-closes": GreetsAndCloses,
}


def set_option(model: Model, name: str, text: str) -> None:
    """Give a model's option another value, of its own type.  Raises LookupError, ValueError."""
    default = getattr(type(model), name, None)
    if name.startswith("_") or not isinstance(default, int | float | str):
        raise LookupError(name)
    setattr(model, name, type(default)(text))


def counts_of(model: Model) -> dict[str, int]:
    """Return what a model counts besides its server: bans and tries during them, deferred recipients."""
    return {name: value for name, value in vars(model).items() if isinstance(value, int)}
