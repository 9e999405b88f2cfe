"""One local delivery, as qmail-local makes it: find the user's .qmail file and carry it out line by line.

What its exit code promises the caller:

    0      every line is done: each file delivery is on disk, each program has ended with 0 (or with 99, which skips the
           lines after it), and the message to the forward addresses is in the queue
    100    some line has failed for good: the recipient will not get the message by another try, it bounces
    111    some line has failed for now: the whole delivery is tried again later

Nothing records which lines were done.  So a delivery that is tried again does its first lines again, and one that
bounces may have delivered to some of them: a copy too many, never one too few.  To keep that rare, the order is:
first the checks that need nothing but the file system (home, loop, .qmail file), then file and program lines as they
stand, and last the forwards, as one message: once they are in the queue nothing is left that could fail.  The first
failure ends everything.  Doubt is 111: a program that a signal has killed, an instruction of an unknown kind.

Source: main() of qmail-local; dot-qmail(5), qmail-command(8)
"""

import errno
import itertools
import os
import stat
import time

from pyqmail.base.addresses import quote
from pyqmail.base.dates import mbox_date
from pyqmail.base.failure import is_temporary, reason
from pyqmail.mail.local import dotqmail, maildir, mbox
from pyqmail.mail.local.local_message import LocalMessage
from pyqmail.protocol.envelope import format_envelope
from pyqmail.system.descriptors import read_all
from pyqmail.system.processes import exit_code, spawn, time_limit

MAX_INSTRUCTIONS_BYTES = 16 << 20  # of a .qmail file: a sparse one costs its owner nothing, and us our memory
MAX_FILES = 8  # Maildirs of a delivery that is made together with others
SHELL = b"/bin/sh"
WRITABLE_BY_OTHERS, STICKY, OWNER_EXECUTES = 0o002, 0o1000, 0o100

LABEL = "qmail-local"  # at the head of its lines
USAGE = f"{LABEL} [ -nN ] user homedir local dash ext domain sender aliasempty"

# what the exit code of a program line means; any other is a deferral
CARRY_ON, SUCCESS_NO_MORE = 0, 99
FAILURES = (100, 64, 65, 70, 76, 77, 78, 112)


class Ended(Exception):
    """The delivery is over: its exit code, and the text to report, empty if a program has reported everything."""

    def __init__(self, code: int, text: bytes = b"") -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


def deferred(text: bytes, error: OSError | None = None, number: bytes = b"#4.3.0") -> Ended:
    """Return an Ended that defers: `text: reason. (number)`."""
    if error is not None:
        text = b"%s: %s. (%s)" % (text, reason(error).encode(), number)
    return Ended(111, text)


class DeliveryRequest:
    """What is to be delivered to whom: the arguments of qmail-local.

    default: the instructions of a user without a .qmail file.  describe: print what would be done, do nothing.
    """

    __slots__ = ("user", "home", "local", "dash", "ext", "domain", "sender", "default", "describe")

    def __init__(self, user, home, local, dash, ext, domain, sender, default, *, describe=False):
        self.user, self.home, self.local, self.dash, self.ext = user, home, local, dash, ext
        self.domain, self.sender, self.default, self.describe = domain, sender, default, describe

    @property
    def recipient(self) -> bytes:
        return self.local + b"@" + self.domain


class Delivery:
    """One delivery, from the home directory's check to the counters.

    environ         what the programs inherit
    output          takes texts, say() and complain(), and gives descriptors 1 and 2 of programs, descriptors()
    queue_client    queue_client() changes to the qmail home and returns a QueueClient, or raises OSError
    names           makes the names of files in a Maildir
    run() changes the working directory, nothing else.

    Deliveries into Maildirs alone can be made together: prepare() does the checks, in the place of run().  If it
    returns True, write_files() and, once they are on disk, complete() follow in the same directory; if False, finish().
    """

    def __init__(self, request: DeliveryRequest, message_fd, environ, output, queue_client, names) -> None:
        self._request, self._message, self._output = request, LocalMessage(message_fd), output
        self._environ, self._queue_client, self._names = environ, queue_client, names
        self._files = self._forwards = self._programs = 0
        self._recipients: list[bytes] = []
        self._text, self._forward_only = b"", False
        self._default: bytes | None = None
        self._new_sender = request.sender

    def run(self) -> int:
        """Return the exit code of qmail-local."""
        try:
            self.prepare()
            self.finish()
        except Ended as ended:
            return self.end(ended)
        return 0

    def end(self, ended: Ended) -> int:
        """Say why it is over; return the exit code."""
        if ended.text:
            self._output.complain(ended.text + b"\n")
        return ended.code

    def prepare(self) -> bool:
        """Check what can be checked; return whether there is nothing to do but to put files into Maildirs.

        Raises Ended.
        """
        request = self._request
        if not request.home.startswith(
            b"/"
        ):  # users/assign may hold anything; there is nothing it could be relative to
            raise Ended(100, f"{LABEL}: usage: {USAGE}".encode())
        try:
            os.chdir(request.home)
        except OSError as error:
            raise deferred(b"Unable to switch to " + request.home, error) from None
        self._check_home()
        self._delivered_to = b"Delivered-To: " + request.recipient.replace(b"\n", b"_") + b"\n"
        self._return_path = b"Return-Path: <" + quote(request.sender).replace(b"\n", b"_") + b">\n"
        if not request.describe:
            self._refuse_loop()
        self._text, self._forward_only = self._find_instructions()
        self._new_sender = self._find_new_sender()
        return self._has_maildirs_alone()

    def _has_maildirs_alone(self):
        lines = [kind for kind, _ in itertools.islice(dotqmail.instructions(self._text), MAX_FILES + 1)]
        is_plain = not (self._forward_only or self._request.describe)
        return is_plain and 0 < len(lines) <= MAX_FILES and lines == [dotqmail.MAILDIR] * len(lines)

    def write_files(self) -> list[maildir.MaildirFile]:
        """Write what is to be stored, for each Maildir a file.  Raises Ended, and leaves nothing."""
        files: list[maildir.MaildirFile] = []
        heading, is_written = self._return_path + self._delivered_to, False
        try:
            for _, directory in dotqmail.instructions(self._text):
                files.append(maildir.write(directory, heading, self._message.blocks(), self._names))
            is_written = True
        except maildir.NotDelivered as trouble:
            raise deferred(trouble.text) from None
        finally:
            for file in () if is_written else files:
                file.discard()
        self._files = len(files)
        return files

    def finish(self) -> None:
        """Do all that is to be done.  Raises Ended."""
        self._follow_instructions(self._text, self._forward_only)
        self.complete()

    def complete(self) -> None:
        """Forward, if there is something to forward, and report the counts.  Raises Ended."""
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
            if not self._request.describe:
                raise deferred(b"Home directory is sticky: user is editing his .qmail file. (#4.2.1)")
            self._output.complain(b"Warning: home directory is sticky.\n")

    def _rewind(self):
        try:
            self._message.rewind()
        except OSError:
            raise deferred(b"Unable to rewind message. (#4.3.0)") from None

    def _refuse_loop(self):
        self._rewind()
        try:
            is_looping = self._message.has_header_line(self._delivered_to)
        except OSError as error:
            raise deferred(b"Unable to read message", error) from None
        if is_looping:
            raise Ended(100, b"This message is looping: it already has my Delivered-To line. (#5.4.6)")

    def _find_instructions(self):
        """Return (text, whether only forwarding is allowed) of the first .qmail file there is, else the default."""
        request = self._request
        for name, default_at in dotqmail.candidates(request.dash, request.ext):
            fd = self._open(name)
            if fd is None:
                continue
            try:
                found = self._read_instructions(fd)
            except OSError as error:
                raise deferred(b"Unable to open " + name, error) from None
            finally:
                os.close(fd)
            if found is not None:
                self._default = None if default_at is None else request.ext[default_at:]
                return found if found[0] else (request.default, False)
        if request.dash:
            raise Ended(100, b"Sorry, no mailbox here by that name. (#5.1.1)")
        return request.default, False

    def _read_instructions(self, fd):
        """Return (text, whether only forwarding is allowed) of an open .qmail file; None: it is no file."""
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            return None
        if mode & WRITABLE_BY_OTHERS:
            raise deferred(b"Uh-oh: .qmail file is writable. (#4.7.0)")
        text = read_all(fd, MAX_INSTRUCTIONS_BYTES + 1)
        if len(text) > MAX_INSTRUCTIONS_BYTES:
            raise deferred(b"Uh-oh: .qmail file is too large. (#4.7.0)")
        return text, bool(mode & OWNER_EXECUTES)

    def _open(self, name):
        try:
            return os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if is_temporary(error) or error.errno in (errno.EACCES, errno.EPERM):
                raise deferred(b"Unable to open " + name, error) from None
            return None

    def _find_new_sender(self):
        """Return the sender of what is forwarded: the owner of the list if the address has one."""
        request = self._request
        if request.sender in (b"", b"#@[]"):
            return request.sender
        owner, separately = dotqmail.owner_files(request.dash, request.ext)
        if not self._exists(owner):
            return request.sender
        if self._exists(separately):
            return b"%s-owner-@%s-@[]" % (request.local, request.domain)
        return b"%s-owner@%s" % (request.local, request.domain)

    def _exists(self, name):
        try:
            os.stat(name)
        except OSError as error:
            if is_temporary(error):
                raise deferred(b"Unable to open " + name, error) from None
            return False
        return True

    def _follow_instructions(self, text, forward_only):
        for kind, value in dotqmail.instructions(text):
            if kind == dotqmail.BLANK:
                raise deferred(b"Uh-oh: first line of .qmail file is blank. (#4.2.1)")
            if kind == dotqmail.LIST:
                forward_only = True
            elif kind == dotqmail.FORWARD:
                self._add_forward(value)
            elif kind == dotqmail.PROGRAM:
                self._programs += 1
                is_to_run = self._is_to_do(b"prog", b"program", value, forward_only)
                if is_to_run and self._run_program(value) == SUCCESS_NO_MORE:
                    return
            elif kind in (dotqmail.MAILDIR, dotqmail.FILE):
                self._files += 1
                if self._is_to_do(b"file", kind.encode(), value, forward_only):
                    store = self._put_into_maildir if kind == dotqmail.MAILDIR else self._append_to_mbox
                    store(value)
            else:  # to guess a kind could store the message in a file of that name, and report success
                raise deferred(b"Internal error: unknown kind of instruction. (#4.3.5)")

    def _add_forward(self, address):
        self._forwards += 1
        if self._request.describe:
            self._output.say(b"forward " + address + b"\n")
        else:
            self._recipients.append(address)

    def _is_to_do(self, sort, word, value, forward_only):
        """Return whether a line is to be done, not only described.  Raises Ended if only forwarding is allowed."""
        if forward_only:
            raise deferred(b"Uh-oh: .qmail has " + sort + b" delivery but has x bit set. (#4.7.0)")
        if self._request.describe:
            self._output.say(word + b" " + value + b"\n")
        return not self._request.describe

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

    def _run_program(self, command):
        """Run a program line; return 0 or 99.  Raises Ended for anything else."""
        self._rewind()
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
        """Queue the message for all the addresses collected; return the qp."""
        from pyqmail.mail.queue.client import outcome_text  # here: most deliveries forward nothing

        outcome = self._queue_message()
        text = outcome_text(outcome)
        if text:
            why = b": " + outcome.why if outcome.why else b""
            code = 100 if text.startswith(b"D") else 111
            raise Ended(code, b"Unable to forward message: " + text[1:] + why + b".")
        return outcome.qp

    def _queue_message(self):
        from pyqmail.mail.queue.client import MessageBuffer
        from pyqmail.system.driver import drive

        buffer = MessageBuffer()
        try:
            self._copy_message(buffer)
            envelope = format_envelope(self._new_sender, self._recipients)
            return drive(self._queue_client().queue_even_so(buffer, envelope, self._variables()))
        except OSError:
            raise deferred(b"Unable to forward message: qq trouble in home directory (#4.3.0).") from None
        finally:
            buffer.close()

    def _copy_message(self, buffer):
        try:
            buffer.write(self._delivered_to)
            for block in self._message.blocks():
                buffer.write(block)
        except OSError:
            raise deferred(b"Unable to forward message: qq read error (#4.3.0).") from None

    def _variables(self):
        """Return the environment of programs.  Nothing that was inherited is taken away, DEFAULT included."""
        request = self._request
        variables = {
            **dict(self._environ),
            b"SENDER": request.sender,
            b"NEWSENDER": self._new_sender,
            b"RECIPIENT": request.recipient,
            b"USER": request.user,
            b"HOME": request.home,
            b"HOST": request.domain,
            b"LOCAL": request.local,
            b"EXT": request.ext,
            b"DTLINE": self._delivered_to,
            b"RPLINE": self._return_path,
            b"UFLINE": self._from_line(),
            **_parts(request.domain, request.ext),
        }
        if self._default is not None:
            variables[b"DEFAULT"] = self._default
        return variables

    def _from_line(self):
        sender = self._request.sender.translate(_BLANKS) or b"MAILER-DAEMON"
        return b"From %s %s\n" % (sender, mbox_date(int(time.time())))


def _parts(host, ext):
    """Return HOST2 to HOST4, the domain without its last labels, and EXT2 to EXT4, the extension without its first."""
    variables = {}
    for number in (b"2", b"3", b"4"):
        host = host.rpartition(b".")[0] if b"." in host else host
        ext = ext.partition(b"-")[2]
        variables[b"HOST" + number], variables[b"EXT" + number] = host, ext
    return variables


_BLANKS = bytes(45 if c in b" \t\n" else c for c in range(256))
