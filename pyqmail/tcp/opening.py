"""Where to listen: what the words HOST and PORT mean, and the sockets opened there."""

import os

from pyqmail.base.failure import Temporary
from pyqmail.system.listener import listen
from pyqmail.tcp.addresses import literal
from pyqmail.tcp.ears import Ear


def open_ears(host: str, port: int, backlog: int) -> list[Ear]:
    """Return what listens for the word HOST.  Raises Temporary."""
    return [Ear(listen(find_address(host), port, backlog))]


def find_address(host: str) -> str:
    """Return the address a host word means, its first one.  Raises Temporary."""
    if host in ("", "0"):
        return "0.0.0.0"
    found = literal(host)
    if found is None:
        from pyqmail.system import resolver

        try:
            found = [address.decode() for address in resolver.addresses_of(os.fsencode(host), kinds=("A",))]
        except resolver.Soft as failure:
            raise Temporary(f"temporarily unable to figure out IP address for {host}: {failure}") from None
    if not found:
        raise Temporary(f"no IP address for {host}")
    return found[0]
