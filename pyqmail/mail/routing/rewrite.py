"""What an envelope recipient becomes: local or remote, and under which address."""

from pyqmail.base.addresses import suffixes

LOCAL, REMOTE = "local", "remote"


class Rewriter:
    """The rules of control/envnoathost, percenthack, locals and virtualdomains.

    lists are of domains, virtualdomains maps keys in lower case to prepends.  Source: rewrite() of qmail-send
    """

    def __init__(self, envnoathost: bytes, percenthack, locals_, virtualdomains: dict[bytes, bytes]) -> None:
        self._envnoathost = envnoathost
        self._percenthack = frozenset(domain.lower() for domain in percenthack)
        self.use(locals_, virtualdomains)

    def use(self, locals_, virtualdomains: dict[bytes, bytes]) -> None:
        """Go on with these two: what HUP reads again."""
        self._locals = frozenset(domain.lower() for domain in locals_)
        self._virtualdomains = virtualdomains

    def rewrite(self, recipient: bytes) -> tuple[str, bytes]:
        """Return (LOCAL or REMOTE, address).  The address keeps its case."""
        if b"@" not in recipient:
            recipient += b"@" + self._envnoathost
        box, _, domain = recipient.rpartition(b"@")
        key = domain.lower()
        while key in self._percenthack:
            outer, percent, inner = box.rpartition(b"%")
            if not percent:
                break
            box, domain = outer, inner
            recipient, key = box + b"@" + domain, domain.lower()
        if key in self._locals:
            return LOCAL, recipient
        if self._virtualdomains:
            for way in (recipient.lower(), *suffixes(key), b""):
                prepend = self._virtualdomains.get(way)
                if prepend is not None:
                    return (LOCAL, prepend + b"-" + recipient) if prepend else (REMOTE, recipient)
        return REMOTE, recipient

    def strip_prepend(self, address: bytes) -> bytes:
        """Return the address without the prepend its domain has in virtualdomains: what a bounce shows.

        Entries for a whole address are not looked up, as in the original.  Source: stripvdomprepend()
        """
        if not self._virtualdomains or b"@" not in address:
            return address
        for way in (*suffixes(address.rpartition(b"@")[2].lower()), b""):
            prepend = self._virtualdomains.get(way)
            if prepend is not None:
                return address[len(prepend) + 1 :] if prepend and address.startswith(prepend + b"-") else address
        return address
