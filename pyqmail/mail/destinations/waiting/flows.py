"""What is ready in one lane, and which of it goes next: classes, then flows, then messages, then parcels.

A LaneQueue has up to three classes: urgent, normal and bulk share 6 : 3 : 1, by deficit round robin; a parcel costs its
recipients and one for each 100 kB.  A class has flows, one for each sender.  A flow that becomes ready stands in the
list of the new ones and is served before the others; after its first turn, or when it is empty, it goes to the end of
the old list, and it is forgotten when its turn comes and it is still empty: so nobody gains by sending piece by piece.
A turn is 10 recipients.

    LaneQueue --> ClassRing --> ClassRing --> (around)         classes that have parcels
                     | new, old
                     flow --> flow --> ...                     through f_next; columns, one index for all lanes
                      |
                     parcel --> parcel --> ...                 through p_next: one for each message
                      |
                     parcel --> ...                            through p_due: the others of that message

A message has several parcels in a lane only once it was cut, or has come in pieces: these are marked IS_SPLIT, and a
dictionary of the queue finds the first of them.  No other mail costs a dictionary or an object.

Source: Shreedhar and Varghese, Deficit round robin, 1995; RFC 8290 section 4.1.1 (new and old flows)
"""

from array import array

from pyqmail.mail.destinations.waiting.class_rings import ClassRing
from pyqmail.mail.destinations.waiting.numbers import RowIndex
from pyqmail.mail.destinations.waiting.rows import (
    CLASS_MASK,
    CLASS_SHIFT,
    IS_ALONE,
    IS_SPLIT,
    IS_STRUCK,
    MailRows,
    lengthen,
)

URGENT, NORMAL, BULK = 0, 1, 2
WEIGHTS = (6, 3, 1)
TURN_RECIPIENTS = 10
COST_BYTES = 100_000  # they cost as much as a recipient
_FEW_STRUCK = 16


class FlowRows:
    """The flows of all lanes in columns, as long as they have parcels.  One for all queues of an engine."""

    __slots__ = ("rows", "f_next", "f_first", "f_last", "f_key", "f_deficit", "_chain", "_index", "_free", "_unused")

    def __init__(self, rows: MailRows) -> None:
        self.rows = rows
        self.f_next, self.f_first, self.f_last = array("I", [0]), array("I", [0]), array("I", [0])
        self.f_key, self.f_deficit, self._chain = array("Q", [0]), array("i", [0]), array("I", [0])
        self._index = RowIndex(self.f_key, self._chain)
        self._free, self._unused = 0, 1

    def __len__(self) -> int:
        return len(self._index)

    def find(self, key: int) -> int:
        return self._index.find(key)

    def add(self, key: int) -> int:
        """Return a new flow without parcels."""
        flow = self._free
        if flow:
            self._free = self.f_next[flow]
        else:
            flow, self._unused = self._unused, self._unused + 1
            if flow == len(self.f_next):
                lengthen(self.f_next, self.f_first, self.f_last, self.f_key, self.f_deficit, self._chain)
        self.f_next[flow] = self.f_first[flow] = 0
        self.f_key[flow], self.f_deficit[flow] = key, TURN_RECIPIENTS
        self._index.add(flow)
        return flow

    def remove(self, flow: int) -> None:
        """Forget a flow that has no parcels and stands in no list."""
        self._index.remove(flow)
        self.f_next[flow], self._free = self._free, flow

    def append(self, flow: int, parcel: int) -> None:
        """Put a parcel behind the flow's others."""
        self.rows.p_next[parcel] = 0
        if self.f_first[flow]:
            self.rows.p_next[self.f_last[flow]] = parcel
        else:
            self.f_first[flow] = parcel
        self.f_last[flow] = parcel

    def push(self, flow: int, parcel: int) -> None:
        """Put a parcel before the flow's others."""
        first = self.f_first[flow]
        self.rows.p_next[parcel], self.f_first[flow] = first, parcel
        if not first:
            self.f_last[flow] = parcel

    def pop(self, flow: int) -> int:
        """Take out the flow's first parcel; it has one."""
        parcel = self.f_first[flow]
        self.f_first[flow] = self.rows.p_next[parcel]
        return parcel

    def all_parcels(self, flow: int) -> list[int]:
        """Return the flow's parcels, also those behind others of their message."""
        found = []
        first = self.f_first[flow]
        while first:
            parcel, first = first, self.rows.p_next[first]
            while parcel:
                found.append(parcel)
                parcel = self.rows.p_due[parcel]
        return found


class LaneQueue:
    """What is ready in one lane through one source.  parcels, recipients: how many."""

    __slots__ = (
        "parcels",
        "_flows",
        "_number",
        "_ring",
        "recipients",
        "_alone",
        "_alone_parcels",
        "_struck",
        "_firsts",
    )

    def __init__(self, flows: FlowRows, number: int) -> None:
        """number: of this queue, below 2**30, unlike that of any other queue of these flows."""
        self._flows, self._number = flows, number
        self.parcels = self.recipients = self._alone = self._alone_parcels = self._struck = 0
        self._ring: ClassRing | None = None
        self._firsts: dict[int, int] | None = None  # of a split message: the parcel that has the others behind it

    def add(self, parcel: int, klass: int, sender_key: int, *, at_head: bool = False) -> None:
        """Put in a parcel that has recipients; at_head: it came back untouched, and goes before all of its flow."""
        flows = self._flows
        rows, first = flows.rows, 0
        rows.p_due[parcel], flags = 0, rows.p_flags[parcel]
        if self._firsts and not at_head and flags & IS_SPLIT:
            first = self._firsts.get(rows.p_message[parcel], 0)
        if first:
            klass = (rows.p_flags[first] & CLASS_MASK) >> CLASS_SHIFT
        ring = self._ring
        if ring is None or ring.klass != klass:
            ring = self._ring_of(klass)
        rows.p_flags[parcel] = flags & ~CLASS_MASK | klass << CLASS_SHIFT
        if first:
            rows.p_due[parcel], rows.p_due[first] = rows.p_due[first], parcel
        else:
            flow = self._flow_of(ring, sender_key)
            if at_head:
                flows.push(flow, parcel)
            elif flags & IS_SPLIT:
                self._enter(flow, parcel)
            else:
                flows.append(flow, parcel)
        self._count(parcel, ring, 1, rows.count(parcel) if rows.r_next[rows.p_first[parcel]] else 1)

    def head(self) -> int:
        """Return the parcel that take() would cut its own from now, 0 if there is none."""
        ring = self._ring
        if not self.parcels or ring is None:
            return 0
        return self._flows.f_first[self._next_flow(ring if ring.following is ring else self._next_ring())]

    def take(self, most: int) -> int:
        """Take out the parcel whose turn it is, 0 if there is none; of more than `most` recipients the first go.

        A message that is IS_ALONE goes one by one.  The rest stays, and stands behind the flow's other messages.
        """
        if not self.parcels:
            return 0
        flows, ring = self._flows, self._ring
        if ring is None or ring.following is not ring:
            ring = self._next_ring()
        rows, f_first, flow = flows.rows, flows.f_first, ring.new_first or ring.old_first
        whole = f_first[flow]
        if not whole or rows.p_flags[whole] & IS_STRUCK or flows.f_deficit[flow] <= 0:
            flow = self._next_flow(ring)
            whole = f_first[flow]
        f_first[flow] = rows.p_next[whole]
        if self._firsts:
            self._forget_first(whole)
        parcel, cost = self._cut(whole, most) if rows.r_next[rows.p_first[whole]] else (whole, 1)
        behind = rows.p_due[whole] if parcel == whole else whole
        rows.p_due[parcel] = rows.p_next[parcel] = 0
        if behind:
            self._enter(flow, behind)
        message, parcels = rows.p_message[parcel], 1 if parcel == whole else 0
        self.parcels -= parcels
        ring.parcels -= parcels
        self.recipients -= cost
        if rows.m_flags[message] & IS_ALONE:
            self._alone -= cost
            self._alone_parcels -= parcels
        flows.f_deficit[flow] -= cost
        ring.deficit -= cost + rows.m_size[message] // COST_BYTES
        if not ring.parcels:
            self._close(ring)
        elif not flows.f_first[flow] and ring.new_first == flow:
            ring.make_old(ring.take_first(flows), flows)
        return parcel

    def strike(self, parcel: int) -> None:
        """Leave out a parcel of this queue and free it; its row follows when it comes up."""
        rows = self._flows.rows
        ring = self._ring_of((rows.p_flags[parcel] & CLASS_MASK) >> CLASS_SHIFT)
        self._count(parcel, ring, -1, -rows.count(parcel))
        self._forget_first(parcel)
        rows.strike(parcel)
        self._struck += 1
        if not ring.parcels:
            self._close(ring)
        elif self._struck > self.parcels + _FEW_STRUCK:
            self._sweep()

    def transactions(self, most: int) -> int:
        """Return about how many transactions of at most this many recipients are ready."""
        together = self.recipients - self._alone
        return self._alone + max(self.parcels - self._alone_parcels, (together + most - 1) // most)

    def drain(self) -> list[int]:
        """Take out all parcels, in no particular order."""
        rows, flows = self._flows.rows, self._flows
        found = []
        while self._ring:
            for flow in self._ring.all_flows(flows):
                for parcel in flows.all_parcels(flow):
                    if not rows.p_flags[parcel] & IS_STRUCK:
                        found.append(parcel)
            self._close(self._ring)
        for parcel in found:
            rows.p_next[parcel] = rows.p_due[parcel] = 0
        self.parcels = self.recipients = self._alone = self._alone_parcels = 0
        return found

    def take_flow(self, sender_key: int, most: int) -> list[int]:
        """Take out up to `most` parcels of one sender, those behind the last of them included; empty: it has none."""
        flows, found = self._flows, list[int]()
        for klass in (URGENT, NORMAL, BULK):
            ring = self._find_ring(klass)
            flow = flows.find((self._number << 2 | klass) << 32 | sender_key) if ring else 0
            while ring and flow and len(found) < most:
                self._drop_struck(flow)
                if not flows.f_first[flow]:
                    break
                first = flows.pop(flow)
                self._forget_first(first)
                found += self._unchain(first, ring)
            if ring and not ring.parcels:
                self._close(ring)
        return found

    def _unchain(self, parcel: int, ring: ClassRing) -> list[int]:
        """Count out a parcel and those behind it; struck ones are freed."""
        rows, found = self._flows.rows, list[int]()
        while parcel:
            following = rows.p_due[parcel]
            rows.p_next[parcel] = rows.p_due[parcel] = 0
            if rows.p_flags[parcel] & IS_STRUCK:
                rows.free_struck(parcel)
                self._struck -= 1
            else:
                self._count(parcel, ring, -1, -rows.count(parcel))
                found.append(parcel)
            parcel = following
        return found

    def _cut(self, whole: int, most: int) -> tuple[int, int]:
        """Return what goes of a parcel of several recipients, and how many that has."""
        rows = self._flows.rows
        parcel = rows.cut(whole, 1 if rows.m_flags[rows.p_message[whole]] & IS_ALONE else most)
        return parcel, rows.count(parcel)

    def _count(self, parcel: int, ring: ClassRing, parcels: int, recipients: int) -> None:
        """Count so many parcels and recipients, those of this parcel, in or out."""
        rows = self._flows.rows
        self.parcels += parcels
        ring.parcels += parcels
        self.recipients += recipients
        if rows.m_flags[rows.p_message[parcel]] & IS_ALONE:
            self._alone += recipients
            self._alone_parcels += parcels

    def _next_ring(self) -> ClassRing:
        """Return the class whose turn it is; there are several."""
        ring = self._ring
        assert ring
        while ring.deficit <= 0:
            ring = ring.following
            ring.deficit += WEIGHTS[ring.klass]
        self._ring = ring
        return ring

    def _next_flow(self, ring: ClassRing) -> int:
        """Return the flow whose turn it is; its first parcel is not struck."""
        flows = self._flows
        while True:
            flow = ring.new_first or ring.old_first
            if self._struck:
                self._drop_struck(flow)
            if not flows.f_first[flow]:
                flows.remove(ring.take_first(flows))
            elif flows.f_deficit[flow] <= 0:
                flows.f_deficit[flow] += TURN_RECIPIENTS
                ring.make_old(ring.take_first(flows), flows)
            else:
                return flow

    def _drop_struck(self, flow: int) -> None:
        flows = self._flows
        while flows.f_first[flow] and flows.rows.p_flags[flows.f_first[flow]] & IS_STRUCK:
            self._enter(flow, flows.pop(flow))

    def _enter(self, flow: int, parcel: int) -> None:
        """Put a parcel and those behind it at the end of the flow, or behind the first of their message."""
        rows = self._flows.rows
        while parcel and rows.p_flags[parcel] & IS_STRUCK:
            gone, parcel = parcel, rows.p_due[parcel]
            rows.free_struck(gone)
            self._struck -= 1
        if not parcel:
            return
        if rows.p_flags[parcel] & IS_SPLIT:
            if self._firsts is None:
                self._firsts = {}
            first = self._firsts.setdefault(rows.p_message[parcel], parcel)
            if first != parcel and not (rows.p_flags[first] ^ rows.p_flags[parcel]) & CLASS_MASK:
                last = parcel
                while rows.p_due[last]:
                    last = rows.p_due[last]
                rows.p_due[last], rows.p_due[first] = rows.p_due[first], parcel
                return
        self._flows.append(flow, parcel)

    def _forget_first(self, parcel: int) -> None:
        message = self._flows.rows.p_message[parcel]
        if self._firsts and self._firsts.get(message) == parcel:
            del self._firsts[message]

    def _ring_of(self, klass: int) -> ClassRing:
        """Return the ring of a class; a new one has the next turn."""
        ring = self._find_ring(klass)
        if not ring:
            ring = ClassRing(klass)
            if self._ring:
                ring.following, self._ring.following = self._ring.following, ring
            else:
                self._ring = ring
        return ring

    def _find_ring(self, klass: int) -> ClassRing | None:
        ring = first = self._ring
        while ring and ring.klass != klass:
            ring = ring.following if ring.following is not first else None
        return ring

    def _flow_of(self, ring: ClassRing, sender_key: int) -> int:
        flows, key = self._flows, (self._number << 2 | ring.klass) << 32 | sender_key
        flow = flows.find(key)
        if not flow:
            flow = flows.add(key)
            ring.add_new(flow, flows)
        return flow

    def _close(self, ring: ClassRing) -> None:
        """Forget a class that has no parcels but struck ones, and its flows."""
        rows, flows = self._flows.rows, self._flows
        for flow in ring.all_flows(flows):
            for parcel in flows.all_parcels(flow) if self._struck else ():
                if rows.p_flags[parcel] & IS_STRUCK:
                    rows.free_struck(parcel)
                    self._struck -= 1
            flows.remove(flow)
        before = ring
        while before.following is not ring:
            before = before.following
        if before is ring:
            self._ring = self._firsts = None
        else:
            before.following = ring.following
            self._ring = ring.following if self._ring is ring else self._ring
        del ring.following  # a ring of one is a cycle: nothing else would free it

    def _sweep(self) -> None:
        """Free the rows of all struck parcels."""
        rows, flows = self._flows.rows, self._flows
        self._firsts = None
        for klass in range(len(WEIGHTS)):
            ring = self._find_ring(klass)
            for flow in ring.all_flows(flows) if ring else ():
                parcels = flows.all_parcels(flow)
                flows.f_first[flow] = 0
                for parcel in parcels:
                    rows.p_due[parcel] = 0
                    self._enter(flow, parcel)
