"""The server's side of an SMTP conversation, as qmail-smtpd speaks it.  RFC 5321 sections 3 and 4

The engine knows the order of commands and every reply that needs no policy.  MAIL, RCPT, DATA, the message itself
and the commands of extensions (extensions.py) are events; the caller answers each of them before it asks for the
next.  Replies gather in the engine until the caller takes them, so that a pipelining client gets many in one piece.
RFC 2920 section 3.2
"""

from pyqmail.protocol.smtp.content import Content, StrayNewline
from pyqmail.protocol.smtp.extensions import STANDARD, ExtensionTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Conduct(Protocol):
        """What counts the replies of a session: Server says what it is asked."""

        farewell: bytes

        def count(self, verb: bytes | None, reply: bytes, said: bytes, is_junk: bool = False) -> bool: ...


FREE, SENDER, RECIPIENTS, CONTENT = "free", "sender", "recipients", "content"
HELO, EHLO, MAIL, RCPT, DATA = b"HELO", b"EHLO", b"MAIL", b"RCPT", b"DATA"
RSET, NOOP, HELP, VRFY, QUIT = b"RSET", b"NOOP", b"HELP", b"VRFY", b"QUIT"

# (state, command) -> state once we have said yes
NEXT = {
    (FREE, MAIL): SENDER,
    (SENDER, MAIL): SENDER,  # a second MAIL starts again
    (RECIPIENTS, MAIL): SENDER,
    (SENDER, RCPT): RECIPIENTS,
    (RECIPIENTS, RCPT): RECIPIENTS,
    (RECIPIENTS, DATA): CONTENT,
    **{(state, command): FREE for state in (FREE, SENDER, RECIPIENTS) for command in (HELO, EHLO, RSET)},
    **{(state, command): state for state in (FREE, SENDER, RECIPIENTS) for command in (NOOP, HELP, VRFY, QUIT)},
}

MAIL_FIRST = b"503 MAIL first (#5.5.1)\r\n"
RCPT_FIRST = b"503 RCPT first (#5.5.1)\r\n"
NOT_NOW = b"503 not now (#5.5.1)\r\n"  # a command of an extension, where its row does not allow it
UNIMPLEMENTED = b"502 unimplemented (#5.5.1)\r\n"

# (state, command) -> why not
REFUSED = {
    (FREE, RCPT): MAIL_FIRST,
    (FREE, DATA): MAIL_FIRST,
    (SENDER, DATA): RCPT_FIRST,
}

OK = b"250 ok\r\n"
GO_AHEAD = b"354 go ahead\r\n"
STRAY_NEWLINE = b"451 See https://cr.yp.to/docs/smtplf.html.\r\n"
TIMEOUT = b"451 timeout (#4.4.2)\r\n"
OUT_OF_MEMORY = b"421 out of memory (#4.3.0)\r\n"

_FIXED = {
    RSET: b"250 flushed\r\n",
    NOOP: OK,
    HELP: b"214 notqmail home page: https://notqmail.org\r\n",
    VRFY: b"252 send some mail, i'll try my best\r\n",
}
_ASKED = frozenset((MAIL, RCPT, DATA))

NOT_HTTP = b"554 this is an SMTP server, goodbye (#5.5.1)\r\n"
# what a client of the web says first: nothing that follows is for us, and some of it may be mail that was put there
_HTTP = frozenset((b"GET", b"POST", b"CONNECT", b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"PRI"))

LINE_LIMIT = 65536
_FULL = 16384


class Command:
    """A client's command that policy decides: verb in upper case, argument without the blanks before it."""

    __slots__ = ("verb", "argument")

    def __init__(self, verb: bytes, argument: bytes) -> None:
        self.verb, self.argument = verb, argument


class Piece:
    """Some of the message, as Unix text, possibly empty.  is_last: the client waits for a reply."""

    __slots__ = ("text", "is_last", "content")
    verb = None

    def __init__(self, text: bytes, content: Content) -> None:
        self.text, self.is_last, self.content = text, content.ended, content


class Server:
    """One conversation.

    greeting is the text after 220; limit_bytes, 0 for none, is announced as SIZE and holds for each message's text.
    extensions are the rows this session offers.
    The conversation is over when `closed`; exit_code is 0 only after QUIT.  `helo` is the last HELO or EHLO
    argument, None before.  A command line above LINE_LIMIT ends the conversation, as lack of memory.  `fruitless`
    counts the commands since the last message that was accepted, recipients that were accepted not among them; 64 bytes
    are one.  `farewell` is the reply that ended it, b"" before and after QUIT.

    conduct, if given, has count(verb, reply, said, is_junk), which is called for each reply, verb None for that to a
    message: if it returns True, no other command is answered before the replies were taken, and if its farewell is not
    empty, that is said, too, and the conversation is over.
    """

    __slots__ = (
        *("closed", "exit_code", "helo", "limit_bytes", "extensions", "fruitless", "farewell"),
        *("_conduct", "_held", "_greeting", "_state", "_input", "_at", "_content", "_said", "_size", "_is_new"),
    )

    def __init__(
        self,
        greeting: bytes,
        limit_bytes: int = 0,
        extensions: ExtensionTable = STANDARD,
        conduct: "Conduct | None" = None,
    ) -> None:
        self.closed, self.exit_code, self.fruitless, self.farewell = False, 1, 0, b""
        self._conduct, self._held = conduct, 0
        self._greeting, self.limit_bytes = greeting, limit_bytes
        self._said: list[bytes] = []
        self._size = 0
        self.restart(extensions)
        self._say(b"220 %b ESMTP\r\n" % greeting)

    def restart(self, extensions: ExtensionTable) -> None:
        """Be as before the client's first command, and offer these rows from now on.  RFC 3207 section 4.2

        Forgets what the client has said: its name, its mail, and all input that is buffered, so that what came behind
        the last command is dropped and never obeyed.  No second greeting is given.  Replies that were not taken yet
        stay, and `fruitless` goes on.  The caller restarts between answer() and the next next_event().
        """
        self.extensions = extensions
        self.helo: bytes | None = None
        self._content: Content | None = None
        self._state = FREE
        self._input, self._at = b"", 0
        self._is_new = True  # no command has come yet

    def receive(self, data: bytes) -> None:
        """Take what the client sent; b"" means it has gone."""
        if data:
            self._input = self._input[self._at :] + data if self._at < len(self._input) else data
            self._at = 0
        else:
            self.closed = True

    def next_event(self) -> Command | Piece | None:
        """Return what to decide next; None at the end, when must_speak, or when more must be received first."""
        while not self.closed and self._size < _FULL:
            if self._content is not None:
                return self._next_piece(self._content)
            line = self._take_line()
            if line is None:
                return None
            verb, _, argument = line.partition(b" ")
            verb, argument = verb.upper(), argument.lstrip(b" ")
            is_first, self._is_new = self._is_new, False
            after = NEXT.get((self._state, verb))
            if verb in _ASKED if after is not None else (self._state, verb) in self.extensions.next:
                return Command(verb, argument)
            if after is None:
                self._refuse(verb, line, is_first)
            else:
                self.fruitless += 1 + len(argument) // 64
                self._state = after
                self._obey(verb, argument)
        return None

    def answer(self, event: Command | Piece, reply: bytes) -> None:
        """Say reply, whole with CR LF, to the event.  A command's is a yes if it starts with 2 or 3.

        A piece is answered only if it is the last; whatever the reply, the transaction is over.
        """
        is_again = event.verb == MAIL and self._state is not FREE
        if isinstance(event, Piece):
            self._state, self._input, self._at = FREE, event.content.rest, 0
            self._content = None
            self.fruitless = 0 if reply[0] in b"2" else self.fruitless + 1
            self._size += _FULL  # must_speak: the reply about a message is not held back for what follows it
        elif reply[0] in b"23":
            key = self._state, event.verb
            self._state = NEXT[key] if key in NEXT else self.extensions.next[key]
            if self._state is CONTENT:
                self._content = Content(self.limit_bytes)
            self.fruitless += event.verb not in (RCPT, DATA)
        else:
            self.fruitless += 1 + len(event.argument) // 64
        self._say(reply)
        self._count(event.verb, reply, b"" if isinstance(event, Piece) else event.argument, is_again)

    def close(self, reply: bytes) -> None:
        """Say reply and end the conversation as a failure."""
        self._say(reply)
        self.closed, self.farewell = True, reply

    @property
    def is_in_transaction(self) -> bool:
        """True from a sender that was accepted until its mail has ended, or been given up."""
        return self._state is not FREE

    @property
    def is_in_content(self) -> bool:
        """True when what comes next is content of a message, not a command."""
        return self._content is not None

    @property
    def is_in_request(self) -> bool:
        """True when content is to come, or a part of a command has come."""
        return self._content is not None or self._at < len(self._input)

    @property
    def must_speak(self) -> bool:
        """True when replies should be sent before going on: there are many, or one is about a whole message."""
        return self._size >= _FULL

    def take_ready_replies(self) -> bytes:
        """Return, and forget, the replies before the one at which conduct had us stop; that and what follows stay."""
        ready = b"".join(self._said[: self._held])
        del self._said[: self._held]
        self._held = 0
        return ready

    def take_replies(self) -> bytes:
        """Return what is to be sent, and forget it."""
        said = b"".join(self._said)
        self._said.clear()
        self._size = 0
        return said

    def _take_line(self) -> bytes | None:
        end = self._input.find(b"\n", self._at)
        if end < 0:
            if len(self._input) - self._at > LINE_LIMIT:
                self.close(OUT_OF_MEMORY)
            return None
        line, self._at = self._input[self._at : end].removesuffix(b"\r"), end + 1
        return line.partition(b"\0")[0] if b"\0" in line else line  # a NUL ends the original's strings

    def _next_piece(self, content: Content) -> Piece | None:
        data, self._input, self._at = self._input[self._at :] if self._at else self._input, b"", 0
        if not data:
            return None
        try:
            return Piece(content.receive(data), content)
        except StrayNewline:
            self.close(STRAY_NEWLINE)
            return None

    def _refuse(self, verb: bytes, line: bytes, is_first: bool) -> None:
        """Refuse a command that cannot come now, or is none."""
        said = line[len(verb) + 1 :]
        if is_first and verb in _HTTP:
            self.close(NOT_HTTP)
            self._count(verb, NOT_HTTP, said)
            return
        self.fruitless += 1 + len(line) // 64
        otherwise = NOT_NOW if verb in self.extensions.verbs else UNIMPLEMENTED
        reply = REFUSED.get((self._state, verb), otherwise)
        self._say(reply)
        self._count(verb, reply, said)

    def _obey(self, verb: bytes, argument: bytes) -> None:
        if verb == QUIT:
            reply = b"221 %b\r\n" % self._greeting
            self.closed, self.exit_code = True, 0
        elif verb == HELO:
            self.helo, reply = argument, b"250 %b\r\n" % self._greeting
        elif verb == EHLO:
            self.helo, reply = argument, self.extensions.ehlo_reply(self._greeting, self)
        else:
            reply = _FIXED[verb]
        self._say(reply)
        self._count(verb, reply, argument, verb != QUIT)

    def _count(self, verb: bytes | None, reply: bytes, said: bytes, is_junk: bool = False) -> None:
        """Have a reply that was said counted, and do what follows."""
        conduct = self._conduct
        if conduct is not None and conduct.count(verb, reply, said, is_junk):
            self._size += _FULL  # must_speak
            self._held = len(self._said) - 1
            if conduct.farewell and not self.closed:
                self.close(conduct.farewell)

    def _say(self, reply: bytes) -> None:
        self._said.append(reply)
        self._size += len(reply)
