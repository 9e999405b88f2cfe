"""The table of a service's states as text, for the manual."""

from pyqmail.supervise.service import NEXT, SIGNALS, STATES, Choice

_CASES = ("leaving", "again", "")  # of a Choice, in its order


def diagram() -> str:
    """Return a paragraph for each state: the events, the next state, the orders; equal outcomes on one line."""
    return "\n\n".join(filter(None, map(_paragraph, STATES)))


def _paragraph(state):
    lines = []
    for (place, event), outcome in NEXT.items():
        if place != state:
            continue
        outcomes = zip(_CASES, outcome.all(), strict=True) if isinstance(outcome, Choice) else [("", outcome)]
        name = event.decode() if isinstance(event, bytes) else event
        for case, (following, orders) in _merged(list(outcomes)):
            lines.append((f"{name}, {case}" if case else name, following, " ".join(orders)))
    if not lines:
        return ""
    rows = _collected(lines)
    return "\n".join(
        f"    {state if at == 0 else '':10} {events:17} -> {following:10} {orders}".rstrip()
        for at, (events, following, orders) in enumerate(rows)
    )


def _merged(outcomes):
    """Leave out a case that makes no difference."""
    while len(outcomes) > 1 and outcomes[-2][1] == outcomes[-1][1]:
        del outcomes[-2]
    return outcomes


def _collected(lines):
    """Return (events, next state, orders): commands with the same outcome share a row."""
    rows = {}
    for name, following, orders in lines:
        if orders == SIGNALS.get(name.encode()):
            orders = "that signal"
        key = (following, orders) if len(name) == 1 else (following, orders, name)
        rows.setdefault(key, []).append(name)
    return [(" ".join(names), key[0], key[1]) for key, names in rows.items()]
