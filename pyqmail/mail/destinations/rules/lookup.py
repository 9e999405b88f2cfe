"""What applies to a destination: the lines that match, and of those that compete the one that wins."""

from pyqmail.mail.destinations.rules.policies import (
    AddressPolicy,
    PoolMember,
    RecipientPolicy,
    SenderPolicy,
    SitePolicy,
)
from pyqmail.mail.destinations.rules.responses import Automaton

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    class Table(Protocol):
        """Compiled rules: a cdb, a dict."""

        def get(self, key: bytes, /) -> bytes | None: ...


class RuleSet:
    """The compiled rules of a table, those of an overlay before them, and the built-in ones behind them.

    registrable(domain) returns the registrable domain by the public suffix list.  Every method may raise what the
    table's get() raises.
    """

    __slots__ = ()

    def __init__(
        self, table: "Table", overlay: "Table | None" = None, *, registrable: "Callable[[bytes], bytes] | None" = None
    ) -> None:
        raise NotImplementedError

    @classmethod
    def of_text(
        cls,
        destinations: bytes,
        responses: bytes | None = None,
        *,
        registrable: "Callable[[bytes], bytes] | None" = None,
    ) -> "RuleSet":
        """Return the rules of a text; responses None: those that are shipped.  Raises BadRules, with line and column."""
        raise NotImplementedError

    @property
    def responses(self) -> Automaton:
        """The response rules."""
        raise NotImplementedError

    def for_site(
        self,
        domain: bytes,
        hosts: "Sequence[bytes]" = (),
        addresses: "Sequence[bytes]" = (),
        source: bytes = b"",
    ) -> SitePolicy:
        """Return what applies to a domain (or the host of a route) whose MX hosts have these names and addresses.

        domain may be empty: what its lines say is left out then.  Without hosts, before a domain is resolved, no line
        of a host counts.  addresses may be empty if they are not known.  Equal policies are one object, mostly.
        """
        raise NotImplementedError

    def for_address(self, host: bytes, address: bytes, policy: SitePolicy) -> AddressPolicy:
        """Return what applies besides policy, that of the site, to a session with that address of that host."""
        raise NotImplementedError

    def for_recipient(self, recipient: bytes) -> RecipientPolicy:
        """Return what applies to a local recipient, the whole address in lower case."""
        raise NotImplementedError

    def for_sender(self, sender: bytes) -> SenderPolicy | None:
        """Return what a line says of a sender's domain, empty for the null sender; None if there is no such line."""
        raise NotImplementedError

    def pool(self, name: bytes) -> tuple[PoolMember, ...]:
        """Return the sources of a pool, `%bulk`; empty if there is none."""
        raise NotImplementedError
