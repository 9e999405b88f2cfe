"""Rules: which one holds for a client, and when a changed file is seen."""

import os
import threading

import pytest

from pyqmail.system.cdb import Reader, write_cdb
from pyqmail.tcp.rules.keys import readable
from pyqmail.tcp.rules.lookup import Instruction, Rules, addresses, find_rule
from pyqmail.tcp.rules.source import compile_lines

ORDERS = [
    # ip, host, info, and the keys in the order they count
    (
        (b"1.2.3.4", b"a.b.example", b"joe"),
        [b"joe@1.2.3.4", b"joe@=a.b.example", b"1.2.3.4", b"=a.b.example", b"1.2.3.", b"1.2.", b"1."]
        + [b"_0000000h000000o0000000wx00000400"[:length] for length in range(33, 1, -1)]
        + [b"=.b.example", b"=.example", b"=", b""],
    ),
    (
        (b"2001:db8::9", b"h", b"joe"),
        [b"joe@2001:0DB8:0000:0000:0000:0000:0000:0009", b"joe@2001:db8::9", b"joe@=h"]
        + [b"2001:0DB8:0000:0000:0000:0000:0000:0009", b"2001:db8::9", b"=h", b"2001:db8::", b"2001:db8:", b"2001:"]
        + [b"^00`000000000000a0000bc0de0fgh000", b"^00`", b"^0", b"=", b""],
    ),
    ((b"2001:DB8:0::9", None, None), [b"2001:0DB8:0000:0000:0000:0000:0000:0009", b"2001:db8::9", b"2001:db8::"]),
    ((b"unix", None, b"1000"), [b"1000@unix", b"unix", b""]),
    ((b"1.2.3", None, None), [b"1.2.3", b"1.2.", b"1.", b""]),
    ((b"1:2.3", None, None), [b"1:2.3", b"1:2.", b""]),
]


@pytest.mark.parametrize("client, order", ORDERS)
def test_the_order_in_which_addresses_count(client, order):
    for at, key in enumerate(order):
        rules = {later: b"" for later in order[at:]}
        assert find_rule(rules.get, *client).key == key


def test_what_is_unknown_is_not_looked_for_but_an_empty_info_is():
    seen = []
    assert find_rule(seen.append, b"1.2.3.4", None, None, lambda starts: set()) is None
    assert seen == [b"1.2.3.4", b"1.2.3.", b"1.2.", b"1.", b""]
    assert find_rule({b"@1.2.3.4": b"D\0"}.get, b"1.2.3.4", None, b"").is_denied


@pytest.mark.parametrize("ip, count", [(b"1.2.3.4", 32), (b"1::2", 128), (b"1.2.3", 0), (b"unix", 0), (b"1::2::3", 0)])
def test_networks_of_sizes_that_no_rule_has_are_not_looked_for(ip, count):
    def networks(key_lengths):
        return [key for key in addresses(ip, None, None, key_lengths) if key[:1] in (b"_", b"^")]

    assert networks(lambda starts: set()) == []
    assert len(networks(None)) == len(networks(lambda starts: None)) == count
    assert [len(key) for key in networks(lambda starts: {9, 25, 200})] == ([25, 9] if count else [])


def test_an_instruction_ignores_what_it_does_not_know():
    rule = Instruction(b"k", b"+A=b=c\0+bad\0Xx\0\0+B=\0+unended=1")
    assert (rule.is_denied, rule.variables) == (False, [(b"A", b"b=c"), (b"B", b"")])


class Place:
    def __init__(self, folder):
        self.path = str(folder / "rules.cdb")

    def write(self, source):
        write_cdb(self.path, self.path + ".tmp", compile_lines(source))


def test_a_replaced_file_is_followed_at_once(tmp_path):
    place = Place(tmp_path)
    rules = Rules(place.path)
    with pytest.raises(FileNotFoundError):
        rules.find(b"1.2.3.4", None, None)
    assert Rules(place.path, absent_allows=True).find(b"1.2.3.4", None, None) is None
    place.write(b":deny\n")
    assert rules.find(b"1.2.3.4", None, None).is_denied
    place.write(b":allow\n")
    assert not rules.find(b"1.2.3.4", None, None).is_denied
    os.unlink(place.path)
    with pytest.raises(FileNotFoundError):
        rules.find(b"1.2.3.4", None, None)
    place.write(b":deny\n")
    assert rules.find(b"1.2.3.4", None, None).is_denied


def test_a_relative_name_stays_where_it_was(tmp_path, monkeypatch):
    Place(tmp_path).write(b":deny\n")
    monkeypatch.chdir(tmp_path)
    rules = Rules("rules.cdb")
    monkeypatch.chdir("/")
    assert rules.find(b"1.2.3.4", None, None).is_denied


SMALL = b"10.0.0.0/8:deny\n2001:db8::/32:deny\n192.0.2.0/24:allow\n"
LARGE = b"".join(b'10.%d.%d.%d:allow,NOTE_a="_0"\n' % (n >> 16, n >> 8 & 255, n & 255) for n in range(9000)) + SMALL


@pytest.mark.parametrize("source", [SMALL, LARGE, SMALL + LARGE])
def test_networks_are_found_in_files_of_any_size(tmp_path, source):
    place = Place(tmp_path)
    place.write(source)
    rules = Rules(place.path)
    for _ in range(10):  # the first searches do not know yet which sizes of networks there are
        for ip, shown in [
            (b"10.200.0.1", b"10.0.0.0/8"),
            (b"192.0.2.9", b"192.0.2.0/24"),
            (b"2001:db8:1::", b"2001:db8::/32"),
            (b"11.0.0.1", None),
            (b"2001:db9::", None),
        ]:
            rule = rules.find(ip, None, None)
            assert shown == (rule and readable(rule.key))


@pytest.mark.parametrize("more", [b"", LARGE])
def test_a_search_goes_on_in_the_file_it_began_in(tmp_path, more):
    place = Place(tmp_path)
    place.write(b"192.0.2.0/24:deny\n" + more)
    with Reader(place.path) as reader:

        def get(key):
            place.write(b":allow\n")
            return reader.get(key)

        assert find_rule(get, b"192.0.2.1", None, None, reader.key_lengths).is_denied
    assert not Rules(place.path).find(b"192.0.2.1", None, None).is_denied


@pytest.mark.parametrize("content", [b"", b"x" * 3000, bytes(300_000)])
def test_a_file_overwritten_during_a_search_is_an_error_and_nothing_else(tmp_path, content):
    place = Place(tmp_path)
    place.write(LARGE)
    with Reader(place.path) as reader:
        (tmp_path / "rules.cdb").write_bytes(content)
        with pytest.raises(OSError, match="Protocol error"):
            find_rule(reader.get, b"10.0.0.1", None, None, reader.key_lengths)


def test_while_files_are_replaced_each_search_sees_one_of_them(tmp_path):
    place, over = Place(tmp_path), threading.Event()
    sources = {"a": b"1.2.3.4:deny\n" + LARGE, "b": LARGE + b"1.2.3.4:allow,A=/b/\n"}
    for name, source in sources.items():
        write_cdb(str(tmp_path / name), place.path + ".tmp", compile_lines(source))
    os.symlink("a", place.path)

    def replace():
        while not over.is_set():
            for name in ("b", "a"):
                os.symlink(name, place.path + ".new")
                os.rename(place.path + ".new", place.path)

    thread, seen, searches = threading.Thread(target=replace), set(), 0
    thread.start()
    try:
        rules = Rules(place.path)
        while searches < 2000 or (len(seen) < 2 and searches < 2_000_000):
            rule = rules.find(b"1.2.3.4", None, None)
            seen.add((rule.is_denied, *rule.variables))
            searches += 1
    finally:
        over.set()
        thread.join()
    assert seen == {(True,), (False, (b"A", b"b"))}
