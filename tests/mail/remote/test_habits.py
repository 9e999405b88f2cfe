"""What is learned of servers is found again, for a day, and does not grow."""

from pyqmail.mail.remote.habits import MAX_SERVERS, REMEMBERED_SECONDS, KnownServers


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_what_was_learned_is_found_again_for_a_day():
    clock = Clock()
    servers = KnownServers(clock)
    assert not servers.habits(b"a").is_helo_only
    servers.habits(b"a").note(is_helo_only=True)
    assert servers.habits(b"a").is_helo_only and not servers.habits(b"a").is_one_by_one
    assert not servers.habits(b"b").is_helo_only
    clock.now += REMEMBERED_SECONDS - 1
    servers.habits(b"a").note(recipient_limit=5)  # does not make the day longer
    assert servers.habits(b"a").is_helo_only and servers.habits(b"a").recipient_limit == 5
    clock.now += 1
    assert not servers.habits(b"a").is_helo_only and servers.habits(b"a").recipient_limit is None


def test_what_nothing_was_learned_of_takes_no_room():
    servers = KnownServers(Clock())
    for number in range(10):
        servers.habits(number)
    assert not servers._known


def test_the_oldest_makes_room():
    servers = KnownServers(Clock())
    for number in range(MAX_SERVERS + 3):
        servers.habits(number).note(is_one_by_one=True)
    assert len(servers._known) == MAX_SERVERS
    assert [servers.habits(number).is_one_by_one for number in (0, 2, 3, MAX_SERVERS + 2)] == [False, False, True, True]
