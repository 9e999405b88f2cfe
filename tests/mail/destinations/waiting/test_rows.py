"""Messages, parcels and recipients, against plain dictionaries."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pyqmail.mail.destinations.waiting.rows import IS_SPLIT, MailRows


class RowsMachine(RuleBasedStateMachine):
    """parcels: parcel -> (message number, lane, offsets)"""

    def __init__(self):
        super().__init__()
        self.rows, self.messages, self.parcels, self.count = MailRows(), {}, {}, 0

    @rule(number=st.integers(1, 2**64 - 1), size=st.integers(0, 2**40), birth=st.integers(-5, 2**33))
    def add_message(self, number, size, birth):
        if number not in self.messages:
            self.messages[number] = self.rows.add_message(number, 7, size, birth, 0)
            assert self.rows.find(number) == self.messages[number]

    @precondition(lambda self: self.messages)
    @rule(data=st.data(), lane=st.integers(1, 3), count=st.integers(1, 9))
    def add_parcel(self, data, lane, count):
        number = data.draw(st.sampled_from(sorted(self.messages)))
        offsets = list(range(self.count, self.count + count))
        self.count += count
        parcel = self.rows.add_parcel(self.messages[number], lane, offsets)
        assert parcel not in self.parcels
        self.parcels[parcel] = (number, lane, offsets)

    @precondition(lambda self: self.parcels)
    @rule(data=st.data(), most=st.integers(1, 9))
    def cut(self, data, most):
        parcel = data.draw(st.sampled_from(sorted(self.parcels)))
        number, lane, offsets = self.parcels[parcel]
        front = self.rows.cut(parcel, most)
        assert (front == parcel) == (len(offsets) <= most)
        if front != parcel:
            assert front not in self.parcels
            self.parcels[front], self.parcels[parcel] = (number, lane, offsets[:most]), (number, lane, offsets[most:])
            assert self.rows.p_flags[front] & self.rows.p_flags[parcel] & IS_SPLIT

    @precondition(lambda self: self.parcels)
    @rule(data=st.data(), place=st.integers(0, 8), is_removed=st.booleans())
    def one_recipient(self, data, place, is_removed):
        parcel = data.draw(st.sampled_from(sorted(self.parcels)))
        number, lane, offsets = self.parcels[parcel]
        offset = offsets[place % len(offsets)]
        recipient = self.rows.recipients(parcel)[place % len(offsets)]
        left = [other for other in offsets if other != offset]
        if is_removed:
            assert self.rows.remove_recipient(recipient) == (not left)
        else:
            other = self.rows.split_off(recipient)
            assert (other == parcel) == (not left)
            self.parcels[other] = (number, lane, [offset])
        if left:
            self.parcels[parcel] = (number, lane, left)
        elif is_removed:
            self.rows.remove_parcel(parcel)
            del self.parcels[parcel]

    @precondition(lambda self: self.parcels)
    @rule(data=st.data())
    def remove_parcel(self, data):
        parcel = data.draw(st.sampled_from(sorted(self.parcels)))
        self.rows.remove_parcel(parcel)
        del self.parcels[parcel]

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def remove_message(self, data):
        number = data.draw(st.sampled_from(sorted(self.messages)))
        message = self.messages.pop(number)
        for parcel in self.rows.parcels(message):
            self.rows.remove_parcel(parcel)
            assert self.parcels.pop(parcel)[0] == number
        assert self.rows.m_left[message] == 0
        self.rows.remove_message(message)
        assert self.rows.find(number) == 0

    @invariant()
    def all_is_there(self):
        rows = self.rows
        for parcel, (number, lane, offsets) in self.parcels.items():
            recipients = rows.recipients(parcel)
            assert [rows.r_offset[recipient] for recipient in recipients] == offsets
            assert {rows.r_parcel[recipient] for recipient in recipients} == {parcel}
            assert (rows.m_number[rows.p_message[parcel]], rows.p_lane[parcel]) == (number, lane)
            assert rows.count(parcel) == len(offsets) and rows.count(parcel, 3) == min(3, len(offsets))
        for number, message in self.messages.items():
            own = {parcel for parcel, where in self.parcels.items() if where[0] == number}
            assert set(rows.parcels(message)) == own
            assert rows.m_left[message] == sum(len(self.parcels[parcel][2]) for parcel in own)
        total = sum(len(offsets) for _, _, offsets in self.parcels.values())
        assert (rows.message_count, rows.parcel_count) == (len(self.messages), len(self.parcels))
        assert rows.recipient_count == total


TestRows = RowsMachine.TestCase


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(900, 1024))
def test_rows_are_used_again(rounds, count):
    rows = MailRows()
    for _ in range(rounds):
        message = rows.add_message(9, 0, 0, 0, 0)
        for offset in range(count):
            rows.add_parcel(message, 1, [offset])
        for parcel in rows.parcels(message):
            rows.remove_parcel(parcel)
        rows.remove_message(message)
    assert max(len(rows.m_number), len(rows.p_next), len(rows.r_next)) <= 1025


@pytest.mark.parametrize("most", [1, 2, 49, 50])
def test_a_cut_keeps_the_time_and_the_tries(most):
    rows = MailRows()
    parcel = rows.add_parcel(rows.add_message(1, 0, 0, 0, 0), 1, range(100))
    rows.p_due[parcel], rows.p_tries[parcel] = 1234, 5
    front = rows.cut(parcel, most)
    assert (rows.p_due[front], rows.p_tries[front], rows.count(front)) == (1234, 5, most)
