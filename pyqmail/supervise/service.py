"""The states of one supervised service: events in, orders out; no process, no file, no clock.

Beside the state there are the wish (up, down, or once), whether another start was requested meanwhile, and whether
the supervisor leaves when the service is down.  A script that is missing has ended well at once, and a pause that
is over ends at once, so a service with nothing but run goes through the states of the original.

Orders are carried out left to right.  A run that cannot be executed is a process that has ended.
"""

from pyqmail.supervise.status import ONCE, WANT_DOWN, WANT_UP

DOWN = "down"  # no process
STARTING = "starting"  # the script start runs
ABANDONING = "abandoning"  # start still runs, but how it ends does not matter any more
FRESH = "fresh"  # run was started less than a second ago: the supervisor is deaf
UP = "up"  # run runs
PAUSED = "paused"  # run is stopped by SIGSTOP
FINISHING = "finishing"  # run has ended, the script finish runs
WAITING = "waiting"  # for the next start
STOPPING = "stopping"  # down for now, the script stop runs
FAILED = "failed"  # down, as a program reported a permanent failure
LEFT = "left"  # the supervisor is gone
STATES = (DOWN, STARTING, ABANDONING, FRESH, UP, PAUSED, FINISHING, WAITING, STOPPING, FAILED, LEFT)

RESTED = "rested"  # the deaf second is over
ENDED = "ended"  # run has ended
DONE = "done"  # a script has ended, or is missing
BROKEN = "broken"  # a script has ended and reported a permanent failure
DUE = "due"  # the pause before the next start is over
OVERDUE = "overdue"  # what should have ended has not done so in its time
SIGNALS = {
    b"h": "SIGHUP",
    b"a": "SIGALRM",
    b"i": "SIGINT",
    b"t": "SIGTERM",
    b"k": "SIGKILL",
    b"q": "SIGQUIT",  # this and the next three as daemontools-encore
    b"1": "SIGUSR1",
    b"2": "SIGUSR2",
    b"w": "SIGWINCH",
}
COMMANDS = (b"d", b"u", b"o", b"x", b"p", b"c", *SIGNALS)
EVENTS = (RESTED, ENDED, DONE, BROKEN, DUE, OVERDUE, *COMMANDS)

STATUS, LEAVE = "status", "leave"  # write the status; leave
SET_UP, START, FINISH, TEAR_DOWN = "./start", "./run", "./finish", "./stop"  # start it; START writes the status too
PAUSE = "pause"  # until the next start is due
DOWN_SIGNAL, TERM, CONT, STOP, KILL = "down-signal", "SIGTERM", "SIGCONT", "SIGSTOP", "SIGKILL"

_WITHOUT_PROCESS = (DOWN, FAILED, WAITING)
_IN_SCRIPT = (STARTING, ABANDONING, FINISHING, STOPPING)
_IN_RUN = (UP, PAUSED)


class Choice:
    """Where an event leads, each (state, orders): if the supervisor is to leave; if a start is wished; otherwise."""

    __slots__ = ("leaving", "again", "otherwise")

    def __init__(self, leaving, again, otherwise):
        self.leaving, self.again, self.otherwise = leaving, again, otherwise

    def all(self):
        return self.leaving, self.again, self.otherwise


_TEAR_DOWN = (STOPPING, (TEAR_DOWN,))
_LEAVE = (LEFT, (STATUS, LEAVE))

# (state, event) -> (next state, orders), or a Choice of them.  What is missing cannot happen: see IMPOSSIBLE
NEXT: dict = {
    **{(state, letter): (state, (STATUS,)) for state in (*_WITHOUT_PROCESS, *_IN_SCRIPT) for letter in (b"p", b"c")},
    **{(state, letter): (state, ()) for state in _WITHOUT_PROCESS for letter in SIGNALS},
    **{(state, letter): (state, (SIGNALS[letter],)) for state in (*_IN_SCRIPT, *_IN_RUN) for letter in SIGNALS},
    **{(state, letter): (state, (STATUS,)) for state in (*_IN_SCRIPT, *_IN_RUN) for letter in (b"u", b"o", b"x")},
    (DOWN, b"d"): (DOWN, (STATUS,)),
    (DOWN, b"u"): (STARTING, (STATUS, SET_UP)),
    (DOWN, b"o"): (STARTING, (STATUS, SET_UP)),
    (DOWN, b"x"): _LEAVE,
    (STARTING, DONE): Choice(_TEAR_DOWN, (FRESH, (START,)), _TEAR_DOWN),
    (STARTING, BROKEN): Choice(_LEAVE, (FAILED, (STATUS,)), (FAILED, (STATUS,))),
    (STARTING, b"d"): (ABANDONING, (TERM, CONT, STATUS)),
    (ABANDONING, DONE): _TEAR_DOWN,
    (ABANDONING, BROKEN): _TEAR_DOWN,
    (ABANDONING, b"d"): (ABANDONING, (TERM, CONT, STATUS)),
    (FRESH, RESTED): (UP, ()),
    (UP, ENDED): (FINISHING, (STATUS, FINISH)),
    (UP, OVERDUE): (UP, (KILL,)),
    (UP, b"d"): (UP, (DOWN_SIGNAL, CONT, STATUS)),
    (UP, b"p"): (PAUSED, (STOP, STATUS)),
    (UP, b"c"): (UP, (CONT, STATUS)),
    (PAUSED, ENDED): (FINISHING, (STATUS, FINISH)),
    (PAUSED, OVERDUE): (PAUSED, (KILL,)),
    (PAUSED, b"d"): (UP, (DOWN_SIGNAL, CONT, STATUS)),
    (PAUSED, b"p"): (PAUSED, (STOP, STATUS)),
    (PAUSED, b"c"): (UP, (CONT, STATUS)),
    (FINISHING, DONE): Choice(_TEAR_DOWN, (WAITING, (PAUSE,)), _TEAR_DOWN),
    (FINISHING, BROKEN): Choice(_LEAVE, (FAILED, (STATUS,)), (FAILED, (STATUS,))),
    (FINISHING, OVERDUE): (FINISHING, (KILL,)),
    (FINISHING, b"d"): (FINISHING, (STATUS,)),
    (WAITING, DUE): (FRESH, (START,)),
    (WAITING, b"d"): (STOPPING, (STATUS, TEAR_DOWN)),
    (WAITING, b"u"): (FRESH, (STATUS, START)),
    (WAITING, b"o"): (FRESH, (STATUS, START)),
    (WAITING, b"x"): (STOPPING, (STATUS, TEAR_DOWN)),
    (STOPPING, DONE): Choice(_LEAVE, (STARTING, (SET_UP,)), (DOWN, ())),
    (STOPPING, b"d"): (STOPPING, (STATUS,)),
    (FAILED, b"d"): (DOWN, (STATUS,)),
    (FAILED, b"u"): (STARTING, (STATUS, SET_UP)),
    (FAILED, b"o"): (STARTING, (STATUS, SET_UP)),
    (FAILED, b"x"): _LEAVE,
}

# Deaf, the supervisor sees neither the end of the process nor a command; only FRESH can rest; only run ends, only a
# script is done; stop cannot fail; only WAITING has a pause; only run and finish have a time limit; and after LEFT
# there is nobody.
_POSSIBLE: dict = {
    RESTED: (FRESH,),
    ENDED: _IN_RUN,
    DONE: _IN_SCRIPT,
    BROKEN: (STARTING, ABANDONING, FINISHING),
    DUE: (WAITING,),
    OVERDUE: (*_IN_RUN, FINISHING),
}
_HEARING = (*_WITHOUT_PROCESS, *_IN_SCRIPT, *_IN_RUN)
IMPOSSIBLE = {(state, event) for state in STATES for event in EVENTS if state not in _POSSIBLE.get(event, _HEARING)}

# command -> the wish from then on; the others leave it
WISH = {b"d": WANT_DOWN, b"u": WANT_UP, b"o": ONCE}


class Service:
    """One service: its state, the wish, and whether the supervisor leaves once it is down."""

    __slots__ = ("state", "wish", "is_leaving", "_is_start_requested")

    def __init__(self, wish: bytes) -> None:
        self.state, self.wish, self.is_leaving, self._is_start_requested = DOWN, wish, False, False

    def first_orders(self) -> tuple[str, ...]:
        """Return the first orders: start, unless wanted down."""
        if self.wish == WANT_DOWN:
            return ()
        self.state = STARTING
        return (SET_UP,)

    def take_over(self, state: str) -> None:
        """Begin with a process that runs already: UP, PAUSED, or the state of a script."""
        self.state = state

    def receive(self, event) -> tuple[str, ...]:
        """Return the orders that follow from an event; none for a byte that is not a command.

        Raises KeyError for what cannot happen.
        """
        if event not in EVENTS:
            return ()
        next_ = NEXT[self.state, event]
        if event in WISH:
            self.wish = WISH[event]
            self._is_start_requested = event != b"d" and self.state not in _IN_RUN  # in run, o only ends restarts
        self.is_leaving = self.is_leaving or event == b"x"
        self.state, orders = self._choose(next_) if isinstance(next_, Choice) else next_
        if START in orders:
            self._is_start_requested = False
        elif self.state == FAILED:
            self.wish, self._is_start_requested = WANT_DOWN, False
        return orders

    def _choose(self, choice):
        if self.is_leaving:
            return choice.leaving
        return choice.again if self.wish == WANT_UP or self._is_start_requested else choice.otherwise
