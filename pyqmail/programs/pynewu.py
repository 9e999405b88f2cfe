"""Compile users/assign into users/cdb, which pylspawn reads.

users/assign has lines `=local:user:uid:gid:home:dash:ext:` for one address and `+prefix:user:uid:gid:home:dash:ext:`
for all that begin with a prefix.  It ends with a line that begins with a dot.  Of several lines for one address the
first counts.  The new file is on disk before it replaces the old one.
"""

import os

from pyqmail.base.failure import Temporary
from pyqmail.base.printable import printable
from pyqmail.mail.local.users import BadFormat, compile_assign
from pyqmail.system.cdb import write_cdb
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import log, read_all
from pyqmail.system.durable import NotWritten
from pyqmail.system.files import Changeable
from pyqmail.system.home import find_home

PROGRAM = Program(
    name="pynewu",
    summary="compile users/assign into users/cdb",
    original="qmail-newu",
    exits={0: "done", 111: "error; users/cdb is unchanged"},
    environment=["PYQMAIL_HOME"],
    see=["pylspawn(8)", "pyqmail-users(5)"],
)

TEXTS = {
    "create": "unable to open users/cdb.tmp",
    "write": "unable to write users/cdb.tmp",
    "move": "unable to move users/cdb.tmp to users/cdb",
}


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, compile_users)


def compile_users(call) -> int:
    home = find_home(call.environ)
    if not os.path.isdir(home.path):
        raise Temporary("unable to chdir")
    os.umask(0o033)
    _warn(home.users)
    try:
        records = compile_assign(_read_assign(f"{home.users}/assign"))
        write_cdb(f"{home.users}/cdb", f"{home.users}/cdb.tmp", records)
    except BadFormat as bad:
        log(PROGRAM.line(f"warning: users/assign: {bad}"))
        raise Temporary("bad format in users/assign") from None
    except NotWritten as trouble:
        raise Temporary(TEXTS[trouble.step]) from None
    return 0


def _warn(users):
    """Root's pylspawn becomes the users in users/cdb: warn if others could have written what it is made from."""
    reason = None if os.geteuid() else Changeable().reason(os.fsencode(os.path.abspath(f"{users}/assign")))
    if reason:
        log(PROGRAM.line(f"warning: users/assign is believed by root, but {printable(os.fsencode(reason))}"))


def _read_assign(path):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise Temporary("unable to open users/assign") from None
    try:
        return read_all(fd)
    except OSError:
        raise Temporary("unable to read users/assign") from None
    finally:
        os.close(fd)
