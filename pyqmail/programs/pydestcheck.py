"""Show which rules apply to a destination.

Prints the lines of control/destinations.cdb and control/destinations.now that match ADDRESS, a mail address or a
domain, the one that wins first; then the limits that result, and all else, each with the line that it comes from.  A
domain that a route gives to a relay (control/smtproutes, `route=`) is shown with that relay: it is the destination.

Lines of hosts and networks need the hosts: with -m the domain is looked up, and each address is shown with what applies
to it besides.

    pydestcheck -m joe@example.com
    pydestcheck -f new-rules example.com

Where rules name a pool of sources, these are shown with the part of the mail that each carries; with --sender, and
where by=sender says so, which of them takes the mail of that sender.

With -l ADDRESS is a local recipient.  With -f the rules of FILE, text as in control/destinations, are shown instead;
nothing is compiled.

With -r a log of pysend is played against the rules: a file, the directory of a multilog, or - for standard input; each
line begins with a TAI64N label or a date and time.  Its remote mail arrives as it did, each try takes as long and ends
as the log has it, and a server refuses sessions beyond the number at which the log has it refuse more; the clock is one
of its own, so that a day takes seconds.  Shown are, beside what the log has, how many sessions are refused, how many
tries deferred, and how long mail waits for its first try; then where mail waits, for which limit and line, and which
limits apply to how much of it.  Tries that reached no server are not played.

    pydestcheck -m -f new-rules -r /var/log/pysend

Without -m no domain is looked up, so that lines of hosts and networks match nothing; with it the 1000 with the most
mail are, as they are now.
"""

import os
import time

from pyqmail.base.addresses import domain_part
from pyqmail.base.failure import Permanent, Temporary
from pyqmail.base.literals import literal_address
from pyqmail.base.options import Argument, Flag, Value
from pyqmail.base.printable import printable
from pyqmail.mail.destinations.relays.routes import relay_text, written_route
from pyqmail.mail.destinations.rules import defaults, describe
from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.destinations.rules.overlay import Overlay
from pyqmail.mail.destinations.rules.tables import compile_rules
from pyqmail.mail.destinations.rules.text import BadRules
from pyqmail.mail.routing.smtproutes import SMTP_PORT, route_for, route_key
from pyqmail.system.cdb import Reader
from pyqmail.system.command_line import Program
from pyqmail.system.controls import Controls
from pyqmail.system.descriptors import log, read_file, write_all
from pyqmail.system.home import find_home

CONTROLS = ("concurrencyremote", "destinations", "destinations.cdb", "destinations.now", "queuelifetime", "smtproutes")
MAX_LINE_BYTES = 1 << 20  # of a log
MAX_LOOKUPS = 1000  # of the domains of a log
PROGRAM = Program(
    name="pydestcheck",
    summary="show which rules apply to a destination",
    options=[
        Flag("m", "resolves", "look the domain up first"),
        Flag("l", "is_local", "ADDRESS is a local recipient"),
        Value("f", "file", "FILE", "show the rules of this text instead of the compiled ones"),
        Value("r", "log", "LOG", "play a log against the rules"),
        Value(None, "sender", "ADDRESS", "show the sources of what this envelope sender sends", long="sender"),
    ],
    arguments=[Argument("address", "a mail address, or a domain", optional=True, metavar="ADDRESS")],
    exits={
        0: "shown",
        100: "wrong usage; a line means nothing; the domain has no hosts; the log has no times, or no remote mail",
        111: "the rules or the log cannot be read; the domain cannot be looked up now",
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
    if bool(call.address) == (call.log is not None) or call.log is not None and call.is_local:
        raise PROGRAM.wrong(PROGRAM.line("it needs ADDRESS, or -r and neither ADDRESS nor -l"))
    if (call.address or "").endswith("@") and not call.is_local:
        raise PROGRAM.wrong(PROGRAM.line(f"no domain: {call.address}"))
    controls = Controls(find_home(call.environ).control, CONTROLS)
    try:
        rules = rules_of_text(call.file) if call.file else rules_in_use(controls)
        address = os.fsencode(call.address or "").lower()
        if call.log is not None:
            lines = play_log(call, controls, rules)
        elif call.is_local:
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
            date=time.time(),
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
    routes = controls.get("smtproutes")
    name, port, is_written = relay_of(rules.for_site(domain), domain, routes)
    found = _hosts(call, name or domain, bool(name)) if call.resolves else []
    policy = _policy(rules, domain, found, name)
    if found and not name and not is_written:  # a line of these hosts may route
        name, port, is_written = relay_of(policy, domain, routes)
        if name:
            found = _hosts(call, name, True)
            policy = _policy(rules, domain, found, name)
    besides = [(host, address, rules.for_address(host, address, policy)) for host, address in found]
    shown = relay_text((name, port)).decode("latin-1")
    lines = [f"{domain.decode('latin-1')}: by the relay {shown}"] if name else []
    if not name and port != SMTP_PORT:
        lines = [f"{domain.decode('latin-1')}: at port {port}"]
    lines += describe.site_lines(policy)
    lines += _sources(call, rules, policy, domain)
    for host, address, one in besides:
        lines += [f"host {host.decode('latin-1')} {address.decode('latin-1')}:", *describe.address_lines(one)]
    if not found:
        lines += ["each host:", *describe.address_lines(rules.for_address(b"", b"", policy))]
    sender = rules.sender_line(domain)
    return lines if sender is None else [*lines, "as an envelope sender:", *describe.line_rows([sender])]


def relay_of(policy, domain: bytes, routes) -> tuple[bytes, int, bool]:
    """Return (relay, port, whether a rule says so); an empty relay: the domain's own hosts."""
    key = route_key(domain, routes)
    written = written_route(policy, None if key is None else (key, b"", b""))
    if written is not None:
        return *written, True
    found = route_for(domain, routes)
    if found is None:
        return b"", SMTP_PORT, False
    return literal_address(found[0]) or found[0].lower(), found[1], False


def _policy(rules: RuleSet, domain: bytes, found, relay: bytes):
    hosts = list(dict.fromkeys(host for host, _ in found)) or ([relay] if relay else [])
    return rules.for_site(domain, hosts, [address for _, address in found], relay=relay)


def play_log(call, controls, rules: RuleSet) -> list[str]:
    """Return what the rules would have made of the mail of a log."""
    from random import Random

    from pyqmail.mail.destinations.replay.log_records import LogRecords
    from pyqmail.mail.destinations.replay.recorded_world import RecordedWorld
    from pyqmail.mail.destinations.replay.report import recipients_by_domain, report_lines

    records = LogRecords()
    for path in _log_files(call.log):
        _read_log(records, path)
    if records.first is None:
        raise Permanent(f"{printable(os.fsencode(call.log))}: no line begins with a time")
    domains = recipients_by_domain(records)
    if not domains:
        raise Permanent(f"{printable(os.fsencode(call.log))}: there is no delivery to a remote server in it")
    largest = [domain for domain, _ in domains.most_common(MAX_LOOKUPS)] if call.resolves else []
    places = {domain: _place(call, controls, rules, domain, domain in set(largest)) for domain in domains}
    world = RecordedWorld(
        *(records, rules, places),
        total=controls.get("concurrencyremote"),
        lifetime=controls.get("queuelifetime"),
        registrable=_suffixes().registrable,
        random=Random(1),
    )
    world.run()
    return report_lines(records, world, rules, places)


def _log_files(log: str) -> list[str]:
    """Return the files of a log, the oldest first: of a multilog's directory those that it keeps, then current."""
    if not os.path.isdir(log):
        return [log]
    try:
        names = sorted(name for name in os.listdir(log) if name.startswith("@") or name == "current")
    except OSError as error:
        raise Temporary(f"unable to read {log}", error) from None
    return [os.path.join(log, name) for name in names]


def _read_log(records, path: str) -> None:
    try:
        with os.fdopen(0, "rb", closefd=False) if path == "-" else open(path, "rb") as lines:
            records.read(iter(lambda: lines.readline(MAX_LINE_BYTES), b""))  # a file may be one line without an end
    except OSError as error:
        raise Temporary(f"unable to read {path}", error) from None


def _place(call, controls, rules: RuleSet, domain: bytes, is_looked_up: bool):
    """Return (hosts, relay) of a domain of a log; one that is not looked up, or not found now, is its own host."""
    relay = relay_of(rules.for_site(domain), domain, controls.get("smtproutes"))[0]
    name, hosts = relay or domain, dict[bytes, list[bytes]]()
    if is_looked_up:
        try:
            for host, address in _hosts(call, name, bool(relay)):
                hosts.setdefault(host, []).append(address)
        except (Permanent, Temporary):
            pass
    found = [(number, host, addresses) for number, (host, addresses) in enumerate(hosts.items())]
    return found or [(0, name, [name])], relay


def _sources(call, rules: RuleSet, policy, domain: bytes) -> list[str]:
    """Return what is to be shown of the sources of a domain's mail."""
    from pyqmail.mail.destinations.sources.shown import source_lines

    sender = domain_part(os.fsencode(call.sender)).lower() if call.sender is not None else None
    return source_lines(rules, policy, domain, time.time(), sender)


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
