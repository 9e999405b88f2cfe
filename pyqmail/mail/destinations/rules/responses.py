"""Response rules: words of a server's reply that mean something; one Aho-Corasick automaton finds them all.

group : code : words : action [time] [scope]
@yahoo:421:[TSS04]:pause 2h
:45:rate limited due to ip reputation:rate
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

CEILING, RATE, PAUSE, MESSAGES, RECIPIENTS = b"ceiling", b"rate", b"pause", b"n", b"m"
GREY, FAIL, DEFER, IGNORE = b"grey", b"fail", b"defer", b"ignore"


class Response:
    """One rule.  group: `@yahoo`, empty for all; code: the digits that the reply's code begins with, empty for any.

    words: in lower case, looked for in code, enhanced code and text.  action: a constant above.  seconds: of PAUSE and
    DEFER, otherwise 0.  scope: "flow", "source", "site", "org"; empty: as the action has it.  line: its number in
    control/responses, 0 if it is built in.
    """

    __slots__ = ("group", "code", "words", "action", "seconds", "scope", "line")

    def __init__(
        self, group: bytes, code: bytes, words: bytes, action: bytes, seconds: float, scope: str, line: int
    ) -> None:
        self.group, self.code, self.words, self.action = group, code, words, action
        self.seconds, self.scope, self.line = seconds, scope, line


class Automaton:
    """All rules, found in one walk over the text."""

    __slots__ = ()

    def __init__(self, responses: "Sequence[Response]") -> None:
        raise NotImplementedError

    def match(self, code: int, enhanced: bytes, text: bytes, groups: "Collection[bytes]" = ()) -> Response | None:
        """Return the rule that a reply meets at a site of these groups (SitePolicy.groups); None if there is none.

        A rule of a group comes before one of all, then the one with more words, then the earlier line.
        """
        raise NotImplementedError
