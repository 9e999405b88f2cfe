"""Envelope streams against qmail-queue's limits, in any pieces; and the records of the queue's files."""

import pytest

from pyqmail.protocol.envelope import (
    BadEnvelope,
    EnvelopeReader,
    format_envelope,
    split_records,
    stored_part,
    todo_head,
)

LONG = b"x" * 1002
ACCEPTED = [
    # stream                         stored
    (b"F\0\0", b"F\0"),
    (b"Fa@b\0\0", b"Fa@b\0"),
    (b"Fa@b\0Tc@d\0\0", b"Fa@b\0Tc@d\0"),
    (b"F\0T\0T\0\0", b"F\0T\0T\0"),
    (b"Fa\0Tb\0\0never read\0", b"Fa\0Tb\0"),
    (b"F\xff\n\r \0Tb\0\0", b"F\xff\n\r \0Tb\0"),
    (b"F" + LONG + b"\0T" + LONG + b"\0\0", b"F" + LONG + b"\0T" + LONG + b"\0"),
]
REFUSED = [
    # stream                         exit code
    (b"", 54),
    (b"F", 54),
    (b"Fa@b", 54),
    (b"Fa@b\0", 54),
    (b"Fa@b\0Tc", 54),
    (b"Fa@b\0Tc\0", 54),
    (b"\0", 91),
    (b"Ta\0Fb\0\0", 91),
    (b"Fa\0Fb\0\0", 91),
    (b"Fa\0Tb\0X", 91),
    (b"fa\0Tb\0\0", 91),
    (b"F" + LONG + b"x\0\0", 11),
    (b"Fa\0T" + LONG + b"x", 11),
    (b"Fa\0T" + LONG + b"x\0Xb\0\0", 11),
    (b"Fa\0Xb\0T" + LONG + b"x\0\0", 91),
]


def read(stream, size):
    reader = EnvelopeReader()
    stored = b"".join(reader.receive(stream[at : at + size]) for at in range(0, len(stream), size))
    reader.close()
    return stored


@pytest.mark.parametrize("size", [1, 2, 3, 7, 65536])
@pytest.mark.parametrize("stream, stored", ACCEPTED)
def test_a_stream_is_stored_without_its_last_nul(stream, stored, size):
    assert read(stream, size) == stored


@pytest.mark.parametrize("size", [1, 2, 3, 7, 65536])
@pytest.mark.parametrize("stream, exit_code", REFUSED)
def test_a_bad_stream_has_qmail_queues_exit_code(stream, exit_code, size):
    with pytest.raises(BadEnvelope) as bad:
        read(stream, size)
    assert bad.value.exit_code == exit_code


def test_format_and_stored_part_are_inverse():
    recipients = [b"r%d@x.example" % n for n in range(1000)]
    stream = format_envelope(b"s@x.example", recipients)
    assert split_records(stored_part(stream)) == [(b"F", b"s@x.example"), *[(b"T", r) for r in recipients]]


def test_no_address_can_end_a_record():
    with pytest.raises(ValueError):
        format_envelope(b"a\0Tevil", [])
    with pytest.raises(ValueError):
        format_envelope(b"a", [b"b\0Tevil"])


def test_a_todo_file_has_the_bytes_of_the_originals():
    stream = format_envelope(b"snd@orig.example", [b"ann@mx.test", b"ok1@r.example"])
    todo = todo_head(1024, 20513) + stored_part(stream)
    assert todo == b"u1024\0p20513\0Fsnd@orig.example\0Tann@mx.test\0Tok1@r.example\0"


RECORDS = [
    (b"", []),
    (b"u1\0p2\0F\0", [(b"u", b"1"), (b"p", b"2"), (b"F", b"")]),
    (b"Ta\0Db\0Tcut", [(b"T", b"a"), (b"D", b"b")]),
    (b"\0", [(b"", b"")]),
]


@pytest.mark.parametrize("data, records", RECORDS)
def test_an_unended_last_record_is_dropped(data, records):
    assert split_records(data) == records
