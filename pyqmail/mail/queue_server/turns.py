"""Whose turn it is: a bounded number of things at once, for each uid and for all of them."""

import collections


class Turn:
    """One thing to do for a uid: work() is called when its turn has come.  is_taken: it has, and goes on."""

    __slots__ = ("_turns", "uid", "work", "is_taken")

    def __init__(self, turns, uid: int, work) -> None:
        self._turns, self.uid, self.work, self.is_taken = turns, uid, work, False

    def ask(self) -> None:
        """Wait for the turn; work() may be called before this returns."""
        self._turns.add(self)

    def give_back(self) -> None:
        """End the turn, or give it up before it came."""
        self._turns.end(self)


class Turns:
    """At most limit turns at once, limit_of_uid of one uid; uids that wait come one after the other."""

    def __init__(self, limit_of_uid: int, limit: int) -> None:
        self._limit_of_uid, self._limit = limit_of_uid, limit
        self._taken: collections.Counter[int] = collections.Counter()
        self._waiting: dict[int, collections.deque[Turn]] = {}
        self._is_granting = False

    def waiting(self, uid: int | None = None) -> int:
        """Return how many turns wait, of a uid or of all."""
        return len(self._waiting.get(uid, ())) if uid is not None else sum(map(len, self._waiting.values()))

    def add(self, turn: Turn) -> None:
        self._waiting.setdefault(turn.uid, collections.deque()).append(turn)
        self._grant()

    def end(self, turn: Turn) -> None:
        if turn.is_taken:
            turn.is_taken = False
            self._taken[turn.uid] -= 1
            self._taken += collections.Counter()  # drops what is 0
            self._grant()
        elif turn in self._waiting.get(turn.uid, ()):
            self._waiting[turn.uid].remove(turn)

    def _grant(self):
        if self._is_granting:
            return  # work() has given one back: it is seen below
        self._is_granting = True
        try:
            while turn := self._next():
                turn.work()
        finally:
            self._is_granting = False

    def _next(self):
        if self._taken.total() >= self._limit:
            return None
        for uid in list(self._waiting):
            waiting = self._waiting.pop(uid)
            if waiting and self._taken[uid] < self._limit_of_uid:
                if len(waiting) > 1:
                    self._waiting[uid] = waiting  # behind the others
                turn = waiting.popleft()
                self._taken[uid] += 1
                turn.is_taken = True
                return turn
            if waiting:
                self._waiting[uid] = waiting
        return None
