"""The keys of senders: a small number for each flow that has mail."""


class SenderKeys:
    """Numbers for senders, each as long as a message has it; the number of one that went is given again."""

    __slots__ = ("_keys", "_names", "_counts", "_free")

    def __init__(self) -> None:
        self._keys: dict[bytes, int] = {}
        self._names: list[bytes] = []
        self._counts: list[int] = []
        self._free: list[int] = []

    def take(self, sender: bytes) -> int:
        """Return the key of a sender, for one more message."""
        key = self._keys.get(sender)
        if key is None:
            key = self._keys[sender] = self._new(sender)
        self._counts[key] += 1
        return key

    def find(self, sender: bytes) -> int | None:
        """Return the key of a sender that has mail, else None."""
        return self._keys.get(sender)

    def name(self, key: int) -> bytes:
        return self._names[key]

    def give_back(self, key: int) -> None:
        """A message of this key is gone."""
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._keys[self._names[key]]
            self._names[key] = b""
            self._free.append(key)

    def _new(self, sender: bytes) -> int:
        if self._free:
            key = self._free.pop()
            self._names[key] = sender
            return key
        self._names.append(sender)
        self._counts.append(0)
        return len(self._names) - 1
