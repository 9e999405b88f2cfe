"""The last act of a chain loader: go on as the program that was named."""

import os

from pyqmail.base.failure import Temporary
from pyqmail.system.processes import become


def go_on(words: list[str], environ, load) -> int:
    """Become the program words[0] with the environment environ, in this process if it is ours.

    It is searched in the PATH this process was started with, whatever environ says.  load is the registry's.
    Returns the exit code of ours.  Raises Temporary if it could not be run.
    """
    try:
        return become(words, environ, load, os.environb.get(b"PATH"))
    except OSError as error:
        raise Temporary(f"unable to run {words[0]}", error) from None
