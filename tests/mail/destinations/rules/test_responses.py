"""Words of replies: which rule is met, and that the automaton finds what a plain search finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyqmail.mail.destinations.rules import defaults
from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.destinations.rules.responses import MAX_TEXT, Automaton, Response, read_response
from pyqmail.mail.destinations.rules.tables import read_responses

READ = [
    # line                                       as it would be written
    (b"@Yahoo:421:[TSS04]:pause 2h",             b"@yahoo:421:[tss04]:pause 7200s"),
    (b":45:Rate: limited:rate org  ",            b":45:rate: limited:rate org"),
    (b"::x:defer 5m flow",                       b"::x:defer 300s flow"),
    (b":554:x:ceiling source",                   b":554:x:ceiling source"),
]  # fmt: skip


@pytest.mark.parametrize("line, text", READ)
def test_what_is_read(line, text):
    rule = read_response(3, line)
    assert (rule.text, rule.line) == (text, 3)


@pytest.mark.parametrize("line", [b"", b" ", b"# ::x:rate"])
def test_what_is_no_rule(line):
    assert read_response(1, line) is None


RULES = b"""::busy:defer 1m
:4:too many connections:ceiling
:421:too many:rate
@yahoo:4:many:n
@apple::hcm1:pause 15m
:45:4.7.1:grey
"""
MET = [
    # code, enhanced, text, groups                                         the line that is met
    (421, b"", b"busy", [], 1),
    (421, b"4.3.2", b"4.3.2 Too Many Connections from you", [], 2),
    (421, b"", b"too many cooks", [], 3),
    (451, b"", b"too many cooks", [], None),
    (421, b"", b"too many connections", [b"@yahoo"], 4),
    (421, b"", b"too many connections", [b"@apple"], 2),
    (554, b"", b"[HCM1]", [b"@apple"], 5),
    (554, b"", b"[HCM1]", [], None),
    (450, b"4.7.1", b"wait", [], 6),
    (450, b"", b"x 4.7.1 wait", [], 6),
    (450, b"", b"", [], None),
    (421, b"", b"x" * MAX_TEXT + b"busy", [], None),
]


@pytest.mark.parametrize("code, enhanced, text, groups, line", MET)
def test_which_rule_is_met(code, enhanced, text, groups, line):
    rule = Automaton(read_responses(RULES)[0]).match(code, enhanced, text, groups)
    assert (None if rule is None else rule.line) == line


def plain_search(rules, digits, text, groups):
    found = [
        rule
        for rule in rules
        if rule.words in text and digits.startswith(rule.code) and (not rule.group or rule.group in groups)
    ]
    return min(found, key=lambda rule: (not rule.group, -len(rule.words), rule.line), default=None)


WORDS = st.text("abA", min_size=1, max_size=5).map(str.encode)
PARTS = st.tuples(st.sampled_from([b"", b"@g", b"@h"]), st.sampled_from([b"", b"4", b"42", b"421", b"5"]), WORDS)


@given(st.lists(PARTS, max_size=12), st.text("abA", max_size=30), st.sampled_from([421, 450, 550]))
def test_the_automaton_finds_what_a_plain_search_finds(parts, text, code):
    rules = [Response(*part[:2], part[2].lower(), b"rate", 0.0, "", number) for number, part in enumerate(parts)]
    digits, line = b"%d" % code, text.encode()
    met = Automaton(rules).match(code, b"", line, [b"@g"])
    assert met is plain_search(rules, digits, b"%b  %b" % (digits, line.lower()), [b"@g"])


SHIPPED = [
    # what providers say                                                                        groups, action, seconds
    (421, b"4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints", [], b"pause", 7200),
    (421, b"4.7.1 [TSS05] All messages permanently deferred", [b"@yahoo"], b"pause", 14400),
    (451, b"4.7.650 The mail server has been temporarily rate limited due to IP reputation", [], b"rate", 0),
    (451, b"4.7.652 The mail server has exceeded the maximum number of connections", [], b"ceiling", 0),
    (421, b"Too many connections", [], b"ceiling", 0),
    (421, b"4.7.28 Our system has detected an unusual rate of unsolicited mail", [], b"rate", 0),
    (450, b"4.2.1 The user you are trying to contact is receiving mail too quickly", [b"@google"], b"ignore", 0),
    (450, b"4.2.0 <a@b.example>: Recipient address rejected: Greylisted", [], b"grey", 0),
    (554, b"5.7.1 [HM08] HCM1", [b"@apple"], None, 0),
    (421, b"4.7.1 [HM08] HCM1", [b"@apple"], b"pause", 900),
    (421, b"RL000010 Too many", [b"@comcast"], b"pause", 300),
    (554, b"AUP#In-1330", [], b"pause", 86400),
    (452, b"4.5.3 Error", [], b"m", 0),
    (550, b"5.1.1 no such user", [b"@google", b"@yahoo"], None, 0),
]


@pytest.mark.parametrize("code, text, groups, action, seconds", SHIPPED)
def test_what_providers_say_is_understood(code, text, groups, action, seconds):
    """Without a file, and with the one that a new home gets."""
    for responses in (None, defaults.SHIPPED_RESPONSES):
        rule = RuleSet.of_text(defaults.SHIPPED, responses).responses.match(code, b"", text, groups)
        assert (action, seconds) == (None, 0) if rule is None else (rule.action, rule.seconds) == (action, seconds)


def test_rules_of_a_table_without_responses_are_the_shipped_ones():
    assert RuleSet({}).responses.match(421, b"", b"too many connections").action == b"ceiling"


def test_an_empty_file_has_no_rules():
    assert RuleSet.of_text(b"", b"").responses.match(421, b"", b"too many connections") is None
