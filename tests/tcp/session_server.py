"""Not a test: pytcpserver with a session program of its own, for tests/tcp/serving/test_worker_pool.py.

The session greets with its number of the worker's process and TCPREMOTEIP, then answers lines: `env NAME`, `exit N`,
`raise`, `hang` (stops the whole worker), `close` (ends with exit code 0); anything else comes back.
"""

import os
import signal
import sys

from pyqmail.programs import pytcpserver
from pyqmail.system.command_line import Program
from pyqmail.tcp.serving import worker_pool


class Session:
    PROGRAM = Program(name="pytestsession", summary="a session", original="testsession", offers=["session"])

    @staticmethod
    def session(argv, driver, environ):
        assert argv[0] == "session", argv
        assert b"TCPREMOTEIP" not in environ

        async def handler(peer, environ):
            peer.put(b"hello %d %b\n" % (os.getpid(), environ.get(b"TCPREMOTEIP", b"unix")))
            held = b""
            while True:
                await peer.flush()
                data = await peer.read()
                if not data:
                    return 3
                held += data
                while b"\n" in held:
                    line, _, held = held.partition(b"\n")
                    word, _, rest = line.partition(b" ")
                    if word == b"close":
                        return 0
                    if word == b"exit":
                        return int(rest)
                    if word == b"raise":
                        raise ValueError("a bug")
                    if word == b"hang":
                        signal.pause()
                    peer.put((environ.get(rest, b"unset") if word == b"env" else line) + b"\n")

        return handler


if __name__ == "__main__":
    pytcpserver.find_module = lambda word, path: Session if word == "session" else None
    worker_pool.PING_SECONDS = float(os.environ.get("PING_SECONDS", "5"))
    sys.exit(pytcpserver.main(sys.argv))
