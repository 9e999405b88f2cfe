"""What the queue holds at the start, where a directory cannot be listed; all else is in tests/programs/test_pysend.py."""

import os

from pyqmail.mail.queue.files import QueueNames
from pyqmail.mail.sending.manager import Manager
from pyqmail.mail.sending.passes import Files
from pyqmail.mail.sending.queue_scan import QueueScan
from pyqmail.mail.sending.schedule import DueHeap


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
        self.files = Files(self.names)
        self._scan = self.scan = QueueScan(self, channels)

    def settle_soon(self):
        pass


class Channel:
    def __init__(self):
        self.heap = DueHeap()


def write_message(names, number):
    for path, content in ((names.info(number), b"Fs@x\0"), (names.local(number), b"Tjoe@here.example\0")):
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
