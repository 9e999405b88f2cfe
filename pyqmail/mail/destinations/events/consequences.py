"""What follows from an event by the table of blame: penalties, pauses, limits that are learned.

The effects that speak of recipients or of the session itself are obeyed where the event comes in; these here change
what is remembered of hosts, sites, organisations and flows.  With `learn=no` no limit is learned: a host that refuses
is off then, as one that fails is, so that it is not asked again at once.
Source of the table: mail/destinations/faults/blame.py
"""

from pyqmail.mail.destinations.faults import table as t
from pyqmail.mail.destinations.faults.flow_faults import FlowFaults, SoftBlock
from pyqmail.mail.destinations.faults.refusals import OrganisationRefusals
from pyqmail.mail.destinations.limits.budgets import Pause
from pyqmail.mail.destinations.limits.rates import LearnedRate
from pyqmail.mail.destinations.limits.windows import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.doors import Door
    from pyqmail.mail.destinations.events.site_faults import SiteFaults
    from pyqmail.mail.destinations.faults.table import Facts, Row
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.log import EngineLog
    from pyqmail.mail.destinations.sessions import DeliverySession

_REFUSALS = {t.CEILING_REACHED, t.RATE_REACHED, t.HOST_CEILING}
_LEARNING = {t.LEARN_MESSAGES, t.LEARN_CLOSE, t.LEARN_STATED, t.LEARN_RECIPIENTS, *_REFUSALS}


class Event:
    """What has happened, to which session of which door; flow and accepted are of a delivery."""

    __slots__ = ("door", "session", "facts", "flow", "accepted")

    def __init__(
        self,
        door: "Door",
        session: "DeliverySession | None",
        facts: "Facts",
        flow: bytes = b"",
        accepted: int = 0,
    ) -> None:
        self.door, self.session, self.facts, self.flow, self.accepted = door, session, facts, flow, accepted


class Consequences:
    """apply() carries out the effects of a row that it knows."""

    def __init__(
        self, core: "Core", log: "EngineLog", recount: "Callable[[Door, float], None]", site_faults: "SiteFaults"
    ) -> None:
        self._core, self._log, self._recount, self._site_faults = core, log, recount, site_faults
        self._effects: dict[str, Callable[[Event, float], None]] = {
            t.PENALTY: self._penalise,
            t.PENALTY_LATER: self._penalise_later,
            t.HOST_CEILING: self._learn_host_ceiling,
            t.LEARN_MESSAGES: self._learn_messages,
            t.LEARN_CLOSE: self._learn_close,
            t.LEARN_STATED: self._learn_stated,
            t.LEARN_RECIPIENTS: self._learn_recipients,
            t.CEILING_REACHED: self._learn_ceiling,
            t.RATE_REACHED: self._learn_rate,
            t.PAUSE: self._pause,
            t.PAUSE_BLOCKED: self._pause_blocked,
            t.COUNT_START: self._count_start,
            t.COUNT_FLOW: self._count_flow,
            t.COUNT_BLOCK: self._count_block,
            t.LOG_DOUBT: self._log_doubt,
        }

    def apply(self, row: "Row", event: Event, now: float) -> None:
        learns = getattr(event.door.policy, "learns", False)
        for effect in row.effects:
            action = self._effects.get(effect)
            if not learns and effect in _LEARNING:
                action = self._penalise if effect in _REFUSALS else None
            if action is not None:
                if effect in _LEARNING:
                    event.door.site.learn()
                action(event, now)

    def pause(self, budget: "Budget", pause: Pause, text: bytes, now: float) -> None:
        """No new session of a budget for a while; said if it is new."""
        pause.text = text
        if budget.pause(pause):
            budget.be_cautious(True)
            self._log.paused(budget, pause, now)
            if budget.key is not None and budget.key[2]:
                self._core.shut_budgets.append(budget)
            self._core.admission.changed(budget, now)

    # hosts

    def _penalise(self, event: Event, now: float) -> None:
        host = event.facts.outcome.host or (event.session.host if event.session else b"")
        if host and event.session is not None:
            self._put_off(host, event.session, now)

    def put_off_refusers(self, session: "DeliverySession", now: float) -> None:
        """The hosts that refused the connection are off."""
        for host in session.refusers:
            self._put_off(host, session, now)

    def _put_off(self, host: bytes, session: "DeliverySession", now: float) -> None:
        seconds = self._core.hosts.failed(host, session.opened_at, now)
        if seconds:
            self._log.host_off(host, seconds)

    def _penalise_later(self, event: Event, now: float) -> None:
        if event.session is not None and event.facts.outcome.host:
            event.session.refusers[event.facts.outcome.host] = None

    def _learn_host_ceiling(self, event: Event, now: float) -> None:
        if event.facts.here_up:
            self._core.hosts.refused(event.facts.outcome.host, event.facts.here_up, now)
        else:
            self._penalise(event, now)

    # what a site shows

    def _learn_messages(self, event: Event, now: float) -> None:
        if event.door.site.messages.refused(event.facts.carried):
            self._log.learned(event.door, b"messages a session", event.facts.carried)

    def _learn_close(self, event: Event, now: float) -> None:
        if event.door.site.messages.closed(event.facts.carried):
            self._log.learned(event.door, b"messages a session", event.facts.carried)

    def _learn_stated(self, event: Event, now: float) -> None:
        if event.door.site.messages.stated(event.facts.carried):
            self._log.learned(event.door, b"messages a session", event.facts.carried)

    def _learn_recipients(self, event: Event, now: float) -> None:
        if event.door.site.recipients.refused(event.accepted):
            self._log.learned(event.door, b"recipients a message", event.accepted)
            for door in event.door.site.doors.values():
                self._recount(door, now)

    # ceilings and rates

    def _learn_ceiling(self, event: Event, now: float) -> None:
        door, facts = event.door, event.facts
        organisation, source = door.site.organisation, door.source.address if door.source else b""
        if organisation.name and len(organisation.doors) > 1:
            refusals = organisation.refusals.get(source)
            if refusals is None:
                refusals = OrganisationRefusals()
                organisation.refusals = {**organisation.refusals, source: refusals}
            if refusals.refused(door.site.key, now):
                up = sum(sum(one.up.values()) for one in organisation.doors if one.address == door.address)
                self._refused(self._organisation_budget(door, now), max(0, up), facts, now)
                return
        if door.site_budget is not None and door.site_budget.window is not None:
            self._refused(door.site_budget, facts.others_up, facts, now)
            if 0 < facts.others_up < door.site_budget.window.floor:
                self._penalise(event, now)  # nothing lower may be learned; and it is not asked again at once

    def _refused(self, budget: "Budget", others_up: int, facts: "Facts", now: float) -> None:
        assert budget.window is not None
        window = budget.window = budget.window.own()
        before = window.ceiling, window.closed_until
        pause = window.refused(now, others_up, self._core.random)
        budget.refresh(now)
        text = facts.outcome.text
        if pause is not None:
            self.pause(budget, pause, text, now)
        elif (window.ceiling, window.closed_until) != before:
            budget.learned_owner = text
            self._log.ceiling(budget, window, text, now)
            self._core.admission.changed(budget, now)

    def _organisation_budget(self, door: "Door", now: float) -> "Budget":
        """Return the budget of a door's organisation, with a window that has learned nothing but that it is alive."""
        budget = self._core.budgets.organisation_of(door.site.organisation, door.source.address if door.source else b"")
        if budget.window is None:
            window = budget.window = Window(max(1, budget.limit))
            window.greeted_at = now
        return budget

    def _learn_rate(self, event: Event, now: float) -> None:
        rule, door = event.facts.rule, event.door
        if rule is not None and rule.scope == "org" or door.site_budget is None:
            budget = self._source_organisation(door)
        else:
            budget = door.site_budget
        rate = self._core.learned_rates.get(budget)
        if rate is None:
            rate = self.rate_of(budget)
            rate.accepted(now, sum(_accepted_lately(one, now) for one in self._doors_of(budget, door)))
        before = rate.rate
        seconds = rate.refused(now)
        if seconds:
            budget.use_rates(budget.connect_rates, budget.recipient_rates)
            self.pause(budget, Pause(now + seconds, b"rate"), event.facts.outcome.text, now)
        if rate.rate != before:
            self._log.rate(budget, rate, now)

    def _doors_of(self, budget: "Budget", door: "Door") -> "list[Door]":
        """Return the doors whose mail a budget counts, a site's or an organisation's: one of each site."""
        if budget is door.site_budget:
            return [door]
        return list({one.site: one for one in door.site.organisation.doors if one.address == door.address}.values())

    def rate_of(self, budget: "Budget") -> LearnedRate:
        """Return what learns the rate of a budget."""
        rate = self._core.learned_rates.get(budget)
        if rate is None:
            written = [one for one in budget.recipient_rates if one.interval]
            rate = LearnedRate(min((1 / one.interval for one in written), default=0.0))
            self._core.learned_rates[budget] = rate
            self._core.budgets.learned_gcras[rate.gcra] = None
            budget.use_rates(budget.connect_rates, (*budget.recipient_rates, rate.gcra))
        return rate

    # pauses

    def _source_organisation(self, door: "Door") -> "Budget":
        """Return the budget of a door's organisation by its source; the site's where it has none."""
        source = door.source.address if door.source else b""
        if door.site.organisation.name:
            return self._core.budgets.organisation_of(door.site.organisation, source)
        assert door.site_budget is not None
        return door.site_budget

    def _pause(self, event: Event, now: float) -> None:
        rule, door = event.facts.rule, event.door
        assert rule is not None
        if rule.scope == "flow":
            self._log.flow_paused(event.flow, door, rule.seconds)
            self._flow_faults(door).pause(event.flow, now + rule.seconds)
            self._site_faults.hold_flow(door.site.organisation, event.flow, now)
            return
        budget = door.site_budget if rule.scope == "site" else self._source_organisation(door)
        if budget is not None:
            self.pause(budget, Pause(now + rule.seconds, b"rule %d" % rule.line), event.facts.outcome.text, now)

    def _pause_blocked(self, event: Event, now: float) -> None:
        door = event.door
        seconds = min(t.BLOCKED_SECONDS * 2.0 ** min(door.blocks, 20), t.MAX_BLOCKED_SECONDS)
        door.blocks += 1
        if door.site_budget is not None:
            self.pause(door.site_budget, Pause(now + seconds, b"blocked"), event.facts.outcome.text, now)

    def _count_start(self, event: Event, now: float) -> None:
        budget = event.door.site_budget
        if budget is None or budget.window is None:
            if event.session is not None:
                self.put_off_refusers(event.session, now)  # nobody counts the starts: `learn=no`
            return
        was_dead = budget.window.dead_since is not None
        budget.window = budget.window.own()
        pause = budget.window.failed(now, event.facts.others_up, self._core.random)
        budget.refresh(now)
        if pause is not None and budget.pause(pause):
            if not was_dead:
                self._log.dead(event.door, budget.window, event.facts.outcome)
            self._core.admission.changed(budget, now)

    # flows and soft blocks

    def _flow_faults(self, door: "Door") -> FlowFaults:
        organisation = door.site.organisation
        if organisation.flow_faults is None:
            organisation.flow_faults = FlowFaults()
        return organisation.flow_faults

    def _count_flow(self, event: Event, now: float) -> None:
        seconds = self._flow_faults(event.door).deferred(event.flow, now)
        if seconds:
            self._log.flow_paused(event.flow, event.door, seconds)
            self._site_faults.hold_flow(event.door.site.organisation, event.flow, now)

    def _count_block(self, event: Event, now: float) -> None:
        site = event.door.site
        if site.soft_block is None:
            site.soft_block = SoftBlock()
        if site.soft_block.deferred(event.facts.outcome.code, event.flow, now):
            self._log.soft_blocked(site, site.soft_block.code)
            self._site_faults.block(site, now)

    def _log_doubt(self, event: Event, now: float) -> None:
        self._log.doubtful(event.facts.outcome)


def _accepted_lately(door: "Door", now: float) -> int:
    budget = door.site_budget
    return budget.window.accepted_lately(now) if budget is not None and budget.window is not None else 0
