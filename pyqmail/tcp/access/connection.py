"""One accepted connection, as the listener knows it and hands it on."""

TCP, TCP6, UNIX = b"TCP", b"TCP6", b"UNIX"
UNIX_CLIENT = b"unix"  # what stands for the address of a client that has none
_MAPPED = "::ffff:"


class Connection:
    """Who is connected to which of our addresses.  All texts are bytes, empty where there is none.

    protocol      TCP, TCP6 or UNIX; an IPv4 client of an IPv6 socket is TCP
    ip, port      the client's; of a UNIX client: `unix`, and no port
    local_ip      our address; empty: ask the kernel.  Of a UNIX socket its path
    local_port    our port
    interface     the interface of a link-local client
    credentials   of a UNIX client: (pid, uid, gid) in decimal, blanks between
    counts        (connections from this address, from its network, new ones from this address within the period), this
                  one included; empty if nothing counts them
    number        in log lines: the number of a process or a session; 0 until it is known
    since         when it was accepted, seconds of time.time()
    """

    __slots__ = (
        "protocol",
        "ip",
        "port",
        "local_ip",
        "local_port",
        "interface",
        "credentials",
        "counts",
        "number",
        "since",
    )

    def __init__(self, protocol, ip, port, local_ip, local_port, interface=b"", credentials=b"", counts=()):
        self.protocol, self.ip, self.port = protocol, ip, port
        self.local_ip, self.local_port = local_ip, local_port
        self.interface, self.credentials, self.counts = interface, credentials, counts
        self.number, self.since = 0, 0.0

    def texts(self) -> tuple[bytes, ...]:
        """Return the strings of a CONNECTION (protocol/wires/handover_wire.py); from_texts() reads them."""
        counts = b" ".join(b"%d" % count for count in self.counts)
        return (
            self.protocol,
            self.ip,
            self.port,
            self.local_ip,
            self.local_port,
            self.interface,
            self.credentials,
            counts,
        )

    @classmethod
    def from_texts(cls, texts) -> "Connection":
        """Return the Connection of eight strings.  Raises ValueError."""
        protocol, ip, port, local_ip, local_port, interface, credentials, counts = texts
        numbers = tuple(map(int, counts.split()))
        return cls(protocol, ip, port, local_ip, local_port, interface, credentials, numbers)

    @property
    def uid(self) -> bytes | None:
        """The uid of a UNIX client, None of any other."""
        return self.credentials.split()[1] if self.credentials else None


def plain(ip: str) -> str:
    """Return the address as it is shown: a mapped one, `::ffff:192.0.2.1`, dotted; without its zone."""
    if ip.startswith(_MAPPED) and "." in ip:
        return ip[len(_MAPPED) :]
    return ip.partition("%")[0]
