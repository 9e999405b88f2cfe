"""The stores that tests run on: one in files, one in memory, told in the same words what is to happen."""

from pyqmail.mail.queue.bounds import MessageRefused
from pyqmail.mail.queue.file_store import FileStore
from pyqmail.system.fsync_batch import sync_in_turn
from tests.mail.queue.memory_store import MemoryStore


def file_store(names, known=None, at_commit=None, refuses=False):
    """at_commit() is called at the first commit, and may raise; refuses: nothing is ever safely on disk."""
    once = [at_commit] if at_commit else []

    def sync(files, directories):
        if once:
            once.pop()()
        return {*files, *directories} if refuses else sync_in_turn(files, directories)

    return FileStore(names, known or {}, sync)


def memory_store(names, known=None, at_commit=None, refuses=False):
    def commit():
        if at_commit:
            at_commit()
        if refuses:
            raise MessageRefused(53, why="not safely on disk")

    store = MemoryStore(names, known)
    store.at["commit"].append(commit)
    return store


STORES = {"files": file_store, "memory": memory_store}
