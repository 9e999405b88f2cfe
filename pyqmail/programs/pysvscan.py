"""Keep a supervisor on every service in a directory.

Reads DIR, or the current directory: each directory in it whose name does not start with a dot is a service.  If it has
a log directory when it is first seen, that is supervised, too, and descriptor 1 of the service goes through a pipe to
descriptor 0 of its log.  pysvscan keeps the pipe open, so that restarting either loses nothing.  The number of services
has no limit.

Services that are added, renamed or removed are seen at once, also through links, and so is another DIR in the place of
this one: the services in both go on.  A directory that was just made is left alone until nothing came into it for a
quarter of a second, since its log may come last; but not for more than five seconds.  At rest pysvscan does not wake
up.  It looks every five seconds only where the kernel cannot report changes (network file systems, no more inotify
instances), or after a warning.

A supervisor that was killed is started again at once, but not twice in a second; one that left on command, after a
second, if its name still exists; one that cannot start, every five seconds.

The supervisors are forked from this process; with --supervise PROGRAM, that program is found in PATH and executed.

Started by root it warns, once for each service and reason, if another account can change a program that runs there as
root (run, start, finish, stop, notify, and those in env), or a directory above it: that account could become root.
Give no directory with a run in it to an account; of a log, only `log/main`.

Like the original it dies of SIGTERM and leaves the supervisors running.  With --stop-on-term, SIGTERM, SIGINT and
SIGHUP bring down every service and then its log, kill what is left after four seconds or the number of --stop-seconds,
and end with 0.  A service is killed after three quarters of that time, so that its log can still read the end; a log
that has left before that, because it was down or killed, is started once more.  In this mode each supervisor has a
process group of its own; a service whose supervisor was killed is ended before another is started; and supervisors that
an earlier pysvscan left are brought down first.
"""

import os

from pyqmail.base.failure import Temporary
from pyqmail.base.numbers import whole_number
from pyqmail.base.options import Argument, Flag, Rest, Value
from pyqmail.programs.registry import load
from pyqmail.supervise.scan_loop import keep_scanning
from pyqmail.supervise.scanner import LABEL
from pyqmail.supervise.stopping import STOP_SECONDS
from pyqmail.system.command_line import Program
from pyqmail.system.processes import find_ours


def seconds(text):
    """Return the number, at most an hour.  Raises ValueError for anything else."""
    try:
        number = whole_number(text, 3600)
    except ValueError:
        number = 0
    if not number:
        raise ValueError(f"not a number of seconds from 1 to 3600: {text}")
    return number


_CONTAINER = """\
A complete mail system, built in a clean checkout of pyqmail; its log is the container's:

    FROM python:3.13-slim
    COPY . /src
    RUN pip install /src && cp -R /usr/local/share/pyqmail/services /service && rm -r /service/*/log
    RUN install -d -o nobody /mail /run/sv
    USER nobody
    RUN PYQMAIL_HOME=/mail pyqmail run --once
    ENV PYQMAIL_HOME=/mail SUPERVISEDIR=/run/sv SMTP_PORT=2525
    VOLUME /mail
    EXPOSE 2525
    CMD ["pysvscan", "--stop-seconds", "8", "/service"]

`pyqmail run --once` makes the private home /mail: queue, control files and the user demo, all of one owner.  The \
files me, locals and rcpthosts in /mail/control name the machine of the build; write your own names there.  With a \
read-only root, /mail and /run/sv must be mounts that belong to the user nobody.  To look at the services: \
`pysvstat /service/*` and `pysvtop /service` in the container."""

PROGRAM = Program(
    name="pysvscan",
    summary="keep a supervisor on every service in a directory",
    original=LABEL,
    usage="svscan [ --stop-on-term ] [ --stop-seconds n ] [ --supervise program ] [ dir ]",
    options=[
        Flag(None, "stop_on_term", "bring everything down on SIGTERM, SIGINT or SIGHUP", long="stop-on-term"),
        Value(
            None,
            "stop_seconds",
            "n",
            "the same, killing what is left after n seconds, 1 to 3600",
            convert=seconds,
            long="stop-seconds",
        ),
        Value(None, "supervise", "program", "execute this instead of forking our own", long="supervise"),
    ],
    arguments=[Argument("dir", "where the services are", optional=True), Rest("ignored")],
    environment=("PATH", "SUPERVISEDIR"),
    exits={
        0: "stopped by a signal, with --stop-on-term or as process 1",
        111: "unable to change to the directory; or another pysvscan runs there, and this one is to stop services; or "
        "memory or descriptors have run out at the start",
    },
    notes=[
        (
            "In a container",
            "As process 1 it reaps all processes that lose their parent, and SIGTERM, SIGINT, SIGQUIT or SIGPWR stop "
            "it as with --stop-on-term: a first process has no default actions, and would not end at all.  SIGHUP "
            "makes it look at the directory again, for changes that the kernel does not report, for example a new "
            "mount.  --stop-seconds should be less than the time after which the container is killed, often ten "
            "seconds.  Its descriptors 1 and 2 are those of services without a log; its descriptor 2 is that of all "
            "supervisors and logs.\n\n"
            "The services may be on a read-only file system: see SUPERVISEDIR in pysupervise(8).\n\n" + _CONTAINER,
        ),
    ],
    see=("pysupervise(8)", "pysvscanboot(8)", "pysvc(8)", "pysvstat(8)", "pysvwait(8)", "pysvtop(1)"),
)


def main(argv):
    return PROGRAM.run(argv, work)


def work(call):
    place = None
    if call.dir is not None:
        place = _absolute(os.fsencode(call.dir))
        try:
            os.chdir(call.dir)
        except OSError as error:
            raise Temporary(f"unable to chdir to {call.dir}", error) from None
    program, path = call.supervise, call.environ.get(b"PATH")
    is_ours = program is None or find_ours(os.fsencode(program), path) == "pysupervise"
    supervise = load("pysupervise").supervise if is_ours else None
    is_stoppable = call.stop_on_term or call.stop_seconds is not None or os.getpid() == 1
    stop_seconds = (call.stop_seconds or STOP_SECONDS) if is_stoppable else None
    keep_scanning(supervise, program or "supervise", stop_seconds, place)
    return 0


def _absolute(path):
    """Return what leads there from anywhere; None if nothing does."""
    try:
        return os.path.join(os.getcwdb(), path)
    except OSError:
        return None if not path.startswith(b"/") else path
