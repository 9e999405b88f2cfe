"""Hosts tried one after the other until one takes our mail, and what a try means that failed.

The session processes and pyremote share this.  They differ in what ends the search: pyremote delivers to the first host
that lets it connect, whatever that says, as qmail-remote does; a session goes on to the next host after each failure.
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

CONNECT, DIALOGUE = "connect", "dialogue"  # stages of a try beside GREETING and NAME, in which the server refuses
MAX_SECONDS = 2_000_000  # poll() takes no more


class ClientSettings:
    """What control/ says about conversations.  Raises OSError; LookupError if there is no name to greet with."""

    __slots__ = ("name", "connect_seconds", "talk_seconds")

    def __init__(self, controls) -> None:
        self.connect_seconds = min(controls.get("timeoutconnect"), MAX_SECONDS)
        self.talk_seconds = min(controls.get("timeoutremote"), MAX_SECONDS)
        self.name = controls.get("helohost")
        if self.name is None:
            raise LookupError("me")


class HostTry:
    """What came of one host.

    connection   an SmtpConnection that has greeted; None if the try failed, and then:
    stage        CONNECT, DIALOGUE (the connection was lost), GREETING or NAME (the server refused)
    code         at CONNECT the errno, 0 if there is none; else the code of the server's reply, 0 if it gave none
    report       what to report, a letter and text
    """

    __slots__ = ("host", "address", "port", "connection", "stage", "code", "report")

    def __init__(self, host: bytes, address: bytes, port: int, connection=None, stage="", code=0, report=b"") -> None:
        self.host, self.address, self.port, self.connection = host, address, port, connection
        self.stage, self.code, self.report = stage, code, report

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

    async def open_one_of(self, hosts, settings, source=None, is_end=lambda tried: False, watch=None) -> HostTry | None:
        """Try hosts, [(host, address, port)], in order; return the HostTry that has a connection.

        If none has, return the first failure, but what a server said before what none did; None if no address was
        worth a try.  A failure for which is_end(HostTry) is True is returned at once.  watch(host, address) is called
        before each try but the first; what it returns is cancel()led after the try.
        """
        worst, count = None, 0
        for host, address, port in hosts:
            if self._timeouts is not None and self._timeouts.is_dead(address, int(time.time())):
                continue
            watched = watch(host, address) if watch is not None and count else None
            try:
                tried = await self.open(host, address, port, settings, source)
            finally:
                if watched is not None:
                    watched.cancel()
            count += 1
            self._note_timeout(tried)
            if tried.connection is not None or is_end(tried):
                return tried
            if worst is None or (tried.was_refused and not worst.was_refused):
                worst = tried
        return worst

    async def open(self, host: bytes, address: bytes, port: int, settings, source=None) -> HostTry:
        """Connect to one host and exchange greetings."""
        place, connection = (host, address, port), None
        try:
            connection, refusal = await self._connect(address, port, settings, source)
            if refusal is None:
                tried, connection = HostTry(*place, connection), None
                return tried
            await connection.quit()
            report = refused(refusal[0], address, *refusal[1:])
            return HostTry(*place, None, refusal[0], refusal[1], report)
        except Died:
            return HostTry(*place, None, DIALOGUE, 0, died(address, False))
        except TimedOut:
            return HostTry(*place, None, CONNECT, errno.ETIMEDOUT, NO_CONNECTION)
        except OSError as error:
            report = NO_RESOURCES if is_lack(error) else NO_CONNECTION
            return HostTry(*place, None, CONNECT, error.errno or 0, report)
        finally:
            if connection is not None:
                connection.close()

    async def _connect(self, address, port, settings, source):
        """Return what open_connection() does.  Raises as it does."""
        if literal_address(address) is None:
            raise OSError(errno.EINVAL, "not an address")

        async def connect():
            peer = await self._driver.connect((address.decode(), port), settings.connect_seconds, source)
            peer.timeout_seconds = settings.talk_seconds
            return peer

        habits = self._servers.habits((address, port))
        return await open_connection(self._driver, connect, address, settings.name, habits, self._is_only_try)

    def _note_timeout(self, tried):
        if self._timeouts is not None:
            has_timed_out = (tried.stage, tried.code) == (CONNECT, errno.ETIMEDOUT)
            self._timeouts.note(tried.address, has_timed_out, int(time.time()))


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
