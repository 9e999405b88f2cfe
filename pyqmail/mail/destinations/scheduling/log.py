"""What the log has of the engine: one line for each change, none for each delivery that is held back.

A line of ours never has ` from `, ` to remote ` or ` to local ` in it: analysers take any such line for one of the
original's.  What a stranger chose stands there by logsafe().
"""

from pyqmail.base.printable import logsafe
from pyqmail.mail.destinations.limits.budgets import DOMAIN, ORGANISATION, SHARED, SOURCE, TOTAL, UNPROVEN
from pyqmail.mail.destinations.rules.describe import numbers_text
from pyqmail.mail.destinations.views.advice import line_for, line_for_rate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Door, Site
    from pyqmail.mail.destinations.limits.budgets import Budget, Pause
    from pyqmail.mail.destinations.limits.rates import LearnedRate
    from pyqmail.mail.destinations.limits.windows import Window
    from pyqmail.mail.destinations.outcome import Outcome
    from pyqmail.mail.destinations.rules.policies import Limit, SitePolicy

RATE = "rate of "  # before the kind of a budget: its rates
MAX_TEXT = 200  # bytes of a reply
MAX_LINES = 10_000  # that wait to be written; more are counted only
MAX_SAID = 20_000  # budgets of which it is remembered what was said of them


class EngineLog:
    """Lines, until they are taken."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._left_out = 0
        self._windows: dict[Budget, tuple[float, int]] = {}  # when a line spoke of it, and the window it told
        self._said: dict[tuple[str, bytes], None] = {}  # kind and name of a budget

    def take(self) -> list[bytes]:
        lines, self._lines = self._lines, []
        if self._left_out:
            lines.append(b"scheduler: lines left out: %d" % self._left_out)
            self._left_out = 0
        return lines

    def add(self, line: bytes) -> None:
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        else:
            self._left_out += 1

    def opened(self, door: "Door", seconds: float) -> None:
        self.add(b"site %b: open%b: greeting %.3f s" % (logsafe(door.site.name), _by(door), seconds))

    def window(self, budget: "Budget", before: int, after: int, now: float) -> None:
        """At most one line a site and second; the next one begins where it ended."""
        when, told = self._windows.get(budget, (now - 1.0, before))
        if now - when >= 1.0 and told != after:
            self._windows.pop(budget, None)
            self._windows[budget] = now, after
            if len(self._windows) > MAX_SAID:
                del self._windows[next(iter(self._windows))]
            self.add(b"%b: window %d to %d" % (_name(budget), told, after))

    def ceiling(self, budget: "Budget", window: "Window", text: bytes, now: float) -> None:
        seconds = max(0, window.closed_until - now)
        self.add(b"%b: ceiling %d for %d: %b" % (_name(budget), window.ceiling, seconds, _said(text)))

    def paused(self, budget: "Budget", pause: "Pause", now: float) -> None:
        line = b"%b: paused %d: %b" % (_name(budget), pause.until - now, logsafe(pause.reason))
        self.add(line + b": " + _said(pause.text) if pause.text else line)

    def rate(self, budget: "Budget", rate: "LearnedRate", now: float) -> None:
        self.add(b"%b: rate %.1f a minute" % (_name(budget), 60 * rate.rate))

    def dead(self, door: "Door", window: "Window", outcome: "Outcome") -> None:
        starts = b"%d start%b failed" % (window.failures, b"" if window.failures == 1 else b"s")
        self.add(b"site %b: dead%b: %b: %b" % (logsafe(door.site.name), _by(door), starts, _said(outcome.text)))

    def alive(self, door: "Door", seconds: float, parcels: int) -> None:
        self.add(
            b"site %b: alive%b after %d: %d parcels released" % (logsafe(door.site.name), _by(door), seconds, parcels)
        )

    def host_off(self, host: bytes, seconds: float) -> None:
        self.add(b"host %b: off %d" % (logsafe(host), seconds))

    def learned(self, door: "Door", what: bytes, number: int) -> None:
        self.add(b"site %b: %b: %d" % (logsafe(door.site.name), what, number))

    def flow_paused(self, flow: bytes, door: "Door", seconds: float) -> None:
        place = logsafe(door.site.organisation.name or door.site.name)
        self.add(b"flow %b: paused %d at %b" % (logsafe(flow) or b"<>", seconds, place))

    def soft_blocked(self, site: "Site", code: int) -> None:
        self.add(b"site %b: soft-blocked: %d: one message a minute" % (logsafe(site.name), code))

    def soft_block_over(self, site: "Site") -> None:
        self.add(b"site %b: soft-blocked no more" % logsafe(site.name))

    def doubtful(self, outcome: "Outcome") -> None:
        self.add(b"possibly delivered: %b" % _said(outcome.text))

    def date_set(self, seconds: float) -> None:
        self.add(b"clock: the date was set by %d seconds: what waits keeps its time" % seconds)

    def falls(self, domain: bytes, relay: bytes, why: bytes) -> None:
        self.add(b"domain %b: falls to %b: %b" % (logsafe(domain), logsafe(relay), _said(why) or b"too_old"))

    def comes_back(self, domain: bytes, parcels: int) -> None:
        self.add(b"domain %b: %d parcels come back: its hosts answer" % (logsafe(domain), parcels))

    def relay_unknown(self, relay: bytes, why: bytes) -> None:
        self.add(b"relay %b: not found: %b" % (logsafe(relay), _said(why)))

    def cannot_route(self, policy: "SitePolicy") -> None:
        """Whoever delivers finds hosts by itself: say once of a line that it routes in vain."""
        for key in (b"route", b"fall"):
            line = policy.sources.get(key)
            if line is None or (key.decode(), line.address) in self._said or len(self._said) >= MAX_SAID:
                continue
            self._said[key.decode(), line.address] = None
            place = b"%b line %d" % (line.where.encode(), line.number)
            self.add(b"rules: %b: %b= is not obeyed: the program that delivers finds hosts by itself" % (place, key))

    def held_back(self, budget: "Budget", door: "Door", domain: bytes) -> None:
        """A limit that has a number holds mail to a domain back for the first time: name the line that allows more."""
        key = budget.kind, budget.name
        if key in self._said or len(self._said) >= MAX_SAID or budget.kind in (TOTAL, SHARED, UNPROVEN):
            return
        self._said[key] = None
        line = logsafe(line_for(budget, door, domain))
        self.add(b"%b: full with %d sessions: to allow more write %b" % (_name(budget), budget.limit, line))

    def may_tell_rate(self, budget: "Budget") -> bool:
        """Return whether nothing was said yet of the rates of a budget."""
        return len(self._said) < MAX_SAID and (RATE + budget.kind, budget.name) not in self._said

    def held_back_by_rate(self, budget: "Budget", limit: "Limit | None", door: "Door", domain: bytes) -> None:
        """A rate holds mail to a domain back for the first time; None: no line wrote it, it was learned."""
        self._said[RATE + budget.kind, budget.name] = None
        if limit is None:
            return
        line = logsafe(line_for_rate(limit, budget, door, domain))
        told = numbers_text(limit).encode("ascii", "replace")
        self.add(b"%b: full with %b: to allow more write %b" % (_name(budget), told, line))


def _name(budget: "Budget") -> bytes:
    kind = b"org" if budget.kind == ORGANISATION else budget.kind.encode()
    if budget.kind == DOMAIN and b"@" in budget.name:
        kind = b"recipient"
    source = budget.key[2] if budget.key is not None and budget.kind != SOURCE else b""
    return kind + b" " + logsafe(budget.name) + (b" by " + logsafe(source) if source else b"")


def _by(door: "Door") -> bytes:
    return b" by " + logsafe(door.source.address) if door.source is not None and door.source.address else b""


def _said(text: bytes) -> bytes:
    """Return a reply as it stands in a line: its first part, on one line."""
    return logsafe(text.rstrip(b"\n")[:MAX_TEXT])
