"""A folder that every account can enter, for tests whose processes run as several."""

import os
import tempfile


def open_folder(prefix="pyqmail-"):
    """Make a folder, mode 0755, below the first place of temporary files that all accounts reach; return its path.

    pytest's own folders are for one account alone, TMPDIR may be, and a small machine may have no /var/tmp.
    """
    for above in ("/var/tmp", tempfile.gettempdir(), "/tmp"):
        if is_open(above):
            folder = tempfile.mkdtemp(prefix=prefix, dir=above)
            os.chmod(folder, 0o755)
            return folder
    raise AssertionError("no folder of temporary files that every account can enter")


def is_open(path):
    """Tell whether all accounts may pass through a path and each of the folders above it."""
    while True:
        try:
            if not os.stat(path).st_mode & 0o001:
                return False
        except FileNotFoundError:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)
