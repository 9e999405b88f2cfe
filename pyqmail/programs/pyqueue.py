"""Queue one message: descriptor 0 is the message, descriptor 1 the envelope, both read.

The envelope is `F` sender NUL, then `T` recipient NUL any number of times, then NUL.  The message is read to its end
first.  Nothing is printed; the exit code is the result: 11 to 40 is a permanent failure, any other code but 0 a
temporary one.

The message is handed to pyqueued.  If that does not run, pyqueue writes it into the queue itself, provided that it runs
as the queue's user or root; otherwise the failure is temporary.  A bad envelope leaves nothing behind.  QMAILQUEUE is
for the callers of this program; pyqueue does not read it.
"""

import _signal as signal  # without its enums: each cold start would pay for them
import os
import stat
import time

from pyqmail.mail.queue.bounds import CONTROLS, MessageRefused, read_bounds
from pyqmail.mail.queue.client import CRASHED, MessageBuffer, QueueClient
from pyqmail.protocol.envelope import BadEnvelope, EnvelopeReader
from pyqmail.protocol.wires.queue_wire import INLINE_LIMIT
from pyqmail.system.channel import Unavailable
from pyqmail.system.command_line import Program
from pyqmail.system.driver import BlockingDriver, drive
from pyqmail.system.home import find_home
from pyqmail.system.privileges import drop_to

PROGRAM = Program(
    name="pyqueue",
    summary="queue one message",
    original="qmail-queue",
    controls=CONTROLS,
    controls_count={"others": "from the next message on, where it writes the queue itself"},
    environment=["PYQMAIL_HOME", "TMPDIR"],
    exits={
        0: "queued: safely on disk, names included",
        11: "an envelope address has more than 1002 bytes",
        31: "more than control/localbytes bytes, from a uid that is not one of qmail's",
        51: "out of memory",
        52: "timeout: 24 hours have passed",
        53: "write error, disk full, or less than control/queueminfree is free",
        54: "read error, or the envelope is cut short",
        55: "a control file cannot be read",
        61: "the qmail home is missing",
        62: "the queue cannot be used: no pyqueued listens, and this is not the queue's user",
        63: "unable to make a file in queue/pid",
        64: "unable to make a name in queue/mess",
        65: "unable to make a file in queue/intd",
        66: "unable to make a name in queue/todo",
        71: "pyqueued refuses for now, or runs but does not listen",
        81: "pyqueued went away, or an internal bug",
        91: "the envelope is malformed",
        111: "one of qmail's users is missing",
    },
    see=["pyqueued(8)", "pyqmail-queue(5)"],
)
_LIFE_SECONDS = 86400
_PIECE = 65536
_SMALL_BYTES = 1 << 20  # larger messages are measured while they come
_IGNORED = ("SIGPIPE", "SIGVTALRM", "SIGPROF", "SIGQUIT", "SIGINT", "SIGHUP", "SIGXCPU", "SIGXFSZ")


def main(argv: list[str]) -> int:
    # The original takes no notice of its arguments.
    return PROGRAM.run(argv[:2] if "--help" in argv[1:2] else argv[:1], queue)


def queue(call) -> int:
    start_clock()
    seconds = int(time.time())
    home = find_home(call.environ)
    message = MessageBuffer()
    try:
        whole_file = is_large_file(0)
        if not whole_file and not read_message(message, 0, home):
            return 31
        if message.failed:
            return 53
        envelope = read_envelope(1)
    except OSError:
        return 54
    except BadEnvelope as bad:
        return bad.exit_code
    except MemoryError:
        return 51
    queueing = QueueClient(BlockingDriver(), home)
    try:
        outcome = drive(hand_over(queueing, whole_file, message, envelope))
    except Unavailable:
        return write_ourselves(home, whole_file, message, envelope, seconds)
    return 81 if outcome.exit_code == CRASHED else outcome.exit_code


def start_clock() -> None:
    """Live at most a day, and through what a terminal or a user sends."""
    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(52))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.alarm(_LIFE_SECONDS)


def is_large_file(fd: int) -> bool:
    """Return whether fd is a file that goes as it is, unread.  Raises OSError."""
    seen = os.fstat(fd)
    return stat.S_ISREG(seen.st_mode) and seen.st_size - os.lseek(fd, 0, os.SEEK_CUR) > INLINE_LIMIT


def read_message(message: MessageBuffer, fd: int, home) -> bool:
    """Take it in, up to its end or until message.failed; return whether it is within bounds.  It may have no end."""
    size, limit = 0, None
    while not message.failed and (piece := os.read(fd, _PIECE)):
        size += len(piece)
        if size > _SMALL_BYTES:
            limit = most_bytes(home) if limit is None else limit
            if 0 < limit < size:
                return False
        message.write(piece)
    return True


def most_bytes(home) -> int:
    """Return how large a message pyqueued takes from us, 0 for no bound; unknown, it is pyqueued that says so."""
    from pyqmail.mail.queue.origin import qmail_uids
    from pyqmail.system.controls import Controls

    try:
        is_trusted = os.getuid() in qmail_uids(home, with_ourselves=False)
        return read_bounds(Controls(home.control, CONTROLS), is_trusted).message_bytes
    except MessageRefused:
        return 0


def read_envelope(fd: int) -> bytes:
    """Return the envelope stream, its last NUL included.  Raises OSError, BadEnvelope."""
    reader, pieces = EnvelopeReader(), []
    while not reader.ended:
        piece = os.read(fd, _PIECE)
        if not piece:
            reader.close()
        pieces.append(reader.receive(piece))
    return b"".join(pieces) + b"\0"


async def hand_over(queueing, whole_file, message, envelope):
    if not whole_file:
        return await queueing.send(message, envelope)
    return await queueing.pass_file(0, envelope)


def write_ourselves(home, whole_file, message, envelope, seconds):
    """Write the queue as its user; only root can become it."""
    from pyqmail.mail.queue.alone import queue_alone
    from pyqmail.mail.queue.origin import Origin

    uid = os.getuid()
    if os.geteuid() == 0:
        become_queue_user(home)
    origin = Origin(uid, os.getpid(), seconds)
    return queue_alone(home, origin, 0 if whole_file else message.descriptor(), envelope)


def become_queue_user(home) -> None:
    try:
        uid, gid = home.uid("qmailq"), home.gid("qmail")
    except (LookupError, OSError):
        return  # who is missing is said later
    if uid:
        drop_to(uid, gid, [])
