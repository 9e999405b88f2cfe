"""Show which rules apply to a destination.

Prints the lines of control/destinations.cdb and control/destinations.now that match ADDRESS, a mail address or a
domain, the one that wins first; then the limits that result, and all else, each with the line that it comes from.  A
domain that control/smtproutes gives to a relay is shown as that relay: it is the destination.

Lines of hosts and networks need the hosts: with -m the domain is looked up, and each address is shown with what applies
to it besides.

    pydestcheck -m joe@example.com
    pydestcheck -f new-rules example.com

With -l ADDRESS is a local recipient.  With -f the rules of FILE, text as in control/destinations, are shown instead;
nothing is compiled.
"""

import os
import time

from pyqmail.base.addresses import domain_part
from pyqmail.base.failure import Permanent, Temporary
from pyqmail.base.options import Argument, Flag, Value
from pyqmail.mail.destinations.rules import defaults, describe
from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.destinations.rules.overlay import Overlay
from pyqmail.mail.destinations.rules.tables import compile_rules
from pyqmail.mail.destinations.rules.text import BadRules
from pyqmail.mail.routing.smtproutes import route_for
from pyqmail.system.cdb import Reader
from pyqmail.system.command_line import Program
from pyqmail.system.controls import Controls
from pyqmail.system.descriptors import log, read_file, write_all
from pyqmail.system.home import find_home

CONTROLS = ("destinations", "destinations.cdb", "destinations.now", "smtproutes")
PROGRAM = Program(
    name="pydestcheck",
    summary="show which rules apply to a destination",
    options=[
        Flag("m", "resolves", "look the domain up first"),
        Flag("l", "is_local", "ADDRESS is a local recipient"),
        Value("f", "file", "FILE", "show the rules of this text instead of the compiled ones"),
    ],
    arguments=[Argument("address", "a mail address, or a domain", metavar="ADDRESS")],
    exits={
        0: "shown",
        100: "wrong usage; a line means nothing; the domain has no hosts",
        111: "the rules cannot be read; the domain cannot be looked up now",
    },
    controls=CONTROLS,
    controls_count={"others": "when it runs"},
    environment=["PYQMAIL_HOME", "PYQMAIL_DNS"],
    see=["pydestrules(8)", "pysend(8)", "pyqmail-rules(5)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, check)


def check(call) -> int:
    if call.is_local and call.resolves:
        raise PROGRAM.wrong(PROGRAM.line("a local recipient is not looked up"))
    controls = Controls(find_home(call.environ).control, CONTROLS)
    address = os.fsencode(call.address).lower()
    try:
        rules = rules_of_text(call.file) if call.file else rules_in_use(controls)
        if call.is_local:
            lines = describe.recipient_lines(rules.for_recipient(address))
        else:
            lines = destination(call, controls, rules, (domain_part(address) or address).removesuffix(b"."))
    except OSError as error:
        raise Temporary("unable to read control files", error) from None
    try:
        write_all(1, b"".join(line.encode("latin-1") + b"\n" for line in lines))
    except OSError as error:
        raise Temporary("unable to write output", error) from None
    return 0


def rules_of_text(path: str) -> RuleSet:
    """Return the rules of a file that is not compiled."""
    suffixes = _suffixes()
    text = _read(path)
    try:
        compiled = compile_rules(
            text,
            None,
            shipped_responses=defaults.SHIPPED_RESPONSES,
            is_public_suffix=suffixes.is_public,
            unbuilt=defaults.UNBUILT,
        )
    except BadRules as bad:
        raise Permanent(f"{path}:{bad}") from None
    return RuleSet(dict(compiled.records), registrable=suffixes.registrable)


def rules_in_use(controls) -> RuleSet:
    """Return the compiled rules with what control/destinations.now says."""
    suffixes = _suffixes()
    compiled = controls.path("destinations.cdb")
    table: Reader | dict[bytes, bytes] = {}
    try:
        table = Reader(compiled)
    except FileNotFoundError:
        log(PROGRAM.line(f"warning: {compiled} does not exist: the built-in limits hold"))
    except OSError as error:
        raise Temporary(f"unable to read {compiled}", error) from None
    _warn_if_older(compiled, controls.path("destinations"))
    path = controls.path("destinations.now")
    overlay = None
    if os.path.lexists(path):
        try:
            overlay = Overlay.of_text(_read(path), table, is_public_suffix=suffixes.is_public).table(time.time())
        except BadRules as bad:
            raise Permanent(f"{path}:{bad}") from None
    return RuleSet(table, overlay, registrable=suffixes.registrable)


def _suffixes():
    from pyqmail.system.public_suffixes import PublicSuffixes

    return PublicSuffixes()


def _warn_if_older(compiled, source):
    try:
        if os.stat(source).st_mtime_ns > os.stat(compiled).st_mtime_ns:
            log(PROGRAM.line(f"warning: {source} has changed since it was compiled"))
    except FileNotFoundError:
        pass  # one of them is not there


def _read(path):
    try:
        return read_file(path)
    except OSError as error:
        raise Temporary(f"unable to read {path}", error) from None


def destination(call, controls, rules: RuleSet, domain: bytes) -> list[str]:
    """Return what is to be shown of a domain."""
    route = rules.for_site(domain).route or route_for(domain, controls.get("smtproutes"))
    name = route[0] if route else domain
    found = _hosts(call, name, bool(route)) if call.resolves else []
    hosts = list(dict.fromkeys(host for host, _ in found)) or ([name] if route else [])
    policy = rules.for_site(name, hosts, [address for _, address in found])
    besides = [(host, address, rules.for_address(host, address, policy)) for host, address in found]
    lines = [f"{domain.decode('latin-1')}: by the relay {name.decode('latin-1')}"] if route else []
    lines += describe.site_lines(policy)
    for host, address, one in besides:
        lines += [f"host {host.decode('latin-1')} {address.decode('latin-1')}:", *describe.address_lines(one)]
    if not found:
        lines += ["each host:", *describe.address_lines(rules.for_address(b"", b"", policy))]
    sender = rules.sender_line(domain)
    return lines if sender is None else [*lines, "as an envelope sender:", *describe.line_rows([sender])]


def _hosts(call, name: bytes, is_route: bool) -> list[tuple[bytes, bytes]]:
    """Return [(host, address)] in the order to try."""
    from pyqmail.mail.routing.exchangers import Unroutable
    from pyqmail.mail.routing.hosts_now import find_hosts

    try:
        found = find_hosts(name, {name: name} if is_route else {}, call.environ)
    except Unroutable as nowhere:
        text = " ".join(nowhere.report[1:].decode("latin-1").split())
        raise (Permanent if nowhere.report[:1] == b"D" else Temporary)(text) from None
    return [(host, address) for host, address, _ in found]
