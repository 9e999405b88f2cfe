"""One SMTP session of a staged server, and the server, which counts them.

Sessions are asyncio protocols: thousands in a process cost little, so that what is measured is the sender.
"""

import asyncio
import time

from bench.servers.models import FOREVER, HANG_UP, counts_of

END = b"\r\n.\r\n"
WORDS = 4  # letters of a command


class Server:
    """What stands behind one line of a plan: a model, and counts.

    now, most    sessions that are open; the maximum of that so far
    sessions     that there were; refused of them were not greeted
    messages, recipients   that were taken
    arrivals     (monotonic seconds, sender, recipients) of each message that was taken
    """

    def __init__(self, name: str, model, log=lambda line: None) -> None:
        self.name, self.model, self._log = name, model, log
        self.now = self.most = self.sessions = self.refused = self.messages = self.recipients = 0
        self.arrivals: list[tuple] = []

    def add_session(self) -> None:
        self.now += 1
        self.sessions += 1
        if self.now > self.most:
            self.most = self.now
            self._log(f"{self.name}: sessions {self.most}")

    def add_message(self, session) -> None:
        self.messages += 1
        self.recipients += len(session.recipients)
        self.arrivals.append((time.monotonic(), session.sender, session.recipients))

    def refuse(self, reply: bytes) -> None:
        self.refused += 1
        self._log(f"{self.name}: refused: {reply.decode()}")

    def counts(self) -> dict[str, int]:
        names = "now", "most", "sessions", "refused", "messages", "recipients"
        return counts_of(self.model) | {name: getattr(self, name) for name in names}  # a model has options so named


class Session(asyncio.Protocol):
    """client is its address; sender and recipients are the transaction's; messages were taken over this connection."""

    __slots__ = (
        "server",
        "client",
        "sender",
        "recipients",
        "messages",
        "_loop",
        "_held",
        "_transport",
        "_is_late",
        "_tail",
    )

    def __init__(self, server: Server, loop) -> None:
        self.server, self._loop = server, loop
        self.client, self.sender, self.recipients, self.messages = "", "", [], 0
        self._held, self._is_late, self._transport = bytearray(), False, None
        self._tail: bytes | None = None  # the end of the content so far; None between messages

    def connection_made(self, transport) -> None:
        self._transport, self.client = transport, transport.get_extra_info("peername")[0]
        self.server.add_session()
        reply = self.server.model.greeting(self)
        if isinstance(reply, bytes):
            self.server.refuse(reply)
        self._answer(reply, b"220 staged ESMTP", isinstance(reply, bytes))

    def connection_lost(self, error) -> None:
        self.server.now -= 1
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._held += data
        self._go_on()

    def _go_on(self):
        while self._held and not self._is_late and self._transport is not None:
            if self._tail is not None:
                self._take_content()
                continue
            line, ended, rest = bytes(self._held).partition(b"\n")
            if not ended:
                return
            self._held = bytearray(rest)
            self._obey(line.rstrip(b"\r"))

    def _take_content(self):
        data = self._tail + bytes(self._held)
        at = data.find(END)
        if at < 0:
            self._tail, self._held = data[-len(END) + 1 :], bytearray()
            return
        self._tail, self._held = None, bytearray(data[at + len(END) :])
        self._answer(self.server.model.content(self), b"250 ok", then=self._taken)

    def _taken(self, reply):
        if reply[:1] == b"2":
            self.messages += 1
            self.server.add_message(self)
        self.sender, self.recipients = "", []

    def _obey(self, line):
        word, model = line[:WORDS].upper(), self.server.model
        if word in (b"EHLO", b"HELO"):
            limits = f"250-LIMITS {model.limits}\r\n" if model.limits else ""
            extended = f"250-staged\r\n{limits}250 PIPELINING".encode()
            self._answer(None, extended if word == b"EHLO" else b"250 staged")
        elif word == b"MAIL":
            self.sender, self.recipients = _address(line), []
            self._answer(model.mail(self), b"250 ok")
        elif word == b"RCPT":
            address = _address(line)
            taken = lambda reply: self.recipients.append(address) if reply[:1] == b"2" else None  # noqa: E731
            self._answer(model.recipient(self, address), b"250 ok", then=taken)
        elif word == b"DATA":
            usual = b"354 go" if self.recipients else b"554 no valid recipients"
            self._answer(model.data(self), usual, then=self._begin_content)
        elif word == b"QUIT":
            self._answer(None, b"221 bye", True)
        else:
            self._answer(None, b"250 ok")

    def _begin_content(self, reply):
        if reply[:1] == b"3":
            self._tail = b"\r\n"

    def _answer(self, reply, usual, is_last=False, then=lambda reply: None):
        """Send a model's reply, at once or late; then(reply) is called before."""
        if isinstance(reply, tuple):
            seconds, reply = reply
            self._is_late = True
            if seconds < FOREVER:
                self._loop.call_later(seconds, self._answer_late, reply, usual, is_last, then)
            return
        if self._transport is None:
            return
        reply = usual if reply is None else reply
        if reply != HANG_UP:
            then(reply)
            self._transport.write(reply + b"\r\n")
        if is_last or reply == HANG_UP or reply.startswith(b"421"):
            self._transport.close()

    def _answer_late(self, *what):
        self._is_late = False
        self._answer(*what)
        self._go_on()


def _address(line):
    return line.partition(b"<")[2].rpartition(b">")[0].decode("ascii", "replace")
