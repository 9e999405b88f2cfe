import os

import pytest

from pyqmail.mail.remote.tcpto import MAX_COUNT, SIZE, Timeouts, clear

NOW = 1_800_000_000
PID = 3  # patience (60 + 3) * 64 = 4032 seconds


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "tcpto"
    path.write_bytes(bytes(SIZE))
    return path


def record(address, count, when):
    return bytes(map(int, address.split("."))) + bytes((count, 0, 0, 0)) + when.to_bytes(4, "little") + bytes(4)


def records(path):
    data = path.read_bytes()
    assert len(data) == SIZE
    return [data[at : at + 16] for at in range(0, SIZE, 16)]


def note(path, address, timed_out, now, pid=PID):
    timeouts = Timeouts(str(path), pid)
    dead = timeouts.is_dead(address, now)
    timeouts.note(address, timed_out, now)
    return dead


def test_the_life_of_a_record(table):
    assert not note(table, b"10.0.0.1", True, NOW)
    assert records(table)[0] == record("10.0.0.1", 1, NOW)
    assert not note(table, b"10.0.0.1", True, NOW + 119)  # the same trouble
    assert records(table)[0] == record("10.0.0.1", 1, NOW)
    assert not note(table, b"10.0.0.1", True, NOW + 120)
    assert records(table)[0] == record("10.0.0.1", 2, NOW + 120)
    timeouts = Timeouts(str(table), PID)
    assert timeouts.is_dead(b"10.0.0.1", NOW + 120 + 4031)
    assert not timeouts.is_dead(b"10.0.0.1", NOW + 120 + 4032)
    assert not timeouts.is_dead(b"10.0.0.2", NOW + 130)
    note(table, b"10.0.0.1", False, NOW + 5000)
    assert records(table)[0] == record("10.0.0.1", 0, NOW + 120)
    assert not timeouts.is_dead(b"10.0.0.1", NOW + 130)


def test_the_count_ends(table):
    table.write_bytes(record("10.0.0.1", MAX_COUNT, NOW) + bytes(SIZE - 16))
    note(table, b"10.0.0.1", True, NOW + 200)
    assert records(table)[0] == record("10.0.0.1", MAX_COUNT, NOW + 200)


def test_other_failures_and_successes_leave_strangers_out(table):
    note(table, b"10.0.0.1", False, NOW)
    assert table.read_bytes() == bytes(SIZE)


def test_a_full_table_gives_up_what_matters_least(table):
    full = [record(f"10.0.1.{i}", 2, NOW + i) for i in range(64)]
    full[7] = record("10.0.1.7", 1, NOW + 7)  # 1024 seconds less than the others
    table.write_bytes(b"".join(full))
    note(table, b"10.0.0.1", True, NOW + 100)
    full[7] = record("10.0.0.1", 1, NOW + 100)
    assert records(table) == full


def test_without_the_file_or_with_a_strange_one_there_is_no_memory(tmp_path):
    absent = tmp_path / "absent"
    assert not note(absent, b"10.0.0.1", True, NOW) and not absent.exists()
    short = tmp_path / "short"
    short.write_bytes(b"x" * 100)
    assert not note(short, b"10.0.0.1", True, NOW) and short.read_bytes() == b"x" * 100
    clear(str(absent))
    assert not os.path.exists(absent)


def test_ipv6_is_not_remembered(table):
    assert not note(table, b"::1", True, NOW)
    assert table.read_bytes() == bytes(SIZE)


def test_clear(table):
    note(table, b"10.0.0.1", True, NOW)
    clear(str(table))
    assert table.read_bytes() == bytes(SIZE)
