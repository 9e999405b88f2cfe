"""What is learned of mail that was accepted: windows, rates, greylists, that a block is over."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.mail_store import MailStore
    from pyqmail.mail.destinations.sessions import DeliverySession


class Learning:
    """accepted() for each recipient that a server accepted."""

    def __init__(self, core: "Core", store: "MailStore") -> None:
        self._core, self._store = core, store

    def accepted(self, session: "DeliverySession", parcel: int, now: float) -> None:
        core = self._core
        for budget in session.units:
            window = budget.window
            if window is not None and window.is_shared:
                window = budget.window = window.own()
            if window is not None and window.accepted(now, budget.used, budget.limit):
                self._grow(budget, now)
            if budget.is_cautious and session.opened_at >= budget.paused_until:
                budget.be_cautious(False)
                core.admission.changed(budget, now)
            if core.learned_rates:
                rate = core.learned_rates.get(budget)
                if rate is not None and rate.accepted(now):
                    budget.use_rates(budget.connect_rates, budget.recipient_rates)
                    core.log.rate(budget, rate, now)
        site = session.door.site
        if self._store.grey_since and parcel in self._store.grey_since:
            since = self._store.grey_since.pop(parcel)
            if site.bracket is not None and core.clock.second(now) > since:
                site.bracket.accepted(core.clock.second(now) - since)
        if site.soft_block is not None:
            self._unblock(session, now)
        faults = site.organisation.flow_faults
        if faults is not None:
            flow = core.senders.name(core.rows.m_sender[core.rows.p_message[parcel]])
            faults.accepted(flow, not core.rows.p_tries[parcel])
            if faults.is_idle:
                site.organisation.flow_faults = None

    def greeted(self, session: "DeliverySession", now: float) -> None:
        """A server has greeted, or an agent that connects by itself has had an answer."""
        door = session.door
        door.attempts = door.blocks = 0
        for budget in session.units:
            window = budget.window
            if window is not None and window.is_shared:
                window = budget.window = window.own()
            if window is not None and window.greeted(now, max(0, sum(door.up.values()) - session.is_up), budget.limit):
                budget.refresh(now)
                self._core.admission.changed(budget, now)

    def _grow(self, budget: "Budget", now: float) -> None:
        """A window is larger by one."""
        assert budget.window is not None
        size = int(budget.window.size)
        budget.refresh(now)
        self._core.log.window(budget, size - 1, size, now)
        self._core.admission.changed(budget, now)

    def _unblock(self, session: "DeliverySession", now: float) -> None:
        site = session.door.site
        assert site.soft_block is not None
        if site.soft_block.accepted():
            self._core.log.soft_block_over(site)
            self._core.released.append(site)
        if site.soft_block.is_idle():
            site.soft_block = None
