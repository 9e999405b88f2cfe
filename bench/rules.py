"""The row about rules: what a look-up costs as the file grows."""

import os
import time

from pyqmail.system.cdb import write_cdb
from pyqmail.tcp.rules.lookup import Rules
from pyqmail.tcp.rules.source import compile_lines

NETWORKS = (
    b'127.:allow,RELAYCLIENT=""\n172.16.0.0/12:allow\n203.0.113.0/24:deny\n2001:db8::/32:deny\n=.bad.example:deny\n'
)
# four clients of five have no rule of their own: all keys are tried for them
CLIENTS = [
    (b"10.0.0.3", b"a.b.example", None),
    (b"198.51.100.7", None, None),
    (b"198.51.100.8", b"mx.some.example", b"joe"),
    (b"203.0.113.9", None, None),
    (b"2001:db8:1::25", None, None),
]
ROUNDS = 20


def rule_lookup(folder, scale):
    """Microseconds for each look-up in a file kept open, lower is better: 100,000 rules beside 10, in turns.

    The bar is a flat cost: <= 1.5 x 10 rules.  The rest is that almost no table of a small file has a slot to look at.
    """
    files = {f"{count:,} rules": _compiled(folder, count) for count in (100_000, 10)}
    spent = dict.fromkeys(files, 0.0)
    count = max(1, int(500 * scale))
    for _ in range(ROUNDS):
        for name, rules in files.items():
            began = time.perf_counter()
            for _ in range(count):
                for client in CLIENTS:
                    rules.find(*client)
            spent[name] += time.perf_counter() - began
    for rules in files.values():
        rules.close()
    return {name: seconds / (ROUNDS * count * len(CLIENTS)) * 1e6 for name, seconds in spent.items()}


def _compiled(folder, count):
    """Return the opened rules of a file with so many: addresses, some networks and names, a rule for everybody else."""
    hosts = count - NETWORKS.count(b"\n") - 1
    source = b"".join(b"10.%d.%d.%d:allow\n" % (n >> 16, n >> 8 & 255, n & 255) for n in range(hosts))
    path = os.path.join(folder, f"rules-{count}.cdb")
    write_cdb(path, f"{path}.tmp", compile_lines(source + NETWORKS + b":allow\n"))
    return Rules(path)
