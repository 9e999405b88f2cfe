"""Print the user who gets the mail of a local part: user, uid, gid, home, dash and extension, each ended by NUL.

Looks at the password database only.  The whole local part counts as a user's name, then what precedes each dash,
longest first.  Root does not count, and neither does a user whose home is missing or belongs to another.  Mail of no
user goes to the user alias; in a private home all mail does.
"""

import os

from pyqmail.base.options import Argument, Rest
from pyqmail.mail.local import users
from pyqmail.system.command_line import Program
from pyqmail.system.home import find_home

PROGRAM = Program(
    name="pygetpw",
    summary="print the user who gets the mail of a local part",
    original="qmail-getpw",
    usage="qmail-getpw local",
    arguments=[Argument("local", "a local part"), Rest("more")],
    exits={
        0: "printed",
        100: "LOCAL is missing",
        111: "temporary error",
        users.NFS: "a home directory cannot be reached now",
        users.NO_ALIAS: "the user alias is missing",
        users.SYSTEM: "the password database is busy",
    },
    environment=["PYQMAIL_HOME"],
    quiet_usage=True,
    see=["pylspawn(8)", "pyqmail-users(5)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, look_up)


def look_up(call) -> int:
    home, local = find_home(call.environ), os.fsencode(call.local)
    try:
        if home.owner() is not None:
            account = users.find_in_private_home(home, local)
        else:
            import pwd

            account = users.find_in_passwd(local, pwd.getpwnam)
        os.write(1, account.pack())
    except users.Unknown as unknown:
        return unknown.code
    except OSError:
        return 111
    return 0
