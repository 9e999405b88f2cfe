"""The answers of pysend's status socket are whole, for engines that have mail and for those that have none."""

import random
import time

import pytest

from pyqmail.mail.destinations.engine import Engine
from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.manager_log.status_answers import StatusAnswers
from pyqmail.protocol.wires import send_status_wire as wire
from pyqmail.system.turn_meter import TurnMeter

RULES = RuleSet.of_text(b"yahoo.*:@yahoo\n@yahoo:C=1\nheld.example:hold\n")


def engine(channel, opens_sessions):
    return Engine(
        20,
        RULES,
        channel=channel,
        opens_sessions=opens_sessions,
        random=random.Random(1),
        now=time.monotonic(),
        date=time.time(),
        lifetime=604800,
        timeouts=(60, 60, 1200),
    )


@pytest.fixture
def answers():
    """answers.ask(kind, question) -> fields; engines with a local message, and remote ones to three domains."""
    local, remote = engine("local", False), engine("remote", True)
    now, date = time.monotonic(), time.time()
    local.arrived(7, b"", 100, int(date), [(0, b"u@here.example")], now=now)
    domains = [b"yahoo.com", b"held.example", b"a.example", b"caf\xe9.example"]
    remote.arrived(8, b"here.example", 100, int(date), list(enumerate(domains)), now=now)
    for each in (local, remote):
        each.advance(date, now)
    made = StatusAnswers(None, None, local, remote, TurnMeter())
    made.ask = lambda kind, question: wire.unpack(kind, made.answer(question))
    return made


@pytest.mark.parametrize("key", wire.KEYS)
def test_the_shape(answers, key):
    fields = answers.ask(wire.SHAPE, wire.shape(key, 10))
    assert fields["key"] == key.decode()
    assert fields["total"]["total"] == 5 == sum(fields["total"]["ages"])
    assert sum(row["total"] for row in fields["rows"]) == 5


def test_only_so_many_rows(answers):
    fields = answers.ask(wire.SHAPE, wire.shape(b"domain", 2))
    assert (len(fields["rows"]), fields["left_out"]) == (2, 3)


SUBJECTS = [
    # kind, name                                domains of the entries
    (wire.MESSAGE, b"7", ["u@here.example"]),
    (wire.MESSAGE, b"8", ["yahoo.com", "held.example", "a.example", "caf\udce9.example"]),
    (wire.MESSAGE, b"9", []),
    (wire.RECIPIENT, b"u@here.example", ["u@here.example"]),
    (wire.RECIPIENT, b"X@A.Example", ["a.example"]),
    (wire.DOMAIN, b"held.example", ["held.example"]),
    (wire.DOMAIN, b"caf\xe9.example", ["caf\udce9.example"]),
    (wire.DOMAIN, b"nobody.example", []),
]


@pytest.mark.parametrize("kind, name, domains", SUBJECTS)
def test_why(answers, kind, name, domains):
    fields = answers.ask(wire.WHY, wire.why(kind, name))
    assert sorted(entry["domain"] for entry in fields["entries"]) == sorted(domains)
    assert all(entry["reason"] for entry in fields["entries"])


def test_top(answers):
    fields = answers.ask(wire.TOP, wire.top(5))
    assert (fields["total"], fields["used"], fields["longest_turn_ms"]) == (20, 0, 0)


@pytest.mark.parametrize("line", [b"", b"what\n", b"top 1"])
def test_what_is_no_question_has_an_answer(answers, line):
    with pytest.raises(wire.MalformedSendStatus, match="question"):
        answers.ask(wire.TOP, line)
