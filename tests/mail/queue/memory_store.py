"""A store that keeps messages in memory, and whose commit is one step, as a log's would be.

Nothing is visible before the commit.  What is committed stands in `committed`, which is the disk: show() writes it out
as the queue's files, where the queue manager and the tests look, as a replay after a crash would.

    store.at["commit"] = [work]       work() is called at that step, and may raise

The steps, in the order in which they happen: stage, write, commit, show; materialize, commit, show.  MessageRefused
raised at stage, write or materialize is one message's; at commit it is the batch's.  Crash is the end of the process at
that step: whoever looks afterwards makes a new store with the old one's `committed`, and calls show().
"""

import itertools
import os

from pyqmail.mail.queue.bounds import MessageRefused
from pyqmail.mail.queue.envelope_files import make_envelope_files
from pyqmail.mail.queue.files import pull_trigger
from pyqmail.mail.queue.origin import received_line
from pyqmail.mail.queue.pieces import bounded
from pyqmail.mail.queue.store import UNBOUNDED, PreprocessedMessage, StagedMessage, Verdict
from pyqmail.protocol.envelope import BadEnvelope, EnvelopeReader, todo_head

STEPS = ("stage", "write", "materialize", "commit", "show")


class Crash(BaseException):
    """The process ends here."""


class MemoryStore:
    """committed: what another store had on its disk, as [(number, mess, todo) or PreprocessedMessage]."""

    def __init__(self, names, known=None, committed=()):
        self._names, self._known = names, known or {}
        self._numbers = itertools.count(1_000_003 + len(committed))
        self._staged = {}  # number -> descriptors of mess and todo, which stay open here whoever writes them
        self.at = {step: [] for step in STEPS}
        self.committed, self._shown = list(committed), 0

    def prepare(self):
        if not os.path.isdir(self._names.queue):
            raise FileNotFoundError(self._names.queue)

    def close(self):
        for number in list(self._staged):
            self._drop(number)

    def stage(self, bounds=UNBOUNDED, with_envelope=False):
        bounds.check_room(self._names.queue)
        self._reach("stage")
        number = next(self._numbers)
        ours = self._staged[number] = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("mess", "todo")]
        return StagedMessage(number, *map(os.dup, ours))

    def write_staged(self, staged, origin, message, envelope, bounds=UNBOUNDED):
        self._reach("write")
        os.write(staged.message_fd, received_line(origin, self._known))
        for piece in bounded(message, bounds, self._names.queue):
            os.write(staged.message_fd, piece)
        os.write(staged.envelope_fd, todo_head(origin.uid, origin.qp))
        reader = EnvelopeReader()
        try:
            for piece in bounded(envelope, bounds, self._names.queue):
                os.write(staged.envelope_fd, reader.receive(piece))
                if reader.ended:
                    break
            reader.close()
        except BadEnvelope as bad:
            raise MessageRefused(bad.exit_code) from None

    def discard(self, staged):
        staged.close()
        self._drop(staged.number)

    def add(self, batch):
        verdicts, records = [], []
        for new in batch:
            try:
                records.append(self._record(new))
            except MessageRefused as refused:
                verdicts.append(Verdict(0, refused.exit_code, refused.why))
            else:
                verdicts.append(Verdict(records[-1][0]))
        refused = self._commit(records)
        for verdict in verdicts:
            if refused and not verdict.exit_code:
                verdict.exit_code, verdict.why = refused.exit_code, refused.why
        if records and not refused:
            self.show()
            pull_trigger(self._names)
        return verdicts

    def _record(self, new):
        """Return (number, mess, todo) of a new message.  Raises MessageRefused."""
        if new.staged is not None:
            new.staged.close()
            mess, todo = self._staged[new.staged.number]
            record = new.staged.number, os.pread(mess, os.fstat(mess).st_size, 0), os.pread(todo, 1 << 24, 0)
            self._drop(new.staged.number)
            return record
        new.bounds.check_room(self._names.queue)
        self._reach("stage")
        self._reach("write")
        head, received = todo_head(new.origin.uid, new.origin.qp), received_line(new.origin, self._known)
        return next(self._numbers), received + new.message, head + new.envelope

    def materialize(self, batch, then):
        then(self._materialize(batch))

    def _materialize(self, batch):
        failed, records = {}, []
        for message in batch:
            try:
                self._reach("materialize")
            except MessageRefused:
                failed[message.number] = b"warning: unable to create info/%d" % message.number
            else:
                records.append(message)
        if self._commit(records):
            return {message.number: b"warning: trouble fsyncing info" for message in batch}
        self.show()
        return failed

    def show(self):
        """Write what is committed and was not shown yet as files."""
        while self._shown < len(self.committed):
            self._reach("show")
            record = self.committed[self._shown]
            if isinstance(record, PreprocessedMessage):
                failed = []
                make_envelope_files(self._names, lambda files, directories, then: then(set()), [record], failed.append)
                assert failed == [{}]
            else:
                self._show_new(*record)
            self._shown += 1

    def _show_new(self, number, mess, todo):
        for path, content in ((self._names.mess(number), mess), (self._names.intd(number), todo)):
            with open(path, "wb") as file:
                file.write(content)
        os.link(self._names.intd(number), self._names.todo(number))

    def _commit(self, records):
        """Return the MessageRefused if the whole batch could not be committed."""
        try:
            self._reach("commit")
        except MessageRefused as refused:
            return refused
        self.committed += records
        return None

    def _reach(self, step):
        if self.at[step]:
            self.at[step].pop(0)()

    def _drop(self, number):
        for fd in self._staged.pop(number):
            os.close(fd)
