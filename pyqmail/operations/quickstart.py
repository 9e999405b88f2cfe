"""`pyqmail run`: a whole system in the foreground, one message to show that it works, and a clean end."""

import errno
import os
import pwd
import re
import select
import shlex
import signal
import socket
import time

from pyqmail.base.dates import header_date
from pyqmail.base.failure import Failure, Permanent, Temporary
from pyqmail.operations import LABEL, private_home
from pyqmail.system.descriptors import read_file
from pyqmail.system.home import Home
from pyqmail.system.processes import fork, reset_signals
from pyqmail.tcp.listener.bind import BOTH, Binder

PATIENCE_SECONDS = 20
STOP_SECONDS = 5


def run(once: bool, address: str, port: int, load) -> int:
    """Return the exit code: 0 the message arrived (or Ctrl-C after it did), 1 it did not, 100 or 111 no start.

    load(name) returns the module of a program of ours, see programs/registry.py.
    """
    try:
        return _run(once, address, port, load)
    except Failure as failure:
        return private_home.complain(failure)


def _hinted(failure, hint):
    failure.hint = f"; {hint}"
    return failure


def _run(once, address, port, load):
    began = time.monotonic()
    home = Home(os.path.abspath(os.environ.get("PYQMAIL_HOME") or "var"))
    try:
        private_home.make(home, load)
    except Failure as failure:
        if failure.error is not None and failure.error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise _hinted(failure, "PYQMAIL_HOME=DIR names another place") from None
        raise
    lock = _lock(home)
    port = _check_port(address, port)
    stopping = _catch_signals()
    services = _start_services(home, address, port, load)
    os.pwrite(lock, b"%d\n" % services, 0)
    try:
        arrived = _show(home, address, port, services, stopping, began)
        if arrived and not once:
            _say("\nRunning.  Ctrl-C stops everything.")
            if not _wait_for(services, stopping, None):
                raise Temporary("pysvscan ended")
    finally:
        _stop(services)
        os.close(lock)
    return 0 if arrived else 1


def _lock(home):
    import fcntl

    path = f"{home.run}/lock"  # pysvscan holds it, too: whoever wants to run again is told even if we are killed
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _hinted(Temporary(f"unable to open {path}", error), "PYQMAIL_HOME=DIR names another place") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, 20, 0).strip()
        stop = f": `kill {int(pid)}` stops it" if pid.isdigit() else ""
        raise Permanent(f"{home.path} is already running{stop}") from None
    os.ftruncate(fd, 0)
    return fd


def _check_port(address, port):
    """Return the port, a free one for 0.  Raises Failure with the address when it cannot be had."""
    try:
        sockets = Binder(socket.SOMAXCONN, BOTH).bind(address, port, {})
    except Failure as failure:
        text = f"unable to listen on {address} port {port}"
        if failure.error is None:
            raise Permanent(f"{text}: {failure}") from None
        taken = Temporary(text, failure.error)
        if failure.error.errno in (errno.EADDRINUSE, errno.EACCES):
            _hinted(taken, "SMTP_PORT=N names another one")
        elif failure.error.errno == errno.EADDRNOTAVAIL:
            _hinted(taken, "SMTP_ADDRESS=A names another one")
        raise taken from None
    port = next((int(each.local_port) for each in sockets if each.family != socket.AF_UNIX), port)
    for each in sockets:
        each.close()
    return port


def client_address(address: str) -> str:
    """Return where a client here reaches a server that listens at address: its first place, or loopback for all."""
    first = address.split(",")[0].strip("[]")
    return {"": "127.0.0.1", "0": "127.0.0.1", "0.0.0.0": "127.0.0.1", ":0": "127.0.0.1", "::": "::1"}.get(first, first)


def _catch_signals():
    """Return a descriptor that becomes readable once we are told to stop."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(write_end, b"."))
    return read_end


def _start_services(home, address, port, load):
    """Start pysvscan in a process group of its own, so that Ctrl-C reaches only us; returns its pid."""

    def work():
        os.setsid()
        reset_signals()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        path = os.environ.get("PATH", "/bin:/usr/bin")
        os.environ.update(
            PATH=f"{private_home.programs_folder()}:{path}",
            PYQMAIL_HOME=home.path,
            SMTP_ADDRESS=address,
            SMTP_PORT=str(port),
        )
        return load("pysvscan").main(["pysvscan", "--stop-on-term", private_home.service_folder(home)])

    return fork(work, ["pysvscan", "--stop-on-term", private_home.service_folder(home)])


def _show(home, address, port, services, stopping, began):
    """Send one message, wait for it and show what became of it; returns whether it arrived."""
    recipient = f"{private_home.USER}@{os.fsdecode(read_file(f'{home.control}/me').strip())}"
    for name, place in (("the queue", home.queue_socket), ("SMTP", (client_address(address), port))):
        if not _until(lambda place=place: _accepts(place), services, stopping):
            _say(f"{LABEL}: fatal: {name} does not answer")
            _show_logs(home)
            return False
    known, ended = set(os.listdir(_new(home))), _log_text(home, "pysend").count("end msg")
    reply = _send(address, port, recipient, [recipient], _first_message(recipient))
    path = _until(lambda: next(iter(set(os.listdir(_new(home))) - known), None), services, stopping)
    if not path:
        _say(f"The message was accepted ({reply}) but did not arrive in {_new(home)}")
        _show_logs(home)
        return False
    _say(f"A message to {recipient}, {time.monotonic() - began:.1f} s after the start, in {_new(home)}/{path}:\n")
    _say("    " + os.fsdecode(read_file(f"{_new(home)}/{path}")).rstrip().replace("\n", "\n    "))
    _until(lambda: _log_text(home, "pysend").count("end msg") > ended, services, stopping)
    _show_logs(home)
    _say(_hints(home, address, port, recipient))
    return True


def _hints(home, address, port, recipient):
    """Return what to do next: whole paths, to be copied into a shell that stands anywhere."""
    programs, services = shlex.quote(private_home.programs_folder()), shlex.quote(private_home.service_folder(home))
    place = "" if address == "127.0.0.1" else f" --address {shlex.quote(address)}"
    send = f"{programs}/pyqmail send{place} --port {port} {shlex.quote(recipient)}"
    ann, assign = shlex.quote(f"{home.path}/home/ann"), shlex.quote(f"{home.users}/assign")
    where = f"ann:{os.getuid()}:{os.getgid()}:{home.path}/home/ann"
    entries = shlex.quote(f"1i=ann:{where}:::\\n+ann-:{where}:-::")
    return f"""
To send more mail:
    printf 'Subject: hello\\n\\nhello\\n' | PYQMAIL_HOME={shlex.quote(home.path)} {send}
Another user, ann, with a Maildir:
    mkdir -p -m 700 {ann} {ann}/Maildir {ann}/Maildir/new {ann}/Maildir/cur {ann}/Maildir/tmp
    sed -i {entries} {assign} && PYQMAIL_HOME={shlex.quote(home.path)} {programs}/pynewu
Mail      {_new(home)}
Queue     {home.queue}
Logs      {services}/*/log/main/current, through {programs}/pytai64nlocal
Services  {programs}/pysvstat {services}/*
Settings  {home.control}: smtproutes counts from the next delivery on; locals and virtualdomains after
    {programs}/pysvc -h {services}/pysend
other files that pysend reads, after
    {programs}/pysvc -t {services}/pysend"""


def _first_message(recipient):
    header = f"From: <{recipient}>\nTo: <{recipient}>\nSubject: it works\n"
    return os.fsencode(f"{header}\nThis came in over SMTP, was queued, and went to your Maildir.\n")


def send(address: str, port: int, sender: str | None, recipients, message: bytes) -> int:
    """Send a message, lines ended by LF or CR LF, over SMTP; returns the exit code.  sender None: us."""
    try:
        own = own_address()
        message = completed(message, sender or own, recipients)
        _say(_send(address, port, own if sender is None else sender, recipients, message))
    except Failure as failure:
        return private_home.complain(failure)
    return 0


def own_address() -> str:
    """Return who we are at this home: the user of a private one, otherwise our login name, at control/me."""
    home = Home(os.path.abspath(os.environ.get("PYQMAIL_HOME") or "var"))
    try:
        host = os.fsdecode(read_file(f"{home.control}/me").partition(b"\n")[0].strip())
        is_private = home.owner() is not None
    except OSError:
        host, is_private = "", False
    try:
        user = private_home.USER if is_private else pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{user}@{host or socket.gethostname() or 'localhost'}"


def completed(message: bytes, author: str, recipients) -> bytes:
    """Return the message with the fields that its header lacks of Date, Message-ID, From and To, before the others."""
    message = message.replace(b"\r\n", b"\n")
    first = message.partition(b"\n")[0]
    if not _FIELD.match(first):
        message = b"\n" + message  # a body alone
    header = message[: message.index(b"\n\n") + 1] if b"\n\n" in message and message[:1] != b"\n" else message
    header = b"" if message[:1] == b"\n" else header
    present = {match[1].lower() for line in header.split(b"\n") if (match := _FIELD.match(line))}
    moment = time.time()
    number = f"{int(moment)}.{os.getpid()}.pyqmail@{author.rpartition('@')[2]}"
    fields = {
        "Date": os.fsdecode(header_date(int(moment))).strip(),
        "Message-ID": f"<{number}>",
        "From": f"<{author}>",
        "To": ", ".join(f"<{recipient}>" for recipient in recipients),
    }
    added = [f"{name}: {value}\n" for name, value in fields.items() if name.lower().encode() not in present]
    return os.fsencode("".join(added)) + message


_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")


def _send(address, port, sender, recipients, message):
    """Return the server's last words.  Raises Failure."""
    import smtplib

    host = client_address(address)
    try:
        with smtplib.SMTP(host, port, timeout=PATIENCE_SECONDS) as client:
            client.ehlo("localhost")
            _expect(client.mail(sender))
            for recipient in recipients:
                _expect(client.rcpt(recipient))
            lines = message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")  # smtplib mends str only
            return _expect(client.data(lines))
    except OSError as error:
        raise _hinted(
            Temporary(f"unable to send through {host} port {port}", error), "--port names another one"
        ) from None


def _expect(answer):
    code, reply = answer
    if code != 250:
        raise (Permanent if code >= 500 else Temporary)(
            f"the message was refused: {code} {reply.decode(errors='replace')}"
        )
    return reply.decode(errors="replace")


def _accepts(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as sock:
        return sock.connect_ex(address) == 0


def _until(question, services, stopping):
    """Ask until there is an answer; None once the patience is over, we are told to stop or the services ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        if _wait_for(services, stopping, 0.02) is not None:
            return None
    return None


def _wait_for(services, stopping, seconds):
    """Wait; returns True if told to stop, False if the services ended by themselves, None after seconds."""
    pidfd = os.pidfd_open(services)
    try:
        ready = select.select([stopping, pidfd], [], [], seconds)[0]
    finally:
        os.close(pidfd)
    return (stopping in ready) if ready else None


def _stop(services):
    """End pysvscan and with it everything; what is left in its process group is killed."""
    os.kill(services, signal.SIGTERM)
    pidfd = os.pidfd_open(services)
    ended = select.select([pidfd], [], [], STOP_SECONDS)[0]
    os.close(pidfd)
    try:
        os.killpg(services, signal.SIGKILL)
        if not ended:
            _say(f"{LABEL}: warning: some processes had to be killed")
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise
    os.waitpid(services, 0)


def _show_logs(home):
    for service in sorted(os.listdir(private_home.service_folder(home))):
        if service.startswith("."):
            continue  # what pysvscan keeps there
        lines = _log_text(home, service).splitlines()[-9:]
        _say(f"\nLog of {service}:")
        _say("".join(f"    {line}\n" for line in lines).rstrip() or "    (empty)")


def _log_text(home, service):
    try:
        return read_file(f"{private_home.service_folder(home)}/{service}/log/main/current").decode(errors="replace")
    except OSError:
        return ""


def _new(home):
    return f"{private_home.user_home(home)}/Maildir/new"


def _say(text):
    os.write(1, os.fsencode(text + "\n"))
