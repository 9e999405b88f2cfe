"""Handing mail in over SMTP: many messages to many recipients."""

import asyncio

CONTENT_BYTES = 2048
LINE = b"x" * 70 + b"\r\n"


def send_mail(port, recipients, each=1, sessions=20, sender="from@bench.example", size=CONTENT_BYTES) -> None:
    """Send messages to all recipients, `each` of them in one message, over sessions that are kept open."""
    groups = (recipients[at : at + each] for at in range(0, len(recipients), each))
    content = b"Subject: bench\r\n\r\n" + LINE * (size // len(LINE)) + b".\r\n"
    asyncio.run(_send(port, groups, min(sessions, -(-len(recipients) // each)), sender, content))


async def _send(port, groups, sessions, sender, content):
    await asyncio.gather(*(_session(port, groups, sender, content) for _ in range(sessions)))


async def _session(port, groups, sender, content):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _replies(reader, 1)
    writer.write(b"EHLO bench.example\r\n")
    await _replies(reader, 1)
    for group in groups:  # one iterator for all sessions: each takes the next
        to = "".join(f"RCPT TO:<{recipient}>\r\n" for recipient in group)
        writer.write(f"MAIL FROM:<{sender}>\r\n{to}DATA\r\n".encode())
        await _replies(reader, len(group) + 2)
        writer.write(content)
        await _replies(reader, 1)
    writer.write(b"QUIT\r\n")
    await _replies(reader, 1)
    writer.close()
    await writer.wait_closed()


async def _replies(reader, count):
    """Read so many replies; SystemExit if one is a refusal."""
    while count:
        line = await reader.readline()
        if line[:1] not in (b"2", b"3"):
            raise SystemExit(f"bench: mail was not taken: {line!r}")
        count -= line[3:4] == b" "
