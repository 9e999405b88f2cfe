"""Hosts: which one a session tries next, and what is remembered of each.

A host that fails is left alone for min(15 p^2, 3600) s, p the failures since its last greeting; lower preferences are
tried only when every better host is off or has been tried in this session start.  A slow host is chosen in inverse
proportion to its usual greeting time.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from random import Random

    # (preference, name, [addresses]), from sites.hosts_to_try()
    Candidates = Sequence[tuple[int, bytes, Sequence[bytes]]]

MAX_HOSTS = 200_000


class Host:
    """What is remembered of one MX host.  greeting_seconds: moving average, 0.0 unknown.  off_until: monotonic."""

    __slots__ = ("name", "penalty", "off_until", "penalised_at", "greeting_seconds", "has_no_ehlo", "has_no_pipelining")

    def __init__(self, name: bytes) -> None:
        self.name, self.penalty, self.off_until, self.penalised_at = name, 0, 0.0, 0.0
        self.greeting_seconds, self.has_no_ehlo, self.has_no_pipelining = 0.0, False, False


class HostTable:
    """Hosts by name, at most `limit`: the least recently used go.  An unknown host costs nothing until it is used."""

    def __init__(self, limit: int = MAX_HOSTS) -> None:
        raise NotImplementedError

    def get(self, name: bytes) -> Host:
        """Return the host, made if it is new."""
        raise NotImplementedError

    def choose(
        self,
        candidates: "Candidates",
        tried: "Collection[bytes]",
        room_of: "Callable[[bytes, bytes], bool]",
        now: float,
        random: "Random",
        *,
        is_probe: bool = False,
        preference: int | None = None,
    ) -> tuple[bytes, bytes] | None:
        """Return (host, address) to try next, or None.

        tried are the addresses of this session start so far; room_of(host, address) whether both have a unit.  A probe
        ignores off_until.  preference: a hedge stays at the one of the first host.
        """
        raise NotImplementedError

    def usable(
        self, candidates: "Candidates", tried: "Collection[bytes]", now: float, *, is_probe: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Return the (host, address) of the best preference that choose() would choose among if all had room: where a
        door waits.  At most 5.  Empty: all are off or tried."""
        raise NotImplementedError

    def back_time(self, candidates: "Candidates", now: float) -> float:
        """Return when the first of the hosts is on again; now if one is."""
        raise NotImplementedError

    def failed(self, name: bytes, started: float, now: float) -> float:
        """A session start that began at `started` failed at the host: p += 1.  Return for how many seconds it is off.

        A start that began before the last penalty was given adds none: many connect at once to a host that dies.
        """
        raise NotImplementedError

    def greeted(self, name: bytes, seconds: float) -> None:
        """The host greeted after so many seconds: p = 0."""
        raise NotImplementedError

    def hedge_seconds(self, name: bytes) -> float:
        """Return after how long without an answer another host is tried beside it: max(2, 4 x its usual time)."""
        raise NotImplementedError

    def take_back(self, since: float) -> None:
        """Penalties given since then are undone: it was us (network.py)."""
        raise NotImplementedError

    def items(self) -> "list[Host]":
        """Return the hosts of which something is remembered, least recently used first; for the state file."""
        raise NotImplementedError
