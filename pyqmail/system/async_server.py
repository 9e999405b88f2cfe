"""Answer framed questions that come on one descriptor, many at once, over asyncio.  Only for the resolver process.

The wire's framing is given as codec: pack(kind, number, body) and Unpacker().receive().
"""

import os

from pyqmail.base.backoff import Backoff
from pyqmail.system.polling import has_hung_up
from pyqmail.system.stream import OutgoingBuffer

MAX_READ_TRIES = 12  # about a minute
_PIECE = 262144


def preload() -> None:
    """Import now what serve() needs."""
    import asyncio  # noqa: F401


def serve(questions_fd: int, answers_fd: int, codec, answer, most: int) -> bool:
    """Answer until the questions end and the last answer is written, or the reader of the answers has gone.

    await answer(kind, body) gives kind and body of the answer; no more than `most` run at once, further questions
    stay unread.  Returns False if the questions, or an answer's ValueError, showed that the wire is not ours.
    """
    import asyncio

    return asyncio.run(_Server(questions_fd, answers_fd, codec, answer, most).run())


class _Server:
    def __init__(self, questions_fd, answers_fd, codec, answer, most):
        self._in, self._out, self._codec, self._answer, self._most = questions_fd, answers_fd, codec, answer, most
        self._unpacker = codec.Unpacker()
        self._questions: list[tuple] = []
        self._tasks: set = set()
        self._is_listening = self._has_ended = False
        self._reading = Backoff()

    async def run(self):
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        # once their reader has gone, that is the end
        self._answers = OutgoingBuffer(_Turns(self._loop), self._write, self._watch_answers, lambda: self._finish(True))
        self._loop.set_exception_handler(self._callback_failed)
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._listen(True)
        outcome = await self._over
        for task in self._tasks:
            task.cancel()
        return outcome

    def _callback_failed(self, loop, context):
        """Out of memory nothing can be answered, and each try would log a traceback: end, and be started again."""
        failure = context.get("exception")
        if not isinstance(failure, MemoryError):
            loop.default_exception_handler(context)
        elif not self._over.done():
            self._over.set_exception(failure)

    def _listen(self, wanted):
        if wanted == self._is_listening:
            return
        self._is_listening = wanted
        if not wanted:
            self._loop.remove_reader(self._in)
            return
        try:
            self._loop.add_reader(self._in, self._read)
        except OSError:
            self._read_later()

    def _read_later(self):
        """An error of the descriptor is no end: listen again after a pause, unless it lasts."""
        self._loop.remove_reader(self._in)  # still counted as listening: nothing else begins again meanwhile
        self._loop.call_later(self._reading.next_seconds(), self._listen_again)

    def _listen_again(self):
        if self._is_listening:
            self._is_listening = False
            self._listen(True)

    def _read(self):
        try:
            data = os.read(self._in, _PIECE)
            self._questions += self._unpacker.receive(data)
        except BlockingIOError:
            return
        except OSError:
            if self._reading.tries < MAX_READ_TRIES:
                self._read_later()
                return
            data = b""
        except ValueError:
            self._finish(False)
            return
        self._reading.reset()
        if not data:
            self._has_ended = True
            self._listen(False)
            if has_hung_up(self._out):
                self._finish(True)
                return
        self._pump()

    def _pump(self):
        while self._questions and len(self._tasks) < self._most:
            task = self._loop.create_task(self._work(*self._questions.pop(0)))
            self._tasks.add(task)
            task.add_done_callback(self._worked)
        self._listen(not self._questions and not self._has_ended)
        if self._has_ended and not self._questions and not self._tasks and not self._answers.unsent_bytes:
            self._finish(True)

    async def _work(self, kind, number, body):
        kind, body = await self._answer(kind, body)
        self._answers.put(self._codec.pack(kind, number, body))

    def _worked(self, task):
        self._tasks.discard(task)
        if task.cancelled():
            return
        failure = task.exception()
        if isinstance(failure, ValueError):
            self._finish(False)
        elif failure is not None:
            self._over.done() or self._over.set_exception(failure)
        else:
            self._pump()

    def _write(self, data):
        written = os.write(self._out, data)
        if written == len(data):
            self._loop.call_soon(self._pump)  # it may have been the last answer
        return written

    def _watch_answers(self, is_wanted):
        if is_wanted:
            self._loop.add_writer(self._out, self._answers.ready)
        else:
            self._loop.remove_writer(self._out)

    def _finish(self, outcome):
        if not self._over.done():
            self._over.set_result(outcome)


class _Turns:
    """What an OutgoingBuffer needs of a loop, of asyncio's."""

    def __init__(self, loop):
        self.soon, self.after = loop.call_soon, loop.call_later
