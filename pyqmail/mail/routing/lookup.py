"""Where to deliver a domain's mail: smtproutes, the resolver process, the check against our own addresses.

Each look-up ends with channel.resolved(domain, hosts), channel.nowhere(domain, report), which says that there is no
host, or channel.trouble(domain, reason), which says nothing about the domain: at once for a route to an address and for
a literal.  A question is asked once, however many domains wait for its answer.  A look-up that fails for want of
something here (no descriptor, no memory, an unreadable control file) is made again after 1, 2, 4 ... seconds, and only
after some minutes it is reported as trouble.

A resolver that is lost (killed for want of memory, or it could not start) may come back (mail/spawners/restarts.py).
What was asked is asked again then, and what needs no question goes on meanwhile.  Only a question that was open in
MAX_LOSSES losses in a row is taken for their cause, and reported as trouble.

Where another program delivers, which finds hosts by itself, nothing is looked up: it may know what DNS does not.
"""

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import reason
from pyqmail.mail.routing.exchangers import Hosts, Plan, Unroutable, hosts_of, hosts_of_literal, plan_for
from pyqmail.mail.routing.smtproutes import SMTP_PORT, route_key
from pyqmail.protocol.wires import resolve_wire
from pyqmail.system.stream import Pipe

OWN_SECONDS = 60  # how long the list of our own addresses is used
MAX_TRIES = 8  # four minutes
MAX_LOSSES = 10  # a minute at least
AGENT_SECONDS = 86400
NO_ANSWER, LOST = b"no name server answers", b"pyresolve is lost again and again"
_ASKED_AS = {resolve_wire.EXCHANGERS: resolve_wire.HOSTS, resolve_wire.ADDRESSES: resolve_wire.RELAY}


class DomainLookup:
    """controls is the directory's Controls; own() returns our addresses as texts; log(line) takes a line for the log.

    restarts, if set, says whether a resolver that is lost is replaced.
    asks False: nothing is looked up, and the only candidate for a domain is its own name.
    """

    def __init__(self, loop, write_fd: int, read_fd: int, controls, own, clock, log, asks=True):
        self._asks = asks
        self._controls, self._own, self._clock, self._loop = controls, own, clock, loop
        self._addresses: frozenset[bytes] = frozenset()
        self._addresses_until = 0.0
        self._number = 0
        self._open: dict[int, list] = {}  # number -> [(domain, channel, plan)]
        self._numbers: dict[tuple, int] = {}  # question -> its number
        self._failed: list = []  # what is looked up again
        self._backoff = Backoff(1.0, 60.0)
        self._lost, self._log = _do_nothing, log
        self.restarts = None
        self._is_coming = False
        self._losses: dict[int, int] = {}  # number of a question -> in how many losses it was open
        self._connect(write_fd, read_fd)

    def listen(self, lost) -> None:
        """Begin to read answers.  lost() is called once the resolver has gone, and there is no way to get another."""
        self._lost = lost
        self._pipe.listen()

    def _connect(self, write_fd, read_fd):
        self._unpacker = resolve_wire.Unpacker()
        self._pipe = Pipe(self._loop, write_fd, read_fd, self._received, self._gone)

    def route_of(self, domain: bytes) -> tuple[bytes, bytes, bytes] | None:
        """Return (key, name, relay) of the line of control/smtproutes for a domain, None without one.

        relay is `host:port` of the one host that takes the domain's mail, empty if the line names none; name is what
        is looked up, empty if it is an address.
        """
        if not self._asks:
            return None
        try:
            routes = self._controls.get("smtproutes")
        except OSError:
            return None  # the look-up says so
        key = route_key(domain, routes)
        if key is None:
            return None
        plan = plan_for(domain, routes)
        if not plan.is_routed:
            return key, b"", b""
        return key, b"" if plan.question is None else plan.name.lower(), b"%b:%d" % (plan.route, plan.port)

    @property
    def obeys_routes(self) -> bool:
        """False where another program finds the hosts: it cannot be told of a relay."""
        return self._asks

    def resolve(self, domain: bytes, channel, route: tuple[bytes, int] | None = None) -> None:
        """Look up the hosts of a domain; route: (relay, port) in place of what control/smtproutes says (plan_for)."""
        if not self._asks:
            plan = Plan(None, domain, SMTP_PORT, True)
            channel.resolved(domain, Hosts(plan, [(0, domain, domain)], AGENT_SECONDS, False))
            return

        def find():
            return plan_for(domain, self._controls.get("smtproutes") if route is None else {}, route)

        self._look_up(domain, channel, find, lambda plan: self._follow(domain, channel, plan))

    def close(self) -> None:
        self._pipe.close()

    # a resolver that is lost, and the next one

    def _gone(self):
        self._is_coming = self.restarts is not None and self.restarts.will_replace(self)
        if self._is_coming:
            self._give_up_causes()
        else:
            self._lost()

    def end(self) -> None:
        """It has ended: hear its last answers, and lose it."""
        self._pipe.end()

    def use_descriptors(self, write_fd: int, read_fd: int) -> None:
        """Use a new resolver in place of one that was lost: it is asked all that is open."""
        self.end()
        self._is_coming = False
        self._connect(write_fd, read_fd)
        self._pipe.listen()
        for number, ((_, _, plan), *_) in self._open.items():
            self._put_question(number, plan)

    def give_up(self) -> None:
        """None will come in place of one that was lost."""
        if self._is_coming:
            self._is_coming = False
            self._lost()

    def _give_up_causes(self):
        """Give up what is asked in one loss after another, and may be why."""
        for number in list(self._open):
            self._losses[number] = self._losses.get(number, 0) + 1
            if self._losses[number] >= MAX_LOSSES:
                for domain, channel, _ in self._close_question(number):
                    channel.trouble(domain, LOST)

    def _put_question(self, number, plan):
        self._pipe.put(resolve_wire.pack(_ASKED_AS[plan.question], number, resolve_wire.strings(plan.name)))

    def _close_question(self, number):
        """Return the (domain, channel, plan) that wait for the answer to a question, which is open no more."""
        self._losses.pop(number, None)
        waiting = self._open.pop(number, ())
        for _, _, plan in waiting:
            self._numbers.pop((plan.question, plan.name.lower()), None)
        return waiting

    # questions

    def _follow(self, domain, channel, plan):
        if plan.question is None:
            self._settle(domain, channel, lambda: hosts_of_literal(plan, self._own_for(plan)))
        elif b"\0" in plan.name or self._pipe.gone and not self._is_coming:
            channel.trouble(domain, LOST)
        else:
            self._ask(domain, channel, plan)

    def _ask(self, domain, channel, plan):
        question = plan.question, plan.name.lower()
        number = self._numbers.get(question)
        if number is not None:
            self._open[number].append((domain, channel, plan))
            return
        self._number = self._number % 0xFFFFFFFF + 1
        self._numbers[question] = self._number
        self._open[self._number] = [(domain, channel, plan)]
        self._put_question(self._number, plan)

    def _received(self, data):
        try:
            answers = self._unpacker.receive(data)
        except resolve_wire.MalformedFrame:
            self._pipe.close()
            self._gone()
            return
        for kind, number, body in answers:
            for domain, channel, plan in self._close_question(number):
                self._answer(domain, channel, plan, kind, body)

    def _answer(self, domain, channel, plan, kind, body):
        if kind in (resolve_wire.SOFT, resolve_wire.UNABLE):
            channel.trouble(domain, body.rstrip(b"\0") or NO_ANSWER)
        else:
            self._settle(domain, channel, lambda: hosts_of(plan, kind, body, self._own_for(plan)))

    def _settle(self, domain, channel, choose):
        def find():
            try:
                return choose(), None
            except Unroutable as nowhere:
                return None, nowhere.report
            except resolve_wire.MalformedFrame:
                return None, b""

        def tell(found):
            hosts, report = found
            if hosts is not None:
                channel.resolved(domain, hosts)
            elif report:
                channel.nowhere(domain, report)
            else:
                channel.trouble(domain, NO_ANSWER)

        self._look_up(domain, channel, find, tell)

    # what fails here

    def _look_up(self, domain, channel, find, use, is_last=False):
        """Find something and use it; if it cannot be found now, do so later, or report the trouble."""
        try:
            found = find()
        except OSError as error:
            if is_last:
                channel.trouble(domain, reason(error).encode())
                return
            if not self._failed:
                self._pause(error)
            self._failed.append((domain, channel, find, use))
        else:
            use(found)

    def _pause(self, error):
        if not self._backoff.tries:
            self._log(b"warning: unable to look up hosts: %b; trying again" % reason(error).encode())
        self._loop.after(self._backoff.next_seconds(), self._try_again)

    def _try_again(self):
        failed, self._failed = self._failed, []
        is_last = self._backoff.tries >= MAX_TRIES
        for one in failed:
            self._look_up(*one, is_last)
        if not self._failed:
            self._backoff.reset()

    def _own_for(self, plan):
        """Return the addresses that would be ourselves; a route is not asked whether it leads there."""
        return frozenset() if plan.is_routed else self._own_addresses()

    def _own_addresses(self):
        if self._addresses_until <= self._clock():
            self._addresses, self._addresses_until = self._own(), self._clock() + OWN_SECONDS
        return self._addresses


def _do_nothing():
    pass
