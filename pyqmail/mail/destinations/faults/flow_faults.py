"""Faults of one flow at one organisation, and of all flows at one site: flow pauses, and the soft block.

A customer who sends rubbish is deferred by policy while others are not: that flow is paused at that organisation, and
nobody else.  A site that defers everybody with one code is asked with one message a minute: the rest waits ready,
instead of each collecting a deferral.  (Everybody is 3 flows; with fewer it may be the sender.)
"""

import math

FLOW_RUN, OTHERS_ACCEPTED = 10, 5
FLOW_SECONDS, MAX_FLOW_SECONDS = 900.0, 14400.0
CLEAN_SECONDS = 14400.0  # after a pause: then the next one is short again
MAX_FLOWS = 1000  # of an organisation that are watched; those whose run began first go
BLOCK_LAST, BLOCK_DEFERRED, BLOCK_FLOWS, BLOCK_SECONDS = 20, 18, 3, 60.0


class _FlowRun:
    """deferrals in a row; what others had accepted when they began; pauses so far, the end of the last."""

    __slots__ = ("deferrals", "accepted", "pauses", "until")

    def __init__(self, accepted: int) -> None:
        self.deferrals, self.accepted, self.pauses, self.until = 0, accepted, 0, 0.0


class FlowFaults:
    """Policy deferrals at one organisation by flow: 10 in a row, while others had 5 acceptances, pause that flow.

    An acceptance counts only if it was a first try: a greylist accepts later what it defers at first, so that one flow
    of new recipients is deferred there and another of known ones is not, and neither is to blame.
    Made at the first policy deferral, and dropped when is_empty().
    """

    __slots__ = ("_runs", "_accepted")

    def __init__(self) -> None:
        self._runs: dict[bytes, _FlowRun] = {}
        self._accepted = 0

    def deferred(self, flow: bytes, now: float) -> float:
        """Return for how many seconds the flow is paused by this deferral; 0.0: it is not."""
        run = self._runs.get(flow)
        if run is None:
            run = self._runs[flow] = _FlowRun(self._accepted)
            if len(self._runs) > MAX_FLOWS:
                del self._runs[next(iter(self._runs))]
        if run.until > now:  # what was in flight when the pause began
            return 0.0
        run.deferrals += 1
        if run.deferrals < FLOW_RUN or self._accepted - run.accepted < OTHERS_ACCEPTED:
            return 0.0
        if now - run.until > CLEAN_SECONDS:
            run.pauses = 0
        seconds = min(FLOW_SECONDS * 2.0 ** min(run.pauses, 20), MAX_FLOW_SECONDS)
        run.pauses, run.until = run.pauses + 1, now + seconds
        # one more after the pause is enough, if others are still accepted
        run.deferrals, run.accepted = FLOW_RUN - 1, self._accepted
        return seconds

    def pause(self, flow: bytes, until: float) -> None:
        """A response rule pauses the flow until then."""
        run = self._runs.setdefault(flow, _FlowRun(self._accepted))
        run.until = max(run.until, until)

    def accepted(self, flow: bytes, is_new: bool = True) -> None:
        """A message of the flow was accepted; is_new: at its first try."""
        run = self._runs.get(flow)
        if run is not None:
            run.deferrals, run.accepted = 0, self._accepted
            if not run.until:
                del self._runs[flow]
        self._accepted += is_new

    def paused_until(self, flow: bytes) -> float:
        """Return until when the flow is paused (monotonic); 0.0: it is not, or was not."""
        run = self._runs.get(flow)
        return run.until if run is not None else 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no flow is watched: nothing is lost if it is dropped."""
        return not self._runs

    def is_empty(self, now: float) -> bool:
        """Return whether nothing is left to remember."""
        return all(run.until and now - run.until > CLEAN_SECONDS for run in self._runs.values())


class SoftBlock:
    """One site: of its last 20 deliveries 18 were deferred with one code at RCPT or DATA, from 3 flows or more.

    Then one message a minute goes, until one is accepted.  Made at the first deferral.  code is the one, while
    is_blocked.
    """

    __slots__ = ("is_blocked", "code", "_last", "_next")

    def __init__(self) -> None:
        self.is_blocked, self.code = False, 0
        self._last: list[tuple[int, bytes]] = []  # code, 0 for accepted; flow
        self._next = -math.inf

    def deferred(self, code: int, flow: bytes, now: float) -> bool:
        """Return whether the site is blocked by this deferral, and was not before."""
        self._add(code, flow)
        if self.is_blocked:
            return False
        flows = [each for other, each in self._last if other == code]
        if len(flows) < BLOCK_DEFERRED or len(set(flows)) < BLOCK_FLOWS:
            return False
        self.is_blocked, self.code, self._next = True, code, now + BLOCK_SECONDS
        return True

    def accepted(self) -> bool:
        """Return whether this lifts the block."""
        was_blocked, self.is_blocked = self.is_blocked, False
        if was_blocked:
            self._last, self.code = [], 0
        self._add(0, b"")
        return was_blocked

    def is_idle(self) -> bool:
        """Return whether it may be dropped: nothing of the last 20 was deferred."""
        return not self.is_blocked and not any(code for code, _ in self._last)

    def allows(self, now: float) -> bool:
        """Return whether a message may go now."""
        return not self.is_blocked or now >= self._next

    def sent(self, now: float) -> None:
        """A message goes."""
        self._next = now + BLOCK_SECONDS

    def next_time(self) -> float | None:
        """Return when the next message may go while the site is blocked; None: it is not."""
        return self._next if self.is_blocked else None

    def _add(self, code: int, flow: bytes) -> None:
        self._last.append((code, flow))
        del self._last[:-BLOCK_LAST]
