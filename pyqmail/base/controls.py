"""The control files, declared once, and how their bytes are read.

Reading modes, after the original: LINE is the first line without blanks and newlines at its end; INTEGER the
digits that line starts with; LINES every line stripped at its end, without empty ones and those whose first
byte is `#`; MAP is LINES split at the first colon, keys in lower case, the last of equal keys winning.
CR is not a blank, and leading blanks count.
"""

from pyqmail.base.numbers import UINT32, count_digits, leading_number
from pyqmail.base.printable import printable

LINE, INTEGER, LINES, MAP, CDB = "line", "integer", "lines", "map", "cdb"
ME = "me"


class Control:
    """One file below control/.

    default is what holds when the file is absent: ME for the content of control/me, or a value as the mode
    reads it, or a pair (ME, value) for the value when me is absent too, or None for nothing.
    """

    __slots__ = ("name", "mode", "default", "meaning")

    def __init__(self, name, mode, default, meaning):
        self.name, self.mode, self.default, self.meaning = name, mode, default, meaning


CONTROLS = {
    control.name: control
    for control in (
        Control("badmailfrom", LINES, [], "envelope senders to refuse: an address, or @host"),
        Control("bouncefrom", LINE, b"MAILER-DAEMON", "local part of the From of bounces"),
        Control("bouncehost", LINE, (ME, b"bouncehost"), "host of the From of bounces"),
        Control("bouncemaxbytes", INTEGER, 50000, "bytes of the original message in a bounce; 0 is no limit"),
        Control("concurrencylocal", INTEGER, 10, "local deliveries at once; 0 holds them"),
        Control("concurrencyremote", INTEGER, 20, "remote deliveries at once; 0 holds them"),
        Control("databytes", INTEGER, 0, "largest message in bytes; 0 is no limit"),
        Control("doublebouncehost", LINE, (ME, b"doublebouncehost"), "host that double bounces go to"),
        Control("doublebounceto", LINE, b"postmaster", "local part that double bounces go to"),
        Control("envnoathost", LINE, (ME, b"envnoathost"), "domain for envelope recipients without @"),
        Control("helohost", LINE, ME, "our name in HELO"),
        Control("localiphost", LINE, ME, "replaces [our.own.address] in recipients"),
        Control("localbytes", INTEGER, 100_000_000, "largest message of a local user in bytes, 0 is no limit"),
        Control("locals", LINES, ME, "domains delivered locally"),
        Control("maxrcpt", INTEGER, 1000, "recipients of one message; more get 452; 0 is no limit"),
        Control("me", LINE, None, "this host's name; the default of others"),
        Control("morercpthosts.cdb", CDB, None, "more rcpthosts; used only if rcpthosts exists"),
        Control("percenthack", LINES, [], "domains for which user%host@domain becomes user@host"),
        Control("queuelifetime", INTEGER, 604800, "seconds until a deferral becomes a bounce"),
        Control("queueminfree", INTEGER, 32_000_000, "free bytes (and 1 % of inodes) needed to queue mail; 0: none"),
        Control("rcpthosts", LINES, None, "domains to accept mail for; absent: all"),
        Control("smtpgreeting", LINE, ME, "text after 220"),
        Control("smtproutes", MAP, {}, "domain:relay:port, instead of the domain's mail exchangers"),
        Control("timeoutconnect", INTEGER, 60, "seconds to wait for a connection"),
        Control("timeoutremote", INTEGER, 1200, "seconds to wait for each remote answer"),
        Control("timeoutsmtpd", INTEGER, 1200, "seconds to wait for each piece of a client's data"),
        Control("virtualdomains", MAP, {}, "user@domain:prepend, domain:prepend, .suffix:prepend, :prepend"),
    )
}


def read_line(data: bytes) -> bytes:
    """Return the first line of a control file, stripped at its end; may be empty."""
    return data.partition(b"\n")[0].rstrip(b" \t\n")


def read_integer(data: bytes) -> int | None:
    """Return the number a control file starts with, modulo 2^32; None (absent) if no digit stands there."""
    line = read_line(data)
    return leading_number(line, UINT32) if count_digits(line) else None


def odd_integer(data: bytes, value: int | None) -> str | None:
    """Return what to report of a control file that read_integer() reads as value; None if it is just that number."""
    line = read_line(data)
    digits = line.lstrip(b"0")
    if value is not None and (digits or b"0") == b"%d" % value:
        return None
    shown = printable(line[:64]).replace(" ", "?")
    return f"{shown} is no number, so the default counts" if value is None else f"{shown} is read as {value}"


def read_lines(data: bytes) -> list[bytes]:
    """Return the entries of a list file.  A NUL inside a line splits it in two."""
    lines = (line.rstrip(b" \t") for line in data.split(b"\n"))
    kept = [line for line in lines if line and not line.startswith(b"#")]
    return [piece for line in kept for piece in line.split(b"\0") if piece]


def read_map(data: bytes) -> dict[bytes, bytes]:
    """Return the entries of a colon map, keys in lower case.  Lines without a colon are ignored."""
    pairs = (line.partition(b":") for line in read_lines(data))
    return {key.lower(): value for key, colon, value in pairs if colon}
