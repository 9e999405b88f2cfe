"""Random worlds by number (random_worlds.py): a few here, 5,000 with `make test-long`.

`python -m tests.mail.destinations.random_worlds 0 1000` prints the numbers of those that fail.
"""

import os

import pytest

from tests.mail.destinations.random_worlds import RandomWorld

LONG_WORLDS = int(os.environ.get("PYQMAIL_EXAMPLES", "5000"))


@pytest.mark.parametrize("number", [*range(20), 209])
def test_every_property_holds_in_a_random_world(number):
    assert RandomWorld(number).run().left == 0


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, LONG_WORLDS, 100))
def test_every_property_holds_in_many_random_worlds(first):
    for number in range(first, first + 100):
        assert RandomWorld(number).run().left == 0
