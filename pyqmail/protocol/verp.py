"""Senders that differ for each recipient, written `box@host-@[]` in an envelope: variable envelope return paths."""


def has_verp(sender: bytes) -> bool:
    """Return whether the sender differs for each recipient: `box@host-@[]`."""
    return sender.endswith(b"-@[]") and b"@" in sender[:-4]


def expand_verp(sender: bytes, recipient: bytes) -> bytes:
    """Return the sender for one recipient: `list-@host-@[]` for `a@b` becomes `list-a=b@host`; others stay.

    Source: senderadd() of qmail-send
    """
    if not has_verp(sender) or b"@" not in recipient:
        return sender
    box, _, host = sender[:-4].rpartition(b"@")
    local, _, domain = recipient.rpartition(b"@")
    return b"%b%b=%b@%b" % (box, local, domain, host)


def plain_sender(sender: bytes) -> bytes:
    """Return the sender that a bounce goes to: without `-@[]` at its end."""
    return sender[:-4] if sender.endswith(b"-@[]") else sender
