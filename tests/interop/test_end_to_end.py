"""Mail through the whole system, native: SMTP in, the queue, a Maildir and another SMTP server; byte for byte.

Untested here: DNS (pyresolve's own tests have a name server), more than one machine.
"""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess

import pytest

from tests.waiting import until

STAMP = rb"[0-9]{1,2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} -0000"
TRACE = (
    rb"Received: \(qmail [0-9]+ invoked by uid %d\); %b\n"
    rb"Received: from unknown \(HELO client.example\) \(127.0.0.1\)\n  by here.example with SMTP; %b\n"
    % (os.getuid(), STAMP, STAMP)
)
REFUSED = "Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/"


def on_the_wire(content):
    """Return content, lines that end with LF, as SMTP has it."""
    return re.sub(rb"(?m)^\.", b"..", content).replace(b"\n", b"\r\n")


@pytest.fixture
def running(system, smtp_peer):
    """The whole system, with mail for remote.example routed to smtp_peer."""
    system.control("smtproutes", smtp_peer.route())
    system.start_all()
    return system


def is_local(message, sender, recipient, content):
    """Assert that a Maildir file is what was sent, under the lines that deliveries and hosts add."""
    head = re.match(
        rb"Return-Path: <%b>\nDelivered-To: %b\n%b" % (re.escape(sender), re.escape(recipient), TRACE), message
    )
    assert head, message[:1000]
    assert message[head.end() :] == content


def is_remote(data, content):
    """Assert that the other server got what was sent, as it is on the wire."""
    head = re.match(TRACE.replace(rb"\n", rb"\r\n"), data)
    assert head, data[:1000]
    assert data[head.end() :] == on_the_wire(content)


CONTENTS = {
    "nothing": b"",
    "dots": b".\n..\n.a\n\n.\n",
    "no header, one line": b"hello\n",
    "eight bits and NULs": bytes(c for c in range(256) if c not in b"\r\n") * 9 + b"\n\0\n\xff\n",
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_content_arrives_as_it_was_sent(running, smtp_peer, content):
    running.mail(b"ann@client.example", [b"demo@here.example", b"bob@remote.example"], on_the_wire(content))
    running.log.find(rb"end msg [0-9]+\n")
    (message,) = running.arrived()
    is_local(message, b"ann@client.example", b"demo@here.example", content)
    ((commands, data),) = smtp_peer.mails
    assert commands.replace(b"DATA\r\n", b"") == b"MAIL FROM:<ann@client.example>\r\nRCPT TO:<bob@remote.example>\r\n"
    is_remote(data, content)
    running.empty()


def test_a_carriage_return_alone_is_content_here_and_a_space_elsewhere(running, smtp_peer):
    # two ends of a message for a server that takes a lone CR for a line's end; only ours must be one
    sent = b"a\rb\r\r\nc\r\n\r.\r\nd\r\r.\r\r\ne\r\n"
    running.mail(b"ann@client.example", [b"demo@here.example", b"bob@remote.example"], sent)
    running.log.find(rb"end msg [0-9]+\n")
    (message,) = running.arrived()
    is_local(message, b"ann@client.example", b"demo@here.example", sent.replace(b"\r\n", b"\n"))
    ((_, data),) = smtp_peer.mails
    got = data[re.match(TRACE.replace(rb"\n", rb"\r\n"), data).end() :]
    assert re.fullmatch(rb"(?:[^\r\n]|\r\n)*", got)
    assert re.sub(rb"[ \r]", b"", got) == re.sub(rb"\r", b"", sent)


@pytest.mark.parametrize("data", [b"a\nb\r\n", b"a\r\n.\nMAIL FROM:<>\r\n", b"\n"])
def test_a_bare_newline_ends_the_connection_and_leaves_nothing(running, data):
    with running.client() as client:
        client.say(b"MAIL FROM:<ann@client.example>\r\n")
        client.say(b"RCPT TO:<demo@here.example>\r\n")
        client.say(b"DATA\r\n", b"354")
        assert client.say(data, b"451") == b"451 See https://cr.yp.to/docs/smtplf.html.\r\n"
        assert client.ended()
    running.smtp_log.find(rb"tcpserver: end [0-9]+ status 256\n")
    assert running.files() == []


def test_fifty_megabytes(running, smtp_peer):
    line = bytes(range(32, 127)) * 40 + b"\n"
    content = b"Subject: large\n\n" + line * (50_000_000 // len(line) + 1)
    running.mail(b"ann@client.example", [b"demo@here.example", b"bob@remote.example"], on_the_wire(content))
    running.log.find(rb"end msg [0-9]+\n")
    (message,) = running.arrived()
    is_local(message, b"ann@client.example", b"demo@here.example", content)
    ((_, data),) = smtp_peer.mails
    is_remote(data, content)
    size = len(message) - len(b"Return-Path: <ann@client.example>\nDelivered-To: demo@here.example\n")
    running.log.find(rb"info msg [0-9]+: bytes %d from <ann@client.example> qp [0-9]+ uid %d\n" % (size, os.getuid()))


def test_a_thousand_recipients_on_two_channels(running, smtp_peer):
    local = [b"demo-%d@here.example" % number for number in range(500)]
    remote = [b"user%d@remote.example" % number for number in range(500)]
    both = [one for pair in zip(local, remote, strict=True) for one in pair]
    running.mail(b"ann@client.example", both, b"Subject: to all\r\n\r\nhello\r\n")
    log = running.log.find(rb"end msg [0-9]+\n") and running.log.text
    assert sorted(re.findall(rb"starting delivery [0-9]+: msg [0-9]+ to local (.*)\n", log)) == sorted(local)
    assert sorted(re.findall(rb"starting delivery [0-9]+: msg [0-9]+ to remote (.*)\n", log)) == sorted(remote)
    assert len(re.findall(rb"delivery [0-9]+: success: ", log)) == 1000
    assert sorted(re.search(rb"\nDelivered-To: (.*)\n", one)[1] for one in running.arrived(500, "more")) == sorted(
        local
    )
    told = [one for commands, _ in smtp_peer.mails for one in re.findall(rb"RCPT TO:<(.*)>\r\n", commands)]
    assert sorted(told) == sorted(remote)
    for _, data in smtp_peer.mails:
        is_remote(data, b"Subject: to all\n\nhello\n")
    running.empty()


def notice(message, sender, to, kind, paragraphs, original):
    """Assert that a Maildir file is a failure notice, whole; original is the head of what it returns."""
    hi = b"Hi. This is the qmail-send program at here.example.\n"
    words = {
        "single": (
            b"I'm afraid I wasn't able to deliver your message to the following addresses.\n"
            b"This is a permanent error; I've given up. Sorry it didn't work out.\n",
            b"--- Below this line is a copy of the message.\n",
        ),
        "double": (
            b"I tried to deliver a bounce message to this address, but the bounce bounced!\n",
            b"--- Below this line is the original bounce.\n",
        ),
    }[kind]
    head = (
        rb"Return-Path: <%b>\n(?:Delivered-To: .*\n(?:Received: .*\n)?)+"
        rb"Date: %b\nFrom: MAILER-DAEMON@here.example\nTo: %b\nSubject: failure notice\n\n"
        % (re.escape(sender), STAMP, re.escape(to))
    )
    found = re.match(head, message)
    assert found, message
    rest = hi + words[0] + b"\n" + paragraphs + words[1] + b"\n"
    assert message[found.end() :].startswith(rest), message
    assert re.match(original, message[found.end() + len(rest) :]), message


UNKNOWN = b"Sorry, no mailbox here by that name. (#5.1.1)\n\n"


def test_an_unknown_user_bounces(running):
    running.mail(b"demo@here.example", [b"nosuch@here.example", b"No.One@HERE.example"], b"Subject: x\r\n\r\nhello\r\n")
    (message,) = running.arrived()
    paragraphs = b"<nosuch@here.example>:\n" + UNKNOWN + b"<No.One@HERE.example>:\n" + UNKNOWN
    swapped = b"<No.One@HERE.example>:\n" + UNKNOWN + b"<nosuch@here.example>:\n" + UNKNOWN
    original = rb"Return-Path: <demo@here.example>\n%bSubject: x\n\nhello\n\Z" % TRACE
    order = swapped if message.find(b"<No.One") < message.find(b"<nosuch") else paragraphs
    notice(message, b"", b"demo@here.example", "single", order, original)
    assert re.search(rb"\nReceived: \(qmail [0-9]+ invoked by uid %d\); %b\nDate: " % (os.getuid(), STAMP), message)
    running.log.find(rb"bounce msg ([0-9]+) qp [0-9]+\nend msg \1\n")
    running.log.find(rb"delivery [0-9]+: failure: Sorry,_no_mailbox_here_by_that_name._\(#5.1.1\)/\n", 2)
    running.empty()


def test_a_bounce_that_bounces_goes_to_the_postmaster_and_no_further(running):
    running.mail(b"gone@here.example", [b"nosuch@here.example"], b"Subject: x\r\n\r\nhello\r\n")
    (message,) = running.arrived(folder="more")
    original = rb"Return-Path: <>\nReceived: .*\nDate: .*\nFrom: MAILER-DAEMON@here.example\nTo: gone@here.example\n"
    notice(message, b"#@[]", b"postmaster@here.example", "double", b"<gone@here.example>:\n" + UNKNOWN, original)
    running.empty()
    os.unlink(f"{running.home.alias}/.qmail-postmaster")
    running.mail(b"", [b"nosuch@here.example"], b"Subject: x\r\n\r\nhello\r\n")
    running.log.find(rb"triple bounce: discarding bounce/([0-9]+)\nend msg \1\n")
    running.empty()
    assert len(running.arrived(folder="more")) == 1


def script(*, greeting=b"220 peer\r\n", recipient=b"250 ok\r\n", sender=b"demo@here.example"):
    """What a server says that refuses somewhere, and what it must hear."""
    steps = [(b"S", greeting)]
    if greeting.startswith(b"220"):
        steps += [(b"C", b"EHLO here.example\r\n"), (b"S", b"250 peer\r\n")]
        steps += [(b"C", b"MAIL FROM:<%b>\r\n" % sender), (b"S", b"250 ok\r\n")]
        steps += [(b"C", b"RCPT TO:<bob@remote.example>\r\n"), (b"S", recipient)]
    return steps


def test_what_the_other_server_refuses_bounces(running, smtp_peer):
    smtp_peer.scripts.append(script(recipient=b"550-no such\r\n550 user\r\n"))
    running.mail(b"demo@here.example", [b"bob@remote.example"], b"Subject: x\r\n\r\nhello\r\n")
    (message,) = running.arrived()
    text = b"127.0.0.1 does not like recipient.\nRemote host said: 550-no such\n550 user\nGiving up on 127.0.0.1.\n\n"
    original = rb"Return-Path: <demo@here.example>\n%bSubject: x\n\nhello\n\Z" % TRACE
    notice(message, b"", b"demo@here.example", "single", b"<bob@remote.example>:\n" + text, original)
    running.log.find(
        rb"failure: 127.0.0.1_does_not_like_recipient./"
        rb"Remote_host_said:_550-no_such/550_user/Giving_up_on_127.0.0.1./\n"
    )
    assert not smtp_peer.mismatches
    running.empty()


def test_what_the_other_server_puts_off_is_tried_again(running, smtp_peer):
    smtp_peer.scripts.append(script(recipient=b"450 later\r\n"))
    running.mail(b"demo@here.example", [b"bob@remote.example"], b"Subject: x\r\n\r\nhello\r\n")
    running.log.find(rb"delivery [0-9]+: deferral: .*\nstatus: local 0/10 remote 0/20\n")
    assert not smtp_peer.mails
    running.sender.send_signal(signal.SIGALRM)
    running.log.find(rb"delivery [0-9]+: success: 127.0.0.1_accepted_message./Remote_host_said:_250_ok_1/\n")
    running.log.find(rb"end msg [0-9]+\n")
    is_remote(smtp_peer.mails[0][1], b"Subject: x\n\nhello\n")
    assert not smtp_peer.mismatches
    running.empty()


def test_a_server_that_is_busy_costs_no_message_anything(running, smtp_peer):
    smtp_peer.scripts.append(script(greeting=b"421 busy\r\n"))
    running.mail(b"demo@here.example", [b"bob@remote.example"], b"Subject: x\r\n\r\nhello\r\n")
    running.log.find(rb"site 127.0.0.1:[0-9]+: paused 6[0-9]: refused: .*_421_busy.*\n")
    assert not smtp_peer.mails and b"delivery" not in running.log.text


@pytest.mark.parametrize(
    "command, reply",
    [
        (b"MAIL", b"451 enough\r\n"),
        (b"MAIL", b"550 enough\r\n"),
        (b"MAIL", b"421 enough\r\n"),
        (b"RCPT", b"450 enough\r\n"),
        (b"RCPT", b"421 enough\r\n"),
        (b"RCPT", b""),
        (b"DATA", b"554 enough\r\n"),
        (b"DATA", b""),
    ],
)
def test_a_limit_of_the_connection_is_not_charged_to_the_mail(running, smtp_peer, command, reply):
    """A list with a recipient in each sender; the server takes three messages over a connection."""
    smtp_peer.decide = lambda seen, line: reply if seen.messages >= 3 and line.startswith(command) else None
    recipients = [b"u%d@remote.example" % number for number in range(30)]
    running.mail(b"list-@here.example-@[]", recipients, b"Subject: x\r\n\r\nhello\r\n")
    running.log.find(rb"end msg [0-9]+\n")
    log = running.log.text
    assert log.count(b": success: 127.0.0.1_accepted_message.") == log.count(b"starting delivery ") == 30
    assert b"deferral" not in log and b"failure" not in log
    assert sorted(mail[0].split(b"\r\n")[:2] for mail in smtp_peer.mails) == sorted(
        [b"MAIL FROM:<list-u%d=remote.example@here.example>" % n, b"RCPT TO:<u%d@remote.example>" % n]
        for n in range(30)
    )
    running.empty()


def test_a_server_that_takes_one_connection_at_a_time_and_two_messages_over_each(running, smtp_peer):
    def decide(seen, line):
        if not line:
            return b"421 too many connections\r\n" if smtp_peer.open > 1 else None
        return b"451 enough\r\n" if seen.messages >= 2 and line.startswith(b"MAIL") else None

    smtp_peer.decide = decide
    recipients = [b"u%d@remote.example" % number for number in range(9)]
    running.mail(b"list-@here.example-@[]", recipients, b"Subject: x\r\n\r\nhello\r\n")
    running.log.find(rb": (success|deferral): ", 9)
    assert b"deferral" not in running.log.text and len(smtp_peer.mails) == 9
    running.empty()


@pytest.mark.parametrize("reply", [b"452 enough\r\n", b"552 enough\r\n", b"550 5.5.3 enough\r\n"])
def test_a_limit_of_recipients_for_a_connection_is_not_charged_to_them(running, smtp_peer, reply):
    """Forty recipients of one message; the server takes seven over a connection, however many transactions."""

    def decide(seen, line):
        count = getattr(seen, "count", 0)
        if line[:4] != b"RCPT":
            return None
        if count >= 7:
            return reply
        seen.count = count + 1
        return None

    smtp_peer.decide = decide
    recipients = [b"u%d@remote.example" % number for number in range(40)]
    running.mail(b"demo@here.example", recipients, b"Subject: x\r\n\r\nhello\r\n")
    running.log.find(rb"end msg [0-9]+\n|: (deferral|failure): ")
    assert running.log.text.count(b": success: ") == 40
    running.empty()


@pytest.mark.parametrize("has_pipelining", [True, False])
@pytest.mark.parametrize(
    "command, reply",
    [
        (b"RCPT", b""),
        (b"DATA", b""),
        (b"DATA", b"421 x\r\n"),
        (b"DATA", b"452 x\r\n"),
        (b".\r\n", b""),
        (b".\r\n", b"421 x\r\n"),
        (b".\r\n", b"451 4.5.3 x\r\n"),
    ],
)
def test_a_server_that_dies_over_several_recipients_gets_fewer_at_the_next_try(
    running, smtp_peer, command, reply, has_pipelining
):
    """The original, which sends to one at a time, delivers."""
    smtp_peer.has_pipelining = has_pipelining
    smtp_peer.decide = lambda seen, line: reply if line.startswith(command) and seen.recipients > 2 else None
    recipients = [b"u%d@remote.example" % number for number in range(10)]
    running.mail(b"demo@here.example", recipients, b"Subject: x\r\n\r\nhello\r\n")
    running.log.find(rb": deferral: .*\nstatus: local 0/10 remote 0/20\n")
    running.sender.send_signal(signal.SIGALRM)
    running.log.find(rb"end msg [0-9]+\n")
    assert running.log.text.count(b": deferral: ") == running.log.text.count(b": success: ") == 10
    running.empty()


def test_one_recipient_at_a_time_and_few_at_each_connection(running, smtp_peer):
    """Of a message with a hundred recipients for one domain."""

    def decide(seen, line):
        if line[:4] == b"RCPT" and seen.recipients:
            return b"452 too many\r\n"
        return b"421 enough\r\n" if line.startswith(b"MAIL") and seen.messages >= 9 else None

    smtp_peer.decide = decide
    recipients = [b"u%d@remote.example" % number for number in range(100)]
    running.mail(b"demo@here.example", recipients, b"Subject: x\r\n\r\nhello\r\n")
    running.log.find(rb"end msg [0-9]+\n")
    assert running.log.text.count(b": success: ") == 100 and b"deferral" not in running.log.text
    assert len(smtp_peer.mails) == 100
    running.empty()


def test_mail_finds_its_way_by_dns_but_not_to_ourselves(home, make_system, own_network, own_servers, tmp_path):
    names, far, loopback = own_servers("198.18.0.1", "127.0.0.2")
    names.zone |= {
        (b"remote.example", names.MX): [b"\0\1" + names.name(b"mx.example")],
        (b"mx.example", names.A): [socket.inet_aton("198.18.0.1")],
        (b"loop.example", names.MX): [b"\0\1" + names.name(b"loop.example")],
        (b"loop.example", names.A): [socket.inet_aton("127.0.0.2")],
    }
    system = make_system(home, environ={"PYQMAIL_DNS": "127.0.0.1"}, prefix=own_network.prefix)
    system.furnish()
    system.start_queue()
    system.start_sender()
    (tmp_path / "message").write_bytes(b"Subject: x\n\nhello\n")
    recipients = [b"bob@remote.example", b"bob@loop.example", b"bob@[127.0.0.3]"]
    (tmp_path / "envelope").write_bytes(b"Fann@remote.example\0%b\0" % b"".join(b"T%b\0" % one for one in recipients))
    with open(tmp_path / "message", "rb") as message, open(tmp_path / "envelope", "rb") as envelope:
        queued = system.run("pyqueue", stdin=message, stdout=envelope, stderr=subprocess.PIPE, capture_output=False)
        assert queued.returncode == 0
    system.log.find(rb"success: 198.18.0.1_accepted_message./", 2)
    system.empty()
    ((_, mail), (commands, notice)) = far.mails
    assert mail.endswith(b"\r\nhello\r\n") and commands.startswith(b"MAIL FROM:<>\r\nRCPT TO:<ann@remote.example>\r\n")
    assert notice.count(b"Although I'm listed as a best-preference MX") == 2 and b"bob@remote.example>:" not in notice
    assert loopback.sessions == 0


def test_another_client_delivers_what_dns_does_not_know(system, tmp_path):
    """QMAILREMOTE: mail for a host that only that program knows, while every DNS answer is `no such host`."""
    agent = tmp_path / "agent"
    agent.write_text(f"#!/bin/sh\ncat >{tmp_path}/mail\nprintf 'r\\0Kgot it for %s\\n\\0' \"$1\"\n")
    agent.chmod(0o755)
    system.environ |= {"QMAILREMOTE": str(agent), "PYQMAIL_DNS": "127.0.0.1:9"}
    system.start_all()
    system.mail(b"demo@here.example", [b"bob@remote.example"], b"Subject: x\r\n\r\nhello\r\n")
    system.log.find(rb"delivery 1: success: got_it_for_remote.example/\n")
    assert (tmp_path / "mail").read_bytes().endswith(b"Subject: x\n\nhello\n")


def test_mail_waits_for_a_server_that_is_not_there(running, smtp_peer):
    route = running.home.control + "/smtproutes"
    with open(route, "rb") as file:
        to_peer = file.read()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # not listening
        running.control("smtproutes", b"remote.example:127.0.0.1:%d\n" % nobody.getsockname()[1])
        running.stop_sender()
        running.start_sender()
        running.mail(b"demo@here.example", [b"bob@remote.example"], b"Subject: x\r\n\r\nhello\r\n")
        running.log.find(rb"site 127.0.0.1:[0-9]+: dead: 1 start failed: %b\n" % re.escape(REFUSED.encode()[:-1]))
    (number,) = running.queued()
    assert b"delivery" not in running.log.text
    running.stop_sender()
    info, remote = (os.stat(f"{running.home.queue}/{name}/{int(number) % 23}/{number}") for name in ("info", "remote"))
    assert remote.st_mtime == info.st_mtime  # it has no retry time
    running.control("smtproutes", to_peer)
    running.start_sender()
    running.log.find(rb"end msg [0-9]+\n")
    assert len(smtp_peer.mails) == 1
    running.empty()


def test_mail_for_others_is_refused_and_nothing_is_kept(system):
    system.start_queue()
    system.start_smtp(relay=False)
    with system.client() as client:
        client.say(b"MAIL FROM:<>\r\n")
        client.say(b"RCPT TO:<x@other.example>\r\n", b"553")
        client.say(b"DATA\r\n", b"503")
    assert system.files() == []


def test_without_the_queue_clients_are_told_to_come_back(running):
    data = b"Subject: x\r\n\r\nhello\r\n"
    assert running.stop(running.queue) == 0
    with running.client() as client:
        later = b"451 qq trouble creating files in queue (#4.3.0)\r\n"
        assert client.mail(b"ann@client.example", [b"demo@here.example"], data, b"451") == later
        running.start_queue()
        assert client.mail(b"ann@client.example", [b"demo@here.example"], data).startswith(b"250 ok ")
    assert len(running.arrived()) == 1


def test_without_the_manager_mail_waits(running, smtp_peer):
    running.stop_sender()
    for number in range(3):
        running.mail(b"ann@client.example", [b"demo@here.example", b"bob@remote.example"], b"Subject: %d\r\n" % number)
    assert len(os.listdir(f"{running.home.queue}/todo")) == 3
    running.start_sender()
    running.log.find(rb"end msg [0-9]+\n", 3)
    assert len(running.arrived(3)) == len(smtp_peer.mails) == 3
    running.empty()


def test_a_full_disk_is_a_temporary_failure_and_leaves_nothing(system):
    limit = 100_000
    system.start_queue(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    system.start_smtp()
    with system.client() as client:
        full = b"452 qq write error or disk full (#4.3.0)\r\n"
        for size in (limit, 30 * limit):  # handed over inline, and as a file
            assert client.mail(b"", [b"demo@here.example"], b"x" * size + b"\r\n", b"452") == full
        assert client.mail(b"", [b"demo@here.example"], b"x\r\n").startswith(b"250 ok ")
    (number,) = system.queued()
    assert system.files() == [f"intd/{number}", f"mess/{int(number) % 23}/{number}", f"todo/{number}"]


def test_many_messages_over_many_connections(running, smtp_peer):
    """Every acknowledged message arrives once, in both places."""
    import threading

    acknowledged = []

    def send(client_number):
        with running.client() as client:
            for number in range(20):
                subject = b"Subject: %d-%d\r\n" % (client_number, number)
                client.mail(b"ann@client.example", [b"demo@here.example", b"bob@remote.example"], subject)
                acknowledged.append(subject.replace(b"\r", b""))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS_FOR_MANY)
    assert len(acknowledged) == 200
    running.log.find(rb"end msg [0-9]+\n", 200)
    assert sorted(one[one.index(b"Subject:") :] for one in running.arrived(200)) == sorted(acknowledged)
    assert sorted(data[data.index(b"Subject:") :].replace(b"\r", b"") for _, data in smtp_peer.mails) == sorted(
        acknowledged
    )


SECONDS_FOR_MANY = 60


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("smtp-source"), reason="not installed: smtp-source")
def test_two_hundred_at_once_while_two_thousand_are_idle(system):
    messages, idle = 4000, []
    system.start_queue()
    system.start_smtp(options=("-v", "-R", "-H", "-lhere.example", "-c3000", "-b1024"))
    system.start_sender()
    for _ in range(2000):
        idle.append(socket.create_connection(system.address, timeout=30))
    assert all(sock.recv(1000).startswith(b"220 ") for sock in idle)
    words = f"smtp-source -s 200 -m {messages} -l 2048 -f ann@client.example -t demo@here.example "
    words += f"127.0.0.1:{system.address[1]}"
    sent = system.run(*words.split(), timeout=120)
    assert (sent.returncode, sent.stderr) == (0, b"")
    until(lambda: not system.queued())
    assert len(os.listdir(f"{system.demo}/Maildir/new")) == messages
    for sock in idle:
        sock.sendall(b"NOOP\r\n")
        assert sock.recv(1000) == b"250 ok\r\n"
        sock.close()
    system.smtp_log.find(rb"status: 0/3000\n\Z")


def test_everything_stops_and_nobody_is_left(running):
    assert running.stop_sender().endswith(b"status: exiting\n")
    assert running.stop(running.queue) == 0
    running.smtp.terminate()
    running.smtp.wait(60)
    until(lambda: not running.pids())


def test_who_starts_it_with_every_signal_blocked_can_end_it_all_the_same(system):
    def block():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    system.start_queue(preexec_fn=block)
    system.start_smtp()
    system.start_sender(preexec_fn=block)
    system.mail(b"ann@client.example", [b"demo@here.example"], b"\r\n")
    system.log.find(rb"end msg [0-9]+\n")
    assert system.stop_sender().endswith(b"status: exiting\n")
    assert system.stop(system.queue) == 0
