"""From a domain to its door: questions to the resolver, and what their answers make of a lane.

A lane that has mail and does not know where to is asked about.  Answers are used for their TTL, between a minute and a
day; then the lane is asked about again, and goes on with what it knows until there is another answer.  A domain that a
rule holds is not asked about, and an answer that comes meanwhile ends nothing.

A route, of control/smtproutes or of `route=`, names a relay, which is asked about instead.  A line of MX hosts (mx=)
routes once these are known: then the relay is asked about, too.
"""

from pyqmail.mail.destinations.faults import blame
from pyqmail.mail.destinations.faults import table as t
from pyqmail.mail.destinations.faults.domains import ASK_SECONDS, DomainFaults
from pyqmail.mail.destinations.faults.network import OK, NetworkGuard
from pyqmail.mail.destinations.faults.table import Facts
from pyqmail.mail.destinations.limits.budgets import FOREVER, NEVER
from pyqmail.mail.destinations.orders import RESOLVE
from pyqmail.mail.destinations.outcome import LOOKUP, Outcome
from pyqmail.mail.destinations.questions import FAILING, KNOWN, ROUTED, STRANGE, ResolverQuestions
from pyqmail.mail.destinations.relays.routes import is_address, relay_text, written_route
from pyqmail.mail.destinations.rules.policies import FOR_EVER
from pyqmail.mail.destinations.sites import site_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyqmail.mail.destinations.doors import Lane
    from pyqmail.mail.destinations.relays.routes import Relay, SmtpRoute
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.mail_store import MailStore
    from pyqmail.mail.destinations.scheduling.ways import Ways

    Hosts = Sequence[tuple[int, bytes, Sequence[bytes]]]

LEAST_SECONDS, MOST_SECONDS = 60.0, 86400.0
RELAY_KEY = b"\0"  # of questions about what takes the mail of several domains: no domain begins so
LATE_SECONDS, QUESTION_SECONDS = 5.0, 60.0  # a question that has no answer ends within it


class Resolving:
    """route_of as the Engine's."""

    def __init__(
        self, core: "Core", ways: "Ways", store: "MailStore", route_of: "Callable[[bytes], SmtpRoute | None] | None"
    ) -> None:
        self._core, self._ways, self._store, self._route_of = core, ways, store, route_of
        self.questions = ResolverQuestions()
        self._faults = DomainFaults()
        self._guard = NetworkGuard(b"resolver", b"domains", is_always_small=True)
        self._in_trouble: dict[Lane, float] = {}  # when to ask again
        self._held: dict[Lane, float] = {}  # until which date, if that comes
        self._relays: dict[bytes, tuple[Relay, dict[Lane, None]]] = {}  # by the key of a question: who asks
        self._relay_troubles: dict[bytes, bytes] = {}
        self._routes: dict[Lane, Relay] = {}  # of `route=`, for which a question waits or is open
        self._answered_at = NEVER  # when the resolver was last in doubt and answered

    def need(self, lane: "Lane", now: float) -> None:
        """A lane has mail, and does not know where to, or its answer is old."""
        if lane.is_asked or self._core.is_stopped:
            return
        lane.is_asked = True
        if lane.relay is not None:
            self._need_relay(lane, lane.relay, now)
            return
        smtp_route = self._route_of(lane.domain) if self._route_of is not None else None
        written = self._written(lane, smtp_route)
        if written is not None and not written[0]:
            self._routes[lane], smtp_route, written = written, None, None
        if written is not None:
            self._ask_relay(lane, written, now)
        elif smtp_route is not None and smtp_route[2]:
            self._follow_smtp_route(lane, smtp_route, now)
        else:
            self._ask_hosts(lane, now)

    def _written(self, lane: "Lane", smtp_route: "SmtpRoute | None") -> "Relay | None":
        """Return the route= of a domain, None without one that counts."""
        self._routes.pop(lane, None)
        policy = self._core.rules.for_site(lane.domain)
        if not self._core.obeys_routes:
            self._core.log.cannot_route(policy)
            return None
        return written_route(policy, smtp_route)

    def _ask_relay(self, lane: "Lane", relay: "Relay", now: float) -> None:
        """The relay of a `route=` takes a lane's mail."""
        if is_address(relay[0]):
            self._follow(lane, relay_text(relay), now)
        else:
            self._routes[lane] = relay
            self.questions.add(lane.domain, ROUTED, relay_text(relay))

    def _follow_smtp_route(self, lane: "Lane", smtp_route: "SmtpRoute", now: float) -> None:
        _, name, relay = smtp_route
        if name:
            self.questions.add(lane.domain, ROUTED, relay)
        else:
            self._follow(lane, relay, now)

    def _need_relay(self, lane: "Lane", relay: "Relay", now: float) -> None:
        """A relay takes the mail of a domain whose hosts fail: ask where it is, once for all domains."""
        if is_address(relay[0]):
            self._follow(lane, relay_text(relay), now)
            return
        key = RELAY_KEY + relay_text(relay)
        if key not in self._relays:
            self._relays[key] = relay, {}
            self.questions.add(key, ROUTED, relay_text(relay))
        self._relays[key][1][lane] = None

    def _found_relay(self, key: bytes, hosts: "Hosts", ttl: float, now: float) -> None:
        self.questions.note_answer(key)
        relay, lanes = self._relays.pop(key)
        self._relay_troubles.pop(key, None)
        for lane in lanes:
            lane.is_asked, lane.trouble = False, b""
            if lane.relay != relay:
                self.need(lane, now)
                continue
            lane.known_until, lane.answered_at = now + min(max(ttl, LEAST_SECONDS), MOST_SECONDS), now
            self._ways.attach(lane, site_key(hosts, *relay), hosts, relay[1], relay[0], now)
            if not lane.left:
                self._ways.may_forget(lane)

    def _no_relay(self, key: bytes, why: bytes, now: float) -> None:
        """Nobody knows where a relay is: what it would take goes on waiting, whatever the name servers say."""
        self.questions.note_answer(key)
        relay, lanes = self._relays.pop(key)
        if self._relay_troubles.get(key) != why:
            self._relay_troubles[key] = why
            self._core.log.relay_unknown(relay_text(relay), why)
        for lane in lanes:
            lane.is_asked, lane.trouble, lane.known_until = False, why, now + ASK_SECONDS
            self._core.timers.at(now + ASK_SECONDS, self._ask_relay_again, lane)
            if not lane.left:
                self._ways.may_forget(lane)

    def _ask_relay_again(self, lane: "Lane", now: float) -> None:
        if lane.home is not None and lane.home.fallback is lane and lane.known_until <= now:
            self.need(lane, now)

    def _ask_hosts(self, lane: "Lane", now: float) -> None:
        if lane.domain[:1] == b"[":
            if not self._is_held(lane, now):
                self._order(lane.domain, lane)  # nobody is asked, nothing is waited for
        elif lane.door is not None or lane.parts is not None:
            self.questions.add(lane.domain, KNOWN)
        else:
            self.questions.add(lane.domain, FAILING if self._faults.is_known_to_fail(lane.domain) else STRANGE)

    def ask(self, now: float) -> None:
        """Order what may be asked now."""
        while (domain := self.questions.next_domain(now)) is not None:
            lane = self._ways.find(domain)
            if lane is not None and self._is_held(lane, now):
                self.questions.note_answer(domain)
            else:
                self._order(domain, lane)

    def _order(self, domain: bytes, lane: "Lane | None") -> None:
        route = self._routes.get(lane) if lane is not None else None
        if domain in self._relays:
            route = self._relays[domain][0]
        self._core.orders.append((RESOLVE, domain) if route is None else (RESOLVE, domain, route))

    def _is_held(self, lane: "Lane", now: float) -> bool:
        """Return whether a rule holds the mail of a domain; then it is asked about when that is over."""
        until = self._core.rules.for_site(lane.domain).held_until
        seconds = until - self._core.clock.date(now)
        if seconds <= 0:
            return False
        self._routes.pop(lane, None)
        lane.is_asked, lane.trouble = False, b""
        lane.known_until = now + min(seconds, LEAST_SECONDS)
        if until < FOR_EVER and self._held.get(lane) != until:
            self._held[lane] = until
            self._core.timers.at(now + seconds, self._hold_is_over, lane)
        return True

    def _hold_is_over(self, lane: "Lane", now: float) -> None:
        self._held.pop(lane, None)
        if lane.left and self._ways.find(lane.domain) is lane:
            self.need(lane, now)

    def resolved(
        self, domain: bytes, hosts: "Hosts", ttl: float, is_stale: bool, where: tuple[int, bytes, bool], now: float
    ) -> None:
        """where: port, route, is_ours as the Engine's."""
        port, route, is_ours = where
        if domain in self._relays:
            self._found_relay(domain, hosts, LEAST_SECONDS if is_stale else ttl, now)
            return
        lane = self._answered(domain)
        if lane is None:
            return
        written = self._routes.pop(lane, None)
        self._faults.found(domain)
        if is_stale:
            self._is_silent(domain, now)
        else:
            self._has_answered(domain, now)
        lane.trouble = b""
        if self._ways.fallbacks is not None:
            self._ways.fallbacks.note_ours(lane, is_ours)
        by_hosts = None if route or written is not None else self._route_of_hosts(lane, hosts)
        if by_hosts is not None and by_hosts[0]:
            lane.is_asked = True
            self._ask_relay(lane, by_hosts, now)
            return
        port = by_hosts[1] if by_hosts is not None else port
        lane.known_until = now + (LEAST_SECONDS if is_stale else min(max(ttl, LEAST_SECONDS), MOST_SECONDS))
        lane.answered_at = now
        key = site_key(hosts, route, port)
        self._ways.attach(lane, key, hosts, port, route, now)

    def _route_of_hosts(self, lane: "Lane", hosts: "Hosts") -> "Relay | None":
        """Return the route= that a line of these MX hosts has for a lane, None without one that counts."""
        if not self._core.obeys_routes:
            return None
        addresses = [address for _, _, some in hosts for address in some]
        policy = self._core.rules.for_site(lane.domain, [name for _, name, _ in hosts], addresses)
        if policy.route is None:
            return None
        return written_route(policy, self._route_of(lane.domain) if self._route_of is not None else None)

    def _follow(self, lane: "Lane", relay: bytes, now: float) -> None:
        """A lane's mail goes to an address: nobody is asked."""
        host, _, port = relay.rpartition(b":")
        host = host.removeprefix(b"[").removesuffix(b"]")
        lane.is_asked = False
        lane.known_until, lane.answered_at = now + LEAST_SECONDS, now
        hosts = [(0, host, [host])]
        self._ways.attach(lane, site_key(hosts, relay, int(port)), hosts, int(port), host, now)

    def nowhere(self, domain: bytes, outcome: "Outcome", now: float) -> None:
        if domain in self._relays:
            self._no_relay(domain, outcome.text, now)
            return
        lane = self._answered(domain)
        if lane is None:
            return
        effects = blame.blame_lookup(Facts(outcome)).effects
        if t.WAIT_LANE in effects:
            if not self._is_held(lane, now):
                self._wait(lane, outcome.text, now)
            return
        self._has_answered(domain, now)
        if self._is_held(lane, now):
            return
        is_final = t.FAIL_LANE in effects or self._faults.missing(domain, now)
        self._routes.pop(lane, None)
        self._store.end_lane(lane, Outcome((b"D" if is_final else b"Z") + outcome.text, LOOKUP, host=domain), now)
        lane.known_until = 0.0
        self._ways.detach(lane, now)

    def trouble(self, domain: bytes, reason: bytes, now: float) -> None:
        if domain in self._relays:
            self._no_relay(domain, reason, now)
            return
        lane = self._answered(domain)
        if lane is not None and not self._is_held(lane, now):
            self._wait(lane, reason, now)

    def _has_answered(self, domain: bytes, now: float) -> None:
        """A name server has answered.  If the resolver was in doubt, all that waits for it is asked about again."""
        before = self._guard.state
        if self._guard.answered(domain, now) != before:
            self._answered_at = now
            self._tell()
            for lane in list(self._in_trouble):
                self._ask_now(lane, now)

    def _is_silent(self, domain: bytes, now: float) -> bool:
        """A question had no answer.  Return whether that is the resolver's fault."""
        before = self._guard.state
        if self._guard.failed(domain, now) != before:
            self._tell()
            self._faults.forget_troubles()
            for lane in list(self._in_trouble):
                self._ask_at(lane, now + ASK_SECONDS)
        return self._guard.state != OK

    def _tell(self) -> None:
        for line in self._guard.log_lines():
            self._core.log.add(line)

    def _wait(self, lane: "Lane", reason: bytes, now: float) -> None:
        """Nothing is known now: ask again later; what is known already goes on."""
        self._routes.pop(lane, None)
        is_its_own = False
        if self._is_silent(lane.domain, now):
            seconds = ASK_SECONDS
        elif now - self._answered_at <= QUESTION_SECONDS:
            seconds = LATE_SECONDS  # it was asked while the resolver was silent
        else:
            seconds, is_its_own = self._faults.trouble(lane.domain, now), True
        lane.trouble = reason
        lane.is_asked = True  # nobody asks before
        self._ask_at(lane, now + seconds)
        if is_its_own and lane.door is None and self._ways.fallbacks is not None:
            self._ways.fallbacks.names_failed(lane, now)

    def _ask_at(self, lane: "Lane", when: float) -> None:
        if when < self._in_trouble.get(lane, FOREVER):
            lane.known_until = self._in_trouble[lane] = when
            self._core.timers.at(when, self._ask_again, lane)

    def _ask_again(self, lane: "Lane", now: float) -> None:
        if self._in_trouble.get(lane, FOREVER) <= now:
            self._ask_now(lane, now)  # else it was asked about before its time

    def _ask_now(self, lane: "Lane", now: float) -> None:
        del self._in_trouble[lane]
        lane.is_asked = False
        if self._ways.find(lane.domain) is not lane:
            return
        if lane.left or lane.fallback is not None:
            self.need(lane, now)
        else:
            self._ways.may_forget(lane)

    def _answered(self, domain: bytes) -> "Lane | None":
        self.questions.note_answer(domain)
        lane = self._ways.find(domain)
        if lane is not None:
            lane.is_asked = False
            if not lane.left:
                self._ways.may_forget(lane)
        return lane
