"""Response rules: words of a server's reply that mean something; one Aho-Corasick automaton finds them all.

    group : code : words : action [time] [scope]
    @yahoo:421:[TSS04]:pause 2h
    :45:rate limited due to ip reputation:rate

The automaton is a trie of all words.  Each node has, besides its children, a link to the node of the longest end of
its text that is in the trie, too: where no child goes on with the next byte, the walk goes on there.  So a text is
walked over once, whatever the number of rules.  A node lists the rules whose words end at it, or at what it links to.
"""

from pyqmail.base.printable import printable
from pyqmail.mail.destinations.rules.items import BadValue, group_name, seconds_of
from pyqmail.mail.destinations.rules.text import BadPlace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

CEILING, RATE, PAUSE, MESSAGES, RECIPIENTS = b"ceiling", b"rate", b"pause", b"n", b"m"
GREY, FAIL, DEFER, IGNORE = b"grey", b"fail", b"defer", b"ignore"
ACTIONS = (CEILING, RATE, PAUSE, MESSAGES, RECIPIENTS, GREY, FAIL, DEFER, IGNORE)
_WITH_TIME = (PAUSE, DEFER)
RESPONSE_SCOPES = ("flow", "source", "site", "org")
MAX_TEXT = 4096  # bytes of a reply that are looked at


class Response:
    """One rule.  group: `@yahoo`, empty for all; code: the digits that the reply's code begins with, empty for any.

    words: in lower case, looked for in code, enhanced code and text.  action: one of ACTIONS.  seconds: of PAUSE and
    DEFER, otherwise 0.  scope: one of RESPONSE_SCOPES; empty: as the action has it.  line: its number in
    control/responses.
    """

    __slots__ = ("group", "code", "words", "action", "seconds", "scope", "line")

    def __init__(
        self, group: bytes, code: bytes, words: bytes, action: bytes, seconds: float, scope: str, line: int
    ) -> None:
        self.group, self.code, self.words, self.action = group, code, words, action
        self.seconds, self.scope, self.line = seconds, scope, line

    @property
    def text(self) -> bytes:
        """The rule as it would be written."""
        time = b" %ds" % self.seconds if self.action in _WITH_TIME else b""
        scope = b" " + self.scope.encode() if self.scope else b""
        return b"%b:%b:%b:%b%b%b" % (self.group, self.code, self.words, self.action, time, scope)


def read_response(number: int, line: bytes) -> Response | None:
    """Return the rule of a line; None for a comment and an empty one.  Raises BadPlace."""
    line = line.rstrip(b" \t")
    if not line or line.startswith(b"#"):
        return None
    fields = line.split(b":")
    if len(fields) < 4:
        raise BadPlace(len(line), "a response rule is group:code:words:action")
    group, code, words, act = fields[0], fields[1], b":".join(fields[2:-1]), fields[-1]
    at_code = len(group) + 1
    at_words = at_code + len(code) + 1
    try:
        group = group_name(group) if group.startswith(b"@") else _no_group(group)
    except BadValue as bad:
        raise BadPlace(0, f"{bad}: {printable(group)}") from None
    if code and (len(code) > 3 or not code.isdigit() or code[:1] not in b"245"):
        raise BadPlace(at_code, f"not a code or its first digits: {printable(code)}")
    if not words or words != words.strip(b" \t") or not _is_text(words):
        raise BadPlace(at_words, "no words, or blanks around them, or a control character")
    return Response(group, code, words.lower(), *_read_action(act, len(line) - len(act)), number)


def _no_group(text: bytes) -> bytes:
    if text:
        raise BadValue("not a group, for example @yahoo")
    return text


def _is_text(words: bytes) -> bool:
    return all(byte >= 32 and byte != 127 for byte in words)


def _read_action(text: bytes, offset: int) -> tuple[bytes, float, str]:
    """Return (action, seconds, scope)."""
    words = text.split()
    if not words or words[0] not in ACTIONS:
        raise BadPlace(offset, f"not an action: {b', '.join(ACTIONS).decode()}")
    action, rest, seconds = words[0], words[1:], 0.0
    if action in _WITH_TIME:
        try:
            seconds = float(seconds_of(rest[0] if rest else b""))
        except BadValue as bad:
            raise BadPlace(offset + text.index(action) + len(action), str(bad)) from None
        rest = rest[1:]
    scope = rest[0].decode("ascii", "replace") if rest else ""
    if len(rest) > 1 or rest and scope not in RESPONSE_SCOPES:
        raise BadPlace(offset + text.rindex(rest[-1]), f"not a scope: {', '.join(RESPONSE_SCOPES)}")
    return action, seconds, scope


class Automaton:
    """All rules, found in one walk over the text."""

    __slots__ = ("rules", "_children", "_links", "_found")

    def __init__(self, responses: "Sequence[Response]") -> None:
        self.rules = tuple(responses)
        self._children: list[dict[int, int]] = [{}]
        self._found: list[tuple[int, ...]] = [()]
        for number, response in enumerate(self.rules):
            node = self._node(response.words)
            self._found[node] = (*self._found[node], number)
        self._links = [0] * len(self._children)
        self._link()

    def match(self, code: int, enhanced: bytes, text: bytes, groups: "Collection[bytes]" = ()) -> Response | None:
        """Return the rule that a reply meets at a site of these groups (SitePolicy.groups); None if there is none.

        A rule of a group comes before one of all, then the one with more words, then the earlier line.
        """
        digits = b"%d" % code
        best, best_order = None, (0, 0, 0)
        for number in self._search(b"%b %b %b" % (digits, enhanced, text[:MAX_TEXT])):
            response = self.rules[number]
            if digits.startswith(response.code) and (not response.group or response.group in groups):
                order = (-bool(response.group), -len(response.words), number)
                if best is None or order < best_order:
                    best, best_order = response, order
        return best

    def _node(self, words: bytes) -> int:
        """Return the node of words, made with those on the way to it."""
        node = 0
        for byte in words:
            child = self._children[node].get(byte)
            if child is None:
                child = self._children[node][byte] = len(self._children)
                self._children.append({})
                self._found.append(())
            node = child
        return node

    def _link(self) -> None:
        """Make the links, level by level: that of a child begins at the link of its parent."""
        level = list(self._children[0].values())
        while level:
            below = []
            for node in level:
                for byte, child in self._children[node].items():
                    self._links[child] = self._step(self._links[node], byte)
                    self._found[child] += self._found[self._links[child]]
                    below.append(child)
            level = below

    def _step(self, node: int, byte: int) -> int:
        children = self._children
        while True:
            child = children[node].get(byte)
            if child is not None:
                return child
            if not node:
                return 0
            node = self._links[node]

    def _search(self, text: bytes) -> "Iterable[int]":
        """Yield the number of each rule whose words are in text, perhaps more than once."""
        children, links, found = self._children, self._links, self._found
        node = 0
        for byte in text.lower():
            row = children[node]
            while byte not in row and node:  # what _step() does, without a call for each byte
                node = links[node]
                row = children[node]
            node = row.get(byte, 0)
            if found[node]:
                yield from found[node]
