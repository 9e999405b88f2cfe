"""pysend is asked what waits, and why: pyqshape, pyqwhy, pysendtop and pydesthold with a running queue."""

import os
import stat

from tests.waiting import until


def ask(system, *words):
    """Return what a program prints; it has to succeed."""
    done = system.run(*words)
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout.decode().splitlines()


def queue(system, recipients):
    for recipient in recipients:
        envelope = b"Fsender@here.example\0T%b\0\0" % recipient
        done = system.run("sh", "-c", 'exec pyqueue 0<"$1" 1<"$2"', "sh", *pieces(system, envelope))
        assert done.returncode == 0, done


def pieces(system, envelope):
    """Return the paths of a message and of an envelope."""
    paths = f"{system.home.path}/message", f"{system.home.path}/envelope"
    for path, data in zip(paths, (b"Subject: hello\n\nhello\n", envelope), strict=True):
        with open(path, "wb") as file:
            file.write(data)
    return paths


def test_what_waits_and_why(system):
    system.control("destinations.now", b"remote.example:hold\n")
    system.start_queue()
    system.start_sender()
    queue(system, [b"u@remote.example"] * 3)
    until(lambda: ask(system, "pyqshape")[1].split()[1] == "3")
    head, total, row = ask(system, "pyqshape")
    assert head.split()[:5] == ["NAME", "T", "now", "ready", "retry"]
    assert total.split()[:6] == ["TOTAL", "3", "0", "3", "0", "3"]
    assert row.split()[:6] == ["remote.example", "3", "0", "3", "0", "3"] and "held" in row
    why = ask(system, "pyqwhy", "u@remote.example")
    assert why[0].startswith("remote.example, remote: 3 recipients, held")
    number = min(system.queued())
    assert ask(system, "pyqwhy", number)[0].startswith("remote.example, remote: 1 recipient, held")
    assert ask(system, "pyqwhy", "other.example") == ["nothing waits for domain other.example"]
    assert ask(system, "pysendtop", "--once")[0].startswith(f"pysend {system.pids('pysend')[0]}: 0/")


def test_a_destination_is_held_and_released_while_it_runs(system):
    system.control("smtproutes", b"remote.example:[127.0.0.1]:1\n")
    system.start_queue()
    system.start_sender()
    assert ask(system, "pydesthold", "rcpt=demo@here.example") == []
    system.log.find(rb"rules: .*\n")
    queue(system, [b"demo@here.example"])
    until(lambda: "held" in "".join(ask(system, "pyqwhy", "demo@here.example")))
    assert ask(system, "pydesthold", "--release", "rcpt=demo@here.example") == []
    system.arrived()
    system.empty()


def test_the_socket_is_for_those_who_may_ask(system):
    system.start_queue()
    system.start_sender()
    assert stat.S_IMODE(os.stat(system.home.send_socket).st_mode) == 0o600


def test_mail_goes_on_without_the_socket(system):
    os.rmdir(system.home.run)
    system.sender, system.log = system.says("pystart", "./Maildir/")
    warning = (
        rb"pystart: warning: unable to bind .*/run/pysend: file does not exist; pyqshape and its like have no answer\n"
    )
    system.log.find(warning)
    system.log.find(rb"status: local 0/10 remote 0/20\n")
    os.mkdir(system.home.run)
    system.start_queue()
    queue(system, [b"demo@here.example"])
    system.arrived()
