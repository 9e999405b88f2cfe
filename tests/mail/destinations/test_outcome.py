"""What an Outcome reads from the words of a report: those that protocol/smtp/report.py composes, among others."""

import pytest

from pyqmail.mail.destinations import outcome as stages
from pyqmail.mail.destinations.outcome import Outcome
from pyqmail.mail.routing import exchangers
from pyqmail.mail.spawners import server
from pyqmail.protocol.smtp import report

ADDRESS = b"192.0.2.1"
REFUSED = b"550 5.1.1 no such mailbox\n"


def refused_recipient(reply, code):
    return report.compose_one(ADDRESS, report.recipient_record(ADDRESS, code, reply), b"unused")


REPORTS = [
    # report                                                 stage, code, enhanced, address
    (report.accepted(ADDRESS, b"250 ok 17\n"), stages.MESSAGE, 250, b"", ADDRESS),
    (report.accepted(ADDRESS, b"250 2.0.0 queued\n"), stages.MESSAGE, 250, b"2.0.0", ADDRESS),
    (report.accepted(b"2001:db8::1", b"250 ok\n"), stages.MESSAGE, 250, b"", b"2001:db8::1"),
    (refused_recipient(REFUSED, 550), stages.RECIPIENTS, 550, b"5.1.1", ADDRESS),
    (refused_recipient(b"450-4.2.1 one\n450 4.2.1 two\n", 450), stages.RECIPIENTS, 450, b"4.2.1", ADDRESS),
    (report.refused(report.RECIPIENTS, ADDRESS, 0, b""), stages.RECIPIENTS, 0, b"", ADDRESS),
    (report.refused(report.GREETING, ADDRESS, 554, b"554 go away\n"), stages.GREETING, 554, b"", ADDRESS),
    (report.refused(report.NAME, ADDRESS, 421, b"421 4.7.0 wait\n"), stages.NAME, 421, b"4.7.0", ADDRESS),
    (report.refused(report.SENDER, ADDRESS, 550, b"550\n"), stages.SENDER, 550, b"", ADDRESS),
    (report.refused(report.DATA, ADDRESS, 451, b"451 (#4.3.0)\n"), stages.DATA, 451, b"", ADDRESS),
    (report.refused(report.MESSAGE, ADDRESS, 552, b"552 5.3.4 too big\n"), stages.MESSAGE, 552, b"5.3.4", ADDRESS),
    (report.refused(report.MESSAGE, ADDRESS, 0, b"what?\n"), stages.MESSAGE, 0, b"", ADDRESS),
    (report.died(ADDRESS, False), stages.DIALOGUE, 0, b"4.4.2", ADDRESS),
    (report.died(ADDRESS, True), stages.DOUBTFUL, 0, b"4.4.2", ADDRESS),
    (exchangers.NO_CONNECTION, stages.CONNECT, 0, b"4.4.1", b""),
    (exchangers.SOFT_DNS, stages.LOOKUP, 0, b"4.1.2", b""),
    (exchangers.NO_EXCHANGER, stages.LOOKUP, 0, b"5.4.4", b""),
    (exchangers.no_host(b"x (#4.4.1)"), stages.LOOKUP, 0, b"5.1.2", b""),
    (report.SENDER_BREAK, stages.SENDER, 0, b"5.1.7", b""),
    (server.NO_HOST, stages.RECIPIENTS, 0, b"5.1.3", b""),
    (report.PARTIAL_LINE, stages.MESSAGE, 0, b"5.6.2", b""),
    (report.NO_RESOURCES, stages.HERE, 0, b"4.3.0", b""),
    (server.NO_MESSAGE, stages.HERE, 0, b"4.3.0", b""),
    (server.TOO_BIG, stages.HERE, 0, b"4.3.5", b""),
    (report.CRASHED, stages.UNKNOWN, 0, b"", b""),
    (b"Kdone some other way\n", stages.UNKNOWN, 0, b"", b""),
    (b"Z(#4.x.0)\n", stages.UNKNOWN, 0, b"", b""),
    (b"", stages.UNKNOWN, 0, b"", b""),
]


@pytest.mark.parametrize("text, stage, code, enhanced, address", REPORTS)
def test_what_the_words_of_a_report_say(text, stage, code, enhanced, address):
    outcome = Outcome(text)
    assert (outcome.stage, outcome.code, outcome.enhanced, outcome.address) == (stage, code, enhanced, address)
    assert outcome.letter + outcome.text == outcome.report == text
    assert Outcome(text).address == address  # whatever is asked first


def test_best_preference_is_me():
    outcome = Outcome(exchangers.BEST_IS_ME)
    assert (outcome.stage, outcome.enhanced) == (stages.LOOKUP, b"5.4.6")


def test_what_the_wire_says_is_not_read_from_the_report():
    outcome = Outcome(exchangers.NO_CONNECTION, stages.CONNECT, 110, b"mx.example", b"192.0.2.9")
    assert (outcome.stage, outcome.code, outcome.host) == (stages.CONNECT, 110, b"mx.example")
    assert (outcome.address, outcome.enhanced) == (b"192.0.2.9", b"4.4.1")


def test_the_wire_may_know_where_but_not_what():
    outcome = Outcome(refused_recipient(REFUSED, 550), host=b"mx.example", address=b"192.0.2.9")
    assert (outcome.stage, outcome.address, outcome.code) == (stages.RECIPIENTS, b"192.0.2.9", 550)


def test_a_local_delivery_quotes_no_server():
    outcome = Outcome(report.refused(report.DATA, ADDRESS, 451, b"451 4.7.1 x\n"), stages.LOCAL)
    assert (outcome.stage, outcome.code, outcome.enhanced, outcome.address) == (stages.LOCAL, 0, b"", b"")
