"""Pools of sources in rules: how a source is written, and what cannot be meant.

    %bulk:192.0.2.10=mx10.example.net*3,192.0.2.11=mx11.example.net,warm=192.0.2.12=mx12.example.net@2026-11-01

A source has one name to greet with and one warm-up, whatever pools it is in; its weight is its pool's.  A pool has a
source that is not in warm-up: what exceeds a warm-up goes there.
"""

import socket

from pyqmail.base.literals import literal_address
from pyqmail.base.printable import printable
from pyqmail.mail.destinations.rules.items import BadValue, date_of, name_of
from pyqmail.mail.destinations.rules.policies import PoolMember

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyqmail.mail.destinations.rules.text import RuleLine

DAY = 86400
FIRST_DAY = 200  # recipients to each organisation
WARM_UP_DAYS = 30  # 25 million recipients on the last of them: it binds no more
MAX_DAYS_AHEAD = 366
MAX_WEIGHT = 9999


def pool_member(text: bytes) -> PoolMember:
    """Return the source that `address=name*weight` names, or `warm=address=name*weight@date`.  Raises BadValue."""
    warm, is_warm = None, text.startswith(b"warm=")
    if is_warm:
        text, at, date = text[5:].partition(b"@")
        if not at:
            raise BadValue("not the source and the first day of its warm-up, for example warm=192.0.2.1@2026-11-01")
        if b"T" in date:
            raise BadValue("a warm-up begins with a day, for example 2026-11-01")
        warm = date_of(date)
    text, star, weight = text.partition(b"*")
    address, equals, helo = text.partition(b"=")
    known = literal_address(address)
    if known is None or address.startswith(b"["):
        raise BadValue("not the address of a source")
    if not _is_sendable(known):
        raise BadValue("no mail can be sent with this address")
    if star and not (weight.isdigit() and len(weight) <= len(str(MAX_WEIGHT)) and int(weight)):
        raise BadValue(f"the weight is from 1 to {MAX_WEIGHT}")
    return PoolMember(known, name_of(helo, "a name") if equals else b"", int(weight) if star else 1, warm)


def _is_sendable(address: bytes) -> bool:
    """Return whether a socket may have an address: none, multicast and broadcast ones stand for no machine."""
    if b":" in address:
        packed = socket.inet_pton(socket.AF_INET6, address.decode())
        return any(packed) and packed[0] != 0xFF
    packed = socket.inet_pton(socket.AF_INET, address.decode())
    return 0 < packed[0] < 224


def problems_of_pools(lines: "Sequence[RuleLine]", date: float | None) -> "Iterable[tuple[RuleLine, int, str]]":
    """Yield (line, offset, what is wrong) of the lines of pools; date None: what depends on today is not looked at."""
    known: dict[bytes, tuple[PoolMember, RuleLine]] = {}
    for line in lines:
        members = [(item[1], item[3]) for item in line.items if isinstance(item[1], PoolMember)]
        if members and all(member.warm_from is not None for member, _ in members):
            yield line, members[0][1], "each source is in warm-up: what exceeds that has no other to go to"
        for member, offset in members:
            if date is not None and (text := _problem_of_date(member, date)):
                yield line, offset, text
            other, where = known.setdefault(member.address, (member, line))
            if (other.helo, other.warm_from) != (member.helo, member.warm_from):
                text = f"{printable(member.address)} has another name or warm-up in line {where.number}"
                yield line, offset, text


def _problem_of_date(member: PoolMember, date: float) -> str:
    if member.warm_from is None:
        return ""
    if date >= member.warm_from + WARM_UP_DAYS * DAY:
        return f"a warm-up is over after {WARM_UP_DAYS} days: leave out warm= and the date"
    if member.warm_from > date + MAX_DAYS_AHEAD * DAY:
        return "a warm-up that begins in more than a year"
    return ""
