"""Rows by their key, against a dictionary."""

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from pyqmail.mail.destinations.waiting.numbers import RowIndex

KEYS = st.integers(0, 40) | st.integers(0, 2**64 - 1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=300))
def test_it_finds_what_a_dictionary_finds(steps):
    keys, chain = array("Q", [0]), array("I", [0])
    index, known, free = RowIndex(keys, chain), {}, []
    for is_new, key in steps:
        if is_new and key not in known:
            row = free.pop() if free else len(keys)
            if row == len(keys):
                keys.append(0)
                chain.append(0)
            keys[row] = key
            index.add(row)
            known[key] = row
        elif not is_new and key in known:
            free.append(known.pop(key))
            index.remove(free[-1])
        assert index.find(key) == known.get(key, 0)
    assert len(index) == len(known)
    assert all(index.find(key) == row for key, row in known.items())


def test_chains_stay_short():
    keys, chain = array("Q", [0]), array("I", [0])
    index = RowIndex(keys, chain)
    for row in range(1, 20_001):
        keys.append(row * 4096)
        chain.append(0)
        index.add(row)
    longest = 0
    for row in range(1, 20_001):
        length, at = 1, chain[row]
        while at:
            length, at = length + 1, chain[at]
        longest = max(longest, length)
    assert longest <= 12
