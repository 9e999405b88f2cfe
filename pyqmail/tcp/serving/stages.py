"""Programs that stand before a session program on a command line, inside the worker that has the session.

`pytcpserver ... pyenvdir ./env pyrblsmtpd -r zone pyfixcrio pysmtpd`: in a process of the connection each of the three
would become the next one.  Its work before that is a stage: it may change the environment of the session, stand between
the client and the program, wait, or end the session; other sessions go on meanwhile.  A program that has a stage offers
stage(argv), which returns (stage, the words of the program behind it), or (None, []) if each connection needs a
process: for work that may wait without end, or that changes the process.
"""

import os
import time

from pyqmail.base.environment import merged
from pyqmail.base.failure import Failure
from pyqmail.system.channel import Gone
from pyqmail.system.coroutines import TimedOut
from pyqmail.system.descriptors import log
from pyqmail.system.peer import WrappedPeer
from pyqmail.tcp.filters.blocklist import BOUNCE, GREETING, REFUSE, UNDECIDED, Dialogue, Judgement, log_line


class SessionChain:
    """A session program behind stages; it is used like the module of one (system/driver.py).

    argv: its words.
    """

    def __init__(self, module, argv: list[str], stages: list) -> None:
        self.PROGRAM, self._module, self._argv, self._stages = module.PROGRAM, module, argv, stages

    def session(self, argv, driver, environ):
        serve = self._module.session(self._argv, driver, environ)

        async def handler(peer, environ):
            session = Session(peer, environ, driver)
            for stage in self._stages:
                code = await stage.enter(session)
                if code is not None:
                    return code
            return await serve(session.peer, session.environ)

        return handler


class Session:
    """What a stage may change: peer and environ.  number: that of the log lines."""

    __slots__ = ("peer", "environ", "driver", "number")

    def __init__(self, peer, environ, driver):
        self.peer, self.environ, self.driver = peer, environ, driver
        self.number = getattr(environ, "number", None) or os.getpid()


class EnvironmentStage:
    """envdir: read(environ) returns the environment after it, or raises Failure; called for each connection."""

    asks = False

    def __init__(self, label: str, read) -> None:
        self._label, self._read = label, read

    async def enter(self, session) -> int | None:
        try:
            session.environ = self._read(session.environ)
        except Failure as failure:
            log(f"{self._label}: fatal: {failure}")
            return failure.code
        return None


class CarriageReturnStage:
    """fixcrio: make() returns a function that adds missing carriage returns to the pieces of one direction."""

    asks = False

    def __init__(self, make) -> None:
        self._make = make

    async def enter(self, session) -> int | None:
        session.peer = FilteredPeer(session.peer, self._make(), self._make())
        return None


class FilteredPeer(WrappedPeer):
    """A peer whose bytes pass through inward(data) and outward(data)."""

    __slots__ = ("_inward", "_outward")

    def __init__(self, peer, inward, outward):
        super().__init__(peer)
        self._inward, self._outward = inward, outward

    def put(self, data):
        self._peer.put(self._outward(data))

    async def read(self):
        return self._inward(await self._peer.read())


ASK_LIST, ASK_EXEMPTIONS, WAIT = range(3)


class BlocklistStage:
    """rblsmtpd.

    steps          in order: (ASK_LIST, base, bounces, fails_closed), (ASK_EXEMPTIONS, base, fails_closed), or
                   (WAIT, a function from an environment to seconds)
    seconds        maximum time of the dialogue that refuses a client; 0: no dialogue
    only_informs   no client is refused
    """

    def __init__(self, steps, seconds: int, only_informs: bool, resolver) -> None:
        self._steps, self._seconds, self._only_informs, self._resolver = steps, seconds, only_informs, resolver
        self.asks = any(step[0] != WAIT for step in steps)

    async def enter(self, session) -> int | None:
        environ = session.environ
        judgement = Judgement(self._resolver, environ.get(b"TCPREMOTEIP", b""), environ.get(b"RBLSMTPD"))
        for step, *arguments in self._steps:
            if judgement.decision is UNDECIDED:
                await self._do_step(step, arguments, judgement, session)
        if self._only_informs and judgement.is_by_list:
            notice = b"[RBL info] " + judgement.clean_text()
            _say(session, notice)
            session.environ = merged(dict(environ), [(b"RBLSMTPD", notice)])
        elif judgement.decision in (REFUSE, BOUNCE):
            _say(session, judgement.message())
            await self._refuse(session.peer, judgement.message())
            return 0
        return None

    async def _do_step(self, step, arguments, judgement, session):
        names = session.driver.names
        if step == WAIT:
            seconds = arguments[0](session.environ)
            if seconds:
                _say(session, b"greetdelay: %d" % seconds)
                await session.driver.sleep(seconds)
        elif step == ASK_LIST:
            base, bounces, fails_closed = arguments
            judgement.hear_list(await names.text_of(judgement.name_in(base)), bounces, fails_closed)
        else:
            base, fails_closed = arguments
            found = await names.exemptions_of(judgement.name_in(base), judgement.is_ip6)
            judgement.hear_exemptions(found, fails_closed)

    async def _refuse(self, peer, message):
        """Refuse the client, as pyrblsmtpd does in a process of its own.  However that ends, it is no error."""
        until, dialogue = time.monotonic() + self._seconds, Dialogue(message)

        async def say(reply):
            peer.put(reply)
            peer.timeout_seconds = left()
            await peer.flush()

        def left():
            if not self._seconds:
                return 60.0  # an empty send buffer takes a line at once
            seconds = until - time.monotonic()
            if seconds <= 0:
                raise TimedOut
            return seconds

        try:
            await say(GREETING if self._seconds else message + b"\r\n")
            while self._seconds and not dialogue.ended:
                peer.timeout_seconds = left()
                data = await peer.read()
                if not data:
                    return
                for reply in dialogue.receive(data):
                    await say(reply)
        except (Gone, TimedOut):
            pass


def _say(session, text):
    log(log_line(session.environ, session.number, text))
