"""What came of a log that was played: lines of text for people."""

from collections import Counter

from pyqmail.base.tables import columns, duration
from pyqmail.mail.destinations.replay.recorded_world import played_tries
from pyqmail.mail.destinations.rules.describe import limit_text, place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyqmail.mail.destinations.replay.log_records import LogRecords
    from pyqmail.mail.destinations.replay.recorded_world import Places, RecordedWorld
    from pyqmail.mail.destinations.rules.lookup import RuleSet

MAX_LINES = 20  # of each list


def report_lines(records: "LogRecords", world: "RecordedWorld", rules: "RuleSet", places: "Places") -> list[str]:
    """Return the whole report."""
    domains = recipients_by_domain(records)
    return [
        *_heading(records, domains),
        "",
        *columns([("", "in the log", "with these rules"), *_figures(records, world)], {""}),
        "",
        *_waits(world),
        "",
        *_limits(rules, places, domains),
    ]


def recipients_by_domain(records: "LogRecords") -> "Counter[bytes]":
    """Return how many recipients each domain has that are played."""
    return Counter(
        one.domain for message in records.messages for one in message.recipients.values() if played_tries(one)
    )


def _heading(records: "LogRecords", domains: "Counter[bytes]") -> "Iterator[str]":
    assert records.first is not None
    played = sum(domains.values())
    others = sum(len(message.recipients) for message in records.messages) - played
    span = duration(records.last - records.first)
    yield f"{span} of log: {len(records.messages)} messages, {played} recipients in {len(domains)} domains"
    if others:
        yield f"not played: {others} recipients, no try of which reached a server"
    if records.left_out:
        yield f"not read: {records.left_out} deliveries more"
    if records.timeless:
        yield f"not read: {records.timeless} lines without a time"


def _figures(records: "LogRecords", world: "RecordedWorld") -> "Iterator[tuple[str, str, str]]":
    tries = [one for message in records.messages for each in message.recipients.values() for one in played_tries(each)]
    ends = Counter(report[:1] for _, _, report in tries)
    waits = [
        first[0][0] - message.when
        for message in records.messages
        for each in message.recipients.values()
        if (first := played_tries(each))
    ]
    yield "delivered", str(ends[b"K"]), str(world.delivered)
    yield "deferrals", str(ends[b"Z"]), str(world.deferrals)
    if world.given_up:
        yield "held back until too old", "-", str(world.given_up)
    yield "sessions refused", str(records.refusals), str(sum(one.refused for one in world.servers.values()))
    yield "sessions", "-", str(world.sessions)
    yield "sessions at once", "-", str(world.most_sessions)
    for words, share in (("wait until the first try, median", 0.5), ("99 of 100", 0.99), ("longest", 1.0)):
        yield words, _seconds(waits, share), _seconds(world.waits, share)
    last = max((when + seconds for when, seconds, report in tries if report == b"K"), default=0.0)
    yield "last delivery after", duration(max(0.0, last - (records.first or 0.0))), duration(world.last)


def _seconds(waits: "Sequence[float]", share: float) -> str:
    """Return the wait that this share of all does not exceed."""
    if not waits:
        return "-"
    wait = sorted(waits)[max(0, round(share * len(waits)) - 1)]
    return f"{max(0.0, wait):.1f}s" if wait < 60 else duration(wait)


def _waits(world: "RecordedWorld") -> "Iterator[str]":
    found = sorted(world.held_back.found.items(), key=lambda item: -item[1].seconds)
    if not found:
        yield "no mail waited"
        return
    yield "where mail waited: recipients at once, at most; all their waits together; since when"
    for words, held in found[:MAX_LINES]:
        yield f"  {held.most}, {duration(held.seconds)}, after {duration(held.since)}: {words}"
    if len(found) > MAX_LINES:
        yield f"  and {len(found) - MAX_LINES} more"


def _limits(rules: "RuleSet", places: "Places", domains: "Counter[bytes]") -> "Iterator[str]":
    """Yield each limit with how many domains and recipients it applies to."""
    found: dict[str, tuple[int, int]] = {}
    for domain, count in domains.items():
        hosts, relay = places[domain]
        addresses = [address for _, _, some in hosts for address in some]
        policy = rules.for_site(domain, [name for _, name, _ in hosts], addresses, relay=relay)
        for limit in policy.limits:
            words = f"{limit_text(limit)}: {place_of(limit)}"
            number, total = found.get(words, (0, 0))
            found[words] = number + 1, total + count
    yield "limits that applied: domains, recipients"
    rows = sorted(found.items(), key=lambda item: -item[1][1])
    for words, (number, total) in rows[:MAX_LINES]:
        yield f"  {number}, {total}: {words}"
    if len(rows) > MAX_LINES:
        yield f"  and {len(rows) - MAX_LINES} more"
