"""Which route counts: that of `route=`, or that of control/smtproutes.

The line that names the destination more closely: its domain; a label with a star, which is one domain under any public
suffix; a suffix, the longer one first; then all else (the empty address, MX hosts, groups that those attach).  A group
counts as the line that attaches it.  Of two that are equal the rule counts: it is the newer file.
"""

from pyqmail.base.literals import literal_address
from pyqmail.mail.destinations.rules.text import DOMAIN_LINE, GROUP, STAR, SUFFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyqmail.mail.destinations.rules.policies import MatchedLine, SitePolicy

    Relay = tuple[bytes, int]  # host, empty for a look-up of MX hosts; port
    # of control/smtproutes: the key of the line (the domain, `.suffix`, empty); the relay's name to be looked up, empty
    # if it is an address; `host:port`, empty if the line says that MX hosts are used
    SmtpRoute = tuple[bytes, bytes, bytes]

_EXACT, _STAR, _SUFFIX, _ALL = 3, 2, 1, 0
_KINDS = {DOMAIN_LINE: _EXACT, STAR: _STAR, SUFFIX: _SUFFIX}


def written_route(policy: "SitePolicy", smtp_route: "SmtpRoute | None") -> "Relay | None":
    """Return the `route=` of a policy if that counts, None if control/smtproutes does, or nothing routes."""
    route = policy.route
    if route is None or smtp_route is None:
        return route
    ours = _width_of(policy.sources[b"route"], policy.matches)
    return route if ours >= _width_of_key(smtp_route[0]) else None


def relay_text(relay: "Relay") -> bytes:
    """Return `host:port`, an IPv6 address in brackets."""
    host, port = relay
    return b"[%b]:%d" % (host, port) if b":" in host else b"%b:%d" % (host, port)


def is_address(host: bytes) -> bool:
    """Return whether a relay is named by its address: then nobody is asked about it."""
    return literal_address(host) is not None


def _width_of_key(key: bytes) -> tuple[int, int]:
    if not key:
        return _ALL, 0
    return (_SUFFIX, len(key)) if key.startswith(b".") else (_EXACT, 0)


def _width_of(line: "MatchedLine", matches: "Sequence[MatchedLine]") -> tuple[int, int]:
    """Return how closely a line names the destination."""
    kind = line.key[:1]
    if kind == GROUP:
        name = line.address.partition(b"/")[0]
        return max((_width_of(one, matches) for one in matches if name in one.groups), default=(_ALL, 0))
    width = _KINDS.get(kind, _ALL)
    return width, len(line.address) if width == _SUFFIX else 0
