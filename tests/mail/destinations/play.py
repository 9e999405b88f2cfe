"""An Engine that is played with: it is told of events at given times, and its orders are kept."""

import random

from pyqmail.mail.destinations.engine import REMOTE, Engine
from pyqmail.mail.destinations.orders import NO_LIMITS
from pyqmail.mail.destinations.outcome import CONNECT, MESSAGE, RECIPIENTS, Outcome
from pyqmail.mail.destinations.rules.lookup import RuleSet

DATE = 1_800_000_000
WEEK = 604800
ACCEPTED = Outcome(b"K192.0.2.1 accepted message.\nRemote host said: 250 ok\n", MESSAGE, 250)
LATER = Outcome(b"Z192.0.2.1 does not like recipient.\nRemote host said: 450 4.2.1 not now\n", RECIPIENTS, 450)
NEVER = Outcome(b"D192.0.2.1 does not like recipient.\nRemote host said: 550 5.1.1 nobody\n", RECIPIENTS, 550)
SILENT = Outcome(b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n", CONNECT, 110)


class Play:
    """now and date go together; numbers of messages are given in turn."""

    def __init__(self, total=20, rules=b"", **options):
        self.now = 1000.0
        self.number = 0
        self.engine = Engine(
            *(total, RuleSet.of_text(rules)),
            random=random.Random(1),
            now=self.now,
            date=DATE,
            timeouts=(60.0, 60.0, 1200.0),
            **({"channel": REMOTE, "lifetime": WEEK} | options),
        )

    @property
    def date(self):
        return DATE + self.now - 1000.0

    def arrive(self, *keys, sender=b"s.example", size=1000, **options):
        """A new message to each key; returns its number."""
        self.number += 1
        options = {"birth": int(self.date), **options}
        recipients = [(10 * (offset + 1), key) for offset, key in enumerate(keys)]
        self.engine.arrived(self.number, sender, size, options.pop("birth"), recipients, now=self.now, **options)
        return self.number

    def orders(self, seconds=0.0):
        """Let time pass, and return what is ordered then."""
        self.now += seconds
        self.engine.advance(self.date, self.now)
        return self.engine.take_orders()

    def run(self, seconds, step=1.0):
        """Let time pass in steps; return all that is ordered."""
        found, end = [], self.now + seconds
        while self.now < end:
            found += self.orders(min(step, end - self.now))
        return found

    def result(self, recipient, outcome=ACCEPTED, **options):
        return self.engine.result(recipient, outcome, now=self.now, **options)

    def ready(self, session, host=b"mx.example", address=b"192.0.2.1", limits=NO_LIMITS):
        self.engine.ready(session, host, address, limits, self.now)

    def resolved(self, domain, hosts=((10, b"mx.example", [b"192.0.2.1"]),), ttl=3600, **options):
        self.engine.resolved(domain, hosts, ttl, False, now=self.now, **options)

    def __getattr__(self, name):
        return lambda *arguments: getattr(self.engine, name)(*arguments, self.now)


def words(orders, *wanted):
    """Return the orders with these words."""
    return [order for order in orders if order[0] in wanted]
