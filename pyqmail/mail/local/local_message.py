"""The message file of a local delivery, read without moving the offset that programs inherit."""

import os

BLOCK_BYTES = 65536


class LocalMessage:
    """The message, open on a descriptor.

    The file's offset is shared with every program that has the descriptor, and a program may leave it anywhere.  So we
    read at positions of our own, and rewind() goes before each program.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._head: bytes | None = None  # the first block: the search for loops and the delivery both need it

    def rewind(self) -> None:
        """Raises OSError."""
        os.lseek(self.fd, 0, os.SEEK_SET)

    def blocks(self):
        """Yield the content, at least one block, which is empty for an empty message.  Raises OSError."""
        if self._head is None:
            self._head = os.pread(self.fd, BLOCK_BYTES, 0)
        block, at = self._head, 0
        while True:
            yield block
            if len(block) < BLOCK_BYTES:
                return
            at += len(block)
            block = os.pread(self.fd, BLOCK_BYTES, at)

    def has_header_line(self, line: bytes) -> bool:
        """Return whether a line, its newline included, stands whole above the first empty line.  Raises OSError."""
        held, keep = b"\n", len(line) + 1
        for block in self.blocks():
            text = held + block
            end = text.find(b"\n\n")
            at = text.find(b"\n" + line)
            if at >= 0 and (end < 0 or at < end):
                return True
            if end >= 0:
                return False
            held = text[-keep:]
        return False
