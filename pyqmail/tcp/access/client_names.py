"""The name of a client, looked up through a resolver, and the answer of its ident server.

A look-up that fails is like one that finds nothing: the variable stays unset.  One that could not be made because
something is missing here is different, and raises Unable: no server has said that there is no such name.
"""

import errno
import time

from pyqmail.base.failure import is_lack, reason
from pyqmail.protocol import ident
from pyqmail.protocol.wires import resolve_wire
from pyqmail.protocol.wires.frames import MalformedFrame, split_strings, strings
from pyqmail.system.channel import EventChannel, Gone, Unavailable
from pyqmail.system.coroutines import TimedOut

_PATIENCE_SECONDS = 240  # a resolver that works has answered long before


class Unable(Exception):
    """A look-up could not be made here; str() is the reason."""


class ChannelNames:
    """Asks a resolver process; use() gives it the connection to a new one."""

    def __init__(self, loop):
        self._loop, self._channel = loop, None

    def use(self, sock):
        if self._channel is not None:
            self._channel.close()
        self._channel = EventChannel(self._loop, "", resolve_wire, sock)

    async def name_of(self, ip: bytes) -> bytes | None:
        found = await self._ask(resolve_wire.NAME, ip)
        return found[0] if found and found[0] else None

    async def addresses_of(self, host: bytes, is_ip6: bool) -> list[bytes]:
        return await self._ask(resolve_wire.ADDRESSES6 if is_ip6 else resolve_wire.ADDRESSES4, host)

    async def text_of(self, name: bytes) -> bytes | None:
        """Return the TXT records of a name, empty if there are none, None if that is unknown."""
        found = await self._answer(resolve_wire.TEXT, name)
        return None if found is None else b"".join(found)

    async def exemptions_of(self, name: bytes, is_ip6: bool) -> list[bytes] | None:
        """Return the addresses in an anti-list, for an IPv6 client of either kind; None if that is unknown."""
        return await self._answer(resolve_wire.ADDRESSES if is_ip6 else resolve_wire.ADDRESSES4, name)

    async def _answer(self, kind, name):
        if len(name) > 253 or any(len(label) > 63 for label in name.split(b".")):
            return None  # other resolvers call it a protocol error
        try:
            return await self._ask(kind, name, (resolve_wire.NO_HOST, resolve_wire.NO_RECORD))
        except (Unable, LookupError):
            return None

    async def _ask(self, kind, word, absences=None):
        """Return the strings that are found, none if there are none.

        absences: the answers that mean that there are none; None: any answer but FOUND.  Raises LookupError for other
        answers, and Unable.
        """
        if self._channel is None:
            raise Unable("no resolver")
        try:
            kind, body = await self._channel.ask(kind, strings(word), seconds=_PATIENCE_SECONDS)
            if kind == resolve_wire.UNABLE:
                raise Unable(b"".join(split_strings(body)).decode("ascii", "replace"))
            if kind != resolve_wire.FOUND and absences is not None and kind not in absences:
                raise LookupError
            return split_strings(body) if kind == resolve_wire.FOUND else []
        except (Gone, Unavailable, MalformedFrame):
            raise Unable("no resolver") from None
        except TimedOut:
            raise Unable(reason(errno.ETIMEDOUT)) from None


class BlockingNames:
    """Asks system/resolver.py, given as resolver, in this process.  complain(text) reports an odd answer."""

    def __init__(self, resolver, complain=lambda text: None):
        self._resolver, self._complain = resolver, complain

    async def name_of(self, ip: bytes) -> bytes | None:
        return self._ask(self._resolver.name_of, ip) or None

    async def addresses_of(self, host: bytes, is_ip6: bool) -> list[bytes]:
        return self._ask(self._resolver.addresses_of, host, kinds=("AAAA",) if is_ip6 else ("A",)) or []

    def _ask(self, look_up, word, **how):
        try:
            return look_up(word, **how)
        except MemoryError:
            raise Unable(reason(errno.ENOMEM)) from None
        except self._resolver.Lack as lack:
            raise Unable(str(lack)) from None
        except self._resolver.TooManyRecords as many:
            self._complain(many.complaint)
        except self._resolver.Soft:
            pass
        return None


async def find_name(names, ip: bytes, is_paranoid: bool) -> bytes | None:
    """Return the name of an address, None if it has none; paranoid: or if it is no address of that name.

    Raises Unable.
    """
    name = await names.name_of(ip)
    if name is not None and is_paranoid and ip not in await names.addresses_of(name, b":" in ip):
        return None
    return name


async def ask_ident(driver, ends, seconds: float, port: int = ident.PORT) -> bytes | None:
    """Return the answer of the client's ident server about a connection; None if there is none in time.

    ends is (client's address, client's port, our address, our port), all bytes.  seconds limit the connect, and the
    whole look-up.  Raises Unable.
    """
    remote_ip, remote_port, local_ip, local_port = ends
    until = time.monotonic() + seconds
    try:
        peer = await driver.connect((remote_ip.decode(), port), seconds, source=local_ip.decode())
    except (OSError, TimedOut) as error:
        if isinstance(error, OSError) and is_lack(error):
            raise Unable(reason(error)) from None
        return None
    answer = ident.IdentAnswer()
    try:
        peer.put(ident.question(remote_port, local_port))
        while not answer.ended:
            peer.timeout_seconds = until - time.monotonic()
            if peer.timeout_seconds <= 0 or answer.is_too_long:  # a server that sends without end is not waited for
                return None
            await peer.flush()
            data = await peer.read()
            if not data:
                return None
            answer.receive(data)
        return answer.text
    except (Gone, TimedOut):
        return None
    finally:
        peer.close()
