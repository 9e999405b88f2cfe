"""Servers and name servers that never say a word: what the log shows meanwhile, and that others do not wait for them.

In virtual time, and with thousands of them: tests/mail/destinations/test_scenarios.py.
"""

import os
import socket

import pytest

from tests.waiting import until

DATA = b"Subject: hm\r\n\r\nhello\r\n"


@pytest.fixture
def silent_port():
    """A port where connections are made and nobody speaks."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


def test_the_log_shows_what_connects_and_what_is_looked_up(system, smtp_peer, silent_port, name_server):
    name_server.zone[b"dead.example"] = "silent"
    system.environ["PYQMAIL_DNS"] = f"127.0.0.1:{name_server.port}"
    system.control("smtproutes", b"remote.example%bsilent.example:127.0.0.1:%d\n" % (smtp_peer.route(), silent_port))
    system.start_all()
    with system.client() as client:
        for i in range(12):
            client.mail(b"ann@client.example", [b"u%d@silent.example" % i], DATA)
        client.mail(b"ann@client.example", [b"u@dead.example"], DATA)
    system.log.find(rb"\nstatus: local 0/10 remote 1/20\n")  # it has never greeted
    assert b"starting delivery" not in system.log.text
    system.mail(b"ann@client.example", [b"bob@remote.example"], DATA)
    start = rb"\nstarting delivery 1: msg [0-9]+ to remote bob@remote.example\n"
    system.log.find(start + rb"status: local 0/10 remote 2/20\n")
    system.log.find(rb"\ndelivery 1: success: .*\nstatus: local 0/10 remote 1/20\n")
    system.log.find(rb"\nconnecting: 127.0.0.1: sessions 1, seconds [56]\n")
    system.log.find(rb"\nlooking up: dead.example: domains 1, seconds [56]\n")
    assert system.log.text.count(b"connecting:") == 1 and len(smtp_peer.mails) == 1


def test_another_client_program_makes_all_deliveries_of_a_message_at_once(system, tmp_path):
    """Twenty recipients of one domain, and a program that ends only once all twenty run."""
    os.mkfifo(tmp_path / "go")
    script = tmp_path / "remote"
    script.write_text(f"#!/bin/sh\necho $3 >> {tmp_path}/running\nread line < {tmp_path}/go\nprintf 'r\\0Kyes\\n\\0'\n")
    script.chmod(0o755)
    system.control("smtproutes", b":127.0.0.1:9\n")
    system.environ["QMAILREMOTE"] = str(script)
    system.control("concurrencyremote", b"30\n")
    system.control("destinations.now", b":c=1000,learn=no\n")
    system.start_all()
    recipients = [b"u%d@far.example" % i for i in range(20)]
    system.mail(b"ann@client.example", recipients, DATA)
    running = tmp_path / "running"
    until(lambda: running.exists() and len(running.read_bytes().splitlines()) == 20)
    assert sorted(running.read_bytes().splitlines()) == sorted(recipients)
    system.log.find(rb"\nstatus: local 0/10 remote 20/30\n")
    with open(tmp_path / "go", "wb", buffering=0) as go:
        go.write(b"x\n" * 20)
        system.empty()
