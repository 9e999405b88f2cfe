"""Which part of a host's name somebody registered: the public suffix list, as its package has it.

The list is dated: a suffix that is younger than the package, or no public one, counts as one label.  Only the part of
the list that registries keep is asked (ICANN): what a hoster gives to its customers is one organisation's machines.
"""

import functools

from publicsuffixlist import PublicSuffixList

_LONGEST = 255  # bytes of a name.  RFC 1035 section 2.3.4


@functools.cache
def public_suffixes() -> "PublicSuffixes":
    """Return the list, read at the first call: a program that gives up rights calls this before, as it imports."""
    return PublicSuffixes()


class PublicSuffixes:
    """The list, as it is read: 10,000 names, some megabytes."""

    __slots__ = ("_list",)

    def __init__(self) -> None:
        self._list = PublicSuffixList(only_icann=True)

    def registrable(self, host: bytes) -> bytes:
        """Return the registrable domain of a host (lower case, no final dot): example.co.uk of mx.example.co.uk.

        An unknown suffix is one label, so the last two are returned.  A name that is itself a public suffix, or is no
        text of a name server, is returned as it is.
        """
        if len(host) > _LONGEST or not host.isascii():
            return host
        found = self._list.privatesuffix(host.decode("ascii"))
        return found.encode("ascii") if found else host

    def is_public(self, name: bytes) -> bool:
        """Return whether a name (lower case, no final dot) is itself a public suffix, as co.uk is."""
        return len(name) <= _LONGEST and name.isascii() and bool(self._list.is_public(name.decode("ascii")))
