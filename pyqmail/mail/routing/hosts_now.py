"""The hosts of a domain, found by a program that may wait: no resolver process, no event loop.

What this program does not need is not imported: a delivery to a route's address asks nobody.
"""

from pyqmail.mail.routing.exchangers import plan_for, settle_found, settle_literal
from pyqmail.protocol.wires import resolve_wire


def find_hosts(domain: bytes, routes: dict[bytes, bytes], environ) -> list[tuple[bytes, bytes, int]]:
    """Return [(host, address, port)] in the order to try.  Raises Unroutable; OSError if something is lacking here."""
    plan = plan_for(domain, routes)
    own: set[bytes] = set()
    if not plan.is_routed:
        from pyqmail.system.interfaces import own_addresses

        own = own_addresses()
    if plan.question is None:
        return settle_literal(plan, own)
    kind, found = _ask(plan, environ)
    return settle_found(plan, kind, found, own)


def _ask(plan, environ):
    """Return (kind of resolve_wire, [(preference, host, address)])."""
    from pyqmail.system import resolver

    try:
        if plan.question == resolve_wire.EXCHANGERS:
            return resolve_wire.FOUND, resolver.exchangers_of(plan.name, environ)
        addresses = resolver.addresses_of(plan.name, environ)
    except resolver.Soft:
        return resolve_wire.SOFT, []
    except resolver.NoHost:
        return resolve_wire.NO_HOST, []
    except resolver.NoRecord:
        return resolve_wire.NO_RECORD, []
    found = [(0, plan.name, address) for address in addresses]
    return (resolve_wire.FOUND if found else resolve_wire.NO_HOST), found
