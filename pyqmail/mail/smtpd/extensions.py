"""The extensions that a session offers, and what policy does with the words they bring.

A row (protocol/smtp/extensions.py) says what is announced, and which commands and parameters exist; here stands what
they do.  A new row needs its place in offered(), and one entry for each of its words:

    MAIL_CHECKS        keyword -> check(value, engine): the reply that refuses MAIL, None to go on
    RECIPIENT_CHECKS   the same for RCPT
    COMMANDS           verb -> coroutine function (session, command), which gives the engine its answer

A command may end in session.restart(), with other rows and a wrapped peer: so a connection becomes secured.
"""

from pyqmail.mail.smtpd.policy import TOO_BIG
from pyqmail.protocol.smtp.extensions import EIGHT_BIT_MIME, PIPELINING, SIZE, ExtensionTable, exceeds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_STANDARD = ExtensionTable(PIPELINING, EIGHT_BIT_MIME, SIZE)


def offered(environ) -> ExtensionTable:
    """Return the rows for a connection with this environment: so far the same ones for each."""
    return _STANDARD


def check_size(value: bytes, engine) -> bytes | None:
    """Refuse a message that is announced as too big, before it comes.  RFC 1870 section 6.1"""
    return TOO_BIG if exceeds(value, engine.limit_bytes) else None


def accept_body(value: bytes, engine) -> None:
    """Content of eight bits is passed on as it came, so that BODY makes no difference.  RFC 6152 section 2"""


MAIL_CHECKS = {b"SIZE": check_size, b"BODY": accept_body}
RECIPIENT_CHECKS: "dict[bytes, Callable[..., bytes | None]]" = {}
COMMANDS: "dict[bytes, Callable[..., object]]" = {}


def check_parameters(given, known, checks, engine) -> bytes | None:
    """Return the reply that refuses a command for one of its parameters, or None.

    given maps keywords to values.  Those that are not known, since no row that is offered brings them, are ignored,
    as the original ignores them.
    """
    for keyword in known:
        if keyword in given:
            reply = checks[keyword](given[keyword], engine)
            if reply is not None:
                return reply
    return None
