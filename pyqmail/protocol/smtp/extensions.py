"""What an SMTP server offers beyond the minimum, as a table.  RFC 5321 section 2.2

Each row is one service extension: the keyword in the reply to EHLO, what stands behind it, the commands that it
brings and the parameters that it adds to MAIL and RCPT.  The rows of this module bring no commands:

    keyword      behind it             MAIL      source
    PIPELINING                                   RFC 2920 section 3
    8BITMIME                           BODY      RFC 6152 section 2
    SIZE         the session's limit   SIZE      RFC 1870 section 3

A session chooses its rows.  A row that is not offered is not there at all: its commands are unimplemented, and its
parameters are words like any others.  A row with a command says in which states the command may come, and which
state a yes leads to; the states are those of the engine (server.py):

    Extension(b"STARTTLS", commands={b"STARTTLS": {FREE: FREE}})

The engine makes an event of each such command, as it does of MAIL; in any other state it refuses it by itself.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    class Announcer(Protocol):
        """What a line after EHLO may depend on: the engine of the session.  limit_bytes: 0 for no limit."""

        limit_bytes: int


class Extension:
    """One row.

    keyword                as announced, and the only word of its line if describe is None
    describe               function of the session's engine -> what stands behind the keyword
    commands               verb in upper case -> {state in which it may come: state after a yes}
    mail_parameters        keywords in upper case that MAIL may carry
    recipient_parameters   the same for RCPT
    """

    __slots__ = ("keyword", "describe", "commands", "mail_parameters", "recipient_parameters")

    def __init__(
        self,
        keyword: bytes,
        describe: "Callable[[Announcer], bytes] | None" = None,
        commands: "Mapping[bytes, Mapping[str, str]] | None" = None,
        mail_parameters: tuple[bytes, ...] = (),
        recipient_parameters: tuple[bytes, ...] = (),
    ) -> None:
        self.keyword, self.describe, self.commands = keyword, describe, commands or {}
        self.mail_parameters, self.recipient_parameters = mail_parameters, recipient_parameters

    def line(self, engine: "Announcer") -> bytes:
        """Return the line after EHLO, without code and line end."""
        return self.keyword if self.describe is None else b"%b %b" % (self.keyword, self.describe(engine))


class ExtensionTable:
    """The rows that a session offers, in the order of their lines.

    verbs   all commands that they bring
    next    (state, verb) -> state after a yes
    mail_parameters, recipient_parameters   all that they bring
    """

    __slots__ = ("rows", "verbs", "next", "mail_parameters", "recipient_parameters")

    def __init__(self, *rows: Extension) -> None:
        self.rows = rows
        self.verbs = frozenset(verb for row in rows for verb in row.commands)
        self.mail_parameters = tuple(word for row in rows for word in row.mail_parameters)
        self.recipient_parameters = tuple(word for row in rows for word in row.recipient_parameters)
        self.next = {
            (state, verb): after
            for row in rows
            for verb, states in row.commands.items()
            for state, after in states.items()
        }

    def ehlo_reply(self, greeting: bytes, engine: "Announcer") -> bytes:
        """Return the reply to EHLO: greeting, then a line for each row.  RFC 5321 section 4.1.1.1"""
        *lines, last = greeting, *[row.line(engine) for row in self.rows]
        return b"".join([b"250-%b\r\n" % line for line in lines]) + b"250 %b\r\n" % last


PIPELINING = Extension(b"PIPELINING")
EIGHT_BIT_MIME = Extension(b"8BITMIME", mail_parameters=(b"BODY",))
SIZE = Extension(b"SIZE", describe=lambda engine: b"%d" % engine.limit_bytes, mail_parameters=(b"SIZE",))

STANDARD = ExtensionTable(PIPELINING, EIGHT_BIT_MIME, SIZE)


def exceeds(declared: bytes, limit_bytes: int) -> bool:
    """Return whether a SIZE parameter's value says more than the limit; 0 is no limit.  RFC 1870 section 6.1"""
    digits = declared.lstrip(b"0") if declared.isdigit() else b""
    return limit_bytes > 0 and (len(digits) > 20 or int(digits or b"0") > limit_bytes)
