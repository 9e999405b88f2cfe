"""What must be true of an engine after each event, by brute force: properties P1 to P6 and P9 of the specification."""

from bench.destinations.world import FLIES, WAITS, World
from pyqmail.mail.destinations.events.openings import HOSTS_OFF, is_dead
from pyqmail.mail.destinations.events.site_faults import SOFT_BLOCKED
from pyqmail.mail.destinations.outcome import DOUBTFUL, MESSAGE
from pyqmail.mail.destinations.retry import LOCAL_CONSTANT, REMOTE_CONSTANT, retry_time
from pyqmail.mail.destinations.scheduling.core import IN_FLIGHT, ON_WHEEL
from pyqmail.mail.destinations.sessions import CONNECTING, IDLE, OPENED
from pyqmail.mail.destinations.waiting.rows import IS_STRUCK

BUSY = b"451 4.2.1 mailbox busy"
MOST_REBUFFS = 20  # of one address in a minute: a door that opens as many sessions at once
OWN_PAUSES = (HOSTS_OFF, SOFT_BLOCKED)  # begun by the opening itself, for those that follow


class CheckedWorld(World):
    """A world that checks its engine after each event."""

    def __init__(self, *arguments, **words):
        self.used, self.earliest, self.rebuffs, self.doubts = {}, {}, {}, {}
        super().__init__(*arguments, **words)
        self.after_each.append(CheckedWorld.check)

    @property
    def core(self):
        return self.engine._core

    def budgets(self):
        table = self.core.budgets
        return [table.total, table.unproven, *(budget for _, budget in table.all_budgets())]

    def lanes(self):
        """Return all lanes, those of one source among them."""
        return list(dict.fromkeys(self.engine._ways.lanes))

    def doors(self):
        return list(dict.fromkeys(lane.door for lane in self.lanes() if lane.door is not None))

    def check(self):
        self.check_budgets()
        self.check_doors()
        self.check_parcels()

    def check_budgets(self):
        """P1: none is above its cap, but for what was up when that was lowered.  P2: none is below 0."""
        used = {}
        for budget in self.budgets():
            assert budget.used >= 0, budget.name
            assert budget.used <= max(budget.cap, self.used.get(id(budget), 0)), (budget.name, budget.used, budget.cap)
            used[id(budget)] = budget.used
        self.used = used

    def check_doors(self):
        """P3: no door that wants has all its budgets free.  And what a door counts is so."""
        now = self.clock.now
        for door in self.doors():
            sessions = [session for session in self.engine._openings.sessions.all() if session.door is door]
            states = [session.state for session in sessions]
            counts = states.count(CONNECTING), states.count(OPENED) + states.count(IDLE), len(states)
            if self.core.has_sessions:
                assert (door.connecting, door.working, door.sessions) == counts, door.site.name
            if not door.wants or self.core.is_stopped:
                continue
            blocked = [budget for budget in door.chain if not budget.is_free(now)]
            places = door.place if isinstance(door.place, tuple) else ()
            assert blocked or (places and not any(budget.is_free(now) for budget in places)), (
                f"{door.site.name} wants a session, and nothing is in its way"
            )

    def check_parcels(self):
        """P4: each parcel is in one place."""
        rows = self.core.rows
        live = [
            row for row in range(1, len(rows.p_message)) if rows.p_message[row] and not rows.p_flags[row] & IS_STRUCK
        ]
        assert len(live) == rows.parcel_count
        places = dict.fromkeys(("ready", "wheel", "flies"), 0)
        for parcel in live:
            flags = rows.p_flags[parcel]
            assert flags & (IN_FLIGHT | ON_WHEEL) != IN_FLIGHT | ON_WHEEL
            places["flies" if flags & IN_FLIGHT else "wheel" if flags & ON_WHEEL else "ready"] += 1
        ready = sum(lane.queue.parcels for lane in self.lanes()) + sum(len(door.returned) for door in self.doors())
        assert places["ready"] == ready
        assert rows.recipient_count == sum(state in (WAITS, FLIES) for state in self.states.values())
        assert len(self.in_flight) == sum(state == FLIES for state in self.states.values())

    def _open(self, session, opening):
        super()._open(session, opening)
        self.check_opening(session, opening)

    def _more(self, session, opening):
        super()._more(session, opening)
        if session in self.sessions:
            self.check_opening(session, opening)

    def check_opening(self, number, opening):
        """P1, P6: what the same event has made full, paused or put off is not what it opens a session into."""
        session, now = self.engine._openings.sessions.get(number), self.clock.now
        if session.is_test:
            return
        for budget in (*session.units, *session.tries[opening.address][1]):
            assert budget.used <= budget.cap, f"{budget.name}: {budget.used} of {budget.cap}, and one more is opened"
            is_paused = budget.paused_until > now and budget.pause_reason not in OWN_PAUSES
            assert not is_paused, f"{budget.name} is paused ({budget.pause_reason}), and a session is opened"
        host = self.core.hosts.known(opening.host)
        if host is not None and host.penalty and not is_dead(session.door):
            assert host.penalised_at < now or host.penalty > 1, f"{opening.host} has just failed, and is tried"

    def report(self, event, *arguments):
        """P9: a session that could not be opened changes no parcel's time."""
        before = self.due_times()
        session = self.engine._openings.sessions.get(arguments[0]) if event in ("refused", "failed") else None
        super().report(event, *arguments)
        if event in ("refused", "failed"):
            assert self.due_times() == before
            if session is not None and not session.is_test:
                self.count_rebuff(arguments[1].address)

    def count_rebuff(self, address):
        """A server that takes nothing is not asked again and again."""
        times = self.rebuffs.setdefault(address, [])
        times.append(self.clock.now)
        assert len(times) <= MOST_REBUFFS or times[-MOST_REBUFFS - 1] < self.clock.now - 60, f"{address} is hammered"

    def due_times(self):
        rows = self.core.rows
        return {
            row: rows.p_due[row]
            for row in range(1, len(rows.p_message))
            if rows.p_message[row] and rows.p_flags[row] & ON_WHEEL
        }

    def _ended(self, number, offset, letter, outcome):
        super()._ended(number, offset, letter, outcome)
        if letter == b"Z" and (self.is_local or outcome.stage == MESSAGE and BUSY in outcome.text):
            date = int(self.clock.date)
            due = retry_time(self.mail[number].birth, date, LOCAL_CONSTANT if self.is_local else REMOTE_CONSTANT)
            self.earliest[number, offset] = self.clock.now + due - date

    def _report(self, number, recipients, outcome):
        """P5: what nobody has reported may have been delivered; the log says so before it is tried again."""
        super()._report(number, recipients, outcome)
        if outcome.stage == DOUBTFUL:
            for _, offset in recipients:
                self.doubts[number, offset] = len(self.log)

    def _deliver(self, session, number, recipients):
        """P6: nothing is delivered before its time; nor over a session that was opened in a pause (check_opening)."""
        for _, offset in recipients:
            earliest = self.earliest.get((number, offset), 0.0)
            assert self.clock.now >= earliest - 1.0, f"{number}, {offset}: {earliest - self.clock.now} s too early"
            seen = self.doubts.pop((number, offset), None)
            if seen is not None:
                assert any(b"possibly delivered" in line for _, line in self.log[seen:]), (
                    f"{number}, {offset}: no doubt"
                )
        super()._deliver(session, number, recipients)

    def check_end(self):
        """P2: all counters are 0; P4: nothing is left of the mail."""
        assert self.left == 0
        assert not self.sessions and not self.in_flight
        for budget in self.budgets():
            assert budget.used == 0, (budget.name, budget.used)
        rows = self.core.rows
        assert (rows.message_count, rows.parcel_count, rows.recipient_count) == (0, 0, 0)
        assert all(mail.done for mail in self.mail.values())
