"""Which line of control/destinations allows more than a limit that holds mail back.

A limit that somebody wrote is raised where it stands.  A default is lifted for one destination: its domain or, if
several lead there, its hosts.  A rate likewise.  The line names twice as much.
"""

from pyqmail.mail.destinations.limits.budgets import ADDRESS, DOMAIN, HOST, NET, SITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Door
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.rules.policies import Limit

EVERY_RECIPIENT = b"rcpt="


def line_for(budget: "Budget", door: "Door", domain: bytes) -> bytes:
    """Return the line that doubles the limit of a budget, for a door that waits for it with mail to a domain."""
    more = budget.limit * 2
    written = budget.owner.partition(b" (")[0]
    address, _, item = written.rpartition(b":")
    if address not in (b"", EVERY_RECIPIENT):
        kind, _, number = item.partition(b"=")
        scope = number.partition(b"/")[2]
        return b"%b:%b=%d%b" % (address, kind, more, b"/" + scope if scope else b"")
    scope = b"/net" if budget.kind == NET else b""
    return b"%b:c=%d%b" % (_address(budget, door, domain), more, scope)


def line_for_rate(limit: "Limit", budget: "Budget", door: "Door", domain: bytes) -> bytes:
    """Return the line that doubles a rate of a budget, for a door that waits for it with mail to a domain."""
    address, _, item = limit.owner.rpartition(b":")
    if address in (b"", EVERY_RECIPIENT):
        address = _address(budget, door, domain)
    kind, _, text = item.partition(b"=")
    rate, slash, scope = _without_scope(text)
    number, _, period = rate.partition(b"~")[0].partition(b"/")
    return b"%b:%b=%d/%b~%d%b" % (address, kind, 2 * limit.value, period, 2 * limit.burst, slash + scope)


def _without_scope(text: bytes) -> tuple[bytes, bytes, bytes]:
    """Return a rate as it was written, and its scope with the slash before it if there is one."""
    number, first, rest = text.partition(b"/")
    period, slash, scope = rest.partition(b"/")
    return number + first + period, slash, scope


def _address(budget: "Budget", door: "Door", domain: bytes) -> bytes:
    """Return the address of a line that speaks of what a default limits."""
    if budget.kind == HOST:
        return b"mx=" + budget.name
    if budget.kind in (ADDRESS, NET):
        return b"ip=" + budget.name
    if budget.kind == DOMAIN:
        return EVERY_RECIPIENT + budget.name if b"@" in budget.name else budget.name
    site = door.site
    if site.route:
        return site.route
    hosts = [name for _, name, _ in site.candidates]
    if door.lane_count <= 1 and len(site.organisation.doors) <= 1 or not hosts:
        return domain
    if len(hosts) == 1 and budget.kind == SITE:
        return b"mx=" + hosts[0]
    ending = b"." + site.organisation.name
    return b"mx=" + (ending if all(host.endswith(ending) for host in hosts) else hosts[0])
