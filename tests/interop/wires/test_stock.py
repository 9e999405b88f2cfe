"""The stock dialect and its wide form with real spawners, from the page alone."""

import pytest

from tests.interop.wires.spoken import MESSAGE, RECIPIENT, SENDER, WIDTHS, make_mailbox, put_message


def command(slot, path, recipient=RECIPIENT):
    return slot + path + b"\0" + SENDER + b"\0" + recipient + b"\0"


@pytest.mark.parametrize("options, width", WIDTHS)
def test_stock_local(part, home, options, width):
    make_mailbox(home)
    spawner, path = part("pylspawn", *options, "./Mailbox", home=home), put_message(home)
    assert int.from_bytes(spawner.out.read(width), "little") > 1
    slots = [number.to_bytes(width, "little") for number in (0, 1, 65_000 if width == 2 else 254)]
    spawner.put(command(slots[0], path) + command(slots[1], b"23/4x") + command(slots[1], path, b"nowhere"))
    reports = {}
    for _ in range(3):
        slot = spawner.out.read(width)
        reports.setdefault(slot, []).append(spawner.out.read_to(b"\0"))
    assert reports.pop(slots[0]) == [b"Kdid 1+0+0\n\0"]
    assert reports.pop(slots[1]) == [
        b"DInternal error: messid has nonnumerics. (#5.3.5)\n\0",
        b"DSorry, address must include host name. (#5.1.3)\n\0",
    ]
    if width == 2:  # narrow, the limit may be 255
        spawner.put(command(slots[2], path))
        assert spawner.out.read(width) == slots[2]
        assert spawner.out.read_to(b"\0") == b"ZInternal error: delnum too big. (#4.3.5)\n\0"
    assert spawner.end() == 0


@pytest.mark.parametrize("options, width", WIDTHS)
def test_stock_remote_and_its_agent(part, home, tmp_path, options, width):
    agent = tmp_path / "agent"
    agent.write_text(f"#!/bin/sh\ncat > {tmp_path}/message\nprintf 'r\\0K%s %s %s\\n\\0' \"$@\"\n")
    agent.chmod(0o755)
    spawner = part("pyrspawn", *options, home=home, env={"QMAILREMOTE": str(agent)})
    limit = int.from_bytes(spawner.out.read(width), "little")
    slot = (limit - 1).to_bytes(width, "little")
    spawner.put(command(slot, put_message(home), b"a@there.example"))
    assert spawner.out.read(width) == slot
    assert spawner.out.read_to(b"\0") == b"Kthere.example " + SENDER + b" a@there.example\n\0"
    assert (tmp_path / "message").read_bytes() == MESSAGE
    assert spawner.end() == 0


@pytest.mark.parametrize("name, words", [("pylspawn", ["./Mailbox"]), ("pyrspawn", [])])
def test_stock_spawners_end_at_a_command_without_end(part, home, name, words):
    spawner = part(name, *words, home=home)
    spawner.out.read(1)
    spawner.put(b"\0" + b"1" * 65_536)
    assert spawner.wait() == 111
