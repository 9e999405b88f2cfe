"""Messages that a sink takes, written to files for somebody to look at.

Source of the format: Postfix's smtp-sink, DUMP FILE FORMAT
"""

import os
import secrets
import time

from pyqmail.base.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.load_tools.smtp_sink import SinkSession


class DumpFiles:
    """template is a path with the conversions of strftime(3); each message has its file, or is_one: all share one."""

    def __init__(self, template: str, is_one: bool, start: bytes, host: bytes) -> None:
        self._template, self._is_one, self._start, self._host = template, is_one, start, host

    def write(self, session: "SinkSession", content: bytes) -> None:
        """Write a message.  Raises OSError."""
        number = secrets.token_hex(4)
        path = time.strftime(self._template) + ("" if self._is_one else number)
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        flags = os.O_APPEND if self._is_one else os.O_EXCL
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
        data = self._head(session, number.encode()) + _unstuffed(content) + b"\n"
        try:
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)

    def _head(self, session, number):
        client = session.client.encode()
        address = b"ipv6:" + client if b":" in client else client
        lines = [b"X-Client-Addr: " + address, b"X-Client-Proto: " + session.protocol]
        if session.helo:
            lines.append(b"X-Helo-Args: " + _shown(session.helo))
        lines.append(b"X-Mail-Args: " + _shown(session.mail_words))
        lines += [b"X-Rcpt-Args: " + _shown(words) for words in session.recipient_words]
        helo = _shown(session.helo) or address
        date = time.strftime("%a, %d %b %Y %H:%M:%S %z (%Z)").encode()
        lines += [
            b"Received: from %b ([%b])" % (helo, address),
            b"\tby %b (pysmtpsink) with %b id %b;" % (self._host, session.protocol, number),
            b"\t" + date,
        ]
        return self._start + b"".join(line + b"\n" for line in lines)


def _unstuffed(content: bytes) -> bytes:
    """Return the lines of a message as they were before SMTP doubled the dots at their beginning; each ends with LF."""
    return (b"\n" + content.replace(b"\r\n", b"\n")).replace(b"\n..", b"\n.")[1:]


def _shown(words):
    return printable(words).encode()
