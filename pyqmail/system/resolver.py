"""DNS questions.  The one module that imports dnspython, and that only when the first question is asked.

Servers: PYQMAIL_DNS (`address:port`, several separated by blanks), else DNSCACHEIP (dotted addresses, joined by
dots if several), else the nameserver lines of /etc/resolv.conf, else 127.0.0.1.  Neither /etc/hosts nor search
lists are consulted.  UDP first, TCP when an answer was cut.  Three rounds over all servers, waiting 3, 11 and 45
seconds; a server that fails or refuses is not asked again.  What comes by UDP and is no answer to the question is
ignored: anybody can send that.  Source: the resolver of ucspi-tcp

Blocking: exchangers_of, addresses_of, name_of, text_of.  AsyncResolver is the same for asyncio, many at once,
remembering answers for their time to live (60 seconds to a day).

Soft is raised when asking again later may help; NoHost when there is no such name; NoRecord when the name
exists without what was asked for.
"""

import errno
import os

from pyqmail.base.failure import reason
from pyqmail.base.literals import literal_address
from pyqmail.base.numbers import is_number, leading_number

WAITS = (3, 11, 45)
MOST_EXCHANGERS = 64
MOST_ADDRESSES = 256  # of all a domain's exchangers: strangers choose how many there are
SHORTEST, LONGEST = 60, 86400
_REMEMBERED = 100_000
ON_THE_WIRE = 256  # at once, each with a descriptor or two
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")


class Soft(Exception):
    """Not answered, for a reason that may pass; str() is the reason in the originals' words."""


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
    import socket  # noqa: F401

    import dns.exception  # noqa: F401
    import dns.message  # noqa: F401
    import dns.query  # noqa: F401


class Resolver:
    """The questions, written once; _exchange() and _all() are what blocking and asyncio do differently."""

    def __init__(self, environ=None, waits=WAITS):
        self._environ, self._waits = os.environb if environ is None else environ, waits

    async def exchangers(self, domain: bytes) -> list[tuple[int, bytes, bytes]]:
        """Return [(preference, host, address)] in the order to try, equal preferences shuffled.

        Without MX record: the domain's own addresses, preference 0.  Of very many only the first.  Raises NoHost if there are none either,
        NoRecord if there are exchangers but none has an address, Soft.
        """
        literal = literal_address(domain)
        if literal is not None:
            return [(0, literal, literal)]
        mail = await self.records(domain, "MX")
        if not mail.values:
            try:
                return [(0, domain.lower(), address) for address in await self.addresses(domain)][:MOST_ADDRESSES]
            except NoRecord:
                raise NoHost from None
        hosts = _in_order(mail.values)[:MOST_EXCHANGERS]
        answers = await self._all([self._addresses_or_why(host) for _, host in hosts])
        found = [
            (preference, host, address)
            for (preference, host), addresses in zip(hosts, answers)
            if isinstance(addresses, list)
            for address in addresses
        ]
        if found:
            return found[:MOST_ADDRESSES]
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
        return bytes(c if 32 <= c <= 126 else 63 for c in b"".join(answer.values))

    async def records(self, name: bytes, kind: str) -> Records:
        """Return the Records of one kind: A, AAAA: address; PTR: name; TXT: text; MX: (preference, host).

        Every record of the kind in the answer counts, whatever aliases led to it.  Raises Soft, BadName.
        """
        return await self._ask(name, kind)

    async def _addresses_or_why(self, host):
        try:
            return await self.addresses(host) if host != b"." else NoRecord()
        except (Soft, NoHost, NoRecord) as why:
            return why

    async def _ask(self, name, kind):
        import dns.exception
        import dns.rcode

        question = _question(name, kind)
        asked, failure = find_servers(self._environ), errno.EAGAIN
        for seconds in self._waits:
            for server in list(asked):
                try:
                    answer = await self._exchange(question, *server, seconds)
                except dns.exception.Timeout:
                    failure = errno.ETIMEDOUT
                    continue
                except OSError as error:
                    failure = error.errno or errno.EAGAIN
                except (dns.exception.DNSException, ValueError, EOFError):
                    failure = errno.EPROTO
                else:
                    if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                        return _records(answer, kind)
                    failure = errno.EAGAIN
                asked.remove(server)
        raise Soft(reason(failure))


class BlockingResolver(Resolver):
    """For a program that has nothing else to do: asks, waits, remembers nothing.  Drive its coroutines with _now."""

    async def _exchange(self, question, address, port, seconds):
        import socket

        import dns.query

        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
            sock.connect((address, port))  # so that a refused port is told at once
            return dns.query.udp_with_fallback(question, address, seconds, port, udp_sock=sock, ignore_errors=True)[0]

    async def _all(self, coroutines):
        return [await coroutine for coroutine in coroutines]


class AsyncResolver(Resolver):
    """For asyncio: equal questions are asked once, answers are remembered; a soft failure is not."""

    def __init__(self, environ=None, waits=WAITS, on_the_wire=ON_THE_WIRE):
        import asyncio

        super().__init__(environ, waits)
        self._known, self._open, self._wire = {}, {}, asyncio.Semaphore(on_the_wire)

    async def records(self, name, kind):
        import asyncio
        import time

        key = name.lower(), kind
        known = self._known.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        task = self._open.get(key)
        if task is None:
            task = self._open[key] = asyncio.ensure_future(self._ask(*key))
            task.add_done_callback(lambda done: self._learn(key, done))
        return await asyncio.shield(task)

    def _learn(self, key, done):
        import time

        del self._open[key]
        self._known.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        if len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        answer = done.result()
        self._known[key] = time.monotonic() + min(max(answer.seconds, SHORTEST), LONGEST), answer

    async def _exchange(self, question, address, port, seconds):
        import socket

        import dns.asyncbackend
        import dns.asyncquery

        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        backend = dns.asyncbackend.get_backend("asyncio")
        async with self._wire, await backend.make_socket(family, socket.SOCK_DGRAM, 0, None, (address, port)) as sock:
            answer = dns.asyncquery.udp_with_fallback(
                question, address, seconds, port, udp_sock=sock, ignore_errors=True
            )
            return (await answer)[0]

    async def _all(self, coroutines):
        import asyncio

        return await asyncio.gather(*coroutines)


def find_servers(environ, path: str = "/etc/resolv.conf") -> list[tuple[str, int]]:
    """Return (address, port) of the servers to ask, in order, at most 16."""
    chosen = environ.get(b"PYQMAIL_DNS")
    if chosen:
        return [_server(word) for word in chosen.split()][:16]
    quads = environ.get(b"DNSCACHEIP", b"").split(b".")
    found = [b".".join(quads[i : i + 4]) for i in range(0, len(quads) - 3, 4)]
    if not found:
        try:
            with open(path, "rb") as file:
                words = (line.split() for line in file)
                found = [word[1] for word in words if len(word) > 1 and word[0] == b"nameserver"]
        except OSError:
            pass
    addresses = [literal.decode() for literal in map(literal_address, found) if literal is not None]
    return [(address, 53) for address in addresses][:16] or [("127.0.0.1", 53)]


def _server(word):
    host, colon, port = word.rpartition(b":")
    if not colon or not is_number(port) or literal_address(word) is not None:
        host, port = word, b"53"
    literal = literal_address(host)
    if literal is None:
        raise Soft(reason(errno.EDESTADDRREQ))
    return literal.decode(), leading_number(port) % 65536


def _now(coroutine):
    from pyqmail.system.driver import drive

    return drive(coroutine)


def _question(name, kind):
    import dns.exception
    import dns.message
    import dns.name
    import dns.rdata
    import dns.rdataclass
    import dns.rdatatype

    for known in _VALUE:
        # before any answer: one with a record of class ANY would fix how dnspython reads this type from then on
        dns.rdata.get_rdata_class(dns.rdataclass.IN, dns.rdatatype.from_text(known))
    labels = [label for label in name.split(b".") if label]
    try:
        return dns.message.make_query(dns.name.Name([*labels, b""]), kind)
    except dns.exception.DNSException:
        raise BadName from None


def _records(answer, kind):
    import dns.rcode
    import dns.rdataclass
    import dns.rdatatype

    def of(section, wanted):
        # the class too: in another one a record of this type is something else
        return [rrset for rrset in section if (rrset.rdclass, rrset.rdtype) == (dns.rdataclass.IN, wanted)]

    values = [_VALUE[kind](record) for rrset in of(answer.answer, dns.rdatatype.from_text(kind)) for record in rrset]
    if values:
        seconds = min(rrset.ttl for rrset in answer.answer)
    else:
        limits = [min(rrset.ttl, rrset[0].minimum) for rrset in of(answer.authority, dns.rdatatype.SOA)]
        seconds = min(limits, default=SHORTEST)
    return Records(values, answer.rcode() != dns.rcode.NXDOMAIN or bool(values), seconds)


def _name_text(name):
    labels = [label for label in name.labels if label]
    return b".".join(b"".join(_spell(c) for c in label.lower()) for label in labels) or b"."


def _spell(c):
    return bytes((c,)) if c in _PLAIN else b"\\%03o" % c


_VALUE = {
    "A": lambda record: record.address.encode(),
    "AAAA": lambda record: record.address.encode(),
    "MX": lambda record: (record.preference, _name_text(record.exchange)),
    "PTR": lambda record: _name_text(record.target),
    "TXT": lambda record: b"".join(record.strings),
}


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
