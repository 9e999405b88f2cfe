"""A queue that one mode leaves in the middle of its work is taken over by the other, and nothing is lost.

The one that leaves is told to (TERM), or is killed with its deliveries running.
"""

import os
import re
import signal
import socket

import pytest

from tests.waiting import until

NATIVE, CLASSIC = (), ("--classic",)
WAYS = {"native to classic": (NATIVE, CLASSIC), "classic to native": (CLASSIC, NATIVE)}
both_ways = pytest.mark.parametrize("first, second", WAYS.values(), ids=WAYS)
REMOTE = 6
OPENING = [(b"S", b"220 p\r\n"), (b"C", b"EHLO here.example\r\n"), (b"S", b"250 p\r\n")]


@pytest.fixture
def swapping(system, smtp_peer):
    """A System that takes mail; nothing delivers it yet."""
    system.control("smtproutes", smtp_peer.route())
    system.start_queue()
    system.start_smtp()
    return system


def times(system, folder):
    """Return {message number: mtime} of a folder of the queue."""
    found = {}
    for place, _, names in os.walk(f"{system.home.queue}/{folder}"):
        found |= {int(name): os.stat(f"{place}/{name}").st_mtime for name in names}
    return found


def kill(system):
    """Kill the queue manager and all its parts at once, as a crash of the machine would."""
    os.kill(system.sender.pid, signal.SIGKILL)
    for pid in system.pids():
        if pid not in (system.queue.pid, system.smtp.pid) and parent_of(pid) != system.smtp.pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    system.sender.wait()
    return system.log.finish()


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@both_ways
def test_deferred_mail_with_its_failures_and_its_schedule(swapping, smtp_peer, first, second):
    system = swapping
    smtp_peer.decide = lambda seen, line: b"451 later\r\n" if line == b".\r\n" else None
    system.start_sender(*first)
    for number in range(REMOTE):
        recipients = [b"nosuch@here.example", b"demo-x@here.example", b"bob%d@remote.example" % number]
        system.mail(b"demo@here.example", recipients, b"Subject: %d\r\n" % number)
    system.log.find(rb": deferral: 127.0.0.1_failed_after_I_sent_the_message./Remote_host_said:_451_later/\n", REMOTE)
    system.log.find(rb": failure: Sorry,_no_mailbox", REMOTE)
    system.log.find(rb": success: did_1\+0\+0/", REMOTE)
    assert system.stop_sender().endswith(b"status: exiting\n")
    smtp_peer.decide = lambda seen, line: None
    numbers = system.queued()
    due, birth = times(system, "remote"), times(system, "info")
    assert len(numbers) == REMOTE and set(due) == set(birth) == set(map(int, numbers))
    assert set(times(system, "bounce")) == set(due) and not times(system, "local") and not times(system, "todo")
    assert all(400 <= due[number] - birth[number] <= 441 for number in due)

    system.start_sender(*second)
    system.mail(b"ann@client.example", [b"demo@here.example"], b"Subject: new\r\n")  # new mail does not wake the old
    system.arrived(1)
    assert system.log.text.count(b"starting delivery") == 1
    assert {number: due[number] for number in due} == times(system, "remote")
    system.sender.send_signal(signal.SIGALRM)
    system.log.find(rb": success: 127.0.0.1_accepted_message./", REMOTE)
    system.empty()
    told = sorted(re.search(rb"RCPT TO:<(.*)>", commands)[1] for commands, _ in smtp_peer.mails)
    assert told == [b"bob%d@remote.example" % number for number in range(REMOTE)]
    assert len(system.arrived(REMOTE, "more")) == REMOTE
    bounces = [one for one in system.arrived(1 + REMOTE) if b"\nHi. This is the qmail-send program" in one]
    assert len(bounces) == REMOTE
    assert all(
        one.count(b"\n<nosuch@here.example>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n---") == 1
        for one in bounces
    )
    system.stop_sender()


@both_ways
def test_a_crash_in_the_middle_of_deliveries(swapping, smtp_peer, first, second):
    system = swapping
    smtp_peer.scripts += [[*OPENING, (b"C", b"more than is ever said" * 1000)]] * REMOTE
    system.control("destinations.now", b":c=1000,learn=no\n")
    system.start_sender(*first)
    for number in range(REMOTE):
        system.mail(
            b"ann@client.example", [b"demo@here.example", b"bob%d@remote.example" % number], b"Subject: %d\r\n" % number
        )
    system.log.find(rb" remote %d/20\n" % REMOTE)
    system.log.find(rb": success: did_1\+0\+0/", REMOTE)
    until(lambda: smtp_peer.sessions == REMOTE)
    kill(system)
    system.start_sender(*second)
    system.log.find(rb"end msg [0-9]+\n", REMOTE)
    system.empty()
    told = sorted(re.search(rb"RCPT TO:<(.*)>", commands)[1] for commands, _ in smtp_peer.mails)
    assert told == [b"bob%d@remote.example" % number for number in range(REMOTE)]
    subjects = {one[one.index(b"Subject: ") :] for one in arrived_at_least(system, REMOTE)}
    assert subjects == {b"Subject: %d\n" % number for number in range(REMOTE)}
    system.stop_sender()


def arrived_at_least(system, count):
    """Return what is in the Maildir: what was not yet marked when a crash came is delivered again."""
    names = os.listdir(f"{system.demo}/Maildir/new")
    assert len(names) >= count
    return system.arrived(len(names))


@both_ways
def test_mail_that_nobody_has_seen_yet(swapping, smtp_peer, first, second):
    """Messages in todo, those that came while the first was told to end among them."""
    system = swapping
    with socket.socket() as holding:
        holding.bind(("127.0.0.1", 0))
        holding.listen()
        system.control("smtproutes", b"slow.example:127.0.0.1:%d\n%b" % (holding.getsockname()[1], smtp_peer.route()))
        system.start_sender(*first)
        system.mail(b"ann@client.example", [b"demo@slow.example"], b"Subject: slow\r\n")
        session = holding.accept()[0]
        with session, session.makefile("rb") as heard:
            session.sendall(b"220 p\r\n")
            assert heard.readline() == b"EHLO here.example\r\n"
            session.sendall(b"250 p\r\n")
            assert heard.readline() == b"MAIL FROM:<ann@client.example>\r\n"
            system.sender.terminate()
            for number in range(REMOTE):
                recipients = [b"demo@here.example", b"bob%d@remote.example" % number]
                system.mail(b"ann@client.example", recipients, b"Subject: %d\r\n" % number)
            assert system.sender.poll() is None  # it waits for what runs
            session.sendall(b"421 go away\r\n")
            assert system.sender.wait(30) == 0
    log = system.log.finish()
    assert b" deferral: Connected_to_127.0.0.1_but_sender_was_rejected./Remote_host_said:_421_go_away/\n" in log
    system.control("smtproutes", smtp_peer.route())
    system.start_sender(*second)
    system.log.find(rb"end msg [0-9]+\n", REMOTE)
    assert len(system.arrived(REMOTE)) == len(smtp_peer.mails) == REMOTE
    system.sender.send_signal(signal.SIGALRM)
    system.log.find(rb"end msg [0-9]+\n", REMOTE + 1)
    assert len(smtp_peer.mails) == REMOTE + 1
    system.empty()


def test_there_and_back_many_times(swapping, smtp_peer):
    """A manager of either mode in turn, each killed while mail comes in: every message arrives."""
    system, sent = swapping, 0
    for turn in range(6):
        system.start_sender(*(NATIVE, CLASSIC)[turn % 2])
        with system.client() as client:
            for _ in range(10):
                recipients = [b"demo@here.example", b"bob%d@remote.example" % sent]
                client.mail(b"ann@client.example", recipients, b"Subject: %d\r\n" % sent)
                sent += 1
        system.log.find(rb"starting delivery [0-9]+: ", 1 + turn)
        kill(system)
    system.start_sender()
    until(lambda: not system.queued())
    assert all(
        path.startswith(("mess/", "intd/")) for path in system.files()
    )  # a removal cut short: swept after 36 hours
    told = {re.search(rb"RCPT TO:<(.*)>", commands)[1] for commands, _ in smtp_peer.mails}
    assert told == {b"bob%d@remote.example" % number for number in range(sent)}
    subjects = {one[one.index(b"Subject: ") :] for one in arrived_at_least(system, sent)}
    assert subjects == {b"Subject: %d\n" % number for number in range(sent)}
