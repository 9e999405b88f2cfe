"""Retry times to the second, and the heap of due messages."""

import random
import sys

import pytest

from pyqmail.mail.destinations.retry import LOCAL_CONSTANT, REMOTE_CONSTANT, DueHeap, Numbers, next_date, retry_time
from pyqmail.mail.destinations.rules.policies import Retry

BIRTH = 1_700_000_000


@pytest.mark.parametrize(
    "constant, ages",
    [
        (REMOTE_CONSTANT, [0, 400, 1600, 3600, 6400, 10000, 14400]),
        (LOCAL_CONSTANT, [0, 100, 400, 900, 1600, 2500]),
    ],
)
def test_attempts_at_the_original_ages(constant, ages):
    now = BIRTH
    for age in ages[1:]:
        now = retry_time(BIRTH, now, constant)
        assert now - BIRTH == age


@pytest.mark.parametrize("constant, count, last", [(REMOTE_CONSTANT, 40, 608400), (LOCAL_CONSTANT, 79, 608400)])
def test_attempts_in_a_lifetime(constant, count, last):
    ages = [0]
    while ages[-1] <= 604800:
        ages.append(retry_time(0, ages[-1], constant))
    assert (len(ages), ages[-1]) == (count, last)


@pytest.mark.parametrize(
    "birth, now, due",
    [
        (BIRTH, BIRTH - 50, BIRTH + 400),  # a birth to come
        (BIRTH, BIRTH + 399, BIRTH + 39**2),  # not quite 20 squared
        (0, 65536**2 + 5, (65535 + 20) ** 2),  # sixteen bits
    ],
)
def test_retry_time(birth, now, due):
    assert retry_time(birth, now, REMOTE_CONSTANT) == due


WRITTEN = [
    # try=                                   the attempts after which it waits, and how long at least
    (Retry((300.0,), 2.0, 4000.0), [(1, 300), (2, 600), (3, 1200), (4, 2400), (5, 4000), (6, 4000), (500, 4000)]),
    (Retry((60.0, 300.0, 3600.0)), [(1, 60), (2, 300), (3, 3600), (4, 3600), (99, 3600)]),
    (Retry((1800.0,)), [(1, 1800), (2, 1800)]),
]


@pytest.mark.parametrize("retry, waits", WRITTEN)
def test_a_written_time_counts_from_the_end_of_the_attempt_and_is_spread(retry, waits):
    chance = random.Random(1)
    for tries, seconds in waits:
        dates = [next_date(retry, BIRTH, tries, BIRTH + 5000.5, REMOTE_CONSTANT, chance) for _ in range(200)]
        assert BIRTH + 5000.5 + seconds <= min(dates) < max(dates) <= BIRTH + 5000.5 + seconds * 1.05
        assert len(set(dates)) > 100


def test_without_one_it_is_the_formula_to_the_second():
    chance = random.Random(1)
    for age, due in ((0, 400), (400.9, 1600), (1599.9, 1600 - 1600 + 59**2), (-50, 400)):
        assert next_date(None, BIRTH, 7, BIRTH + age, REMOTE_CONSTANT, chance) == BIRTH + due


def test_heap_gives_what_is_due_in_order():
    heap, wanted = DueHeap(), []
    numbers = list(range(1, 2000))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        due = BIRTH + number % 97
        heap.push(due, number + (1 << 40))
        wanted.append((due, number + (1 << 40)))
    assert sorted(heap.items()) == sorted(wanted) and heap.next_due() == BIRTH
    got = []
    while (number := heap.pop_due(BIRTH + 50)) is not None:
        got.append(number)
    assert got == [number for due, number in sorted(wanted) if due <= BIRTH + 50]
    heap.make_due(BIRTH)
    assert heap.next_due() == BIRTH and len(heap) == len(wanted) - len(got)
    while heap.pop_due(BIRTH) is not None:
        pass
    assert heap.next_due() is None


def test_heap_has_each_number_once():
    """A second entry of a number, whoever left the first, would be a second pass over one message."""
    heap = DueHeap()
    for number in (5, 6, 5 + (1 << 40), 261):
        heap.push(BIRTH, number)
    heap.push(BIRTH + 9, 5)
    assert sorted(heap.items()) == [(BIRTH, 6), (BIRTH, 261), (BIRTH, 5 + (1 << 40)), (BIRTH + 9, 5)]
    heap.discard(6)
    heap.discard(7)
    assert [heap.pop_due(BIRTH + 9) for _ in range(4)] == [261, 5 + (1 << 40), 5, None]
    heap.push(BIRTH, 5)
    heap.make_due(BIRTH + 1)
    assert list(heap.items()) == [(BIRTH, 5)] and len(heap) == 1


def test_numbers_are_a_set():
    numbers, wanted, choose = Numbers(), set(), random.Random(2)
    for _ in range(5000):
        number = choose.randrange(1000) + (choose.randrange(2) << 63)
        if choose.random() < 0.5:
            numbers.add(number)
            wanted.add(number)
        else:
            numbers.discard(number)
            wanted.discard(number)
    assert all(
        (number in numbers) == (number in wanted) for high in (0, 1 << 63) for number in range(high, high + 1000)
    )


def test_a_million_numbers_need_little():
    """Inode numbers of a queue stand close together: some bits for each, not a hundred bytes."""
    numbers = Numbers()
    for number in range(3, 3_000_000, 3):
        numbers.add(number)
    assert sum(map(sys.getsizeof, [numbers._blocks, *numbers._blocks, *numbers._blocks.values()])) < 4_000_000
