"""One local delivery, as qmail-local makes it: the user's .qmail file found and done line by line.

File and program lines run in their order; forward lines are collected and go out last, as one message.  The
first failure ends everything.  Source: main() of qmail-local; qmail-command(8)
"""

import errno
import os
import signal
import stat
import time

from pyqmail.base.addresses import quote
from pyqmail.base.dates import mbox_date
from pyqmail.base.failure import is_temporary, reason
from pyqmail.mail.local import dotqmail, maildir, mbox
from pyqmail.protocol.envelope import format_envelope
from pyqmail.system.descriptors import read_all
from pyqmail.system.processes import exit_code, spawn
from pyqmail.system.retrying import write_surely

BLOCK_BYTES = 65536
MAX_INSTRUCTIONS_BYTES = 16 << 20  # of a .qmail file: one with holes costs its owner nothing, and us our memory
SHELL = b"/bin/sh"
WRITABLE_BY_OTHERS, STICKY, OWNER_EXECUTES = 0o002, 0o1000, 0o100

LABEL = "qmail-local"  # at the head of its lines
USAGE = f"{LABEL} [ -nN ] user homedir local dash ext domain sender aliasempty"

# what the exit code of a program line means; any other is a deferral
CARRY_ON, SUCCESS_NO_MORE = 0, 99
FAILURES = (100, 64, 65, 70, 76, 77, 78, 112)


class Ended(Exception):
    """The delivery is over: exit code, and the text to report, empty if a program has said it all."""

    def __init__(self, code: int, text: bytes = b"") -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


def deferred(text: bytes, error: OSError | None = None, number: bytes = b"#4.3.0") -> Ended:
    """Return an Ended that defers: `text: reason. (number)`."""
    if error is not None:
        text = b"%s: %s. (%s)" % (text, reason(error).encode(), number)
    return Ended(111, text)


class Job:
    """What is to be delivered to whom: the arguments of qmail-local.

    default is what a user without a .qmail file gets; describe says what would be done instead of doing it.
    """

    __slots__ = ("user", "home", "local", "dash", "ext", "domain", "sender", "default", "describe")

    def __init__(self, user, home, local, dash, ext, domain, sender, default, *, describe=False):
        self.user, self.home, self.local, self.dash, self.ext = user, home, local, dash, ext
        self.domain, self.sender, self.default, self.describe = domain, sender, default, describe

    @property
    def recipient(self) -> bytes:
        return self.local + b"@" + self.domain


class LocalMessage:
    """The message file.  Reads at places of its own, so that the offset stays for programs; rewind() before each."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._head = None

    def rewind(self) -> None:
        try:
            os.lseek(self.fd, 0, os.SEEK_SET)
        except OSError:
            raise deferred(b"Unable to rewind message. (#4.3.0)") from None

    def blocks(self):
        """Yield the content, at least one block, which is empty for an empty message.  Raises OSError."""
        if self._head is None:
            self._head = os.pread(self.fd, BLOCK_BYTES, 0)
        block, at = self._head, 0
        while True:
            yield block
            if len(block) < BLOCK_BYTES:
                return
            at += len(block)
            block = os.pread(self.fd, BLOCK_BYTES, at)

    def has_header_line(self, line: bytes) -> bool:
        """Return whether a line, its newline included, stands whole above the first empty line.  Raises OSError."""
        held, keep = b"\n", len(line) + 1
        for block in self.blocks():
            text = held + block
            end = text.find(b"\n\n")
            at = text.find(b"\n" + line)
            if at >= 0 and (end < 0 or at < end):
                return True
            if end >= 0:
                return False
            held = text[-keep:]
        return False


class Delivery:
    """One delivery, from the home directory's check to the counters.

    environ is what the programs inherit; output takes texts and gives descriptors 1 and 2 of programs (see
    Standard); queueing() changes to the qmail home and returns a QueueClient (mail/queue/client.py), or raises OSError.
    run() changes the working directory, nothing else.
    """

    def __init__(self, job: Job, message_fd: int, environ, output, queueing, names: maildir.Names) -> None:
        self._job, self._message, self._output = job, LocalMessage(message_fd), output
        self._environ, self._queueing, self._names = environ, queueing, names
        self._files = self._forwards = self._programs = 0
        self._recipients: list[bytes] = []
        self._default: bytes | None = None
        self._new_sender = job.sender

    def run(self) -> int:
        """Return the exit code of qmail-local."""
        try:
            self._deliver()
        except Ended as ended:
            if ended.text:
                self._output.complain(ended.text + b"\n")
            return ended.code
        return 0

    def _deliver(self):
        job = self._job
        if not job.home.startswith(b"/"):  # users/assign may say anything; relative to what, nobody knows
            raise Ended(100, f"{LABEL}: usage: {USAGE}".encode())
        try:
            os.chdir(job.home)
        except OSError as error:
            raise deferred(b"Unable to switch to " + job.home, error) from None
        self._check_home()
        self._delivered_to = b"Delivered-To: " + job.recipient.replace(b"\n", b"_") + b"\n"
        self._return_path = b"Return-Path: <" + quote(job.sender).replace(b"\n", b"_") + b">\n"
        if not job.describe:
            self._refuse_loop()
        text, forward_only = self._find_instructions()
        self._new_sender = self._find_new_sender()
        self._follow(text, forward_only)
        qp = self._forward() if self._recipients else 0
        counts = b"did %d+%d+%d\n" % (self._files, self._forwards, self._programs)
        self._output.say(counts + (b"qp %d\n" % qp if qp else b""))

    def _check_home(self):
        try:
            mode = os.stat(b".").st_mode
        except OSError as error:
            raise deferred(b"Unable to stat home directory", error) from None
        if mode & WRITABLE_BY_OTHERS:
            raise deferred(b"Uh-oh: home directory is writable. (#4.7.0)")
        if mode & STICKY:
            if not self._job.describe:
                raise deferred(b"Home directory is sticky: user is editing his .qmail file. (#4.2.1)")
            self._output.complain(b"Warning: home directory is sticky.\n")

    def _refuse_loop(self):
        self._message.rewind()
        try:
            is_looping = self._message.has_header_line(self._delivered_to)
        except OSError as error:
            raise deferred(b"Unable to read message", error) from None
        if is_looping:
            raise Ended(100, b"This message is looping: it already has my Delivered-To line. (#5.4.6)")

    def _find_instructions(self):
        """Return (text, whether only forwarding is allowed) of the first .qmail file there is, else the default."""
        job = self._job
        for name, default_at in dotqmail.candidates(job.dash, job.ext):
            fd = self._open(name)
            if fd is None:
                continue
            try:
                mode = os.fstat(fd).st_mode
                if not stat.S_ISREG(mode):
                    continue
                if mode & WRITABLE_BY_OTHERS:
                    raise deferred(b"Uh-oh: .qmail file is writable. (#4.7.0)")
                text = read_all(fd, MAX_INSTRUCTIONS_BYTES + 1)
                if len(text) > MAX_INSTRUCTIONS_BYTES:
                    raise deferred(b"Uh-oh: .qmail file is too large. (#4.7.0)")
            except OSError as error:
                raise deferred(b"Unable to open " + name, error) from None
            finally:
                os.close(fd)
            self._default = None if default_at is None else job.ext[default_at:]
            return (text, bool(mode & OWNER_EXECUTES)) if text else (job.default, False)
        if job.dash:
            raise Ended(100, b"Sorry, no mailbox here by that name. (#5.1.1)")
        return job.default, False

    def _open(self, name):
        try:
            return os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if is_temporary(error) or error.errno in (errno.EACCES, errno.EPERM):
                raise deferred(b"Unable to open " + name, error) from None
            return None

    def _find_new_sender(self):
        """Return the sender of what is forwarded: the owner of the list if the address has one."""
        job = self._job
        if job.sender in (b"", b"#@[]"):
            return job.sender
        owner, separately = dotqmail.owner_files(job.dash, job.ext)
        if not self._exists(owner):
            return job.sender
        if self._exists(separately):
            return b"%s-owner-@%s-@[]" % (job.local, job.domain)
        return b"%s-owner@%s" % (job.local, job.domain)

    def _exists(self, name):
        try:
            os.stat(name)
        except OSError as error:
            if is_temporary(error):
                raise deferred(b"Unable to open " + name, error) from None
            return False
        return True

    def _follow(self, text, forward_only):
        for kind, value in dotqmail.instructions(text):
            if kind == dotqmail.BLANK:
                raise deferred(b"Uh-oh: first line of .qmail file is blank. (#4.2.1)")
            if kind == dotqmail.LIST:
                forward_only = True
            elif kind == dotqmail.FORWARD:
                self._collect(value)
            elif kind == dotqmail.PROGRAM:
                self._programs += 1
                if self._may_do(b"prog", b"program", value, forward_only) and self._run(value) == SUCCESS_NO_MORE:
                    return
            elif kind in (dotqmail.MAILDIR, dotqmail.FILE):
                self._files += 1
                if self._may_do(b"file", kind.encode(), value, forward_only):
                    self._store(kind, value)
            else:  # never a file that happens to have its name, and a success
                raise deferred(b"Internal error: unknown kind of instruction. (#4.3.5)")

    def _collect(self, address):
        self._forwards += 1
        if self._job.describe:
            self._output.say(b"forward " + address + b"\n")
        else:
            self._recipients.append(address)

    def _may_do(self, sort, word, value, forward_only):
        """Return whether a line is to be done, not only described.  Raises Ended if only forwarding is allowed."""
        if forward_only:
            raise deferred(b"Uh-oh: .qmail has " + sort + b" delivery but has x bit set. (#4.7.0)")
        if self._job.describe:
            self._output.say(word + b" " + value + b"\n")
        return not self._job.describe

    def _store(self, kind, path):
        if kind == dotqmail.MAILDIR:
            self._put_into_maildir(path)
        else:
            self._append_to_mbox(path)

    def _put_into_maildir(self, directory):
        try:
            with time_limit(maildir.LIMIT_SECONDS, maildir.NotDelivered(maildir.TIMED_OUT)):
                heading = self._return_path + self._delivered_to
                maildir.deliver(directory, heading, self._message.blocks(), self._names)
        except maildir.NotDelivered as trouble:
            raise deferred(trouble.text) from None

    def _append_to_mbox(self, path):
        def limit(seconds):
            return time_limit(seconds, mbox.LockTimeout())

        try:
            heading = self._from_line() + self._return_path + self._delivered_to
            mbox.deliver(path, heading, self._message.blocks(), limit)
        except mbox.NotAppended as trouble:
            raise deferred(trouble.text) from None

    def _run(self, command):
        """Run a program line; returns 0 or 99.  Raises Ended for anything else."""
        self._message.rewind()
        out, err = self._output.descriptors()
        try:
            pid = spawn([SHELL, b"-c", command], self._variables(), None, {0: self._message.fd, 1: out, 2: err})
        except OSError as error:
            text = b"Unable to fork" if error.errno in (errno.EAGAIN, errno.ENOMEM) else b"Unable to run " + SHELL
            raise deferred(text, error) from None
        code = exit_code(os.waitpid(pid, 0)[1])
        if code is None:
            raise deferred(b"Aack, child crashed. (#4.3.0)")
        if code not in (CARRY_ON, SUCCESS_NO_MORE):
            raise Ended(100 if code in FAILURES else 111)
        return code

    def _forward(self):
        """Queue the message for all the addresses collected; returns the qp."""
        from pyqmail.mail.queue.client import MessageBuffer, outcome_text
        from pyqmail.system.driver import drive

        spool = MessageBuffer()
        try:
            spool.write(self._delivered_to)
            for block in self._message.blocks():
                spool.write(block)
        except OSError:
            spool.close()
            raise deferred(b"Unable to forward message: qq read error (#4.3.0).") from None
        try:
            envelope = format_envelope(self._new_sender, self._recipients)
            outcome = drive(self._queueing().queue_even_so(spool, envelope, self._variables()))
        except OSError:
            raise deferred(b"Unable to forward message: qq trouble in home directory (#4.3.0).") from None
        finally:
            spool.close()
        text = outcome_text(outcome)
        if text:
            why = b": " + outcome.why if outcome.why else b""
            code = 100 if text.startswith(b"D") else 111
            raise Ended(code, b"Unable to forward message: " + text[1:] + why + b".")
        return outcome.qp

    def _variables(self):
        """Return the environment of programs.  Nothing that was inherited is taken away, DEFAULT included."""
        job = self._job
        variables = dict(self._environ)
        variables.update(
            {
                b"SENDER": job.sender,
                b"NEWSENDER": self._new_sender,
                b"RECIPIENT": job.recipient,
                b"USER": job.user,
                b"HOME": job.home,
                b"HOST": job.domain,
                b"LOCAL": job.local,
                b"EXT": job.ext,
                b"DTLINE": self._delivered_to,
                b"RPLINE": self._return_path,
                b"UFLINE": self._from_line(),
            }
        )
        host, ext = job.domain, job.ext
        for number in (b"2", b"3", b"4"):
            host = host.rpartition(b".")[0] if b"." in host else host
            ext = ext.partition(b"-")[2]
            variables[b"HOST" + number], variables[b"EXT" + number] = host, ext
        if self._default is not None:
            variables[b"DEFAULT"] = self._default
        return variables

    def _from_line(self):
        sender = self._job.sender.translate(_BLANKS) or b"MAILER-DAEMON"
        return b"From %s %s\n" % (sender, mbox_date(int(time.time())))


_BLANKS = bytes(45 if c in b" \t\n" else c for c in range(256))


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
        pass  # what was delivered is delivered, whoever hears of it


class time_limit:
    """A context in which error is raised once so many whole seconds have passed.  Uses SIGALRM."""

    def __init__(self, seconds: int, error: Exception) -> None:
        self._seconds, self._error = seconds, error

    def __enter__(self):
        self._before = signal.signal(signal.SIGALRM, self._expire)
        signal.alarm(self._seconds)

    def __exit__(self, *_):
        signal.alarm(0)
        signal.signal(signal.SIGALRM, self._before)

    def _expire(self, *_):
        raise self._error
