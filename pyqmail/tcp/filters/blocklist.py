"""Whether a client is on a DNS list, and the SMTP dialogue that refuses it.  Source: rblsmtpd of ucspi-tcp"""

from pyqmail.base.literals import literal_address

# the decision about the client
UNDECIDED, ACCEPT, REFUSE, BOUNCE = "undecided", "accept", "refuse", "bounce"

LABEL = "rblsmtpd"
GREETING = f"220 {LABEL}.local\r\n".encode()
_MAX_TEXT_BYTES = 200


def log_line(environ, pid: int, text: bytes) -> bytes:
    """Return the line of the log about the client of this environment."""
    return b"%s: %s pid %d: %s" % (LABEL.encode(), environ.get(b"TCPREMOTEIP", b""), pid, text)


class Judgement:
    """The decision about a client.  Lists are asked until one of them decides.

    resolver    system/resolver.py, or an object with its text_of, addresses_of, reversed_labels and Soft
    ip          the address of the client, empty if unknown
    given       the value of RBLSMTPD, None if it is not set: empty accepts, `-` and a text bounces, a text refuses
    """

    def __init__(self, resolver, ip: bytes, given: bytes | None) -> None:
        self._resolver, self.is_ip6 = resolver, False
        self._labels = self._labels_of(ip)
        self._must_not_bounce = False
        self.decision, self.text, self.is_by_list = UNDECIDED, b"", False
        if given is not None:
            self.decision = ACCEPT if not given else BOUNCE if given.startswith(b"-") else REFUSE
            self.text = given.removeprefix(b"-")

    def ask_list(self, base: bytes, bounces: bool, fails_closed: bool) -> None:
        """Decide against a client for which the list base has a text."""
        if self.decision is not UNDECIDED:
            return
        try:
            text = self._resolver.text_of(self.name_in(base)) or b""
        except self._resolver.Soft:
            text = None
        self.hear_list(text, bounces, fails_closed)

    def hear_list(self, text: bytes | None, bounces: bool, fails_closed: bool) -> None:
        """Decide by the text that a list has, empty if it has none, None if that is unknown."""
        if text is None:
            self._must_not_bounce = True
            text, bounces = b"temporary RBL lookup error" if fails_closed else b"", False
        if text:
            self.decision, self.text, self.is_by_list = BOUNCE if bounces else REFUSE, text, True

    def ask_exemptions(self, base: bytes, fails_closed: bool) -> None:
        """Decide for a client that has an address in the anti-list base."""
        if self.decision is not UNDECIDED:
            return
        try:
            # lists of IPv6 clients have A records too, RFC 5782 section 2.4; but ucspi-tcp6 asks for AAAA
            kinds = ("A", "AAAA") if self.is_ip6 else ("A",)
            found = self._resolver.addresses_of(self.name_in(base), kinds=kinds)
        except self._resolver.Soft:
            found = None
        self.hear_exemptions(found, fails_closed)

    def hear_exemptions(self, found: list[bytes] | None, fails_closed: bool) -> None:
        """Decide by the addresses that an anti-list has, None if those are unknown."""
        if found is None:
            self._must_not_bounce = True
        if found or found is None and not fails_closed:
            self.decision = ACCEPT

    def name_in(self, base: bytes) -> bytes:
        """Return the name of the client in a list."""
        return self._labels + base

    def message(self) -> bytes:
        """Return the reply that refuses the client: one printable line, without its end."""
        code = b"553 " if self.decision is BOUNCE and not self._must_not_bounce else b"451 "
        return code + self.clean_text()

    def clean_text(self) -> bytes:
        """Return the reason, at most 200 bytes, `?` for each that is not printable."""
        return bytes(c if 32 <= c <= 126 else 63 for c in self.text[:_MAX_TEXT_BYTES])

    def _labels_of(self, ip):
        """Return the labels of the address in the names of lists, with a dot at the end; empty if it is unknown.

        Anything but an IPv6 address is reversed at its dots, even if it is no address.
        """
        plain = literal_address(ip.partition(b"%")[0]) if b":" in ip else None
        if plain is not None and plain.startswith(b"::ffff:") and b"." in plain:
            ip = plain.rpartition(b":")[2]
        elif plain is not None:
            self.is_ip6 = True
            return self._resolver.reversed_labels(plain) + b"."
        return b".".join(reversed(ip.split(b"."))) + b"." if ip else b""


class Dialogue:
    """An SMTP session that refuses everything.

    receive() takes the client's bytes in any pieces and returns the replies, each to be written by itself.
    The reply to a verb that every server must know is 250; that to anything else, an empty line included, is the
    message.  After QUIT `ended` is True and there are no more replies.
    """

    _MAX_VERB = 64  # a longer line is cut here: it has no verb that we know

    def __init__(self, message: bytes) -> None:
        self.ended = False
        self._begun = b""
        self._refusal = message + b"\r\n"

    def receive(self, data: bytes) -> list[bytes]:
        *lines, self._begun = (self._begun + data).split(b"\n")
        self._begun = self._begun[: self._MAX_VERB]
        replies = []
        for line in lines:
            if self.ended:
                break
            verb = line.removesuffix(b"\r").partition(b" ")[0].lower()
            self.ended = verb == b"quit"
            replies.append(_REPLIES.get(verb, self._refusal))
        return replies


_REPLIES = dict.fromkeys((b"helo", b"ehlo", b"mail", b"rset", b"noop"), b"250 rblsmtpd.local\r\n")
_REPLIES[b"quit"] = b"221 rblsmtpd.local\r\n"
