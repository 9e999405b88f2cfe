"""Which addresses the key of a rule is for, and whether rules that are searched before it cover all of them.

The order is that of the search (tcp/rules/lookup.py), not of the lines: the whole address; its parts that end in a
dot, the longest first; networks, the smallest first.  So `10.` comes before `10.0.0.0/8`, wherever either stands, and
the network never holds.  The addresses of a key of names, users or everybody are unknown here: it covers none.
"""

import bisect

from pyqmail.tcp.rules.keys import IP4_NETWORK, IP6_NETWORK, ip4_number, ip6_packed, readable

_PREFIXES = 3  # of an IPv4 address, that end in a dot


class Span:
    """family 4 or 6; rank: the lower one is searched first; the addresses from low to high."""

    __slots__ = ("family", "rank", "low", "high")

    def __init__(self, family: int, rank: int, low: int, bits: int):
        width = 32 if family == 4 else 128
        self.family, self.rank = family, rank
        self.low = low >> (width - bits) << (width - bits)
        self.high = self.low + (1 << (width - bits)) - 1


def span_of(key: bytes) -> Span | None:
    """Return the addresses of a key, None if it is not for addresses alone, or for none that can exist."""
    if key[:1] in (IP4_NETWORK, IP6_NETWORK):
        ip, slash, digits = readable(key).partition(b"/")
        if not slash:
            return None
        bits = int(digits)
        if b":" in ip:
            return Span(6, 1 + _PREFIXES + 128 - bits, int.from_bytes(ip6_packed(ip) or b"", "big"), bits)
        return Span(4, 1 + _PREFIXES + 32 - bits, ip4_number(ip) or 0, bits)
    if b":" in key:
        packed = ip6_packed(key)
        return None if packed is None else Span(6, 0, int.from_bytes(packed, "big"), 128)
    groups = key.removesuffix(b".").split(b".")
    is_whole = not key.endswith(b".")
    if (len(groups) == 4) != is_whole or any(len(group) > 1 and group.startswith(b"0") for group in groups):
        return None
    number = ip4_number(b".".join([*groups, *[b"0"] * (4 - len(groups))]))
    return None if number is None else Span(4, 4 - len(groups), number, 8 * len(groups))


class Coverage:
    """Addresses, as spans that do not touch."""

    def __init__(self):
        self._lows: list[int] = []
        self._highs: list[int] = []

    def add(self, spans) -> None:
        lows: list[int] = []
        highs: list[int] = []
        known = zip(self._lows, self._highs, strict=True)
        for low, high in sorted([*known, *((span.low, span.high) for span in spans)]):
            if highs and low <= highs[-1] + 1:
                highs[-1] = max(highs[-1], high)
            else:
                lows.append(low)
                highs.append(high)
        self._lows, self._highs = lows, highs

    def has_all_of(self, span: Span) -> bool:
        at = bisect.bisect_right(self._lows, span.low) - 1
        return at >= 0 and span.high <= self._highs[at]


def unreached(rules: dict) -> dict:
    """Return {key: whether all that is searched before it denies} of the keys whose addresses other keys cover.

    rules: key -> whether it denies.
    """
    found: dict[bytes, bool] = {}
    spans = [(span, key) for key in rules if (span := span_of(key)) is not None]
    for family in (4, 6):
        ranks: dict[int, list[tuple[Span, bytes]]] = {}
        for span, key in spans:
            if span.family == family:
                ranks.setdefault(span.rank, []).append((span, key))
        before, denied = Coverage(), Coverage()
        for rank in sorted(ranks):
            found |= {key: denied.has_all_of(span) for span, key in ranks[rank] if before.has_all_of(span)}
            before.add(span for span, _ in ranks[rank])
            denied.add(span for span, key in ranks[rank] if rules[key])
    return found
