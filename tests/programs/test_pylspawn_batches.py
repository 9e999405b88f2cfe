"""Batches of pylspawn with real workers and real programs: one worker at a time, and an end for each delivery."""

import os
import sys

import pytest

from pyqmail.protocol.wires import native_dialect
from tests.programs.test_pylspawn import ROOT, place, start, tmp_path  # noqa: F401

BATCH = native_dialect.BATCH | 7


def order(manager, *numbers, recipient=b"joe@here.example", sender=b"s@x.example", path=b"0/1"):
    """Order deliveries of one batch, all in one write."""
    frames = [native_dialect.deliver(BATCH, path, sender, [(number, recipient)]) for number in numbers]
    manager.process.stdin.write(b"".join(frames))


def reports(manager, count):
    return [manager.report() for _ in range(count)]


def test_forty_are_stored_in_their_order(start, place):  # noqa: F811
    manager = start("./Maildir/", "--native")
    for number in range(40):
        order(manager, number, sender=b"s%d@x" % number)
    assert sorted(reports(manager, 40)) == [(number, b"Kdid 1+0+0\n") for number in range(40)]
    new = place.user / "Maildir/new"
    names = sorted(os.listdir(new), key=lambda name: int(name.split("Q")[1].split(".")[0]))
    assert len({name.split("P")[1].split("Q")[0] for name in names}) == 1  # one worker made all of them
    heads = [(new / name).read_bytes().partition(b"\n")[0] for name in names]
    assert heads == [b"Return-Path: <s%d@x>" % number for number in range(40)]
    assert manager.close() == (0, [])


def test_programs_of_a_batch_never_run_together(start, place):  # noqa: F811
    manager = start("|mkdir lock || exit 100; echo $SENDER >> order; rmdir lock", "--native")
    for number in range(12):
        order(manager, number, sender=b"%d" % number)
    assert reports(manager, 12) == [(number, b"Kdid 0+0+1\n") for number in range(12)]
    assert (place.user / "order").read_text().split() == [str(number) for number in range(12)]


def test_a_worker_that_is_killed_defers_what_it_has_not_answered(start, place):  # noqa: F811
    manager = start('|[ "$SENDER" != 2 ] || kill -9 $PPID', "--native")
    frames = [native_dialect.deliver(BATCH, b"0/1", b"%d" % n, [(n, b"joe@here.example")]) for n in range(5)]
    manager.process.stdin.write(b"".join(frames))
    done, crashed = b"Kdid 0+0+1\n", b"Zqmail-local crashed.\n"
    assert sorted(reports(manager, 5)) == [(n, done if n < 2 else crashed) for n in range(5)]
    order(manager, 9)
    assert manager.report() == (9, done)
    assert manager.close() == (0, [])


def test_a_message_that_is_gone_defers_no_other(start, place):  # noqa: F811
    manager = start("./Maildir/", "--native")
    order(manager, 1)
    order(manager, 2, path=b"0/404")
    order(manager, 3, recipient=b"JOE@here.example")
    order(manager, 4, recipient=b"joe-none@here.example")
    order(manager, 5)
    assert dict(reports(manager, 5)) == {
        1: b"Kdid 1+0+0\n",
        2: b"Zqmail-spawn unable to open message. (#4.3.0)\n",
        3: b"Kdid 1+0+0\n",
        4: b"DSorry, no mailbox here by that name. (#5.1.1)\n",
        5: b"Kdid 1+0+0\n",
    }
    assert len(os.listdir(place.user / "Maildir/new")) == 3


@pytest.mark.parametrize("options", [("--native",), ("--native", "--exec")])
def test_too_large_for_the_users_limit_is_deferred_alone(start, place, options):  # noqa: F811
    """ulimit -f is the kernel's own refusal of a large file."""
    os.makedirs(f"{place.queue}/mess/0", exist_ok=True)
    with open(f"{place.queue}/mess/0/2", "wb") as file:
        file.write(b"Subject: large\n\n" + b"x" * 300_000)
    wrapped = start("./Maildir/", *options, command=limited(100))
    for number, path in enumerate((b"0/1", b"0/2", b"0/1")):
        order(wrapped, number, path=path)
    got = dict(reports(wrapped, 3))
    assert (got[0], got[2]) == (b"Kdid 1+0+0\n", b"Kdid 1+0+0\n") and got[1].startswith(b"Z")
    assert len(os.listdir(place.user / "Maildir/new")) == 2 and os.listdir(place.user / "Maildir/tmp") == []


def limited(kilobytes):
    script = f'ulimit -f {2 * kilobytes}; exec "$@"'
    return ["sh", "-c", script, "x", sys.executable, f"{ROOT}/bin/pylspawn"]


def test_a_program_of_a_batch_has_its_message_and_its_output_alone(start, place):  # noqa: F811
    """The worker has the messages of all of them, and its socket."""
    manager = start("|ls /proc/self/fd > fds-$SENDER", "--native")
    for number in range(5):
        order(manager, number, sender=b"%d" % number)
    assert reports(manager, 5) == [(number, b"Kdid 0+0+1\n") for number in range(5)]
    for number in range(5):  # 3 is the folder that ls reads
        assert (place.user / f"fds-{number}").read_text().split() == ["0", "1", "2", "3"]
