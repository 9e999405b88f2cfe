"""python -m bench.flood PORT MODE COUNT SECONDS RECIPIENT: so many clients of 127.0.0.1 that send one command for ever.

Prints `ready` once all are connected.  Modes are those of blobs().  Replies are read as they come, but with `unread`
never.  A client that the server has closed connects again.

Three more modes do not wait for the server, which may have no place for so many: `idle` says nothing, `slow` a byte of
a command each second, `hog` begins a message of nearly a megabyte and leaves it there.
"""

import resource
import selectors
import socket
import sys
import time

HELLO = b"HELO flood\r\nMAIL FROM:<flood@bench.example>\r\n"
SLOW = b"HELO slow.example\r\nNOOP\r\nRSET\r\n"
_PIECE = 262144
_SLICES = 20  # of the slow clients: one in so many has its turn at a time


def blobs(recipient: bytes) -> dict[str, bytes]:
    """Return what each mode sends again and again."""
    return {
        "noop": b"NOOP\r\n" * 10000,
        "rset": b"RSET\r\n" * 10000,
        "unknown": b"XXXX\r\n" * 10000,
        "rcpt": b"RCPT TO:<%b>\r\n" % recipient * 2000,
        "quoted": b'RCPT TO:<"%b"@nowhere.example>\r\n' % (b"a" * 65000),
        "unread": b"NOOP\r\n" * 10000,
    }


class Client:
    """One connection; `at` is how much of the blob has gone."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 30)
        self.sock.recv(200)
        self.sock.sendall(HELLO)
        self.sock.setblocking(False)
        self.at = 0


def begin(port: int) -> socket.socket:
    """Return a socket that is being connected, or waits to be."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(("127.0.0.1", port))
    return sock


def hold(port: int, mode: str, count: int, end: float, recipient: bytes) -> None:
    """Have so many clients that stay: `idle`, `slow` or `hog`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, count + 100), hard), hard))
    hog = HELLO + b"RCPT TO:<%b>\r\nDATA\r\n" % recipient + (b"x" * 76 + b"\r\n") * 12700
    socks, at = [begin(port) for _ in range(count)], [0] * count
    print("ready", flush=True)
    turn = 0
    while time.monotonic() < end:
        time.sleep(1 / _SLICES)
        turn += 1
        for number in range(turn % _SLICES, count, _SLICES) if mode != "idle" else ():
            data = SLOW[at[number] % len(SLOW) :][:1] if mode == "slow" else hog[at[number] :]
            try:
                at[number] += socks[number].send(data) if data else 0
                socks[number].recv(_PIECE)
            except BlockingIOError:
                pass
            except OSError:
                socks[number].close()
                socks[number], at[number] = begin(port), 0


def main(argv) -> int:
    port, mode, count, seconds, recipient = int(argv[1]), argv[2], int(argv[3]), float(argv[4]), argv[5].encode()
    if mode in ("idle", "slow", "hog"):
        hold(port, mode, count, time.monotonic() + seconds, recipient)
        return 0
    blob, end = blobs(recipient)[mode], time.monotonic() + seconds
    events = selectors.EVENT_WRITE | (0 if mode == "unread" else selectors.EVENT_READ)
    selector = selectors.DefaultSelector()

    def connect():
        client = Client(port)
        selector.register(client.sock, events, client)

    for _ in range(count):
        connect()
    print("ready", flush=True)
    while time.monotonic() < end:
        for key, ready in selector.select(0.2):
            client = key.data
            try:
                if ready & selectors.EVENT_READ and not client.sock.recv(_PIECE):
                    raise ConnectionResetError
                if ready & selectors.EVENT_WRITE:
                    client.at = (client.at + client.sock.send(blob[client.at :])) % len(blob)
            except BlockingIOError:
                pass
            except OSError:
                selector.unregister(client.sock)
                client.sock.close()
                try:
                    connect()
                except OSError:
                    time.sleep(0.01)  # it is refused: the others go on
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
