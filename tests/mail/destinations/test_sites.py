"""Sites: keys that are equal for equal sets alone, names for people, whose hosts they are, and which are tried."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pyqmail.mail.destinations.sites import (
    hosts_to_try,
    last_two_labels,
    network_of,
    organisation_of,
    site_key,
    site_name,
)


def mx(*hosts):
    """Return hosts of words like `10 a.example.net`, each with an address."""
    split = [host.split() for host in hosts]
    return [(int(preference), name.encode(), [b"192.0.2.1"]) for preference, name in split]


GOOGLE = mx("1 aspmx.l.google.com", "5 alt1.aspmx.l.google.com", "5 alt2.aspmx.l.google.com", "10 alt3.l.google.com")

# two sets that a name like `a|b` or `mx(1|2).example` would join, and others that differ by one thing
DIFFERENT = [
    (mx("1 a.example"), mx("1 b.example")),
    (mx("1 a", "2 b"), mx("1 b", "2 a")),  # the order of preferences
    (mx("1 a", "1 b"), mx("1 a", "2 b")),
    (mx("1 a", "2 b", "2 c"), mx("1 a", "1 b", "2 c")),
    (mx("1 a"), mx("1 a", "2 a")),
    (mx("1 mx1.a.example", "1 mx2.b.example"), mx("1 mx2.a.example", "1 mx1.b.example")),  # alternations agree
    (mx("1 a1.x", "1 b2.x"), mx("1 a2.x", "1 b1.x")),
    (mx("1 ab"), mx("1 a", "1 b")),
    (mx("1 1:a,1:b"), mx("1 a", "1 b")),  # a name that looks like ours of two
    (mx("1 a|b"), mx("1 a", "1 b")),
    ([], mx("1 a")),
]


@pytest.mark.parametrize("one, other", DIFFERENT)
def test_different_sets_have_different_keys(one, other):
    assert site_key(one) != site_key(other) and len(site_key(one)) == 16


EQUAL = [
    (mx("1 a", "2 b", "2 c"), mx("10 a", "20 c", "20 b")),  # preferences are an order
    (mx("1 a", "1 a"), mx("1 a")),
    (mx("1 a"), [(1, b"a", [b"198.51.100.7", b"2001:db8::1"])]),  # addresses are the hosts' affair
]


@pytest.mark.parametrize("one, other", EQUAL)
def test_equal_sets_have_one_key(one, other):
    assert site_key(one) == site_key(other)


def test_route_port_and_policy_are_part_of_the_key():
    ways = [(), (b"relay.example", 25), (b"relay.example", 2525), (b"", 2525), (b"", 25, b"must"), (b"2525", 25)]
    assert len({site_key(mx("1 a"), *way) for way in ways}) == len(ways)


LABELS = some.sampled_from([b"a", b"b", b"ab", b"mx1.x", b"mx2.x", b"1:a,", b"", b"a.x", b"2;", b"|"])
SETS = some.lists(some.tuples(some.integers(0, 3), LABELS, some.just([b"192.0.2.1"])), max_size=6)


@given(SETS, SETS)
def test_keys_are_equal_if_and_only_if_the_sets_are(one, other):
    """P11 of the specification."""

    def groups(hosts):
        numbers = sorted({host[0] for host in hosts})
        return [frozenset(name for each, name, _ in hosts if each == number) for number in numbers]

    assert (site_key(one) == site_key(other)) == (groups(one) == groups(other))


ORGANISATIONS = [
    (GOOGLE, b"google.com"),
    (mx("1 mx.example.fr", "5 backup.hoster.net", "5 other.hoster.net"), b"example.fr"),  # a backup at a hoster
    (mx("1 mx.example.fr", "5 mx.example.fr", "5 a.hoster.net"), b"example.fr"),
    (mx("1 mx.example.fr", "5 a.hoster.net", "9 a.third.net"), b""),  # the rest is two
    (mx("1 mx.example.fr", "1 a.hoster.net"), b""),  # the best do not agree
    (mx("1 192.0.2.1", "1 198.51.2.1"), b""),  # no labels, and 2.1 is nobody's
    (mx("1 192.0.2.1"), b"192.0.2.1"),
    (mx("1 2001:db8::1"), b"2001:db8::1"),
    ([], b""),
]


@pytest.mark.parametrize("hosts, organisation", ORGANISATIONS)
def test_organisations(hosts, organisation):
    assert organisation_of(hosts, last_two_labels) == organisation
    assert organisation_of(hosts[::-1], last_two_labels) == organisation


NAMES = [
    (GOOGLE, b"google.com", b"", 25, b"google.com#aspmx.l+3"),
    (mx("10 mx.example.net"), b"example.net", b"", 25, b"example.net#mx"),
    (mx("20 b.example.net", "10 c.example.net", "10 a.example.net"), b"example.net", b"", 25, b"example.net#a+2"),
    (mx("0 example.net"), b"example.net", b"", 25, b"example.net"),  # no MX: the domain is the host
    (mx("1 mx.a.fr", "1 mx.b.fr"), b"", b"", 25, b"mx.a.fr+1"),
    (mx("1 mx.a.fr", "2 mx.a.fr"), b"a.fr", b"", 25, b"a.fr#mx"),
    (mx("0 relay.a.fr"), b"a.fr", b"relay.a.fr", 25, b"relay.a.fr"),
    (mx("0 relay.a.fr"), b"a.fr", b"relay.a.fr", 587, b"relay.a.fr:587"),
    ([], b"", b"", 25, b""),
]


@pytest.mark.parametrize("hosts, organisation, route, port, name", NAMES)
def test_names_for_people(hosts, organisation, route, port, name):
    assert site_name(hosts, organisation, route, port) == name


def test_of_hundreds_of_hosts_the_best_are_tried():
    hosts = [
        (number // 3, b"mx%d.example" % number, [b"192.0.2.%d" % number, b"2001:db8::%x" % number])
        for number in range(500)
    ]
    hosts[4][2].extend(b"198.51.100.%d" % number for number in range(200))
    random.Random(3).shuffle(hosts)
    kept = hosts_to_try(hosts, random.Random(1))
    assert [preference for preference, _, _ in kept] == [0, 0, 0, 1, 1]
    assert sum(len(addresses) for _, _, addresses in kept) == 10 and all(addresses for _, _, addresses in kept)
    assert len({name for _, name, _ in kept}) == 5


def test_hosts_of_one_preference_take_their_places_by_chance():
    hosts = mx(*(f"10 mx{number}.example" for number in range(9)))
    seen = {kept[1] for seed in range(60) for kept in hosts_to_try(hosts, random.Random(seed))}
    assert len(seen) == 9
    assert hosts_to_try(hosts, random.Random(7)) == hosts_to_try(hosts, random.Random(7))


TRIED = [
    ([(1, b"a", []), (2, b"b", [b"192.0.2.2"])], [(2, b"b", [b"192.0.2.2"])]),
    ([(9, b"a", [b"192.0.2.1"]), (2, b"a", [b"192.0.2.1"])], [(2, b"a", [b"192.0.2.1"])]),
    ([(9, b"a", [b"192.0.2.1", b"192.0.2.1", b"192.0.2.2"])], [(9, b"a", [b"192.0.2.1", b"192.0.2.2"])]),
    ([], []),
]


@pytest.mark.parametrize("hosts, kept", TRIED)
def test_what_is_tried(hosts, kept):
    assert hosts_to_try(hosts, random.Random(1)) == kept


NETWORKS = [
    (b"192.0.2.77", b"192.0.2.0/24"),
    (b"255.255.255.255", b"255.255.255.0/24"),
    (b"2001:db8:1:2:3:4:5:6", b"2001:db8:1:2::/64"),
    (b"2001:DB8:1:2::", b"2001:db8:1:2::/64"),
    (b"::ffff:192.0.2.77", b"192.0.2.0/24"),  # one machine, written in two ways
    (b"mx.example", b"mx.example"),
    (b"192.0.2", b"192.0.2"),
    (b"\xff:", b"\xff:"),
    (b"1\0:", b"1\0:"),
    (b"", b""),
]


@pytest.mark.parametrize("address, network", NETWORKS)
def test_networks(address, network):
    assert network_of(address) == network
