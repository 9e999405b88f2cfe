"""Deliver one message to a local user.

The message is descriptor 0 and must be seekable.  Follows the user's .qmail file, or DEFAULTDELIVERY if there is none:
appends to mbox files, puts into Maildirs, runs programs, each line in its order; then forwards to all the addresses
as one message.  Says how many of each were done, `did files+forwards+programs`, and the queue's number of a
forwarded message.
"""

import os

from pyqmail.base.options import Argument, Flag, Program, Rest
from pyqmail.mail.local_delivery import Delivery, Job, Standard
from pyqmail.mail.maildir import Names
from pyqmail.system.descriptors import keep_from_children
from pyqmail.system.home import find_home

FIELDS = ("user", "homedir", "local", "dash", "ext", "domain", "sender", "aliasempty")

PROGRAM = Program(
    name="pylocal",
    summary="deliver one message to a local user",
    original="qmail-local",
    usage="qmail-local [ -nN ] user homedir local dash ext domain sender aliasempty",
    options=[
        Flag("n", "describe", "say what would be done instead of doing it"),
        Flag("N", "describe", "do it (the default)", value=False),
    ],
    defaults={"describe": False},
    arguments=[Argument(field) for field in FIELDS] + [Rest("more")],
    exits={0: "delivered", 100: "failed for good", 111: "try again later"},
    environment=[
        "SENDER", "NEWSENDER", "RECIPIENT", "USER", "HOME", "HOST", "LOCAL", "EXT", "DEFAULT",
        "DTLINE", "RPLINE", "UFLINE", "QMAILQUEUE", "PYQMAIL_HOME",
    ],
    see=["pylspawn(8)"],
)  # fmt: skip


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, deliver)


def deliver(call) -> int:
    if call.more or not call.homedir.startswith("/"):
        raise PROGRAM.wrong()
    os.umask(0o077)
    keep_from_children(3)
    environ = dict(call.environ)
    fields = [os.fsencode(getattr(call, field)) for field in FIELDS]
    home = os.path.abspath(find_home(environ).path)  # now: the delivery changes directory

    def queueing():
        from pyqmail.mail.queueing import Queueing
        from pyqmail.system.driver import BlockingDriver
        from pyqmail.system.home import Home

        os.chdir(home)
        return Queueing(BlockingDriver(), Home(home))

    return Delivery(Job(*fields, call.describe), 0, environ, Standard(), queueing, Names()).run()
