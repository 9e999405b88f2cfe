"""What a supervisor knows of its service, in the form of its files: status and details, always of one moment."""

import os

from pyqmail.supervise import service as states
from pyqmail.supervise.details import Details
from pyqmail.supervise.status import pack_status
from pyqmail.system.clock import now, now_label
from pyqmail.system.process_start import begun


class StateRecord:
    """The facts since the supervisor began; or since an earlier one did, whose details are continued."""

    __slots__ = ("_details",)

    def __init__(self, details: Details | None = None) -> None:
        self._details = details or Details()
        self._details.starts = self._details.starts or 0
        if details is None:
            self._details.label = now_label()

    def set_owner(self, place: tuple[int, int] | None) -> None:
        """From now on it is the record of this process, for the service in that place: see place_of()."""
        self._details.place, self._details.supervisor = place, _with_identity(os.getpid())

    @property
    def ended(self) -> tuple[int, int]:
        """How run ended last: exit code and signal; both 0 if it has not ended yet."""
        return self._details.ended or (0, 0)

    def run_was_started(self, pid: int) -> None:
        """pid 0: it could not be executed."""
        details = self._details
        details.label, details.ready = now_label(), None
        details.starts = (details.starts or 0) + 1
        details.begun = _identity(pid)

    def run_has_ended(self, code: int, killed: int) -> None:
        details = self._details
        details.label, details.ended, details.ready, details.begun = now_label(), (code, killed), None, None

    def script_was_started(self, pid: int) -> None:
        self._details.script = _with_identity(pid)

    def script_has_ended(self) -> None:
        self._details.script = None

    def run_is_ready(self) -> None:
        self._details.ready = now()[0]

    def status(self, pid: int, service) -> bytes:
        return pack_status(self._details.label or now_label(), pid, service.state == states.PAUSED, service.wish)

    def details(self, pid: int, service, wait_seconds: int) -> bytes:
        """wait_seconds: from one start to the next, as it is now."""
        self._details.state = _shown(service.state, pid)
        if self._details.supervisor is None:  # /proc could not be read before
            self._details.supervisor = _with_identity(os.getpid())
        self._details.wait = wait_seconds if wait_seconds > 1 else None
        return self._details.pack()


def _shown(state, pid):
    """Return the name of a state to show: a run that could not be executed is not up, but waits for the next start."""
    if state in (states.UP, states.PAUSED, states.FRESH) and pid == 0:
        return states.WAITING
    return states.UP if state == states.FRESH else state


def _with_identity(pid):
    identity = _identity(pid)
    return identity and (pid, *identity)


def _identity(pid):
    try:
        return begun(pid) if pid else None
    except (OSError, ValueError, IndexError):
        return None
