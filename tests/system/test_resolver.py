"""Questions to a real small name server on loopback, blocking and over asyncio."""

import asyncio
import os
import re
import socket
import threading
import tracemalloc

import pytest

from pyqmail.system import async_resolver, resolver
from pyqmail.system.async_resolver import AT_ONCE, AnswerCache, AsyncResolver
from pyqmail.system.name_servers import find_servers
from pyqmail.system.resolver import NoHost, NoRecord, Records, Soft

QUICK = (0.2,)
MX, A, AAAA, PTR, TXT, CNAME = 15, 1, 28, 12, 16, 5


def ip(text):
    return socket.inet_aton(text)


def mx(server, preference, name):
    return preference.to_bytes(2, "big") + server.name(name)


def blocking(server, what, name, waits=QUICK):
    return getattr(resolver, what)(name, server.environ(), waits)


def at_once(server, what, name, waits=QUICK):
    method = {"exchangers_of": "exchangers", "addresses_of": "addresses", "name_of": "name", "text_of": "text"}[what]
    return asyncio.run(getattr(AsyncResolver(server.environ(), waits), method)(name))


@pytest.fixture(params=[blocking, at_once], ids=["blocking", "asyncio"])
def ask(request, name_server):
    return lambda what, name, **how: request.param(name_server, what, name, **how)


def test_exchangers_in_order_of_preference(ask, name_server):
    name_server.zone |= {
        (b"d.test", MX): [mx(name_server, p, h) for p, h in ((20, b"b.test"), (10, b"A.test"), (30, b"c.test"))],
        (b"a.test", A): [ip("10.0.0.1"), ip("10.0.0.2")],
        (b"b.test", A): [ip("10.0.0.3")],
    }
    wanted = [(10, b"a.test", b"10.0.0.1"), (10, b"a.test", b"10.0.0.2"), (20, b"b.test", b"10.0.0.3")]
    assert ask("exchangers_of", b"d.test") == wanted
    assert ask("exchangers_of", b"D.Test.") == wanted


def test_equal_preferences_are_shuffled(name_server):
    name_server.zone[b"d.test", MX] = [mx(name_server, 5, b"h%d.test" % i) for i in range(6)]
    name_server.zone |= {(b"h%d.test" % i, A): [ip(f"10.0.0.{i}")] for i in range(6)}
    orders = {tuple(h for _, h, _ in blocking(name_server, "exchangers_of", b"d.test")) for _ in range(12)}
    assert len(orders) > 1


def test_a_domain_without_exchanger_is_its_own(ask, name_server):
    name_server.zone |= {(b"d.test", A): [ip("10.0.0.1")], (b"six.test", AAAA): [bytes(15) + b"\1"]}
    assert ask("exchangers_of", b"d.test") == [(0, b"d.test", b"10.0.0.1")]
    assert ask("exchangers_of", b"six.test") == [(0, b"six.test", b"::1")]


def test_an_ipv6_address_is_asked_for_only_without_an_ipv4_one(ask, name_server):
    name_server.zone |= {(b"d.test", A): [ip("10.0.0.1")], (b"d.test", AAAA): [bytes(15) + b"\1"]}
    assert ask("addresses_of", b"d.test") == [b"10.0.0.1"]
    assert name_server.asked[b"d.test", AAAA] == 0


@pytest.mark.parametrize("name", [b"10.1.2.3", b"[10.1.2.3]"])
def test_a_literal_needs_no_server(ask, name_server, name):
    assert ask("exchangers_of", name) == [(0, b"10.1.2.3", b"10.1.2.3")]
    assert ask("addresses_of", name) == [b"10.1.2.3"]
    assert not name_server.asked


def test_an_exchanger_may_be_a_literal(ask, name_server):
    name_server.zone[b"d.test", MX] = [mx(name_server, 1, b"10.0.0.9")]
    assert ask("exchangers_of", b"d.test") == [(1, b"10.0.0.9", b"10.0.0.9")]


NOT_THERE = [
    # zone                                                          what is raised
    ({}, NoHost),
    ({(b"d.test", TXT): []}, NoHost),  # the name is there, neither MX nor address is
    ({(b"d.test", MX): ["."]}, NoRecord),
    ({(b"d.test", MX): ["gone.test"]}, NoRecord),
    ({(b"d.test", MX): ["bare.test"], (b"bare.test", TXT): []}, NoRecord),
    ({(b"d.test", MX): ["gone.test", "ill.test"], b"ill.test": "servfail"}, Soft),
    ({b"d.test": "servfail"}, Soft),
    ({b"d.test": "silent"}, Soft),
    ({b"d.test": "malformed"}, Soft),
    ({(b"d.test", A): "servfail"}, Soft),
]


@pytest.mark.parametrize("zone, wanted", NOT_THERE)
def test_no_exchangers(ask, name_server, zone, wanted):
    for key, value in zone.items():
        texts = isinstance(value, list)
        name_server.zone[key] = [mx(name_server, 1, text.encode()) for text in value] if texts else value
    with pytest.raises(wanted):
        ask("exchangers_of", b"d.test")


def test_one_exchanger_that_is_found_is_enough(ask, name_server):
    name_server.zone |= {
        (b"d.test", MX): [mx(name_server, 1, b"ill.test"), mx(name_server, 2, b"well.test")],
        b"ill.test": "servfail",
        (b"well.test", A): [ip("10.0.0.1")],
    }
    assert ask("exchangers_of", b"d.test") == [(2, b"well.test", b"10.0.0.1")]


@pytest.mark.parametrize("trouble, words", [("servfail", "temporary failure"), ("silent", "timed out")])
def test_reasons(ask, name_server, trouble, words):
    name_server.zone[b"d.test"] = trouble
    with pytest.raises(Soft, match=f"^{words}$"):
        ask("addresses_of", b"d.test")


def test_a_refused_port_is_told_at_once(name_server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    nobody = {b"PYQMAIL_DNS": b"127.0.0.1:%d" % port}
    with pytest.raises(Soft, match="^connection refused$"):
        resolver.addresses_of(b"d.test", nobody, (30,))
    with pytest.raises(Soft, match="^connection refused$"):
        asyncio.run(AsyncResolver(nobody, (30,)).addresses(b"d.test"))
    name_server.zone[b"d.test", A] = [ip("10.0.0.1")]
    both = {b"PYQMAIL_DNS": nobody[b"PYQMAIL_DNS"] + b" " + name_server.environ()[b"PYQMAIL_DNS"]}
    assert resolver.addresses_of(b"d.test", both, (30,)) == [b"10.0.0.1"]


def test_a_silent_server_is_asked_in_each_round(name_server):
    name_server.zone[b"d.test"] = "silent"
    with pytest.raises(Soft):
        blocking(name_server, "addresses_of", b"d.test", (0.05, 0.05, 0.05))
    assert name_server.asked[b"d.test", A] == 3


def test_aliases_are_followed_within_the_answer_and_loops_end(ask, name_server):
    name_server.zone |= {
        (b"alias.test", A): [(CNAME, name_server.name(b"real.test")), ip("10.0.0.1")],
        (b"loop.test", A): [(CNAME, name_server.name(b"loop.test"))],
        (b"loop.test", AAAA): [(CNAME, name_server.name(b"loop.test"))],
    }
    assert ask("addresses_of", b"alias.test") == [b"10.0.0.1"]
    try:
        assert ask("addresses_of", b"loop.test") == []
    except NoRecord:
        pass


def test_a_huge_answer_comes_by_tcp(ask, name_server):
    name_server.zone[b"big.test"] = "cut"
    name_server.zone[b"big.test", A] = [ip(f"10.0.{i // 256}.{i % 256}") for i in range(2000)]
    assert len(ask("addresses_of", b"big.test")) == 2000


def test_a_forged_answer_is_ignored(ask, name_server):
    name_server.zone[b"d.test", A], name_server.is_forged = [ip("10.0.0.1")], True
    assert ask("addresses_of", b"d.test") == [b"10.0.0.1"]


@pytest.mark.parametrize("way", [blocking, at_once])
def test_forged_answers_without_end_do_not_prolong_a_question(way):
    class Server:
        def environ(self):
            return {b"PYQMAIL_DNS": b"127.0.0.1:%d" % sock.getsockname()[1]}

    def flood():
        question, client = sock.recvfrom(4096)
        forged = bytes((question[0] ^ 1,)) + question[1:]
        while not is_over.is_set():
            sock.sendto(forged, client)

    is_over = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            with pytest.raises(Soft):
                way(Server(), "addresses_of", b"d.test")
        finally:
            is_over.set()
            flooding.join()


@pytest.mark.parametrize("data", [b"\1x\0\0\5", b"\1\2\3\4"], ids=["chaos", "unknown"])
def test_records_of_another_class_do_not_count(ask, name_server, data):
    name_server.zone[b"d.test", A] = [(A, data, 3 if len(data) == 5 else 42), ip("10.0.0.1")]
    assert ask("addresses_of", b"d.test") == [b"10.0.0.1"]


def test_a_domain_with_very_many_addresses_is_cut(ask, name_server):
    many = [ip(f"10.0.{i // 256}.{i % 256}") for i in range(4000)]
    name_server.zone |= {b"d.test": "cut", (b"d.test", MX): [], (b"d.test", A): many}
    assert len(ask("exchangers_of", b"d.test")) == resolver.MAX_ADDRESSES
    name_server.zone |= {(b"e.test", MX): [mx(name_server, 1, b"d.test")]}
    assert len(ask("exchangers_of", b"e.test")) == resolver.MAX_ADDRESSES


def test_what_a_question_holds_does_not_grow_with_the_addresses_of_its_exchangers(name_server):
    many = [ip(f"10.0.{i // 256}.{i % 256}") for i in range(3000)]
    hosts, domains = [b"h%02d.test" % i for i in range(20)], [b"d%02d.test" % i for i in range(50)]
    name_server.zone |= {host: "cut" for host in hosts} | {(host, A): many for host in hosts}
    name_server.zone |= {(domain, MX): [mx(name_server, 1, host) for host in hosts] for domain in domains}

    async def ask_all():
        known = AsyncResolver(name_server.environ(), (5,))
        await asyncio.gather(*map(known.addresses, hosts))  # remembered: what comes now is the questions'
        tracemalloc.start()
        answers = await asyncio.gather(*map(known.exchangers, domains))
        return answers, tracemalloc.get_traced_memory()[1]

    try:
        answers, peak_bytes = asyncio.run(ask_all())
    finally:
        tracemalloc.stop()
    assert {len(answer) for answer in answers} == {resolver.MAX_ADDRESSES}
    assert peak_bytes < len(domains) * len(hosts) * 3000 * 8 / 2  # half of a reference to each of them


NAMES = [
    (b"Mail.Example", b"mail.example"),
    (b"odd name!.ex-am_ple", b"odd\\040name\\041.ex-am_ple"),
    (b"", b"."),
]


@pytest.mark.parametrize("record, name", NAMES)
def test_name(ask, name_server, record, name):
    name_server.zone[b"3.2.1.10.in-addr.arpa", PTR] = [name_server.name(record), name_server.name(b"second")]
    assert ask("name_of", b"10.1.2.3") == name


def test_no_name(ask, name_server):
    assert ask("name_of", b"10.1.2.3") is None
    name_server.zone[b"1." + b"0." * 31 + b"ip6.arpa", PTR] = [name_server.name(b"six.test")]
    assert ask("name_of", b"::1") == b"six.test"


def test_text(ask, name_server):
    name_server.zone[b"t.test", TXT] = [b"\3abc\2d\n", b"\1e"]
    assert ask("text_of", b"t.test") == b"abcd?e"


def test_blocking_absence_is_no_error(name_server):
    assert blocking(name_server, "addresses_of", b"gone.test") == []
    assert blocking(name_server, "text_of", b"gone.test") is None
    with pytest.raises(Soft, match="^protocol error$"):
        blocking(name_server, "addresses_of", b"x" * 64 + b".test")
    with pytest.raises(NoHost):
        blocking(name_server, "exchangers_of", b"x." * 200)


def test_equal_questions_are_asked_once_and_remembered_but_not_failures(name_server):
    name_server.zone |= {(b"d.test", A): [ip("10.0.0.1")], b"ill.test": "servfail"}

    async def ask_all():
        known = AsyncResolver(name_server.environ(), QUICK)
        await asyncio.gather(*(known.addresses(b"D.test") for _ in range(20)))
        await known.addresses(b"d.test")
        for _ in range(2):
            with pytest.raises(Soft):
                await known.addresses(b"ill.test")
        for _ in range(2):
            with pytest.raises(NoHost):
                await known.addresses(b"gone.test")

    asyncio.run(ask_all())
    assert name_server.asked == {(b"d.test", A): 1, (b"ill.test", A): 2, (b"gone.test", A): 1}


SERVERS = [
    # environment                                   servers
    ({b"PYQMAIL_DNS": b"127.0.0.1:5353 [::1]:54 10.0.0.1 ::1"},
     [("127.0.0.1", 5353), ("::1", 54), ("10.0.0.1", 53), ("::1", 53)]),
    ({b"DNSCACHEIP": b"127.0.0.1.10.0.0.2"}, [("127.0.0.1", 53), ("10.0.0.2", 53)]),
    ({b"DNSCACHEIP": b"nonsense"}, [("192.0.2.1", 53), ("192.0.2.2", 53)]),
    ({}, [("192.0.2.1", 53), ("192.0.2.2", 53)]),
]  # fmt: skip


@pytest.mark.parametrize("environ, servers", SERVERS)
def test_servers(tmp_path, environ, servers):
    file = tmp_path / "resolv.conf"
    file.write_text("search x\nnameserver 192.0.2.1\n# nameserver 1.1.1.1\nnameserver\nnameserver 192.0.2.2 x\n")
    assert find_servers(environ, str(file)) == servers
    assert find_servers({}, str(tmp_path / "absent")) == [("127.0.0.1", 53)]


def test_only_the_resolver_names_dnspython():
    root = os.path.dirname(resolver.__file__)
    users = []
    for folder, _, names in os.walk(os.path.dirname(root)):
        for name in names:
            if name.endswith(".py"):
                with open(os.path.join(folder, name)) as file:
                    users += [name] if re.search(r"^\s*(import|from) dns\b", file.read(), re.M) else []
    assert users == ["resolver.py"]


def test_of_five_hundred_exchangers_the_best_are_kept(ask, name_server):
    name_server.zone |= {
        b"d.test": "cut",
        (b"d.test", MX): [mx(name_server, 500 - i, b"h%d.test" % i) for i in range(500)],
    }
    name_server.zone |= {(b"h%d.test" % i, A): [ip("10.0.0.1")] for i in range(500)}
    found = ask("exchangers_of", b"d.test")
    assert [preference for preference, _, _ in found] == list(range(1, 1 + resolver.MAX_EXCHANGERS))
    assert sum(count for (name, _), count in name_server.asked.items() if name != b"d.test") == resolver.MAX_EXCHANGERS


def overfill(name_server, name, kind=A):
    name_server.zone |= {name: "cut", (name, kind): [(99, b"")] * 4097}


def test_too_many_records_are_a_failure_that_may_pass(ask, name_server):
    overfill(name_server, b"d.test", MX)
    with pytest.raises(Soft, match="^too many records$"):
        ask("exchangers_of", b"d.test")


def test_of_too_many_records_one_line_tells_and_they_are_not_asked_for_again(name_server):
    overfill(name_server, b"d from\x07\xe4.test")
    lines = []

    async def ask_all():
        known = AsyncResolver(name_server.environ(), QUICK, complain=lines.append)
        for _ in range(3):
            with pytest.raises(Soft, match="^too many records$"):
                await known.addresses(b"d from\x07\xe4.test")

    asyncio.run(ask_all())
    assert lines == ["too many records in the answer about d?from??.test"]
    assert name_server.asked == {(b"d from\x07\xe4.test", A): 1}


def test_a_large_answer_is_read_between_others(name_server):
    name_server.zone[b"small.test", A] = [ip("10.0.0.1")]
    ended = []

    async def ask_all():
        known = AsyncResolver(name_server.environ(), QUICK)
        question = resolver._question(b"d.test", "A")
        head = question[:2] + b"\x81\x80\0\1\x0f\xa0\0\0\0\0" + question[12:]
        large = head + (b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + bytes(4)) * 4000

        async def read(what, data):
            await known._read(question, data, "A")
            ended.append(what)

        small = question[:2] + b"\x81\x80\0\1\0\0\0\0\0\0" + question[12:]
        await asyncio.gather(*(read("large", large) for _ in range(3)), *(read("small", small) for _ in range(5)))

    asyncio.run(ask_all())
    assert ended == ["small"] * 5 + ["large"] * 3


def test_the_exchangers_of_one_domain_do_not_take_every_place(name_server):
    running = []

    class Counting(AsyncResolver):
        async def addresses(self, host, kinds=("A", "AAAA")):
            running.append(1)
            most.append(len(running))
            await asyncio.sleep(0)
            running.pop()
            return [b"10.0.0.1"]

    most = []
    name_server.zone[b"d.test", MX] = [mx(name_server, 1, b"h%d.test" % i) for i in range(20)]

    async def ask():
        return await Counting(name_server.environ(), (5,)).exchangers(b"d.test")

    assert len(asyncio.run(ask())) == 20 and max(most) == AT_ONCE


def test_memory_has_a_bound_and_forgets_what_was_asked_for_longest_ago():
    memory = AnswerCache(10_000)
    for number in range(10):
        memory.add((b"%d" % number, "A"), number, 100.0, 400)
    assert [memory.get((b"%d" % number, "A"), 1.0) for number in range(10)] == list(range(10))
    assert memory.bytes <= 10_000 and memory.get((b"0", "A"), 1.0) == 0
    memory.add((b"new", "A"), "new", 100.0, 2000)
    assert memory.bytes <= 10_000 and memory.get((b"1", "A"), 1.0) is None and memory.get((b"0", "A"), 1.0) == 0
    assert memory.get((b"new", "A"), 100.0) is None  # its time is over
    memory.add((b"0", "A"), "again", 100.0, 20_000)
    assert len(memory) == 0 and memory.bytes == 0


def test_what_is_remembered_counts_by_its_size(name_server):
    many = [ip(f"10.0.{i // 256}.{i % 256}") for i in range(4000)]
    for number in range(4):
        name_server.zone |= {b"%d.test" % number: "cut", (b"%d.test" % number, A): many}

    async def ask_all():
        known = AsyncResolver(name_server.environ(), (5,), remembered_bytes=1 << 20)
        for _ in range(2):
            for number in range(4):
                await known.addresses(b"%d.test" % number)
        return known

    known = asyncio.run(ask_all())
    assert 0 < known._known.bytes <= 1 << 20 and name_server.asked[b"0.test", A] == 2


def test_a_missing_descriptor_is_a_lack_and_says_nothing_about_the_name(name_server):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    name_server.zone[b"d.test", A] = [ip("10.0.0.1")]
    assert resolver.addresses_of(b"d.test", name_server.environ(), QUICK) == [b"10.0.0.1"]
    spare = os.open("/dev/null", os.O_RDONLY)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
        os.close(spare)
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        with pytest.raises(resolver.Lack, match="^process cannot open more files$"):
            resolver.addresses_of(b"d.test", name_server.environ(), QUICK)
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_hosts_say_how_long_they_hold_and_that_is_the_shortest_time_of_their_records(name_server):
    name_server.zone |= {
        (b"d.test", name_server.MX): [b"\0\1" + name_server.name(b"mx.test")],
        (b"mx.test", name_server.A): [bytes((10, 0, 0, 1))],
    }

    async def ask():
        known = AsyncResolver(name_server.environ(), (5,))
        name_server.ttl = 100
        await known.relay(b"mx.test")
        name_server.ttl = 3000
        return await known.hosts(b"d.test")

    seconds, is_stale, found = asyncio.run(ask())
    assert 60 < seconds <= 100 and not is_stale and found == [(1, b"mx.test", b"10.0.0.1")]


@pytest.mark.parametrize("trouble", ["silent", "servfail"])
def test_while_no_server_answers_hosts_are_what_they_were(name_server, monkeypatch, trouble):
    """They are answered soon, though the question goes on; nobody else gets what holds no longer."""
    name_server.zone |= {
        (b"d.test", name_server.MX): [b"\0\1" + name_server.name(b"mx.test")],
        (b"mx.test", name_server.A): [bytes((10, 0, 0, 1))],
    }
    monkeypatch.setattr(async_resolver, "MAX_SECONDS", 0)  # no answer holds
    monkeypatch.setattr(async_resolver, "STALE_WAIT_SECONDS", 0.01)

    async def ask():
        known = AsyncResolver(name_server.environ(), (0.2,))
        assert not (await known.hosts(b"d.test"))[1]
        name_server.zone |= {b"d.test": trouble, b"mx.test": trouble}
        assert await known.hosts(b"d.test") == (0, True, [(1, b"mx.test", b"10.0.0.1")])
        with pytest.raises(Soft):
            await known.addresses(b"mx.test")
        with pytest.raises(Soft):
            await known.hosts(b"other.test")

    name_server.zone |= {b"other.test": trouble}
    asyncio.run(ask())


def test_a_stale_answer_is_kept_for_three_days(name_server):
    cache, records, key = AnswerCache(1 << 20), Records(((1, b"mx.test"),), True, 300), (b"x", "MX")
    cache.add(key, records, 1000.0, 10)
    assert cache.get(key, 999) is records and cache.get_stale(key, 999) is None
    assert cache.get(key, 1000) is None and cache.get_stale(key, 1000) is records
    last = 1000 + async_resolver.STALE_SECONDS
    assert cache.get_stale(key, last - 1) is records
    assert cache.get(key, last) is None and cache.get_stale(key, last) is None and len(cache) == 0
