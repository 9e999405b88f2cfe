"""Show which rule pytcpserver would follow for a client.

The client is taken from the environment: TCPREMOTEIP (default 0.0.0.0), TCPREMOTEHOST and TCPREMOTEINFO.  Prints the
rule's address, the variables it sets, and whether the connection is allowed.

TCPREMOTEIP may be an IPv6 address in any of its forms, or `unix` for a client of a UNIX socket, whose TCPREMOTEINFO is
its uid.  A rule for a network is shown as address/bits, one for an IPv6 address with all its digits: that is its key.
"""

import os

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Argument, Rest
from pyqmail.system.cdb import Reader
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import write_all
from pyqmail.tcp.rules.keys import readable
from pyqmail.tcp.rules.lookup import find_rule

PROGRAM = Program(
    name="pytcprulescheck",
    summary="show which rule applies to a client",
    original="tcprulescheck",
    usage="tcprulescheck rules.cdb",
    arguments=[Argument("cdb", "compiled rules", metavar="rules.cdb"), Rest("ignored")],
    exits={0: "shown", 100: "wrong usage", 111: "the rules cannot be read"},
    environment=["TCPREMOTEIP", "TCPREMOTEHOST", "TCPREMOTEINFO"],
    see=["pytcprules(8)", "pytcpserver(8)", "pyqmail-rules(5)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, check)


def check(call) -> int:
    ip = call.environ.get(b"TCPREMOTEIP", b"0.0.0.0")
    host, info = call.environ.get(b"TCPREMOTEHOST"), call.environ.get(b"TCPREMOTEINFO")
    try:
        with Reader(os.fsencode(call.cdb)) as rules:
            rule = find_rule(rules.get, ip, host, info, rules.key_lengths)
    except OSError as error:
        raise Temporary(f"unable to read {call.cdb}", error) from None
    said = b"default:\nallow connection\n" if rule is None else b"rule " + readable(rule.key) + b":\n" + rule.told()
    try:
        write_all(1, said)
    except OSError as error:
        raise Temporary("unable to write output", error) from None
    return 0
