"""The sweep over mess/ beside a cleaner at work; what pyclean then removes is in tests/programs/test_pyclean.py."""

import contextlib
import os

import pytest

from pyqmail.mail.manager.cleanup import Cleaner, Sweep
from pyqmail.mail.queue.files import QueueNames
from pyqmail.system.loop import Loop
from tests.waiting import STEP_SECONDS, until

LEAVING, IN_TODO, LAST = 46, 47, 45  # in the parts 0, 1 and 22 of 23: the last is swept last


class Pipes:
    """A Cleaner, and the other ends of its pipes."""

    def __init__(self):
        self.loop, self.lost = Loop(), []
        self.commands, out = os.pipe()
        answers, self.answers = os.pipe()
        os.set_blocking(self.commands, False)
        self.cleaner = Cleaner(self.loop, out, answers)
        self.cleaner.listen(lambda: None, lambda: self.lost.append(True))

    def read_up_to(self, last):
        """Turn the loop until this command has come; return all that came."""
        said = b""

        def read(seconds):
            nonlocal said
            self.loop.turn(STEP_SECONDS)
            with contextlib.suppress(BlockingIOError):
                said += os.read(self.commands, 65536)

        until(lambda: said.endswith(last), lambda: repr(said), wait=read)
        return said

    def close(self):
        self.cleaner.close()
        os.close(self.commands)
        os.close(self.answers)


@pytest.fixture
def pipes():
    made = Pipes()
    yield made
    made.close()


def test_no_second_command_for_what_is_leaving_and_none_for_what_is_in_todos_hands(home, pipes):
    """Answered, the number may be a new message's: a second `foop` behind the first would remove that."""
    names = QueueNames(home.queue, 23)
    for number in (LEAVING, IN_TODO, LAST):
        os.close(os.open(names.mess(number), os.O_CREAT | os.O_WRONLY, 0o644))
        os.utime(names.mess(number), (0, 0))
    ended = []
    pipes.cleaner.remove_message(LEAVING, ended.append)
    assert pipes.read_up_to(b"foop/46\0") == b"foop/46\0" and pipes.cleaner.is_leaving(LEAVING)
    sweep = Sweep(pipes.loop, None, names, pipes.cleaner, {IN_TODO}.__contains__)
    sweep.start()
    assert pipes.read_up_to(b"foop/45\0") == b"foop/45\0"
    sweep.stop()
    os.write(pipes.answers, b"++")
    pipes.loop.turn(30)
    assert ended == [True] and not pipes.cleaner.is_leaving(LEAVING) and not pipes.lost
