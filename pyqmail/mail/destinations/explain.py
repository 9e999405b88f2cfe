"""What an engine has to say for itself: the shape of its mail, why something waits, who is busy.

All of it is read from the engine's tables, in a moment: it may run in a child that was forked for it.  Nothing is
changed.  The values are what JSON has: a name is text, and a byte of it that is not UTF-8 is a lone surrogate.  The
status wire of pysend carries them; its page says what stands in each dictionary, and in what unit.
"""

from heapq import nlargest, nsmallest
from operator import attrgetter

from pyqmail.mail.destinations.limits.budgets import FOREVER, ORGANISATION
from pyqmail.mail.destinations.relays.routes import relay_text
from pyqmail.mail.destinations.rules.policies import SitePolicy
from pyqmail.mail.destinations.views import parcel_reasons, reasons, tallies
from pyqmail.mail.destinations.views.age_bands import BANDS, add
from pyqmail.mail.destinations.views.day_counts import NAMES
from pyqmail.mail.destinations.views.estimates import seconds_to_go
from pyqmail.mail.destinations.views.limit_texts import limit_of, owner_text, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from pyqmail.mail.destinations.doors import Door, Lane, Organisation
    from pyqmail.mail.destinations.engine import Engine
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.scheduling.core import EngineTables

    Fields = dict[str, Any]
    Group = tuple[bytes, tuple[int, list[Any]]]  # name, recipients, its lanes or the numbers of its senders

DOMAIN, SITE, ORGANISATION_KEY, GROUP, SOURCE, SENDER = "domain", "site", "organisation", "group", "source", "sender"
KEYS = DOMAIN, SITE, ORGANISATION_KEY, GROUP, SOURCE, SENDER
MESSAGE, RECIPIENT = "message", "recipient"
KINDS = MESSAGE, RECIPIENT, DOMAIN
MAX_ENTRIES = 1000
NONE = "-"  # the name of what has none: no site yet, no group, no source of its own


def shape(engines: "Sequence[Engine]", key: str, most: int, now: float, date: float) -> "Fields":
    """Return how much mail waits, by one of KEYS: at most `most` rows, the largest first, and a total.

    A row is name, total, flying, ready, retry (recipients), ages (ten bands) and state: what holds the row's largest
    part up, empty if nothing does.  left_out is how many rows there are besides.
    """
    rows, count = [], 0
    sums, ages = [0, 0, 0], [0] * (len(BANDS) + 1)
    for engine in engines:
        tables = engine.tables
        mail = tables.core.rows
        sizes = tallies.sizes_of(mail)
        shown, number = _largest(tables, key, most)
        count += number
        tally = flying, retry, bands = tallies.tally_all(mail, sizes, date)
        # one group has all there is, as that of the only source has
        tallied = [tally] if number == 1 and shown else _tally(tables, key, shown, sizes, date)
        rows += _rows(tables, key, shown, tallied, now)
        add(sums, (mail.recipient_count, flying, retry))
        add(ages, bands)
    rows.sort(key=lambda row: (-row["total"], row["name"]))
    total, flying, retry = sums
    whole = _row("TOTAL", total, flying, retry, ages, "")
    return {"key": key, "rows": rows[:most], "total": whole, "left_out": count - len(rows[:most])}


def _row(name: str, total: int, flying: int, retry: int, ages: list[int], state: str) -> "Fields":
    return {
        "name": name,
        "total": total,
        "flying": flying,
        "ready": total - flying - retry,
        "retry": retry,
        "ages": ages,
        "state": state,
    }


def _tally(
    tables: "EngineTables", key: str, shown: "list[Group]", sizes: "tallies.Sizes", date: float
) -> "list[tallies.Tally]":
    mail = tables.core.rows
    owners = tallies.senders_of_parcels(mail) if key == SENDER else mail.p_lane
    groups = [parts if key == SENDER else [lane.number for lane in parts] for _, (_, parts) in shown]
    return tallies.tally_groups(mail, owners, groups, [total for _, (total, _) in shown], sizes, date)


def _rows(
    tables: "EngineTables", key: str, shown: "list[Group]", tallied: "list[tallies.Tally]", now: float
) -> "list[Fields]":
    rows = []
    for (name, (total, parts)), (flying, retry, ages) in zip(shown, tallied, strict=True):
        state = ""
        if key != SENDER and total > flying + retry:
            state = reasons.obstacle_of(tables.core, max(parts, key=_left), now).text
        rows.append(_row(_text(name) or NONE, total, flying, retry, ages, state))
    return rows


def _largest(tables: "EngineTables", key: str, most: int) -> "tuple[list[Group], int]":
    """Return the largest groups of a key, and how many there are."""
    lanes = list(_lanes(tables))
    if key == DOMAIN and all(lane.front is None for lane in lanes):  # each lane is a group: no table of 100,000
        largest = nlargest(most, lanes, key=attrgetter("left"))
        return [(lane.domain, (lane.left, [lane])) for lane in largest], len(lanes)
    if key != SENDER:
        return _lanes_by(tables, key, most)
    found = _senders(tables)
    return nsmallest(most, found.items(), key=lambda item: (-item[1][0], item[0])), len(found)


def _lanes_by(tables: "EngineTables", key: str, most: int) -> "tuple[list[Group], int]":
    """Return the largest groups of lanes, and how many there are; a lane of several groups stands in each.

    Their lanes are collected once it is known which these are.
    """
    totals: dict[bytes, int] = {}
    for lane in _lanes(tables):
        for name in _names(lane, key):
            totals[name] = totals.get(name, 0) + _left(lane)
    shown = nsmallest(most, totals.items(), key=lambda item: (-item[1], item[0]))
    lanes: dict[bytes, list[Any]] = {name: [] for name, _ in shown}
    for lane in _lanes(tables):
        for name in _names(lane, key):
            if name in lanes:
                lanes[name].append(lane)
    return [(name, (total, lanes[name])) for name, total in shown], len(totals)


def _senders(tables: "EngineTables") -> "dict[bytes, tuple[int, list[Any]]]":
    """Return name -> (recipients, the sender's number)."""
    names = tables.core.senders
    return {names.name(number): (total, [number]) for number, total in tallies.senders(tables.core.rows).items()}


def _lanes(tables: "EngineTables") -> "Iterable[Lane]":
    """Yield the lanes that have mail, parts among them; one that has parts if there is some that has no source yet."""
    return (lane for lane in tables.ways.lanes if lane.left and _left(lane))


def _left(lane: "Lane") -> int:
    """Return how many recipients wait in a lane itself."""
    return lane.left - lane.parts.left if lane.parts is not None else lane.left


def _names(lane: "Lane", key: str) -> "Iterable[bytes]":
    site = lane.site
    if key == DOMAIN:
        return (lane.domain,)
    if key == SOURCE:
        return (lane.source,)
    if site is None:
        return (b"",)
    if key == SITE:
        return (site.name,)
    if key == ORGANISATION_KEY:
        return (site.organisation.shown,)
    return getattr(lane.policy, "groups", ()) or (b"",)


# why


def why(engines: "Sequence[Engine]", kind: str, name: bytes, now: float, date: float) -> "Fields":
    """Return what a message (its number), a recipient (a whole address) or a domain waits for: an entry for each lane.

    No entries: there is nothing of it in memory.  At most MAX_ENTRIES.
    """
    entries: list[Fields] = []
    for engine in engines:
        tables = engine.tables
        if kind == MESSAGE:
            entries += _of_message(tables, int(name) if name.isdigit() else 0, now)
        else:
            lanes = _find(tables, kind, name)
            entries += [_entry(tables, lane, _parcels(tables, lane), _left(lane), now) for lane in lanes]
    return {"subject": f"{kind} {_text(name)}", "entries": entries[:MAX_ENTRIES]}


def _find(tables: "EngineTables", kind: str, name: bytes) -> "list[Lane]":
    name = name.lower()
    domain = name.rpartition(b"@")[2]
    if not tables.core.is_local:
        lane = tables.ways.find(domain)
    elif kind == RECIPIENT:
        lane = tables.ways.find(name)
    else:
        return [lane for lane in _lanes(tables) if lane.domain.endswith(b"@" + domain)][:MAX_ENTRIES]
    if lane is None:
        return []
    if lane.front is not None:
        return [one for one in _lanes(tables) if one.domain == domain]
    return [one for one in (lane, lane.fallback) if one is not None and one.left]


def _parcels(tables: "EngineTables", lane: "Lane") -> list[int]:
    rows = tables.core.rows
    return tallies.parcels_of(rows, rows.p_lane, {lane.number: 0}, 1)[0]


def _of_message(tables: "EngineTables", number: int, now: float) -> "list[Fields]":
    rows = tables.core.rows
    message = rows.find(number)
    if not number or not message:
        return []
    by_lane: dict[int, list[int]] = {}
    for parcel in rows.parcels(message):
        by_lane.setdefault(rows.p_lane[parcel], []).append(parcel)
    return [
        _entry(tables, tables.ways.lanes[lane], parcels, sum(map(rows.count, parcels)), now)
        for lane, parcels in list(by_lane.items())[:MAX_ENTRIES]
    ]


def _handed_over(lane: "Lane") -> str:
    """Return that a relay has the mail of a lane, and by which line; empty if its own hosts do."""
    if lane.home is None or lane.relay is None:
        return ""
    line = lane.home.policy.sources.get(b"fall") if isinstance(lane.home.policy, SitePolicy) else None
    where = f", {line.where} line {line.number}" if line is not None else ""
    return f"handed over to {_text(relay_text(lane.relay))}{where}; "


def _entry(tables: "EngineTables", lane: "Lane", parcels: list[int], count: int, now: float) -> "Fields":
    door, core = lane.door, tables.core
    obstacle = parcel_reasons.obstacle_of_parcels(tables, lane, parcels, now)
    places = _places(lane, obstacle)
    before = core.admission.place_of(door) if door is not None and places and places[0] not in lane.budgets else None
    return {
        "channel": "local" if core.is_local else "remote",
        "domain": _text(lane.domain),
        "source": _text(lane.source),
        "recipients": count,
        "state": obstacle.state,
        "site": _text(door.site.name) if door is not None and not core.is_local else "",
        "hosts": _hosts(tables, door, now) if door is not None else [],
        "answer_age": max(0.0, now - lane.answered_at) if lane.answered_at else None,
        "budgets": _budgets(lane, places, now),
        "place": before + 1 if before is not None else None,
        "reason": _handed_over(lane) + (obstacle.text or "nothing holds it up: it goes with the next session"),
        "expected_seconds": _expected(tables, lane, obstacle, before, now),
        "last_reply": _last_reply(tables, lane, obstacle),
        "today": _today(tables, door, now),
    }


def _places(lane: "Lane", obstacle: reasons.Obstacle) -> "tuple[Budget, ...]":
    """Return the budgets at which a lane stands, if that is what holds it up: a limit of its own, or its door's."""
    if obstacle.budget is None:
        return ()
    if obstacle.budget in lane.budgets:
        return (obstacle.budget,)
    place = lane.door.place if lane.door is not None else None
    places = place if isinstance(place, tuple) else (place,) if place is not None else ()
    return places if obstacle.budget in places else ()


def _expected(
    tables: "EngineTables", lane: "Lane", obstacle: reasons.Obstacle, before: int | None, now: float
) -> float | None:
    """Return after how long the mail should go: by the clock, or by what the sessions have done so far."""
    if obstacle.seconds is not None or obstacle.budget is None or obstacle.state != reasons.FULL:
        return obstacle.seconds
    if before is None:
        before = lane.queue.parcels - 1
    assert lane.door is not None
    return seconds_to_go(lane.door, obstacle.budget, before, tables.sessions(), now)


def _hosts(tables: "EngineTables", door: "Door", now: float) -> "list[Fields]":
    return [
        {
            "name": _text(name),
            "preference": preference,
            "addresses": [_text(address) for address in addresses],
            "state": reasons.host_state(tables.core.hosts.known(name), now),
        }
        for preference, name, addresses in door.site.candidates
    ]


def _budgets(lane: "Lane", places: "tuple[Budget, ...]", now: float) -> "list[Fields]":
    """Return the budgets of a lane, narrow first; those of hosts that its door stands at come before them."""
    chain = (*lane.budgets, *lane.door.chain) if lane.door is not None else ()
    return [
        {
            "name": _text(budget.name),
            "kind": budget.kind,
            "used": budget.used,
            "limit": limit_of(budget),
            "learned": budget.learned,
            "owner": owner_text(budget),
            "paused_seconds": budget.paused_until - now if now < budget.paused_until < FOREVER else None,
            "stands_here": budget in places,
        }
        for budget in (*(one for one in places if one not in chain), *chain)
    ]


def _today(tables: "EngineTables", door: "Door | None", now: float) -> "Fields | None":
    """Return what became of today's mail to the organisation; None where none is known."""
    if door is None or not door.site.organisation.name:
        return None
    return dict(zip(NAMES, tables.core.days.of(door.site.organisation.name, now), strict=True))


def _last_reply(tables: "EngineTables", lane: "Lane", obstacle: reasons.Obstacle) -> str:
    """Return the last reply that has to do with what holds the mail up, else the last one that deferred any."""
    budget, deferred = obstacle.budget, tables.core.replies.of(lane.domain)
    if budget is not None and (budget.pause_text or budget.learned_owner):
        return shown(budget.pause_text or budget.learned_owner)
    text = lane.door.site.last_text if lane.door is not None else b""
    return shown(deferred or text if obstacle.budget is None else text or deferred)


# top


def top(engine: "Engine", most: int, now: float) -> "Fields":
    """Return who is busy: organisations by sessions, and what is used of the total."""
    tables = engine.tables
    recent = tables.core.recent.totals(now)
    rows = [_organisation_row(tables, one, recent, now) for one in tables.ways.organisations()]
    rows = [row for row in rows if any(row[name] for name in ("sessions", "ready", "accepted", "deferred", "refused"))]
    shown = nsmallest(most, rows, key=lambda row: (-row["sessions"], -row["ready"], row["name"]))
    return {
        "total": engine.total,
        "used": engine.used,
        "connecting": engine.connecting,
        "open": sum(door.working for one in tables.ways.organisations() for door in one.doors),
        "rows": shown,
        "left_out": len(rows) - len(shown),
    }


def _organisation_row(
    tables: "EngineTables", organisation: "Organisation", recent: dict[bytes, list[int]], now: float
) -> "Fields":
    doors = list(organisation.doors)
    accepted, deferred, _, refused = recent.get(organisation.name, (0, 0, 0, 0))
    budget = _busiest_budget(doors)
    limit = limit_of(budget) if budget is not None else None
    state = ""
    busy = max(doors, key=lambda door: door.ready, default=None)
    if busy is not None and busy.ready and busy.lanes:
        state = reasons.obstacle_of(tables.core, next(iter(busy.lanes)), now).text
    return {
        "name": _text(organisation.shown) or NONE,
        "sessions": sum(door.sessions for door in doors),
        "limit": limit if limit is not None else tables.core.budgets.total.cap,
        "ceiling": _ceiling(doors),
        "ready": sum(door.ready for door in doors),
        "accepted": accepted,
        "deferred": deferred,
        "refused": refused,
        "state": state,
    }


def _busiest_budget(doors: "Sequence[Door]") -> "Budget | None":
    """Return the budget of the organisation, or, if it has none, that of its site."""
    for door in doors:
        for budget in door.chain:
            if budget.kind == ORGANISATION:
                return budget
    return doors[0].site_budget if doors else None


def _ceiling(doors: "Sequence[Door]") -> int | None:
    """Return the smallest ceiling that was learned of an organisation, or of its sites."""
    windows = [budget.window for door in doors for budget in door.chain if budget.window is not None]
    return min((window.ceiling for window in windows if window.ceiling), default=None)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
