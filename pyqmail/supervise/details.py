"""What the 18 bytes of a status cannot hold, in supervise/details: one fact a line, its name and its words.

    label     @... of the status it belongs to; if that has another label, all this is out of date
    state     one of the states of service.py
    starts    how often this supervisor started run
    wait      seconds from the last start to the next, if the service ends before that
    ended     exit code and signal of the last run: 256 and the signal if it was killed, otherwise 0 as the signal
    ready     @... when the service reported that it is ready
    begun     when the process began, in ticks since boot, and the boot's id: with the pid of the status, unique
              in all the world
    script    pid of the start, finish or stop that runs, and the words of begun for it
    place     device and inode of the service's directory: a copy of it has others
    supervisor  pid of the supervisor that wrote this, and the words of begun for it

Replaced by rename, always before the status.  Readers must not rely on the order of lines, skip lines that they do not
know, and treat one that makes no sense as missing: an older or newer supervisor, or another one's, may have written it.
"""

from pyqmail.base.tai import read_text_label, text_label, unix_moment
from pyqmail.system.descriptors import read_file

TYPE_CHECKING = False

KILLED = 256  # stands for the exit code of what was killed
MAX_DETAILS_BYTES = 4096
_MAX_DIGITS = 18
_MAX_PLACE = 1 << 64


class Details:
    """The facts; None: unknown, or it does not apply.

    label: binary, 12 bytes.  ready: Unix seconds.  ended: (exit code, signal).  begun: (ticks, boot id), the id in
    bytes.  script, supervisor: (pid, ticks, boot id).  place: (device, inode).
    """

    __slots__ = ("label", "state", "starts", "wait", "ended", "ready", "begun", "script", "place", "supervisor")

    if TYPE_CHECKING:
        label: bytes | None
        state: str | None
        starts: int | None
        wait: int | None
        ended: tuple[int, int] | None
        ready: int | None
        begun: tuple[int, bytes] | None
        script: tuple[int, int, bytes] | None
        place: tuple[int, int] | None
        supervisor: tuple[int, int, bytes] | None

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, None)

    def pack(self) -> bytes:
        """Return the file's content."""
        facts = {name: getattr(self, name) for name in self.__slots__}
        return b"".join(
            b"%b %b\n" % (name.encode(), _FORMS[name][0](fact)) for name, fact in facts.items() if fact is not None
        )


def read_details(data: bytes) -> Details:
    """Return the facts in a file's content, which may be anything."""
    details = Details()
    for line in data.split(b"\n"):
        start, _, words = line.partition(b" ")
        name = start.decode("latin-1")
        if name in _FORMS:
            try:
                setattr(details, name, _FORMS[name][1](words))
            except ValueError:
                pass  # as if the line were missing
    return details


def details_of(status, folder: str) -> Details | None:
    """Return the facts in the folder that belong to its status; None if there are none."""
    try:
        details = read_details(read_file(f"{folder}/details", MAX_DETAILS_BYTES))
    except OSError:
        return None
    return details if details.label == status.label else None


def _read_label(words):
    return bytes.fromhex(words[1:].decode()) if _read_moment(words) else None


def _read_moment(words):
    moment = read_text_label(words)
    if moment is None:
        raise ValueError
    return moment


def _read_word(words):
    if not words.isalpha():
        raise ValueError
    return words.decode()


def _read_number(words):
    if not words.isdigit() or len(words) > _MAX_DIGITS:
        raise ValueError
    return int(words)


def _read_ended(words):
    code, number = words.split()
    return _read_number(code), _read_number(number)


def _read_place(words):
    numbers = words.split()
    if len(numbers) != 2 or not all(one.isdigit() and len(one) <= 20 and int(one) < _MAX_PLACE for one in numbers):
        raise ValueError
    return int(numbers[0]), int(numbers[1])


def _read_begun(words):
    ticks, boot = words.split()
    return _read_number(ticks), boot


def _read_script(words):
    pid, begun = words.split(b" ", 1)
    return _read_number(pid), *_read_begun(begun)


# name -> (how it is written, how it is read; that raises ValueError)
_FORMS = {
    "label": (lambda label: text_label(*unix_moment(label)), _read_label),
    "state": (str.encode, _read_word),
    "starts": (b"%d".__mod__, _read_number),
    "wait": (b"%d".__mod__, _read_number),
    "ended": (b"%d %d".__mod__, _read_ended),
    "ready": (lambda seconds: text_label(seconds, 0), lambda words: _read_moment(words)[0]),
    "begun": (b"%d %b".__mod__, _read_begun),
    "script": (b"%d %d %b".__mod__, _read_script),
    "place": (b"%d %d".__mod__, _read_place),
    "supervisor": (b"%d %d %b".__mod__, _read_script),
}
