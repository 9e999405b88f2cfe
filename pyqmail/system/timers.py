"""Times to come: a heap that many timers are moved in and cancelled, and few ever fire.

A timeout is set for every wait and nearly always moved to a later time or cancelled.  So neither touches the heap:

- An item (a Timer, or a Task that waits with a time limit) has `when`, the time that counts, None while there is none,
  and `_entry`, the time of the one heap entry that counts for it, None without one.
- What is kept true: an item with a `when` has an entry with a time that is not later.  So an entry may be stale: when
  it comes up, an item without a `when` is dropped, and one whose `when` is later is entered again at that time.
- An item that is moved to an earlier time gets a second entry; the first is known by a time that is not `_entry`.
- Stale entries would stay until their time.  Once the heap has grown to twice what was alive at the last look, all
  are looked through, and what will not fire is dropped: constant work for each timer, and memory for those alive.
"""

import time
from _heapq import heapify, heappop, heappush  # heapq brings much that a cold start has no use for

_SMALL_CROWD = 1000  # entries that are not worth looking through


class Timer:
    """A call at a time to come.  cancel() at any moment; move(when) to a later or earlier one."""

    __slots__ = ("_timers", "_work", "when", "_entry")

    def __init__(self, timers: "Timers", when: float, work) -> None:
        self._timers, self._work, self._entry = timers, work, None
        self.when: float | None = when
        timers.schedule(self)

    def cancel(self) -> None:
        self.when = None

    def move(self, when: float) -> None:
        """Fire at `when` (time.monotonic seconds) instead; costs nothing if that is later than before."""
        self.when = when
        self._timers.schedule(self)

    def fire(self) -> None:
        self._work()


class Timers:
    """Items (see the module) in order of time; fire() calls fire() of each whose time has come."""

    __slots__ = ("_heap", "_count", "_crowd")

    def __init__(self) -> None:
        self._heap: list[tuple] = []  # (time, number that makes it unique, item)
        self._count, self._crowd = 0, _SMALL_CROWD

    def __len__(self) -> int:
        """Return how many entries there are, stale ones too."""
        return len(self._heap)

    def schedule(self, item) -> None:
        """Let an item fire at its `when`."""
        if item._entry is None or item.when < item._entry:
            self._count += 1
            item._entry = item.when
            heappush(self._heap, (item.when, self._count, item))
            if len(self._heap) > self._crowd:
                self._drop_stale()

    def patience(self, max_seconds: float | None) -> float | None:
        """Return how long the loop may wait, None for ever: until the first item's time, at most max_seconds."""
        heap = self._heap
        while heap and heap[0][2].when is None:
            heappop(heap)[2]._entry = None
        if not heap:
            return max_seconds
        until = max(0.0, heap[0][0] - time.monotonic())
        return until if max_seconds is None else min(until, max_seconds)

    def fire(self) -> None:
        """Fire each item whose time has come."""
        heap, now = self._heap, time.monotonic()
        while heap and heap[0][0] <= now:
            when, _, item = heappop(heap)
            if item._entry != when:
                continue  # a later entry than the one that counts
            item._entry = None
            if item.when is None:
                continue
            if item.when > now:
                self.schedule(item)
                continue
            item.when = None
            item.fire()

    def _drop_stale(self) -> None:
        kept = []
        for entry in self._heap:
            when, _, item = entry
            if item._entry == when:
                if item.when is not None:
                    kept.append(entry)
                else:
                    item._entry = None
        self._heap[:] = kept  # in place: fire() may be at it
        heapify(self._heap)
        self._crowd = max(_SMALL_CROWD, 2 * len(kept))
