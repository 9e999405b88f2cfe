"""Who else could change what root is about to run.

An account that can replace a program that root starts in a service's directory becomes root with the next start of the
service: a directory with a run in it, owned by the account that the service changes to, is enough.  This is reported,
not refused.
"""

import os

from pyqmail.base.printable import printable
from pyqmail.system.files import Changeable

# programs that are run there; and the directory that a run usually gives to pyenvdir before it gives up its rights
_PROGRAMS = (b"run", b"start", b"finish", b"stop", b"notify")
_ENVIRONMENT = b"env"


def risks(directory: bytes, changeable: Changeable | None = None) -> list[str]:
    """Return why other accounts can change what is run as root in the directory of a service.

    Each is the end of a line, without repetition: `is run as root, but /service/a/run belongs to uid 7`.  Empty if none
    can.
    """
    changeable = changeable or Changeable()
    try:
        place = os.path.join(os.getcwdb(), directory)
    except OSError:
        return []  # the directory has gone
    found = [changeable.reason(os.path.join(place, name)) for name in _names(place)]
    return [f"is run as root, but {printable(os.fsencode(reason))}" for reason in dict.fromkeys(found) if reason]


def _names(place):
    """Return the names of what is run there, or read for it."""
    try:
        there = os.listdir(place)
        variables = os.listdir(os.path.join(place, _ENVIRONMENT)) if _ENVIRONMENT in there else []
    except OSError:
        return []
    programs = [name for name in _PROGRAMS if name in there] or [b""]
    return [*programs, *(os.path.join(_ENVIRONMENT, name) for name in (b"", *variables) if _ENVIRONMENT in there)]
