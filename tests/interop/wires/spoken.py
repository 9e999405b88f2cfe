"""The bytes of every wire, made and read as man/pyqmail-wires.5 has them; nothing of pyqmail is imported."""

import array
import os
import select
import socket
import struct
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
MESSAGE = b"Subject: hello\n\nhello\n"
SENDER, RECIPIENT = b"sender@there.example", b"joe@here.example"
SECONDS = 30

# kinds of frames
HELLO, DELIVER, RESULT, OPEN, READY, REFUSED, FAILED, CLOSE, CLOSED, UNSENT = range(1, 11)
MORE, WAITING = 12, 13
EXCHANGERS, ADDRESSES, NAME, TEXT, ADDRESSES6, ADDRESSES4, HOSTS, RELAY = range(1, 9)
FOUND, SOFT, NO_HOST, NO_RECORD, UNABLE, HOSTS_FOUND, NO_MAIL = range(16, 23)

# options of the stock dialect and its wide form, and how many bytes a slot has
WIDTHS = [([], 1), (["--wide"], 2)]


def frame(kind, number, body=b"", version=1):
    return struct.pack(">IBBI", len(body) + 6, version, kind, number) + body


def native(kind, number, body=b""):
    """Return a frame of the native dialect."""
    return frame(kind, number, body, 2)


def strings(*texts):
    return b"".join(text + b"\0" for text in texts)


def texts_of(body):
    assert not body or body.endswith(b"\0"), body
    return body.split(b"\0")[:-1]


class Stream:
    """One side of a conversation: what is read comes from a descriptor, frame by frame."""

    def __init__(self, fd):
        self.fd, self._held = fd, b""

    def read(self, size):
        """Return just so many bytes."""
        while len(self._held) < size:
            piece = self._piece()
            assert piece, f"the end, after {self._held!r}"
            self._held += piece
        data, self._held = self._held[:size], self._held[size:]
        return data

    def read_to(self, mark):
        while mark not in self._held:
            piece = self._piece()
            assert piece, f"the end, after {self._held!r}"
            self._held += piece
        return self.read(self._held.index(mark) + len(mark))

    def frame(self, wanted_version=1):
        """Return (kind, number, body)."""
        length, version, kind, number = struct.unpack(">IBBI", self.read(10))
        assert version == wanted_version
        return kind, number, self.read(length - 6)

    def native(self):
        """Return (kind, number, body) of a frame of the native dialect."""
        return self.frame(2)

    def is_at_end(self):
        return not self._held and not self._piece()

    def _piece(self):
        assert select.select([self.fd], [], [], SECONDS)[0], f"nothing within {SECONDS} seconds"
        try:
            return os.read(self.fd, 65536)
        except ConnectionResetError:
            return b""


class Part:
    """A running program on two pipes: put() what it reads on descriptor 0, `out` is what it writes on 1."""

    def __init__(self, name, *options, home=None, env=None):
        environ = {"PATH": f"{ROOT}/bin:{os.path.dirname(sys.executable)}:/usr/bin:/bin", **(env or {})}
        if home is not None:
            environ["PYQMAIL_HOME"] = home.path
        self.process = subprocess.Popen(
            [sys.executable, f"{ROOT}/bin/{name}", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            bufsize=0,
        )
        self.out = Stream(self.process.stdout.fileno())

    def put(self, data):
        self.process.stdin.write(data)

    def end(self):
        """Close its descriptor 0; return its exit code once it has said all."""
        self.process.stdin.close()
        return self.wait()

    def wait(self):
        assert self.out.is_at_end()
        return self.process.wait(SECONDS)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stdin.close()


def send_with(sock, data, *descriptors):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    assert sock.sendmsg([data], rights) == len(data)


def receive_with(sock):
    """Return (data, descriptors) of one message."""
    assert select.select([sock], [], [], SECONDS)[0]
    data, descriptors, _, _ = socket.recv_fds(sock, 1 << 17, 10)
    return data, descriptors


def content(path):
    with open(path, "rb") as file:
        return file.read()


def put_message(home, number=46, text=MESSAGE):
    """Put a message file into the queue; return its path below mess."""
    path = b"%d/%d" % (number % 23, number)
    with open(os.path.join(os.fsencode(home.queue), b"mess", path), "wb") as file:
        file.write(text)
    return path


def make_mailbox(home, user="joe"):
    with open(f"{home.alias}/.qmail-{user}", "wb") as file:
        file.write(b"./box\n")


def greeting(stream):
    """Read HELLO; return the limit."""
    kind, limit, body = stream.native()
    assert (kind, body) == (HELLO, b"") and limit > 0
    return limit
