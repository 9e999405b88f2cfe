"""Convert networks and IPv6 addresses to the keys of compiled rules, and back.

The form is that of ucspi-tcp6, so that either reads what the other compiled:

    2001:db8::1      2001:0DB8:0000:0000:0000:0000:0000:0001
    10.0.0.0/8       `_` and a character for each bit of the prefix: 0, or a one's character for its place
    2001:db8::/32    `^` and likewise, where a one is the next of a sequence that only ones advance

The choice of characters does not matter: equal bits give equal keys, and a shorter prefix is the start of a longer one.
"""

IP4_NETWORK, IP6_NETWORK = b"_", b"^"
MAPPED = bytes(10) + b"\xff\xff"  # the start of an IPv6 address that stands for one of IPv4
_IP4_ONES = b"abcdefghijklmnopqrstuvwxyz123456"
_IP6_FIRST_ONE = 96
# the two bytes with which such keys start; there is no prefix of 0 bits
STARTS = {IP4_NETWORK: (b"_0", b"_a"), IP6_NETWORK: (b"^0", b"^`")}


def ip4_number(text: bytes) -> int | None:
    """Return the number of a dotted IPv4 address, four groups up to 255; None if the text is no such address."""
    groups = text.split(b".")
    if len(groups) != 4 or not all(group.isdigit() and len(group) < 4 and int(group) < 256 for group in groups):
        return None
    return int.from_bytes(map(int, groups), "big")


def ip6_packed(text: bytes) -> bytes | None:
    """Return the 16 bytes of an IPv6 address in any of its forms, without a scope; None for any other text."""
    from socket import AF_INET6, inet_pton

    try:
        return inet_pton(AF_INET6, text.decode("latin-1"))
    except (OSError, ValueError):
        return None


def ip6_key(packed: bytes) -> bytes:
    return packed.hex(":", 2).upper().encode()


def ip6_text(packed: bytes) -> bytes:
    """Return the short form, in lower case; the last 32 bits of a mapped address dotted."""
    from socket import AF_INET6, inet_ntop

    return inet_ntop(AF_INET6, packed).encode()


def ip4_network_key(number: int, prefix_bits: int = 32) -> bytes:
    ones = (one if number >> (31 - at) & 1 else 48 for at, one in enumerate(_IP4_ONES[:prefix_bits]))
    return IP4_NETWORK + bytes(ones)


def ip6_network_key(packed: bytes, prefix_bits: int = 128) -> bytes:
    key, one = bytearray(IP6_NETWORK), _IP6_FIRST_ONE
    for bit in f"{int.from_bytes(packed, 'big'):0128b}"[:prefix_bits]:
        key.append(one if bit == "1" else 48)
        one += bit == "1"
    return bytes(key)


def network_key(ip: bytes) -> bytes:
    """Return the key of the smallest network that an address is in: itself.  Empty if ip is no address."""
    if b":" in ip:
        packed = ip6_packed(ip)
        return b"" if packed is None else ip6_network_key(packed)
    number = ip4_number(ip)
    return b"" if number is None else ip4_network_key(number)


def readable(key: bytes) -> bytes:
    """Return a key as it is written in a rule: that of a network as address/bits, any other unchanged."""
    mark, bits = key[:1], len(key) - 1
    width = {IP4_NETWORK: 32, IP6_NETWORK: 128}.get(mark, 0)
    if not 1 <= bits <= width:
        return key
    places = "".join("0" if place == 48 else "1" for place in key[1:])
    number = int(places.ljust(width, "0"), 2)
    if mark == IP4_NETWORK:
        same, ip = ip4_network_key(number, bits), b"%d.%d.%d.%d" % tuple(number.to_bytes(4, "big"))
    else:
        packed = number.to_bytes(16, "big")
        same, ip = ip6_network_key(packed, bits), ip6_text(packed)
    return b"%b/%d" % (ip, bits) if same == key else key
