"""cdb files: ours against the original's reader in pure-cdb, whole and damaged."""

import errno
import os

import cdblib
import pytest

from pyqmail.system import cdb
from pyqmail.system.cdb import Reader, hash_of, write_cdb
from pyqmail.system.durable import NotWritten

RECORDS = [(b"1.2.3.4", b"D\0"), (b"", b""), (b"1.2.3.4", b"second"), (b"=.example.org", b"+A=b\0")]


def make(tmp_path, records):
    write_cdb(tmp_path / "rules.cdb", tmp_path / "rules.tmp", records)
    return tmp_path / "rules.cdb"


def test_the_first_of_equal_keys_is_found_and_an_absent_key_is_none(tmp_path):
    with Reader(make(tmp_path, RECORDS)) as reader:
        assert [reader.get(key) for key, _ in RECORDS] == [b"D\0", b"", b"D\0", b"+A=b\0"]
        assert reader.get(b"1.2.3.5") is None
    assert not (tmp_path / "rules.tmp").exists()


def test_an_empty_database_has_2048_bytes_and_no_keys(tmp_path):
    path = make(tmp_path, [])
    assert path.stat().st_size == 2048
    with Reader(path) as reader:
        assert reader.get(b"") is None


@pytest.mark.parametrize("whole_bytes, kept_slots", [(0, 0), (0, 40), (0, 1000), (1 << 30, 1000)])
def test_every_key_of_a_large_one_is_found(tmp_path, monkeypatch, whole_bytes, kept_slots):
    monkeypatch.setattr(cdb, "_WHOLE_BYTES", whole_bytes)
    monkeypatch.setattr(cdb, "_KEPT_SLOTS", kept_slots)
    records = [(b"host%d.example" % number, b"%d" % number) for number in range(5000)]
    with Reader(make(tmp_path, records)) as reader:
        assert all(reader.get(key) == data for key, data in records)
        assert all(reader.get(key + b"x") is None for key, _ in records)


def test_the_hash_is_that_of_cdb():
    for key in (b"", b"a", b"1.2.3.4", bytes(range(256))):
        assert hash_of(key) == cdblib.djb_hash(key)


@pytest.mark.parametrize("look_bytes", [17, 100, 4096, 1 << 20])
@pytest.mark.parametrize("whole_bytes", [0, 1 << 30])
def test_the_lengths_of_keys_are_known_after_some_looks(tmp_path, monkeypatch, whole_bytes, look_bytes):
    monkeypatch.setattr(cdb, "_WHOLE_BYTES", whole_bytes)
    monkeypatch.setattr(cdb, "_LOOK_BYTES", look_bytes)
    records = [(b"_a" + b"b" * number, b"_a") for number in range(0, 300, 7)] + [(b"x" * 40, b"_b")]
    with Reader(make(tmp_path, records)) as reader:
        size, looks = reader.seen.st_size, 1
        while (found := reader.key_lengths((b"_0", b"_a"))) is None:
            looks += 1
        assert found == {len(key) for key, _ in records[:-1] if len(key) < 256}
        assert looks <= 1 + size // look_bytes
        assert reader.key_lengths((b"_0", b"_a")) is found
        while (found := reader.key_lengths((b"^0",))) is None:
            pass
        assert found == set()


def test_the_lengths_of_keys_stay_unknown_in_a_file_cut_short(tmp_path, monkeypatch):
    monkeypatch.setattr(cdb, "_WHOLE_BYTES", 0)
    path = make(tmp_path, RECORDS)
    with Reader(path) as reader:
        os.truncate(path, 2060)
        assert [reader.key_lengths((b"_0",)) for _ in range(3)] == [None] * 3


@pytest.mark.parametrize("size", [0, 1, 7, 1000, 2047, 2048, 2060, -1])
@pytest.mark.parametrize("whole_bytes", [0, 1 << 30])
def test_a_file_cut_short_is_a_protocol_error(tmp_path, monkeypatch, size, whole_bytes):
    monkeypatch.setattr(cdb, "_WHOLE_BYTES", whole_bytes)
    path = make(tmp_path, RECORDS)
    data = path.read_bytes()
    path.write_bytes(data[:size])
    with Reader(path) as reader, pytest.raises(OSError) as caught:
        for key, _ in RECORDS:
            reader.get(key)
    assert caught.value.errno == errno.EPROTO


def test_a_file_of_zeros_is_damaged_and_none_without_keys(tmp_path):
    (tmp_path / "rules.cdb").write_bytes(bytes(4096))
    with Reader(tmp_path / "rules.cdb") as reader, pytest.raises(OSError) as caught:
        reader.get(b"a")
    assert caught.value.errno == errno.EPROTO


def test_a_full_table_ends_the_search(tmp_path):
    """No empty slot: a search that only such a slot ends would never end."""
    path = make(tmp_path, [(b"a", b"1")])
    data = bytearray(path.read_bytes())
    number = hash_of(b"a") & 255
    table = int.from_bytes(data[number * 8 : number * 8 + 4], "little")
    record = next(data[at : at + 8] for at in (table, table + 8) if any(data[at : at + 8]))
    data[table : table + 16] = record * 2
    data[2048 + 8] = ord("b")
    path.write_bytes(data)
    with Reader(path) as reader:
        assert reader.get(b"a") is None


def test_lengths_beyond_the_file_are_a_protocol_error(tmp_path, monkeypatch):
    monkeypatch.setattr(cdb, "_WHOLE_BYTES", 0)
    path = make(tmp_path, [(b"a", b"1")])
    data = bytearray(path.read_bytes())
    data[2052:2056] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    with Reader(path) as reader, pytest.raises(OSError) as caught:
        reader.get(b"a")
    assert caught.value.errno == errno.EPROTO


def test_what_could_not_be_done_is_named(tmp_path):
    with pytest.raises(NotWritten) as caught:
        write_cdb(tmp_path / "x", tmp_path / "absent/x", [])
    assert (caught.value.step, caught.value.error.errno) == ("create", errno.ENOENT)
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotWritten) as caught:
        write_cdb(tmp_path / "folder", tmp_path / "tmp", [])
    assert (caught.value.step, os.path.exists(tmp_path / "tmp")) == ("move", True)
