"""Which mail an SMTP server takes: the control files and variables of qmail-smtpd, as questions with answers."""

import os

from pyqmail.base.addresses import domain_part, suffixes
from pyqmail.base.numbers import UINT32, leading_number
from pyqmail.protocol.smtp.address import LIMIT_BYTES, address_literal, parse_path, split_parameters

CONTROLS = (
    "me", "smtpgreeting", "localiphost", "timeoutsmtpd", "rcpthosts", "morercpthosts.cdb", "badmailfrom", "databytes",
)  # fmt: skip


SYNTAX = b"555 syntax error (#5.5.4)\r\n"
BAD_SENDER = b"553 sorry, your envelope sender is in my badmailfrom list (#5.7.1)\r\n"
NOT_OURS = b"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)\r\n"
TOO_MANY = b"452 sorry, too many recipients (#4.5.3)\r\n"
TOO_BIG = b"552 sorry, that message size exceeds my databytes limit (#5.3.4)\r\n"
LOOPING = b"554 too many hops, this message is looping (#5.4.6)\r\n"
NOT_QUEUED = b"451 qqt failure (#4.3.0)\r\n"
NO_SPACE = b"452 sorry, I have no room for your message now (#4.3.1)\r\n"


class NoAddresses(Exception):
    """The addresses of this host cannot be found out."""


class Policy:
    """What one reading of the control files gives.

    greeting           text after 220
    local_ip_host      what replaces `[an address of ours]`, None: nothing does
    timeout_seconds    for each read and write
    rcpthosts          domains and .suffixes; None: every recipient is accepted
    more_rcpthosts     get(key) -> bytes or None, lower-case keys; None: there are no more
    badmailfrom        addresses and @hosts that may not send
    limit_bytes        largest message, 0 for no limit; DATABYTES in a connection's environment overrides it
    own_addresses      function without arguments -> collection of addresses, d.d.d.d; raises OSError
    """

    def __init__(
        self,
        greeting,
        timeout_seconds,
        local_ip_host=None,
        rcpthosts=None,
        more_rcpthosts=None,
        badmailfrom=(),
        limit_bytes=0,
        own_addresses=frozenset,
    ):
        self.greeting, self.local_ip_host, self.timeout_seconds = greeting, local_ip_host, timeout_seconds
        self._rcpthosts = None if rcpthosts is None else frozenset(name.lower() for name in rcpthosts)
        self._more_rcpthosts = more_rcpthosts
        self._badmailfrom = frozenset(address.lower() for address in badmailfrom)
        self._limit_bytes, self._own_addresses = limit_bytes, own_addresses

    def limit_bytes(self, environ) -> int:
        """Return the largest size of a message in this connection, 0 for none."""
        text = environ.get(b"DATABYTES")
        limit = self._limit_bytes if text is None else leading_number(text) % UINT32
        return UINT32 - 2 if limit == UINT32 - 1 else limit

    def read_path(self, argument: bytes) -> tuple[bytes | None, dict[bytes, bytes]]:
        """Return (address, parameters) of an argument of MAIL or RCPT; the address is None if it is too long.

        A literal of our own address becomes local_ip_host first.  Raises NoAddresses.
        """
        address, rest = parse_path(argument)
        if self.local_ip_host is not None and address.endswith(b"]") and self._is_own(address_literal(address)):
            address = address.rpartition(b"@")[0] + b"@" + self.local_ip_host
        return address if len(address) <= LIMIT_BYTES else None, split_parameters(rest) if b"=" in rest else {}

    def is_bad_sender(self, sender: bytes) -> bool:
        """Return whether badmailfrom lists the sender, or @ with its domain part.  The empty sender never is."""
        bad = self._badmailfrom
        if not bad or not sender:
            return False
        return sender.lower() in bad or (b"@" in sender and b"@" + domain_part(sender).lower() in bad)

    def is_our_recipient(self, recipient: bytes) -> bool:
        """Return whether rcpthosts or morercpthosts.cdb takes mail for the recipient.

        Without @ it is ours.  Raises what the cdb raises.
        """
        if self._rcpthosts is None or b"@" not in recipient:
            return True
        domain = domain_part(recipient).lower()
        if not domain:
            return False
        if domain in self._rcpthosts:
            return True
        names = suffixes(domain)
        if any(name in self._rcpthosts for name in names):
            return True
        more = self._more_rcpthosts
        return more is not None and any(more(name) is not None for name in names)

    def _is_own(self, literal):
        if literal is None:
            return False
        try:
            return literal in self._own_addresses()
        except OSError as error:
            raise NoAddresses from error


def read_policy(controls, own_addresses=frozenset) -> Policy:
    """Return what the control files say now.  controls is system.controls.Controls.

    Raises OSError if one cannot be read, LookupError if there is neither smtpgreeting nor me.
    """
    greeting = controls.get("smtpgreeting")
    if greeting is None:
        raise LookupError("there is neither control/me nor control/smtpgreeting")
    timeout = controls.get("timeoutsmtpd")
    rcpthosts = controls.get("rcpthosts")
    return Policy(
        greeting,
        local_ip_host=controls.get("localiphost"),
        timeout_seconds=timeout if 0 < timeout < UINT32 // 2 else 1,
        rcpthosts=rcpthosts,
        more_rcpthosts=None if rcpthosts is None else _more_rcpthosts(controls.path("morercpthosts.cdb")),
        badmailfrom=controls.get("badmailfrom"),
        limit_bytes=controls.get("databytes"),
        own_addresses=own_addresses,
    )


def _more_rcpthosts(path):
    if not os.path.lexists(path):
        return None
    from pyqmail.system.cdb import Reader

    try:
        return Reader(path).get
    except FileNotFoundError:
        return None
