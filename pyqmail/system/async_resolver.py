"""DNS questions over asyncio, many at once, with a cache.  Only for the resolver process.

Equal questions are asked once.  An answer is kept for its time to live (MIN_SECONDS to MAX_SECONDS) as long as it is
among those asked for last.  A temporary failure is not kept, but for an answer with too many records.

Where mail goes may be answered from what holds no longer (hosts(), relay()), for STALE_SECONDS: if no server answers in
STALE_WAIT_SECONDS, or one fails.  The question goes on meanwhile.  So mail to known domains does not notice that name
servers are silent.

Strangers choose how much there is to read and to ask.  A large answer is read in slices, one such answer after the
other, and between two slices comes everything else.  So many exchangers of one domain as AT_ONCE are looked up at a
time.
"""

import time

from pyqmail.base.bounded_table import BoundedTable
from pyqmail.system.resolver import (
    MIN_SECONDS,
    WAITS,
    NoRecord,
    Resolver,
    Silent,
    Soft,
    TooManyRecords,
    open_socket,
    read_in_slices,
)

MAX_SECONDS = 86400
STALE_SECONDS = 3 * 86400  # so long an answer that holds no longer is better than none
STALE_WAIT_SECONDS = 2.0  # for a fresh answer, where there is a stale one
REMEMBERED_BYTES = 64 << 20
ON_THE_WIRE = 256  # at once, each with a descriptor or two
LARGE_AT_ONCE = 64  # answers by TCP, each held until it is read
AT_ONCE = 16  # of the exchangers of one domain: all silent, 64 of them keep a question waiting for four minutes
COMPLAINT_SECONDS = 60.0  # between two lines that report that no server answers
_VALUE_BYTES, _ENTRY_BYTES = 64, 512  # what an object and an entry of the cache take beside their text
_SMALL_BYTES = 4096  # what is larger is read in slices


class NoMail(NoRecord):
    """The domain takes no mail: its one MX record names the root.  RFC 7505 section 3"""


class AsyncResolver(Resolver):
    """For asyncio: equal questions are asked once, answers are remembered; a soft failure is not.

    An answer with too many records is remembered as well, for MIN_SECONDS seconds, and complain gets a line about it.
    It also gets one when no server answers, at most one a minute.
    """

    def __init__(
        self,
        environ=None,
        waits=WAITS,
        on_the_wire=ON_THE_WIRE,
        remembered_bytes=REMEMBERED_BYTES,
        complain=lambda line: None,
    ):
        import asyncio

        super().__init__(environ, waits)
        self._complain, self._complained = complain, float("-inf")
        self._known, self._open, self._wire = AnswerCache(remembered_bytes), {}, asyncio.Semaphore(on_the_wire)
        self._large, self._reading = asyncio.Semaphore(LARGE_AT_ONCE), asyncio.Lock()

    async def records(self, name, kind):
        import asyncio

        key = name.lower(), kind
        known = self._known.get(key, time.monotonic())
        if isinstance(known, Soft):
            raise known
        if known is not None:
            return known
        return await asyncio.shield(self._asked(key))

    def _asked(self, key):
        """Return the task that brings a fresh answer."""
        import asyncio

        task = self._open.get(key)
        if task is None:
            task = self._open[key] = asyncio.ensure_future(self._ask(*key))
            task.add_done_callback(lambda done: self._learn(key, done))
        return task

    async def records_even_stale(self, name, kind):
        """Return (Records, for how many seconds they hold, whether they are stale).  Raises as records()."""
        import asyncio

        key, now = (name.lower(), kind), time.monotonic()
        stale = self._known.get_stale(key, now)
        if stale is not None:
            fresh = self._asked(key)
            await asyncio.wait({fresh}, timeout=STALE_WAIT_SECONDS)
            if not fresh.done() or isinstance(fresh.exception(), Soft):
                return stale, MIN_SECONDS, True
        answer = await self.records(name, kind)
        return answer, self._known.seconds_left(key, time.monotonic()), False

    async def hosts(self, domain: bytes):
        """Return (seconds, is_stale, exchangers(domain)): for how long that holds.  Raises NoMail, too."""
        timed = _TimedResolver(self)
        try:
            found = await timed.exchangers(domain)
        except NoRecord:
            if [host for _, host in (await timed.records(domain, "MX")).values] == [b"."]:
                raise NoMail from None
            raise
        return timed.seconds, timed.is_stale, found

    async def relay(self, host: bytes):
        """Return (seconds, is_stale, [(0, host, address)]): for how long that holds."""
        timed = _TimedResolver(self)
        found = [(0, host, address) for address in await timed.addresses(host)]
        return timed.seconds, timed.is_stale, found

    def _learn(self, key, done):
        del self._open[key]
        if done.cancelled():
            return
        failure, now = done.exception(), time.monotonic()
        if failure is None:
            answer = done.result()
            self._known.add(
                key, answer, now + min(max(answer.seconds, MIN_SECONDS), MAX_SECONDS), _size_bytes(answer.values)
            )
        elif isinstance(failure, TooManyRecords):
            self._complain(failure.complaint)
            self._known.add(key, Soft(str(failure)), now + MIN_SECONDS, 0)
        elif isinstance(failure, Silent) and now >= self._complained + COMPLAINT_SECONDS:
            self._complained = now
            self._complain(failure.complaint)

    def forget(self) -> None:
        """Give back the memory that answers take."""
        self._known = AnswerCache(self._known.limit_bytes)

    async def _ask(self, name, kind):
        async with self._wire:
            return await super()._ask(name, kind)

    async def _by_udp(self, question, server, seconds, use):
        import asyncio

        with open_socket(server, is_tcp=False) as sock:
            sock.setblocking(False)
            sock.connect(server)
            sock.send(question)
            async with asyncio.timeout(seconds):
                return await _first_answer(sock, seconds, use)

    async def _by_tcp(self, question, server, seconds, use):
        import asyncio

        loop = asyncio.get_running_loop()
        with open_socket(server, is_tcp=True) as sock:
            sock.setblocking(False)
            async with asyncio.timeout(seconds):
                await loop.sock_connect(sock, server)
                await loop.sock_sendall(sock, len(question).to_bytes(2, "big") + question)
                size_bytes = int.from_bytes(await _received(loop, sock, 2), "big")
            async with self._large:
                async with asyncio.timeout(seconds):
                    data = await _received(loop, sock, size_bytes)
                sock.close()
                return await use(data)

    async def _read(self, question, data, kind):
        """One large answer is read at a time, and between its slices comes everything else that is ready."""
        import asyncio

        if len(data) <= _SMALL_BYTES:
            return await super()._read(question, data, kind)
        async with self._reading:
            slices = read_in_slices(question, data, kind)
            while True:
                try:
                    next(slices)
                except StopIteration as end:
                    return end.value
                await asyncio.sleep(0)

    async def _all(self, coroutines):
        import asyncio

        places = asyncio.Semaphore(AT_ONCE)

        async def in_turn(coroutine):
            async with places:
                return await coroutine

        return await asyncio.gather(*map(in_turn, coroutines))


class _TimedResolver(Resolver):
    """One question to an AsyncResolver: seconds is how long its answer holds, is_stale whether it held until before."""

    def __init__(self, resolver):
        super().__init__(resolver._environ, resolver._waits)
        self._resolver, self._all = resolver, resolver._all
        self.seconds, self.is_stale = MAX_SECONDS, False

    async def records(self, name, kind):
        answer, seconds, is_stale = await self._resolver.records_even_stale(name, kind)
        if answer.values:  # otherwise what was found stands elsewhere
            self.seconds, self.is_stale = min(self.seconds, seconds), self.is_stale or is_stale
        return answer


async def _first_answer(sock, seconds, use):
    import asyncio

    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:  # what is there is received without waiting, so asyncio's timeout never comes
        is_answer, answer = await use(await loop.sock_recv(sock, 65535))
        if is_answer:
            return answer
    raise TimeoutError


async def _received(loop, sock, count):
    data = bytearray()
    while len(data) < count:
        piece = await loop.sock_recv(sock, count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def _size_bytes(values):
    """Return how much memory the values of Records take, about."""
    return sum(
        _VALUE_BYTES + len(value) if isinstance(value, bytes) else 2 * _VALUE_BYTES + len(value[1]) for value in values
    )


class AnswerCache:
    """Answers, at most so many bytes of them: the one that was asked for longest ago goes first."""

    def __init__(self, limit_bytes: int):
        self._answers = BoundedTable(limit_bytes)  # key -> (answer, until)

    def __len__(self):
        return len(self._answers)

    @property
    def limit_bytes(self) -> int:
        return self._answers.limit

    @property
    def bytes(self) -> int:
        return self._answers.weight

    def get(self, key, now: float):
        """Return what was added under key, None if there is nothing that still holds."""
        answer, until = self._answers.get(key, (None, 0.0))
        if answer is None or until <= now:
            if until + STALE_SECONDS <= now:
                self._answers.drop(key)
            return None
        self._answers.refresh(key)
        return answer

    def get_stale(self, key, now: float):
        """Return an answer that holds no longer, None if there is none, or one that holds."""
        answer, until = self._answers.get(key, (None, 0.0))
        return answer if answer is not None and until <= now < until + STALE_SECONDS and answer.values else None

    def seconds_left(self, key, now: float) -> int:
        """Return for how long what is kept under key holds, at least MIN_SECONDS."""
        return max(MIN_SECONDS, int(self._answers.get(key, (None, 0.0))[1] - now))

    def add(self, key, answer, until: float, size_bytes: int) -> None:
        """Keep an answer of so many bytes, until then at the latest."""
        self._answers.put(key, (answer, until), size_bytes + _ENTRY_BYTES + len(key[0]))
