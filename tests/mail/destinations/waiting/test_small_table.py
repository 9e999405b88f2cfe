"""The small table, against a dict."""

from hypothesis import given
from hypothesis import strategies as st

from pyqmail.mail.destinations.waiting.small_table import SmallTable

KEYS = st.integers(1, 4)


@given(st.lists(st.tuples(st.sampled_from(("set", "set", "remove")), KEYS), max_size=40))
def test_it_is_a_dict(steps):
    table, expected = SmallTable(), {}
    for number, (what, key) in enumerate(steps):
        if what == "set":
            table[key] = expected[key] = number
        else:
            table.remove(key)
            expected.pop(key, None)
        assert list(table) == list(expected)
        assert list(table.values()) == list(expected.values())
        assert (len(table), bool(table)) == (len(expected), bool(expected))
        for one in range(1, 5):
            assert (one in table) == (one in expected)
            assert table.get(one) == expected.get(one)
