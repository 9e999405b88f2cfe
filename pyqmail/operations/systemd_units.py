"""`pyqmail units`: systemd's units for directories of services, which take the place of a supervisor and its logs.

Each service is one .service that runs the script run, as it is.  What it says goes to the journal: its log directory is
for supervisors.  It is started by root, as by a supervisor, and its programs give up their rights themselves; in a
private home it runs as the home's owner.  Variables that a script asks for are passed on if we have them.

With sockets, a script whose server listens at "${X_ADDRESS:-HOST}" "${X_PORT:-PORT}" has a .socket too: systemd listens
there, also while the service is down, and the server has `fd:` for its HOST.
"""

import ipaddress
import os
import re

from pyqmail.base.failure import Failure, Permanent, Temporary
from pyqmail.operations import LABEL, private_home
from pyqmail.operations.systemd_hardening import harden, role_of
from pyqmail.supervise.safety import risks
from pyqmail.system.descriptors import log, read_file, write_all
from pyqmail.system.durable import NotWritten, replace_file
from pyqmail.system.home import find_home

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAME = re.compile(r"[A-Za-z0-9:_.-]+")
_UNFIT = re.compile(r"[\x00-\x1f\x7f\\\"']|\s$")  # what a path would have to be escaped for, each place its own way
_PROGRAM = re.compile(r"\bexec\s+([^\s<>&]+)(?!\S)")  # not `exec 2>&1`
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*):?[-=]")
_PLACE = re.compile(r'"\$\{((\w+)_ADDRESS):-([^}"]*)\}" "\$\{(\2_PORT):-([0-9]+)\}"')
_QUEUE = "pyqueued"
_LISTENERS = ("pytcpserver", "tcpserver")
# the first is for the programs of users, some of which cannot count further; ours raise it to the second
_DESCRIPTORS = "1024:262144"
# files of a service that only its supervisor obeys; in the place of notification-fd there is NOTIFY_SOCKET
_OF_SUPERVISORS = ("start", "finish", "stop", "notify", "timeout-finish", "down-signal", "timeout-kill", "backoff")


def show(directory: str | None, target: str | None, is_user: bool, has_sockets: bool, load) -> int:
    """Print the units, or write them into target; return the exit code.

    directory None: the services that come with pyqmail.  load: see Units.
    """
    try:
        place = os.path.abspath(directory or private_home.services_source())
        units = Units(os.environb, is_user, has_sockets, load).make(place)
        if not is_user and not _user(os.environb):
            _warn(place, units)
        if target is None:
            write_all(1, "\n".join(f"# {name}\n{text}" for name, text in units.items()).encode())
        else:
            _write(units, target)
    except Failure as failure:
        log(f"{LABEL}: fatal: {failure}")
        return failure.code
    return 0


def _warn(place, units):
    """Warn if others can change what root runs by these units."""
    names = [unit.removesuffix(".service") for unit in units if unit.endswith(".service")]
    told = {f"{name} {risk}": None for name in names for risk in risks(os.fsencode(f"{place}/{name}"))}
    for line in told:
        log(f"{LABEL}: warning: {line}")


class Units:
    """The units of services.

    environ     bytes to bytes: which variables are passed on, and which home it is
    is_user     for systemd's manager of one user, not the system's
    load        load(name) returns the module of a program of ours, and raises LookupError for any other: see
                programs/registry.py
    """

    def __init__(self, environ, is_user: bool, has_sockets: bool, load) -> None:
        self._environ, self._is_user, self._has_sockets, self._load = environ, is_user, has_sockets, load

    def make(self, directory: str) -> dict[str, str]:
        """Return file name -> content of the units for the services in a directory.  Raises Failure."""
        scripts = _read_scripts(directory)
        units = {}
        for name, script in scripts.items():
            folder = f"{directory}/{name}"
            _check(folder, name)
            socket = _socket(name, script, self._environ) if self._has_sockets else None
            if socket:
                units[f"{name}.socket"] = socket
            after = [f"{_QUEUE}.service"] if _QUEUE in scripts and name != _QUEUE else []
            lines = self._unit_section(name, script, bool(socket), after)
            lines += self._service_section(name, folder, script, bool(socket))
            lines += self._install_section(name, folder, bool(socket))
            units[f"{name}.service"] = "\n".join(lines) + "\n"
        return units

    def _unit_section(self, name, script, has_socket, after):
        after = after if self._is_user else ["network.target", *after]
        lines = ["[Unit]", f"Description={self._description(name)}"]
        lines += self._documentation([name, *_PROGRAM.findall(script), *script.split()[-1:]])
        lines += [f"After={' '.join(after)}"] if after else []
        lines += [f"Requires={name}.socket"] if has_socket else []
        return [*lines, "StartLimitIntervalSec=0", ""]

    def _service_section(self, name, folder, script, has_socket):
        programs, user = _PROGRAM.findall(script), None if self._is_user else _user(self._environ)
        # what run becomes reports readiness, so that systemd need not listen to any other process
        lines = ["[Service]", f"Type={'notify' if self._reports_ready(programs) else 'exec'}"]
        lines += [f"ExecStart={_quoted(f'{folder}/run')}", f"WorkingDirectory={folder.replace('%', '%%')}"]
        lines += [f"SyslogIdentifier={name}"]
        lines += [f"Environment={_quoted(word)}" for word in _environment(script, self._environ, has_socket)]
        lines += [f"User={user}"] if user else []
        lines += ["Restart=always", "RestartSec=1", *_stopping(programs)]
        lines += ["ExecReload=/bin/kill -HUP $MAINPID"] if _hears_hup(programs, script) else []
        lines += [f"LimitNOFILE={_DESCRIPTORS}"]
        role = None if self._is_user else role_of(programs, script)
        if role:
            home = os.path.abspath(find_home(self._environ).path)
            lines += ["", *harden(role, home, folder, not user, _quoted)]
        return lines

    def _install_section(self, name, folder, has_socket):
        ignored = [file for file in _OF_SUPERVISORS if os.path.lexists(f"{folder}/{file}")]
        lines = ["", f"# not used: {', '.join(ignored)}"] if ignored else []
        if os.path.lexists(f"{folder}/down"):
            return [*lines, "", "# normally down: to be started by hand"]
        lines += ["", "[Install]", f"WantedBy={'default' if self._is_user else 'multi-user'}.target"]
        return [*lines, f"Also={name}.socket"] if has_socket else lines

    def _documentation(self, names):
        programs = filter(None, map(self._find_program, dict.fromkeys(names)))
        pages = [f"man:{program.name}({program.section})" for program in programs]
        return [f"Documentation={' '.join(pages)}"] if pages else []

    def _description(self, name):
        program = self._find_program(name)
        return f"{name}: {program.summary}" if program else name

    def _reports_ready(self, names):
        """Return whether every program that a script may become reports to NOTIFY_SOCKET that it is ready."""
        programs = list(map(self._find_program, names))
        return bool(programs) and all(program and "NOTIFY_SOCKET" in program.environment for program in programs)

    def _find_program(self, name):
        """Return the declaration of a program, None if it is not ours."""
        try:
            return self._load(name).PROGRAM
        except LookupError:
            return None


def _read_scripts(directory):
    """Return service -> its script run.  Raises Failure, also if there is no service."""
    try:
        names = sorted(name for name in os.listdir(directory) if os.path.isfile(f"{directory}/{name}/run"))
        scripts = {name: os.fsdecode(read_file(f"{directory}/{name}/run")) for name in names if name[0] != "."}
    except OSError as error:
        raise Temporary(f"unable to read {error.filename or directory}", error) from None
    if not scripts:
        raise Permanent(f"no services in {directory}")
    return scripts


def _check(path, name):
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Permanent(f"a unit cannot name {path}") from None
    if not _NAME.fullmatch(name) or _UNFIT.search(path):
        raise Permanent(f"a unit cannot name {path}")


def _stopping(programs):
    """Return how it is stopped: the signal goes to run alone, as a supervisor's does."""
    if any(name in _LISTENERS for name in programs):
        return ["KillMode=process"]  # connections go on, beside the next one
    # what it leaves behind is killed.  A delivery may last as long as the other side's patience, and one that is cut
    # may be made twice
    return ["KillMode=mixed", "TimeoutStopSec=20min"] if programs[-1:] == ["pystart"] else ["KillMode=mixed"]


def _hears_hup(programs, script):
    """Return whether HUP does anything but end it: read settings again, or nothing."""
    return "trap '' HUP" in script or (bool(programs) and set(programs) <= {"pystart", "pysend"})


def _environment(script, environ, has_socket):
    """Return the entries of a script's environment."""
    entries = {"PATH": f"{private_home.programs_folder()}:{_PATH}"}
    for name in ["PYQMAIL_HOME", *_VARIABLE.findall(script)]:
        value = environ.get(os.fsencode(name))
        if value and name != "PATH":
            entries[name] = os.path.abspath(os.fsdecode(value)) if name == "PYQMAIL_HOME" else os.fsdecode(value)
    if has_socket:
        place = _PLACE.search(script)
        entries |= {place[1]: "fd:", place[4]: "-"}
    for name, value in entries.items():
        if _UNFIT.search(value) or not value.isascii():
            raise Permanent(f"a unit cannot have ${name}: {value}")
    return [f"{name}={value}" for name, value in entries.items()]


def _user(environ):
    """Return the owner of a private home unless that is root; else None.  Raises Temporary."""
    import pwd

    home = find_home(environ)
    try:
        uid = home.owner()
    except OSError as error:
        raise Temporary(f"unable to read {home.path}", error) from None
    if not uid:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _socket(name, script, environ):
    """Return the .socket of a service whose script says where it listens, else None.  Raises Permanent."""
    place = _PLACE.search(script)
    if place is None:
        return None
    host = os.fsdecode(environ.get(os.fsencode(place[1]), b"")) or place[3]
    host = "0,::" if host in ("", "0") else host  # all there is, of IPv6 too
    port = os.fsdecode(environ.get(os.fsencode(place[4]), b"")) or place[5]
    words = host.split(",")
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise Permanent(f"a .socket unit needs a number for a port, not {port}")
    lines = ["[Unit]", f"Description={name}: where it listens", "", "[Socket]"]
    lines += [f"ListenStream={_listening(word, port)}" for word in words]
    lines += ["BindIPv6Only=both" if ":0" in words else "BindIPv6Only=ipv6-only"]
    return "\n".join([*lines, "", "[Install]", "WantedBy=sockets.target", ""])


def _listening(word, port):
    try:
        ip = ipaddress.ip_address({"0": "0.0.0.0", "": "0.0.0.0", ":0": "::"}.get(word, word.strip("[]")))
    except ValueError:
        raise Permanent(f"a .socket unit needs an address, not {word}") from None
    return f"{ip}:{port}" if ip.version == 4 else f"[{ip}]:{port}"


def _quoted(text):
    return '"' + text.replace("%", "%%") + '"'


def _write(units, target):
    for name, text in units.items():
        path = f"{target}/{name}"
        try:
            replace_file(path, f"{path}.new", 0o666, lambda fd, text=text: write_all(fd, text.encode()))
        except NotWritten as failed:
            raise Temporary(f"unable to write {path}", failed.error) from None
