from pyqmail.base.bounded_table import BoundedTable


def test_the_oldest_go_and_a_key_that_is_put_or_refreshed_is_the_newest():
    table = BoundedTable(3)
    for key in "abc":
        table.put(key, key.upper())
    table.put("a", "again")
    table.refresh("b")
    table.put("d", "D")
    assert [table.get(key) for key in "abcd"] == ["again", "B", None, "D"]
    assert (len(table), table.weight) == (3, 3)
    table.drop("b")
    table.drop("nobody")
    assert (len(table), table.get("b", 7)) == (2, 7)


def test_weights_are_counted_and_what_is_too_heavy_alone_is_not_kept():
    table = BoundedTable(100)
    table.put("a", 1, 60)
    table.put("b", 2, 30)
    table.put("a", 3, 80)
    assert (table.get("a"), table.get("b"), table.weight) == (3, None, 80)
    table.put("c", 4, 101)
    assert (len(table), table.weight) == (0, 0)
