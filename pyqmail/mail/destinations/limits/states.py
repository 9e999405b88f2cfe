"""The states of a site (a door: a site through one source): what brings it there, what ends it, what it may do then.

Several may hold at once: a site can be paused and have a ceiling.  The first of STATES that holds is the one that is
shown, and the one that limits most.  Those that a window learns are Window.facts; the others are the engine's to tell.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

HELD, FROZEN, PAUSED, DEAD = "held", "frozen", "paused", "dead"
SOFT_BLOCKED, UNPROVEN_SITE, CAPPED, OPEN_SITE = "soft-blocked", "unproven", "capped", "open"

# state, what brings it, what ends it, sessions meanwhile
STATES = (
    (HELD, "a rule says hold, or an operator", "the rule has gone, or its time is over", "none"),
    (FROZEN, "our own network is down", "the first answer from anybody", "test sessions only"),
    (PAUSED, "a reply about reputation, 554 for a greeting, a refusal while no session is up", "a timer", "none"),
    (
        DEAD,
        "3 session starts in a row failed on every host (dead=; 1 if unproven), no other session alive",
        "a probe is greeted: the window begins again",
        "one probe after 60, 120 ... 1800 s",
    ),
    (
        SOFT_BLOCKED,
        "18 of the last 20 deliveries deferred with one code, of 3 senders or more",
        "one message is accepted",
        "one message a minute",
    ),
    (UNPROVEN_SITE, "new, or no greeting for 24 h", "the first greeting", "1"),
    (
        CAPPED,
        "refused while others were up: a ceiling is known",
        "a higher number is greeted, up to the limit",
        "the ceiling, at times one more",
    ),
    (OPEN_SITE, "greeted", "any of the above", "the window"),
)


def state_of(facts: "Container[str]") -> str:
    """Return the state that is shown, of all that hold; open if none does."""
    return next((state for state, *_ in STATES if state in facts), OPEN_SITE)


def rows() -> list[tuple[str, str, str, str]]:
    """Return (state, enters, leaves, sessions) of each state, for the manual; the first that holds is shown."""
    return list(STATES)
