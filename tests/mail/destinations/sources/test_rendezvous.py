"""The choice of a source: the same each time, by weight, and nothing moves that need not."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pyqmail.mail.destinations.rules.policies import PoolMember
from pyqmail.mail.destinations.sources.rendezvous import in_order, key_of_message, key_of_sender

ADDRESSES = [b"192.0.2.%d" % number for number in range(1, 9)]
MEMBERS = st.lists(
    st.builds(PoolMember, st.sampled_from(ADDRESSES), weight=st.integers(1, 9)),
    min_size=1,
    max_size=8,
    unique_by=lambda member: member.address,
)
KEYS = [key_of_message(number, 0, b"example.com") for number in range(1, 4001)]


def test_the_order_of_a_key_is_known():
    # another version, another machine: a parcel that was tried finds its source again
    members = [PoolMember(address) for address in ADDRESSES[:4]]
    ours = [member.address[-1:] for member in in_order(key_of_message(1234, 1_800_000_000, b"example.com"), members)]
    assert b"".join(ours) == b"2413"


@given(MEMBERS, st.binary(max_size=20), st.randoms())
def test_it_does_not_depend_on_the_order_of_the_pool(members, key, random):
    mixed = random.sample(members, len(members))
    assert in_order(key, members) == in_order(key, mixed)


@given(MEMBERS, st.sampled_from(KEYS), st.sampled_from(ADDRESSES), st.integers(1, 9))
def test_a_source_that_is_added_takes_some_and_moves_nothing_else(members, key, address, weight):
    others = [member for member in members if member.address != address]
    if not others:
        return
    added = PoolMember(address, weight=weight)
    after = in_order(key, [*others, added])
    assert [member for member in after if member is not added] == in_order(key, others)


def test_each_gets_its_share_and_a_new_one_takes_its_own():
    members = [PoolMember(b"192.0.2.1", weight=3), PoolMember(b"192.0.2.2"), PoolMember(b"192.0.2.3")]
    first = [in_order(key, members)[0].address for key in KEYS]
    counts = Counter(first)
    assert 2250 < counts[b"192.0.2.1"] < 2550 and 700 < counts[b"192.0.2.2"] < 900
    more = [*members, PoolMember(b"192.0.2.4")]
    moved = [(old, new) for key, old in zip(KEYS, first, strict=True) if (new := in_order(key, more)[0].address) != old]
    assert {new for _, new in moved} == {b"192.0.2.4"} and 580 < len(moved) < 760


def test_a_sender_has_one_source_for_a_domain_and_messages_have_several():
    members = [PoolMember(address) for address in ADDRESSES]
    domains = [b"d%d.example" % number for number in range(50)]
    assert len({in_order(key_of_sender(b"s.example", domain), members)[0] for domain in domains}) > 4
    assert len({in_order(key_of_message(7, 0, domain), members)[0] for domain in domains}) > 4


def test_messages_that_follow_one_another_with_one_number_are_shared():
    # a file system gives a number again at once: on a quiet system all messages have the same
    members = [PoolMember(address) for address in ADDRESSES[:2]]
    drawn = Counter(in_order(key_of_message(99, birth, b"example.com"), members)[0].address for birth in range(1000))
    assert min(drawn.values()) > 400 and len(drawn) == 2
