"""It is us: many organisations silent at once mean our own network, one of our sources, or our resolver.

    OK --many silent--> SUSPECT --none of the first 8 test sessions is greeted--> FROZEN --any answer--> OK
      <---------------- one of them is answered: it was the list; no suspicion for 5 min, doubling to an hour

Many is: 20 different organisations within 15 s, while at most a twentieth as many answered.  A small host, which tried
fewer than 20 in a day, takes all that it tried within 10 min: if at least 3 are silent and nobody answered who is not,
it is suspected.

While not OK, no session is opened but test sessions: 8 every 2 s, to organisations that answered in the last hour, or
in the last day.  If there are none, those that are silent are tested in turn, more and more rarely.  Nobody is blamed.
When FROZEN is reached, the penalties of the last 30 s are taken back by the engine: they were ours.

A timeout takes a minute, in which a busy host would open thousands of sessions.  So a session start to an organisation
that was alive in the last hour counts at once when it waits longer than it usually does (waits()): if 20 such wait, and
hardly anybody has answered since the first of them, the test sessions find out.

An answer is a greeting, but also a refusal: whoever refuses has heard us.  What counts as silence is a timeout, and an
address to which there is no way; for the resolver a zone is what an organisation is here.
"""

from collections import OrderedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

OK, SUSPECT, FROZEN = "ok", "suspect", "frozen"
TEST_SESSIONS, TEST_SECONDS, TEST_TIMEOUT = 8, 2.0, 5.0
TAKE_BACK_SECONDS = 30.0  # HostTable.take_back(since - this)
MANY, MANY_SECONDS, ANSWERED_SHARE = 20, 15.0, 0.05
FEW, FEW_SECONDS = 3, 600.0
LATE_SECONDS = 2.0  # whoever waits so long would have answered since
DAY_SECONDS, ALIVE_SECONDS = 86400.0, 3600.0
QUIET_SECONDS, MAX_QUIET_SECONDS = 300.0, 3600.0
MAX_SILENT_WAIT = 60.0
MAX_ALIVE = 20_000  # organisations that are remembered as alive, or as silent


class NetworkGuard:
    """One guard for the whole network, one for each source, one for the resolver.

    name stands in its log lines: `network`, `source 192.0.2.10`, `resolver`; unit is what it counts.  state is OK,
    SUSPECT or FROZEN; since is when the silence began that is suspected, or when it ended.  is_always_small: the rule
    for a small host counts, however many were tried.
    """

    __slots__ = (
        *("name", "unit", "state", "since", "_silent", "_recent", "_answered", "_alive", "_day"),
        *("_quiet_until", "_quiet", "_next_silent", "_silent_wait"),
        *("_is_always_small", "_tests", "_tested", "_next_test", "_evidence", "_lines"),
    )

    def __init__(
        self, name: bytes = b"network", unit: bytes = b"organisations", *, is_always_small: bool = False
    ) -> None:
        self.name, self.unit, self.state, self.since = name, unit, OK, 0.0
        self._is_always_small = is_always_small
        self._silent: OrderedDict[bytes, float] = OrderedDict()  # organisation -> last silence, since its last answer
        self._recent: OrderedDict[bytes, float] = OrderedDict()  # those of the last MANY_SECONDS
        self._answered: OrderedDict[bytes, float] = OrderedDict()  # those that answered in that time
        self._alive: OrderedDict[bytes, float] = OrderedDict()  # organisation -> last answer, of the last day
        self._day: OrderedDict[bytes, float] = OrderedDict()  # organisations tried in a day, up to MANY
        self._quiet_until = self._next_test = self._next_silent = 0.0
        self._quiet, self._silent_wait = QUIET_SECONDS, TEST_SECONDS
        self._tests: dict[bytes, None] = {}  # test sessions that have not ended
        self._tested = 0  # test sessions that ended without an answer, since the suspicion began
        self._evidence = b""  # of the suspicion, for people
        self._lines: list[bytes] = []

    def failed(self, organisation: bytes, now: float) -> str:
        """A session start at an organisation met silence, or no way there.  Return the state."""
        _note(self._silent, organisation, now)
        _note(self._day, organisation, now)
        if self.state == OK:
            _note(self._recent, organisation, now)
            _forget(self._recent, now - MANY_SECONDS)
            if now >= self._quiet_until:
                self._look(now)
        elif organisation in self._tests:
            del self._tests[organisation]
            self._tested += 1
            if self.state == SUSPECT and self._tested >= TEST_SESSIONS:
                self.state = FROZEN
                self._lines.append(b"%b: frozen: %b" % (self.name, self._evidence))
        return self.state

    def waits(self, organisation: bytes, now: float) -> str:
        """A session start has waited longer than is usual.  Return the state.

        It counts of an organisation that was alive in the last hour; a stranger may be slow, or a list bad.
        """
        is_alive = now - self._alive.get(organisation, -ALIVE_SECONDS) < ALIVE_SECONDS
        if is_alive and self.state == OK and now >= self._quiet_until:
            _note(self._recent, organisation, now)
            _forget(self._recent, now - MANY_SECONDS)
            count, first = len(self._recent), next(iter(self._recent.values()))
            if count >= MANY and self._count_answered(min(first, now - LATE_SECONDS)) <= ANSWERED_SHARE * count:
                self._suspect(count, MANY_SECONDS, now)
        return self.state

    def _count_answered(self, since: float) -> int:
        """Return how many organisations have answered since then."""
        count = 0
        for when in reversed(self._answered.values()):
            if when < since:
                break
            count += 1
        return count

    def answered(self, organisation: bytes, now: float) -> str:
        """An organisation has answered, by a greeting or a refusal.  Return the state."""
        self._silent.pop(organisation, None)
        self._recent.pop(organisation, None)
        _note(self._alive, organisation, now)
        if self.state == OK:
            _note(self._answered, organisation, now)
            if len(self._day) < MANY:
                _note(self._day, organisation, now)
            return OK
        if self.state == FROZEN:
            self._lines.append(b"%b: thawed after %d" % (self.name, now - self.since))
            self._quiet = QUIET_SECONDS
        else:
            self._lines.append(b"%b: not suspected any more: an answer after %d" % (self.name, now - self.since))
            self._quiet_until = now + self._quiet
            self._quiet = min(2 * self._quiet, MAX_QUIET_SECONDS)
        self.state, self.since = OK, now
        self._tests, self._tested = {}, 0
        self._recent.clear()
        self._answered.clear()
        return OK

    def is_silent(self, organisation: bytes) -> bool:
        """Return whether the last that is known of it is silence."""
        return organisation in self._silent

    def tests_wanted(self, now: float, random: "Random", waiting: "Sequence[bytes]" = ()) -> list[bytes]:
        """Return the organisations to which a test session (TEST_TIMEOUT) is opened now; empty: none.

        waiting are some for which there is mail, and which are not silent as far as is known: half of the tests, else
        a suspicion that nobody can clear would hold them up for ever.
        Each ends as failed(), answered(), or, if it could not be opened, as drop_test().
        """
        if self.state == OK or now < self._next_test:
            return []
        self._next_test = now + TEST_SECONDS
        chosen = [each for each in waiting if each not in self._tests][: TEST_SESSIONS // 2]
        choices = self._testable(now)
        chosen += random.sample(choices, min(TEST_SESSIONS - len(chosen), len(choices)))
        if not choices and now >= self._next_silent:
            self._silent_wait = min(2 * self._silent_wait, MAX_SILENT_WAIT)
            self._next_silent = now + self._silent_wait
            chosen += self._next_silent_ones(TEST_SESSIONS - len(chosen), chosen)
        self._tests.update(dict.fromkeys(chosen))
        return chosen

    def _testable(self, now: float) -> list[bytes]:
        """Return those that answered in the last hour; if there are none, those of the last day."""
        _forget(self._alive, now - DAY_SECONDS)
        found = []
        for each, when in reversed(self._alive.items()):
            if when < now - ALIVE_SECONDS:
                break
            found.append(each)
        return [each for each in found or self._alive if each not in self._tests]

    def _next_silent_ones(self, count: int, chosen: list[bytes]) -> list[bytes]:
        """Return some of the silent ones, in turn: the next time others come first."""
        found = [each for each in self._silent if each not in self._tests and each not in chosen][:count]
        for each in found:
            self._silent.move_to_end(each)
        return found

    def drop_test(self, organisation: bytes) -> None:
        """A test session could not be opened: the site has gone, for example.  It tells nothing."""
        self._tests.pop(organisation, None)

    def next_time(self) -> float | None:
        """Return when tests_wanted() has something to do; None: never, as it is."""
        return None if self.state == OK else self._next_test

    def log_lines(self) -> list[bytes]:
        """Return the lines not returned before."""
        lines, self._lines = self._lines, []
        return lines

    def _look(self, now: float) -> None:
        """Suspect ourselves if many are silent and hardly anybody answers."""
        count = len(self._recent)
        if count >= MANY:
            _forget(self._answered, now - MANY_SECONDS)
            if len(self._answered) <= ANSWERED_SHARE * count:
                self._suspect(count, MANY_SECONDS, now)
            return
        _forget(self._day, now - DAY_SECONDS)
        if len(self._day) < MANY or self._is_always_small:
            silent = self._count_if_all_are_silent(now - FEW_SECONDS)
            if silent >= FEW:
                self._suspect(silent, FEW_SECONDS, now)

    def _count_if_all_are_silent(self, since: float) -> int:
        """Return how many organisations are silent since then, at most MANY; 0 if one of those that answered is not."""
        for organisation, when in reversed(self._alive.items()):
            if when < since:
                break
            if organisation not in self._silent:
                return 0
        count = 0
        for when in reversed(self._silent.values()):
            if when < since or count == MANY:
                break
            count += 1
        return count

    def _suspect(self, count: int, seconds: float, now: float) -> None:
        self.state, self.since, self._next_test, self._next_silent = SUSPECT, now, now, now
        self._silent_wait = TEST_SECONDS / 2
        self._tests, self._tested = {}, 0
        self._evidence = b"%d %b silent in %d" % (count, self.unit, seconds)
        self._lines.append(b"%b: suspected: %b" % (self.name, self._evidence))


def _note(table: "OrderedDict[bytes, float]", organisation: bytes, now: float) -> None:
    table[organisation] = now
    table.move_to_end(organisation)
    if len(table) > MAX_ALIVE:
        table.popitem(last=False)


def _forget(table: "OrderedDict[bytes, float]", before: float) -> None:
    """Remove what was noted before that time; the table is in the order of its times."""
    while table and next(iter(table.values())) < before:
        table.popitem(last=False)
