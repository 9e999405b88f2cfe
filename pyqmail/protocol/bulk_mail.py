"""Which messages say of themselves that they went out in bulk: they give way to others.

Nobody can declare a message urgent; only downwards is believed.  Source: RFC 2369 section 3.2 (List-Unsubscribe),
RFC 3834 section 2 (Precedence)
"""

HEAD_BYTES = 4096  # of a message, in which its header is looked for
_LOW = (b"bulk", b"list", b"junk")


def is_bulk(head: bytes) -> bool:
    """Return whether the header that a message begins with, or the part of it that is here, says so.

    Lines end with LF, in any case of letters.
    """
    header = b"\n" + head.lower()
    end = header.find(b"\n\n")
    if end >= 0:
        header = header[: end + 1]
    if b"\nlist-unsubscribe:" in header:
        return True
    _, mark, value = header.partition(b"\nprecedence:")
    return bool(mark) and value.partition(b"\n")[0].strip() in _LOW
