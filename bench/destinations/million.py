"""1,000,000 recipients over 100,000 domains: what they take, and what a delivery costs the engine alone.

Here nobody answers through a model: the engine's orders are obeyed at once, so that the time is the engine's.
"""

import itertools
import random
import time
from array import array

from pyqmail.mail.destinations.engine import Engine
from pyqmail.mail.destinations.orders import CLOSE, DELIVER, NO_LIMITS, OPEN, RESOLVE
from pyqmail.mail.destinations.outcome import MESSAGE, Outcome
from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.destinations.waiting.flows import NORMAL, FlowRows, LaneQueue
from pyqmail.mail.destinations.waiting.rows import MailRows
from pyqmail.mail.destinations.waiting.wheel import Wheel

_ACCEPTED = Outcome(b"K10.0.0.1 accepted message.\nRemote host said: 250 ok\n", MESSAGE, 250)
_TOTAL = 20_000


def million(small):
    """Return megabytes with all in memory, the interpreter among them, and microseconds a delivery."""
    recipients, domains = (20_000, 2_000) if small else (1_000_000, 100_000)
    start_mb = resident_mb()
    draw = random.Random(1)
    weights = list(itertools.accumulate(1 / (rank + 1) ** 0.9 for rank in range(domains)))
    lanes = draw.choices(range(domains), cum_weights=weights, k=recipients)
    own_mb = resident_mb() - start_mb
    run = _Run(domains)
    started = time.process_time()
    for number, lane in enumerate(lanes):
        run.engine.arrived(
            number * 16 + 4_000_000,
            b"s%d.example" % (number % 5000),
            3000,
            1_800_000_000,
            [(31, run.names[lane])],
            now=run.now,
        )
        if not number % 1000:
            run.orders_kept += run.engine.take_orders()
    arrived = time.process_time() - started
    run.answer_questions()
    megabytes = resident_mb() - own_mb
    started = time.process_time()
    run.go()
    seconds = time.process_time() - started
    return {
        "left": recipients - run.delivered,
        "MB": megabytes,
        "us a delivery": (seconds + arrived) / recipients * 1e6,
        "us to arrive": arrived / recipients * 1e6,
    }


def rows_alone(small):
    """The same mail in rows, on the wheel and in queues, without an engine; megabytes are those of the mail alone."""
    count, domains = (20_000, 2_000) if small else (1_000_000, 100_000)
    draw = random.Random(1)
    weights = list(itertools.accumulate(1 / (rank + 1) ** 0.9 for rank in range(domains)))
    lanes = array("I", draw.choices(range(domains), cum_weights=weights, k=count))
    before_mb, times = resident_mb(), [time.process_time()]
    rows = MailRows()
    flows, queues = FlowRows(rows), {}
    for number, lane in enumerate(lanes):
        rows.add_parcel(rows.add_message(number * 16, number % 5000, 3000, 1_800_000_000, 0), lane, (31,))
    times.append(time.process_time())
    wheel = Wheel(rows.p_next, rows.p_due, 0)
    for parcel in range(1, count + 1):
        wheel.add(parcel, 100 + parcel % 70_000)
    while (second := wheel.next_time()) is not None:
        wheel.advance(second)
    times.append(time.process_time())
    for parcel, lane in enumerate(lanes, 1):
        queue = queues.get(lane) or queues.setdefault(lane, LaneQueue(flows, lane))
        queue.add(parcel, NORMAL, rows.m_sender[rows.p_message[parcel]])
    times.append(time.process_time())
    megabytes = resident_mb() - before_mb
    for lane in lanes:
        rows.remove_parcel(queues[lane].take(50))
    times.append(time.process_time())
    steps = ("insert", "wheel", "become ready", "take")
    figures = {f"us to {step}": (times[i + 1] - times[i]) / count * 1e6 for i, step in enumerate(steps)}
    return {"left": rows.recipient_count, "MB": megabytes, **figures}


def resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


class _Run:
    """Obeys the engine's orders at once, but for RESOLVE, which may be kept."""

    def __init__(self, domains):
        self.now, self.delivered, self.orders_kept = 1000.0, 0, []
        self.names = [b"d%d.example" % rank for rank in range(domains)]
        rules = RuleSet.of_text(b":k=1000/s~1000\n")
        self.engine = Engine(
            _TOTAL,
            rules,
            random=random.Random(1),
            now=self.now,
            date=1_800_000_000.0,
            lifetime=604_800,
            timeouts=(60, 60, 1200),
        )

    def answer_questions(self):
        orders, self.orders_kept = self.orders_kept + self.engine.take_orders(), []
        for order in orders:
            if order[0] == RESOLVE:
                self._resolve(order[1])
            else:
                self.orders_kept.append(order)

    def go(self):
        """Deliver everything."""
        orders = self.orders_kept
        while True:
            for order in orders:
                self._obey(order)
            orders = self.engine.take_orders()
            self.engine.log_lines(self.now)
            if not orders:
                when = self.engine.next_time()
                if when is None or not self.engine.waiting_count:
                    return
                self.now = max(self.now + 0.01, when)
                self.engine.advance(self.now + 1_800_000_000 - 1000, self.now)
                orders = self.engine.take_orders()

    def _obey(self, order):
        engine, now = self.engine, self.now
        if order[0] == DELIVER:
            for handle, _ in order[3]:
                engine.result(handle, _ACCEPTED, now=now)
            self.delivered += len(order[3])
        elif order[0] == OPEN:
            engine.ready(order[1], order[2].host, order[2].address, NO_LIMITS, now)
        elif order[0] == CLOSE:
            engine.closed(order[1], None, now)
        elif order[0] == RESOLVE:
            self._resolve(order[1])

    def _resolve(self, domain):
        rank = int(domain[1:-8])
        address = b"10.%d.%d.%d" % (rank >> 16, rank >> 8 & 255, rank & 255)
        self.engine.resolved(domain, [(10, b"mx." + domain, [address])], 3600, False, now=self.now)
