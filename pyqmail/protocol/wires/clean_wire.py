"""What pysend says to pyclean: NUL-ended commands, each answered by one byte.  Source: qmail-clean

    foop/ID NUL   remove intd/ID, then the message file
    todo/ID NUL   remove intd/ID, then todo/ID

A command has 7 to 100 bytes, its NUL included.  Answers come in the order of the commands: `+` done, or nothing was
there; `!` something could not be removed; `x` not a command.  The original answers a command with a non-digit inside
its number twice and obeys half of it; here it is `x`, once.  There is no version byte: the bytes are the original's.
"""

DONE, FAILED, BAD = b"+", b"!", b"x"
_SHORTEST, _LONGEST = 7, 100  # with the NUL


class CleanCommands:
    """Takes bytes in any pieces; receive() returns (kind, id) for each command, None for one that is none."""

    def __init__(self) -> None:
        self._held = b""

    def receive(self, data: bytes) -> list[tuple[bytes, int] | None]:
        *commands, held = (self._held + data).split(b"\0")
        self._held = held[: _LONGEST + 1]  # longer is bad already: what it says does not matter
        return [parse(command) for command in commands]


def parse(command: bytes) -> tuple[bytes, int] | None:
    """Return (b"foop" or b"todo", id) of a command without its NUL, None if it is not one."""
    kind, number = command[:4], command[5:]
    well_formed = _SHORTEST <= len(command) + 1 <= _LONGEST and command[4:5] == b"/" and number.isdigit()
    return (kind, int(number)) if well_formed and kind in (b"foop", b"todo") else None
