"""It is us: many organisations silent at once mean our own network, one of our sources, or our resolver.

    OK --many silent--> SUSPECT --none of the first 8 test sessions is greeted--> FROZEN --any greeting--> OK
          ^---one of them is greeted: it was the list; no suspicion for 5 min---'

While not OK no session is opened but test sessions, and nobody is blamed.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

OK, SUSPECT, FROZEN = "ok", "suspect", "frozen"
TEST_SESSIONS, TEST_SECONDS, TEST_TIMEOUT = 8, 2.0, 5.0
TAKE_BACK_SECONDS = 30.0  # penalties given so long before are taken back (HostTable.take_back)


class NetworkGuard:
    """One guard for the whole network, one for each source, one for the resolver (organisation: the zone).

    name stands in its log lines: `network`, `source 192.0.2.10`, `resolver`.  state is OK, SUSPECT or FROZEN.
    The engine: after failed(), greeted() and advance() it looks at `state`; when it has become FROZEN, it takes back
    penalties since `since` - TAKE_BACK_SECONDS and dead marks of that time; when it has become OK, everything goes on.
    """

    __slots__ = ("name", "state", "since")

    def __init__(self, name: bytes = b"network") -> None:
        self.name, self.state, self.since = name, OK, 0.0

    def failed(self, organisation: bytes, now: float) -> str:
        """A session start at an organisation timed out, or there was no route.  Return the state.

        Refusals (RST, a reply) are answers: greeted().
        """
        raise NotImplementedError

    def greeted(self, organisation: bytes, now: float) -> str:
        """An organisation has answered, by a greeting or a refusal.  Return the state."""
        raise NotImplementedError

    def tests_wanted(self, now: float, random: "Random") -> list[bytes]:
        """Return the organisations to which a test session (TEST_TIMEOUT) is opened now; empty: none.

        The engine reports each as failed() or greeted(); what it cannot open it reports as failed_test().
        """
        raise NotImplementedError

    def advance(self, now: float) -> str:
        """Let time pass.  Return the state."""
        raise NotImplementedError

    def next_time(self) -> float | None:
        """Return when tests_wanted() or advance() may have something to do."""
        raise NotImplementedError

    def log_lines(self, now: float) -> list[bytes]:
        """Return the lines not returned before."""
        raise NotImplementedError
