"""The client's side of SMTP.  RFC 5321 sections 3 and 4; pipelining as in RFC 2920 section 3.1

    engine = Client(name)                              state TALKING
    engine.receive(bytes); engine.take_output()        until state is READY or OVER
    engine.begin_transaction(sender, recipients)       until state is CONTENT, READY or OVER
    engine.content_ended()                             in state CONTENT, once the content is sent
    engine.quit()

EHLO comes first, HELO if that is refused.  When the server announces pipelining, MAIL, up to BATCH recipients and
DATA go out together; the outcome is the same.

The greeting must be 220, the answer to our name 250.  MAIL, RCPT and the content want 2xx, DATA 3xx.  4xx and 5xx are
refusals.  After 421, a code that means none of these, or a reply that is MALFORMED nothing more is begun: whoever
says such things has another idea of what is asked.
"""

from pyqmail.base.addresses import quote
from pyqmail.protocol.smtp.reply import LEAVING, MALFORMED, Reply, ReplyParser, parse_keywords, parse_limits
from pyqmail.protocol.smtp.report import DATA, GREETING, MESSAGE, NAME, RECIPIENTS, SENDER

BATCH = 100  # commands sent ahead of their replies: few enough that neither side's buffers fill up

# state: what the caller is to do
TALKING = "talking"  # send take_output(), receive()
READY = "ready"  # begin_transaction() or quit()
CONTENT = "content"  # send the content, call content_ended(), and send the lone dot
OVER = "over"  # the server wants no more of us: quit() and close

_GREETING, _EHLO, _HELO, _RSET, _MAIL, _RCPT, _DATA, _FINAL, _EMPTY = range(9)

Refusal = tuple[str, int, bytes]  # situation (report.py), code, text

NOTHING = "nothing"  # situation of a farewell: the server was asked nothing
_SITUATIONS = (GREETING, NAME, NAME, SENDER, SENDER, RECIPIENTS, DATA, MESSAGE, DATA)  # of a reply of each kind
_WANTED = {_RSET: 2, _MAIL: 2, _RCPT: 2, _DATA: 3, _FINAL: 2}  # hundreds of a yes


class Client:
    """The conversation on one connection.

    state       see above
    answers     (code, text) for each recipient answered so far, in the order of begin_transaction()
    refusal     None, or (situation, code, text) of report.py: greeting, name, sender, all recipients, DATA or
                message were refused.  State OVER without it in a transaction: the server left in the middle
    reply       text of the reply to the content
    is_critical True from content_ended() until the reply to it: the server may have accepted the message
    is_leaving  True once the server said 421, or what we do not understand: nothing more can be begun here
    farewell    (situation, code, text) of that reply, or of another that ended the connection; None before
    has_begun   True once the server has answered MAIL other than by leaving
    is_ehlo_lost, is_batch_lost   True after connection_lost() if replies to EHLO, or to several commands, were due
    is_silent   True after connection_lost() if the server was waited for too long
    reply_count replies taken so far
    is_extended True once EHLO was accepted
    limits      (messages a connection, recipients a message) that the server announced, 0 for either that it did not

    is_helo_only: do not begin with EHLO.  is_one_by_one: do not send commands together, whatever is announced.
    """

    __slots__ = (
        *("state", "answers", "refusal", "reply", "is_critical", "is_leaving", "has_begun", "has_pipelining"),
        *("is_ehlo_lost", "is_batch_lost", "is_silent", "reply_count", "farewell", "is_extended", "limits"),
        *("_name", "_replies", "_expected", "_commands", "_output", "_needs_reset", "_accepted", "_count"),
        *("_is_helo_only", "_is_one_by_one", "_ehlo_refusal", "_is_whole"),
    )

    def __init__(self, name: bytes, is_helo_only: bool = False, is_one_by_one: bool = False) -> None:
        self._name, self._is_helo_only, self._is_one_by_one = name, is_helo_only, is_one_by_one
        self._replies, self._expected = ReplyParser(), [_GREETING]
        self._commands: list[tuple[int, bytes]] = []
        self._output: list[bytes] = []
        self._needs_reset, self._accepted, self._count, self._is_whole = False, 0, 0, False
        self._ehlo_refusal: Refusal | None = None
        self.state, self.reply, self.reply_count = TALKING, b"", 0
        self.answers: list[Reply] = []
        self.refusal: Refusal | None = None
        self.is_critical = self.is_leaving = self.has_begun = self.has_pipelining = False
        self.is_ehlo_lost = self.is_batch_lost = self.is_silent = self.is_extended = False
        self.farewell: Refusal | None = None
        self.limits = 0, 0

    @property
    def is_waiting(self) -> bool:
        """True if a reply is due."""
        return bool(self._expected)

    @property
    def is_ahead(self) -> bool:
        """True if the server has said more than was asked."""
        return not self._expected and not self._replies.is_empty

    def take_output(self) -> bytes:
        """Return what to send now; empty if it is the server's turn."""
        output, self._output = self._output, []
        return b"".join(output)

    def receive(self, data: bytes) -> None:
        """Take bytes from the server in any pieces."""
        self._replies.receive(data)
        while self._expected:
            reply = self._replies.next_reply()
            if reply is None:
                return
            self.reply_count += 1
            self._take_reply(self._expected.pop(0), *reply)
            if not self._expected and self.state is TALKING:
                self._send_next()

    def take_unasked(self, data: bytes) -> None:
        """Take what the server said while nothing was asked; a complete reply of it is its farewell."""
        self._replies.receive(data)
        reply = None if self._expected or self.farewell else self._replies.next_reply()
        if reply is not None:
            self.farewell = NOTHING, *reply

    def begin_transaction(self, sender: bytes, recipients: list[bytes]) -> None:
        """Start a transaction (state READY).  Addresses are internal; they must not contain CR or LF."""
        self.state, self.answers, self.refusal, self.reply = TALKING, [], None, b""
        self.has_begun, self._accepted, self._count = False, 0, len(recipients)
        self._commands = [(_RSET, b"RSET\r\n")] if self._needs_reset else []
        self._commands.append((_MAIL, b"MAIL FROM:<" + quote(sender) + b">\r\n"))
        self._commands += [(_RCPT, b"RCPT TO:<" + quote(recipient) + b">\r\n") for recipient in recipients]
        self._commands.append((_DATA, b"DATA\r\n"))
        self._needs_reset = True
        self._send_next()

    def content_ended(self) -> None:
        """The content and the lone dot are about to be sent: only the reply is missing (state CONTENT)."""
        self.state, self.is_critical, self._is_whole = TALKING, True, True
        self._expected.append(_FINAL)

    def content_cut_short(self) -> None:
        """The content cannot be sent to its end: what the server says now can only be a refusal."""
        self.state, self._is_whole = TALKING, False
        if not self._expected:
            self._expected.append(_FINAL)

    def connection_lost(self, is_silent: bool) -> None:
        """The connection has gone, or the server is silent; all that came was received.  What was refused stays so."""
        self.is_silent = is_silent
        due = self._expected[0] if self._expected else None
        self.is_ehlo_lost = due == _EHLO or (due == _HELO and self._ehlo_refusal is not None)
        self.is_batch_lost = self.has_pipelining and due in (_RSET, _MAIL, _RCPT, _DATA)
        if self.refusal is None and due == _HELO:
            self.refusal = self._ehlo_refusal
        elif self.refusal is None and self.answers and len(self.answers) == self._count and not self._accepted:
            self._refuse(RECIPIENTS, *self.answers[-1])
        self.state, self._expected, self._commands = OVER, [], []

    def quit(self) -> bytes:
        """Return the last thing to send; its reply need not be waited for."""
        self.state = OVER
        return b"QUIT\r\n"

    def _send_next(self) -> None:
        """Nothing is awaited: send the next commands, as many as may go together, or end."""
        if self.refusal is not None or self.is_leaving:
            greeted = self.refusal is None or self.refusal[0] not in (GREETING, NAME)
            self.state = READY if greeted and not self.is_leaving else OVER
            return
        count = BATCH if self.has_pipelining else 1
        batch, self._commands = self._commands[:count], self._commands[count:]
        if batch[0][0] == _DATA and not self._accepted:
            self._refuse(RECIPIENTS, *self.answers[-1])
            self._send_next()
            return
        self._expected += [kind for kind, _ in batch]
        self._output += [command for _, command in batch]

    def _take_reply(self, kind: int, code: int, text: bytes) -> None:
        wanted = _WANTED.get(kind)
        if code in (LEAVING, MALFORMED) or (wanted and code // 100 not in (wanted, 4, 5)):
            # it closes now, or we do: replies to what was sent ahead will not come, or mean something else
            self._leave(kind, code, text)
        _ON_REPLY[kind](self, code, text)

    def _greeted(self, code: int, text: bytes) -> None:
        if code != 220:
            self._refuse(GREETING, code, text)
        elif self._is_helo_only:
            self._say(_HELO, b"HELO " + self._name + b"\r\n")
        else:
            self._say(_EHLO, b"EHLO " + self._name + b"\r\n")

    def _extended(self, code: int, text: bytes) -> None:
        if code == 250:
            self.has_pipelining = b"PIPELINING" in parse_keywords(text) and not self._is_one_by_one
            self.is_extended, self.limits, self.state = True, parse_limits(text), READY
        elif self.is_leaving:
            self._refuse(NAME, code, text)
        else:
            self._ehlo_refusal = NAME, code, text
            self._say(_HELO, b"HELO " + self._name + b"\r\n")

    def _named(self, code: int, text: bytes) -> None:
        if code == 250:
            self.state = READY
        else:
            self._refuse(NAME, code, text)

    def _reset(self, code: int, text: bytes) -> None:
        if code // 100 != 2:  # the recipients of the last transaction may still be there
            self._leave(_RSET, code, text)

    def _sender_answered(self, code: int, text: bytes) -> None:
        self.has_begun = code != LEAVING
        if code // 100 != 2:
            self._refuse(SENDER, code, text)

    def _recipient_answered(self, code: int, text: bytes) -> None:
        self._accepted += code // 100 == 2
        if self.refusal is None:
            self.answers.append((code, text))
            if self.is_leaving and not self._accepted:
                self._refuse(RECIPIENTS, code, text)

    def _data_answered(self, code: int, text: bytes) -> None:
        if self.refusal is None and not self._accepted:
            self._refuse(RECIPIENTS, *self.answers[-1])
        is_yes = code // 100 == 3
        if self.refusal is None and is_yes:
            self.state = CONTENT
        elif self.refusal is None:
            self._refuse(DATA, code, text)
        elif is_yes and not self._accepted:
            # sent ahead, and now it waits for content though it wants none: RFC 2920 section 3.1
            self._say(_EMPTY, b".\r\n")
        elif is_yes:
            self.is_leaving = True  # a lone dot would be an empty message to somebody

    def _content_answered(self, code: int, text: bytes) -> None:
        if code // 100 == 2 and not self._is_whole:
            self.is_leaving = True
            return
        self.is_critical = self._needs_reset = False
        if code // 100 == 2:
            self.reply, self.state = text, READY
        else:
            self._refuse(MESSAGE, code, text)

    def _emptied(self, code: int, text: bytes) -> None:
        pass

    def _leave(self, kind: int, code: int, text: bytes) -> None:
        """Nothing more is begun after this reply."""
        self.is_leaving = True
        self.farewell = _SITUATIONS[kind], code, text
        self._expected, self._commands = [], []

    def _say(self, kind: int, command: bytes) -> None:
        self._expected.append(kind)
        self._output.append(command)

    def _refuse(self, situation: str, code: int, text: bytes) -> None:
        self.refusal, self._commands = (situation, code, text), []


_ON_REPLY = {
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
