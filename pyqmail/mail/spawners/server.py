"""What both spawners share: orders from the queue manager, their validation, the message file, reports.

The queue manager writes orders on one descriptor and reads reports on another; the dialect (one byte, two
bytes, native) is an object with hello(limit), receive(data) and report(number, text).  A report is one of K, Z, D
and a text.  Source: spawn.c of qmail

What both ends promise, so that no mail is lost and none goes out twice but after a crash:

- The spawner says first how many deliveries it takes at once, and the queue manager orders no more.
- Each order has one report, in the order of completion.  Its number is not used again before that: where numbers are
  slots, one that is too large or in use is refused, by a report under that number.
- A deferral (Z) is always safe: the queue manager tries again.  K and D are reported only once they are final, and the
  queue manager marks a recipient as done only after it has read such a report.
- The spawner trusts no order: a path is digits and slashes below queue/mess, the file regular and of the queue's user,
  an address has an @.
- The end of the orders means: finish what runs, report it, exit.  A queue manager that is started again repeats each
  delivery that none has read a report of.
- Neither end waits for the other.  Reports are kept until the pipe takes them, and orders are read meanwhile.  An error
  of a descriptor is not its end: it is read or written again after growing pauses, and the log has one line of it.
"""

import os
import stat

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import reason
from pyqmail.base.numbers import is_number
from pyqmail.protocol.wires import native_dialect, stock_dialect
from pyqmail.protocol.wires.frames import MalformedFrame
from pyqmail.system.coroutines import READ
from pyqmail.system.descriptors import log
from pyqmail.system.retrying import write_surely
from pyqmail.system.stream import DescriptorBuffer

PATH_LIMIT = 100  # its NUL included
ORDERS_BYTES = 262144
MAX_READ_TRIES = 12  # about a minute
REPORT_LIMIT, REPORT_KEPT, REPORT_CUT = 3000, 2966, b"\nError report too long, sorry.\n"

TOO_BIG = b"ZInternal error: delnum too big. (#4.3.5)\n"
IN_USE = b"ZInternal error: delnum in use. (#4.3.5)\n"
NONNUMERICS = b"DInternal error: messid has nonnumerics. (#5.3.5)\n"
TOO_LONG = b"DInternal error: messid too long. (#5.3.5)\n"
TOO_SHORT = b"DInternal error: messid too short. (#5.3.5)\n"
NO_HOST = b"DSorry, address must include host name. (#5.1.3)\n"
NO_MESSAGE = b"Zqmail-spawn unable to open message. (#4.3.0)\n"
WRONG_TYPE = b"ZSorry, message has wrong type. (#4.3.5)\n"
WRONG_OWNER = b"ZSorry, message has wrong owner. (#4.3.5)\n"
NO_PIPE = b"Zqmail-spawn unable to create pipe. (#4.3.0)\n"
NO_FORK = b"Zqmail-spawn unable to fork. (#4.3.0)\n"


class OrderRefused(Exception):
    """A delivery that ends before it begins; `report` is what to report."""

    def __init__(self, report: bytes) -> None:
        super().__init__(report)
        self.report = report


class Order:
    """One delivery to make: its number, the message's path below queue/mess, sender and recipient.

    batch: the number of its batch, 0 for none.  message is the open message file at offset 0; whoever is given the
    order closes it.  Of a batch only what is under way has a descriptor: whoever is given the order opens it.
    """

    __slots__ = ("number", "path", "sender", "recipient", "batch", "message")

    def __init__(self, number: int, path: bytes, sender: bytes, recipient: bytes, batch: int = 0) -> None:
        self.number, self.path, self.sender, self.recipient, self.batch = number, path, sender, recipient, batch
        self.message: int | None = None

    def close_message(self) -> None:
        """Close the message if it is open."""
        if self.message is not None:
            os.close(self.message)
            self.message = None


def check_path(path: bytes) -> None:
    """Raise OrderRefused unless path is digits and slashes, no slash first, 1 to 99 bytes."""
    if not is_number(path.replace(b"/", b"")) and path or path.startswith(b"/"):
        raise OrderRefused(NONNUMERICS)
    if len(path) >= PATH_LIMIT:
        raise OrderRefused(TOO_LONG)
    if not path:
        raise OrderRefused(TOO_SHORT)


def check_recipient(recipient: bytes) -> None:
    """Raise OrderRefused unless there is an @ in recipient."""
    if b"@" not in recipient:
        raise OrderRefused(NO_HOST)


class Messages:
    """The message files of a queue: regular, owned by the queue's user.  Raises OSError if there is no queue/mess."""

    def __init__(self, queue: str, owner: int) -> None:
        self._directory = os.open(f"{queue}/mess", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._owner = owner

    def open(self, path: bytes) -> int:
        """Return a descriptor of the message, for reading, close-on-exec.  Raises OrderRefused."""
        try:
            # not held up by a FIFO that somebody put there
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._directory)
        except OSError:
            raise OrderRefused(NO_MESSAGE) from None
        seen = os.fstat(fd)
        if stat.S_ISREG(seen.st_mode) and seen.st_uid == self._owner:
            return fd
        os.close(fd)
        raise OrderRefused(WRONG_OWNER if stat.S_ISREG(seen.st_mode) else WRONG_TYPE)


class Stock:
    """The stock dialect; width 2 is its wide form.  protocol/wires/stock_dialect.py"""

    has_slots = True  # a delivery's number is below the limit

    def __init__(self, width: int = stock_dialect.NARROW) -> None:
        self._width, self.most = width, stock_dialect.most_slots(width)
        self._commands = stock_dialect.StockCommands(width)

    def hello(self, limit: int) -> bytes:
        return stock_dialect.hello(limit, self._width)

    def receive(self, data: bytes) -> list[tuple[int, bytes, bytes, bytes]]:
        """Return the complete orders as (number, path, sender, recipient).  Raises MalformedFrame."""
        return self._commands.receive(data)

    def report(self, number: int, text: bytes, batch: int = 0, is_stored: bool = False) -> bytes:
        return stock_dialect.report(number, text, self._width)


class Native:
    """The native dialect's local half: DELIVER, RESULT, batches.  protocol/wires/native_dialect.py"""

    has_slots = False  # any number, as long as no more run at once than the limit
    most = 65535  # the largest limit worth telling

    def __init__(self) -> None:
        self._unpacker = native_dialect.Unpacker()

    def hello(self, limit: int) -> bytes:
        return native_dialect.pack(native_dialect.HELLO, limit)

    def receive(self, data: bytes) -> list[tuple[int, bytes, bytes, bytes, int]]:
        """Return the complete orders as (number, path, sender, recipient, batch or 0).  Raises MalformedFrame."""
        orders = []
        for kind, number, body in self._unpacker.receive(data):
            if kind != native_dialect.DELIVER:
                raise MalformedFrame("not for a local spawner")
            path, sender, recipients = native_dialect.split_deliver(body)
            batch = number if number & native_dialect.BATCH else 0
            orders += [(delivery, path, sender, recipient, batch) for delivery, recipient in recipients]
        return orders

    def report(self, number: int, text: bytes, batch: int = 0, is_stored: bool = False) -> bytes:
        if batch:
            return native_dialect.result(batch, number, text, is_stored)
        return native_dialect.result(number, number, text)


class RunningOrders:
    """The deliveries that run, by number.  places: how many at once that makes; a batch takes one."""

    def __init__(self) -> None:
        self._batches: dict[int, int] = {}  # number -> batch, 0 for none
        self._sizes: dict[int, int] = {}  # batch -> how many of it run

    def __len__(self) -> int:
        return len(self._batches)

    def __contains__(self, number: int) -> bool:
        return number in self._batches

    @property
    def places(self) -> int:
        return len(self._batches) - sum(self._sizes.values()) + len(self._sizes) if self._sizes else len(self._batches)

    def has_place(self, order: Order, limit: int) -> bool:
        return order.batch in self._sizes or self.places < limit

    def add(self, order: Order) -> None:
        self._batches[order.number] = order.batch
        if order.batch:
            self._sizes[order.batch] = self._sizes.get(order.batch, 0) + 1

    def remove(self, number: int) -> int:
        """Return the batch that it was of, 0 for none."""
        batch = self._batches.pop(number, 0)
        if batch:
            self._sizes[batch] -= 1
            if not self._sizes[batch]:
                del self._sizes[batch]
        return batch


class Spawner:
    """The end that faces the queue manager: takes orders, hands them to deliver(order), writes report()s.

    deliver must not raise.  After the end of the orders, stops the loop as soon as every delivery is reported.
    A malformed stream of orders (native) counts as its end; `malformed` then says so.
    """

    def __init__(self, loop, dialect, limit, messages, deliver, orders_fd=0, reports_fd=1) -> None:
        self._loop, self._dialect, self._limit, self._messages = loop, dialect, limit, messages
        self._deliver = deliver
        self._orders = Orders(loop, orders_fd, self._received)
        self._reports = Reports(loop, reports_fd)
        self._running = RunningOrders()
        self._ended = self.malformed = False

    def start(self) -> None:
        """Say how many deliveries may run, and begin to listen."""
        self._reports.put(self._dialect.hello(self._limit))
        self._orders.listen()

    def report(self, number: int, text: bytes, is_stored: bool = False) -> None:
        """Report how a delivery ended; its number may be used again.  is_stored: it went to Maildirs alone."""
        batch = self._running.remove(number)
        self._reports.put(self._dialect.report(number, text, batch, is_stored))
        self._stop_if_done()

    def _received(self, data):
        try:
            orders = self._dialect.receive(data)
        except ValueError:
            self.malformed = True
            self._orders.stop()
            data, orders = b"", []
        for order in orders:
            self._accept_order(Order(*order))
        if not data:
            self._ended = True
            self._stop_if_done()

    def _accept_order(self, order):
        try:
            if (
                order.number >= self._limit
                if self._dialect.has_slots
                else not self._running.has_place(order, self._limit)
            ):
                raise OrderRefused(TOO_BIG)
            if order.number in self._running:
                raise OrderRefused(IN_USE)
            check_path(order.path)
            check_recipient(order.recipient)
            if not order.batch:
                order.message = self._messages.open(order.path)
        except OrderRefused as refused:
            self._reports.put(self._dialect.report(order.number, refused.report, order.batch))
            return
        self._running.add(order)
        self._deliver(order)

    def _stop_if_done(self):
        if self._ended and not self._running:
            self._reports.finish()
            self._loop.stop()


class Orders:
    """Reads what the queue manager writes: received(data), and received(b"") once at the end.

    An error of the descriptor is no end: the read is made again, after growing pauses, and only one that
    lasts MAX_READ_TRIES counts as the end.
    """

    def __init__(self, loop, fd, received) -> None:
        self._loop, self._fd, self._received = loop, fd, received
        self._backoff, self._is_file, self._has_ended = Backoff(), False, False

    def listen(self) -> None:
        if self._has_ended:
            return
        try:
            self._loop.watch(self._fd, READ, lambda _: self._read())
        except PermissionError:  # a file or /dev/null, which epoll does not take
            self._is_file = True
            self._loop.soon(self._read)
        except OSError as error:
            self._try_later(error)

    def stop(self) -> None:
        """Read nothing more."""
        self._has_ended = True
        self._loop.forget(self._fd)

    def _read(self):
        if self._has_ended:
            return
        try:
            data = os.read(self._fd, ORDERS_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._try_later(error)
            return
        self._backoff.reset()
        if not data:
            self.stop()
        self._received(data)
        if self._is_file:
            self._loop.soon(self._read)

    def _try_later(self, error):
        self._loop.forget(self._fd)
        pause = self._backoff.next_seconds()
        if self._backoff.tries > MAX_READ_TRIES:
            self.stop()
            self._received(b"")
            return
        if self._backoff.tries == 1:
            warn_again("read orders", error)
        self._loop.after(pause, self.listen)


class Reports:
    """Writes reports, all of one turn at once, without ever holding up the loop.

    A reader that has gone (EPIPE) is ignored.  Any other error says nothing about the reader, who waits: nothing is
    dropped, and it is written after growing pauses.
    """

    def __init__(self, loop, fd) -> None:
        self._loop, self._fd = loop, fd
        self._out = DescriptorBuffer(loop, fd, lambda: None, _write_again)

    def put(self, data: bytes) -> None:
        self._out.put(data)

    def finish(self) -> None:
        """Write what is left, however long the reader takes.

        If that fails we end all the same: the queue manager repeats each delivery that it got no report of.
        """
        data = self._out.take()
        os.set_blocking(self._fd, True)
        self._loop.forget(self._fd)
        try:
            write_surely(self._fd, data)
        except BrokenPipeError:
            pass
        except OSError as error:
            log(f"qmail-spawn: fatal: unable to write reports: {reason(error)}")


def _write_again(error: OSError, tries: int) -> bool:
    if tries == 1:
        warn_again("write reports", error)
    return True


def warn_again(what: str, error: OSError) -> None:
    """Say in the log that something is tried again: once for each time it begins to fail."""
    log(f"qmail-spawn: warning: unable to {what}, trying again: {reason(error)}")


class Collected:
    """What a delivery wrote, cut to what a report may hold."""

    __slots__ = ("text", "_full")

    def __init__(self) -> None:
        self.text, self._full = b"", False

    def add(self, data: bytes) -> None:
        """Take more; once there is too much, the cut text stays as it is."""
        if self._full:
            return
        self.text += data
        if len(self.text) > REPORT_LIMIT:
            self.text, self._full = self.text[:REPORT_KEPT] + REPORT_CUT, True


def report_text(letter: bytes, output: bytes) -> bytes:
    """Return a report: letter, then output up to its first NUL."""
    return letter + output.partition(b"\0")[0]
