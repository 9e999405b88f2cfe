"""The oracles and scenarios of the specification (9.2 and 9.3) as data: what is done, and within which bounds.

A bound is (least, most), either of which may be None.  Small bounds are for small runs, where fewer mail is too little
for the figure of a whole one.
"""

from bench.destinations import fault_runs, limit_runs, mail_runs, million, oracles, source_runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Scenario:
    """number: that of the specification, 0 for an oracle.  run(small) -> {figure: value}."""

    def __init__(self, number: int, name: str, run: "Callable", bounds: dict, small: "dict | None" = None):
        self.number, self.name, self.run, self.bounds, self.small = (
            number,
            name,
            run,
            bounds,
            {**bounds, **(small or {})},
        )

    def broken(self, figures: dict, is_small: bool) -> list[str]:
        """Return what is out of its bounds, or not measured."""
        bounds = self.small if is_small else self.bounds
        return [
            f"{self.name}: {figure} is {figures.get(figure)}, not {within(bound)}"
            for figure, bound in bounds.items()
            if bound is not None and not _is_within(figures.get(figure), bound)
        ]


def within(bound) -> str:
    least, most = bound
    if least == most:
        return f"{least:g}"
    return f"{least:g} to {most:g}" if None not in bound else f"<= {most:g}" if least is None else f">= {least:g}"


def _is_within(value, bound) -> bool:
    least, most = bound
    return value is not None and (least is None or value >= least) and (most is None or value <= most)


def about(value, share=0.1):
    """Return the bounds of what should be this, give or take a tenth."""
    return value * (1 - share), value * (1 + share)


NONE = (0, 0)
ORACLES = [
    Scenario(
        0, "postfix-16", lambda small: oracles.postfix_16(),
        {"1/W": (16.4, 16.6), "1/sqrt W": (24.2, 24.7), "1": (49.6, 49.8)},
    ),
    Scenario(0, "one-of-two-formula", lambda small: {"a second": oracles.one_of_two()}, {"a second": about(1.29)}),
    Scenario(
        0, "qmail-times", lambda small: dict(zip("12345", oracles.qmail_times(), strict=True)),
        {"1": (400, 400), "2": (1600, 1600), "3": (3600, 3600), "4": (6400, 6400), "5": (10000, 10000)},
    ),
    Scenario(
        0, "gcra-window", lambda small: {"windows broken": oracles.gcra_window(50 if small else 500)},
        {"windows broken": NONE},
    ),
]  # fmt: skip

PARTS = [Scenario(0, "rows", million.rows_alone, {"left": NONE, "MB": (None, 180)})]
SOURCES = [
    Scenario(
        0, "warm-up", source_runs.warm_up,
        {"new on day 1": (200, 200), "new on day 2": (300, 300), "new on day 3": (450, 450), "longest, s": (0, 60),
         "left": NONE, "deferred": NONE},
    ),
    Scenario(
        0, "withdrawn", source_runs.withdrawn,
        {"through the old later": NONE, "moved that had the other": NONE, "left": NONE, "failed": NONE},
    ),
    Scenario(
        0, "spill", source_runs.spill,
        {"delivered, spill": (1, 1), "connections of the paused, spill": (1, 2), "deferred, spill": NONE,
         "delivered, no spill": about(0.5), "connections of the paused, no spill": (1, 2), "deferred, no spill": NONE},
    ),
]  # fmt: skip
SCENARIOS = [
    Scenario(
        1, "same-server", limit_runs.same_server,
        {"deferred": NONE, "refusals i=2": (0, 1), "refusals i=5": (0, 2), "refusals i=20": (0, 15),
         "slow start i=2": (None, 4.05), "slow start i=5": (None, 0.05), "slow start i=20": (None, 0.05),
         "over the ideal n=10": (None, 0.5), "over the ideal n=50": (None, 0.2)},
    ),
    Scenario(
        2, "one-of-two", mail_runs.one_of_two,
        {"a second, n=1": about(33.2), "a second, n=20": about(39.4), "timeouts, n=1": NONE, "timeouts, n=20": NONE,
         "deferred, n=1": NONE, "deferred, n=20": NONE, "a second, not hedged": (31.7 * 0.9, 33.4)},
    ),
    Scenario(
        3, "third-dead", mail_runs.third_dead,
        {"last healthy, 200": (None, 70), "last healthy, 2000": (None, 6), "left, 200": NONE, "left, 2000": NONE,
         "probes, 200": (None, 8), "probes, 2000": (None, 8), "deferred, 200": NONE, "deferred, 2000": NONE},
        {"last healthy, 20": (None, 70), "last healthy, 200": (None, 6), "left, 20": NONE, "probes, 20": (None, 8),
         "deferred, 20": NONE, "last healthy, 2000": None, "left, 2000": None, "probes, 2000": None,
         "deferred, 2000": None},
    ),
    Scenario(
        4, "uplink-600", fault_runs.uplink,
        {"dead": NONE, "connections": (None, 3000), "caught up after": (None, 20), "deferred": NONE},
    ),
    Scenario(
        5, "tenants", limit_runs.tenants, {"refusals": (0, 3), "seconds over the ideal": (0, 20), "deferred": NONE},
    ),
    Scenario(6, "mailing", mail_runs.mailing, {"median wait": (None, 1.0), "longest wait": (None, 1.5)}),
    Scenario(
        7, "many-mailings", mail_runs.many_mailings,
        {"median wait": about(0.54), "longest wait": (None, 1.0), "bulk a second": (18.5, None)},
    ),
    Scenario(
        8, "greylist", mail_runs.greylist,
        {**{f"tries {delay}": about(tries)
            for delay, tries in ((60, 2.0), (300, 2.0), (900, 2.1), (1500, 2.2), (3600, 2.5))},
         **{f"delay {delay}": (delay, mean * 1.1)
            for delay, mean in ((60, 76), (300, 312), (900, 963), (1500, 1631), (3600, 4168))},
         **{f"left {delay}": NONE for delay in (60, 300, 900, 1500, 3600)}, "dead": NONE},
        {**{f"{what} {delay}": None for what in ("tries", "delay", "left") for delay in (300, 1500, 3600)}},
    ),
    Scenario(
        9, "ban", limit_runs.ban,
        {"seconds": (None, 4500), "bans": (1, 1), "tries during it": (None, 5), "failed": NONE},
        {"seconds": (None, 2600)},
    ),
    Scenario(
        10, "fair-1000", limit_runs.fair,
        # 21 to 22 sessions each: 21.5, give or take what a whole number makes of it.  Of small runs 8 or 9: that alone
        # makes an index of 0.9966; and the first park of each of 100 sites is 0.12 moves of each of 860 sessions
        {"sessions each, least": (-0.6, None), "sessions each, most": (None, 0.6), "Jain, sessions": (0.999, None),
         "Jain, messages": (0.999, None), "peak": (1, 1), "moves a session": (None, 1.1)},
        {"sessions each, least": (-0.61, None), "Jain, sessions": (0.996, None), "Jain, messages": (0.996, None),
         "moves a session": (None, 1.12)},
    ),
    Scenario(
        11, "nested", limit_runs.nested,
        {"peak inner": (10, 10), "peak outer": (20, 20), "peak site": (5, 5), "peak": (100, 100),
         "capacity used": (0.999, 1.0001)},
    ),
    Scenario(12, "hostile-rooms", limit_runs.hostile_rooms, {"moves a session": (None, 3)}),
    Scenario(
        13, "breathing-limit", limit_runs.breathing,
        {"refusals": (None, 30), "least share": (0.95, None), "full again, h": (None, 2.25)},
    ),
    Scenario(15, "million", million.million, {"left": NONE, "MB": (None, 200), "us a delivery": (None, 30)},
             {"MB": None, "us a delivery": None}),
    Scenario(16, "one-mx-moves", fault_runs.mx_moves, {"old opened late": NONE, "left": NONE, "twice": NONE}),
    Scenario(
        17, "resolver-silent", fault_runs.resolver_silent,
        {"longest wait, known": (None, 10), "backlog gone after": (None, 60), "failed": NONE, "deferred": NONE},
    ),
    Scenario(
        18, "bad-sender", mail_runs.bad_sender,
        {"good share": (0.99, None), "bad tries before its pause": (None, 15)},
    ),
    Scenario(19, "soft-block", mail_runs.soft_block, {"deferrals": (None, 80), "left": NONE, "failed": NONE}),
    Scenario(20, "slow-host", mail_runs.slow_host, {"share of sessions": (None, 0.1), "deferred": NONE}),
    Scenario(
        21, "restart", limit_runs.restart,
        {"bans": NONE, "tries during it": (None, 5), "refusals": (0, 2), "above X + 1": NONE},
    ),
    Scenario(
        22, "rule-change", limit_runs.rule_change,
        {"before": (20, 20), "after a session's length": (0, 5), "cut": NONE, "deferred": NONE},
    ),
    Scenario(
        23, "clock-jump", fault_runs.clock_jump,
        {"in the first minute": (None, 125), "most in 10 s": (None, 25), "left": NONE, "failed": NONE},
    ),
    Scenario(
        24, "classic-agent", limit_runs.classic_agent,
        {"deferred": NONE, "left": NONE, "refusals": (0, 2), "over the ideal": (0, 15)},
    ),
    Scenario(
        25, "silent-servers", mail_runs.silent_servers,
        {"good, 200": (0, 5), "good, 2000": (0, 5), "late, 200": (0, 7200), "late, 2000": (0, 7200), "deferred": NONE},
        {"good, 2000": None, "late, 2000": None},
    ),
    Scenario(
        26, "connection-limit", mail_runs.connection_limit,
        {"VERP": (60, 60), "single": (15, 15), "deferred": NONE, "refused at last": NONE},
    ),
    Scenario(
        27, "transaction-limit", mail_runs.transaction_limit,
        {"delivered": (12, 12), "deferred": NONE, "failed": NONE, "most at last": (1, 5), "least m": (1, 6)},
    ),
    Scenario(
        28, "dead-zones", fault_runs.dead_zones,
        {"routed": (0, 1), "literal": (0, 1), "known": (0, 1), "good": (0, 5), "failed": NONE},
    ),
    Scenario(
        29, "greets-and-closes", mail_runs.greets_and_closes,
        {"starts": (1, 3), "tries undeferred": (None, 2), "failed before": NONE, "failed at last": (20, 20)},
    ),
    Scenario(
        30, "verp-parallel", limit_runs.verp,
        {"sessions": (None, 4), "agents": (None, 4), "peak, sessions": (1, 10), "peak, agents": (1, 10),
         "refusals, sessions": NONE, "refusals, agents": NONE},
    ),
]  # fmt: skip
NOT_BUILT = {14: "leases: several machines come later"}
BY_NAME = {scenario.name: scenario for scenario in ORACLES + PARTS + SOURCES + SCENARIOS}
