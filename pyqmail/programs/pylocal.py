"""Deliver one message to a local user.

The message is descriptor 0 and must be seekable.  Follows the user's .qmail file, or DEFAULTDELIVERY if it is missing:
appends to mbox files, puts into Maildirs and runs programs, in the order of the lines; then forwards to all addresses
as one message.  Reports how many of each were done, `did files+forwards+programs`, and the queue's number of a
forwarded message.

pyqueued queues what is forwarded.  If pyqueued does not run, pylocal writes it into the queue itself, provided that it
runs as the queue's user (in a private home its owner) and no process holds the queue's lock.  Otherwise it uses
bin/qmail-queue below the qmail home, if the original's is there.  Otherwise the delivery is deferred, and the report is
`no pyqueued at run/pyqueued`.
"""

import os

from pyqmail.base.options import Argument, Flag, Rest
from pyqmail.mail.local.delivery import LABEL, USAGE, Delivery, DeliveryRequest
from pyqmail.mail.local.maildir import MaildirNames
from pyqmail.mail.queue.bounds import CONTROLS
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import keep_from_children
from pyqmail.system.home import find_home
from pyqmail.system.retrying import write_surely

FIELDS = {
    "user": "name of the user",
    "homedir": "the user's home, an absolute path",
    "local": "local part of the envelope recipient",
    "dash": "what stands between .qmail and the extension: `-`, or empty",
    "ext": "the extension: the rest of the local part",
    "domain": "domain part of the envelope recipient",
    "sender": "envelope sender, empty for a bounce",
    "aliasempty": "what to do without a .qmail file: lines as in one",
}

PROGRAM = Program(
    name="pylocal",
    summary="deliver one message to a local user",
    original=LABEL,
    usage=USAGE,
    options=[
        Flag("n", "describe", "report what would be done instead of doing it"),
        Flag("N", "describe", "do it", value=False, is_default=True),
    ],
    arguments=[Argument(field, meaning) for field, meaning in FIELDS.items()] + [Rest("more")],
    notes=[
        (
            "The .qmail file",
            "The file is `.qmail` DASH EXT in HOMEDIR, the extension in lower case and with a colon for each dot.  "
            "If it is missing, its end, from a dash on, is replaced by `default`, the longest name first.  An empty "
            "file means ALIASEMPTY.  If all are missing, a user without DASH gets ALIASEMPTY; otherwise the delivery "
            "fails.",
        ),
        (
            "Lines",
            [
                ("./DIR/, /DIR/", "put the message into this Maildir"),
                ("./FILE, /FILE", "append it to this mbox file, under flock's lock"),
                (
                    "|COMMAND",
                    "run it through `/bin/sh -c`, with the message on descriptor 0.  Its exit code: 0 go on; 99 "
                    "success, and skip the lines that follow; 100, 64, 65, 70, 76, 77, 78, 112 failure; any other "
                    "means deferral",
                ),
                ("&ADDRESS, ADDRESS", "forward it there, after all other lines and to all such addresses at once"),
                ("+list", "from here on only forwarding is allowed; in a file that its owner may execute, always"),
                ("#...", "a comment"),
            ],
        ),
    ],
    exits={0: "delivered", 100: "permanent failure", 111: "try again later"},
    controls=CONTROLS,
    controls_count={"others": "from the next message on that it forwards and writes into the queue itself"},
    environment=[
        "SENDER", "NEWSENDER", "RECIPIENT", "USER", "HOME", "HOST", "LOCAL", "EXT", "DEFAULT",
        "DTLINE", "RPLINE", "UFLINE", "QMAILQUEUE", "PYQMAIL_HOME", "TMPDIR",
    ],
    see=["pylspawn(8)", "pyqueued(8)", "pyqueue(8)", "pydot-qmail(5)"],
)  # fmt: skip


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, deliver)


def deliver(call) -> int:
    if call.more:
        raise PROGRAM.wrong()
    os.umask(0o077)
    keep_from_children(3)
    environ = dict(call.environ)
    fields = [os.fsencode(getattr(call, field)) for field in FIELDS]
    home = os.path.abspath(find_home(environ).path)  # now: the delivery changes directory

    def queue_client():
        from pyqmail.mail.queue.client import QueueClient
        from pyqmail.system.driver import BlockingDriver
        from pyqmail.system.home import Home

        os.chdir(home)
        return QueueClient(BlockingDriver(), Home(home))

    request = DeliveryRequest(*fields, describe=call.describe)
    return Delivery(request, 0, environ, Standard(), queue_client, MaildirNames()).run()


class Standard:
    """Output of a delivery in a process of its own: descriptors 1 and 2."""

    def say(self, text: bytes) -> None:
        _write(1, text)

    def complain(self, text: bytes) -> None:
        _write(2, text)

    def descriptors(self) -> tuple[int, int]:
        return 1, 2


def _write(fd, text):
    try:
        write_surely(fd, text)
    except OSError:
        pass  # the delivery is made, even if nobody reads about it
