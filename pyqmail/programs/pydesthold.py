"""Hold back the mail for a destination, for a while, or release it.

Writes a line into control/destinations.now, which pysend sees within 10 seconds; mail that is in delivery goes on.
ADDRESS is the address of a rule: a domain, `.domain` for every name below it, `@group`, `mx=host`, or `rcpt=address`
for a local recipient; see pydestrules(8).  TIME is a time from now, 30s, 5m, 2h or 7d, or a date,
2026-11-01T14:05Z; the hold ends by itself then.  Without TIME it lasts until it is released.

    pydesthold @yahoo 2h
    pydesthold --release @yahoo

With --list, the addresses that are held are shown, each with its end.  Mail that is held has no retry time: it goes as
soon as it may, and is bounced when it is too old, as any other.
"""

import fcntl
import os
import time

from pyqmail.base.failure import Permanent, Temporary
from pyqmail.base.options import Argument, Flag
from pyqmail.mail.destinations.rules import overlay
from pyqmail.mail.destinations.rules.defaults import UNBUILT
from pyqmail.mail.destinations.rules.items import BadValue, date_of, seconds_of
from pyqmail.mail.destinations.rules.text import BadRules
from pyqmail.protocol.visible import visible, visible_line
from pyqmail.system.cdb import Reader
from pyqmail.system.command_line import Program
from pyqmail.system.controls import Controls
from pyqmail.system.descriptors import read_file, write_all
from pyqmail.system.durable import NotWritten, replace_file, sync_directory
from pyqmail.system.home import find_home

CONTROLS = ("destinations.now", "destinations.cdb")

PROGRAM = Program(
    name="pydesthold",
    summary="hold back the mail for a destination, or release it",
    options=[
        Flag(None, "is_release", "release ADDRESS", long="release"),
        Flag(None, "is_list", "show what is held", long="list"),
    ],
    arguments=[
        Argument("address", "an address of a rule", optional=True),
        Argument("time", "how long, or until when", optional=True),
    ],
    exits={
        0: "held, released, or shown",
        100: "ADDRESS or TIME means nothing, or nothing holds ADDRESS",
        111: "a file cannot be read or written",
    },
    controls=CONTROLS,
    controls_count={"others": "when it runs"},
    environment=["PYQMAIL_HOME"],
    see=["pydestrules(8)", "pysend(8)", "pyqshape(8)", "pyqwhy(8)", "pyqmail-tuning(7)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, work)


def work(call) -> int:
    controls = Controls(find_home(call.environ).control, CONTROLS)
    path = controls.path("destinations.now")
    if call.is_list and call.address:
        raise PROGRAM.wrong(PROGRAM.line("--list takes no ADDRESS: it shows all"))
    if call.is_list:
        show(_content(path))
        return 0
    if not call.address or call.is_release and call.time:
        raise PROGRAM.wrong(PROGRAM.line("it needs an ADDRESS" if not call.address else "TIME is not for --release"))
    folder = _lock(os.path.dirname(path))
    try:
        _change(call, path, controls)
    finally:
        os.close(folder)
    return 0


def show(text: bytes) -> None:
    """Write a line for each address that is held to descriptor 1."""
    lines = [
        b"%b %b\n" % (address or b":", until or b"-") for address, until in _checked(overlay.held, text, time.time())
    ]
    try:
        write_all(1, visible(b"".join(lines)))
    except BrokenPipeError:
        pass  # who read it has seen enough


def _change(call, path, controls):
    """Write destinations.now anew, with the address held or released."""
    text, address, now = _content(path), os.fsencode(call.address), time.time()
    if call.is_release:
        changed = _checked(overlay.without_hold, text, address, now)
        if changed is None:
            raise Permanent(f"no line of {path} holds {visible_line(call.address)}")
    else:
        changed = _checked(overlay.with_hold, text, address, end_of(call.time, now), now)
    _checked(lambda: overlay.Overlay.of_text(changed, _compiled(controls), unbuilt=UNBUILT))
    _write(path, changed)


def end_of(text: str | None, date: float) -> bytes:
    """Return the date of a TIME as rules have it, empty for None.  Raises Permanent."""
    if not text:
        return b""
    given = os.fsencode(text)
    try:
        if b"-" in given:
            end = date_of(given)
        else:
            end = date + seconds_of(given)
    except BadValue as bad:
        raise Permanent(f"TIME: {bad}") from None
    if end <= date:
        raise Permanent(f"TIME: {visible_line(text)} is over")
    year, month, day, hour, minute, second, *_ = time.gmtime(end)
    if year > 9999:
        raise Permanent("TIME: there is no such date")
    return b"%04d-%02d-%02dT%02d:%02d:%02dZ" % (year, month, day, hour, minute, second)


def _checked(work, *words):
    """Return work(*words).  Raises Permanent for what is wrong in the words or in the file."""
    try:
        return work(*words)
    except BadRules as bad:
        raise Permanent(f"control/destinations.now: {bad}") from None
    except overlay.OtherItems as other:
        raise Permanent(f"line {other.number} of control/destinations.now says more: change it there") from None


def _compiled(controls):
    """Return the table of destinations.cdb, an empty one if there is none.  Raises Temporary."""
    path = controls.path("destinations.cdb")
    try:
        return Reader(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Temporary(f"unable to read {path}", error) from None


def _content(path):
    """Return the content of a file, empty if there is none.  Raises Temporary."""
    try:
        return read_file(path)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise Temporary(f"unable to read {path}", error) from None


def _lock(folder):
    """Return a descriptor that keeps others of us from writing at the same time.  Raises Temporary."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        raise Temporary(f"unable to lock {folder}", error) from None
    return fd


def _write(path, text):
    os.umask(0o022)  # pysend reads it as another user
    try:
        replace_file(path, f"{path}.tmp", 0o644, lambda fd: write_all(fd, text))
        sync_directory(os.path.dirname(path))
    except NotWritten as failed:
        raise Temporary(f"unable to {failed.step} {path}", failed.error) from None
    except OSError as error:
        raise Temporary(f"unable to sync {os.path.dirname(path)}", error) from None
