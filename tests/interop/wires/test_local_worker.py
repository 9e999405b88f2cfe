"""The local worker wire, from the page alone."""

import os
import socket
import struct

import pytest

from tests.interop.wires.spoken import (
    SECONDS,
    SENDER,
    Stream,
    frame,
    make_mailbox,
    put_message,
    receive_with,
    send_with,
    strings,
)

LOOKUP, ACCOUNT, DELIVER_HERE, NEED, OUTPUT, DONE, STORED = range(1, 8)


@pytest.fixture
def packets():
    """packets() -> two ends of a SOCK_SEQPACKET pair; ours is closed with the test."""
    made = []

    def make():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.append(ours)
        return ours, theirs

    yield make
    for ours in made:
        ours.close()


def unpacked(packet):
    length, version, kind, number = struct.unpack(">IBBI", packet[:10])
    assert (length, version, number) == (len(packet) - 4, 1, 0)
    return kind, packet[10:]


def numbered(packet):
    return struct.unpack(">IBBI", packet[:10])[2:], packet[10:]


def fields(home, ext):
    return strings(b"alias", os.fsencode(home.alias), ext, b"-", ext, b"here.example", SENDER)


def test_local_worker_delivers(home, packets, wire_end):
    ours, theirs = packets()
    process = wire_end(theirs, 3, "local", "./Mailbox", env={"PYQMAIL_HOME": home.path})
    make_mailbox(home)
    with open(f"{home.alias}/.qmail-program", "wb") as file:
        file.write(b"|echo heard\n")
    message = os.open(f"{home.queue}/mess/{put_message(home).decode()}", os.O_RDONLY)
    send_with(ours, frame(DELIVER_HERE, 0, fields(home, b"joe")), message)
    assert unpacked(receive_with(ours)[0]) == (DONE, b"\0did 1+0+0\n")
    send_with(ours, frame(DELIVER_HERE, 0, fields(home, b"nobody")), message)
    assert unpacked(receive_with(ours)[0]) == (DONE, b"\x64Sorry, no mailbox here by that name. (#5.1.1)\n")
    send_with(ours, frame(DELIVER_HERE, 0, fields(home, b"program")), message)
    assert unpacked(receive_with(ours)[0]) == (NEED, b"")
    reader, writer = os.pipe()
    send_with(ours, frame(OUTPUT, 0), writer)
    os.close(writer)
    assert unpacked(receive_with(ours)[0]) == (DONE, b"\0")
    output = Stream(reader)
    assert output.read(16) == b"heard\ndid 0+0+1\n" and output.is_at_end()
    os.close(reader)
    send_with(ours, frame(DELIVER_HERE, 0, fields(home, b"program")), message)
    assert unpacked(receive_with(ours)[0]) == (NEED, b"")
    ours.send(frame(OUTPUT, 0))  # no descriptor to be had
    assert unpacked(receive_with(ours)[0]) == (DONE, b"\0")
    os.close(message)
    ours.shutdown(socket.SHUT_WR)
    assert process.wait(SECONDS) == 0


def test_local_worker_delivers_together(home, packets, wire_end):
    """The program has a place of its own between two that are stored; the last has no descriptor."""
    ours, theirs = packets()
    process = wire_end(theirs, 3, "local", "./Mailbox", env={"PYQMAIL_HOME": home.path})
    for folder in ("tmp", "new", "cur"):
        os.makedirs(f"{home.alias}/dir/{folder}")
    for name, line in (("dir", b"./dir/\n"), ("program", b"|ls dir/new | wc -l; exit 111\n")):
        with open(f"{home.alias}/.qmail-{name}", "wb") as file:
            file.write(line)
    message = os.open(f"{home.queue}/mess/{put_message(home).decode()}", os.O_RDONLY)
    names = (b"dir", b"dir", b"program", b"dir", b"dir")
    body = b"".join(fields(home, name) for name in names)
    send_with(ours, frame(DELIVER_HERE, 0, body), *[message] * 4)
    said = b"did 1+0+0\n"
    assert numbered(receive_with(ours)[0]) == ((STORED, 0), strings(b"0", said, b"1", said))
    assert numbered(receive_with(ours)[0]) == ((NEED, 2), b"")
    reader, writer = os.pipe()
    send_with(ours, frame(OUTPUT, 0), writer)
    os.close(writer)
    assert numbered(receive_with(ours)[0]) == ((DONE, 2), b"\x6f")
    assert Stream(reader).read(2) == b"2\n"
    assert numbered(receive_with(ours)[0]) == ((STORED, 0), strings(b"3", said))
    kind, text = numbered(receive_with(ours)[0])
    assert kind == (DONE, 4) and text.startswith(b"\x6f")
    assert len(os.listdir(f"{home.alias}/dir/new")) == 3
    os.close(reader)
    os.close(message)
    ours.shutdown(socket.SHUT_WR)
    assert process.wait(SECONDS) == 0


def test_local_worker_looks_users_up(packets, wire_end, tmp_path):
    getpw = tmp_path / "getpw"
    getpw.write_text(
        "#!/bin/sh\n[ \"$1\" = joe-x ] || exit 115\nprintf 'joe\\0001000\\000100\\000/home/joe\\000-\\000x\\000'\n"
    )
    getpw.chmod(0o755)
    ours, theirs = packets()
    process = wire_end(theirs, 3, "lookup", str(getpw))
    ours.send(frame(LOOKUP, 0, b"joe-x"))
    assert unpacked(receive_with(ours)[0]) == (
        ACCOUNT,
        b"\0" + strings(b"joe", b"1000", b"100", b"/home/joe", b"-", b"x"),
    )
    ours.send(frame(LOOKUP, 0, b"other"))
    assert unpacked(receive_with(ours)[0]) == (ACCOUNT, b"\x73")
    ours.send(frame(DELIVER_HERE, 0, strings(*[b"x"] * 7)))  # not of this worker
    assert receive_with(ours)[0] == b"" and process.wait(SECONDS) == 111
