"""Remove files from the queue for pysend.

Reads commands from descriptor 0 and answers each with one byte on descriptor 1: `foop/ID` removes a message and what is
left of its envelope, `todo/ID` an envelope that has been preprocessed.  Commands that arrive together are answered
together.  Before the first command it waits until another pyclean on this queue has ended: a queue manager that was
killed may have left one that still has commands.  From time to time it removes files that were left in queue/pid more
than 36 hours ago.  At its start, and once a day, it removes envelopes in queue/intd whose message is missing in
queue/mess (a crash can leave them).  It ends at the end of input.
"""

import fcntl
import os
import time

from pyqmail.base.numbers import is_number
from pyqmail.protocol.wires.clean_wire import BAD, DONE, FAILED, CleanCommands
from pyqmail.system.command_line import Program
from pyqmail.system.home import count_split, find_home
from pyqmail.system.retrying import retried, write_surely

PROGRAM = Program(
    name="pyclean",
    summary="remove files from the queue",
    original="qmail-clean",
    exits={0: "end of input", 100: "the answer could not be written", 111: "unable to change to the queue directory"},
    environment=["PYQMAIL_HOME"],
    see=["pysend(8)", "pystart(8)", "pyqmail-queue(5)"],
)

OLD_SECONDS = 129600  # nothing that lives holds a file this long
SWEEP_EVERY = 31  # commands
INTD_SECONDS = 76431  # between two looks at intd, which may be large


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, clean)


def clean(call) -> int:
    queue = find_home(call.environ).queue
    try:
        os.chdir(queue)
        split = count_split(".")
    except OSError:
        return 111
    if not split:
        return 111
    return serve(split)


def serve(split: int) -> int:
    """Obey until the commands end.  The queue is the working directory."""
    commands, until_sweep, intd_due, turn = CleanCommands(), 0, time.monotonic(), None
    while data := retried(os.read, 0, 65536):
        if turn is None:
            turn = wait_for_turn()
        if time.monotonic() >= intd_due:
            sweep_intd(split)
            intd_due = time.monotonic() + INTD_SECONDS
        answers = []
        for command in commands.receive(data):
            if until_sweep == 0:
                sweep_pid()
            until_sweep = (until_sweep or SWEEP_EVERY) - 1
            answers.append(obey(command, split))
        try:
            write_surely(1, b"".join(answers))
        except OSError:
            return 100
    return 0


def obey(command, split: int) -> bytes:
    """Do what a parsed command says; returns the answer."""
    if command is None:
        return BAD
    kind, number = command
    last = {b"todo": f"todo/{number}", b"foop": f"mess/{number % split}/{number}"}[kind]
    try:
        for path in (f"intd/{number}", last):  # intd first: mess or todo is what vouches for it
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
    except OSError:
        return FAILED
    return DONE


def wait_for_turn() -> int | None:
    """Wait until no other pyclean obeys for this queue; returns the descriptor that says so, to be kept open.

    An old command could hit who has the number now.  Only with a command in hand: whoever sent it is alone.
    """
    try:
        fd = os.open("intd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None  # nobody can remove anything there, and the answers say so
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks: then as the original
    return fd


def sweep_intd(split: int) -> None:
    """Remove envelopes of no message: no mess, no todo.  Trouble is left for the next time.

    mess is linked before intd is made, so nobody is at work there.  Should the number be given to a new message in this
    moment, and its intd be what is removed, then its todo is linked already, or cannot be and the client is told so.
    """

    def is_left(entry):
        if not is_number(entry.name):
            return False
        part = f"mess/{int(entry.name) % split}"
        return os.path.isdir(part) and not is_there(f"{part}/{entry.name}") and not is_there(f"todo/{entry.name}")

    sweep("intd", is_left)


def is_there(path: str) -> bool:
    """Return whether a file is there.  Raises OSError if that cannot be known."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def sweep_pid() -> None:
    """Remove what stands in pid/ and has not been touched for 36 hours; trouble is left for the next time."""
    now = time.time()
    sweep("pid", lambda entry: now >= entry.stat(follow_symlinks=False).st_atime + OLD_SECONDS)


def sweep(folder: str, is_left) -> None:
    """Remove from a folder each file for which is_left(entry), which may raise OSError, is true."""
    try:
        for entry in os.scandir(folder):
            _remove_if(entry, is_left)
    except OSError:
        pass  # it cannot be read to its end now


def _remove_if(entry, is_left):
    try:
        if is_left(entry):
            os.unlink(entry.path)
    except OSError:
        pass  # the others do not wait for this one
