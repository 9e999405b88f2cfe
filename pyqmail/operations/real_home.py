"""`pyqmail home`: a home with qmail's users, laid out as the original's installer does, and services to run in it.

What is there stays as it is: mail, settings, services; owners and modes of the queue are set again.  What belongs to
another user is made by that user: root follows no link that somebody else could put there.
"""

import os
import shlex
import socket
import stat
import subprocess

from pyqmail.base.failure import Failure, Permanent, Temporary
from pyqmail.operations import private_home
from pyqmail.operations.private_home import SPLIT, programs_folder, services_source, write_new
from pyqmail.system.descriptors import read_file
from pyqmail.system.home import DEFAULT, MARKER, USERS, Home
from pyqmail.system.privileges import drop_to
from pyqmail.system.processes import fork

GROUPS = ("nofiles", "qmail")
_NOFILES = ("alias", "qmaild", "qmaill", "qmailp")  # the others are in qmail
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_CONCURRENCY = 2000


def make(path: str, makes_users: bool, load) -> int:
    """Make or complete the home at path; return the exit code.  load: see private_home.make()."""
    home = Home(os.path.abspath(path))
    try:
        _check(home)
        users = Users(home, makes_users)
        _make_folders(home, users)
        _make_queue(home.queue, users)
        _make_controls(home, load)
        _make_alias(home, users)
        _make_services(home, users)
    except Failure as failure:
        return private_home.complain(failure)
    except OSError as error:
        return private_home.complain(Temporary(f"unable to make {error.filename or home.path}", error))
    os.write(1, os.fsencode(_next_steps(home)))
    return 0


def _check(home):
    if os.path.lexists(f"{home.path}/{MARKER}"):
        raise Permanent(f"{home.path} is a private home: it has a file `{MARKER}`")
    if os.getuid() != 0:
        raise Permanent("only root can give files to qmail's users; `pyqmail run` needs no root and no users")
    private_home.check_path(home)


class Users:
    """The ids of qmail's users and groups, by name.  Raises Failure if one is missing and is not to be made."""

    def __init__(self, home, makes_missing: bool) -> None:
        missing_groups = [group for group in GROUPS if not _has(home.gid, group)]
        missing = [user for user in USERS if not _has(home.uid, user)]
        if (missing or missing_groups) and not makes_missing:
            words = [f"group {name}" for name in missing_groups] + [f"user {name}" for name in missing]
            raise Permanent(f"the system has no {', no '.join(words)}: with --users they are made")
        for group in missing_groups:
            _run("groupadd", "--system", group)
        for user in missing:
            place = home.alias if user == "alias" else home.path
            group = "nofiles" if user in _NOFILES else "qmail"
            _run("useradd", "--system", "-M", "-N", "-g", group, "-d", place, "-s", _shell(), user)
        try:
            self.uid = {user: home.uid(user) for user in USERS} | {"root": 0}
            self.gid = {group: home.gid(group) for group in GROUPS}
        except LookupError as unknown:
            raise Temporary(f"unable to find user or group {unknown}, although it was made") from None


def _has(find, name):
    try:
        find(name)
    except LookupError:
        return False
    return True


def _shell():
    return next((path for path in ("/usr/sbin/nologin", "/sbin/nologin") if os.path.exists(path)), "/bin/false")


def _run(program, *words):
    environ = {**os.environ, "PATH": f"{_PATH}:{os.environ.get('PATH', '')}"}
    try:
        done = subprocess.run([program, *words], env=environ, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise Temporary(f"unable to run {program}", error) from None
    if done.returncode:
        raise Temporary(f"{program} {words[-1]} failed")


def _make_folders(home, users):
    if not os.path.isdir(home.path):
        os.makedirs(home.path)
        _give(home.path, 0, users.gid["qmail"], 0o755)
    for folder in (home.control, home.users):
        _folder(folder, 0, users.gid["qmail"], 0o755)
    _folder(home.alias, users.uid["alias"], users.gid["qmail"], 0o2755)
    _folder(home.run, users.uid["qmailq"], users.gid["qmail"], 0o755)
    _folder(home.var, users.uid["qmails"], users.gid["qmail"], 0o700)


def _make_queue(queue, users):
    """Source: hier.c of qmail."""
    q, s, r, group = users.uid["qmailq"], users.uid["qmails"], users.uid["qmailr"], users.gid["qmail"]
    _folder(queue, q, group, 0o750)
    for name, owner, mode in (("pid", q, 0o700), ("intd", q, 0o700), ("todo", q, 0o750), ("bounce", s, 0o700)):
        _folder(f"{queue}/{name}", owner, group, mode)
    for name, owner, mode in (("mess", q, 0o750), ("info", s, 0o700), ("local", s, 0o700), ("remote", s, 0o700)):
        is_new = not os.path.isdir(f"{queue}/{name}")
        _folder(f"{queue}/{name}", owner, group, mode)
        parts = range(SPLIT) if is_new else (entry for entry in os.listdir(f"{queue}/{name}") if entry.isdigit())
        for part in parts:
            _folder(f"{queue}/{name}/{part}", owner, group, mode)
    _folder(f"{queue}/lock", q, group, 0o750)
    for name, owner, mode, content in (("sendmutex", s, 0o600, b""), ("tcpto", r, 0o644, bytes(1024))):
        if not os.path.lexists(f"{queue}/lock/{name}"):
            write_new(f"{queue}/lock/{name}", content, mode)
        _give(f"{queue}/lock/{name}", owner, group, mode)
    if not os.path.lexists(f"{queue}/lock/trigger"):
        os.mkfifo(f"{queue}/lock/trigger")
    _give(f"{queue}/lock/trigger", s, group, 0o622)


def _folder(path, uid, gid, mode):
    if not os.path.isdir(path):
        os.mkdir(path)
    _give(path, uid, gid, mode)


def _give(path, uid, gid, mode):
    """Give what stands at path, itself and not what a link there leads to, to uid and gid."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise Permanent(f"{path} is a link")
        os.chown(f"/proc/self/fd/{fd}", uid, gid)
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def _make_controls(home, load):
    me = socket.gethostname() or "localhost"
    domain = me.partition(".")[2]
    settings = {
        "me": me,
        "locals": me,
        "rcpthosts": me,
        "defaultdelivery": "./Maildir/",
        "concurrencyremote": _CONCURRENCY,
        **({"defaultdomain": domain, "plusdomain": domain} if domain else {}),
    }
    if os.path.lexists(f"{home.control}/me"):  # somebody has decided: what me implies is not ours to add
        settings = {name: settings[name] for name in ("defaultdelivery", "concurrencyremote")}
    for name, value in settings.items():
        write_new(f"{home.control}/{name}", f"{value}\n".encode())
    if private_home.make_rules(home, load):
        os.chmod(f"{home.control}/smtp-rules.cdb", 0o644)
    private_home.make_destinations(home, load)


def _make_alias(home, users):
    """Make the addresses that every host has to have, and the Maildir for them: as alias, whose folder it is."""

    def work():
        drop_to(users.uid["alias"], users.gid["nofiles"])
        os.umask(0o022)
        for folder in ("Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
            os.makedirs(f"{home.alias}/{folder}", 0o700, exist_ok=True)
        for name in private_home.ALIASES:
            write_new(f"{home.alias}/.qmail-{name}", b"")
        return 0

    if os.waitpid(fork(work), 0)[1]:
        raise Temporary(f"unable to make {home.alias}/Maildir as alias")


def _make_services(home, users):
    source, target = services_source(), private_home.service_folder(home)
    for name in sorted(os.listdir(source)):
        for folder in (name, f"{name}/log"):
            os.makedirs(f"{target}/{folder}", exist_ok=True)
            if os.path.lexists(f"{target}/{folder}/run"):
                continue
            files = [entry.name for entry in os.scandir(f"{source}/{folder}") if entry.is_file()]
            for file in sorted(files, key="run".__eq__):  # run last
                content = read_file(f"{source}/{folder}/{file}")
                is_script = file == "run"
                content = _at_home(content, home) if is_script else content
                write_new(f"{target}/{folder}/{file}", content, 0o755 if is_script else 0o644)
        # only what the log is written into is qmaill's: root runs what stands beside it
        main = f"{target}/{name}/log/main"
        if not os.path.lexists(main):
            os.mkdir(main)
            _give(main, users.uid["qmaill"], users.gid["nofiles"], 0o2755)


def _at_home(script, home):
    """Return a service's script that finds our programs, and the home if it is not the usual one, by itself."""
    first, _, rest = script.partition(b"\n")
    lines = [f'PATH={shlex.quote(programs_folder())}:"${{PATH:-/usr/bin:/bin}}"', "export PATH"]
    if home.path != DEFAULT:
        lines += [f"PYQMAIL_HOME={shlex.quote(home.path)}", "export PYQMAIL_HOME"]
    return first + b"\n" + os.fsencode("\n".join(lines)) + b"\n" + rest


def _next_steps(home):
    me = os.fsdecode(read_file(f"{home.control}/me")).strip()
    programs, services = shlex.quote(programs_folder()), shlex.quote(private_home.service_folder(home))
    where = "" if home.path == DEFAULT else f"PYQMAIL_HOME={shlex.quote(home.path)} "
    doubt = "" if "." in me else " (has it no domain? Then write the full name into me, locals and rcpthosts)"
    return f"""\
Home      {home.path}, for mail to {me}{doubt}
Settings  {home.control}; who may relay: smtp-rules; how much each destination gets: destinations
Mail      to postmaster, root and mailer-daemon: {home.alias}/Maildir
Start     {programs}/pysvscan --stop-on-term {services}
or, with systemd:
          {where}{programs}/pyqmail units --to /etc/systemd/system {services}
A Maildir for a user, whose mail waits without it:
          su -s /bin/sh USER -c 'mkdir -p -m 700 ~/Maildir ~/Maildir/new ~/Maildir/cur ~/Maildir/tmp'
"""
