"""Start the queue manager and its parts, each as its own user, and become the queue manager.

DEFAULTDELIVERY is what a user without a .qmail file gets.  With a logger, its input is the log; otherwise the log goes
to descriptor 1.

By default every part is ours and shares this interpreter: it is forked, not executed, and all of them speak the native
dialect: as many remote session processes as --sessions names, and a resolver.  With --classic each part is executed
through PATH, `pylspawn`, `pyrspawn`, `pyclean`, `pysend`, on the pipes of the original and with one byte for a
delivery.

At the start each limit of this machine that is too low for control/concurrencyremote, control/concurrencylocal and
--sessions is one line in the log: what is short, how much there is, how much is needed, and the command that raises it.
The parts raise their soft limit of descriptors themselves.  `pyqmail limits` shows all limits, see pyqmail(8).

    pystart: warning: descriptors of each session process (pyrspawn): 1024 of 4040 that are needed, by ulimit -n;
        to raise it: ulimit -n 4040

A part that is lost is started again, as its own user, while mail goes on: a process of pystart, the starter, stays for
that; pysend(8) has the rest.  When the queue manager is lost, or any part with --classic, all end, and the supervisor
of pystart starts all again.

pyqueued is not one of the parts: it is a service of its own.  It queues what .qmail files forward, and bounces.
Without it, and without the original's bin/qmail-queue below the qmail home, forwards are deferred and bounces wait;
both report `no pyqueued at run/pyqueued` in the log.  All other mail is delivered.

The queue manager answers what waits, and why, on the UNIX socket run/pysend below the qmail home: to root, to qmails
and to the group qmail; in a private home, and when started by another user, to that user.  If the socket cannot be
made, that is one line in the log, and mail goes on; with --classic there is none.  See
pyqshape(8), pyqwhy(8) and pysendtop(1).

Started by root, the logger runs as qmaill, the queue manager as qmails, the remote spawner as qmailr, the resolver as
qmailr in the group nofiles alone, the cleaner as qmailq.  The local spawner stays root, to become each user.  In a
private home, and when started by another user, everything runs as that one user.  The starter stays root, too.
"""

import gc
import os
import socket

from pyqmail.base.failure import Temporary, reason
from pyqmail.base.numbers import session_processes
from pyqmail.base.options import Argument, Flag, Rest, Value
from pyqmail.mail.spawners.starter import StartedPart, Starter, close_all, make_pipes
from pyqmail.programs import registry
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import arrange, write_all
from pyqmail.system.home import find_home
from pyqmail.system.loop import Loop
from pyqmail.system.privileges import drop_to, supplementary_groups
from pyqmail.system.processes import become, execute, find_ahead, find_ours, fork, reset_signals
from pyqmail.system.status_socket import make_status_socket
from pyqmail.system.title import hold_title, show_command

PROGRAM = Program(
    name="pystart",
    summary="start the queue manager, the spawners, the cleaner and the resolver",
    original="qmail-start",
    options=[
        Flag(None, "classic", "execute each part, with the original's pipes and its one-byte dialect", long="classic"),
        Value(
            None,
            "sessions",
            "N",
            "remote session processes in the native dialect, 1 to 64",
            session_processes,
            long="sessions",
            default=1,
        ),
    ],
    arguments=[
        Argument(
            "delivery",
            "what a user without a .qmail file gets",
            optional=True,
            default="./Mailbox",
            metavar="defaultdelivery",
        ),
        Rest("logger", "a program that reads the log, with its arguments"),
    ],
    exits={0: "ended by TERM", 111: "a part could not be started"},
    controls=["concurrencylocal", "concurrencyremote"],
    controls_count={"others": "at the next start"},
    environment=["PYQMAIL_HOME", "PATH", "QMAILREMOTE"],
    see=[
        "pyqmail(8)",
        "pysend(8)",
        "pylspawn(8)",
        "pyrspawn(8)",
        "pyclean(8)",
        "pyresolve(8)",
        "pyqueued(8)",
        "pyqshape(8)",
        "pyqwhy(8)",
        "pysendtop(1)",
    ],
)

RESOLVER = "qmailr:nofiles"  # it reads what strangers' name servers write, and needs no file of ours
LOG, COMMANDS, REPORTS = 0, 0, 1  # pysend writes its log to 0; its peers read 0 and write 1


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, start)


def start(call) -> int:
    home = find_home(call.environ)
    call.environ[b"PYQMAIL_HOME"] = os.fsencode(os.path.abspath(home.path))
    home = find_home(call.environ)
    try:
        identities = Identities(home)
    except LookupError as unknown:
        raise Temporary(f"unable to find user or group {unknown}") from None
    call.has_agent = has_agent(call.environ)
    os.chdir("/")
    os.umask(0o077)
    parts = classic_parts(call) if call.classic else native_parts(call)
    if not call.classic:
        for name in {words[0] for words, _ in parts}:
            registry.load_ahead(name)  # before the forks, so that all share it
    if call.logger:
        find_ahead(call.logger, call.environ.get(b"PATH"), registry.load_ahead)
    call.shortages = too_low(home, call)
    gc.collect()
    gc.freeze()  # a part that looks through what all share would get a copy of it
    try:
        return launch(call, parts, identities)
    except OSError as error:
        raise Temporary("unable to start", error) from None


def too_low(home, call) -> list[str]:
    """Return a text for each limit of the machine that is too low for control/concurrencyremote and its like."""
    from pyqmail.operations.limits import shortages_of_manager

    return shortages_of_manager(home, 1 if call.classic else call.sessions, call.classic or call.has_agent)


def has_agent(environ) -> bool:
    """Return whether another program than ours delivers remotely: it finds hosts by itself, in its own way."""
    agent = environ.get(b"QMAILREMOTE")
    return bool(agent) and find_ours(agent, environ.get(b"PATH")) != "pyremote"


def native_parts(call):
    """Return (command line, user) of each part, in the order of pysend's pairs of descriptors."""
    sessions = [(["pyrspawn", "--native"], "qmailr")] * call.sessions
    local = (["pylspawn", "--native", call.delivery], "root")
    return [local, sessions[0], (["pyclean"], "qmailq"), (["pyresolve"], RESOLVER), *sessions[1:]]


def classic_parts(call):
    return [(["pylspawn", "--exec", call.delivery], "root"), (["pyrspawn"], "qmailr"), (["pyclean"], "qmailq")]


class Identities:
    """Who runs what: looked up once, before anything is started.  A private home has one user for all."""

    def __init__(self, home) -> None:
        self.is_one = home.owner() is not None or os.getuid() != 0
        if self.is_one:
            return
        self._uids = {user: home.uid(user) for user in ("qmaill", "qmailq", "qmailr", "qmails")}
        self._qmail, self._nofiles = home.gid("qmail"), home.gid("nofiles")

    @property
    def status_mode(self) -> int:
        """The mode of the socket that answers what waits: for one user, or for the group qmail besides."""
        return 0o600 if self.is_one else 0o660

    def own_status_socket(self, path: str) -> None:
        """Give the file of that socket to those who may ask.  Raises OSError."""
        if not self.is_one:
            os.chown(path, self._uids["qmails"], self._qmail)

    def assume(self, user: str) -> None:
        """Become user; for `root` only the groups change.  Raises OSError."""
        if self.is_one:
            return
        if user == "root":
            os.setgroups([self._qmail])
            os.setgid(self._qmail)
            return
        user, _, group = user.partition(":")
        gid = self._nofiles if user == "qmaill" or group == "nofiles" else self._qmail
        if group:
            drop_to(self._uids[user], gid)  # no group besides, whatever the system gives to that user
            return
        drop_to(self._uids[user], gid, supplementary_groups(user, gid) if user == "qmailr" else [gid])


def launch(call, parts, identities) -> int:
    """Make the pipes, start each part on its own, and become pysend on all of them."""
    log = 1
    if call.logger:
        read_end, log = os.pipe()
        fork(lambda: run_part(call.logger, {0: read_end, 1: 1, 2: 2}, "qmaill", identities, True))
        os.close(read_end)
    for text in call.shortages:
        write_all(log, os.fsencode(f"pystart: warning: {text}\n"))
    ours, pairs = {LOG: log}, [make_pipes() for _ in parts]
    for index, (kept, _) in enumerate(pairs):
        ours[2 * index + 1], ours[2 * index + 2] = kept
    if call.classic:
        start_classic(parts, pairs, log, identities)
        return run_part(["pysend"], ours, "qmails", identities, True)
    sender, beyond = ["pysend", "--native", "--sessions", str(call.sessions)], 2 * len(parts) + 1
    listening = listen_for_questions(find_home(call.environ), log, identities)
    if listening is not None:
        ours[beyond + 1] = listening
        sender += ["--status-fd", str(beyond + 1)]
    if call.has_agent:
        sender.append("--agent")
    ours[beyond] = start_starter(parts, pairs, log, identities)
    sender += ["--starter", str(beyond)]
    registry.load_ahead("pysend")  # while the others begin; before it gives up rights
    return run_part(sender, ours, "qmails", identities, False)


def start_classic(parts, pairs, log, identities) -> None:
    """Fork each part, which is executed then."""
    for (words, user), (_, (commands, reports)) in zip(parts, pairs, strict=True):
        theirs = {COMMANDS: commands, REPORTS: reports, 2: log}
        fork(lambda words=words, theirs=theirs, user=user: run_part(words, theirs, user, identities, True))
        close_all(commands, reports)


def listen_for_questions(home, log, identities) -> int | None:
    """Return a socket on which pysend is asked what waits; None, and a line in the log, if it cannot be made."""
    try:
        listening = make_status_socket(home.send_socket, identities.status_mode)
        identities.own_status_socket(home.send_socket)
    except (Temporary, OSError) as failure:
        why = str(failure) if isinstance(failure, Temporary) else f"unable to own {home.send_socket}: {reason(failure)}"
        write_all(log, os.fsencode(f"pystart: warning: {why}; pyqshape and its like have no answer\n"))
        return None
    return listening.detach()


def start_starter(parts, pairs, log, identities) -> int:
    """Fork the process that starts the parts, and starts again what is lost; return our end of its socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    started = [StartedPart(words[0], become_part(words, user, log, identities)) for words, user in parts]

    def work():
        wanted = {0: theirs.fileno(), 1: log, 2: log}
        for index, (_, given) in enumerate(pairs):
            wanted[3 + 2 * index], wanted[4 + 2 * index] = given
        arrange(wanted)
        first = [(3 + 2 * index, 4 + 2 * index) for index in range(len(pairs))]
        return Starter(Loop(), socket.socket(fileno=0), started, PROGRAM.name).run(first)

    fork(work)
    theirs.close()
    for _, given in pairs:
        close_all(*given)
    return ours.detach()


def become_part(words, user, log, identities):
    """Return what a child of the starter does with its two pipes."""
    return lambda commands, reports: run_part(
        words, {COMMANDS: commands, REPORTS: reports, 2: log}, user, identities, False
    )


def run_part(words, descriptors, user, identities, foreign) -> int:
    """In the process that becomes it: arrange descriptors, change user, go on as the program."""
    path = os.environb.get(b"PATH")
    arrange(descriptors)
    hold_title()  # another user could not: /proc/self is root's then
    show_command(words)
    try:
        identities.assume(user)
        if foreign and user == "qmaill":
            return become(words, os.environb, registry.load, path)
        if foreign:
            reset_signals()
            raise execute([os.fsencode(word) for word in words], os.environb, path)
    except OSError as error:
        line = PROGRAM.line(f"fatal: unable to start {words[0]}: {reason(error)}\n")
        os.write(LOG if user == "qmails" else 2, os.fsencode(line))
        return 111
    return registry.load(words[0]).main(words)
