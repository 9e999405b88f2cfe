"""Hosts tried until one takes our mail, and what a try means that failed.

The session processes and pyremote share this.  They differ in what ends the search: pyremote delivers to the first host
that lets it connect, whatever that says, as qmail-remote does; a session is told each address by the queue manager.
"""

import errno
import time

from pyqmail.base.failure import is_lack
from pyqmail.base.literals import literal_address
from pyqmail.mail.remote.habits import KnownServers
from pyqmail.mail.remote.smtp_connection import Died, SmtpConnection
from pyqmail.mail.routing.exchangers import NO_CONNECTION
from pyqmail.protocol.smtp.report import GREETING, NAME, NO_RESOURCES, died, refused
from pyqmail.system.coroutines import TimedOut
from pyqmail.system.driver import CannotBind

# stages of a try beside GREETING and NAME, in which the server refuses
CONNECT, DIALOGUE, HERE = "connect", "dialogue", "here"
MAX_SECONDS = 2_000_000  # poll() takes no more


class ClientSettings:
    """How to converse.

    name       what to greet with, source the address to connect from, None for any
    *_seconds  to connect, from then on until the greeting, for each other reply
    no_ehlo, no_pipelining   the server is known not to bear these
    """

    __slots__ = ("name", "source", "connect_seconds", "greeting_seconds", "talk_seconds", "no_ehlo", "no_pipelining")

    def __init__(self, name: bytes, connect_seconds: float, greeting_seconds: float, talk_seconds: float) -> None:
        self.name, self.source, self.no_ehlo, self.no_pipelining = name, None, False, False
        self.connect_seconds, self.greeting_seconds, self.talk_seconds = connect_seconds, greeting_seconds, talk_seconds


def read_settings(controls) -> ClientSettings:
    """Return what control/ says.  Raises OSError; LookupError if there is no name to greet with."""
    talk_seconds = min(controls.get("timeoutremote"), MAX_SECONDS)
    return ClientSettings(
        read_name(controls), min(controls.get("timeoutconnect"), MAX_SECONDS), talk_seconds, talk_seconds
    )


def read_name(controls) -> bytes:
    """Return the name to greet with.  Raises OSError; LookupError if there is none."""
    name = controls.get("helohost")
    if name is None:
        raise LookupError("me")
    return name


class HostTry:
    """What came of one host.

    connection   an SmtpConnection that has greeted; None if the try failed, and then:
    stage        CONNECT, DIALOGUE (the connection was lost), GREETING or NAME (the server refused), HERE (something is
                 lacking here, or the source is no address of ours: the host is not to blame)
    code         at GREETING and NAME that of the server's reply, 0 if it gave none; else the errno, 0 if there is none:
                 ETIMEDOUT at DIALOGUE if the server was silent, EADDRINUSE at HERE if no port is left to connect from
    report       what to report, a letter and text
    refusing     the SmtpConnection over which the server refused, if it is still there: to be parted from, and closed
    """

    __slots__ = ("host", "address", "port", "connection", "stage", "code", "report", "refusing")

    def __init__(self, host: bytes, address: bytes, port: int, connection=None, stage="", code=0, report=b"") -> None:
        self.host, self.address, self.port, self.connection = host, address, port, connection
        self.stage, self.code, self.report, self.refusing = stage, code, report, None

    @property
    def was_refused(self) -> bool:
        """True if the server answered, and did not want us."""
        return self.stage in (GREETING, NAME)


class HostTries:
    """Opens connections.  driver is the one that waits (system/driver.py).

    servers are the KnownServers.  timeouts are the addresses at which connecting timed out lately (tcpto.Timeouts);
    without them every address is tried.  is_only_try: nobody comes back later to use what servers taught.
    """

    def __init__(self, driver, servers: KnownServers, timeouts=None, is_only_try=False) -> None:
        self._driver, self._servers, self._timeouts, self._is_only_try = driver, servers, timeouts, is_only_try

    async def open_one_of(self, hosts, settings: ClientSettings, is_end=lambda tried: False) -> HostTry | None:
        """Try hosts, [(host, address, port)], in order; return the HostTry that has a connection.

        If none has, return the first failure, but what a server said before what none did; None if no address was
        worth a try.  A failure for which is_end(HostTry) is True is returned at once.
        """
        worst = None
        for host, address, port in hosts:
            if self._timeouts is not None and self._timeouts.is_dead(address, int(time.time())):
                continue
            tried = await self.open(host, address, port, settings)
            self._note_timeout(tried)
            if tried.connection is not None or is_end(tried):
                return tried
            if worst is None or (tried.was_refused and not worst.was_refused):
                worst = tried
        return worst

    async def open(self, host: bytes, address: bytes, port: int, settings: ClientSettings) -> HostTry:
        """Connect to one host and exchange greetings; one that refuses is left at once."""
        tried = await self.open_if_welcome(host, address, port, settings)
        if tried.refusing is not None:
            await tried.refusing.quit()
            tried.refusing.close()
            tried.refusing = None
        return tried

    async def open_if_welcome(
        self, host: bytes, address: bytes, port: int, settings: ClientSettings, greeted=lambda: None
    ) -> HostTry:
        """As open(), but the caller parts from one that refuses.

        greeted() is called once the server has sent its greeting, and before it is told our name.
        """
        place = host, address, port
        try:
            connection, refusal = await self._connect(address, port, settings, greeted)
        except Died as end:
            return HostTry(*place, None, DIALOGUE, errno.ETIMEDOUT if end.is_silent else 0, died(address, False))
        except TimedOut:
            return HostTry(*place, None, CONNECT, errno.ETIMEDOUT, NO_CONNECTION)
        except OSError as error:
            stage, code = _stage_of(error, address)
            return HostTry(*place, None, stage, code, NO_RESOURCES if is_lack(error) else NO_CONNECTION)
        if refusal is None:
            return HostTry(*place, connection)
        tried = HostTry(*place, None, refusal[0], refusal[1], refused(refusal[0], address, *refusal[1:]))
        tried.refusing = connection
        return tried

    async def _connect(self, address, port, settings, greeted):
        """Return what open_connection() does.  Raises as it does."""
        if literal_address(address) is None:
            raise OSError(errno.EINVAL, "not an address")
        habits = self._servers.habits((address, port))

        async def connect():
            peer = await self._driver.connect((address.decode(), port), settings.connect_seconds, settings.source)
            peer.timeout_seconds = settings.greeting_seconds
            how = settings.name, habits, self._is_only_try, settings.no_ehlo, settings.no_pipelining
            return SmtpConnection(self._driver, peer, address, *how)

        def hear_greeting(connection):
            connection.peer.timeout_seconds = settings.talk_seconds
            greeted()

        return await open_connection(connect, hear_greeting)

    def _note_timeout(self, tried):
        if self._timeouts is not None:
            has_timed_out = (tried.stage, tried.code) == (CONNECT, errno.ETIMEDOUT)
            self._timeouts.note(tried.address, has_timed_out, int(time.time()))


def _stage_of(error, address):
    """Return (stage, code) of a system error in connecting to an address."""
    if is_lack(error) or isinstance(error, CannotBind):
        return HERE, error.errno
    if error.errno == errno.EADDRNOTAVAIL and b":" not in address:
        return HERE, errno.EADDRINUSE  # no port is left; of an IPv6 address, we may have none that reaches it
    return CONNECT, error.errno or 0


async def open_connection(connect, greeted=lambda connection: None):
    """Return (SmtpConnection, None), or (it, what its greet() gave) if the server refuses us.

    connect() is awaited for an SmtpConnection.  A server that hangs up on EHLO is tried once more: what it was is noted
    in its Habits, so that it gets HELO.  greeted is that of greet().
    Raises Died; TimedOut and OSError as connect() does, the first time; what is lacking here, the second time, too.
    """
    connection, refusal = await _greeted(await connect(), greeted)
    if not connection.has_lost_ehlo:
        if connection.is_broken and refusal is None:
            raise Died(connection.is_silent)
        return connection, refusal
    try:
        again = await connect()
    except (TimedOut, OSError) as error:
        if refusal is None and is_lack(error):
            raise  # the server is not to blame
        again = None
    if again is not None:
        again, said = await _greeted(again, greeted)
        if said is not None or not again.is_broken:
            return again, said
    if refusal is None:
        raise Died
    return connection, refusal


async def _greeted(connection, greeted):
    """Return (connection, refusal); it is broken, and closed, if it died."""
    try:
        refusal = await connection.greet(greeted)
    except Died:
        refusal = None
    except BaseException:
        connection.close()
        raise
    if connection.is_broken:
        connection.close()
    return connection, refusal
