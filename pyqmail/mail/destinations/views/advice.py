"""Which line of control/destinations allows more than a limit that holds mail back.

A limit that somebody wrote is raised where it stands.  A default is lifted for one destination: its domain or, if
several lead there, its hosts.  The line names twice as much.
"""

from pyqmail.mail.destinations.limits.budgets import ADDRESS, DOMAIN, HOST, NET, SITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Door
    from pyqmail.mail.destinations.limits.budgets import Budget

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
    return b"%b:c=%d" % (_address(budget, door, domain), more)


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
