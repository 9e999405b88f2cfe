"""A client's side of SMTP or LMTP, for load: a conversation that goes on as fast as the server answers.

converse() is a generator.  It yields (bytes to send, how many replies to wait for) and is sent the replies, each as
its last line; or it yields an Ended when a transaction is over, and is sent the number of the next message, or None if
there is none: then it says QUIT.  A reply that was not expected is a Refused in its Ended; what the server did says
whether the connection can be used again.
Source: RFC 5321; RFC 2033 (LMTP); RFC 2920 (pipelining)
"""

from pyqmail.load_tools.messages import header, payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

MAX_REPLY_BYTES = 65536


class Ended:
    """A transaction is over.  refused: stage and code of what the server refused, empty if it took the message."""

    __slots__ = ("is_over", "refused", "text")

    def __init__(self, refused: str = "", text: bytes = b"", is_over: bool = False) -> None:
        self.refused, self.text, self.is_over = refused, text, is_over


class Plan:
    """What all messages have in common.

    recipients   of each transaction; the addresses of several begin with their number
    has_numbers  -N: each address begins with a number of its own
    is_old       -o: no HELO, no header
    content      of a file, as it goes over the wire; else length bytes are made
    """

    def __init__(self, sender: bytes, recipient: bytes, host: bytes, recipients: int) -> None:
        self.sender, self.recipient, self.host, self.recipients = sender, recipient, host, recipients
        self.length, self.subject, self.date = 0, b"", b""
        self.is_lmtp = self.is_old = self.has_numbers = self.has_pipelining = False
        self.content: bytes | None = None
        self._numbers, self._mark = 0, b""

    def made(self) -> "Plan":
        """Make what does not change from one message to the next."""
        self._body = b"\r\n" + payload(self.length) if self.length else b"\r\n"
        return self

    def begin_numbers(self, first: int, mark: int) -> None:
        """Let recipients begin with this number; mark tells our messages from those of other processes."""
        self._numbers, self._mark = first, b"%d" % mark

    def addresses(self) -> list[bytes]:
        """Return the recipients of the next message."""
        if self.has_numbers:
            first = self._numbers
            self._numbers += self.recipients
            return [b"%d%b" % (number, self.recipient) for number in range(first, first + self.recipients)]
        if self.recipients == 1:
            return [self.recipient]
        return [b"%d%b" % (number, self.recipient) for number in range(self.recipients)]

    def message(self, number: int) -> bytes:
        """Return the content of a message, with the line that ends it."""
        if self.content is not None:
            content = self.content
        elif self.is_old:
            content = payload(self.length)
        else:
            content = (
                header(self.sender, self.recipient, self.subject, self._message_id(number), self.date) + self._body
            )
        return content + (b".\r\n" if content.endswith(b"\n") or not content else b"\r\n.\r\n")

    def _message_id(self, number: int) -> bytes:
        return b"%d.%b.load@%b" % (number, self._mark, self.host)


def find_replies(held: bytearray, count: int) -> list[bytes] | None:
    """Return the last lines of so many replies, once they are there, and of what the server said beside them.

    Raises ValueError for bytes that are no reply.
    """
    if len(held) > MAX_REPLY_BYTES:
        raise ValueError("reply too long")
    if held[-1:] != b"\n":
        return None
    lines = [line for line in bytes(held).split(b"\n")[:-1] if line[3:4] != b"-"]
    for line in lines:
        if not line[:3].isdigit():
            raise ValueError("no reply")
    return lines if len(lines) >= count else None


def converse(plan: Plan, number: int | None) -> "Generator[Any, Any, None]":
    """See the module.  number: of the first message."""
    [reply] = yield b"", 1
    refused = _refused("CONNECT", reply)
    if not refused and not plan.is_old:
        word = b"LHLO" if plan.is_lmtp else b"EHLO" if plan.has_pipelining else b"HELO"
        [reply] = yield b"%b %b\r\n" % (word, plan.host), 1
        refused = _refused(word.decode(), reply)
    if refused:
        yield Ended(refused, reply, is_over=True)
        yield b"QUIT\r\n", 1
        return
    while number is not None:
        ended = yield from _transaction(plan, number)
        number = yield ended
        if ended.refused and number is not None:
            yield b"RSET\r\n", 1
    yield b"QUIT\r\n", 1


def _transaction(plan, number):
    """Send one message; return its Ended."""
    addresses = plan.addresses()
    commands = [b"MAIL FROM:<%b>\r\n" % plan.sender, *(b"RCPT TO:<%b>\r\n" % one for one in addresses), b"DATA\r\n"]
    stages = ["MAIL", *["RCPT"] * len(addresses), "DATA"]
    if plan.has_pipelining:
        replies = yield b"".join(commands), len(commands)
        found = [(refused, reply) for stage, reply in zip(stages, replies, strict=False)
                 if (refused := _refused(stage, reply, b"3" if stage == "DATA" else b"2"))]  # fmt: skip
        if found and replies[-1][:1] == b"3":
            yield b".\r\n", 1  # nothing can stop it now
        if found:
            return Ended(*found[0], is_over=found[0][1][:3] == b"421")
    else:
        for stage, command in zip(stages, commands, strict=True):
            [reply] = yield command, 1
            refused = _refused(stage, reply, b"3" if stage == "DATA" else b"2")
            if refused:
                return Ended(refused, reply, is_over=reply[:3] == b"421")
    replies = yield plan.message(number), len(addresses) if plan.is_lmtp else 1
    for reply in replies:
        refused = _refused(".", reply)
        if refused:
            return Ended(refused, reply, is_over=reply[:3] == b"421")
    return Ended()


def _refused(stage, reply, wanted=b"2"):
    """Return stage and code of a reply that is no success, else an empty text."""
    return "" if reply[:1] == wanted else f"{stage} {reply[:3].decode()}"
