"""Receive mail by SMTP.

Speaks SMTP with the client on descriptors 0 and 1, as a server such as pytcpserver starts it, and queues each message
it accepts.  A message is refused if it is larger than databytes, or if it has been through 100 hosts; nothing of it is
kept.

A message is collected first and queued when its last line has come.  The client reads `250 ok TIME qp NUMBER` only when
message and envelope are safely on disk.

A message has at most control/maxrcpt recipients; further ones are answered with 452, and the client sends to them in
another message.  The first thousand of these replies are no errors, so that no list is cut off.

A client that makes errors is slowed down, and then left.  Each reply 4xx or 5xx is an error, except 4xx to a message,
which is for want of something here.  So is each command that brings no mail (NOOP, RSET, VRFY, HELP, HELO, EHLO, MAIL
within a transaction) beyond control/junklimit.  An accepted message sets all of them back to 0.  From
control/softerrorlimit errors on each reply waits control/errordelay seconds; at control/errorlimit the session ends
with `421 too many errors (#4.7.0)`.  While a reply waits the client is not read.  Nobody else waits for it.

A session that has had no message accepted for control/sessionidle seconds ends with a 421, unless a message is coming
just then, and fast enough: control/mindatarate.  A client that pytcpserver --greet-delay holds back, and that speaks
nevertheless, gets `554 SMTP protocol violation` if control/earlytalkers is not 0 and it may not relay.  One that speaks
HTTP gets one reply.

In a worker of pytcpserver(8) a client is limited over all its sessions.  A client is an IPv4 address, an IPv6 network
of 64 bits, or the uid of a UNIX client; with --proxy the address that the proxy names.  Beyond
control/clientconnections or control/clientnetwork connections at once, or control/clientrate new ones within its
period, a client gets `421 too many connections (#4.7.0)`.  MAIL beyond control/clientmessages is answered with `450
too much mail (#4.7.1)`, RCPT beyond control/clientrecipients with `450 too many recipients (#4.7.1)`; the session
goes on.

MAIL and RCPT count when they are received in their place, even if they are then refused for another reason; what is
refused by such a limit does not count.  No period, wherever it begins, ever holds more than N; time is counted in
sixtieths of the period, so that something may be refused because of what came up to 61 sixtieths ago.  All workers
count together.  The counts are lost when the server is restarted, and begin at 0 when the period of a limit is
changed; they do not end with a worker.  Beyond about 200,000 clients at once later ones share counts, and may be
refused too early.

With RELAYCLIENT these five limits hold only if their variable is set.  The built-in clientconnections and clientnetwork
do not hold where pytcpserver has --per-address and --per-network, or a rule MAXCONNIP and MAXCONNC; a control file or a
variable does.  Where each connection has a process of its own nobody counts: pysmtpd warns about those that are set,
and pytcpserver's own options limit connections.  pytcptop(1) shows who was refused lately, and by what.

Each limit is a rule variable, too, in capitals, for the clients of that rule: `10.:allow,ERRORLIMIT="0"`.  What is
refused by badhelo and badrcptto, or is the end of a session by these limits, is a line in the log, at most 11 for a
session:

    qmail-smtpd: client 192.0.2.1: too many errors, last refused: RCPT TO:<root@here.example>

Incoming messages share memory and, when they are large, a quarter of the free space in TMPDIR; a
message without room is answered with 452.

If control/rcpthosts does not exist, mail for all domains is accepted and relayed: always make the file.

A line that ends with LF without CR is refused and ends the connection.  Control files are checked for each connection;
one that cannot be read is a 421 and never its default.
"""

from pyqmail.base.numbers import UINT32, leading_number, says_just
from pyqmail.base.options import Rest
from pyqmail.base.printable import printable
from pyqmail.mail.queue import BOUND_CONTROLS
from pyqmail.mail.queue.space import share
from pyqmail.mail.smtpd import client_limits, policy
from pyqmail.mail.smtpd.session import SmtpService
from pyqmail.mail.smtpd.transaction import LABEL
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import log
from pyqmail.system.driver import BlockingDriver, drive
from pyqmail.system.home import find_home

PROGRAM = Program(
    name="pysmtpd",
    summary="receive mail by SMTP",
    original=LABEL,
    usage="qmail-smtpd",
    arguments=[Rest("ignored")],
    exits={0: "the client sent QUIT", 1: "any other end", 111: "a fault of our own"},
    # the last ones where it writes the queue itself
    controls=[*policy.CONTROLS, *client_limits.CONTROLS, *BOUND_CONTROLS],
    controls_count={
        "others": "from the next connection on",
        **dict.fromkeys(client_limits.CONTROLS, "from the next connection on, after at most 2 seconds"),
        **dict.fromkeys(BOUND_CONTROLS, "from the next message on, where it writes the queue itself"),
    },
    environment=(
        *(name.upper() for name in client_limits.CONTROLS),
        "DATABYTES", "EARLYTALKER", "PYQMAIL_HOME", "QMAILQUEUE", "RELAYCLIENT", "TMPDIR", "TCPLOCALHOST", "TCPLOCALIP",
        "TCPREMOTEHOST", "TCPREMOTEINFO", "TCPREMOTEIP", "UNIXREMOTEEUID",
    ),
    offers=["preload", "session"],
    see=["pytcpserver(8)", "pytcptop(1)", "pyqueue(8)", "pyqueued(8)", "pysend(8)"],
)  # fmt: skip


def preload(words=()) -> None:
    """Import what few sessions need, and count what all children collect together: for a parent that will fork us."""
    from pyqmail.mail.queue import alone  # noqa: F401
    from pyqmail.system import cdb, feeding, interfaces, processes, run_program  # noqa: F401

    try:
        share()
    except OSError:
        pass  # each then counts for itself


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, serve)


def serve(call) -> int:
    driver = BlockingDriver()
    receive = session([call.argv0], driver, call.environ)
    return drive(receive(driver.peer(0, 1), call.environ))


def session(argv, driver, environ) -> SmtpService:
    """Return the handler of this process's connections: await handler(peer, environ) is the exit code of one."""
    limit = environ.get(b"DATABYTES")
    number = leading_number(limit or b"", UINT32)
    if limit is not None and not says_just(limit, number):
        shown = printable(limit[:64]).replace(" ", "?")
        log(PROGRAM.line(f"warning: DATABYTES={shown} is read as {number}"))
    return SmtpService(driver, find_home(environ))
