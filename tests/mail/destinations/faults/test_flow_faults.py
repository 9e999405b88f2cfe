"""A flow that alone is refused, and a site that defers everybody."""

import pytest

from pyqmail.mail.destinations.faults.flow_faults import FlowFaults, SoftBlock


def deferrals(faults, flow, count, now):
    return [faults.deferred(flow, now) for _ in range(count)]


def acceptances(faults, flow, count, is_new=True):
    for _ in range(count):
        faults.accepted(flow, is_new)


def test_ten_in_a_row_while_others_are_accepted():
    faults = FlowFaults()
    deferrals(faults, b"bad", 1, 0.0)
    acceptances(faults, b"good", 5)
    assert deferrals(faults, b"bad", 8, 0.0) == [0.0] * 8
    assert deferrals(faults, b"bad", 1, 5.0) == [900.0]
    assert faults.paused_until(b"bad") == 905.0 and faults.paused_until(b"good") == 0.0


NO_PAUSE = [
    # deferrals, then acceptances of others at first sight and later, then deferrals
    (10, 4, 0, 10),
    (10, 4, 20, 10),  # a greylist accepts later what it defers at first
    (5, 9, 0, 4),
]


@pytest.mark.parametrize("before, accepted, later, after", NO_PAUSE)
def test_what_is_no_reason(before, accepted, later, after):
    faults = FlowFaults()
    deferrals(faults, b"bad", before, 0.0)
    acceptances(faults, b"good", accepted)
    acceptances(faults, b"good", later, False)
    assert set(deferrals(faults, b"bad", after, 0.0)) <= {0.0}


def test_an_acceptance_of_its_own_ends_the_run():
    faults = FlowFaults()
    deferrals(faults, b"bad", 9, 0.0)
    acceptances(faults, b"good", 9)
    faults.accepted(b"bad", False)
    acceptances(faults, b"good", 9)
    assert deferrals(faults, b"bad", 9, 0.0) == [0.0] * 9
    assert faults.is_empty(0.0) is False
    faults.accepted(b"bad")
    assert faults.is_empty(0.0) is True


def test_pauses_double_to_four_hours_and_begin_again_after_a_clean_time():
    faults, now, seconds = FlowFaults(), 0.0, []
    deferrals(faults, b"bad", 9, now)
    for _ in range(6):
        acceptances(faults, b"good", 5)
        seconds.append(faults.deferred(b"bad", now))
        assert faults.deferred(b"bad", now + 1) == 0.0  # what was in flight
        now = faults.paused_until(b"bad")
    assert seconds == [900, 1800, 3600, 7200, 14400, 14400]
    acceptances(faults, b"good", 5)
    assert faults.is_empty(now + 14400.0) is False and faults.is_empty(now + 14401.0) is True
    assert faults.deferred(b"bad", now + 14401.0) == 900.0


def test_a_rule_may_pause_a_flow():
    faults = FlowFaults()
    faults.pause(b"bad", 300.0)
    faults.pause(b"bad", 200.0)  # pauses are only ever extended
    faults.accepted(b"bad")  # what was in flight
    assert faults.paused_until(b"bad") == 300.0 and not faults.is_empty(300.0)


def test_scenario_18_at_this_level():
    """One flow refused among 20 good ones: paused within 15 deliveries."""
    faults = FlowFaults()
    tried = 0
    while not faults.paused_until(b"bad"):
        tried += 1
        faults.deferred(b"bad", 0.0)
        for number in range(20):
            faults.accepted(b"good%d" % number)
    assert tried <= 15


def test_flows_that_are_watched_are_bounded():
    faults = FlowFaults()
    for number in range(5000):
        faults.deferred(b"flow%d" % number, 0.0)
    assert len(faults._runs) == 1000


def test_eighteen_of_twenty_with_one_code_from_three_flows():
    block = SoftBlock()
    block.accepted()
    block.accepted()
    states = [block.deferred(451, b"flow%d" % (number % 3), 10.0) for number in range(18)]
    assert states == [False] * 17 + [True]
    assert block.is_blocked and block.code == 451
    assert block.deferred(451, b"flow1", 10.0) is False  # it is blocked already


NO_BLOCK = [
    [(451, number % 2) for number in range(40)],  # two flows: it may be they
    [(451 if number % 5 else 0, number % 4) for number in range(80)],  # 16 of 20
    [(450 + number % 2, number % 5) for number in range(40)],  # no common code
    [(0, 0)] * 40,
]


@pytest.mark.parametrize("deliveries", NO_BLOCK)
def test_what_is_no_block(deliveries):
    block = SoftBlock()
    for code, flow in deliveries:
        assert not (block.deferred(code, b"%d" % flow, 0.0) if code else block.accepted())
    assert not block.is_blocked and block.next_time() is None and block.allows(0.0)


def test_scenario_19_at_this_level():
    """All RCPT deferred for an hour: 20 deferrals, then one a minute, then everything."""
    block, now, tried = SoftBlock(), 0.0, 0
    while now < 3600.0:
        if block.allows(now):
            tried += 1
            block.sent(now)
            block.deferred(451, b"flow%d" % (tried % 5), now)
        now += 0.5
    assert block.is_blocked and 18 + 59 <= tried <= 80
    assert now <= block.next_time() < now + 60.0
    assert block.accepted() is True and block.allows(now) and not block.is_blocked
    assert block.accepted() is False and block.is_idle()


def test_one_deferral_after_the_block_is_no_new_one():
    block = SoftBlock()
    for number in range(20):
        block.deferred(451, b"flow%d" % number, 0.0)
    block.accepted()
    assert [block.deferred(451, b"flow%d" % number, 0.0) for number in range(17)] == [False] * 17
    assert not block.is_idle()
