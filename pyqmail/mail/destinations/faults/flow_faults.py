"""Faults of one flow at one organisation, and of all flows at one site: flow pauses, and the soft block."""

FLOW_RUN, OTHERS_ACCEPTED = 10, 5
FLOW_SECONDS, MAX_FLOW_SECONDS = 900.0, 14400.0
BLOCK_LAST, BLOCK_DEFERRED, BLOCK_FLOWS, BLOCK_INTERVAL = 20, 18, 3, 60.0


class FlowFaults:
    """Policy deferrals at one organisation by flow: 10 in a row, while others had 5 acceptances, pause that flow.

    Made at the first policy deferral, and dropped when is_empty().
    """

    __slots__ = ()

    def deferred(self, flow: bytes, now: float) -> float:
        """Return for how many seconds the flow is paused by this deferral; 0: it is not."""
        raise NotImplementedError

    def accepted(self, flow: bytes) -> None:
        """A message of the flow was accepted."""
        raise NotImplementedError

    def paused_until(self, flow: bytes) -> float:
        """Return until when the flow is paused (monotonic); 0.0: it is not."""
        raise NotImplementedError

    def is_empty(self, now: float) -> bool:
        """Return whether nothing is left to remember."""
        raise NotImplementedError


class SoftBlock:
    """One site: of its last 20 deliveries 18 were deferred with one code at RCPT or DATA, from 3 flows or more.

    Then one message a minute goes, until one is accepted.  Made at the first deferral.
    """

    __slots__ = ("is_blocked", "code")

    def deferred(self, code: int, flow: bytes, now: float) -> bool:
        """Return whether the site is blocked by this deferral, and was not before."""
        raise NotImplementedError

    def accepted(self) -> bool:
        """Return whether this lifts the block."""
        raise NotImplementedError

    def allows(self, now: float) -> bool:
        """Return whether a message may go now."""
        raise NotImplementedError

    def sent(self, now: float) -> None:
        """A message goes."""
        raise NotImplementedError

    def next_time(self) -> float | None:
        """Return when the next message may go while the site is blocked; None: it is not."""
        raise NotImplementedError
