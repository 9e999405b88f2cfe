"""What is said about a remote delivery: qmail-remote's records, and the report a spawner makes of them.

qmail-remote writes records, each a letter, text and NUL: for every recipient r accepted, h refused for good,
s refused for now; then one for the message: K accepted, Z failed for now, D failed for good.  The spawner merges
them into one report, K, Z or D and text.  Source: qmail-remote(8), report() of qmail-rspawn
"""

OUT_OF_MEMORY = b"ZOut of memory. (#4.3.0)\n"
NO_HOME = b"ZUnable to switch to home directory. (#4.3.0)\n"
NO_CONTROLS = b"ZUnable to read control files. (#4.3.0)\n"
NO_RESOURCES = b"ZSystem resources temporarily unavailable. (#4.3.0)\n"
UNREADABLE = b"ZUnable to read message. (#4.3.0)\n"
PARTIAL_LINE = b"DSMTP cannot transfer messages with partial final lines. (#5.6.2)\n"
IMPROPER = b"DI (qmail-remote) was invoked improperly. (#5.3.5)\n"
SENDER_BREAK = b"DSorry, the sender's address contains a line break. (#5.1.7)\n"
RECIPIENT_BREAK = b"hSorry, that address contains a line break. (#5.1.3)\n"

CRASHED = b"Zqmail-remote crashed.\n"
NOT_RUN_NOW = b"ZUnable to run qmail-remote.\n"
NOT_RUN = b"DUnable to run qmail-remote.\n"
# exit codes of qmail-remote, of a shell and of env: whatever stands in its place could not be run
CANNOT_RUN = (111, 126, 127)
SILENT = b"Zqmail-remote produced no output.\n"

ACCEPTED = b"r"

# situations of a refusal (smtp_client)
GREETING, NAME, SENDER, RECIPIENTS, DATA, MESSAGE = "greeting", "helo", "sender", "recipients", "data", "message"

# situation -> (letter or None for the code's own, before the address, after it)
_REFUSALS = {
    GREETING: (b"Z", b"Connected to ", b" but greeting failed"),
    NAME: (b"Z", b"Connected to ", b" but my name was rejected"),
    SENDER: (None, b"Connected to ", b" but sender was rejected"),
    RECIPIENTS: (b"D", b"Giving up on ", b""),
    DATA: (None, b"", b" failed on DATA command"),
    MESSAGE: (None, b"", b" failed after I sent the message"),
}
_RANK = {b"D": -1, b"Z": 0, b"K": 1}


def accepted(address: bytes, reply: bytes) -> bytes:
    """Return the message record of a success."""
    return b"K" + address + b" accepted message.\n" + remote_said(reply)


def recipient_record(address: bytes, code: int, reply: bytes) -> bytes:
    """Return the record of a recipient that the server answered with code."""
    if code // 100 == 2:
        return ACCEPTED
    letter = b"h" if code // 100 == 5 else b"s"
    return letter + address + b" does not like recipient.\n" + remote_said(reply)


def refused(situation: str, address: bytes, code: int, reply: bytes) -> bytes:
    """Return the message record for what the server refused; RECIPIENTS, that it accepted none of them."""
    letter, before, after = _REFUSALS[situation]
    if letter is None:
        letter = b"D" if code // 100 == 5 else b"Z"
    said = b"" if situation == RECIPIENTS else remote_said(reply)
    return letter + before + address + after + b".\n" + said


def died(address: bytes, is_critical: bool) -> bytes:
    """Return the message record for a connection that was lost; is_critical: after the dot, before its reply."""
    doubt = b" Possible duplicate!" if is_critical else b""
    return b"ZConnected to " + address + b" but connection died." + doubt + b" (#4.4.2)\n"


def ended(situation: str, address: bytes, code: int, reply: bytes) -> bytes:
    """Return a deferral in the words for what ended a connection; a situation that is none of ours: it was lost."""
    if situation == RECIPIENTS:
        return b"Z" + recipient_record(address, code, reply)[1:]
    if situation in _REFUSALS:
        return b"Z" + refused(situation, address, code, reply)[1:]
    return died(address, False) + remote_said(reply)


def remote_said(reply: bytes) -> bytes:
    """Return the sentence that quotes a reply; empty if there was none."""
    return b"Remote host said: " + reply.replace(b"\0", b"?") if reply else b""


def compose(exit_code: int | None, output: bytes) -> bytes:
    """Return the report a spawner makes of qmail-remote's exit code (None: killed by a signal) and output."""
    if exit_code != 0:
        return CRASHED if exit_code is None else NOT_RUN_NOW if exit_code in CANNOT_RUN else NOT_RUN
    if not output:
        return SILENT
    records = output.split(b"\0")[:-1]
    result = next((_RANK[record[:1]] for record in records if record[:1] in _RANK), -1)
    final = {b"s": 0, b"h": -1}.get(output[:1], result)
    first, ended, rest = output[1:].partition(b"\0")  # its first byte is a letter to the original, even a NUL
    second, ended_too, _ = rest.partition(b"\0")
    if not ended_too or result > final or second[:1] not in _RANK:
        second = b""
    return (b"D", b"Z", b"K")[final + 1] + (first + second[1:] if ended else b"")


def compose_one(address: bytes, recipient: bytes | None, message: bytes) -> bytes:
    """Return the report for one recipient of several: as if it had been the only one.

    recipient is its record, None if the server never answered for it; message the message's record.
    """
    if recipient is None or recipient == ACCEPTED:
        return message
    return compose(0, recipient + b"\0" + refused(RECIPIENTS, address, 0, b"") + b"\0")
