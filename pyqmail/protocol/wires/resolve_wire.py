"""The wire to pyresolve: frames (protocol/wires/frames.py), questions and answers under one number, over a stream.

Bodies are NUL-ended strings (frames.strings); numbers in them are decimal.

    kind         who      body
    EXCHANGERS 1 client   domain: its mail exchangers with their addresses
    ADDRESSES  2 client   host: its addresses
    NAME       3 client   address: the name its PTR record gives
    TEXT       4 client   name: its TXT records
    ADDRESSES6 5 client   host: its IPv6 addresses, whether it has others or not
    ADDRESSES4 6 client   host: its IPv4 addresses alone
    HOSTS      7 client   domain: as EXCHANGERS, and for how long the answer holds
    RELAY      8 client   host: as ADDRESSES, and for how long the answer holds
    FOUND     16 server   EXCHANGERS: for each address: preference, host, address, in the order to try
                          ADDRESSES, ADDRESSES4, ADDRESSES6: address ...;  TEXT: one string
                          NAME: name, or nothing if there is no record
    SOFT      17 server   reason: a server failed or did not answer; ask again later
    HOSTS_FOUND 21 server HOSTS, RELAY: seconds, 1 if the answer is stale, otherwise 0; then as FOUND for EXCHANGERS:
                          a relay has the preference 0
    NO_MAIL   22 server   HOSTS: the domain takes no mail, its one MX record says so.  RFC 7505 section 3
    UNABLE    20 server   reason: memory or descriptors have run out here, so that nobody was asked; ask again soon
    NO_HOST   18 server   empty: there is no such name (NXDOMAIN)
    NO_RECORD 19 server   empty: the name is there, what was asked for is not

EXCHANGERS falls back to the domain's own addresses with preference 0 when it has no MX record; NO_HOST there
means that there are none either, NO_RECORD that there are exchangers but none of them has an address.
An answer is stale if it holds no longer, but no server answers now; that is for HOSTS and RELAY alone.
A frame has at most the LIMIT of all frames, a question one string.  A malformed one ends the connection; pyresolve
then exits 111.
pyqmail-wires(5) describes the wire for a program that stands at one end of it.
"""

from pyqmail.protocol.wires import frames
from pyqmail.protocol.wires.frames import MalformedFrame, number_in, split_strings, strings

EXCHANGERS, ADDRESSES, NAME, TEXT, ADDRESSES6, ADDRESSES4, HOSTS, RELAY = 1, 2, 3, 4, 5, 6, 7, 8
MAX_PREFERENCE, MAX_SECONDS = 65535, 86400 * 30
FOUND, SOFT, NO_HOST, NO_RECORD, UNABLE, HOSTS_FOUND, NO_MAIL = 16, 17, 18, 19, 20, 21, 22

pack, Unpacker = frames.pack, frames.Unpacker


def exchangers_body(found: list[tuple[int, bytes, bytes]]) -> bytes:
    """Return the body of FOUND for EXCHANGERS; found are (preference, host, address)."""
    return strings(*[text for preference, host, address in found for text in (b"%d" % preference, host, address)])


def split_exchangers(body: bytes) -> list[tuple[int, bytes, bytes]]:
    """Return [(preference, host, address)].  Raises MalformedFrame."""
    return _triples(split_strings(body))


def hosts_body(seconds: int, is_stale: bool, found: list[tuple[int, bytes, bytes]]) -> bytes:
    """Return the body of HOSTS_FOUND; found are (preference, host, address)."""
    return strings(b"%d" % seconds, b"%d" % is_stale) + exchangers_body(found)


def split_hosts(body: bytes) -> tuple[int, bool, list[tuple[int, bytes, bytes]]]:
    """Return (seconds, is_stale, [(preference, host, address)]).  Raises MalformedFrame."""
    texts = split_strings(body)
    if len(texts) < 2 or texts[1] not in (b"0", b"1"):
        raise MalformedFrame("not how long an answer holds")
    return number_in(texts[0], MAX_SECONDS), texts[1] == b"1", _triples(texts[2:])


def _triples(texts: list[bytes]) -> list[tuple[int, bytes, bytes]]:
    if len(texts) % 3:
        raise MalformedFrame("not triples of preference, host, address")
    return [(number_in(texts[i], MAX_PREFERENCE), texts[i + 1], texts[i + 2]) for i in range(0, len(texts), 3)]
