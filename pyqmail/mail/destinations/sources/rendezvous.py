"""Which source of a pool mail goes out through: weighted rendezvous hashing.

Each source draws a number by a hash of the mail's key and its own address; the best one wins.  So the same key always
draws the same source, in this process and the next; a source that is added takes its share of each of the others' and
nothing else moves, and one that goes leaves its share to the others, by their weights.

With u uniform in (0, 1), -ln(u) / weight is an exponential variable, and the least of such falls to each in proportion
to its weight.  Source: Thaler, Ravishankar, A name-based mapping scheme for rendezvous, 1996; Schindelhauer, Schomaker,
Weighted distributed hash tables, 2005
"""

import hashlib
import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyqmail.mail.destinations.rules.policies import PoolMember

_BITS = 52  # what a float holds of a number between 0 and 1


def in_order(key: bytes, members: "Iterable[PoolMember]") -> "list[PoolMember]":
    """Return the sources as the mail of a key prefers them, the best first."""
    return sorted(members, key=lambda member: (_draw(key, member.address) / member.weight, member.address))


def key_of_message(number: int, birth: int, domain: bytes) -> bytes:
    """Return the key of what a message has for a domain.

    The queue's files keep its number and its birth, so both survive a restart; a number alone is soon another's.
    """
    return b"%d:%d:%b" % (number, birth, domain)


def key_of_sender(sender: bytes, domain: bytes) -> bytes:
    """Return the key of all mail of a sender's domain for a domain."""
    return b"@%b\0%b" % (sender, domain)


def _draw(key: bytes, address: bytes) -> float:
    digest = hashlib.blake2b(key, key=address, digest_size=8).digest()
    number = int.from_bytes(digest, "big") >> 64 - _BITS
    return -math.log((number + 0.5) / (1 << _BITS))
