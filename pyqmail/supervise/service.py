"""The states of one supervised service: events in, orders out; no process, no file, no clock.

States: DOWN, no process; FRESH, started less than a second ago, when the supervisor is deaf; UP; PAUSED;
LEFT, the supervisor is gone.  Events: a command byte, RESTED when the deaf second is over, ENDED when the
process has ended.  Beside the state stand the wish (up, down, or once) and whether to leave when down.

Orders, to be carried out left to right: START the process (which also writes the status), a signal to it, write
the STATUS, LEAVE.  A start that fails is a process that has ended.
"""

from pyqmail.supervise.status import ONCE, WANT_DOWN, WANT_UP

DOWN, FRESH, UP, PAUSED, LEFT = "down", "fresh", "up", "paused", "left"
STATES = (DOWN, FRESH, UP, PAUSED, LEFT)

RESTED, ENDED = "rested", "ended"
COMMANDS = (b"d", b"u", b"o", b"x", b"p", b"c", b"h", b"a", b"i", b"t", b"k")
EVENTS = (RESTED, ENDED, *COMMANDS)

START, STATUS, LEAVE = "start", "status", "leave"
TERM, CONT, STOP, HUP, ALRM, INT, KILL = "SIGTERM", "SIGCONT", "SIGSTOP", "SIGHUP", "SIGALRM", "SIGINT", "SIGKILL"

# (state, event) -> (next state, orders).  What is missing cannot happen: see IMPOSSIBLE
NEXT = {
    (DOWN, b"d"): (DOWN, (STATUS,)),
    (DOWN, b"u"): (FRESH, (STATUS, START)),
    (DOWN, b"o"): (FRESH, (STATUS, START)),
    (DOWN, b"x"): (LEFT, (STATUS, LEAVE)),
    (DOWN, b"p"): (DOWN, (STATUS,)),
    (DOWN, b"c"): (DOWN, (STATUS,)),
    (DOWN, b"h"): (DOWN, ()),
    (DOWN, b"a"): (DOWN, ()),
    (DOWN, b"i"): (DOWN, ()),
    (DOWN, b"t"): (DOWN, ()),
    (DOWN, b"k"): (DOWN, ()),
    (FRESH, RESTED): (UP, ()),
    (UP, ENDED): (DOWN, (STATUS,)),  # and then AFTER_END
    (UP, b"d"): (UP, (TERM, CONT, STATUS)),
    (UP, b"u"): (UP, (STATUS,)),
    (UP, b"o"): (UP, (STATUS,)),
    (UP, b"x"): (UP, (STATUS,)),
    (UP, b"p"): (PAUSED, (STOP, STATUS)),
    (UP, b"c"): (UP, (CONT, STATUS)),
    (UP, b"h"): (UP, (HUP,)),
    (UP, b"a"): (UP, (ALRM,)),
    (UP, b"i"): (UP, (INT,)),
    (UP, b"t"): (UP, (TERM,)),
    (UP, b"k"): (UP, (KILL,)),
    (PAUSED, ENDED): (DOWN, (STATUS,)),  # and then AFTER_END
    (PAUSED, b"d"): (UP, (TERM, CONT, STATUS)),
    (PAUSED, b"u"): (PAUSED, (STATUS,)),
    (PAUSED, b"o"): (PAUSED, (STATUS,)),
    (PAUSED, b"x"): (PAUSED, (STATUS,)),
    (PAUSED, b"p"): (PAUSED, (STOP, STATUS)),
    (PAUSED, b"c"): (UP, (CONT, STATUS)),
    (PAUSED, b"h"): (PAUSED, (HUP,)),
    (PAUSED, b"a"): (PAUSED, (ALRM,)),
    (PAUSED, b"i"): (PAUSED, (INT,)),
    (PAUSED, b"t"): (PAUSED, (TERM,)),
    (PAUSED, b"k"): (PAUSED, (KILL,)),
}

# Deaf, the supervisor sees neither the end of the process nor a command; only FRESH can rest; what is down
# does not end; and after LEFT there is nobody.
IMPOSSIBLE = {
    *((FRESH, event) for event in EVENTS if event != RESTED),
    *((state, RESTED) for state in STATES if state != FRESH),
    (DOWN, ENDED),
    *((LEFT, event) for event in EVENTS),
}

# command -> the wish from then on; the others leave it
WISH = {b"d": WANT_DOWN, b"u": WANT_UP, b"o": ONCE}

# (wish, told to leave) -> what follows the end of the process: next state, orders
AFTER_END = {
    (WANT_UP, False): (FRESH, (START,)),
    (WANT_DOWN, False): (DOWN, ()),
    (ONCE, False): (DOWN, ()),
    (WANT_UP, True): (LEFT, (STATUS, LEAVE)),
    (WANT_DOWN, True): (LEFT, (STATUS, LEAVE)),
    (ONCE, True): (LEFT, (STATUS, LEAVE)),
}


class Service:
    """One service: its state, the wish, and whether the supervisor leaves once it is down."""

    __slots__ = ("state", "wish", "is_leaving")

    def __init__(self, wish: bytes) -> None:
        self.state, self.wish, self.is_leaving = DOWN, wish, False

    def begin(self) -> tuple[str, ...]:
        """Return the first orders: start, unless wanted down."""
        if self.wish == WANT_DOWN:
            return ()
        self.state = FRESH
        return (START,)

    def receive(self, event) -> tuple[str, ...]:
        """Return the orders that follow from an event.  A byte that is no command gives none.

        Raises KeyError for what cannot happen.
        """
        if event in EVENTS:
            self.wish = WISH.get(event, self.wish)
            self.is_leaving = self.is_leaving or event == b"x"
            self.state, orders = NEXT[self.state, event]
            if event == ENDED:
                self.state, more = AFTER_END[self.wish, self.is_leaving]
                orders += more
            return orders
        return ()
