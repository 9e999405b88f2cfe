"""Making a private home: folders, control files, rules, queue, services, and a user to show it with.

What is there already stays as it is: mail, queue, and what its owner has changed.
"""

import os
import socket
import sys

from pyqmail.base.failure import Failure, Permanent, Temporary
from pyqmail.mail.destinations.rules import defaults
from pyqmail.operations import LABEL
from pyqmail.system.descriptors import log, read_file, write_all
from pyqmail.system.durable import NotWritten, replace_file
from pyqmail.system.home import MARKER, Home
from pyqmail.system.processes import fork, installed_prefix

USER = "demo"
SPLIT = 23
RULES = b'# who may relay: see pytcprules(8)\n127.:allow,RELAYCLIENT=""\n:allow\n'
ALIASES = ("postmaster", "mailer-daemon", "root")  # that every host has to have
_SOCKET_PATH_LIMIT = 107  # bytes of sun_path without its NUL


def make(home: Home, load) -> None:
    """Make whatever is missing below home.  Raises Failure with one clear line.

    load(name) returns the module of a program of ours, see programs/registry.py; two are called in children.
    """
    check_path(home)
    if os.path.isdir(home.path) and os.listdir(home.path) and home.owner() is None:
        raise Permanent(f"{home.path} is not empty and has no file `{MARKER}`: it is not a private home")
    try:
        _make_folders(home)
        _make_controls(home, load)
        _make_queue(home.queue)
        _make_user(home, load)
        _make_services(home)
    except OSError as error:
        raise Temporary(f"unable to create {error.filename or home.path}", error) from None


def check_path(home: Home) -> None:
    """Raise Permanent if pyqueued could not listen in this home, or users/assign not name what is in it."""
    if any(mark in home.path for mark in ":\n"):
        raise Permanent("the path of the home must not have a colon or a newline: users/assign could not name it")
    if len(os.fsencode(home.queue_socket)) > _SOCKET_PATH_LIMIT:
        raise Permanent(f"the path of the home is too long for a UNIX socket: {home.queue_socket}")


def make_rules(home: Home, load) -> bool:
    """Make the rules of SMTP if there are none; return whether they were compiled, since they had not been so far."""
    source, compiled = f"{home.control}/smtp-rules", f"{home.control}/smtp-rules.cdb"
    write_new(source, RULES)
    if not is_older(compiled, source):
        return False
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call_program(load, ["pytcprules", compiled, f"{source}.tmp"], fd)
    finally:
        os.close(fd)
    return True


def make_destinations(home: Home, load) -> bool:
    """Make the rules for destinations if there are none; return whether they were compiled, as make_rules() does.

    What is compiled stays, also if its source has changed: that may be half written.
    """
    source, compiled = f"{home.control}/destinations", f"{home.control}/destinations.cdb"
    if os.path.lexists(compiled):
        return False
    if not os.path.lexists(source):
        write_new(f"{home.control}/responses", defaults.SHIPPED_RESPONSES)
        write_new(source, defaults.SHIPPED)
    os.environb[b"PYQMAIL_HOME"] = os.fsencode(home.path)
    _call_program(load, ["pydestrules"])
    return True


def programs_folder() -> str:
    """Return where the programs stand that this one was started beside."""
    return os.path.dirname(os.path.abspath(sys.argv[0]))


def complain(failure: Failure) -> int:
    """Report a failure, with the system's own words beside the original's and its hint; return its exit code."""
    words = f" ({failure.error.strerror})" if failure.error is not None and failure.error.strerror else ""
    log(f"{LABEL}: fatal: {failure}{words}{getattr(failure, 'hint', '')}")
    return failure.code


def user_home(home: Home) -> str:
    return f"{home.path}/home/{USER}"


def service_folder(home: Home) -> str:
    return f"{home.path}/service"


def _make_folders(home):
    os.makedirs(home.path, exist_ok=True)
    write_new(f"{home.path}/{MARKER}", b"")
    for folder in (home.control, home.users, home.alias, home.run, home.var):
        os.makedirs(folder, exist_ok=True)


def _make_controls(home, load):
    me = os.fsencode(socket.gethostname() or "localhost")
    names = me if me == b"localhost" else me + b"\nlocalhost"
    write_new(f"{home.control}/me", me + b"\n")
    write_new(f"{home.control}/locals", names + b"\n")
    write_new(f"{home.control}/rcpthosts", names + b"\n")
    write_new(f"{home.control}/defaultdelivery", b"./Maildir/\n")
    make_rules(home, load)
    make_destinations(home, load)
    for name in ALIASES:
        write_new(f"{home.alias}/.qmail-{name}", f"&{USER}\n".encode())


def _make_queue(queue):
    for folder in ("pid", "intd", "todo", "bounce", "lock"):
        os.makedirs(f"{queue}/{folder}", 0o700, exist_ok=True)
    for folder in ("mess", "info", "local", "remote"):
        if not os.path.isdir(f"{queue}/{folder}"):
            for part in range(SPLIT):
                os.makedirs(f"{queue}/{folder}/{part}", 0o700)
    write_new(f"{queue}/lock/sendmutex", b"")
    write_new(f"{queue}/lock/tcpto", bytes(1024))
    if not os.path.exists(f"{queue}/lock/trigger"):
        os.mkfifo(f"{queue}/lock/trigger", 0o622)


def _make_user(home, load):
    place = user_home(home)
    for folder in ("tmp", "new", "cur"):
        os.makedirs(f"{place}/Maildir/{folder}", 0o700, exist_ok=True)
    ids = f"{os.getuid()}:{os.getgid()}"
    entries = f"={USER}:{USER}:{ids}:{place}:::\n+{USER}-:{USER}:{ids}:{place}:-::\n"
    others = f"+:alias:{ids}:{home.alias}:-::\n.\n"
    write_new(f"{home.users}/assign", (entries + others).encode())
    if is_older(f"{home.users}/cdb", f"{home.users}/assign"):
        os.environb[b"PYQMAIL_HOME"] = os.fsencode(home.path)
        _call_program(load, ["pynewu"])


def _make_services(home):
    source = services_source()
    for name in sorted(os.listdir(source)):
        for folder in (name, f"{name}/log"):
            target = f"{service_folder(home)}/{folder}"
            os.makedirs(target, exist_ok=True)
            if os.path.lexists(f"{target}/run"):
                continue  # with an older run, newer files beside it would not fit
            files = [entry.name for entry in os.scandir(f"{source}/{folder}") if entry.is_file()]
            for file in sorted(files, key="run".__eq__):  # run last
                mode = 0o755 if file == "run" else 0o644
                write_new(f"{target}/{file}", read_file(f"{source}/{folder}/{file}"), mode)


def services_source() -> str:
    """Return where the ready service directories are: in the checkout, else where they were installed."""
    for folder in ("services", "share/pyqmail/services"):
        place = os.path.join(installed_prefix(), folder)
        if os.path.isdir(place):
            return place
    raise Permanent("the service directories are not installed")


def write_new(path, data, mode=0o644):
    """Make a file, whole and then visible, unless it is there."""
    if os.path.lexists(path):
        return

    def fill(fd):
        write_all(fd, data)
        os.fchmod(fd, mode)

    try:
        replace_file(path, f"{path}.new", mode, fill)
    except NotWritten as failed:
        raise failed.error from None


def is_older(made, source):
    return not os.path.exists(made) or os.stat(made).st_mtime_ns < os.stat(source).st_mtime_ns


def _call_program(load, argv, standard_input=None):
    """Call one of our programs in a child; it reports itself what is wrong.  Raises Temporary if it fails."""

    def work():
        if standard_input is not None:
            os.dup2(standard_input, 0)
        return load(argv[0]).main(argv)

    if os.waitpid(fork(work), 0)[1]:
        raise Temporary(f"{argv[0]} failed")
