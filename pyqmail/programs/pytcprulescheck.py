"""Show which rule pytcpserver would follow for a client.

The client is taken from the environment: TCPREMOTEIP (0.0.0.0 if it is not set), TCPREMOTEHOST and
TCPREMOTEINFO.  Prints the rule's address, the variables it sets, and whether the connection is allowed.
"""

import os

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Argument, Program, Rest
from pyqmail.system.cdb import Reader
from pyqmail.system.descriptors import write_all
from pyqmail.tcp.rules import find_rule

PROGRAM = Program(
    name="pytcprulescheck",
    summary="show which rule holds for a client",
    original="tcprulescheck",
    usage="tcprulescheck rules.cdb",
    arguments=[Argument("cdb", "compiled rules", metavar="rules.cdb"), Rest("ignored")],
    exits={0: "shown", 100: "wrong usage", 111: "the rules cannot be read"},
    environment=["TCPREMOTEIP", "TCPREMOTEHOST", "TCPREMOTEINFO"],
    see=["pytcprules(8)", "pytcpserver(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, check)


def check(call) -> int:
    ip = call.environ.get(b"TCPREMOTEIP", b"0.0.0.0")
    host, info = call.environ.get(b"TCPREMOTEHOST"), call.environ.get(b"TCPREMOTEINFO")
    try:
        with Reader(os.fsencode(call.cdb)) as rules:
            rule = find_rule(rules.get, ip, host, info)
    except OSError as error:
        raise Temporary(f"unable to read {call.cdb}", error) from None
    write_all(1, shown(rule))
    return 0


def shown(rule) -> bytes:
    """Return what is printed about a rule.  A rule that denies shows no variables: they are never set."""
    if rule is None:
        return b"default:\nallow connection\n"
    out = b"rule " + rule.key + b":\n"
    if rule.is_denied:
        return out + b"deny connection\n"
    for name, value in rule.variables:
        out += b"set environment variable " + name + b"=" + value + b"\n"
    return out + b"allow connection\n"
