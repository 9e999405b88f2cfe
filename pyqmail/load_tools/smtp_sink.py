"""A server's side of SMTP or LMTP that takes everything and keeps nothing, and misbehaves as it is told.

A SinkSession is an engine: feed(bytes) obeys what has come, and leaves in `out` what to send, in `late` how many
seconds to wait before resume() (None: not at all), and in is_over whether to hang up then.  Faults hold what the
options ask for at a command; a model (server_models.py) is what a whole server does.
Source: RFC 5321; RFC 2033 (LMTP); Postfix's smtp-sink
"""

from pyqmail.load_tools.server_models import FOREVER, HANG_UP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyqmail.load_tools.server_models import Model

    Taken = Callable[["SinkSession", bytes | None], None]

COMMANDS = (b"CONNECT", b"HELO", b"EHLO", b"LHLO", b"MAIL", b"RCPT", b"VRFY", b"DATA", b".", b"RSET", b"NOOP", b"QUIT")
SOFT, HARD, GOODBYE = b"450 4.3.0 Error: command failed", b"500 5.3.0 Error: command failed", b"421 4.0.0 closing"
MAX_LINE_BYTES = 65536
MAX_RECIPIENTS = 100_000
_END = b"\r\n.\r\n"


class SinkPlan:
    """What all sessions of a sink have in common.

    extensions   what EHLO announces, a line each; without is_extended EHLO is unknown
    faults       command -> reply, or HANG_UP for none
    delays       command -> function that returns seconds
    abort_after  seconds after the reply to DATA until 550 and the end; None: content is taken
    keeps        content is handed to taken(), else None is
    """

    def __init__(self, host: bytes) -> None:
        self.host = host
        self.greeting = b"220 %b ESMTP" % host
        self.extensions = [b"PIPELINING", b"8BITMIME", b"ENHANCEDSTATUSCODES", b"DSN"]
        self.is_lmtp, self.is_extended, self.keeps = False, True, False
        self.faults: dict[bytes, bytes] = {}
        self.delays: dict[bytes, Callable[[], float]] = {}
        self.read_pause: float = 0.0  # seconds after DATA before the first byte is read
        self.abort_after: float | None = None
        self.show: Callable[[bytes], None] | None = None  # hears the conversations


class SinkSession:
    """client is its address; server counts (acceptor.py, SinkServer); taken(session, content) hears of each message."""

    __slots__ = (
        *("server", "client", "helo", "protocol", "sender", "mail_words", "recipients", "recipient_words", "messages"),
        *("out", "late", "is_over", "_plan", "_model", "_held", "_then", "_content", "_tail", "_taken", "_has_mail"),
    )

    def __init__(self, server: "Any", client: str, taken: "Taken") -> None:
        self.server, self.client, self._taken = server, client, taken
        self._plan: SinkPlan = server.plan
        self._model: Model = server.model
        self.helo, self.protocol = b"", b"LMTP" if self._plan.is_lmtp else b"SMTP"
        self.out, self.is_over, self.messages = bytearray(), False, 0
        self.late: float | None = None
        self._held = bytearray()
        self._then: tuple[Any, ...] | None = None  # what resume() does
        self._tail: bytes | None = None  # the end of the content so far; None between messages
        self._content: list[bytes] = []
        self._reset()

    @property
    def has_more(self) -> bool:
        """Whether there is something yet to obey."""
        return bool(self._held)

    def begin(self) -> None:
        """Greet."""
        reply = self._model.greeting(self)
        if isinstance(reply, bytes):
            self.server.refuse(reply)
        self._answer(b"CONNECT", reply, self._plan.greeting, is_last=isinstance(reply, bytes))

    def feed(self, data: bytes) -> None:
        """Bytes have come from the client."""
        self._held += data
        self._go_on()

    def resume(self) -> None:
        """The seconds of `late` are over."""
        self.late, then = None, self._then
        self._then = None
        if then is not None:
            self._reply(*then)
        self._go_on()

    def _go_on(self) -> None:
        while self._held and self.late is None and not self.is_over:
            if self._tail is not None:
                self._take_content()
                continue
            end = self._held.find(b"\n")
            if end < 0:
                self.is_over = len(self._held) > MAX_LINE_BYTES
                return
            line = bytes(self._held[: end + 1]).rstrip(b"\r\n")
            del self._held[: end + 1]
            self._obey(line)

    def _take_content(self) -> None:
        data = (self._tail or b"") + self._held
        at = data.find(_END)
        if at < 0:
            kept = len(data) - len(_END) + 1
            if self._plan.keeps and kept > 0:
                self._content.append(data[:kept])
            self._tail = data[-len(_END) + 1 :]
            self._held.clear()
            return
        if self._plan.keeps:
            self._content.append(data[: at + 2])
        self._tail, self._held = None, bytearray(data[at + len(_END) :])
        count = len(self.recipients) if self._plan.is_lmtp else 1
        self._answer(b".", self._model.content(self), b"\r\n".join([b"250 2.0.0 Ok"] * count), then=self._took)

    def _took(self, reply: bytes) -> None:
        if reply[:1] == b"2":
            self.messages += 1
            self.server.add_message(self)
            self._taken(self, b"".join(self._content)[2:] if self._plan.keeps else None)
        self._reset()

    def _reset(self) -> None:
        self.sender: str = ""
        self.mail_words, self._has_mail = b"", False
        self.recipients: list[str] = []
        self.recipient_words: list[bytes] = []
        self._content = []

    def _obey(self, line: bytes) -> None:
        """Answer a command."""
        word, _, rest = line.partition(b" ")
        word = word.upper()
        handler = _HANDLERS.get(word)
        if handler is None:
            self._reply(b"500 5.5.1 Error: unknown command", False, None)
        else:
            handler(self, word, rest.strip())

    def _hello(self, word: bytes, rest: bytes) -> None:
        plan = self._plan
        if (word != b"HELO" and not plan.is_extended) or (word == b"LHLO") != plan.is_lmtp:
            self._reply(b"500 5.5.1 Error: unknown command", False, None)
            return
        self.helo = rest
        lines = [plan.host]
        if word != b"HELO":
            self.protocol = b"LMTP" if plan.is_lmtp else b"ESMTP"
            lines += plan.extensions
            if self._model.limits:
                lines.append(b"LIMITS " + self._model.limits.encode())
        shown = [b"250-" + line for line in lines[:-1]] + [b"250 " + lines[-1]]
        self._answer(word, None, b"\r\n".join(shown))

    def _mail(self, word: bytes, rest: bytes) -> None:
        self._reset()
        self.sender, self.mail_words = _address(rest), rest.partition(b":")[2]
        self._answer(word, self._model.mail(self), b"250 2.1.0 Ok", then=self._begin_mail)

    def _begin_mail(self, reply: bytes) -> None:
        self._has_mail = reply[:1] == b"2"

    def _rcpt(self, word: bytes, rest: bytes) -> None:
        if not self._has_mail:
            self._reply(b"503 5.5.1 Error: need MAIL command", False, None)
            return
        address = _address(rest)
        usual = b"250 2.1.5 Ok" if len(self.recipients) < MAX_RECIPIENTS else b"452 4.5.3 too many recipients"

        def took(reply: bytes) -> None:
            if reply[:1] == b"2":
                self.recipients.append(address)
                if self._plan.keeps:
                    self.recipient_words.append(rest.partition(b":")[2])

        self._answer(word, self._model.recipient(self, address), usual, then=took)

    def _data(self, word: bytes, rest: bytes) -> None:
        refusal = b"554 5.5.1 Error: no valid recipients" if self._has_mail else b"503 5.5.1 Error: need RCPT command"
        usual = b"354 End data with <CR><LF>.<CR><LF>" if self.recipients else refusal
        self._answer(word, self._model.data(self), usual, then=self._begin_content)

    def _begin_content(self, reply: bytes) -> None:
        if reply[:1] != b"3":
            return
        self._tail, plan = b"\r\n", self._plan
        if plan.abort_after is not None:
            self._wait(plan.abort_after, (b"550 5.0.0 Error: command failed", True, None))
        elif plan.read_pause:
            self._wait(plan.read_pause, None)

    def _rset(self, word: bytes, rest: bytes) -> None:
        self._answer(word, None, b"250 2.0.0 Ok", then=lambda reply: self._reset())

    def _fine(self, word: bytes, rest: bytes) -> None:
        self._answer(word, None, b"252 2.0.0 Ok" if word == b"VRFY" else b"250 2.0.0 Ok")

    def _quit(self, word: bytes, rest: bytes) -> None:
        self._answer(word, None, b"221 2.0.0 Bye", is_last=True)

    def _answer(
        self,
        command: bytes,
        reply: "Any",
        usual: bytes,
        is_last: bool = False,
        then: "Callable[[bytes], None] | None" = None,
    ) -> None:
        """Send a model's reply, an option's, or the usual one; at once, or late.  then(reply) is called before."""
        plan, seconds = self._plan, 0.0
        if isinstance(reply, tuple):
            seconds, reply = reply
        if reply is None:
            reply = plan.faults.get(command, usual)
        if command in plan.delays:
            seconds += plan.delays[command]()
        what = reply, is_last or reply == HANG_UP or reply[:3] == b"421", then
        if seconds:
            self._wait(seconds, what)
        else:
            self._reply(*what)

    def _reply(self, reply: bytes, is_last: bool, then: "Callable[[bytes], None] | None") -> None:
        if reply != HANG_UP:
            self.out += reply + b"\r\n"
        self.is_over = self.is_over or is_last
        if then is not None:
            then(reply)

    def _wait(self, seconds: float, then: "tuple[Any, ...] | None") -> None:
        self.late, self._then = min(seconds, FOREVER), then


_HANDLERS: "dict[bytes, Callable[[SinkSession, bytes, bytes], None]]" = {
    b"HELO": SinkSession._hello,
    b"EHLO": SinkSession._hello,
    b"LHLO": SinkSession._hello,
    b"MAIL": SinkSession._mail,
    b"RCPT": SinkSession._rcpt,
    b"DATA": SinkSession._data,
    b"RSET": SinkSession._rset,
    b"NOOP": SinkSession._fine,
    b"VRFY": SinkSession._fine,
    b"QUIT": SinkSession._quit,
}


def _address(rest: bytes) -> str:
    """Return the address between the brackets of MAIL FROM:<...> and RCPT TO:<...>."""
    return rest.partition(b"<")[2].rpartition(b">")[0].decode("ascii", "replace")
