"""What a budget has learned as a record of the state file, and back: monotonic times are dates there."""

from pyqmail.mail.destinations.limits.budgets import FOREVER, NEVER, UNLIMITED, Budget, Pause
from pyqmail.mail.destinations.limits.rates import LearnedRate
from pyqmail.mail.destinations.state_file import BudgetRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.limits.windows import Window

_COUNTS = "ceiling", "step", "refusals", "failures", "probes"  # of a window, under the same name
_LEARNED = "ceiling", "refusals", "failures", "probes", "dead_since"  # what else a window may know
_TIMES = (("closed_until", "closed"), ("greeted_at", "greeted"), ("failed_at", "failed"), ("idle_until", "idle"))


def budget_record(
    key: tuple[bytes, bytes, bytes], budget: Budget, rate: LearnedRate | None, now: float, date: float
) -> BudgetRecord | None:
    """Return the record of a budget; None: it has learned nothing, and is not paused.

    key: scope, thing and source.  It was last seen now; who knows better says so in the record.
    """
    window = budget.window
    learned = window is not None and (window.greeted_at != NEVER or any(getattr(window, name) for name in _LEARNED))
    cap = budget.learned if window is None else None
    if not learned and budget.paused_until <= now and not (rate is not None and rate.rate) and cap is None:
        return None
    record = BudgetRecord(*key)
    record.name, record.seen, record.learned_owner, record.cap = budget.name, date, budget.learned_owner, cap or 0
    if FOREVER > budget.paused_until > now:
        record.paused = date + budget.paused_until - now
        record.reason, record.text = budget.pause_reason, budget.pause_text
    if window is not None:
        _write_window(record, window, date - now)
    if rate is not None and rate.rate:
        record.rate, record.bad_rate, record.refused = rate.rate, rate.bad_rate, max(0, rate.refused_at + date - now)
    return record


def restore_budget(budget: Budget, rate: LearnedRate | None, record: BudgetRecord, now: float, date: float) -> None:
    """Give a budget, its window and its rate what a record says.  Without them that part is left."""
    window = budget.window
    budget.learned_owner = record.learned_owner
    if window is not None and record.size:
        window = budget.window = window.own()
        _read_window(window, record, date - now)
        budget.refresh(now)
    elif window is None and record.cap:
        budget.learned = record.cap
    if record.paused > date:
        budget.pause(Pause(now + record.paused - date, record.reason, record.text))
        budget.be_cautious(True)
    if rate is not None and record.rate:
        rate.restore(record.rate, record.bad_rate, record.refused - (date - now))


def _write_window(record: BudgetRecord, window: "Window", offset: float) -> None:
    for name in _COUNTS:
        setattr(record, name, getattr(window, name))
    for name, field in _TIMES:
        setattr(record, field, max(0.0, getattr(window, name) + offset))
    record.size, record.closed_seconds = window.size, window.closed_seconds
    record.threshold = window.threshold if window.threshold < UNLIMITED else 0
    record.dead_since = window.dead_since + offset if window.dead_since is not None else 0


def _read_window(window: "Window", record: BudgetRecord, offset: float) -> None:
    for name in _COUNTS:
        setattr(window, name, getattr(record, name))
    for name, field in _TIMES:
        when = getattr(record, field)
        setattr(window, name, when - offset if when else NEVER)
    window.size, window.closed_seconds = max(1.0, record.size), max(1.0, record.closed_seconds)
    window.step = max(1, record.step)
    window.threshold = record.threshold or FOREVER
    window.dead_since = record.dead_since - offset if record.dead_since else None
