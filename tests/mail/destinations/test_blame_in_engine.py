"""Blame through the whole engine: for each row of the table what happens, what is ordered, what the log says.

The amounts (how long, how often) are tested with the parts (faults/, limits/); here the event must reach the right one.
"""

from errno import ECANCELED, ECONNREFUSED, EMFILE, ETIMEDOUT
from random import Random

import pytest

from pyqmail.mail.destinations.engine import Engine
from pyqmail.mail.destinations.faults.blame import BLAME
from pyqmail.mail.destinations.orders import CLOSE, DELIVER, DUE, MORE, NO_LIMITS, OPEN, REPORT, RESOLVE
from pyqmail.mail.destinations.outcome import (
    CONNECT,
    DATA,
    DIALOGUE,
    DOUBTFUL,
    GREETING,
    HERE,
    LOOKUP,
    MESSAGE,
    RECIPIENTS,
    SENDER,
    UNKNOWN,
    Outcome,
)
from pyqmail.mail.destinations.rules.lookup import RuleSet

DATE = 1_800_000_000
START, NO_HOST_LEFT, END, TRANSACTION, DELIVERY, NAMES = BLAME
RESPONSES = b"""\
:4:too many connections:ceiling
:4:unusual rate:rate org
:4:rate limited:rate
:4:TSS04:pause 2h org
:45:try again later:grey
:4:maximum number of messages per connection:n
"""
MX = [(10, b"mx.a.example", [b"192.0.2.1"])]
TWO_HOSTS = ["mx1", "mx2"]
TESTED = []


def row(moment, event):
    """Mark a test as that of a row of the table; the row must exist."""
    assert event in {one.event for one in BLAME[moment]}, event
    TESTED.append((moment, event))
    return lambda function: function


class Post:
    """An engine, and whoever carries out its orders: what is ordered is kept in lists, in order.

    Each domain has hosts mx1, mx2 ... of its own, of one preference.  now is 0 at first.
    """

    def __init__(self, rules=b":i=5", responses=RESPONSES, hosts=("mx1",), opens_sessions=True):
        self.now, self.hosts, self.numbers = 0.0, hosts, 0
        self.engine = Engine(
            1000,
            RuleSet.of_text(rules, responses),
            opens_sessions=opens_sessions,
            random=Random(1),
            now=0.0,
            date=DATE,
            lifetime=604800,
            timeouts=(60.0, 60.0, 1200.0),
        )
        self.opened, self.more, self.closing, self.reports, self.dues = {}, [], [], [], []
        self.delivering = {}  # session -> [recipient]
        self.carrying = {}  # session -> message number, of its last DELIVER
        self.started = []  # message numbers of all DELIVER
        self.asked, self.lines = [], []

    def arrive(self, count=1, domain=b"a.example", sender=b"sender.example", recipients=1):
        """New messages for a domain, of one flow."""
        for _ in range(count):
            self.numbers += 1
            to = [(100 * place, domain) for place in range(recipients)]
            self.engine.arrived(self.numbers, sender, 2000, DATE, to, now=self.now)
        self.turn()

    def turn(self, seconds=0.0):
        """Let time pass, and carry out what is ordered."""
        self.now += seconds
        self.engine.advance(DATE + self.now, self.now)
        while orders := self.engine.take_orders():
            for order in orders:
                self._obey(*order)
            self.engine.advance(DATE + self.now, self.now)
        self.lines += self.engine.log_lines(self.now)

    def wait(self, seconds):
        """Let time pass as the engine wants to be called."""
        end = self.now + seconds
        while (when := self.engine.next_time()) is not None and when < end:
            self.turn(max(0.0, when - self.now) + 0.001)
        self.turn(max(0.0, end - self.now))

    def _obey(self, word, *rest):
        if word == RESOLVE:
            self.asked.append(rest[0])
            if self.hosts:
                self.engine.resolved(rest[0], self.hosts_of(rest[0]), 3600.0, False, now=self.now)
        elif word == OPEN:
            self.opened[rest[0]] = rest[1]
        elif word == MORE:
            self.more.append(rest)
            self.opened[rest[0]] = rest[1]
        elif word == DELIVER:
            self.started.append(rest[1])
            self.carrying[rest[0]] = rest[1]
            self.delivering.setdefault(rest[0], []).extend(recipient for recipient, _ in rest[2])
        elif word == CLOSE:
            self.closing.append(rest[0])
        elif word == REPORT:
            self.reports.append(rest)
        elif word == DUE:
            self.dues.append(rest)

    def hosts_of(self, domain):
        number = len({one for one in self.asked if one <= domain}) % 200
        return [
            (10, b"%b.%b" % (name.encode(), domain), [b"192.0.%d.%d" % (number, place + 1)])
            for place, name in enumerate(self.hosts)
        ]

    # events; a session is its number

    def ready(self, *sessions):
        for session in sessions:
            opening = self.opened[session]
            self.engine.ready(session, opening.host, opening.address, NO_LIMITS, self.now)
        self.turn()

    def outcome(self, session, stage, code=0, reply="", letter=""):
        opening = self.opened.get(session)
        host, address = (opening.host, opening.address) if opening else (b"", b"")
        letter = letter or ("D" if 500 <= code < 600 else "Z")
        said = f"Remote host said: {code} {reply}" if code >= 400 else reply
        return Outcome(f"{letter}192.0.2.1 does not like it.\n{said}\n".encode(), stage, code, host, address)

    def refuse(self, session, code, reply=""):
        self.engine.refused(session, self.outcome(session, GREETING, code, reply), self.now)
        self.turn()

    def fail(self, session, errno, stage=CONNECT):
        self.engine.failed(session, self.outcome(session, stage, errno), self.now)
        self.turn()

    def close(self, session, stage="", code=0, reply="", carried=0):
        """The session has gone; what it was to deliver comes back."""
        for recipient in self.delivering.pop(session, []):
            self.engine.unsent(recipient, self.now)
        outcome = self.outcome(session, stage, code, reply) if stage else None
        self.engine.closed(session, outcome, self.now, **({"carried": carried} if carried else {}))
        self.opened.pop(session, None)
        self.turn()

    def end(self, session, stage, code=0, reply="", letter="", **known):
        """One delivery of a session ends."""
        recipient = self.delivering[session].pop(0)
        letter = self.engine.result(recipient, self.outcome(session, stage, code, reply, letter), now=self.now, **known)
        self.turn()
        return letter

    def accept(self, session, carried=0):
        """The server takes all that a session delivers now."""
        for _ in range(len(self.delivering[session])):
            assert self.end(session, MESSAGE, 250, letter="K", carried=carried) == b"K"

    # what is seen

    def take_lines(self):
        lines, self.lines = [line.decode() for line in self.lines], []
        return lines

    def says(self, *words):
        """Whether one line of the log has all of the words."""
        return any(all(word in line for word in words) for line in (line.decode() for line in self.lines))

    def connecting(self):
        return [session for session in self.opened if session not in self.delivering]


def with_sessions(count=3, mail=20, rules=b"", **options):
    """Return a Post of which count sessions for a.example deliver a message each, and more mail waits."""
    post = Post(b":i=%d%b" % (count, rules), **options)
    post.arrive(mail)
    post.ready(*post.opened)
    post.ready(*post.connecting())
    assert len(post.delivering) == count and len(post.opened) == count
    post.take_lines()
    return post


def one_more(post):
    """Make room for one session more; return the number of the one that is opened."""
    for session in list(post.delivering):
        post.accept(session)
        if post.connecting():
            break
    return post.connecting()[0]


# a session start meets an address


@row(START, "many organisations are silent at once")
@row(NO_HOST_LEFT, "many organisations are silent at once")
def test_silence_of_many_is_our_own():
    post, sessions = with_many_sites()
    for session in sessions[:20]:
        assert not post.says("network")
        post.fail(session, ETIMEDOUT)
    assert post.says("network: suspected: 20 organisations silent in 15")
    post.take_lines()
    tests = [session for session in post.opened if session not in sessions]
    assert len(tests) == 8 and all(post.opened[session].connect_seconds == 5.0 for session in tests)
    for session in sessions[20:30]:
        post.fail(session, ETIMEDOUT)
        assert session in post.closing
    assert not post.says("off ") and not post.says("dead")
    post.arrive(domain=b"new.example")
    assert len(post.opened) == len(sessions) + 8  # no session but those
    for session in tests:
        post.fail(session, ETIMEDOUT)
        assert session in post.closing
    assert post.says("network: frozen: 20 organisations silent in 15") and not post.says("off ")
    for session in list(post.opened):
        if session in post.closing:
            post.close(session)
    opened = len(post.opened)
    post.wait(1.9)
    assert len(post.opened) == opened
    post.wait(0.2)
    again = list(post.opened)[opened:]
    assert len(again) == 8
    post.wait(600)
    post.ready(again[3])
    assert post.says("network: thawed after 60") and again[3] in post.closing and again[3] not in post.delivering
    # who was silent is not off, nor dead: each has a session as soon as it may
    assert {opening.host for opening in post.opened.values()} >= {b"mx1.d%d.example" % number for number in range(20)}
    assert post.reports == [] and post.dues == []


def test_a_list_that_was_bad_is_not_our_fault():
    post, sessions = with_many_sites()
    for session in sessions[:20]:
        post.fail(session, ETIMEDOUT)
    test = list(post.opened)[-1]
    post.ready(test)
    assert test in post.closing and post.says("network: not suspected any more")
    for session in sessions[20:]:
        post.fail(session, ETIMEDOUT)  # no suspicion for 5 min
    assert post.says("site d35.example#mx1: dead", "1 start failed")


def with_many_sites():
    """Return a Post that delivered to 25 organisations lately, and the sessions that connect to 40 others."""
    post = Post(b"")
    for number in range(25):
        post.arrive(domain=b"g%d.example" % number)
    post.ready(*post.opened)
    for session in list(post.delivering):
        post.accept(session)
        post.close(session)
    post.wait(20)
    for number in range(40):
        post.arrive(domain=b"d%d.example" % number)
    post.take_lines()
    return post, list(post.opened)


@row(START, "something is lacking here")
def test_what_is_lacking_here_is_nobodys_fault():
    post = Post()
    post.arrive()
    [session] = post.opened
    post.engine.lacking(post.now)
    post.fail(session, EMFILE, HERE)
    assert post.closing == [session] and post.engine.total == 900
    post.close(session)
    assert not post.says("off ") and not post.says("dead") and post.dues == []
    post.wait(61)
    assert post.engine.total == 1000 and len(post.opened) == 1


@row(START, "the other host of a hedge was faster")
def test_the_loser_of_a_hedge_is_off():
    post = Post(hosts=TWO_HOSTS)
    post.arrive(3)
    session, first = next(iter(post.opened.items()))
    assert first.hedge_seconds >= 2.0
    post.engine.waiting(session, post.now)
    post.turn()
    [(_, second)] = post.more
    assert second.host != first.host
    lost = Outcome(b"Zno", CONNECT, ECANCELED, first.host, first.address)
    post.engine.failed(session, lost, post.now)
    post.ready(session)
    assert post.says("host " + first.host.decode() + ": off 15") and session not in post.closing
    assert len(post.delivering[session]) == 1


@row(START, "a reply before or to EHLO speaks of reputation")
def test_a_greeting_about_reputation_pauses_the_organisation():
    post = Post()
    post.arrive(5)
    [session] = post.opened
    post.refuse(session, 421, "4.7.0 [TSS04] Messages temporarily deferred")
    assert post.closing == [session] and post.says("org a.example", "paused 7200") and not post.says("off ")
    post.close(session)
    post.wait(7100)
    assert not post.opened and post.dues == [] and post.reports == []
    post.wait(200)
    assert len(post.opened) == 1


@row(START, "such a reply speaks of a rate")
def test_a_greeting_about_a_rate_lowers_the_rate():
    post = Post()
    post.arrive(5)
    [session] = post.opened
    post.refuse(session, 421, "4.7.28 unusual rate of mail")
    assert post.closing == [session] and post.says("org a.example", "paused 6") and post.says("rate 1.0 a minute")
    assert post.dues == []


@row(START, "a server is shutting down: it has just ended other sessions")
def test_a_server_that_shuts_down_has_no_ceiling():
    post = with_sessions(3, hosts=["mx1"])
    session = one_more(post)
    closed = next(iter(post.delivering))
    post.close(closed, DIALOGUE, 421, "4.3.2 shutting down", carried=1)
    post.turn(0.5)
    post.take_lines()
    post.refuse(session, 421, "4.3.2 too many connections")
    assert post.says("host mx1.a.example: off") and not post.says("ceiling")


@row(START, "a reply speaks of connections, or is repeated while others are up, and all others are with other hosts")
def test_a_refusal_of_one_host_while_others_take_mail_is_that_hosts():
    post = with_sessions(4, hosts=TWO_HOSTS)
    session = one_more(post)
    opening = post.opened[session]
    while any(post.opened[one].host == opening.host for one in post.delivering):
        post.close(next(one for one in post.delivering if post.opened[one].host == opening.host))
    post.take_lines()
    post.refuse(session, 421, "too many connections")
    assert [one for one, _ in post.more][-1:] == [session] and post.opened[session].host != opening.host
    assert not post.says("ceiling 1") and session not in post.closing


@row(START, "a reply speaks of connections, or is repeated while others are up")
def test_a_refusal_while_others_are_up_is_a_ceiling():
    post = with_sessions(3)
    session = one_more(post)
    post.refuse(session, 421, "too many connections")
    assert session in post.closing and post.says("ceiling 3 for 600", "too_many_connections") and post.dues == []
    assert not post.says("off ")


def test_the_same_answer_twice_is_a_ceiling_whatever_its_words():
    post = with_sessions(3)
    session = one_more(post)
    post.refuse(session, 450, "come back")
    assert not post.says("ceiling")
    post.close(session)
    post.wait(16)
    post.refuse(one_more(post), 450, "come back")
    assert post.says("ceiling 3 for 600")


@row(START, "connection refused by a host that has others up")
def test_a_refused_connection_beside_others_is_a_ceiling():
    post = with_sessions(3)
    session = one_more(post)
    post.fail(session, ECONNREFUSED)
    assert session in post.closing and post.says("ceiling 3 for 600") and not post.says("off ")


NEXT_HOST = [
    ("521 before or to EHLO: no mail here", GREETING, 521),
    ("another 5xx before or to EHLO, other hosts are left", GREETING, 554),
    ("another 4xx before or to EHLO", GREETING, 421),
    ("connect timeout, reset, unreachable, silence or hang-up before the greeting", CONNECT, ETIMEDOUT),
    ("connect timeout, reset, unreachable, silence or hang-up before the greeting", DIALOGUE, 0),
]
for event, *_ in NEXT_HOST:
    row(START, event)


@pytest.mark.parametrize("event, stage, code", NEXT_HOST)
def test_the_next_host_is_tried_at_once(event, stage, code):
    post = Post(hosts=TWO_HOSTS)
    post.arrive(3)
    [session] = post.opened
    first = post.opened[session]
    (post.refuse if stage == GREETING else post.fail)(
        *((session, code) if stage == GREETING else (session, code, stage))
    )
    [(again, second)] = post.more
    assert again == session and second.host != first.host and post.closing == []
    assert post.says("host " + first.host.decode() + ": off 15")
    post.ready(session)
    assert post.delivering[session] and post.dues == []


@row(START, "connection refused")
@pytest.mark.parametrize("greets", [True, False])
def test_a_refused_connection_is_the_hosts_if_another_greets(greets):
    post = Post(hosts=TWO_HOSTS)
    post.arrive(3)
    [session] = post.opened
    first = post.opened[session]
    post.fail(session, ECONNREFUSED)
    assert [one for one, _ in post.more] == [session] and not post.says("off ")
    if greets:
        post.ready(session)
        assert post.says("host " + first.host.decode() + ": off 15")
    else:
        post.fail(session, ECONNREFUSED)
        assert post.says("dead") and not post.says("off ")


@row(START, "another 5xx before or to EHLO, from the last host")
def test_554_everywhere_pauses_the_site():
    post = Post()
    post.arrive(3)
    [session] = post.opened
    post.refuse(session, 554, "5.7.1 no")
    assert post.closing == [session] and post.says("site a.example#mx1", "paused 1800") and not post.says("dead")
    post.close(session)
    post.wait(1700)
    assert not post.opened and post.reports == [] and post.dues == []
    post.wait(400)
    [again] = post.opened
    post.refuse(again, 554, "5.7.1 no")
    assert post.says("paused 3600")


# no host is left to try


@row(NO_HOST_LEFT, "every host answers 521")
def test_521_everywhere_is_a_failure():
    post = Post(hosts=TWO_HOSTS)
    post.arrive(2)
    [session] = post.opened
    post.refuse(session, 521)
    post.refuse(session, 521)
    assert session in post.closing
    assert [(number, len(recipients), outcome.letter) for number, recipients, outcome in post.reports] == [
        (1, 1, b"D"),
        (2, 1, b"D"),
    ]


@row(NO_HOST_LEFT, "no host greets, but one answers, and no session is up")
def test_a_site_that_answers_is_not_dead():
    post = Post()
    post.arrive(3)
    [session] = post.opened
    post.refuse(session, 421, "try later")
    assert post.closing == [session] and post.says("site a.example#mx1", "paused 6") and not post.says("dead")
    assert post.dues == []


@row(NO_HOST_LEFT, "no host greets, but one answers, and other sessions are up")
def test_a_first_answer_without_a_word_about_connections_is_no_ceiling():
    post = with_sessions(3)
    session = one_more(post)
    post.refuse(session, 450, "come back")
    assert session in post.closing and not post.says("paused") and not post.says("ceiling")
    assert post.says("host mx1.a.example: off 15")


@row(NO_HOST_LEFT, "all hosts fail, or refuse connections")
@pytest.mark.parametrize("errno", [ETIMEDOUT, ECONNREFUSED])
def test_a_site_of_which_no_host_answers_is_dead_and_its_mail_waits(errno):
    post = Post(hosts=TWO_HOSTS)
    post.arrive(50)
    [session] = post.opened
    post.fail(session, errno)
    post.fail(session, errno)
    assert session in post.closing and post.says("site a.example#mx1+1: dead", "1 start failed")
    post.close(session)
    assert not post.opened and post.reports == [] and post.dues == []
    post.wait(70)
    assert len(post.opened) == 1  # the probe
    post.ready(*post.opened)
    assert post.says("site a.example#mx1+1: alive")


def test_a_known_site_is_dead_after_three():
    post = with_sessions(1, mail=9)
    [session] = post.delivering
    post.accept(session)
    post.close(session)
    for times in range(3):
        post.wait(3700)
        [session] = post.opened
        assert not post.says("dead")
        post.fail(session, ETIMEDOUT)
        post.close(session)
        assert post.says("dead", "3 starts failed") == (times == 2)


# a session ends by itself


def ended(stage, code=0, reply="", carried=3, sessions=1, **options):
    """Return a Post of which a session with a parcel was ended by the server, after it had carried some."""
    post = with_sessions(sessions, rules=b",c=%d" % sessions, **options)
    session = next(iter(post.delivering))
    for number in range(carried):
        post.accept(session, number)
    message = post.carrying[session]
    post.take_lines()
    post.started.clear()
    post.close(session, stage, code, reply, carried=carried)
    assert post.dues == [] and post.reports == []
    return post, message


def goes_next(post, message):
    """Whether that message is the first to go over the next session."""
    if post.connecting():
        post.ready(*post.connecting())
    return post.started[:1] == [message]


@row(END, "a reply in the middle speaks of reputation")
def test_reputation_in_the_middle():
    post, message = ended(SENDER, 421, "4.7.0 [TSS04] deferred")
    assert post.says("org a.example", "paused 7200") and not post.opened
    post.wait(7250)
    assert goes_next(post, message)


@row(END, "such a reply speaks of a rate")
def test_a_rate_in_the_middle():
    post, message = ended(SENDER, 421, "4.7.28 unusual rate")
    assert post.says("org a.example", "paused 6") and post.says("org a.example: rate") and not post.opened
    post.wait(70)
    assert goes_next(post, message)


@row(END, "such a reply speaks of messages of a connection")
def test_n_that_is_stated():
    post, message = ended(SENDER, 421, "maximum number of messages per connection", carried=4)
    assert post.says("messages a session: 4") and goes_next(post, message)


@row(END, "such a reply speaks of connections")
def test_connections_in_the_middle():
    post, message = ended(SENDER, 421, "too many connections", sessions=3)
    assert post.says("ceiling 2 for 600")
    post.close(next(iter(post.delivering)))
    assert goes_next(post, message)  # over a fresh connection


@row(END, "the server ends others of its sessions in the same second")
def test_a_server_that_ends_all_its_sessions():
    post = with_sessions(3)
    first, second, _ = post.delivering
    post.accept(first)
    post.accept(second, 0)
    post.accept(second, 1)
    post.close(first, DIALOGUE, 421, carried=1)
    post.turn(0.2)
    post.take_lines()
    post.close(second, DIALOGUE, 421, carried=2)
    assert post.says("host mx1.a.example: off") and not post.says("messages a session") and post.dues == []


@row(END, "it ends with nothing to do")
def test_an_idle_session_may_be_ended():
    post = with_sessions(1, mail=1)
    [session] = post.delivering
    post.accept(session)
    post.close(session, DIALOGUE, 421, "4.4.2 idle", carried=1)
    assert post.take_lines() == [] and not post.opened


@row(END, "4xx or 5xx to MAIL or DATA on a connection that has carried mail")
@pytest.mark.parametrize("stage, code", [(SENDER, 452), (DATA, 554), (SENDER, 451)])
def test_a_limit_of_the_connection_is_n(stage, code):
    post, message = ended(stage, code, carried=10, mail=60)
    assert not post.says("messages a session") and goes_next(post, message)
    [session] = post.delivering
    for number in range(10):
        post.accept(session, number)
    post.close(session, stage, code, carried=10)
    assert post.says("messages a session: 10") and post.dues == [] and not post.says("dead") and not post.says("off ")
    post.ready(*post.connecting())
    session = next(iter(post.delivering))
    post.arrive(40)
    for number in range(10):
        assert session not in post.closing
        post.accept(session, number)
    assert session in post.closing  # n messages, and nothing was refused


def test_what_is_refused_on_a_fresh_connection_too_is_no_limit():
    """A bad sender that is refused at MAIL must not teach that connections are short."""
    post, message = ended(SENDER, 550, carried=3, mail=60)
    for _ in range(4):
        assert goes_next(post, message)
        [session] = post.delivering
        assert post.end(session, SENDER, 550) == b"D"
        for number in range(3):
            post.accept(session, number)
        message = post.carrying[session]
        post.started.clear()
        post.close(session, SENDER, 550, carried=3)
    assert not post.says("messages a session")


@row(END, "421, or a hang-up, on a connection that has carried mail")
@pytest.mark.parametrize("stage, code", [(DIALOGUE, 0), (DIALOGUE, 421), (SENDER, 421)])
def test_a_connection_that_is_ended_three_times_at_one_number(stage, code):
    post, message = ended(stage, code, carried=5, mail=60)
    assert goes_next(post, message)
    for _ in range(2):
        assert not post.says("messages a session")
        session = next(iter(post.delivering))
        for number in range(5):
            post.accept(session, number)
        post.close(session, stage, code, carried=5)
        post.ready(*post.connecting())
    assert post.says("messages a session: 5") and post.dues == [] and not post.says("dead")


@row(END, "it ends after answers that accepted nothing")
def test_a_session_that_refused_its_mail_and_ended_is_no_failed_start():
    post = with_sessions(1, rules=b",c=1")
    [session] = post.delivering
    assert post.end(session, DATA, 554, "5.7.1 spam") == b"D"
    message = post.carrying[session]
    post.take_lines()
    post.started.clear()
    post.close(session, DATA, 451)
    assert post.take_lines() == [] and post.dues == [] and goes_next(post, message)


@row(END, "it ends before any message was answered")
def test_a_server_that_greets_and_closes_is_a_failed_start():
    """Scenario 29: dead after three; nothing goes out more than three times before its own retry time."""
    post = Post(b"")
    post.arrive(1)
    for _ in range(10):
        if post.says("dead"):
            break
        if not post.opened:
            post.wait(300)
        [session] = post.opened
        post.ready(session)
        post.close(session, DIALOGUE)
    assert post.says("site a.example#mx1: dead") and post.says("off ")
    assert len(post.started) <= 3 and post.reports == [] or post.reports[0][2].letter == b"Z"


# a transaction has too many recipients


@row(TRANSACTION, "452 or 552 to RCPT after another recipient was accepted")
def test_m_is_learned_and_the_next_message_does_not_meet_it():
    post = Post(b"")
    post.arrive(1, recipients=12)
    post.ready(*post.opened)
    [session] = post.delivering
    assert len(post.delivering[session]) == 12
    for place in range(12):
        assert post.end(session, MESSAGE, 250, letter="K", accepted=5 if place < 5 else 0) == b"K"
    assert post.says("site a.example#mx1: recipients a message: 5")
    post.arrive(1, recipients=12)
    assert [len(flying) for flying in post.delivering.values()] == [5]


# a delivery is reported


def reported(stage, code=0, reply="", rules=b"", responses=RESPONSES, letter="", carried=0, sender=b"sender.example"):
    """Return a Post of which the one delivery has ended so, and how it counted."""
    post = Post(rules, responses)
    post.arrive(sender=sender)
    post.ready(*post.opened)
    [session] = post.delivering
    post.take_lines()
    return post, post.end(session, stage, code, reply, letter, carried=carried)


PLAIN_RETRY = DATE + 400  # qmail's formula at age 0


@row(DELIVERY, "a response rule says fail")
def test_a_rule_that_fails():
    post, letter = reported(RECIPIENTS, 450, "no such thing", responses=b":4:no such thing:fail\n")
    assert letter == b"D" and post.dues == []


@row(DELIVERY, "a response rule says defer")
def test_a_rule_that_defers():
    post, letter = reported(MESSAGE, 554, "not today", responses=b"::not today:defer 2h\n")
    assert letter == b"Z" and DATE + 7200 <= post.dues[-1][1] <= DATE + 7202


@row(DELIVERY, "a response rule says ignore")
def test_a_rule_that_ignores():
    post, letter = reported(RECIPIENTS, 450, "full house", responses=b":4:full house:ignore\n")
    assert letter == b"Z" and post.dues[-1][1] == PLAIN_RETRY and post.take_lines() == []


@row(DELIVERY, "a reply speaks of reputation")
def test_reputation_pauses_and_the_message_keeps_its_place():
    post, letter = reported(RECIPIENTS, 451, "4.7.0 [TSS04] deferred")
    assert letter == b"Z" and post.dues == [] and post.says("org a.example", "paused 7200")
    post.close(*post.opened)
    post.wait(7250)
    post.ready(*post.opened)
    assert post.started == [1, 1]


@row(DELIVERY, "a reply speaks of a rate")
def test_a_rate_is_learned_and_the_message_keeps_its_place():
    post, letter = reported(MESSAGE, 451, "4.7.650 rate limited due to IP reputation")
    assert letter == b"Z" and post.dues == [] and post.says("site a.example#mx1", "paused 6")


@row(DELIVERY, "a reply speaks of connections")
def test_connections_at_mail():
    post, letter = reported(SENDER, 451, "too many connections")
    assert letter == b"Z" and post.dues == [] and post.says("site a.example#mx1", "paused 6")
    assert list(post.opened) == post.closing


@row(DELIVERY, "a reply speaks of messages of a connection that has carried some")
def test_n_that_is_stated_by_a_result():
    post, letter = reported(SENDER, 451, "maximum number of messages per connection", carried=7)
    assert letter == b"Z" and post.dues == [] and post.says("messages a session: 7")
    assert list(post.opened)[:1] == post.closing


@row(DELIVERY, "45x to RCPT at first sight")
@row(DELIVERY, "words of a greylist, or 45x to RCPT at first sight where later tries are accepted")
@pytest.mark.parametrize("reply", ["4.7.1 try again later", "4.7.1 no"])
def test_a_greylist(reply):
    post, letter = reported(RECIPIENTS, 451, reply)
    assert letter == b"Z" and DATE + 330 <= post.dues[-1][1] <= DATE + 332 and post.take_lines() == []
    post.wait(335)
    if post.connecting():
        post.ready(*post.connecting())
    [session] = [one for one, flying in post.delivering.items() if flying]
    post.accept(session)  # it is known now that 331 s are enough
    post.arrive()
    if post.connecting():
        post.ready(*post.connecting())
    [session] = [one for one, flying in post.delivering.items() if flying]
    before = DATE + post.now
    assert post.end(session, RECIPIENTS, 451) == b"Z"
    assert before < post.dues[-1][1] <= before + 332 * 1.05 + 2


@row(DELIVERY, "4xx of policy")
def test_a_bad_sender_is_paused_and_nobody_else():
    """Scenario 18: within 15 deliveries, and the good ones go on."""
    post = Post(b":i=10")
    post.arrive(30, sender=b"bad.example")
    post.arrive(30, sender=b"good.example")
    tried = 0
    while not post.says("flow bad.example: paused 900 at a.example"):
        post.ready(*post.connecting())
        session = next(one for one, flying in post.delivering.items() if flying)
        if post.started[-1] and is_of_bad(post, session):
            tried += 1
            post.end(session, SENDER, 451, "4.7.1 policy")
        else:
            post.accept(session)
        assert tried <= 15
    while busy := [one for one, flying in post.delivering.items() if flying]:
        if is_of_bad(post, busy[0]):
            post.end(busy[0], SENDER, 451, "4.7.1 policy")  # what was in flight
        else:
            post.accept(busy[0])
    assert sum(number > 30 for number in post.started) == 30
    assert sum(number <= 30 for number in post.started) <= 20


def is_of_bad(post, session):
    """Whether what a session delivers is of the first 30 messages."""
    rows = post.engine._core.rows
    return rows.m_number[rows.p_message[rows.r_parcel[post.delivering[session][0]]]] <= 30


COUNTED = [
    ("another 4xx to RCPT", RECIPIENTS, 452, "4.2.2 full", "", b"Z"),
    ("another 4xx to RCPT", RECIPIENTS, 450, "4.2.1 too much", "", b"Z"),
    ("another 4xx to MAIL, DATA or the message", MESSAGE, 452, "4.3.1 disk full", "", b"Z"),
    ("5xx to RCPT", RECIPIENTS, 550, "5.1.1 nobody", "", b"D"),
    ("5xx to MAIL, DATA or the message", MESSAGE, 554, "5.7.1 spam", "", b"D"),
    ("something is lacking here, or an agent found no host", HERE, 0, "", "Z", b"Z"),
    ("something is lacking here, or an agent found no host", LOOKUP, 0, "", "D", b"D"),
    ("whatever else a report says", UNKNOWN, 0, "", "Z", b"Z"),
]
for event, *_ in COUNTED:
    row(DELIVERY, event)


@pytest.mark.parametrize("event, stage, code, reply, reported_letter, letter", COUNTED)
def test_what_counts_as_it_is_reported(event, stage, code, reply, reported_letter, letter):
    post, found = reported(stage, code, reply, letter=reported_letter)
    assert found == letter and post.take_lines() == []
    assert [date for _, date in post.dues] == ([PLAIN_RETRY] if letter == b"Z" else [])


@row(DELIVERY, "reply timeout, or hang-up, after the message")
def test_a_doubtful_end():
    post, letter = reported(DOUBTFUL)
    assert letter == b"Z" and post.dues[-1][1] == PLAIN_RETRY
    assert post.says("possibly delivered") and post.says("host mx1.a.example: off 15")


@row(DELIVERY, "reply timeout, or hang-up, before the message")
def test_a_lost_dialogue():
    post, letter = reported(DIALOGUE)
    assert letter == b"Z" and post.dues[-1][1] == PLAIN_RETRY
    assert post.says("host mx1.a.example: off 15") and not post.says("possibly")


def test_a_site_that_defers_everybody_gets_one_message_a_minute():
    """Scenario 19: at most 80 deferrals in an hour, and everything once it accepts."""
    post = Post(b":i=10")
    for number in range(300):
        post.arrive(sender=b"s%d.example" % (number % 5))
    deferred = 0
    while post.now < 3600:
        post.ready(*post.connecting())
        for session in [one for one, flying in post.delivering.items() if flying]:
            deferred += 1
            post.end(session, RECIPIENTS, 452, "4.3.1 storage")
        post.wait(5)
        for session in post.closing:
            if session in post.opened:
                post.close(session)
    assert post.says("soft-blocked") and 20 <= deferred <= 90
    before = len(post.started)
    for _ in range(400):
        post.ready(*post.connecting())
        busy = [one for one, flying in post.delivering.items() if flying]
        for session in busy:
            post.accept(session)
        if not busy:
            post.wait(5)
    assert post.says("soft-blocked no more") and len(post.started) - before >= 200


def test_a_greylist_without_words_is_found_in_spite_of_a_soft_block():
    """Everybody is deferred at first sight, so one message a minute goes: what was tried before goes first."""
    post = Post(b":i=10")
    for number in range(100):
        post.arrive(sender=b"s%d.example" % (number % 20))
    tried = {}
    while not post.says("soft-blocked no more") and post.now < 1000:
        post.ready(*post.connecting())
        for session in [one for one, flying in post.delivering.items() if flying]:
            number = post.carrying[session]
            if post.now - tried.setdefault(number, post.now) > 300:
                post.accept(session)
            else:
                post.end(session, RECIPIENTS, 450)
        post.wait(5)
        for session in post.closing:
            if session in post.opened:
                post.close(session)
    assert post.says("soft-blocked: 450") and 330 <= post.now < 460


# name servers answer


@row(NAMES, "SERVFAIL, timeout of the resolver, or none")
def test_a_lane_without_an_answer_waits():
    post = Post(hosts=())
    post.arrive(3)
    for times, seconds in enumerate((60, 120, 240)):
        assert post.asked == [b"a.example"] * (times + 1)
        post.engine.trouble(b"a.example", b"timeout", post.now)
        post.wait(seconds - 1)
        assert len(post.asked) == times + 1
        post.wait(2)
    assert post.dues == [] and post.reports == []
    post.engine.resolved(b"a.example", MX, 60.0, False, now=post.now)
    post.turn()
    assert len(post.opened) == 1


def test_a_silent_resolver_is_no_fault_of_a_domain():
    """While it is silent each is asked about once a minute; the first answer has all asked about at once."""
    post = Post(hosts=())
    domains = [b"d%d.example" % number for number in range(30)]
    for domain in domains:
        post.arrive(domain=domain)
    for _ in range(10):
        for domain in domains:
            post.engine.trouble(domain, b"timeout", post.now)
        post.asked.clear()
        post.wait(61)
        assert sorted(post.asked) == sorted(domains)
    assert post.says("resolver: suspected")
    for domain in domains[:29]:
        post.engine.trouble(domain, b"timeout", post.now)
    post.asked.clear()
    post.engine.resolved(domains[29], MX, 60.0, True, now=post.now)  # an old answer
    post.turn()
    assert post.asked == []
    post.engine.nowhere(domains[29], Outcome(b"DNo such host. (#5.1.2)\n", LOOKUP), post.now)
    post.turn()
    assert sorted(post.asked) == sorted(domains[:29]) and post.says("resolver: not suspected any more")


@row(NAMES, "no such domain, or no mail exchanger and no address")
def test_a_domain_that_is_missing_three_times_over_an_hour():
    post = Post(hosts=())
    post.arrive(2)
    missing = Outcome(b"DSorry, I couldn't find any host named a.example. (#5.1.2)\n", LOOKUP)
    letters = []
    while b"D" not in letters and post.now < 86400:
        if len(post.asked) > len(letters) // 2:
            post.engine.nowhere(b"a.example", missing, post.now)
            post.turn()
            letters = [outcome.letter for _, recipients, outcome in post.reports for _ in recipients]
        else:
            post.wait(60)
    assert 3600 <= post.now < 10000 and len(post.asked) >= 3
    assert letters[-2:] == [b"D", b"D"] and set(letters[:-2]) == {b"Z"} and len(letters) == 2 * len(post.asked)


@row(NAMES, "null MX, or all exchangers are ourselves")
@pytest.mark.parametrize("status", ["5.1.10", "5.4.6"])
def test_a_domain_that_takes_no_mail(status):
    post = Post(hosts=())
    post.arrive(2)
    post.engine.nowhere(b"a.example", Outcome(b"DIt takes no mail. (#%b)\n" % status.encode(), LOOKUP), post.now)
    post.turn()
    assert [(number, outcome.letter) for number, _, outcome in post.reports] == [(1, b"D"), (2, b"D")]


# agents that connect by themselves


def test_an_agent_that_could_not_connect_postpones_no_parcel():
    post = Post(b"", opens_sessions=False)
    post.arrive(3)
    assert post.end(None, CONNECT, 0, "couldn't establish an SMTP connection. (#4.4.1)") == b"Z"
    assert post.dues == [] and post.says("site a.example: dead")
    for _ in range(len(post.delivering[None])):
        post.end(None, CONNECT, 0)
    assert post.dues == []
    post.wait(80)
    assert post.delivering[None]


def test_every_row_has_a_test():
    assert {(moment, one.event) for moment, part in BLAME.items() for one in part} - set(TESTED) == set()
