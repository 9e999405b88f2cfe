"""The native dialect between pysend and its spawners: frames (protocol/wires/frames.py), one pipe each way.

number is a delivery for DELIVER and RESULT on the local pipe, a session everywhere else.  Bodies are
NUL-ended strings (frames.strings); numbers in them are decimal.

    kind          from      body
    HELLO      1  spawner   empty; number is the most deliveries (local) or sessions (remote) it takes at once
    DELIVER    2  pysend    path below queue/mess, sender, then for each recipient: delivery, recipient
    RESULT     3  spawner   delivery, report: K, Z or D and text, as a spawner reports it to qmail-send
    OPEN       4  pysend    destination, source address or empty, then for each candidate: host, address, port
    READY      5  spawner   host, address: greeted, mail may come
    REFUSED    6  spawner   stage (greeting, helo), code, host, address, report
    FAILED     7  spawner   stage (connect, dialogue), errno, host, address, report
    CLOSE      8  pysend    empty: say QUIT when nothing is in flight
    CLOSED     9  spawner   host, address: the peer has gone, the session's units are free
    UNSENT    10  spawner   delivery: to be made by a new session; what came of it here does not count
    TRYING    11  spawner   host, address: connects there now, for two seconds already

Local: DELIVER with one recipient, RESULT in the order of completion; number is the delivery, repeated inside.
Remote: OPEN is answered by READY, or by REFUSED or FAILED once no candidate is left, and then CLOSED; before that by
TRYING for each candidate but the first that takes its time.  After READY, DELIVER is answered by one RESULT or UNSENT
for each of its deliveries.  CLOSED comes exactly once for each OPEN, last: after REFUSED, FAILED or UNSENT, which end a
session by themselves, else only after CLOSE, so that it does not cross a DELIVER; one that crosses it all the same was
not begun and is not answered.  End of file from pysend: finish what is in flight, report it, and exit 0.  A frame that
means nothing here, or is longer than the LIMIT of all frames, is MalformedFrame: the spawner exits 111, pysend treats
it as a lost spawner.
pyqmail-wires(5) describes the wire for a program that stands at one end of it.
"""

from pyqmail.protocol.wires import frames
from pyqmail.protocol.wires.frames import MalformedFrame, number_in, split_strings, strings

HELLO, DELIVER, RESULT, OPEN, READY, REFUSED, FAILED, CLOSE, CLOSED, UNSENT, TRYING = range(1, 12)

MAX_PORT = 65535

pack, Unpacker = frames.pack, frames.Unpacker


def deliver(number: int, path: bytes, sender: bytes, recipients: list[tuple[int, bytes]]) -> bytes:
    """Return a DELIVER frame; recipients are (delivery, address)."""
    pairs = [text for delivery, address in recipients for text in (b"%d" % delivery, address)]
    return pack(DELIVER, number, strings(path, sender, *pairs))


def split_deliver(body: bytes) -> tuple[bytes, bytes, list[tuple[int, bytes]]]:
    """Return (path, sender, [(delivery, address)]).  Raises MalformedFrame."""
    texts = split_strings(body)
    if len(texts) < 4 or len(texts) % 2:
        raise MalformedFrame("DELIVER without recipients")
    return texts[0], texts[1], [(number_in(texts[i]), texts[i + 1]) for i in range(2, len(texts), 2)]


def result(number: int, delivery: int, report: bytes) -> bytes:
    """Return a RESULT frame; a NUL in the report ends it."""
    return pack(RESULT, number, strings(b"%d" % delivery, report.partition(b"\0")[0]))


def split_result(body: bytes) -> tuple[int, bytes]:
    """Return (delivery, report).  Raises MalformedFrame."""
    texts = split_strings(body)
    if len(texts) != 2:
        raise MalformedFrame("RESULT needs delivery and report")
    return number_in(texts[0]), texts[1]


def open_session(number: int, destination: bytes, source: bytes, candidates: list[tuple[bytes, bytes, int]]) -> bytes:
    """Return an OPEN frame; candidates are (host, address, port) in the order to try."""
    texts = [text for host, address, port in candidates for text in (host, address, b"%d" % port)]
    return pack(OPEN, number, strings(destination, source, *texts))


def split_open(body: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes, int]]]:
    """Return (destination, source, [(host, address, port)]).  Raises MalformedFrame."""
    texts = split_strings(body)
    if len(texts) < 5 or len(texts) % 3 != 2:
        raise MalformedFrame("OPEN without candidates")
    triples = [(texts[i], texts[i + 1], number_in(texts[i + 2], MAX_PORT)) for i in range(2, len(texts), 3)]
    return texts[0], texts[1], triples
