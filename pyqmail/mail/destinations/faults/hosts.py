"""Hosts: which one a session tries next, and what is remembered of each.

A host that fails is left alone for min(15 p^2, 3600) s, p the failures since its last greeting; then one session tries
it, and the others go on once that is greeted.  A lower preference is tried only
when every better host is off or was tried in this session start.  Among those of one preference a slow host is chosen
in inverse proportion to its usual greeting time: were the choice even, the slowest would end up with most of the
sessions, since they stay there longest.

A host may have a ceiling of its own: a server of several that refuses one session more.  It is kept as a window's: for
600 s, doubling to 2 h, and then one more may be tried; each greeting beyond it raises it.
"""

from collections import OrderedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from random import Random

    # (preference, name, [addresses]), from sites.hosts_to_try()
    Candidates = Sequence[tuple[int, bytes, Sequence[bytes]]]
    Choice = tuple[bytes, bytes]  # host, address

MAX_HOSTS = 200_000
OFF_SECONDS, MAX_OFF_SECONDS = 15.0, 3600.0
TRIAL_SECONDS = 60.0  # within which a host that has failed greets a session, or fails again
MIN_HEDGE_SECONDS, HEDGE_TIMES = 2.0, 4
MIN_GREETING_SECONDS = 0.02  # below this all hosts are equally fast
NEW_SHARE = 0.25  # of a new greeting time in the moving average
HABIT_SECONDS = 86400.0  # a server may have been mended meanwhile
CEILING_SECONDS, MAX_CEILING_SECONDS, PROBE_SECONDS = 600.0, 7200.0, 60.0


class Host:
    """What is remembered of one host; times are monotonic.

    penalty, off_until, penalised_at   failures since it last greeted; until when it is left alone; the last of them
    greeting_seconds                   moving average of what it took to greet; 0.0 unknown
    helo_until, single_until           until then HELO, or one command at a time
    ceiling, ceiling_until, ceiling_seconds   sessions it had when it refused one more, 0 unknown; until when none more
                                       is tried; how long the last such time was
    """

    __slots__ = (
        *("name", "penalty", "off_until", "penalised_at", "greeting_seconds", "helo_until", "single_until"),
        *("ceiling", "ceiling_until", "ceiling_seconds"),
    )

    def __init__(self, name: bytes) -> None:
        self.name, self.penalty, self.off_until, self.penalised_at = name, 0, 0.0, 0.0
        self.greeting_seconds, self.helo_until, self.single_until = 0.0, 0.0, 0.0
        self.ceiling, self.ceiling_until, self.ceiling_seconds = 0, 0.0, 0.0

    def cap(self, now: float) -> int:
        """Return how many sessions it takes, as far as is known; 0: unknown."""
        return self.ceiling + (now >= self.ceiling_until) if self.ceiling else 0


class HostTable:
    """Hosts by name, at most `limit`: the least recently used go.  An unknown host costs nothing until it is used."""

    __slots__ = ("_limit", "_hosts")

    def __init__(self, limit: int = MAX_HOSTS) -> None:
        self._limit = limit
        self._hosts: OrderedDict[bytes, Host] = OrderedDict()

    def get(self, name: bytes) -> Host:
        """Return the host, made if it is new."""
        host = self._hosts.get(name)
        if host is None:
            host = Host(name)
            self.put(host)
        else:
            self._hosts.move_to_end(name)
        return host

    def known(self, name: bytes) -> Host | None:
        """Return what is remembered of a host, None for nothing; it does not count as use."""
        return self._hosts.get(name)

    def put(self, host: Host) -> None:
        """Take a host, as of the state file."""
        self._hosts[host.name] = host
        if len(self._hosts) > self._limit:
            self._hosts.popitem(last=False)

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
    ) -> "Choice | None":
        """Return (host, address) to try next, or None.

        tried are the addresses of this session start so far; room_of(host, address) whether both have a unit.  A probe
        ignores off_until.  preference: a hedge stays at the one of the first host.  A host that has failed is off for
        the others meanwhile.
        """
        if preference is not None:
            candidates = [candidate for candidate in candidates if candidate[0] == preference]
        choices = [one for one in self.usable(candidates, tried, now, is_probe=is_probe) if room_of(*one)]
        if not choices:
            return None
        choice = choices[0]
        if len(choices) > 1:
            weights = [1 / max(self._greeting_seconds(name), MIN_GREETING_SECONDS) for name, _ in choices]
            choice = random.choices(choices, weights)[0]
        host = self._hosts.get(choice[0])
        if host is not None and host.penalty:
            host.off_until = max(host.off_until, now + TRIAL_SECONDS)
        return choice

    def usable(
        self, candidates: "Candidates", tried: "Collection[bytes]", now: float, *, is_probe: bool = False
    ) -> "list[Choice]":
        """Return the (host, address) of the best preference that choose() would choose among if all had room.

        One address of each host: its first that was not tried.  Empty: all are off or tried.  These are the hosts for
        which a door waits.
        """
        choices: list[Choice] = []
        best = None
        for preference, name, addresses in candidates:  # the best first
            if choices and preference != best:
                break
            host = self._hosts.get(name)
            if host is not None and host.off_until > now and not is_probe:
                continue
            for address in addresses:
                if address not in tried:
                    choices.append((name, address))
                    best = preference
                    break
        return choices

    def back_time(self, candidates: "Candidates", now: float) -> float:
        """Return when the first of the hosts is on again; now if one is, or if there is none."""
        times = [host.off_until for _, name, _ in candidates if (host := self._hosts.get(name)) is not None]
        return max(now, min(times)) if times and len(times) == len(candidates) else now

    def failed(self, name: bytes, started: float, now: float) -> float:
        """A session start that began at `started` failed at the host: p += 1.  Return for how many seconds it is off.

        A start that began before the last penalty adds none: many connect at once to a host that dies.  0.0 then.
        """
        host = self.get(name)
        if host.penalty and started < host.penalised_at:
            return 0.0
        host.penalty += 1
        seconds = min(OFF_SECONDS * host.penalty**2, MAX_OFF_SECONDS)
        host.penalised_at, host.off_until = now, now + seconds
        return seconds

    def greeted(self, name: bytes, seconds: float, here_up: int, now: float) -> None:
        """The host greeted after so many seconds, while here_up other sessions with it are up: p = 0."""
        host = self.get(name)
        host.penalty, host.off_until = 0, 0.0
        known = host.greeting_seconds
        host.greeting_seconds = known + (seconds - known) * NEW_SHARE if known else seconds
        if host.ceiling and here_up >= host.ceiling:
            host.ceiling, host.ceiling_until = here_up + 1, now + PROBE_SECONDS
            host.ceiling_seconds = 0.0

    def refused(self, name: bytes, here_up: int, now: float) -> None:
        """The host refused one session more than the here_up that it has, at least one."""
        host = self.get(name)
        is_same = host.ceiling == here_up and host.ceiling_seconds
        seconds = min(2 * host.ceiling_seconds, MAX_CEILING_SECONDS) if is_same else CEILING_SECONDS
        host.ceiling, host.ceiling_seconds, host.ceiling_until = max(1, here_up), seconds, now + seconds

    def note_habits(self, name: bytes, is_helo_only: bool, is_single: bool, now: float) -> None:
        """A session with the host goes on with HELO alone, or with one command at a time.

        What is remembered already is not prolonged: the session may do so only because it was told to.
        """
        if is_helo_only or is_single:
            host = self.get(name)
            if is_helo_only and host.helo_until <= now:
                host.helo_until = now + HABIT_SECONDS
            if is_single and host.single_until <= now:
                host.single_until = now + HABIT_SECONDS

    def hedge_seconds(self, name: bytes) -> float:
        """Return after how long without an answer another host is tried beside it: max(2, 4 x its usual time)."""
        return max(MIN_HEDGE_SECONDS, HEDGE_TIMES * self._greeting_seconds(name))

    def take_back(self, since: float) -> None:
        """Undo the penalties given since then: it was us (network.py).  Slow, and rare."""
        for host in self._hosts.values():
            if host.penalty and host.penalised_at >= since:
                host.penalty, host.off_until = host.penalty - 1, 0.0

    def items(self) -> "list[Host]":
        """Return the hosts of which something is remembered, least recently used first; for the state file."""
        return list(self._hosts.values())

    def _greeting_seconds(self, name: bytes) -> float:
        host = self._hosts.get(name)
        return host.greeting_seconds if host is not None else 0.0
