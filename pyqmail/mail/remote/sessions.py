"""A session process: the queue manager's native orders, thousands of sessions, their reports.

Each OPEN makes a session, an SmtpSession or, for an agent, an AgentSession; what is about that number goes to it until
it is over.  The wire is protocol/wires/native_dialect.py.  No process is started for an SmtpSession.
"""

import os

from pyqmail.mail.destinations.orders import Opening
from pyqmail.mail.remote.agent_session import AgentSession
from pyqmail.mail.remote.habits import KnownServers
from pyqmail.mail.remote.host_tries import HostTries
from pyqmail.mail.remote.smtp_session import SessionWorld, SmtpSession
from pyqmail.mail.spawners.server import Orders, Reports
from pyqmail.protocol.wires import native_dialect
from pyqmail.protocol.wires.frames import MalformedFrame


class SessionProcess:
    """Takes native orders and makes the sessions; stops the loop after the end of orders, once all is closed.

    agent is None, or the program, to be run with environ, that replaces our own client.
    """

    def __init__(self, loop, driver, messages, controls, limit, agent=None, environ=None, orders_fd=0, reports_fd=1):
        self._loop, self._limit, self._agent, self._environ = loop, limit, agent, environ
        os.set_blocking(orders_fd, False)
        self._orders, self._reports = Orders(loop, orders_fd, self._received), Reports(loop, reports_fd)
        tries = HostTries(driver, KnownServers())
        self._world = SessionWorld(loop, tries, messages, controls, self._reports.put, self._forget)
        self._unpacker = native_dialect.Unpacker()
        self._sessions: dict[int, SmtpSession | AgentSession] = {}
        self._ended = self.malformed = False

    def start(self) -> None:
        """Say how many sessions may be open, and begin to listen."""
        self._reports.put(native_dialect.pack(native_dialect.HELLO, self._limit))
        self._orders.listen()

    def _received(self, data):
        try:
            for kind, number, body in self._unpacker.receive(data):
                self._obey(kind, number, body)
        except MalformedFrame:
            self._orders.stop()
            data, self.malformed = b"", True
        if not data:
            self._end()

    def _end(self):
        """Finish what is in flight, give up what has no mail."""
        self._ended = True
        for session in list(self._sessions.values()):
            session.end()
        self._stop_if_done()

    def _forget(self, session):
        del self._sessions[session.number]
        self._stop_if_done()

    def _stop_if_done(self):
        if self._ended and not self._sessions:
            self._reports.finish()
            self._loop.stop()

    def _obey(self, kind, number, body):
        session = self._sessions.get(number)
        if kind == native_dialect.OPEN and session is None:
            self._open(number, Opening(**native_dialect.split_place(body)))
        elif kind == native_dialect.MORE:
            opening = Opening(**native_dialect.split_place(body))
            if session is not None:
                session.add_address(opening)
        elif kind == native_dialect.DELIVER:
            order = native_dialect.split_deliver(body)
            if session is not None:
                session.add_order(order)
        elif kind == native_dialect.CLOSE:
            if session is not None:
                session.close()
        else:
            raise MalformedFrame("not for a remote spawner")

    def _open(self, number, opening):
        if self._agent is None:
            session = SmtpSession(number, self._world)
        else:
            session = AgentSession(number, self._world, self._agent, self._environ)
        self._sessions[number] = session
        session.start(opening)
