"""Which words of an outcome are shown to the response rules: what a server said, and nothing else."""

import pytest

from pyqmail.mail.destinations.faults.replies import MAX_TEXT, classify
from pyqmail.mail.destinations.outcome import CONNECT, DOUBTFUL, GREETING, HERE, LOCAL, LOOKUP, MESSAGE, Outcome


class Asked:
    """Rules that keep what they are asked about, and know every reply."""

    def __init__(self):
        self.calls = []

    def match(self, *asked):
        self.calls.append(asked)
        return "rule"


SAID = b"Remote host said: 421 4.7.0 [TSS04] too many connections\n"


def test_a_reply_is_shown_with_its_codes_and_groups():
    rules = Asked()
    outcome = Outcome(b"ZConnected to 192.0.2.1 but greeting failed.\n" + SAID, GREETING, 421)
    assert classify(outcome, rules, (b"@yahoo",)) == "rule"
    assert rules.calls == [(421, b"4.7.0", b"421 4.7.0 [TSS04] too many connections\n", (b"@yahoo",))]


NOT_SHOWN = [
    Outcome(b"Z" + SAID, CONNECT, 111),
    Outcome(b"Z" + SAID, LOCAL),  # a program of this machine may write what it likes
    Outcome(b"Z" + SAID, LOOKUP, 421),
    Outcome(b"Z" + SAID, HERE, 421),
    Outcome(b"Z" + SAID, DOUBTFUL),
    Outcome(b"K192.0.2.1 accepted message.\nRemote host said: 250 too many connections\n", MESSAGE),
    Outcome(b"ZConnected to 192.0.2.1 but connection died. (#4.4.2)\n"),
    Outcome(b"Ztoo many connections"),
    Outcome(b""),
]


@pytest.mark.parametrize("outcome", NOT_SHOWN)
def test_what_is_no_refusal_of_a_server_is_not_shown(outcome):
    rules = Asked()
    assert classify(outcome, rules) is None and rules.calls == []


def test_a_long_reply_is_cut():
    rules = Asked()
    classify(Outcome(b"ZRemote host said: 421 " + b"x" * 10**6, GREETING, 421), rules)
    assert len(rules.calls[0][2]) == MAX_TEXT
