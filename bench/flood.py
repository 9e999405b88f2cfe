"""python -m bench.flood PORT MODE COUNT SECONDS RECIPIENT: so many clients of 127.0.0.1 that send one command for ever.

Prints `ready` once all are connected.  Modes are those of BLOBS.  Replies are read as they come, but with `unread`
never.  A client that the server has closed connects again.
"""

import selectors
import socket
import sys
import time

HELLO = b"HELO flood\r\nMAIL FROM:<flood@bench.example>\r\n"
_PIECE = 262144


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


def main(argv) -> int:
    port, mode, count, seconds, recipient = int(argv[1]), argv[2], int(argv[3]), float(argv[4]), argv[5].encode()
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
