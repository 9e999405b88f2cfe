"""`pyqmail run`: a whole system in the foreground, one message to show that it works, and a clean end."""

import errno
import os
import select
import signal
import socket
import sys
import time

from pyqmail.base.failure import Failure, Permanent, Temporary
from pyqmail.programs import private_home, registry
from pyqmail.system.descriptors import read_file
from pyqmail.system.home import Home
from pyqmail.system.processes import fork, reset_signals

ADDRESS = "127.0.0.1"
PATIENCE_SECONDS = 20
STOP_SECONDS = 5


def run(once: bool, port: int) -> int:
    """Return the exit code: 0 the message arrived (or Ctrl-C after it did), 1 it did not, 100 or 111 no start."""
    try:
        return _run(once, port)
    except Failure as failure:
        os.write(2, os.fsencode(f"pyqmail: fatal: {failure}\n"))
        return failure.code


def _run(once, port):
    began = time.monotonic()
    home = Home(os.path.abspath(os.environ.get("PYQMAIL_HOME") or "var"))
    private_home.make(home)
    lock = _lock(home)
    port = _check_port(port)
    stopping = _catch_signals()
    services = _start_services(home, port)
    try:
        arrived = _show(home, port, services, stopping, began)
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

    fd = os.open(f"{home.run}/lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Permanent(f"{home.path} is running already") from None
    return fd


def _check_port(port):
    """Return the port, a free one for 0.  Raises Temporary with the address when it cannot be had."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((ADDRESS, port))
            sock.listen()
        except OSError as error:
            raise Temporary(f"unable to listen on {ADDRESS} port {port}", error) from None
        return sock.getsockname()[1]


def _catch_signals():
    """Return a descriptor that becomes readable once we are told to stop."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(write_end, b"."))
    return read_end


def _start_services(home, port):
    """Start pysvscan in a process group of its own, so that Ctrl-C reaches only us; returns its pid."""

    def work():
        os.setsid()
        reset_signals()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        path = os.environ.get("PATH", "/bin:/usr/bin")
        os.environ.update(
            PATH=f"{os.path.dirname(os.path.abspath(sys.argv[0]))}:{path}",
            PYQMAIL_HOME=home.path,
            SMTP_ADDRESS=ADDRESS,
            SMTP_PORT=str(port),
        )
        return registry.load("pysvscan").main(["pysvscan", "--stop-on-term", private_home.service_folder(home)])

    return fork(work, ["pysvscan", "--stop-on-term", private_home.service_folder(home)])


def _show(home, port, services, stopping, began):
    """Send one message, wait for it and show what became of it; returns whether it arrived."""
    recipient = f"{private_home.USER}@{os.fsdecode(read_file(f'{home.control}/me').strip())}"
    for name, address in (("the queue", home.queue_socket), ("SMTP", (ADDRESS, port))):
        if not _until(lambda address=address: _accepts(address), services, stopping):
            _say(f"pyqmail: fatal: {name} does not answer")
            _show_logs(home)
            return False
    known = set(os.listdir(_new(home)))
    reply = _send(port, recipient, [recipient], _first_message(recipient))
    path = _until(lambda: next(iter(set(os.listdir(_new(home))) - known), None), services, stopping)
    if not path:
        _say(f"The message was accepted ({reply}) but did not arrive in {_new(home)}")
        _show_logs(home)
        return False
    _say(f"A message to {recipient}, {time.monotonic() - began:.1f} s after the start, in {_new(home)}/{path}:\n")
    _say("    " + os.fsdecode(read_file(f"{_new(home)}/{path}")).rstrip().replace("\n", "\n    "))
    _until(lambda: "end msg" in _log_text(home, "pysend"), services, stopping)
    _show_logs(home)
    _say(
        f"""
To send more mail:
    printf 'Subject: hello\\n\\nhello\\n' | {_own_folder()}/pyqmail send --port {port} {recipient}
Mail      {_new(home)}
Queue     {home.queue}
Logs      {private_home.service_folder(home)}/*/log/main/current  (through pytai64nlocal)
Settings  {home.control}  (pysend sees changed locals and virtualdomains on HUP, others when it is started again)
Services  pysvstat {private_home.service_folder(home)}/*"""
    )
    return True


def _first_message(recipient):
    header = f"From: <{recipient}>\nTo: <{recipient}>\nSubject: it works\n"
    return os.fsencode(f"{header}\nThis came in over SMTP, was queued, and went to your Maildir.\n")


def _own_folder():
    return os.path.dirname(os.path.abspath(sys.argv[0]))


def send(port: int, sender: str, recipients, message: bytes) -> int:
    """Send a message, lines ended by LF or CR LF, over SMTP; returns the exit code."""
    try:
        _say(_send(port, sender, recipients, message))
    except Failure as failure:
        os.write(2, os.fsencode(f"pyqmail: fatal: {failure}\n"))
        return failure.code
    return 0


def _send(port, sender, recipients, message):
    """Return the server's last words.  Raises Failure."""
    import smtplib

    try:
        with smtplib.SMTP(ADDRESS, port, timeout=PATIENCE_SECONDS) as client:
            client.ehlo("localhost")
            _expect(client.mail(sender))
            for recipient in recipients:
                _expect(client.rcpt(recipient))
            lines = message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")  # smtplib mends str only
            return _expect(client.data(lines))
    except OSError as error:
        raise Temporary(f"unable to send through {ADDRESS} port {port}", error) from None


def _expect(answer):
    code, reply = answer
    if code != 250:
        raise (Permanent if code >= 500 else Temporary)(
            f"the message was refused: {code} {reply.decode(errors='replace')}"
        )
    return reply.decode(errors="replace")


def _accepts(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
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
            _say("pyqmail: warning: some processes had to be killed")
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise
    os.waitpid(services, 0)


def _show_logs(home):
    for service in sorted(os.listdir(private_home.service_folder(home))):
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
