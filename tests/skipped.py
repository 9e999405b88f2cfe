"""What a run has left out, and why: one line at its end, by what the machine or the user lacks."""

import collections
import re

# the first that is found in a test's reason is what it counts as; what fits none is said in its own words
FAMILIES = [
    (r"ucspi-tcp|\btcpserver\b", "ucspi-tcp not installed"),
    (r"daemontools|\bsv\w+|\bmultilog\b", "daemontools not installed"),
    (r"\bs6-\w+", "s6 not installed"),
    (r"\bsystemd", "systemd not installed"),
    (r"notqmail", "no notqmail"),
    (r"strace|\btrac(e|ing)\b", "no strace, or no right to trace"),
    (r"namespace|mount", "no namespaces or mounts"),
    (r"\broot\b|somebody|become|setpriv", "not root"),
    (r"\bport\b", "no right to a low port"),
    (r"IPv6|link-local", "no IPv6"),
    (r"system calls|machine's calls", "another machine's system calls"),
]


def family(reason):
    """Return what a test's reason counts as."""
    text = reason.removeprefix("Skipped: ")
    return next((name for pattern, name in FAMILIES if re.search(pattern, text)), text)


def summary(reasons):
    """Return the line about these reasons, the most frequent first; empty if there are none."""
    counts = collections.Counter(map(family, reasons))
    order = sorted(counts, key=lambda name: (-counts[name], name))
    return "skipped: " + ", ".join(f"{name}: {counts[name]}" for name in order) if order else ""
