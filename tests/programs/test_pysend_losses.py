"""pysend --starter: a part that is lost is replaced, and what it had under way is neither lost nor anybody's fault.

The parts, and who starts them again, stand in the test.  With real ones: tests/programs/test_pystart.py, and killed
under load tests/interop/test_lost_parts.py.
"""

import os
import signal

import pytest

from pyqmail.protocol.wires import native_dialect, resolve_wire
from tests.programs.conftest import FakeStarter
from tests.waiting import until

LOCAL, SESSIONS, CLEANER, RESOLVER, MORE = range(5)  # in the order of pystart
KILLED = 9  # a wait status
FOUND = resolve_wire.HOSTS_FOUND, resolve_wire.hosts_body(3600, False, [(10, b"mx.far.example", b"192.0.2.7")])


def natively(rig, **parts):
    """Start pysend; each part that is not given does what it is asked for at once.  Returns its FakeStarter."""
    starter = FakeStarter()
    more = parts.pop("more", ())
    parts = {
        "local": rig.native(lambda recipient: b"Kok\n"),
        "remote": rig.native(lambda recipient: b"Kok\n"),
        "resolver": rig.resolver(lambda name: FOUND),
    } | parts
    options = ["--native", "--sessions", str(1 + len(more))]
    rig.start(options=options, more=more, starter=starter, **parts)
    rig.log.wait(b"status: local 0/10 remote 0/20")
    return starter


def lost(name):
    return b"warning: lost %b, killed by signal 9 (KILL); starting it again in 1 seconds" % name


def count(rig, piece):
    return sum(piece in line for line in rig.log.lines)


def blames(rig):
    """Return the lines that speak of trouble, without those that are expected of a loss."""
    return [line for line in rig.log.lines if b"alert" in line or b"failure" in line or b"unable" in line]


def test_a_lost_local_spawner(rig):
    """What it had is deferred; what comes meanwhile waits for the next one; remote mail goes on."""
    local, new = rig.native(lambda recipient: None), rig.native(lambda recipient: b"Kok\n")
    starter = natively(rig, local=local)
    had = rig.inject(b"s@x", [b"ann@here.example"])
    local.ordered(1)
    local.lose()
    assert starter.next_killed() == (LOCAL, 0)
    starter.lose(LOCAL, 0, KILLED, 1)
    rig.log.wait(b"delivery 1: deferral: qmail-lspawn_was_lost;_this_may_have_been_delivered._(#4.3.0)/")
    waits = rig.inject(b"s@x", [b"bob@here.example"])
    rig.gone(rig.inject(b"s@x", [b"u@far.example"]))
    assert rig.names.state(waits) != "S1" and not new.orders
    starter.replace(LOCAL, 1, new)
    rig.gone(waits)
    rig.signal(signal.SIGALRM)
    rig.gone(had)
    assert rig.stop() == 0
    assert [order[3] for order in new.orders] == [b"bob@here.example", b"ann@here.example"]
    assert rig.log.lines.count(lost(b"pylspawn")) == 1 and not blames(rig)


def test_the_only_session_process_is_lost(rig):
    """What it had is deferred; a destination that is opened meanwhile waits, and nobody is told of a lack."""
    remote, new = rig.native(lambda recipient: None), rig.native(lambda recipient: b"Kok\n")
    starter = natively(rig, remote=remote)
    had = rig.inject(b"s@x", [b"u@far.example"])
    remote.ordered(1)
    remote.lose()
    assert starter.next_killed() == (SESSIONS, 0)
    starter.lose(SESSIONS, 0, KILLED, 1)
    rig.log.wait(lost(b"pyrspawn"))
    until(lambda: count(rig, b": deferral: ") == 1)
    waits = rig.inject(b"s@x", [b"v@[192.0.2.9]"])
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    rig.log.wait_some(b"status: local 0/10 remote 1/20")
    starter.replace(SESSIONS, 1, new)
    rig.gone(waits)
    rig.signal(signal.SIGALRM)
    rig.gone(had)
    assert rig.stop() == 0
    assert not blames(rig) and not count(rig, b"lacking") and not count(rig, b"lost a session process")


def test_one_of_two_session_processes_is_lost_and_comes_back(rig):
    """The other one goes on alone, and shares the sessions again with the new one."""
    second, new = rig.native(lambda recipient: b"Kok\n"), rig.native(lambda recipient: b"Kok\n")
    starter = natively(rig, more=[second])
    second.lose()
    assert starter.next_killed() == (MORE, 0)
    starter.lose(MORE, 0, KILLED, 1)
    rig.gone(rig.inject(b"s@x", [b"u@[198.51.100.%d]" % number for number in range(1, 5)]))
    starter.replace(MORE, 1, new)
    nets = iter(range(250))  # pysend hears of the new one when it comes to it
    until(
        lambda: (
            new.opened or rig.gone(rig.inject(b"s@x", [b"u@[203.0.%d.1]" % next(nets), b"u@[203.1.%d.1]" % next(nets)]))
        )
    )
    assert rig.stop() == 0
    assert rig.log.lines.count(lost(b"pyrspawn 2")) == 1 and not blames(rig)


def test_a_part_that_speaks_nonsense_is_killed(rig):
    new = rig.native(lambda recipient: b"Kok\n")
    starter = natively(rig)
    rig.remote.say(native_dialect.pack(native_dialect.CLOSED, 99, b"h\0a\0"))
    assert starter.next_killed() == (SESSIONS, 0)
    starter.lose(SESSIONS, 0, KILLED, 0)
    rig.log.wait(b"warning: lost pyrspawn, killed by signal 9 (KILL); starting it again now")
    starter.replace(SESSIONS, 1, new)
    rig.gone(rig.inject(b"s@x", [b"u@far.example"]))
    os.write(new.ours[1], b"\xff" * 64)
    assert starter.next_killed() == (SESSIONS, 1)
    assert rig.stop() == 0


def test_what_a_part_leaves_behind_does_not_hide_that_it_is_lost(rig):
    """Its pipes stay open: the starter's word is enough, and what it had still said counts."""
    local, new = rig.native(lambda recipient: None), rig.native(lambda recipient: b"Kok\n")
    starter = natively(rig, local=local)
    number = rig.inject(b"s@x", [b"ann@here.example"])
    local.ordered(1)
    local.release()
    starter.lose(LOCAL, 0, 111 << 8, 0)
    starter.replace(LOCAL, 1, new)
    rig.log.wait(b"warning: lost pylspawn, which exited 111; starting it again now")
    rig.gone(number)
    rig.gone(rig.inject(b"s@x", [b"bob@here.example"]))
    assert rig.stop() == 0
    assert not count(rig, b"deferral") and [order[3] for order in new.orders] == [b"bob@here.example"]


def test_a_lost_cleaner(rig):
    """An envelope is asked for again.  A message is not: its number may be another's, and what is left is swept."""
    asked, held = [], []

    def answer(command):
        asked.append(command)
        is_held = command.startswith(held[0]) if held else False
        return None if is_held else b"+"

    cleaner, new = rig.cleaner(rig.names, answer), rig.cleaner(rig.names, answer)
    starter = natively(rig, clean=cleaner)
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    held.append(b"foop/")
    asked.clear()
    first = rig.inject(b"s@x", [b"ann@here.example"])
    until(lambda: b"foop/%d" % first in asked)
    held[0] = b"todo/"
    asked.clear()
    second = rig.inject(b"s@x", [b"ann@here.example"])
    until(lambda: b"todo/%d" % second in asked)
    cleaner.lose()
    assert starter.next_killed() == (CLEANER, 0)
    starter.lose(CLEANER, 0, KILLED, 1)
    rig.log.wait(lost(b"pyclean"))
    held.clear()
    starter.replace(CLEANER, 1, new)
    rig.gone(second)
    assert asked == [b"todo/%d" % second] * 2 + [b"foop/%d" % second]
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    assert rig.stop() == 0
    assert not blames(rig)


@pytest.mark.parametrize("loss", ["gone", "nonsense"])
def test_a_lost_resolver(rig, loss):
    """What it was asked is asked again; what needs no question goes on."""
    rig.control("smtproutes", b"routed.example:[127.0.0.1]\n")
    resolver, new = rig.resolver(lambda name: None), rig.resolver(lambda name: FOUND)
    starter = natively(rig, resolver=resolver)
    waits = rig.inject(b"s@x", [b"u@far.example"])
    until(lambda: resolver.orders)
    if loss == "gone":
        resolver.lose()
    else:
        os.write(resolver.ours[1], b"\xff" * 64)
    assert starter.next_killed() == (RESOLVER, 0)
    starter.lose(RESOLVER, 0, KILLED, 1)
    rig.gone(rig.inject(b"s@x", [b"a@routed.example", b"b@[192.0.2.1]", b"ann@here.example"]))
    starter.replace(RESOLVER, 1, new)
    rig.gone(waits)
    assert rig.stop() == 0
    assert rig.log.lines.count(lost(b"pyresolve")) == 1
    assert not count(rig, b"deferral") and not blames(rig)


def test_one_that_cannot_be_started_is_waited_for(rig):
    starter = natively(rig)
    rig.remote.lose()
    starter.lose(SESSIONS, 0, KILLED, 1)
    for seconds in (2, 4):
        starter.lose(SESSIONS, 0, -1, seconds)
        rig.log.wait(b"warning: unable to start pyrspawn; starting it again in %d seconds" % seconds)
    rig.gone(rig.inject(b"s@x", [b"ann@here.example"]))
    assert rig.stop() == 0


@pytest.mark.parametrize("is_first", [True, False], ids=["before the part", "after the part"])
def test_when_nobody_can_start_it_again_a_lost_part_ends_pysend(rig, is_first):
    starter = natively(rig)
    if is_first:
        starter.end()
        rig.log.wait(b"warning: lost pystart's starter of parts: the next part that is lost ends pysend")
        rig.remote.lose()
    else:
        rig.remote.lose()
        assert starter.next_killed() == (SESSIONS, 0)
        starter.end()
    assert rig.wait() == 0
    assert b"alert: oh no! lost spawn connection! dying..." in rig.log.lines
