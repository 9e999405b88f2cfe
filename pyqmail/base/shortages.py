"""What the configured numbers need of the machine beside what it has, and the command that raises what is short.

Nothing is read here: numbers in, texts out.  A command names the number that is needed, not one that is above it.
`ulimit` counts for the shell that gives it and what that starts: it belongs into the script run of the service.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DESCRIPTORS = "ulimit -n"  # what a shell calls them, and where such a limit comes from
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-@:")


class Need:
    """One limit of the machine.

    name     what is needed, for people
    needed   how much of it
    present  how much there is; None: unknown, which is no shortage
    source   where the present number comes from: a sysctl, an `ulimit`, a file
    command  raises it to what is needed; empty: no command can
    """

    __slots__ = ("name", "needed", "present", "source", "command")

    def __init__(self, name: str, needed: int, present: int | None, source: str, command: str) -> None:
        self.name, self.needed, self.present, self.source, self.command = name, needed, present, source, command

    @property
    def is_short(self) -> bool:
        return self.present is not None and self.present < self.needed

    def line(self) -> str:
        """Return the text of a log line: what is short, how much there is, how much is needed, what raises it."""
        text = f"{self.name}: {self.present} of {self.needed} that are needed, by {self.source}"
        return f"{text}; to raise it: {self.command}" if self.command else text


def raising_command(source: str, needed: int) -> str:
    """Return the command that raises the limit of a source: the name of a sysctl, a file, `ulimit -n`, `ulimit -u`."""
    if source.startswith("/"):
        return f"echo {needed} >{_quoted(source)}"
    return f"ulimit {source[-2:]} {needed}" if source.startswith("ulimit") else f"sysctl -w {source}={needed}"


def _quoted(path: str) -> str:
    """Return a path as a word for a shell."""
    return path if _PLAIN.issuperset(path) else "'" + path.replace("'", "'\\''") + "'"


def descriptor_command(needed: int, most: int | None) -> str:
    """Return the command for so many descriptors of each process; most: fs.nr_open, None: unknown."""
    command = raising_command(DESCRIPTORS, needed)
    is_beyond = most is not None and most < needed
    return f"{raising_command('fs.nr_open', needed)} && {command}" if is_beyond else command


def commands(limits: "Iterable[tuple[str, int]]", needed: int) -> str:
    """Return the commands that raise all (source, present) that are too low, in one line for a shell."""
    return " && ".join(raising_command(source, needed) for source, present in limits if present < needed)
