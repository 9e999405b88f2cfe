"""A class of what is ready in a lane: its flows, in two lists.

Source: RFC 8290 section 4.1.1 (new and old flows)
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyqmail.mail.destinations.waiting.flows import FlowRows


class ClassRing:
    """One class of a queue: its new and its old flows.  A flow stands in one of the two lists."""

    __slots__ = ("klass", "following", "parcels", "deficit", "new_first", "new_last", "old_first", "old_last")

    def __init__(self, klass: int) -> None:
        self.klass, self.following, self.parcels, self.deficit = klass, self, 0, 0
        self.new_first = self.new_last = self.old_first = self.old_last = 0

    def add_new(self, flow: int, flows: "FlowRows") -> None:
        flows.f_next[flow] = 0
        if self.new_first:
            flows.f_next[self.new_last] = flow
        else:
            self.new_first = flow
        self.new_last = flow

    def take_first(self, flows: "FlowRows") -> int:
        """Take the flow that is looked at next out of its list."""
        if self.new_first:
            flow, self.new_first = self.new_first, flows.f_next[self.new_first]
        else:
            flow, self.old_first = self.old_first, flows.f_next[self.old_first]
        return flow

    def make_old(self, flow: int, flows: "FlowRows") -> None:
        """Put a flow at the end of the old list."""
        flows.f_next[flow] = 0
        if self.old_first:
            flows.f_next[self.old_last] = flow
        else:
            self.old_first = flow
        self.old_last = flow

    def all_flows(self, flows: "FlowRows") -> "Iterator[int]":
        for first in (self.new_first, self.old_first):
            while first:
                flow, first = first, flows.f_next[first]
                yield flow
