"""The client's side of SMTP.  RFC 5321; pipelining as in RFC 2920

    engine = Client(name)                       state GREETING
    engine.receive(bytes); engine.output()      until state is READY or OVER
    engine.begin(sender, recipients)            until state is CONTENT (send it, then ended()), READY or OVER
    engine.quit()

EHLO comes first, HELO if that is refused.  When the server announces pipelining, MAIL, up to BATCH recipients and
DATA go out together; the outcome is the same.  As in the original a code below 400 is a yes everywhere
but at the greeting and HELO.
"""

from pyqmail.base.addresses import quote
from pyqmail.protocol.smtp_report import DATA, GREETING, MESSAGE, NAME, RECIPIENTS, SENDER

TEXT_LIMIT = 5000
BATCH = 100  # commands sent ahead of their replies: few enough that neither side's buffers fill up

# state: what the caller is to do
TALKING = "talking"  # send output(), receive()
READY = "ready"  # begin() or quit()
CONTENT = "content"  # send the content, the lone dot, and call ended()
OVER = "over"  # the server wants no more of us: quit() and close

_GREETING, _EHLO, _HELO, _RSET, _MAIL, _RCPT, _DATA, _FINAL, _EMPTY = range(9)


class Replies:
    """Cuts the server's bytes into replies; next() returns (code, text) or None while there is no complete one.

    Three bytes are taken as digits whatever they are; a fourth `-` means that another line follows.  The text is
    all lines, codes included, CR left out, no more than TEXT_LIMIT bytes.
    """

    __slots__ = ("_held", "_code", "_text", "_inside")

    def __init__(self) -> None:
        self._held, self._text = b"", b""
        self._code, self._inside = None, None  # _inside: in a line, True if another follows it

    def receive(self, data: bytes) -> None:
        self._held = self._held + data if self._held else data

    def next(self) -> tuple[int, bytes] | None:
        while True:
            at = 0
            if self._inside is None:
                if len(self._held) < 4:
                    return None
                head = self._held[:4]
                if self._code is None:
                    # blanks and the like would be negative: the original's unsigned numbers make that huge
                    self._code = (head[0] * 100 + head[1] * 10 + head[2] - 48 * 111) % (1 << 64)
                self._inside, at = head[3:] == b"-", 3 if head[3:] == b"\n" else 4
            end = self._held.find(b"\n", at) + 1
            line, self._held = (self._held[:end], self._held[end:]) if end else (self._held, b"")
            if len(self._text) < TEXT_LIMIT:
                self._text = (self._text + line.replace(b"\r", b""))[:TEXT_LIMIT]
            if not end:
                return None
            follows, self._inside = self._inside, None
            if not follows:
                reply = self._code, self._text
                self._code, self._text = None, b""
                return reply

    @property
    def is_empty(self) -> bool:
        """True if nothing has come since the last complete reply."""
        return not self._held and self._code is None


class Client:
    """The conversation on one connection.

    state       see above
    answers     (code, text) for each recipient answered so far, in the order of begin()
    refusal     None, or (situation, code, text) of smtp_report: greeting, name, sender, all recipients, DATA or
                message were refused.  State OVER without it in a transaction: the server left in the middle
    reply       text of the reply to the content
    is_critical True from ended() until the reply to it: the server may have accepted the message
    is_leaving  True once the server said 421: nothing more can be begun here
    has_begun   True once the server has answered MAIL other than by leaving
    """

    __slots__ = (
        *("state", "answers", "refusal", "reply", "is_critical", "is_leaving", "has_begun", "has_pipelining"),
        *("_name", "_replies", "_expected", "_commands", "_output", "_needs_reset", "_accepted"),
    )

    def __init__(self, name: bytes) -> None:
        self._name, self._replies, self._expected = name, Replies(), [_GREETING]
        self._commands, self._output, self._needs_reset, self._accepted = [], [], False, 0
        self.state, self.answers, self.refusal, self.reply = TALKING, [], None, b""
        self.is_critical = self.is_leaving = self.has_begun = self.has_pipelining = False

    @property
    def is_ahead(self) -> bool:
        """True if the server has said more than was asked."""
        return not self._expected and not self._replies.is_empty

    def output(self) -> bytes:
        """Return what to send now; empty if it is the server's turn."""
        output, self._output = self._output, []
        return b"".join(output)

    def receive(self, data: bytes) -> None:
        """Take bytes from the server in any pieces."""
        self._replies.receive(data)
        while self._expected:
            reply = self._replies.next()
            if reply is None:
                return
            self._take(self._expected.pop(0), *reply)
            if not self._expected and self.state is TALKING:
                self._go_on()

    def begin(self, sender: bytes, recipients: list[bytes]) -> None:
        """Start a transaction (state READY).  Addresses are internal; they must not contain CR or LF."""
        self.state, self.answers, self.refusal, self.reply = TALKING, [], None, b""
        self.has_begun, self._accepted = False, 0
        self._commands = [(_RSET, b"RSET\r\n")] if self._needs_reset else []
        self._commands.append((_MAIL, b"MAIL FROM:<" + quote(sender) + b">\r\n"))
        self._commands += [(_RCPT, b"RCPT TO:<" + quote(recipient) + b">\r\n") for recipient in recipients]
        self._commands.append((_DATA, b"DATA\r\n"))
        self._needs_reset = True
        self._go_on()

    def ended(self) -> None:
        """The content and the lone dot are about to be sent: only the reply is missing (state CONTENT)."""
        self.state, self.is_critical = TALKING, True
        self._expected.append(_FINAL)

    def quit(self) -> bytes:
        """Return the last thing to send; its reply need not be waited for."""
        self.state = OVER
        return b"QUIT\r\n"

    def _go_on(self):
        """Nothing is awaited: send the next commands, as many as may go together, or end."""
        if self.refusal is not None or self.is_leaving:
            greeted = self.refusal is None or self.refusal[0] not in (GREETING, NAME)
            self.state = READY if greeted and not self.is_leaving else OVER
            return
        count = BATCH if self.has_pipelining else 1
        batch, self._commands = self._commands[:count], self._commands[count:]
        if batch[0][0] == _DATA and not self._accepted:
            self._refuse(RECIPIENTS, *self.answers[-1])
            self._go_on()
            return
        self._expected += [kind for kind, _ in batch]
        self._output += [command for _, command in batch]

    def _take(self, kind, code, text):
        if code == 421:
            # it closes now: replies to what was sent ahead will not come
            self.is_leaving = True
            self._expected, self._commands = [], []
        _TAKE[kind](self, code, text)

    def _greeted(self, code, text):
        if code == 220:
            self._say(_EHLO, b"EHLO " + self._name + b"\r\n")
        else:
            self._refuse(GREETING, code, text)

    def _extended(self, code, text):
        if code == 250:
            lines = text.upper().split(b"\n")[1:]
            self.has_pipelining = any(line[4:].split(b" ", 1)[0] == b"PIPELINING" for line in lines)
            self.state = READY
        elif code == 421:
            self._refuse(NAME, code, text)
        else:
            self._say(_HELO, b"HELO " + self._name + b"\r\n")

    def _named(self, code, text):
        if code == 250:
            self.state = READY
        else:
            self._refuse(NAME, code, text)

    def _reset(self, code, text):
        pass

    def _sender_answered(self, code, text):
        self.has_begun = code != 421
        if code >= 400:
            self._refuse(SENDER, code, text)

    def _recipient_answered(self, code, text):
        if self.refusal is None:
            self.answers.append((code, text))
            self._accepted += code < 400
            if self.is_leaving and not self._accepted:
                self._refuse(RECIPIENTS, code, text)

    def _data_answered(self, code, text):
        if self.refusal is None and not self._accepted:
            self._refuse(RECIPIENTS, *self.answers[-1])
        if self.refusal is None and code >= 400:
            self._refuse(DATA, code, text)
        elif self.refusal is None:
            self.state = CONTENT
        elif code < 400:
            # sent ahead, and now it waits for content though it wants none: RFC 2920 section 3.1
            self._say(_EMPTY, b".\r\n")

    def _content_answered(self, code, text):
        self.is_critical = self._needs_reset = False
        if code >= 400:
            self._refuse(MESSAGE, code, text)
        else:
            self.reply, self.state = text, READY

    def _emptied(self, code, text):
        pass

    def _say(self, kind, command):
        self._expected.append(kind)
        self._output.append(command)

    def _refuse(self, situation, code, text):
        self.refusal, self._commands = (situation, code, text), []


_TAKE = {
    _GREETING: Client._greeted,
    _EHLO: Client._extended,
    _HELO: Client._named,
    _RSET: Client._reset,
    _MAIL: Client._sender_answered,
    _RCPT: Client._recipient_answered,
    _DATA: Client._data_answered,
    _FINAL: Client._content_answered,
    _EMPTY: Client._emptied,
}
