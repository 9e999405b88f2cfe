"""DNS questions.  Only this module imports dnspython, which writes them, and only for the first question.

The servers are those of system/name_servers.py.  Neither /etc/hosts nor search lists are consulted.  UDP first, TCP
when an answer was cut.  Three rounds over all servers, waiting 3, 11 and 45 seconds; a server that fails or refuses is
not asked again.  What comes by UDP and is no answer to the question is ignored: anybody can send that.  Source: the
resolver of ucspi-tcp

Blocking: exchangers_of, addresses_of, name_of, text_of.  system/async_resolver.py asks many questions at once.

    question:   exchangers, addresses, name, text       what a program wants to know
    records:    one name, one kind                      here a cache may answer
    _ask:       rounds over the servers                 which failure is reported at the end
    _exchange:  UDP, then TCP if the answer was cut     how the bytes go is up to the subclass

Strangers choose how much there is to read: answers are read by protocol/dns_answer.py.  Of a domain's exchangers the
best MAX_EXCHANGERS count.

Soft is raised when asking again later may help, Lack if something was missing here; NoHost when there is no such name;
NoRecord when the name exists without what was asked for.
"""

import errno
import os

from pyqmail.base.failure import is_lack, reason
from pyqmail.base.literals import literal_address
from pyqmail.base.printable import printable
from pyqmail.system.name_servers import find_servers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

WAITS = (3, 11, 45)
MAX_EXCHANGERS = 64
MAX_ADDRESSES = 256  # of an exchanger, and of all of a domain's: strangers choose how many there are
MIN_SECONDS = 60  # an answer without a time to live holds for so long


class Soft(Exception):
    """Not answered, for a reason that may pass; str() is the reason in the originals' words."""


class Lack(Soft):
    """Not asked, or not answered, because memory or descriptors have run out here."""


class Silent(Soft):
    """None of our name servers has answered; complaint is a line with their addresses and the name asked about."""

    def __init__(self, why: str, name: bytes, servers) -> None:
        super().__init__(why)
        asked = ", ".join(address if port == 53 else f"{address} port {port}" for address, port in servers)
        self.complaint = f"no name server answers ({asked}), asked about {_shown(name)}: {why}"


class TooManyRecords(Soft):
    """There were more records in an answer than dns_answer.MAX_RECORDS; complaint is a line with the name."""

    def __init__(self, name: bytes):
        super().__init__("too many records")
        self.complaint = f"too many records in the answer about {_shown(name)}"


class NoHost(Exception):
    """There is no such name."""


class NoRecord(Exception):
    """The name is there, what was asked for is not."""


class BadName(NoHost):
    """Not a name: a label over 63 bytes, or more than 255 in all."""


class Records:
    """What one question brought: values (see Resolver.records), whether the name exists, and for how many seconds."""

    __slots__ = ("values", "exists", "seconds")

    def __init__(self, values, exists, seconds):
        self.values, self.exists, self.seconds = values, exists, seconds


def exchangers_of(domain: bytes, environ=None, waits=WAITS) -> list[tuple[int, bytes, bytes]]:
    """Return [(preference, host, address)] in the order to try; see Resolver.exchangers."""
    return _now(BlockingResolver(environ, waits).exchangers(domain))


def addresses_of(host: bytes, environ=None, waits=WAITS, kinds=("A", "AAAA")) -> list[bytes]:
    """Return the addresses of a host, empty if it has none or does not exist.  Raises Soft."""
    try:
        return _now(BlockingResolver(environ, waits).addresses(host, kinds))
    except BadName:
        raise Soft(reason(errno.EPROTO)) from None
    except (NoHost, NoRecord):
        return []


def name_of(address: bytes, environ=None, waits=WAITS) -> bytes | None:
    """Return the name the PTR record of an address gives, None if it has none.  Raises Soft."""
    return _now(BlockingResolver(environ, waits).name(address))


def text_of(name: bytes, environ=None, waits=WAITS) -> bytes | None:
    """Return the TXT records of a name, joined, None if there are none.  Raises Soft."""
    try:
        return _now(BlockingResolver(environ, waits).text(name))
    except BadName:
        raise Soft(reason(errno.EPROTO)) from None
    except (NoHost, NoRecord):
        return None


def preload() -> None:
    """Import now what the first question would: for a parent whose forked children will ask."""
    import random  # noqa: F401
    import select  # noqa: F401
    import socket  # noqa: F401

    import dns.exception  # noqa: F401
    import dns.message  # noqa: F401

    from pyqmail.protocol import dns_answer  # noqa: F401
    from pyqmail.system import driver, processes, run_program  # noqa: F401

    for kind in ("A", "AAAA", "MX", "PTR", "TXT"):
        _question(b"x", kind)  # dnspython imports more when it writes one


class Resolver:
    """The questions, written once; how the bytes go is up to a subclass."""

    def __init__(self, environ=None, waits=WAITS):
        self._environ, self._waits = os.environb if environ is None else environ, waits

    # _by_udp(question, server, seconds, use)   the answer of the first datagram for which use() returns (True, answer)
    # _by_tcp(question, server, seconds, use)   what use() returns of the message
    # Both raise TimeoutError and OSError, _by_tcp also EOFError.
    _by_udp: "Callable[..., Awaitable]"
    _by_tcp: "Callable[..., Awaitable]"

    async def _read(self, question, data, kind):
        """Return the Answer that data is.  Raises MalformedAnswer, TooManyRecords."""
        from pyqmail.protocol import dns_answer

        return dns_answer.read(question, data, kind)

    async def _all(self, coroutines):
        """Return what the coroutines return, in their order."""
        return [await coroutine for coroutine in coroutines]

    async def exchangers(self, domain: bytes) -> list[tuple[int, bytes, bytes]]:
        """Return [(preference, host, address)] in the order to try, equal preferences shuffled.

        Without MX record: the domain's own addresses, preference 0.  Of very many only the first.  Raises NoHost if
        there are none either, NoRecord if there are exchangers but none has an address, Soft.
        """
        literal = literal_address(domain)
        if literal is not None:
            return [(0, literal, literal)]
        mail = await self.records(domain, "MX")
        if not mail.values:
            try:
                return [(0, domain.lower(), address) for address in await self.addresses(domain)][:MAX_ADDRESSES]
            except NoRecord:
                raise NoHost from None
        hosts = mail.values
        answers = await self._all([self._addresses_or_why(host) for _, host in hosts])
        found: list[tuple[int, bytes, bytes]] = []
        for (preference, host), addresses in zip(hosts, answers, strict=True):
            if isinstance(addresses, list):
                found += [(preference, host, address) for address in addresses[: MAX_ADDRESSES - len(found)]]
        if found:
            return found
        raise next((why for why in answers if isinstance(why, Soft)), NoRecord())

    async def addresses(self, host: bytes, kinds=("A", "AAAA")) -> list[bytes]:
        """Return the addresses of a host: of the first of kinds that it has.  Raises NoHost, NoRecord, Soft."""
        literal = literal_address(host)
        if literal is not None:
            return [literal]
        for kind in kinds:
            answer = await self.records(host, kind)
            if answer.values:
                return list(answer.values)
            if not answer.exists:
                raise NoHost
        raise NoRecord

    async def name(self, address: bytes) -> bytes | None:
        """Return the first PTR name: lower case, `\\ooo` for odd bytes, no dot at its end; None if there is none."""
        literal = literal_address(address)
        if literal is None:
            return None
        answer = await self.records(_reverse(literal), "PTR")
        return answer.values[0] if answer.values else None

    async def text(self, name: bytes) -> bytes:
        """Return all strings of all TXT records joined, `?` for what is not printable.  Raises as addresses()."""
        answer = await self.records(name, "TXT")
        if not answer.values:
            raise NoRecord if answer.exists else NoHost
        return b"".join(answer.values).translate(_VISIBLE)

    async def records(self, name: bytes, kind: str) -> Records:
        """Return the Records of one kind: A, AAAA: address; PTR: the first name; TXT: text; MX: (preference, host).

        Every record of the kind in the answer counts, whatever aliases led to it; of MX records the best
        MAX_EXCHANGERS, in the order to try.  Raises Soft, BadName.
        """
        return await self._ask(name, kind)

    async def _addresses_or_why(self, host):
        try:
            # many questions with many exchangers wait for their last answer: more would be copied than is ever used
            return (await self.addresses(host))[:MAX_ADDRESSES] if host != b"." else NoRecord()
        except (Soft, NoHost, NoRecord) as why:
            return why

    async def _ask(self, name, kind):
        from pyqmail.protocol import dns_answer

        question = _question(name, kind)
        servers = _servers(self._environ)
        asked, failure, is_ours, has_answered = list(servers), errno.EAGAIN, False, False
        for seconds in self._waits:
            for server in list(asked):
                try:
                    answer = await self._exchange(question, kind, server, seconds)
                except TimeoutError:
                    failure, is_ours = errno.ETIMEDOUT, False
                    continue
                except OSError as error:
                    failure, is_ours = error.errno or errno.EAGAIN, is_lack(error)
                except (dns_answer.MalformedAnswer, EOFError):
                    failure, is_ours = errno.EPROTO, False
                except dns_answer.TooManyRecords:
                    raise TooManyRecords(name) from None
                else:
                    if answer.code in (dns_answer.NO_ERROR, dns_answer.NO_NAME):
                        return _records(answer, kind)
                    failure, is_ours, has_answered = errno.EAGAIN, False, True
                asked.remove(server)
        if is_ours or has_answered:
            raise (Lack if is_ours else Soft)(reason(failure))
        raise Silent(reason(failure), name, servers)

    async def _exchange(self, question, kind, server, seconds):
        """Return what a server answers.  Raises TimeoutError, OSError, EOFError, Malformed, TooManyRecords.

        seconds bound each of the two ways.
        """
        from pyqmail.protocol import dns_answer

        async def read(data):
            if not dns_answer.is_answer(question, data):
                raise dns_answer.MalformedAnswer("something else was answered")
            return await self._read(question, data, kind)

        async def read_if_good(data):
            """Return (whether that was an answer, the Answer, None for one that was cut)."""
            try:
                if dns_answer.is_answer(question, data):
                    return True, None if dns_answer.is_cut(data) else await read(data)
            except dns_answer.MalformedAnswer:
                pass
            return False, None

        answer = await self._by_udp(question, server, seconds, read_if_good)
        return await self._by_tcp(question, server, seconds, read) if answer is None else answer


class BlockingResolver(Resolver):
    """For a program that has nothing else to do: asks, waits, remembers nothing.  Drive its coroutines with _now."""

    async def _by_udp(self, question, server, seconds, use):
        import select
        import time

        until = time.monotonic() + seconds
        with open_socket(server, is_tcp=False) as sock:
            sock.connect(server)  # so that a refused port is reported at once
            sock.send(question)
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            while (left := until - time.monotonic()) > 0 and poll.poll(1000 * left):
                is_answer, answer = await use(sock.recv(65535))
                if is_answer:
                    return answer
        raise TimeoutError

    async def _by_tcp(self, question, server, seconds, use):
        import time

        until = time.monotonic() + seconds

        def left():
            rest = until - time.monotonic()
            if rest <= 0:
                raise TimeoutError
            return rest

        def received(sock, count):
            data = bytearray()
            while len(data) < count:
                sock.settimeout(left())
                piece = sock.recv(count - len(data))
                if not piece:
                    raise EOFError
                data += piece
            return bytes(data)

        with open_socket(server, is_tcp=True) as sock:
            sock.settimeout(left())
            sock.connect(server)
            sock.settimeout(left())
            sock.sendall(len(question).to_bytes(2, "big") + question)
            data = received(sock, int.from_bytes(received(sock, 2), "big"))
        return await use(data)


def read_in_slices(question, data, kind):
    """Return a generator that reads a large answer a slice at a time, and returns the Answer at its end."""
    from pyqmail.protocol import dns_answer

    return dns_answer.read_in_slices(question, data, kind)


def _servers(environ):
    try:
        return find_servers(environ)
    except OSError as error:
        raise Soft(reason(error)) from None


def _shown(name):
    return printable(name).replace(" ", "?")


def _now(coroutine):
    from pyqmail.system.driver import drive

    return drive(coroutine)


def open_socket(server, is_tcp):
    """Return a socket, not connected yet, for a server (address, port)."""
    import socket

    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    return socket.socket(family, (socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM) | socket.SOCK_CLOEXEC)


def _question(name, kind):
    """Return the message that asks for records of a kind.  Raises BadName."""
    import dns.exception
    import dns.message
    import dns.name

    labels = [label for label in name.split(b".") if label]
    try:
        return dns.message.make_query(dns.name.Name([*labels, b""]), kind).to_wire()
    except dns.exception.DNSException:
        raise BadName from None


def _records(answer, kind):
    from pyqmail.protocol import dns_answer

    values = answer.values
    if kind == "MX":
        values = tuple(_in_order(values)[:MAX_EXCHANGERS])
    seconds = MIN_SECONDS if answer.seconds is None else answer.seconds
    return Records(values, answer.code != dns_answer.NO_NAME or bool(values), seconds)


_VISIBLE = bytes(c if 32 <= c <= 126 else 63 for c in range(256))


def _reverse(address):
    return reversed_labels(address) + (b".ip6.arpa" if b":" in address else b".in-addr.arpa")


def reversed_labels(address: bytes) -> bytes:
    """Return what stands for an address in a name: 4.3.2.1, or the hexadecimal digits of an IPv6 one, last first."""
    if b":" not in address:
        return b".".join(reversed(address.split(b".")))
    import socket

    digits = socket.inet_pton(socket.AF_INET6, address.decode()).hex()
    return ".".join(reversed(digits)).encode()


def _in_order(exchangers):
    import random

    shuffled = random.sample(exchangers, len(exchangers))
    return sorted(shuffled, key=lambda exchanger: exchanger[0])
