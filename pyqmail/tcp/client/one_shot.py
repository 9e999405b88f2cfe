"""Send a server one request and show its answer: what tcpcat, who@, date@, finger@ and http@ have in common.

    return show(map(visible, answer("example.org", "79", b"user\n")))

The connection is made as by tcpclient: only the name of the host is looked up, and failures are reported in its words.
"""

from pyqmail.base.failure import Failure, Temporary
from pyqmail.base.options import Argument
from pyqmail.protocol.crlf import ReturnRemoval, add_returns
from pyqmail.system.descriptors import log, open_standard_descriptors, write_all
from pyqmail.tcp.client.addresses import port_number
from pyqmail.tcp.client.connect import LABEL, connect, find_addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NOBODY_READS = 141  # what a shell reports of a program that SIGPIPE has ended

# of the declarations
HOST = Argument("host", "the server; empty or 0: this machine", optional=True, default="0")
ENVIRONMENT = ["DNSREWRITEFILE", "LOCALDOMAIN", "PYQMAIL_DNS", "DNSCACHEIP"]
EXITS: dict[int | str, str] = {
    0: "the answer, if any, was shown",
    1: "the output could not be written",
    NOBODY_READS: "the reader of the output has gone",
}


class Incomplete(Failure):
    """Part of the answer is lost: exit code 1, as cat gives."""

    code = 1


def call(host: str, port: str):
    """Return a socket connected to host and port; None if there is none, and the reason was reported."""
    open_standard_descriptors()  # otherwise the connection could take the place of our output
    try:
        number = port_number(port)
        return connect(find_addresses(host), number)
    except Temporary as failure:
        log(f"{LABEL}: fatal: {failure}")
        return None


def answer(host: str, port: str, request: bytes = b"") -> "Iterator[bytes]":
    """Connect to a server, send the request and yield the answer in pieces; lines end in CR LF on the wire, in LF here.

    Without a connection, which was reported, the answer is empty; a connection that is lost ends it.
    """
    sock = call(host, port)
    if sock is None:
        return
    returns = ReturnRemoval()
    try:
        try:
            sock.sendall(add_returns(request))
        except OSError:
            pass  # it may have answered before it closed
        try:
            for piece in received(sock):
                yield returns.receive(piece)
        except OSError:
            pass
    finally:
        sock.close()
    yield returns.end()


def received(sock) -> "Iterator[bytes]":
    """Yield what comes on a connection until its end.  Raises OSError."""
    while piece := sock.recv(65536):
        yield piece


def show(pieces: "Iterable[bytes]") -> int:
    """Write pieces to descriptor 1, each as it comes, and return the exit code.  Raises Incomplete."""
    for piece in pieces:
        try:
            write_all(1, piece)
        except BrokenPipeError:
            return NOBODY_READS
        except OSError as error:
            raise Incomplete("unable to write output", error) from None
    return 0
