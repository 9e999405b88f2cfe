"""Remote deliveries for the queue manager: its orders, thousands of SMTP sessions, its reports.

Stock and wide dialect: every delivery is a program with qmail-remote's interface (AgentDeliveries, behind the
Spawner that local deliveries have too).  Native dialect (protocol/wires/native_dialect.py): Sessions, each opened to
one of several candidates, given mail while it lasts, and closed; no process is started for any of it.
"""

import os
import time
from _collections import deque  # collections brings much that this has no use for

from pyqmail.mail.remote.external_agent import run_agent
from pyqmail.mail.remote.habits import KnownServers
from pyqmail.mail.remote.host_tries import CONNECT, ClientSettings, HostTries, HostTry
from pyqmail.mail.remote.smtp_delivery import MessageFile, deliver_to_all
from pyqmail.mail.spawners.server import OrderRefused, Orders, Reports, check_path, check_recipient
from pyqmail.protocol.smtp.report import (
    NO_CONTROLS,
    PARTIAL_LINE,
    UNREADABLE,
    compose_one,
)
from pyqmail.protocol.wires import native_dialect
from pyqmail.protocol.wires.frames import strings
from pyqmail.system.channel import Gone
from pyqmail.system.coroutines import Promise, TimedOut

TRYING_SECONDS = 2.0  # until the queue manager is told that another candidate than the first is tried
FAREWELL_SECONDS = 2.0  # a server counts a connection until it is gone, but we do not wait longer
FAREWELL_BYTES = 65536  # nor listen to more


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class AgentDeliveries:
    """Runs an agent for every delivery of a Spawner; `report` is set to the Spawner's."""

    def __init__(self, loop, program: bytes, environ) -> None:
        self._loop, self._program, self._environ = loop, program, environ
        self.report: Callable[[int, bytes], object] | None = None  # the spawner's

    def deliver(self, order) -> None:
        self._loop.start(self._deliver(order))

    async def _deliver(self, order):
        try:
            text = await run_agent(
                self._loop, self._program, self._environ, order.sender, order.recipient, order.message
            )
        finally:
            os.close(order.message)
        self.report(order.number, text)


class SmtpSession:
    """One OPEN: orders that wait, whether it is to be closed, and the promise its coroutine waits for."""

    __slots__ = ("number", "orders", "is_closing", "is_busy", "wake", "task")

    def __init__(self, number: int) -> None:
        self.number = number
        self.orders: deque[tuple] = deque()
        self.is_closing = self.is_busy = False
        self.wake = self.task = None

    def wake_up(self) -> None:
        """Let its coroutine see what has changed."""
        if self.wake is not None:
            self.wake.keep()

    async def next_order(self):
        """Return the next (path, sender, recipients), None once the session is to be closed and none is left."""
        while not self.orders:
            if self.is_closing:
                return None
            self.wake = Promise()
            await self.wake
            self.wake = None
        return self.orders.popleft()


class Places:
    """So many agents may run at once, each with descriptors of its own; first come, first served."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[Promise] = deque()

    async def acquire(self) -> None:
        """Return once there is a place."""
        if self._free:
            self._free -= 1
            return
        place = Promise()
        self._waiting.append(place)
        await place

    def release(self) -> None:
        if self._waiting:
            self._waiting.popleft().keep()
        else:
            self._free += 1


class SmtpSessions:
    """Takes native orders and makes the sessions; stops the loop after the end of orders, once all is closed.

    agent is None, or the program that replaces our own client: a session is then just an order of deliveries.
    """

    def __init__(self, loop, driver, messages, controls, limit, agent=None, environ=None, orders_fd=0, reports_fd=1):
        self._loop, self._messages, self._controls = loop, messages, controls
        self._limit, self._agent, self._environ, self._places = limit, agent, environ, Places(limit)
        os.set_blocking(orders_fd, False)
        self._orders, self._reports = Orders(loop, orders_fd, self._received), Reports(loop, reports_fd)
        self._unpacker = native_dialect.Unpacker()
        self._sessions, self._tries = {}, HostTries(driver, KnownServers())
        self._ended = self.malformed = False

    def start(self) -> None:
        """Say how many sessions may be open, and begin to listen."""
        self._put(native_dialect.HELLO, self._limit)
        self._orders.listen()

    def _put(self, kind, number, *texts):
        self._reports.put(native_dialect.pack(kind, number, strings(*texts)))

    def _received(self, data):
        try:
            for kind, number, body in self._unpacker.receive(data):
                self._obey(kind, number, body)
        except native_dialect.MalformedFrame:
            self._orders.stop()
            data, self.malformed = b"", True
        if not data:
            self._end()

    def _end(self):
        """Finish what is in flight, give up what has no mail."""
        self._ended = True
        for session in list(self._sessions.values()):
            session.is_closing = True
            if session.is_busy or session.orders or session.wake is not None:
                session.wake_up()
            else:
                session.task.cancel()  # still connecting, or only waiting for the server to close
                self._close(session, b"", b"")
        self._stop_if_done()

    def _stop_if_done(self):
        if self._ended and not self._sessions:
            self._reports.finish()
            self._loop.stop()

    def _obey(self, kind, number, body):
        session = self._sessions.get(number)
        if kind == native_dialect.OPEN and session is None:
            _, source, candidates = native_dialect.split_open(body)
            session = self._sessions[number] = SmtpSession(number)
            session.task = self._loop.start(self._live(session, source, candidates))
        elif kind == native_dialect.DELIVER:
            order = native_dialect.split_deliver(body)
            if session is not None:
                session.orders.append(order)
                session.wake_up()
        elif kind == native_dialect.CLOSE:
            if session is not None:
                session.is_closing = True
                session.wake_up()
        else:
            raise native_dialect.MalformedFrame("not for a remote spawner")

    def _return(self, number, order):
        for delivery, _ in order[2]:
            self._put(native_dialect.UNSENT, number, b"%d" % delivery)

    def _close(self, session, host, address):
        del self._sessions[session.number]
        self._put(native_dialect.CLOSED, session.number, host, address)

    async def _live(self, session, source, candidates):
        host, address = candidates[0][:2]
        try:
            if self._agent is None:
                host, address = await self._converse(session, source, candidates)
            else:
                self._put(native_dialect.READY, session.number, host, address)
                while (order := await session.next_order()) is not None:
                    await self._deliver_by_agent(session, order)
        except Exception as failure:
            self._loop.on_error(failure)  # our own bug; what it had in hand is lost to us, not to the queue
        for order in session.orders:
            self._return(session.number, order)
        self._close(session, host, address)
        self._stop_if_done()

    async def _converse(self, session, source, candidates):
        """Open, deliver, close; return (host, address) it was about in the end."""
        try:
            settings = ClientSettings(self._controls)
        except (OSError, LookupError) as error:
            code = getattr(error, "errno", None) or 0
            tried = HostTry(*candidates[0], None, CONNECT, code, NO_CONTROLS)
        else:
            tell = lambda host, address: self._tell_trying(session, host, address)  # noqa: E731
            tried = await self._tries.open_one_of(candidates, settings, source.decode() or None, watch=tell)
        if tried.connection is None:
            self._put_failure(session, tried)
        else:
            try:
                self._put(native_dialect.READY, session.number, tried.host, tried.address)
                await self._use(session, tried.connection)
            finally:
                tried.connection.close()
        return tried.host, tried.address

    def _put_failure(self, session, tried):
        kind = native_dialect.REFUSED if tried.was_refused else native_dialect.FAILED
        code, report = min(tried.code, 999), tried.report.replace(b"\0", b"?")
        self._put(kind, session.number, tried.stage.encode(), b"%d" % code, tried.host, tried.address, report)

    async def _use(self, session, connection):
        is_known = await self._carry(session, connection)
        await _part(connection)
        connection.close()
        if not is_known and (order := await session.next_order()) is not None:
            self._return(session.number, order)

    def _tell_trying(self, session, host, address):
        """Have the queue manager told whom a session waits for, unless it answers soon; returns the Timer."""
        return self._loop.after(TRYING_SECONDS, lambda: self._put(native_dialect.TRYING, session.number, host, address))

    async def _carry(self, session, connection):
        """Deliver what is ordered for as long as the connection lasts.

        Returns whether the queue manager knows that the session is over: because it said so, or got mail back.
        """
        is_returned = False
        while connection.is_usable:
            order = await session.next_order()
            if order is None:
                return True
            session.is_busy = True
            is_returned = await self._deliver(session, connection, order)
            session.is_busy = False
        return is_returned

    async def _deliver(self, session, connection, order):
        """Deliver a message and report it; what another connection is to be asked for is returned.

        Returns True if something was.
        """
        path, sender, recipients = order
        message, waiting = None, dict(recipients)

        def report(position, record, outcome):
            delivery = recipients[position][0]
            del waiting[delivery]
            self._reports.put(
                native_dialect.result(session.number, delivery, compose_one(connection.address, record, outcome))
            )

        try:
            check_path(path)
            recipients = self._with_host(session, recipients)
            waiting = dict(recipients)
            if not recipients:
                return False
            message = MessageFile(self._messages.open(path))
            if not message.has_whole_lines():
                raise OrderRefused(PARTIAL_LINE)
            addresses = [recipient for _, recipient in recipients]
            pending = await deliver_to_all(connection, sender, addresses, message, report)
        except OrderRefused as reason:
            self._report_all(session, waiting.items(), reason.report)
            return False
        except OSError:
            self._report_all(session, waiting.items(), UNREADABLE)
            return False
        finally:
            if message is not None:
                message.close()
        if pending:
            self._return(session.number, (path, sender, [recipients[position] for position in pending]))
        return bool(pending)

    async def _deliver_by_agent(self, session, order):
        """Run the agent for each recipient, all at once: the queue manager counts each as one delivery."""
        path, sender, recipients = order
        session.is_busy = True
        tasks = [self._loop.start(self._run_agent(session, path, sender, *one)) for one in recipients]
        for task in tasks:
            await task.promise
        session.is_busy = False

    async def _run_agent(self, session, path, sender, delivery, recipient):
        await self._places.acquire()
        fd = None
        try:
            check_path(path)
            check_recipient(recipient)
            fd = self._messages.open(path)
            report = await run_agent(self._loop, self._agent, self._environ, sender, recipient, fd)
        except OrderRefused as reason:
            report = reason.report
        finally:
            if fd is not None:
                os.close(fd)
            self._places.release()
        self._reports.put(native_dialect.result(session.number, delivery, report))

    def _with_host(self, session, recipients):
        """Return those of recipients that have an @; the others are reported."""
        good = []
        for delivery, recipient in recipients:
            try:
                check_recipient(recipient)
                good.append((delivery, recipient))
            except OrderRefused as reason:
                self._report_all(session, [(delivery, recipient)], reason.report)
        return good

    def _report_all(self, session, recipients, report):
        for delivery, _ in recipients:
            self._reports.put(native_dialect.result(session.number, delivery, report))


async def _part(connection):
    """Say QUIT and wait until the server has closed, FAREWELL_SECONDS at most."""
    if connection.is_broken:
        return
    peer, until, heard = connection.peer, time.monotonic() + FAREWELL_SECONDS, 0
    peer.timeout_seconds = FAREWELL_SECONDS
    await connection.quit()
    try:
        while (left := until - time.monotonic()) > 0 and heard < FAREWELL_BYTES:
            peer.timeout_seconds = left
            data = await peer.read()
            if not data:
                return
            heard += len(data)
    except (TimedOut, Gone):
        pass
