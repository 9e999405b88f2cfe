"""One process of a source: slots, each of which holds one conversation after the other, and the messages they share.

A message has a time at which it is due: at once, or by the rate that was asked for.  Its latency is counted from then,
not from when a slot came round to it: a server that stops for a second makes all that fell due in that second late, and
a source that waited for it would not see it.  What a slot meets (no connection, no answer in time, a refusal) is that
message's; the others go on, unless the first trouble is to end all (without is_patient, as smtp-source).
"""

import socket
import time

from pyqmail.base.failure import reason
from pyqmail.base.printable import printable
from pyqmail.load_tools.smtp_source import Ended
from pyqmail.load_tools.targets import connect_socket
from pyqmail.system.coroutines import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from typing import Any

    from pyqmail.load_tools.smtp_source import Plan
    from pyqmail.load_tools.tally import Tally
    from pyqmail.load_tools.targets import Target
    from pyqmail.system.loop import Loop

COUNTS = "messages", "recipients", "bytes", "sessions"
READ_BYTES = 65536
_PAUSE_SECONDS = 0.1  # of a slot whose connection came to nothing
_RETRY_SECONDS = 0.01
_SWEEP_SECONDS = 1.0


class LoadShape:
    """How much, and when.

    sessions       slots: conversations at once
    messages       in all; None: no end
    rate           messages a second; None: as fast as the server answers
    keeps          several messages over a connection
    is_patient     go on after a refusal or a failure
    attempts       how often a connection that is refused or reset is tried
    wait_seconds   of a slot after each message; random_wait_seconds: between 0 and so many beside
    timeout        seconds without an answer
    seconds        after which no message begins; None: no end
    local          addresses that connections come from, in turn
    window         bytes of the kernel's buffers; None: its own choice
    """

    sessions: int
    messages: int | None
    rate: float | None
    keeps: bool
    is_patient: bool
    attempts: int
    wait_seconds: float
    random_wait_seconds: float
    timeout: float
    seconds: float | None
    local: list[str]
    window: int | None


class LoadRun:
    """protocol: a module with converse() and find_replies().  show(line): hears the conversations; None: nobody.

    done() is called once all slots have ended; complaint is then what ended it early, or empty.
    """

    def __init__(
        self,
        loop: "Loop",
        target: "Target",
        protocol: "Any",
        plan: "Plan",
        shape: LoadShape,
        tally: "Tally",
        random: "Random",
        show: "Callable[[bytes], None] | None",
        done: "Callable[[], None]",
    ) -> None:
        self.loop, self.target, self.plan, self.shape, self.tally = loop, target, plan, shape, tally
        self.converse, self.find_replies, self.show, self.random = (
            protocol.converse,
            protocol.find_replies,
            show,
            random,
        )
        self.complaint = ""
        self._done, self._taken, self._began = done, 0, 0.0
        self._slots: set[Slot] = set()
        self._is_ended = False

    def start(self) -> None:
        """Let all slots begin."""
        shape = self.shape
        self._began = time.monotonic()
        self._slots = {Slot(self, number) for number in range(shape.sessions)}
        if shape.seconds is not None:
            self.loop.after(shape.seconds, self.end)
        self.loop.after(_SWEEP_SECONDS, self._sweep)
        for slot in list(self._slots):
            slot.next_message()

    def seconds(self) -> float:
        """Return how long it has gone on."""
        return time.monotonic() - self._began

    def end(self) -> None:
        """Begin no message any more; those that were begun go on."""
        self._is_ended = True
        for slot in list(self._slots):
            slot.stop_waiting()

    def take(self, now: float) -> tuple[int, float] | None:
        """Return the number of the next message and when it is due, or None."""
        number, shape = self._taken, self.shape
        if self._is_ended or (shape.messages is not None and number >= shape.messages):
            return None
        self._taken += 1
        return number, now if shape.rate is None else max(self._began + number / shape.rate, self._began)

    def show_lines(self, mark: bytes, data: bytes) -> None:
        """Show what was said, if anybody wants to see it."""
        if self.show is not None:
            for line in data.splitlines():
                self.show(mark + printable(line).encode())

    def pause_seconds(self) -> float:
        """Return how long a slot waits after a message."""
        shape = self.shape
        more = self.random.uniform(0, shape.random_wait_seconds) if shape.random_wait_seconds else 0.0
        return shape.wait_seconds + more

    def gone(self, slot: "Slot") -> None:
        """A slot has nothing to do any more."""
        self._slots.discard(slot)
        if not self._slots:
            self._done()

    def trouble(self, text: str) -> None:
        """A message came to nothing: end all, unless the run is patient."""
        if self.shape.is_patient or self._is_ended:
            return
        self.complaint = text
        self.end()

    def _sweep(self) -> None:
        """Give up connections whose server has been silent for too long."""
        before = time.monotonic() - self.shape.timeout
        for slot in [slot for slot in self._slots if slot.is_silent_since(before)]:
            slot.give_up("no answer in time")
        if self._slots:
            self.loop.after(_SWEEP_SECONDS, self._sweep)


class Slot:
    """One conversation after the other."""

    __slots__ = (
        *("_run", "_index", "_sock", "_fd", "_talk", "_held", "_out", "_expected", "_since", "_opened", "_has_greeted"),
        *("_number", "_due", "_timer", "_attempts", "_is_sent", "_has_surplus"),
    )

    def __init__(self, run: LoadRun, index: int) -> None:
        self._run, self._index = run, index
        self._sock: socket.socket | None = None
        self._talk: Any = None
        self._held, self._out = bytearray(), b""
        self._fd, self._expected, self._since, self._opened, self._due = -1, 1, 0.0, 0.0, 0.0
        self._number, self._timer, self._attempts = 0, None, 1
        self._has_greeted = self._is_sent = False  # whether the message under way has had its end
        self._has_surplus = False  # the server said more than it was asked: what follows cannot be told apart

    def next_message(self) -> None:
        """Wait for the next message, and for its time; without one the slot ends."""
        now = time.monotonic()
        taken = self._run.take(now)
        if taken is None:
            self._hang_up()
            return
        self._number, self._due = taken
        begin = max(self._due, now + self._run.pause_seconds() if self._is_sent else now)
        if begin > now:
            self._timer = self._run.loop.at(begin, self._begin)
        else:
            self._begin()

    def stop_waiting(self) -> None:
        """The run has ended: what has not begun does not begin."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._hang_up()

    def is_silent_since(self, when: float) -> bool:
        return self._sock is not None and self._timer is None and self._since < when

    def give_up(self, why: str) -> None:
        """The conversation came to nothing."""
        run, is_lost = self._run, not self._is_sent
        self._close()
        if self._timer is not None:
            return  # between two messages: the next has its time, and will have a connection of its own
        if not is_lost:
            self._again(0.0)
            return
        run.tally.fail(why)
        run.trouble(f"{why} at message {self._number + 1}")
        self._is_sent = True
        self._again(_PAUSE_SECONDS)

    def _begin(self) -> None:
        self._timer, self._is_sent = None, False
        if self._run.shape.rate is None:
            self._due = time.monotonic()
        if self._talk is not None:
            self._go_on(self._number)
        else:
            self._attempts = self._run.shape.attempts
            self._connect()

    def _connect(self) -> None:
        run, shape = self._run, self._run.shape
        local = shape.local[(self._index + self._number) % len(shape.local)] if shape.local else None
        self._timer = None
        self._opened = self._since = time.monotonic()
        self._has_greeted = self._has_surplus = False
        try:
            self._sock = connect_socket(run.target, local, shape.window)
            self._fd = self._sock.fileno()
            run.loop.watch(self._fd, READ, self._ready)
        except OSError as error:
            self._failed(error)
            return
        run.tally.counts["sessions"] += 1
        self._talk = run.converse(run.plan, self._number)
        self._go_on(None)

    def _failed(self, error: OSError) -> None:
        """The connection failed: try again, if nothing was said yet and there are attempts left."""
        if not self._has_greeted and self._attempts > 1 and isinstance(error, ConnectionError):
            self._attempts -= 1
            self._close()
            self._timer = self._run.loop.after(_RETRY_SECONDS, self._connect)
        else:
            self.give_up(reason(error))

    def _again(self, seconds: float) -> None:
        if seconds:
            self._timer = self._run.loop.after(seconds, self._wait_over)
        else:
            self.next_message()

    def _wait_over(self) -> None:
        self._timer = None
        self.next_message()

    def _hang_up(self) -> None:
        """No message is left: say so to the server, or end."""
        if self._talk is not None:
            self._go_on(None)
        else:
            self._run.gone(self)

    # the conversation

    def _ready(self, events: int) -> None:
        sock = self._sock
        if events & WRITE and self._out:
            self._send(b"")
            if self._sock is sock and self._held and not self._out:
                self._heard(b"")  # the server answered before it had everything
        if not events & READ or self._sock is not sock:
            return  # or it failed, and there may be another one by now
        try:
            data = sock.recv(READ_BYTES)  # type: ignore[union-attr]
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)
            return
        if not data:
            self.give_up("connection closed")
            return
        self._heard(data)

    def _heard(self, data: bytes) -> None:
        run, held = self._run, self._held
        held += data
        run.show_lines(b"< ", data)
        if self._timer is not None:
            self.give_up("unasked")
            return
        try:
            replies = run.find_replies(held, self._expected)
        except ValueError as error:
            self.give_up(str(error))
            return
        if replies is None or self._out:
            return
        held.clear()
        self._has_surplus = self._has_surplus or len(replies) > self._expected
        if not self._has_greeted:
            self._has_greeted = True
            run.tally.time("first_reply").add(time.monotonic() - self._opened)
        self._go_on(replies[: self._expected])

    def _go_on(self, said: "Any") -> None:
        """Let the conversation go on: with replies, the number of the next message, or None."""
        try:
            wanted = self._talk.send(said)
        except StopIteration:
            self._over()
            return
        if isinstance(wanted, Ended):
            self._ended(wanted)
            return
        data, self._expected = wanted
        if data:
            self._send(data)

    def _ended(self, ended: Ended) -> None:
        """A transaction has ended."""
        run, now = self._run, time.monotonic()
        counts = run.tally.counts
        self._is_sent = True
        if ended.refused:
            run.tally.refuse(ended.refused)
            run.trouble(f"{ended.refused.partition(' ')[0]} was refused: {printable(ended.text.rstrip())}")
        else:
            counts["messages"] += 1
            counts["recipients"] += run.plan.recipients
            run.tally.time("message").add(now - self._due)
        if ended.is_over or self._has_surplus or not run.shape.keeps:
            self._go_on(None)
        else:
            self.next_message()

    def _over(self) -> None:
        """The conversation has had its end."""
        self._run.tally.time("session").add(time.monotonic() - self._opened)
        self._close()
        self._again(0.0 if self._is_sent else _PAUSE_SECONDS)

    def _send(self, data: bytes) -> None:
        run, out = self._run, self._out + data
        run.show_lines(b"> ", data)
        self._since = time.monotonic()
        try:
            count = self._sock.send(out)  # type: ignore[union-attr]
        except BlockingIOError:
            count = 0
        except OSError as error:
            self._failed(error)
            return
        run.tally.counts["bytes"] += count
        had, self._out = self._out, out[count:]
        if bool(self._out) != bool(had):
            run.loop.watch(self._fd, READ | WRITE if self._out else READ, self._ready)

    def _close(self) -> None:
        if self._sock is not None:
            self._run.loop.forget(self._fd)
            self._sock.close()
        self._sock = self._talk = None
        self._held.clear()
        self._out = b""
