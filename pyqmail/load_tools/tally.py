"""What a load tool counts: sessions, messages, refusals, failures, and how long things took.

Times go into a histogram whose buckets are a sixteenth of a power of two wide, so a percentile is at most 6.25 % too
large, whatever it is, and the histograms of several processes are added bucket by bucket.
Source: Gil Tene, HdrHistogram (the layout of its buckets)
"""

_SUB_BITS = 4
_SUB_BUCKETS = 1 << _SUB_BITS
PERCENTILES = 50, 90, 99, 99.9


class Latencies:
    """A histogram of times.  buckets: number of a bucket -> how many; maximum is exact, in seconds."""

    __slots__ = ("buckets", "count", "maximum")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count, self.maximum = 0, 0.0

    def add(self, seconds: float) -> None:
        micros = int(seconds * 1_000_000)
        shift = micros.bit_length() - _SUB_BITS - 1
        number = micros if shift <= 0 else (shift << _SUB_BITS) + (micros >> shift)
        self.buckets[number] = self.buckets.get(number, 0) + 1
        self.count += 1
        if seconds > self.maximum:
            self.maximum = seconds

    def merge(self, other: "Latencies") -> None:
        for number, count in other.buckets.items():
            self.buckets[number] = self.buckets.get(number, 0) + count
        self.count += other.count
        self.maximum = max(self.maximum, other.maximum)

    def percentile(self, percent: float) -> float:
        """Return the seconds within which so many of a hundred were; 0.0 if there are none."""
        rank, seen = self.count * percent / 100, 0
        for number in sorted(self.buckets):
            seen += self.buckets[number]
            if seen >= rank:
                return min(_upper_end(number), self.maximum)
        return 0.0

    def summary(self) -> dict[str, float]:
        """Return {"p50": seconds, ..., "max": seconds}."""
        found = {f"p{percent}": round(self.percentile(percent), 6) for percent in PERCENTILES}
        return {**found, "max": round(self.maximum, 6)}


def _upper_end(number):
    """Return the seconds at which a bucket ends."""
    if number < 2 * _SUB_BUCKETS:
        return (number + 1) / 1_000_000
    shift = (number >> _SUB_BITS) - 1
    return ((number - (shift << _SUB_BITS) + 1) << shift) / 1_000_000


class Tally:
    """What one process, or all of them, counted.

    counts      name -> number, for example `messages`; a name that ends in `_most` is a maximum
    refused     stage and code, for example `RCPT 452` -> how often
    failed      what happened to a connection -> how often
    latencies   name -> Latencies
    seconds     how long it went on
    """

    __slots__ = ("counts", "failed", "latencies", "refused", "seconds")

    def __init__(self, *names: str) -> None:
        self.counts = dict.fromkeys(names, 0)
        self.refused: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.latencies: dict[str, Latencies] = {}
        self.seconds = 0.0

    def refuse(self, what: str) -> None:
        self.refused[what] = self.refused.get(what, 0) + 1

    def fail(self, what: str) -> None:
        self.failed[what] = self.failed.get(what, 0) + 1

    def time(self, name: str) -> Latencies:
        """Return the histogram of a name, a new one if there is none."""
        found = self.latencies.get(name)
        if found is None:
            found = self.latencies[name] = Latencies()
        return found

    def merge(self, other: "Tally") -> None:
        """Add what another process counted, which ran at the same time.  Maxima are added, too: a bound of the sum."""
        for name, count in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        for mine, theirs in ((self.refused, other.refused), (self.failed, other.failed)):
            for what, count in theirs.items():
                mine[what] = mine.get(what, 0) + count
        for name, latencies in other.latencies.items():
            self.time(name).merge(latencies)
        self.seconds = max(self.seconds, other.seconds)

    def packed(self) -> dict:
        """Return all of it as values that JSON has: what a process hands to its parent."""
        times = {name: [one.buckets, one.count, one.maximum] for name, one in self.latencies.items()}
        return {**{name: getattr(self, name) for name in ("counts", "refused", "failed", "seconds")}, "times": times}

    @classmethod
    def unpacked(cls, packed: dict) -> "Tally":
        """Return the Tally that packed() made a value of, which may have been JSON since."""
        tally = cls()
        for name in ("counts", "refused", "failed", "seconds"):
            setattr(tally, name, packed[name])
        for name, (buckets, count, maximum) in packed["times"].items():
            one = tally.time(name)
            one.buckets = {int(number): many for number, many in buckets.items()}
            one.count, one.maximum = count, maximum
        return tally

    def summary(self) -> dict:
        """Return what --json shows: counts, messages a second, refused, failed, and percentiles in seconds."""
        messages = self.counts.get("messages", 0)
        return {
            **self.counts,
            "seconds": round(self.seconds, 3),
            "messages_per_second": round(messages / self.seconds, 1) if self.seconds else 0.0,
            "refused": self.refused,
            "failed": self.failed,
            "latency_seconds": {name: one.summary() for name, one in sorted(self.latencies.items())},
        }

    def text(self) -> str:
        """Return what a person reads, several lines."""
        shown = self.summary()
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.counts.items())
        lines = [f"{counts} in {self.seconds:.1f} s: {shown['messages_per_second']} messages a second"]
        for heading, found in (("refused", self.refused), ("failed", self.failed)):
            lines += [f"{heading}: {what}: {count}" for what, count in sorted(found.items())]
        for name, percentiles in shown["latency_seconds"].items():
            values = "  ".join(f"{key} {_duration(value)}" for key, value in percentiles.items())
            lines.append(f"{name}: {values}")
        return "".join(f"{line}\n" for line in lines)


def _duration(seconds):
    return f"{seconds * 1000:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"
