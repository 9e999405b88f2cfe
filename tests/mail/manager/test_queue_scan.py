"""What the queue holds at the start, where a directory cannot be listed; all else: tests/programs/test_pysend.py."""

import os

import pytest

from pyqmail.mail.destinations.retry import DueHeap
from pyqmail.mail.manager.passes import Files
from pyqmail.mail.manager.queue_scan import QueueScan
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
    """removed: the messages without mess that were finished."""

    def __init__(self):
        self.removed = []

    def remove_leftovers(self, number):
        self.removed.append(number)


class Setting:
    """A scan and the parts that it needs.  log is a list of lines."""

    def __init__(self, home, channels):
        self.loop, self.names, self.log, self.ends = Later(), QueueNames(home.queue, 23), Log(), Ends()
        parts = self.loop, self.log, self.names, Files(self.names), channels, self.ends
        self.scan = QueueScan(*parts, lambda: None)

    @property
    def removed(self):
        return self.ends.removed


class Channel:
    def __init__(self):
        self.heap = DueHeap()


def write_message(names, number):
    files = (names.info(number), b"Fs@x\0"), (names.local(number), b"Tjoe@here.example\0"), (names.mess(number), b"")
    for path, content in files:
        with open(path, "wb") as file:
            file.write(content)


def test_mail_that_comes_while_info_cannot_be_listed_is_not_found_again(home):
    """Its deliveries run already: found here it would be delivered twice."""
    channels = {"local": Channel(), "remote": Channel()}
    setting = Setting(home, channels)
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
    assert [number for _, number in channels["local"].heap.items()] == [46]
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
    channels = {"local": Channel(), "remote": Channel()}
    setting = Setting(home, channels)
    for number in (46, 47):
        write_message(setting.names, number)
    spoil(setting.names, how)
    scanned(setting)
    finished = [46] if how == "the file" else []
    assert setting.removed == finished
    assert sorted(number for _, number in channels["local"].heap.items()) == [n for n in (46, 47) if n not in finished]


@pytest.mark.parametrize("missing, whole, removed", [(100, 0, 100), (101, 0, 0), (101, 100, 0), (101, 101, 101)])
def test_many_without_mess_are_believed_only_beside_as_many_with_it(home, missing, whole, removed):
    channels = {"local": Channel(), "remote": Channel()}
    setting = Setting(home, channels)
    for number in range(1, missing + whole + 1):
        write_message(setting.names, number)
        if number <= missing:
            os.unlink(setting.names.mess(number))
    scanned(setting)
    assert len(setting.removed) == removed and len(channels["local"].heap) == missing + whole - removed


def test_a_number_that_came_again_meanwhile_is_left_alone(home):
    setting = Setting(home, {"local": Channel(), "remote": Channel()})
    write_message(setting.names, 46)
    os.unlink(setting.names.mess(46))
    judge = setting.scan._judge_without_mess
    setting.scan._judge_without_mess = lambda: (setting.scan.note_new(46), judge())
    scanned(setting)
    assert not setting.removed
