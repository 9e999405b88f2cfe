"""Run pyqueued or pysend on the store in memory: on_memory.py PROGRAM [ARGUMENT ...].

MEMORY_STORE is what is to happen at its steps, STEP=WHAT,WHAT,... for the first visit, the second, ...; WHAT is pass,
refuse or crash: `materialize=refuse commit=pass,crash`.
"""

import os
import sys

if __name__ == "__main__":
    sys.path[0] = os.path.abspath(__file__).removesuffix("/tests/mail/queue/on_memory.py")

from pyqmail.mail.manager import manager
from pyqmail.mail.queue.bounds import MessageRefused
from pyqmail.programs import pyqueued, pysend
from tests.mail.queue.memory_store import MemoryStore

CRASHED = 137


def refuse():
    raise MessageRefused(53, why="not safely on disk")


WHAT = {"pass": lambda: None, "refuse": refuse, "crash": lambda: os._exit(CRASHED)}


def store(names, known=None, sync_later=None):
    """Return the store of a program that was told what is to happen."""
    made = MemoryStore(names, known)
    for word in os.environ.get("MEMORY_STORE", "").split():
        step, _, visits = word.partition("=")
        made.at[step] = [WHAT[what] for what in visits.split(",")]
    return made


def command(python, *words):
    """Return the words that start a program so."""
    return [python, os.path.abspath(__file__), *words]


if __name__ == "__main__":
    pyqueued.FileStore = manager.FileStore = store
    sys.argv[:2] = sys.argv[1:2]
    sys.exit({"pyqueued": pyqueued, "pysend": pysend}[sys.argv[0]].main(sys.argv))
