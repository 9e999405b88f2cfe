"""Connect to a TCP server and become a program that talks to it.

The program reads from the server on descriptor 6 and writes to it on descriptor 7; it keeps 0, 1 and 2.  HOST is an
address, `0` for this machine, or a name; PORT a number or a service's name.  If the host has several addresses, they
are tried in random order until one answers.

A name is completed and rewritten by the rules of DNSREWRITEFILE or /etc/dnsrewrite; without rules, with the domains of
LOCALDOMAIN, of the first search or domain line of /etc/resolv.conf, or that of this machine.  A name that ends with a
dot is complete.

    pytcpclient -RHl0 0 smtp sh -c 'head -n 1 <&6; echo QUIT >&7; cat <&6'
"""

import _socket as socket  # without its enums and its selectors: each start would pay for them
import os

from pyqmail.base.environment import merged
from pyqmail.base.failure import Temporary
from pyqmail.base.numbers import count_digits, leading_number
from pyqmail.base.options import Argument, Flag, Rest, Value
from pyqmail.programs.registry import load
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import log, move, open_standard_descriptors
from pyqmail.system.processes import go_on
from pyqmail.tcp.access.log_lines import ERRORS, EVERYTHING, QUIET, unless_quiet
from pyqmail.tcp.client.addresses import is_another_number, port_number
from pyqmail.tcp.client.connect import LABEL, WAITS, connect, find_addresses

_READING, _WRITING = 6, 7
_MAX_SECONDS = 86400  # beyond that the kernel's own clocks overflow
_MAPPED = "::ffff:"  # before an IPv4 address: the same as an IPv6 one


def main(argv: list[str]) -> int:
    for number in (_READING, _WRITING):
        try:
            os.close(number)
        except OSError:
            pass
    return PROGRAM.run(argv, work)


def work(call) -> int:
    return unless_quiet(call, run)


def run(call) -> int:
    if call.host is None or call.port is None:
        raise PROGRAM.wrong()
    port = port_number(call.port)
    if is_another_number(call.port, port) and call.verbosity >= ERRORS:
        log(PROGRAM.line(f"warning: port {call.port[:64]} is read as {port}"))
    if not call.program:
        raise PROGRAM.wrong()
    open_standard_descriptors()  # else the connection could take the place of our descriptor 2
    own_ip = _as_ipv6(call.local) if call.family == 6 else call.local
    say = log if call.verbosity >= ERRORS else _say_nothing
    sock = connect(addresses_for(call), port, call.waits, own_ip, call.local_port, call.scope, say)
    if sock is None:
        return 111
    if call.has_no_delay:
        set_no_delay(sock)
    additions = describe(call, sock)
    set_up_descriptors(sock)
    return go_on(call.program, merged(dict(call.environ), additions), load)


def addresses_for(call) -> list[str]:
    """Return the addresses to try, of the kind that -4, -6 and our own address allow.  Raises Temporary."""
    kinds: tuple[str, ...]
    if call.family == 4:
        kinds = ("A",)
    elif call.local:
        kinds = ("AAAA",) if ":" in call.local else ("A",)
    else:
        kinds = ("AAAA", "A") if call.family == 6 else ("A", "AAAA")
    own = "::1" if call.family == 6 or kinds == ("AAAA",) else "127.0.0.1"
    found = find_addresses(call.host, own, kinds)
    return [_as_ipv6(address) for address in found] if call.family == 6 else found


def set_no_delay(sock) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass  # slower, no worse


def describe(call, sock) -> list:
    """Return what the program's environment says about the connection: (name, value) in the original's order.

    A value of None removes the name.  Raises Temporary.
    """
    local_ip, local_port, _ = _end("local", sock.getsockname, call.family)
    local_host = name_of(local_ip) if call.local_host is None else os.fsencode(call.local_host)
    remote_ip, remote_port, scope = _end("remote", sock.getpeername, call.family)
    if call.verbosity >= EVERYTHING:
        log(PROGRAM.line(f"connected to {remote_ip.decode()} port {remote_port.decode()}"))
    remote_host = name_of(remote_ip) if call.looks_up_name else None
    ends = remote_ip, remote_port, local_ip, local_port
    remote_info = ask_ident(ends, call.ident_seconds) if call.asks_ident else None
    about = [
        (b"LOCALPORT", local_port),
        (b"LOCALIP", local_ip),
        (b"LOCALHOST", local_host),
        (b"REMOTEPORT", remote_port),
        (b"REMOTEIP", remote_ip),
        (b"REMOTEHOST", remote_host),
        (b"REMOTEINFO", remote_info),
    ]
    variables = [(b"TCP" + name, value) for name, value in about]
    if b":" not in remote_ip:
        return [(b"PROTO", b"TCP"), *variables]
    variables += [(b"TCP6" + name, value) for name, value in about]
    interface = os.fsencode(socket.if_indextoname(scope)) if scope else None
    return [(b"PROTO", b"TCP6"), *variables, (b"TCP6INTERFACE", interface)]


def _end(which, ask, family):
    """Return address, port and scope (0: none) of one end of the connection.  Raises Temporary."""
    try:
        ip, port, *more = ask()
    except OSError as error:
        raise Temporary(f"unable to get {which} address", error) from None
    return _text(ip, family), b"%d" % port, more[1] if more else 0


def name_of(ip: bytes) -> bytes | None:
    """Return the name of an address, empty if it has none; None if that cannot be found out now."""
    from pyqmail.system import resolver

    try:
        return resolver.name_of(ip.removeprefix(_MAPPED.encode())) or b""
    except resolver.Soft:
        return None


def ask_ident(ends, seconds: float) -> bytes | None:
    """Return what the server's ident server says about the connection, None if it says nothing in time."""
    from pyqmail.system.driver import BlockingDriver, drive
    from pyqmail.tcp.access import client_names

    return drive(client_names.ask_ident(BlockingDriver(), ends, seconds))


def set_up_descriptors(sock) -> None:
    """Give the connection to the program, twice.  Raises Temporary."""
    number = _READING
    try:
        move(sock.detach(), _READING)
        number = _WRITING
        os.dup2(_READING, _WRITING)
    except OSError as error:
        raise Temporary(f"unable to set up descriptor {number}", error) from None


def _text(address, family):
    """Return an address as the program sees it: without scope, an IPv4 one as such unless -6."""
    ip = address.partition("%")[0]
    return (ip if family == 6 else ip.removeprefix(_MAPPED)).encode()


def _as_ipv6(address):
    return address if ":" in address or not address else _MAPPED + address


def _say_nothing(line):
    pass


def _waits(text):
    """Convert `A+B`; without B there is no second pass."""
    rest = text[count_digits(text) :].removeprefix("+")
    return _seconds(text), _seconds(rest)


def _seconds(text):
    return min(leading_number(text), _MAX_SECONDS)


def _port(text):
    return leading_number(text, 65536)


def _address(text):
    """Convert our own address: four numbers with dots, each modulo 256, whatever follows; or an IPv6 address."""
    if ":" in text:
        try:
            return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text))
        except (OSError, ValueError):
            raise PROGRAM.wrong() from None
    numbers = text.split(".", 3)
    if len(numbers) < 4 or not all(count_digits(number) for number in numbers):
        raise PROGRAM.wrong()
    if any(count_digits(number) < len(number) for number in numbers[:3]):
        raise PROGRAM.wrong()
    return ".".join(str(leading_number(number, 256)) for number in numbers)


def _interface(text):
    """Convert an interface's name to its number."""
    try:
        return socket.if_nametoindex(text)
    except OSError:
        raise ValueError(f"no such interface: {text}") from None


PROGRAM = Program(
    name="pytcpclient",
    summary="connect to a TCP server and become a program that talks to it",
    original=LABEL,
    usage="tcpclient [ -hHrRdDqQv ] [ -i localip ] [ -p localport ] [ -T timeoutconn ] [ -l localname ] "
    "[ -t timeoutinfo ] host port program",
    section=1,
    options=[
        Flag("q", "verbosity", "report nothing", QUIET),
        Flag("Q", "verbosity", "report errors", ERRORS, is_default=True),
        Flag("v", "verbosity", "report everything", EVERYTHING),
        Flag("d", "has_no_delay", "leave Nagle's algorithm on", False, is_default=True),
        Flag("D", "has_no_delay", "turn Nagle's algorithm off"),
        Flag("h", "looks_up_name", "look up the server's name", is_default=True),
        Flag("H", "looks_up_name", "do not look up the server's name", False),
        Flag("r", "asks_ident", "ask the server's ident server", is_default=True),
        Flag("R", "asks_ident", "do not ask it", False),
        Flag("4", "family", "IPv4 addresses only", 4),
        Flag("6", "family", "IPv6 addresses before IPv4 ones, which are written ::ffff:1.2.3.4; HOST 0 is ::1", 6),
        Value("i", "local", "IP", "our own address", _address, default=""),
        Value("p", "local_port", "PORT", "our own port", _port, is_lenient=True, default=0),
        Value("I", "scope", "IFNAME", "the interface of addresses that need one (fe80::1)", _interface, default=0),
        Value(
            "T",
            "waits",
            "A+B",
            "seconds for each address, and for each in a second pass over those that did not answer; a single "
            "address gets both at once, without +B there is one pass",
            _waits,
            is_lenient=True,
            default=WAITS,
        ),
        Value("l", "local_host", "NAME", "our own name; otherwise it is looked up"),
        Value(
            "t",
            "ident_seconds",
            "SECONDS",
            "how long to wait for the ident server",
            _seconds,
            is_lenient=True,
            default=26,
        ),
    ],
    arguments=[
        Argument("host", "the server", optional=True),
        Argument("port", "its port", optional=True),
        Rest("program", "the program and its arguments"),
    ],
    exits={100: "wrong usage", 111: "no connection, or the program could not be run", "others": "the program's own"},
    notes=[
        (
            "what the program knows",
            [
                ("PROTO", "TCP; over IPv6 TCP6"),
                ("TCPLOCALPORT, TCPLOCALIP", "our end of the connection"),
                ("TCPLOCALHOST", "its name, in lower case; empty if it has none, unset if DNS did not answer"),
                ("TCPREMOTEPORT, TCPREMOTEIP", "the server's end"),
                ("TCPREMOTEHOST", "its name, likewise; unset with -H"),
                ("TCPREMOTEINFO", "what the server's ident server reports; unset if it reports nothing"),
                ("TCP6LOCALPORT ... TCP6REMOTEINFO", "over IPv6: the same values again"),
                ("TCP6INTERFACE", "over IPv6: the interface of an address that needs one, otherwise unset"),
            ],
        )
    ],
    environment=["DNSREWRITEFILE", "LOCALDOMAIN", "PATH", "PYQMAIL_DNS", "DNSCACHEIP"],
    see=["pytcpserver(8)"],
)
