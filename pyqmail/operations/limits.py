"""`pyqmail limits`: what the numbers of a home need of this machine, what there is, and how to raise it.

And the lines that pystart writes into its log at the start, one for each limit that is too low.
"""

import os

from pyqmail.base.failure import Failure, Permanent, Temporary
from pyqmail.base.tables import columns
from pyqmail.operations import LABEL
from pyqmail.operations.sizing import Configured, all_needs, manager_needs, new_sessions_a_second
from pyqmail.system.controls import Controls
from pyqmail.system.descriptors import log, write_all
from pyqmail.system.home import find_home
from pyqmail.system.machine_limits import read_limits
from pyqmail.system.rlimits import UNLIMITED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.base.shortages import Need
    from pyqmail.system.home import Home

CONTROLS = ("concurrencylocal", "concurrencyremote")
_HEADS = ["what", "needed", "present", "from", "state", "to raise it"]
_NUMBERS = ("remote", "local", "sessions", "clients", "backlog", "workers", "sources")


def show(is_json: bool, sessions: int, clients: int, backlog: int, sources: int, has_agent: bool) -> int:
    """Print the table of the home in the environment; return the exit code: 1 if something is short."""
    workers = min(len(os.sched_getaffinity(0)), clients)  # as pytcpserver has them
    try:
        home = find_home(os.environb)
        if not os.path.isdir(home.queue):
            raise Permanent(f"no home at {home.path}: it has no queue")
        local, remote = _concurrency(home)
    except Failure as failure:
        log(f"{LABEL}: fatal: {failure}")
        return failure.code
    return _print(Configured(remote, local, sessions, has_agent, clients, backlog, workers, sources), is_json)


def _print(numbers, is_json):
    limits = read_limits()
    needs, rate = all_needs(numbers, limits), new_sessions_a_second(numbers, limits)
    text = _json(numbers, needs, rate) if is_json else _table(numbers, needs, rate)
    write_all(1, text.encode("utf-8", "backslashreplace") + b"\n")
    return int(any(need.is_short for need in needs))


def shortages_of_manager(home: "Home", sessions: int, has_agent: bool) -> list[str]:
    """Return a text for each limit that is too low for pystart and its parts.

    None for control files that cannot be read: pysend itself reports those.
    """
    try:
        local, remote = _concurrency(home)
    except Temporary:
        return []
    needs = manager_needs(Configured(remote, local, sessions, has_agent), read_limits())
    return [need.line() for need in needs if need.is_short]


def _concurrency(home):
    controls = Controls(home.control, CONTROLS)
    try:
        return controls.get("concurrencylocal"), controls.get("concurrencyremote")
    except OSError as error:
        raise Temporary(f"unable to read control files of {home.path}", error) from None


def _json(numbers, needs, rate):
    import json  # pystart has no need of it

    answer = {
        "enough": not any(need.is_short for need in needs),
        "numbers": {name: getattr(numbers, name) for name in _NUMBERS},
        "new_sessions_a_second": rate,
        "limits": [_fields(need) for need in needs],
    }
    return json.dumps(answer, indent=2)


def _fields(need):
    """Return a row for JSON: an unknown limit is null, and so is what has none."""
    return {
        "what": need.name,
        "needed": need.needed,
        "present": None if need.present is None or need.present >= UNLIMITED else need.present,
        "from": need.source,
        "state": _state(need),
        "command": need.command if need.is_short else "",
    }


def _table(numbers, needs, rate):
    rows = [_HEADS, *(_row(need) for need in needs)]
    told = " ".join(f"{name} {getattr(numbers, name)}" for name in _NUMBERS)
    last = f"numbers: {told}"
    beside = f"to one address {'unknown' if rate is None else rate} new sessions a second, with all others open"
    return "\n".join([*columns(rows, ("what", "from", "state", "to raise it")), "", last, beside])


def _row(need: "Need"):
    present = need.present
    shown = "unknown" if present is None else "no limit" if present >= UNLIMITED else str(present)
    return [need.name, str(need.needed), shown, need.source, _state(need), need.command if need.is_short else ""]


def _state(need):
    return "unknown" if need.present is None else "short" if need.is_short else "enough"
