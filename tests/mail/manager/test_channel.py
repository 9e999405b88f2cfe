"""A channel between an engine that orders what the test says, and files on disk; deliveries from end to end are in
tests/programs/test_pysend.py."""

import errno
import os

import pytest

from pyqmail.mail.destinations.orders import DELIVER, DONE, DUE, REPORT
from pyqmail.mail.destinations.outcome import LOOKUP, Outcome
from pyqmail.mail.manager import channel as channel_module
from pyqmail.mail.manager.channel import Channel
from pyqmail.mail.manager.channel_files import QueueFiles
from pyqmail.mail.manager.deliveries import ChannelDeliveries, Load
from pyqmail.mail.manager.marks import BOUNCE_SECONDS, DirtyMessages, Marks
from pyqmail.mail.queue.files import QueueNames
from pyqmail.mail.routing.rewrite import Rewriter

NEVER = float("inf")


class Engine:
    """orders are obeyed once; told is what it heard: (name, arguments)."""

    total, connecting, has_room = 20, 0, True

    def __init__(self):
        self.orders, self.told = [], []

    def take_orders(self):
        orders, self.orders = self.orders, []
        return orders

    def advance(self, date, now):
        pass

    def log_lines(self, now):
        return []

    def result(self, handle, outcome, *, carried, accepted, now):
        self.told.append(("result", handle))
        return outcome.letter

    def __getattr__(self, name):
        return lambda *arguments, **more: self.told.append((name, *arguments[:-1]))


class Spawner:
    """ordered: (session, path, sender, pairs) of each delivery."""

    max_together = 1

    def __init__(self):
        self.ordered = []

    def deliver(self, *order):
        self.ordered.append(order)


class Log(list):
    add_line = list.append


class Lines:
    """What a DeliveryLog is told."""

    def __init__(self):
        self.told, self._count = [], 0

    def log_start(self, message, channel, recipient):
        self._count += 1
        self.told.append((self._count, recipient))
        return self._count

    def log_end(self, number, letter, text):
        self.told.append((number, letter, text))

    def log_lines(self, lines):
        assert not lines


class Ends:
    """removed: whose channel file has gone.  can_remove: whether it could."""

    def __init__(self, files):
        self.removed, self.checked, self.can_remove, self._files = [], [], True, files

    def remove_channel_file(self, channel, number):
        if self.can_remove:
            os.unlink(self._files.path(channel, number))
            self.removed.append(number)
        return self.can_remove

    def check_soon(self, number):
        self.checked.append(number)


class Later:
    """A loop of calls in some seconds; run(seconds) makes those that are due by then."""

    def __init__(self):
        self._calls, self._now = [], 0

    def after(self, seconds, work):
        self._calls.append((self._now + seconds, work))
        return work

    def run(self, seconds):
        self._now += seconds
        for call in [call for call in self._calls if call[0] <= self._now]:
            self._calls.remove(call)
            call[1]()


class Disk:
    """Syncs when it is told to; syncing is [(files, directories, then)] of what waits."""

    def __init__(self):
        self.syncing = []

    def sync(self, files, directories, then):
        self.syncing.append((list(files), list(directories), then))

    def end(self, lost=()):
        """The first that waits is on disk, but for the files of these places."""
        files, _, then = self.syncing.pop(0)
        then({files[place] for place in lost})


class Setting:
    def __init__(self, home):
        self.names, self.log, self.loop, self.disk = QueueNames(home.queue, 23), Log(), Later(), Disk()
        self.files, self.engine, self.spawner, self.lines = QueueFiles(self.names), Engine(), Spawner(), Lines()
        self.ends = Ends(self.files)
        dirty = DirtyMessages(self.loop, lambda: None)
        load = Load(self.engine)
        rewriting = Rewriter(b"here.example", [], [], {})
        parts = "remote", self.engine, load, self.spawner, self.lines, self.names, rewriting, dirty, lambda: None
        self.deliveries = ChannelDeliveries(*parts)
        marks = Marks(self.files, self.log, self.loop, dirty, self.disk)
        parts = "remote", self.files, self.engine, self.deliveries, marks, dirty, self.ends, self.log, self.spawner
        self.channel = Channel(*parts)

    def write(self, content=b"Ta@far.example\0Tb@far.example\0", number=50, sender=b"s@x"):
        for path, data in ((self.names.info(number), b"F%b\0" % sender), (self.names.remote(number), content)):
            with open(path, "wb") as file:
                file.write(data)

    def order(self, *orders):
        self.engine.orders += orders
        return self.channel.obey_engine(NEVER)

    def turn(self):
        """End a turn."""
        self.channel.obey_engine(NEVER)
        self.channel.write_progress(NEVER)

    def report(self, slot, report):
        self.deliveries.reported(slot, Outcome(report))

    @property
    def content(self):
        with open(self.names.remote(50), "rb") as file:
            return file.read()

    @property
    def bounce(self):
        try:
            with open(self.names.bounce(50), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None


@pytest.fixture
def setting(home):
    return Setting(home)


TWO = [(7, 0), (8, 15)]  # handles, offsets
BOTH = (DELIVER, 3, 50, TWO)


def test_a_delivery_has_addresses_of_the_file_and_a_slot_each(setting):
    setting.write()
    setting.order(BOTH)
    assert setting.spawner.ordered == [(3, b"4/50", b"s@x", [(0, b"a@far.example"), (1, b"b@far.example")])]
    assert setting.lines.told == [(1, b"a@far.example"), (2, b"b@far.example")]


def test_what_is_done_already_is_not_delivered_to(setting):
    setting.write(b"Da@far.example\0Tb@far.example\0")
    setting.order(BOTH)
    assert setting.engine.told == [("dropped", 7)]
    assert [pairs for *_, pairs in setting.spawner.ordered] == [[(0, b"b@far.example")]]


TROUBLES = [
    # what is wrong, the line about it, how long it is put off
    (lambda names: os.unlink(names.info(50)), b"warning: trouble opening info/4/50; will try again later", 123),
    (lambda names: open(names.info(50), "w").close(), b"warning: trouble opening info/4/50; will try again later", 123),
    (lambda names: os.truncate(names.remote(50), 12), b"warning: unknown record type in remote/4/50!", 123),
    (
        lambda names: os.rename(os.path.dirname(names.remote(50)), names.queue + "/away"),
        b"warning: trouble opening remote/4/50; will try again later",
        123,
    ),
]


@pytest.mark.parametrize("spoil, line, pause", TROUBLES)
def test_what_cannot_be_read_is_put_off_and_never_done(setting, spoil, line, pause):
    setting.write()
    spoil(setting.names)
    setting.order(BOTH)
    assert setting.engine.told == [("put_off", 7, pause), ("put_off", 8, pause)] and setting.log == [line]
    assert not setting.spawner.ordered and not setting.lines.told


def test_what_was_lacking_once_is_read_again_soon_and_then_less_soon(setting, monkeypatch):
    setting.write()

    def lack(*_):
        raise OSError(errno.EMFILE, "no descriptor")

    monkeypatch.setattr(os, "open", lack)
    for _ in range(3):
        setting.order((DELIVER, 3, 50, [(7, 0)]))
    assert [pause for _, _, pause in setting.engine.told] == [1, 2, 4]


def test_a_message_that_somebody_removed_is_forgotten(setting):
    setting.order(BOTH)
    assert setting.engine.told == [("forget", 50), ("dropped", 7), ("dropped", 8)]
    assert setting.log == [b"warning: no file remote/4/50: removed by somebody else"] and setting.ends.checked == [50]


def test_a_success_is_marked_when_the_turn_ends_and_a_deferral_is_not(setting):
    setting.write()
    setting.order(BOTH)
    setting.report(0, b"Kok\n")
    setting.report(1, b"Zlater\n")
    setting.turn()
    assert setting.content == b"Da@far.example\0Tb@far.example\0" and setting.bounce is None
    assert setting.lines.told[2:] == [(1, b"K", b"ok\n"), (2, b"Z", b"later\n")]
    setting.order((DUE, 50, 4711.0))
    assert os.stat(setting.names.remote(50)).st_mtime == 4711


def test_a_failure_is_marked_only_once_its_text_is_on_disk(setting):
    """What comes meanwhile waits for its own text, and no longer."""
    setting.write()
    setting.order(BOTH)
    setting.report(0, b"Dno\n")
    setting.turn()
    assert setting.bounce == b"<a@far.example>:\nno\n\n" and setting.content.startswith(b"T")
    setting.report(1, b"Dnever\n")
    setting.turn()
    assert setting.content == b"Ta@far.example\0Tb@far.example\0" and len(setting.disk.syncing) == 1
    setting.disk.end()
    setting.turn()
    assert setting.content == b"Da@far.example\0Tb@far.example\0"
    setting.disk.end()
    setting.turn()
    assert setting.content == b"Da@far.example\0Db@far.example\0"
    assert setting.bounce == b"<a@far.example>:\nno\n\n<b@far.example>:\nnever\n\n"


@pytest.mark.parametrize("failure", ["written", "synced", "directory"])
def test_a_text_that_does_not_get_on_disk_is_tried_again_and_nothing_is_marked(setting, failure):
    setting.write()
    if failure == "written":
        os.mkdir(setting.names.bounce(50))
    setting.order(BOTH)
    setting.report(0, b"Dno\n")
    setting.report(1, b"Kok\n")
    setting.order((DONE, 50))
    setting.turn()
    if failure == "synced":
        setting.disk.end(lost=[0])
    elif failure == "directory":
        files, directories, then = setting.disk.syncing.pop()
        then(set(directories))
    setting.turn()
    assert setting.log == [b"alert: unable to append to bounce message; HELP! sleeping..."]
    assert b"D" not in setting.content and not setting.ends.removed and not setting.disk.syncing
    if failure == "written":
        os.rmdir(setting.names.bounce(50))
    setting.loop.run(BOUNCE_SECONDS)
    setting.turn()
    setting.disk.end()
    setting.turn()
    assert setting.ends.removed == [50]


def test_what_is_done_whole_needs_no_marks(setting):
    setting.write()
    setting.order(BOTH)
    for slot in (0, 1):
        setting.report(slot, b"Kok\n")
    setting.order((DONE, 50))
    setting.files.write_marks = None
    setting.turn()
    assert setting.ends.removed == [50]


def test_a_file_that_cannot_go_keeps_its_marks_though_they_cannot_be_written_at_once(setting, monkeypatch):
    """Otherwise a restart would deliver again to all that it has."""
    setting.write()
    setting.order(BOTH)
    for slot in (0, 1):
        setting.report(slot, b"Kok\n")
    setting.order((DONE, 50))
    setting.ends.can_remove, write_marks = False, setting.files.write_marks

    def lack(*_):
        raise OSError(errno.ENOMEM, "no memory")

    setting.files.write_marks = lack
    setting.turn()
    assert setting.log == [b"warning: trouble marking remote/4/50; will try again later"]
    setting.files.write_marks = write_marks
    setting.loop.run(1)
    setting.turn()
    assert setting.content == b"Da@far.example\0Db@far.example\0" and not setting.ends.removed
    setting.ends.can_remove = True
    setting.loop.run(channel_module.TROUBLE_SECONDS)
    setting.turn()
    assert setting.ends.removed == [50]


def test_an_alarm_lets_a_file_that_could_not_go_be_tried_at_once(setting):
    setting.write(b"Da@far.example\0")
    setting.ends.can_remove = False
    setting.order((DONE, 50))
    setting.turn()
    setting.ends.can_remove = True
    setting.channel.make_due()
    setting.turn()
    assert setting.ends.removed == [50]


FAILED = Outcome(b"Dno such host\n", LOOKUP)


def test_what_ends_untried_has_its_two_lines_and_its_text(setting):
    setting.write()
    setting.order((REPORT, 50, TWO, FAILED), (DONE, 50))
    setting.turn()
    assert setting.lines.told == [
        (1, b"a@far.example"),
        (1, b"D", b"no such host\n"),
        (2, b"b@far.example"),
        (2, b"D", b"no such host\n"),
    ]
    assert not setting.ends.removed
    setting.disk.end()
    setting.turn()
    assert setting.ends.removed == [50] and setting.bounce.count(b"no such host") == 2


def test_what_ends_under_way_frees_its_slot(setting):
    setting.write()
    setting.order(BOTH)
    setting.order((REPORT, 50, [(8, 15)], Outcome(b"Zlost\n")))
    assert setting.lines.told[2:] == [(2, b"Z", b"lost\n")]
    setting.order((DELIVER, 4, 50, [(9, 15)]))
    assert setting.spawner.ordered[-1][3] == [(1, b"b@far.example")]


def test_a_failure_whose_address_cannot_be_read_now_is_told_later_and_keeps_the_message(setting):
    setting.write()
    os.rename(setting.names.info(50), setting.names.mess(50))
    setting.order((REPORT, 50, TWO, FAILED), (DONE, 50))
    setting.turn()
    assert not setting.lines.told and not setting.ends.removed
    os.rename(setting.names.mess(50), setting.names.info(50))
    setting.loop.run(channel_module.TROUBLE_SECONDS)
    setting.turn()
    setting.disk.end()
    setting.turn()
    assert len(setting.lines.told) == 4 and setting.ends.removed == [50]


def test_what_a_session_gave_back_goes_on_under_its_number(setting):
    setting.write()
    setting.order(BOTH)
    setting.deliveries.unsent(1)
    setting.report(0, b"Kok\n")
    setting.turn()
    setting.order((DELIVER, 5, 50, [(12, 15)]))
    setting.report(0, b"Kfine\n") if setting.spawner.ordered[-1][3][0][0] == 0 else setting.report(1, b"Kfine\n")
    assert setting.lines.told == [
        *((1, b"a@far.example"), (2, b"b@far.example"), (1, b"K", b"ok\n"), (2, b"K", b"fine\n")),
    ]
    assert setting.engine.told == [("unsent", 8), ("result", 7), ("result", 12)]


def test_nothing_comes_on_disk_of_a_message_whose_number_is_anothers(setting):
    setting.write()
    setting.order(BOTH)
    setting.channel.forget_message(50)
    setting.write(b"Tnew@far.example\0")
    setting.report(0, b"Kok\n")
    setting.report(1, b"Dno\n")
    setting.turn()
    assert setting.content == b"Tnew@far.example\0" and setting.bounce is None and len(setting.lines.told) == 4


def test_a_list_writes_each_recipient_into_its_sender(setting):
    setting.write(sender=b"list-@x-@[]")
    setting.order((DELIVER, 3, 50, [(7, 0)]))
    assert setting.spawner.ordered[0][2] == b"list-a=far.example@x"


def test_one_turn_obeys_for_a_limited_time(setting):
    setting.write()
    setting.engine.orders = [(DUE, 50, 4711)] * 3
    assert [setting.channel.obey_engine(0) for _ in range(3)] == [True] * 3
    assert setting.channel.obey_engine(0) is False


def test_nothing_is_kept_of_a_message_that_only_waits(setting):
    setting.write()
    setting.order(BOTH)
    setting.report(0, b"Kok\n")
    setting.report(1, b"Zlater\n")
    setting.turn()
    assert not setting.channel._messages


def test_what_is_not_obeyed_when_its_session_goes_comes_back_untouched(setting):
    """It must not be deferred: nothing has been said to anybody."""
    setting.write()
    setting.engine.orders = [(DUE, 50, 4711), BOTH, (DELIVER, 4, 50, [(9, 0)])]
    assert setting.channel.obey_engine(0)
    setting.deliveries.closed(3, None)
    assert setting.engine.told == [("unsent", 7), ("unsent", 8), ("closed", 3, None)]
    setting.channel.obey_engine(NEVER)
    assert [order[0] for order in setting.spawner.ordered] == [4]
