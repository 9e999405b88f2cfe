"""Compile rules for pytcpserver.

Reads rules from descriptor 0, one a line, and writes them into RULES.CDB, through RULES.TMP in the same file system: a
program that reads the rules sees the old ones or the new ones, never a part.

    1.2.3.4:deny
    10.:allow,RELAYCLIENT=""
    192.168.1-3.:allow,RELAYCLIENT="",DATABYTES="0"
    =.example.org:allow
    :allow

An address is a client's address, a part of it that ends in a dot, a range of numbers in it, or `=` and the client's
name or an end of the name that starts with a dot.  A whole address or name can have `info@` before it.  The empty
address is for all other clients.  Any byte may be the quote.  A line without a colon is ignored.

    2001:db8::1:deny
    10.0.0.0/8:allow
    2001:db8::/32:allow,RELAYCLIENT=""
    joe@2001:db8::1:allow
    unix:allow
    1000@unix:allow,RELAYCLIENT=""

IPv6 addresses and networks, address/bits, are compiled as ucspi-tcp6 does.  `2001:db8:`, two or more first groups, a
colon after each, is a network, too.  The address ends at the first colon that `deny` or `allow` follows.  `unix` is a
client of a UNIX socket; its info is its uid.

The first of these that has a rule applies, and no other: info@address, info@=name, the address, =name, the parts of the
address that end in a dot, the longest first, networks, the smallest first, the ends of the name, the longest first, `=`
for any name, and the empty address.

A line that denies and can never apply, for example `10.0.0.0/8:deny` beside `10.:allow`, is reported on descriptor 2,
and compiled all the same.  --lint names every such line, and odd variables.

With --explain or --lint nothing is written: the rules on descriptor 0 are only checked, and operands are ignored.
"""

import os

from pyqmail.base.failure import Permanent, Temporary
from pyqmail.base.options import Argument, Flag, Rest, Value
from pyqmail.system.cdb import write_cdb
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import log, read_all, write_all
from pyqmail.system.durable import NotWritten, open_new
from pyqmail.tcp.rules.source import BadLine, compile_lines


def _client(text):
    """Return the address a client of that address is looked up by.  Raises ValueError."""
    from pyqmail.tcp.rules.keys import MAPPED, ip4_number, ip6_packed, ip6_text

    ip = os.fsencode(text)
    if ip4_number(ip) is not None or ip == b"unix":
        return ip
    packed = ip6_packed(ip)
    if packed is None:
        raise ValueError(f"neither an IPv4 address nor one of IPv6 nor unix: {text}")
    return b"%d.%d.%d.%d" % tuple(packed[12:]) if packed.startswith(MAPPED) else ip6_text(packed)


PROGRAM = Program(
    name="pytcprules",
    summary="compile rules for pytcpserver",
    original="tcprules",
    usage="tcprules rules.cdb rules.tmp",
    options=[
        Value(None, "ip", "ADDRESS", "show which line applies to this client, and why", _client, long="explain"),
        Value(None, "host", "NAME", "the name of that client; default: no name", os.fsencode, long="host"),
        Value(
            None,
            "info",
            "INFO",
            "what its ident server reports, or its uid; default: nothing",
            os.fsencode,
            long="info",
        ),
        Flag(None, "lints", "name the lines that are no rules or can never apply", long="lint"),
    ],
    arguments=[
        Argument("cdb", "what to make", optional=True, metavar="rules.cdb"),
        Argument("tmp", "a name for it while it is made", optional=True, metavar="rules.tmp"),
        Rest("ignored"),
    ],
    exits={
        0: "compiled; explained; --lint found no line",
        100: "a line is no rule, and RULES.CDB is unchanged; --lint found lines",
        111: "try again later",
    },
    see=["pytcprulescheck(8)", "pytcpserver(8)", "pyqmail-rules(5)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, work)


def work(call) -> int:
    if call.ip is None and (call.host is not None or call.info is not None) or call.lints and call.ip is not None:
        raise PROGRAM.wrong(PROGRAM.line("--host and --info belong to --explain, and --lint stands alone"))
    if call.ip is not None or call.lints:
        return advise(call)
    if call.tmp is None:
        raise PROGRAM.wrong()
    return compile_rules(call)


def advise(call) -> int:
    from pyqmail.tcp.rules.advice import explain, lint

    source, code = _read_source(), 0
    if call.lints:
        found = lint(source)
        said = b"".join(b"line %d: %b: %b\n" % (number, what.encode(), line) for number, what, line in found)
        code = 100 if found else 0
    else:
        host = call.host and call.host.lower()  # as the server looks names up
        try:
            said = explain(source, call.ip, host, call.info)
        except BadLine as bad:
            raise _unparsable(bad) from None
    try:
        write_all(1, said)
    except OSError as error:
        raise Temporary("unable to write output", error) from None
    return code


def compile_rules(call) -> int:
    tmp = os.fsencode(call.tmp)
    try:
        # made before the source is read: a line that is no rule leaves it behind, as the original does
        os.close(open_new(tmp, 0o644))
    except OSError as error:
        raise Temporary(f"unable to create {call.tmp}", error) from None
    source = _read_source()
    try:
        write_cdb(os.fsencode(call.cdb), tmp, compile_lines(source))
    except BadLine as bad:
        _empty(tmp)
        raise _unparsable(bad) from None
    except NotWritten as failed:
        what = {
            "create": f"unable to create {call.tmp}",
            "write": f"unable to write to {call.tmp}",
            "move": f"unable to move {call.tmp} to {call.cdb}",
        }[failed.step]
        raise Temporary(what, failed.error) from None
    warn(source)
    return 0


def warn(source: bytes) -> None:
    """Report on descriptor 2 the lines that seem to deny somebody and do not; what is compiled is the original's."""
    from pyqmail.tcp.rules.advice import warnings

    for number, what, line in warnings(source):
        log(PROGRAM.line(f"warning: line {number}: {what}: {os.fsdecode(line)}"))


def _empty(tmp):
    """Leave tmp empty, as the original does: zeros alone would pass for compiled rules that allow everybody."""
    try:
        os.close(open_new(tmp, 0o644))
    except OSError:
        pass  # nothing can be made there any more


def _read_source():
    try:
        return read_all(0)
    except OSError as error:
        raise Temporary("unable to read input", error) from None


def _unparsable(bad):
    line = os.fsdecode(bad.line.partition(b"\0")[0])
    return Permanent(f"unable to parse this line: {line}")
