"""A status socket that answers one client, for the programs that read one."""

import socket
import threading


class Answering:
    """A socket at path that sends data to one client; `asked` is the line that it read before, if it asks at all."""

    def __init__(self, path, data, asks=False):
        self._listener, self._data, self._asks, self.asked = socket.socket(socket.AF_UNIX), data, asks, b""
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        with self._listener, self._listener.accept()[0] as client:
            while self._asks and not self.asked.endswith(b"\n"):
                self.asked += client.recv(1024)
            client.sendall(self._data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._thread.join()
