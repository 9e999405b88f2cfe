"""What the queue holds at the start, where a directory cannot be listed; all else: tests/programs/test_pysend.py."""

import os

import pytest

from pyqmail.mail.destinations.retry import DueHeap
from pyqmail.mail.manager.manager import Manager
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
    put = list.append


class Office:
    """What the scan asks of the queue manager, and how that tells it of new mail.  log is a list of lines."""

    seen = Manager.seen

    def __init__(self, home, channels):
        self.loop, self.names, self.log = Later(), QueueNames(home.queue, 23), Log()
        self.files, self.removed = Files(self.names), []
        self._scan = self.scan = QueueScan(self, channels, self.removed.append)

    def settle_soon(self):
        pass


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
    office = Office(home, channels)
    write_message(office.names, 46)
    info = f"{home.queue}/info/0"
    os.rename(info, f"{home.queue}/away")
    office.scan.start()
    office.loop.run(9)
    assert office.log == [b"alert: unable to opendir info/0, sleeping..."]
    office.seen(69)  # of the same part
    os.rename(f"{home.queue}/away", info)
    write_message(office.names, 69)
    office.loop.run(9)
    assert [number for _, number in channels["local"].heap.items()] == [46]
    assert office.scan.ended and len(office.log) == 1


def scanned(office):
    office.scan.start()
    office.loop.run(9)
    assert office.scan.ended


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
    office = Office(home, channels)
    for number in (46, 47):
        write_message(office.names, number)
    spoil(office.names, how)
    scanned(office)
    finished = [46] if how == "the file" else []
    assert office.removed == finished
    assert sorted(number for _, number in channels["local"].heap.items()) == [n for n in (46, 47) if n not in finished]


@pytest.mark.parametrize("missing, whole, removed", [(100, 0, 100), (101, 0, 0), (101, 100, 0), (101, 101, 101)])
def test_many_without_mess_are_believed_only_beside_as_many_with_it(home, missing, whole, removed):
    channels = {"local": Channel(), "remote": Channel()}
    office = Office(home, channels)
    for number in range(1, missing + whole + 1):
        write_message(office.names, number)
        if number <= missing:
            os.unlink(office.names.mess(number))
    scanned(office)
    assert len(office.removed) == removed and len(channels["local"].heap) == missing + whole - removed


def test_a_number_that_came_again_meanwhile_is_left_alone(home):
    office = Office(home, {"local": Channel(), "remote": Channel()})
    write_message(office.names, 46)
    os.unlink(office.names.mess(46))
    judge = office.scan._judge_without_mess
    office.scan._judge_without_mess = lambda: (office.seen(46), judge())
    scanned(office)
    assert not office.removed
