"""One SMTP session for the queue manager: addresses that are tried, mail over the one that greets first, good-bye.

    OPEN --> try --+-- 220 --> the others are dropped --> EHLO --> READY --> deliveries --> QUIT --> CLOSED
    MORE --> try --+                                        |
    MORE --> try --+-- no answer, or a refusal -------------+--> FAILED or REFUSED: one address less

What is kept true:

- Each address is a task of its own, so that one may be tried beside another.  WAITING goes out once for each, unless it
  has answered by then.
- Only one server at a time is told our name.  The first greeting drops all other tries, which is told before READY.  A
  MORE that comes from then on waits: if the server refuses our name, or hangs up, it is tried; if not, it is dropped.
- A server that refuses is told of at once, but counts until it has closed: CLOSED waits for that, FAREWELL_SECONDS at
  most, as it does after QUIT.
- An order is reported, or returned (UNSENT), before CLOSED.  What a connection that ends had not begun is returned, and
  so is what comes after that: the queue manager may not know yet.
- Whatever goes wrong in here costs this session alone; what it had in hand is reported as perhaps delivered.

protocol/wires/native_dialect.py has the wire.
"""

import errno

from pyqmail.mail.remote.host_tries import CONNECT, DIALOGUE, HERE, MAX_SECONDS, ClientSettings, HostTry, read_name
from pyqmail.mail.remote.smtp_delivery import MessageFile, deliver_to_all
from pyqmail.mail.routing.exchangers import NO_CONNECTION
from pyqmail.mail.spawners.server import OrderRefused, check_path, check_recipient
from pyqmail.protocol.smtp.client import NOTHING
from pyqmail.protocol.smtp.report import NO_CONTROLS, PARTIAL_LINE, UNREADABLE, compose_one, died, ended
from pyqmail.protocol.wires import native_dialect
from pyqmail.system.coroutines import Promise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.orders import Opening
    from pyqmail.system.coroutines import Task
    from pyqmail.system.timers import Timer


class SessionWorld:
    """What the sessions of a process share.

    put(frame) tells the queue manager; forget(session) is called once a session is over.
    tries are HostTries, messages the queue's Messages, controls what control/ has.
    """

    __slots__ = ("loop", "tries", "messages", "controls", "put", "forget")

    def __init__(self, loop, tries, messages, controls, put, forget) -> None:
        self.loop, self.tries, self.messages, self.controls = loop, tries, messages, controls
        self.put, self.forget = put, forget


class AddressTry:
    """An address that is tried: its task, the Timer of its WAITING, and whether it has refused and is parted from."""

    __slots__ = ("opening", "task", "timer", "is_parting")

    def __init__(self, opening: "Opening") -> None:
        self.opening, self.is_parting = opening, False
        self.task: Task | None = None
        self.timer: Timer | None = None

    def answered(self) -> None:
        """Nobody need be told that it waits."""
        if self.timer is not None:
            self.timer.cancel()


class SmtpSession:
    """See the module.  start() once; add_address(), add_order(), close() and end() at any time until forget()."""

    __slots__ = (
        *("number", "_world", "_tries", "_kept", "_orders", "_first", "_task", "_wake"),
        *("_is_greeted", "_is_closing", "_is_over", "_winner"),
    )

    def __init__(self, number: int, world: SessionWorld) -> None:
        self.number, self._world = number, world
        self._tries: dict[AddressTry, None] = {}
        self._kept: list[Opening] = []  # that came after a greeting
        self._orders: list[tuple] = []  # seldom more than one
        self._first: Opening | None = None
        self._task: Task | None = None
        self._wake: Promise | None = None
        self._winner: HostTry | None = None
        self._is_greeted = self._is_closing = self._is_over = False

    def start(self, opening: "Opening") -> None:
        """Try the first address."""
        self._first = opening
        self._task = self._world.loop.start(self._live())

    def add_address(self, opening: "Opening") -> None:
        """Try one more, unless one has greeted."""
        if self._is_greeted:
            self._kept.append(opening)
        elif not self._is_closing:
            self._try_address(opening)

    def add_order(self, order: tuple) -> None:
        """Deliver a (path, sender, recipients)."""
        self._orders.append(order)
        if self._is_over:
            self._return_orders()
        self._wake_up()

    def close(self) -> None:
        """Deliver what is ordered, then end; at once if nobody has greeted us."""
        self._is_closing = True
        self._wake_up()

    def end(self) -> None:
        """As close(), but do not wait for servers to say good-bye."""
        self.close()
        self._drop_tries(lambda one: True)
        if self._is_over and self._task is not None:
            self._task.cancel()

    # its life

    async def _live(self):
        ending = None
        try:
            self._try_address(self._first)
            self._first = None
            tried = await self._connected()
            if tried is not None:
                ending = tried.connection
                await self._use(tried)
            while self._tries:  # servers that refused, and have not closed yet
                await self._next_event()
        except Exception as failure:
            self._world.loop.on_error(failure)  # our own bug: this session's trouble alone
        finally:
            self._return_orders()
            self._put_closed(ending)
            self._world.forget(self)

    async def _connected(self):
        """Return the HostTry that has a connection; None if there is none, and none is wanted."""
        while self._winner is None:
            if self._is_closing:
                self._drop_tries(lambda one: not one.is_parting)
                if not self._tries:
                    return None
            await self._next_event()
        return self._winner

    async def _use(self, tried):
        """Deliver what is ordered for as long as the connection lasts, and part from the server."""
        connection, number = tried.connection, self.number
        try:
            if not self._is_closing:
                how = *connection.announced_limits, connection.is_helo_only, connection.is_one_by_one
                self._world.put(native_dialect.ready(number, tried.host, tried.address, *how))
            while connection.is_usable and (order := await self._next_order()) is not None:
                await self._deliver(connection, order)
            self._return_orders()
            self._is_over = True
            await connection.part()
        finally:
            connection.close()

    async def _next_order(self):
        """Return the next order; None once the session is to be closed and none is left."""
        while not self._orders:
            if self._is_closing:
                return None
            await self._next_event()
        return self._orders.pop(0)

    async def _next_event(self):
        self._wake = Promise()
        await self._wake

    def _wake_up(self):
        if self._wake is not None:
            self._wake.keep()

    def _put_closed(self, connection):
        stage, code, report, carried = "", 0, b"", 0
        if connection is not None:
            carried = connection.carried
        if connection is not None and connection.ending is not None:
            situation, code, reply = connection.ending
            stage = DIALOGUE if situation == NOTHING else situation
            report = ended(situation, connection.address, code, reply)
        self._world.put(native_dialect.closed(self.number, stage, code, report, carried))

    # addresses

    def _try_address(self, opening):
        one = AddressTry(opening)
        self._tries[one] = None
        if opening.hedge_seconds:
            waiting = native_dialect.pack(native_dialect.WAITING, self.number)
            one.timer = self._world.loop.after(opening.hedge_seconds, lambda: self._world.put(waiting))
        one.task = self._world.loop.start(self._try(one))

    async def _try(self, one):
        tried = None
        try:
            tried = await self._open(one)
            one.answered()
            if tried.connection is not None:
                self._winner = tried
            else:
                self._put_failure(tried)
                await self._go_on_without(one, tried)
        except Exception as failure:
            self._world.loop.on_error(failure)
            self._put_failure(_failed(one.opening, HERE, 0, NO_CONNECTION))
        finally:
            one.answered()
            if tried is not None and tried.refusing is not None:
                tried.refusing.close()
            self._tries.pop(one, None)
            if not self._tries:
                self._tries = {}  # an emptied one keeps its room
            self._wake_up()

    async def _open(self, one):
        """Return the HostTry of an address."""
        opening = one.opening
        try:
            settings = self._settings_for(opening)
        except (OSError, LookupError) as error:
            return _failed(opening, HERE, getattr(error, "errno", None) or 0, NO_CONTROLS)
        place = opening.host, opening.address, opening.port
        return await self._world.tries.open_if_welcome(*place, settings, lambda: self._note_greeting(one))

    def _settings_for(self, opening):
        """Raises OSError and LookupError if a name is to come from control/ and does not."""
        seconds = opening.connect_seconds, opening.greeting_seconds, opening.reply_seconds
        name = opening.helo or read_name(self._world.controls)
        settings = ClientSettings(name, *(min(limit, MAX_SECONDS) for limit in seconds))
        settings.source = opening.source.decode("ascii", "replace") or None
        settings.no_ehlo, settings.no_pipelining = opening.no_ehlo, opening.no_pipelining
        return settings

    def _note_greeting(self, winner):
        """An address has sent its greeting: the others are dropped."""
        winner.answered()
        self._is_greeted = True
        for one in self._drop_tries(lambda one: one is not winner and not one.is_parting):
            self._put_failure(_failed(one.opening, CONNECT, errno.ECANCELED, NO_CONNECTION))

    def _drop_tries(self, is_unwanted):
        """Drop the tries for which is_unwanted(AddressTry) is True; return them."""
        dropped = [one for one in self._tries if is_unwanted(one)]
        for one in dropped:
            if one.task is not None:
                one.task.cancel()
        return dropped

    async def _go_on_without(self, one, tried):
        """An address has failed: try what was kept for this case, and part from a server that refuses."""
        one.is_parting = True
        if not any(not other.is_parting for other in self._tries):
            self._is_greeted = False
            kept, self._kept = self._kept, []
            for opening in kept:
                self.add_address(opening)
        if tried.refusing is not None:
            await tried.refusing.part()

    def _put_failure(self, tried):
        kind = native_dialect.REFUSED if tried.was_refused else native_dialect.FAILED
        what = tried.stage, tried.code, tried.host, tried.address, tried.report
        self._world.put(native_dialect.failure(kind, self.number, *what))

    # deliveries

    async def _deliver(self, connection, order):
        """Deliver a message and report it; what another connection is to be asked for is returned."""
        path, sender, recipients = order
        messages = self._world.messages
        message, waiting = None, [delivery for delivery, _ in recipients]

        def report(position, record, result):
            delivery = recipients[position][0]
            waiting.remove(delivery)
            self._put_result(
                delivery, compose_one(connection.address, record, result.message), result.carried, result.accepted
            )

        try:
            check_path(path)
            recipients = self._with_host(recipients, waiting)
            if recipients:
                message = MessageFile(messages.open(path), open_again=lambda: messages.open(path))
                if not message.has_whole_lines():
                    raise OrderRefused(PARTIAL_LINE)
                addresses = [recipient for _, recipient in recipients]
                pending = await deliver_to_all(connection, sender, addresses, message, report)
                self._return([recipients[position] for position in pending])
        except OrderRefused as reason:
            self._report_all(waiting, reason.report)
        except OSError:
            self._report_all(waiting, UNREADABLE)
        except Exception:
            self._report_all(waiting, died(connection.address, True))
            raise
        finally:
            if message is not None:
                message.close()

    def _with_host(self, recipients, waiting):
        """Return those of recipients that have an @; the others are reported, and wait no longer."""
        good = []
        for delivery, recipient in recipients:
            try:
                check_recipient(recipient)
                good.append((delivery, recipient))
            except OrderRefused as reason:
                waiting.remove(delivery)
                self._put_result(delivery, reason.report)
        return good

    def _report_all(self, deliveries, report):
        for delivery in deliveries:
            self._put_result(delivery, report)

    def _put_result(self, delivery, report, carried=0, accepted=0):
        self._world.put(native_dialect.result(self.number, delivery, report, carried, accepted))

    def _return(self, recipients):
        for delivery, _ in recipients:
            self._world.put(native_dialect.unsent(self.number, delivery))

    def _return_orders(self):
        while self._orders:
            self._return(self._orders.pop(0)[2])


def _failed(opening, stage, code, report):
    """Return the HostTry of an address that was not tried to its end."""
    return HostTry(opening.host, opening.address, opening.port, None, stage, code, report)
