"""What the queue holds at the start, where a directory cannot be listed; all else: tests/programs/test_pysend.py."""

import os
import time

import pytest

from pyqmail.mail.manager import channel_files, queue_scan
from pyqmail.mail.manager.channel_files import QueueFiles
from pyqmail.mail.manager.queue_scan import ChannelReader, QueueScan
from pyqmail.mail.queue.files import QueueNames


class Later:
    """A loop of calls in some seconds; run(seconds) makes those that are due by then, and what they call."""

    def __init__(self):
        self._calls, self._now = [], 0

    def after(self, seconds, work):
        self._calls.append((self._now + seconds, work))

    def run(self, seconds):
        until = self._now + seconds
        while due := [call for call in self._calls if call[0] <= until]:
            call = min(due, key=lambda call: call[0])
            self._calls.remove(call)
            self._now = call[0]
            call[1]()
        self._now = until


class Log(list):
    add_line = list.append


class Ends:
    """removed: the messages without mess that were finished; checked: those that may be."""

    def __init__(self):
        self.removed, self.checked = [], []

    def check_soon(self, number):
        self.checked.append(number)

    def remove_leftovers(self, number):
        self.removed.append(number)


class Channel:
    """arrived: (number, addresses, due, whether more is to come) of all that was handed on."""

    def __init__(self):
        self.arrived, self.done, self.forgotten, self.has_room = [], [], [], True

    def add_recipients(self, number, sender, size, birth, recipients, due=0, is_bulk=False, is_more_to_come=False):
        assert sender == b"s@x" and not is_bulk
        self.arrived.append((number, [address for _, address in recipients], due, is_more_to_come))

    def note_done(self, number):
        self.done.append(number)

    def forget_message(self, number):
        self.forgotten.append(number)

    @property
    def numbers(self):
        return sorted({number for number, *_ in self.arrived})


class Setting:
    """A scan and the parts that it needs.  log is a list of lines."""

    def __init__(self, home):
        self.loop, self.names, self.log, self.ends = Later(), QueueNames(home.queue, 23), Log(), Ends()
        self.channels = {"local": Channel(), "remote": Channel()}
        self.local, self.remote = self.channels["local"], self.channels["remote"]
        files = QueueFiles(self.names)
        self.reader = ChannelReader(self.loop, self.log, files, self.channels, self.ends, lambda: None)
        self.scan = QueueScan(self.loop, self.log, self.names, files, self.reader, self.ends, lambda: None)

    @property
    def removed(self):
        return self.ends.removed


def write_message(names, number):
    files = (names.info(number), b"Fs@x\0"), (names.local(number), b"Tjoe@here.example\0"), (names.mess(number), b"")
    for path, content in files:
        with open(path, "wb") as file:
            file.write(content)


def test_mail_that_comes_while_info_cannot_be_listed_is_not_found_again(home):
    """Its deliveries run already: found here it would be delivered twice."""
    setting = Setting(home)
    write_message(setting.names, 46)
    info = f"{home.queue}/info/0"
    os.rename(info, f"{home.queue}/away")
    setting.scan.start()
    setting.loop.run(9)
    assert setting.log == [b"alert: unable to opendir info/0, sleeping..."]
    setting.scan.note_new(69)  # of the same part
    os.rename(f"{home.queue}/away", info)
    write_message(setting.names, 69)
    setting.loop.run(9)
    assert setting.local.numbers == [46]
    assert setting.scan.ended and len(setting.log) == 1


def scanned(setting):
    setting.scan.start()
    setting.loop.run(9)
    assert setting.scan.ended


def spoil(names, how):
    """Take mess/0/46 away, or something that it stands in."""
    place = os.path.dirname(names.mess(46))
    if how == "the file":
        os.unlink(names.mess(46))
    else:
        os.rename(place, place + "-away")
    if how == "a file there":
        open(place, "w").close()
    elif how == "a loop there":
        os.symlink(place, place)


@pytest.mark.parametrize("how", ["nothing", "the file", "the directory", "a file there", "a loop there"])
def test_only_a_file_that_is_surely_missing_is_finished(home, how):
    """The directory may be gone since the start: then nothing is known about what stood there."""
    setting = Setting(home)
    for number in (46, 47):
        write_message(setting.names, number)
    spoil(setting.names, how)
    scanned(setting)
    finished = [46] if how == "the file" else []
    assert setting.removed == finished
    assert setting.local.numbers == [n for n in (46, 47) if n not in finished]


@pytest.mark.parametrize("missing, whole, removed", [(100, 0, 100), (101, 0, 0), (101, 100, 0), (101, 101, 101)])
def test_many_without_mess_are_believed_only_beside_as_many_with_it(home, missing, whole, removed):
    setting = Setting(home)
    for number in range(1, missing + whole + 1):
        write_message(setting.names, number)
        if number <= missing:
            os.unlink(setting.names.mess(number))
    scanned(setting)
    assert len(setting.removed) == removed and len(setting.local.arrived) == missing + whole - removed


def test_a_number_that_came_again_meanwhile_is_left_alone(home):
    setting = Setting(home)
    write_message(setting.names, 46)
    os.unlink(setting.names.mess(46))
    judge = setting.scan._judge_without_mess
    setting.scan._judge_without_mess = lambda: (setting.scan.note_new(46), judge())
    scanned(setting)
    assert not setting.removed


def write_channel(setting, number, content, due=1000, channel="local"):
    write_message(setting.names, number)
    os.unlink(setting.names.local(number))
    path = getattr(setting.names, channel)(number)
    with open(path, "wb") as file:
        file.write(content)
    os.utime(path, (due, due))


def test_all_is_due_at_its_time(home):
    setting, later = Setting(home), int(time.time()) + 5000
    write_channel(setting, 46, b"Ta@here.example\0", later)
    write_channel(setting, 47, b"Tb@far.example\0", 1000, "remote")
    write_channel(setting, 48, b"Dc@far.example\0", 1000, "remote")
    scanned(setting)
    assert setting.local.arrived == [(46, [b"a@here.example"], later, False)]
    assert setting.remote.arrived == [(47, [b"b@far.example"], 0, False)] and setting.remote.done == [48]


def test_after_an_alarm_all_that_is_found_is_due(home):
    setting = Setting(home)
    write_channel(setting, 46, b"Ta@here.example\0", int(time.time()) + 5000)
    setting.reader.make_due()
    scanned(setting)
    assert setting.local.arrived == [(46, [b"a@here.example"], 0, False)]


@pytest.mark.parametrize("is_new", [True, False])
def test_a_large_file_comes_in_slices_that_have_one_due_time(home, monkeypatch, is_new):
    """A deferral of the first ones moves the file's mtime: that is not when the others are due."""
    monkeypatch.setattr(channel_files, "SLICE_BYTES", 64)
    setting, later = Setting(home), int(time.time()) + 5000
    addresses = [b"user%d@here.example" % i for i in range(9)]
    write_channel(setting, 46, b"".join(b"T%b\0" % address for address in addresses), later)
    if is_new:
        setting.reader.read_soon("local", 46)
    else:
        setting.reader.read_now("local", 46, b"s@x", 1000, 9)
        os.utime(setting.names.local(46), (later + 9, later + 9))
    setting.loop.run(9)
    assert sum((some for _, some, *_ in setting.local.arrived), []) == addresses
    assert {due for *_, due, _ in setting.local.arrived} == {0 if is_new else later}
    assert [is_more for *_, is_more in setting.local.arrived] == [True] * (len(setting.local.arrived) - 1) + [False]


def test_what_waits_for_a_slice_is_forgotten_with_its_number(home, monkeypatch):
    monkeypatch.setattr(channel_files, "SLICE_BYTES", 64)
    setting = Setting(home)
    write_channel(setting, 46, b"Tuser@here.example\0" * 20)
    setting.reader.read_now("local", 46, b"s@x", 1000, 9)
    setting.scan.note_new(46)
    setting.loop.run(99)
    assert len(setting.local.arrived) == 1


def test_nothing_is_read_while_there_is_no_room(home):
    setting = Setting(home)
    write_message(setting.names, 46)
    setting.local.has_room = False
    setting.reader.read_soon("local", 46)
    setting.scan.start()
    setting.loop.run(50)
    assert not setting.local.arrived and not setting.scan.ended
    setting.local.has_room = True
    setting.loop.run(2)
    assert len(setting.local.arrived) == 2 and setting.scan.ended


def test_what_cannot_be_read_is_read_after_a_pause_and_what_has_gone_is_forgotten(home):
    setting = Setting(home)
    for number in (46, 69):
        write_message(setting.names, number)
    path = setting.names.local(46)
    os.rename(path, path + "-away")
    os.mkdir(path)
    os.unlink(setting.names.local(69))
    for number in (46, 69):
        setting.reader.read_now("local", number, b"s@x", 1000, 9)
    assert setting.log == [
        b"warning: trouble reading local/0/46; will try again later",
        b"warning: no file local/0/69: removed by somebody else",
    ]
    assert setting.local.forgotten == setting.ends.checked == [69] and not setting.local.arrived
    os.rmdir(path)
    os.rename(path + "-away", path)
    setting.loop.run(queue_scan.TROUBLE_SECONDS + 1)
    assert setting.local.numbers == [46] and len(setting.log) == 2


@pytest.mark.parametrize("is_new", [False, True])
def test_what_could_not_be_looked_at_is_found_later_unless_its_number_is_a_new_message(home, is_new):
    """The deliveries of a new one run already: found here it would be delivered twice."""
    setting = Setting(home)
    write_message(setting.names, 46)
    path = setting.names.local(46)
    os.rename(path, path + "-away")
    os.symlink(path, path)
    scanned(setting)
    assert setting.log == [b"warning: unable to stat local/0/46; will try again later"]
    os.rename(path + "-away", path)
    if is_new:
        setting.scan.note_new(46)
    setting.loop.run(queue_scan.TROUBLE_SECONDS)
    assert setting.local.numbers == ([] if is_new else [46]) and len(setting.log) == 1


def test_a_record_that_means_nothing_keeps_the_message_and_is_looked_at_again(home):
    setting = Setting(home)
    write_channel(setting, 46, b"Ta@here.example\0Qhm\0Tb@here.example\0")
    setting.reader.read_now("local", 46, b"s@x", int(time.time()), 9)
    assert setting.local.arrived == [(46, [b"a@here.example"], 0, True)]
    assert setting.log == [b"warning: unknown record type in local/0/46!"]
    setting.loop.run(101)  # when the original would try it again
    assert len(setting.log) == 2
    write_channel(setting, 46, b"Ta@here.example\0Db@here.example\0Tc@here.example\0")
    setting.reader.make_due()
    setting.loop.run(1)
    assert setting.local.arrived[-1] == (46, [b"c@here.example"], 0, False)
