"""Compile the rules for destinations: how many sessions, how fast, how many messages each gets.

Reads control/destinations and control/responses and writes control/destinations.cdb: whole, on disk, then visible.
pysend follows it within 10 seconds.  A line that means nothing is reported with file, line and column, and the compiled
file is not changed.

    yahoo.*:@yahoo
    @yahoo:C=100

The first line puts yahoo.com, yahoo.co.uk and so on into a group, the second gives the group 100 sessions at once.  A
line is an address, a colon, and items with commas between.  A comment begins with `#`.

    example.com:c=30
    .example.com:c=2
    mx=.google.com:@google
    @google:c=5,n=50,m=100
    ip=192.0.2.0/24:k=10/m
    :c=10

An address is a domain, or `.domain` for every name below it, or `label.*`, where the star stands for a public suffix,
or `mx=host` and `mx=.domain` for MX hosts, all of the destination's, or `ip=network` for the address that is tried, or
`@group`, or `from=domain` for an envelope sender (empty: the null sender), or `rcpt=address` for a local recipient
(empty: each of them), or empty: everything.

An item is `@group` (member of this group), a key with a value, or a word.  ITEMS below lists them, LIMITS explains
which count for what.

Where no line says otherwise, a destination gets 10 sessions at once, an organisation twice as many as its hosts have
addresses, from 10 to 200, and a network 100.  Without control/responses the built-in rules hold.

With -c nothing is compiled: settings of KIND are read from FILEs and written as rules to descriptor 1; what has no
counterpart becomes a comment.  KIND is `channels` (the folder with concurrencysupplN and supplsN of that patch;
default: control), `drate` (indimail's folder of rate files), `postfix` (main.cf, then sources of transport maps),
`sendmail` (sendmail.mc or sendmail.cf, then sources of access maps), `powermta` (its configuration), `kumomta` (its
shaping files, TOML, in the order in which they are loaded), `kumomta-responses` (the same files: lines for
control/responses).
"""

import os
import resource
import time

from pyqmail.base.failure import Permanent, Temporary
from pyqmail.base.options import Rest, Value
from pyqmail.mail.destinations.faults import blame
from pyqmail.mail.destinations.limits import states
from pyqmail.mail.destinations.rules import defaults
from pyqmail.mail.destinations.rules.tables import compile_rules
from pyqmail.mail.destinations.rules.text import BadRules
from pyqmail.mail.destinations.sources.pools import FIRST_DAY, WARM_UP_DAYS
from pyqmail.system.cdb import write_cdb
from pyqmail.system.command_line import Program
from pyqmail.system.controls import Controls
from pyqmail.system.descriptors import log, read_file, write_all
from pyqmail.system.durable import NotWritten
from pyqmail.system.home import find_home

MAX_BYTES = 64 << 20  # of a file: rules are text that somebody writes
KINDS = ("channels", "drate", "postfix", "sendmail", "powermta", "kumomta", "kumomta-responses")
CONTROLS = ("destinations", "responses", "destinations.cdb")


def _kind(text):
    if text not in KINDS:
        raise ValueError(f"nothing to convert from: {text}: {', '.join(KINDS)}")
    return text


PROGRAM = Program(
    name="pydestrules",
    summary="compile the rules for destinations",
    options=[Value("c", "kind", "KIND", "convert settings of KIND into rules instead", _kind)],
    arguments=[Rest("files", "settings to convert, with -c", metavar="FILE")],
    exits={
        0: "compiled, or converted",
        100: "a line means nothing, and destinations.cdb is unchanged",
        111: "a file cannot be read or written",
    },
    controls=CONTROLS,
    controls_count={"others": "when it runs"},
    environment=["PYQMAIL_HOME"],
    notes=[
        ("ITEMS", [
            ("c=N, C=N", "sessions at once from each source address, over all of them; `/scope` may follow"),
            ("r=N/P, R=N/P", "recipients in the period P (s, m, h, 10s), likewise; `~B`: B of them at once"),
            ("k=N/P", "connections in the period P, from each source address"),
            ("i=N, f=N", "sessions after the first greeting; what learning leaves"),
            ("n=N, m=N", "messages of a session, recipients of a message"),
            ("p=N", "messages that are ready for each session before another is opened"),
            ("idle=D", "how long a session without work is kept: 30s, 5m, 2h, 7d"),
            ("to=D/D/D", "timeouts of connect, greeting and reply; an empty one stays as it is"),
            ("src=%NAME", "which of our own addresses: a pool of sources, see SOURCES; otherwise the system chooses"),
            ("by=message, by=sender", "each message and domain draws its source, or each sender and domain"),
            ("spill", "mail of a source that is paused there goes through others of its pool"),
            ("try=q, try=D*F<D, try=D;D;D", "retry times: qmail's; F times as long each time, up to a longest; a list"),
            ("die=D", "lifetime of a message"),
            ("dead=N", "failed starts until a destination counts as dead; 0: never"),
            ("grey=D", "first retry after greylisting"),
            ("w=urgent, w=normal, w=bulk", "class of the mail; otherwise by the message"),
            ("route=HOST:PORT", "a relay that takes the mail; without HOST the MX hosts do, at PORT: see ROUTES"),
            ("fall=HOST:PORT, fall=HOST:PORT~D", "a relay for what the hosts do not take: see RELAYS"),
            ("v=4, v=6, v=46", "address family"),
            ("hold, hold=TIME", "nothing is sent, until a date: 2026-11-01, 2026-11-01T14:05Z"),
            ("learn=no", "limits are exactly as written; a host that refuses is left alone for a while"),
        ]),
        ("ADDRESSES", (
            "A line of networks (ip=) may have limits, groups, n, m and hold, which count for a session with such an "
            "address; an address that is held is not tried, and a destination of which all are held waits.  One of a "
            "sender (from=) may have try, die, w, src, by and spill, which win over what the "
            "destination's lines say; one of a local "
            "recipient (rcpt=) c, r, try, die, w and hold.\n\n"
            "A line of hosts (mx=) counts if all hosts of the destination match; a group does if each host is in it by "
            "whatever line.  `!` before an address confirms that a shipped line is meant to be replaced."
        )),
        ("LIMITS", (
            "c, C, r, R and k are limits.  A limit of a group counts once for all its members, any other once for each "
            "domain, each site (mx=), each address (ip=).  `/scope` says otherwise: dom, site, org, host, ip, net, "
            "rule.  Lines with the same scope compete, and the most specific wins; lines with different scopes all "
            "apply.\n\n"
            "Everything else comes from the most specific line that sets it: domain, suffix, star, mx= host, mx= "
            "suffix, ip=, then groups in the order of the lines that attach them, then the empty address.\n\n"
            "What the empty address says of limits, and the built-in limits, are defaults.  They do not apply where a "
            "group or another broader line sets the same; a narrower line lifts them to the number it names.  So "
            "`@comcast:c=25` gives 25, and `example.com:c=30` lifts its site and its organisation to 30."
        )),
        ("ROUTES", (
            "route= names a relay as control/smtproutes does: a host, an address ([192.0.2.9], [2001:db8::1]), and a "
            "port, 25 without one.  A line of the relay's own name, `relay.example:c=100`, limits what goes there.  "
            "Without a host (`example.com:route=`) the domain's own MX hosts are used, whatever broader lines say.\n\n"
            "Of route= and control/smtproutes the line counts that names the domain more closely: the domain itself, a "
            "label with a star, the longer suffix, then everything.  A group counts as the line that attaches it.  Of "
            "two that are equal route= counts.  A route of a line of hosts (mx=) counts where no other does: the MX "
            "hosts are looked up first, and then the relay.\n\n"
            "Only pysend's own sessions can be told of a relay.  Where another program delivers (QMAILREMOTE, "
            "qmail-rspawn), the log says once that the line is not obeyed: write it into control/smtproutes."
        )),
        ("RELAYS", (
            "fall= hands mail over to a relay.  Without an age it does so as soon as every host of the destination has "
            "failed once, or its name servers do not answer.  With one (`example.com:fall=relay.example~2h`) it hands "
            "over what is as old, counted from the message's birth, while the destination fails, is paused or "
            "soft-blocked, and what the destination then defers once more.\n\n"
            "The relay is a destination of its own, with its own limits (`relay.example:c=100`) and its own failures.  "
            "The hosts of the destination are tried all the same, and have the mail again once one greets; if the "
            "relay fails, too, mail waits for both.  Retry times, lifetime and class remain those of the destination's "
            "lines.  The addresses of the relay are used, never its MX hosts.\n\n"
            "Never handed over: what is refused for good (5xx), what waits for its turn only, what a rule holds, mail "
            "for a domain that does not exist or takes none (null MX), anything while our own network is in doubt, and "
            "mail for a domain of which this machine is an exchanger: the relay would give it back.  Only pysend's own "
            "sessions hand over: see ROUTES.\n\n"
            "pyqwhy shows what a relay has; the log has `domain example.com: falls to relay.example:25: REASON`, and "
            "`domain example.com: 3 parcels come back: its hosts answer`."
        )),
        ("SOURCES", (
            "A pool lists addresses of this machine, each with the name to greet with and a weight, of "
            "which either may "
            "be missing:\n\n"
            "    %bulk:192.0.2.10=mx10.example.net*3,192.0.2.11=mx11.example.net\n"
            "    :src=%bulk\n\n"
            "In several pools an address has the same name and the same warm-up.\n\n"
            "A message has one source for all tries of a domain, also after a restart, since greylists "
            "compare it; it is "
            "drawn by weight.  Another source in the pool takes its share of new mail and moves nothing else.  What "
            "waits for a source is moved when that leaves the pool, and with `spill` while it is paused by a reply of "
            "that organisation, cannot be used here, or reaches nobody.  Without `spill` it waits: "
            "what a provider holds "
            "against one address, mail through the others soon earns them, too.\n\n"
            "c, r and k count for each source, C and R over all.  A line `@name/ADDRESS` is for a group through one "
            "source.  A line of a sender (from=) may have src, by and spill, too.  A source of IPv4 reaches hosts with "
            "an address of IPv4.  A source that no interface has is tried once a minute; its mail "
            "waits, and nothing is "
            "held against a destination.\n\n"
            "    %bulk:192.0.2.10,warm=192.0.2.12=mx12.example.net@2026-11-01\n\n"
            f"A source in warm-up carries {FIRST_DAY} recipients to each organisation on the day that is named "
            "(UTC), and half as many again each day.  What exceeds that goes through the others at once.  After "
            f"{WARM_UP_DAYS} days it is a source like any other, and `warm=` is to be left out.  pysend counts "
            "in its state file; a kill loses the last minute.\n\n"
            "Mail that has a source is not handed to the relay of a fall=; the log says so once.  "
            "pyrspawn's sessions obey all this.  An agent of others chooses its own address: with "
            "pysend's stock and wide "
            "dialect the log says so."
        )),
        ("RESPONSES", (
            "A line of control/responses is `group:code:words:action`: `@yahoo:421:[TSS04]:pause 2h`.  The group and "
            "the code may be empty, the code may be its first digits.  Words are looked for in the reply, without "
            "regard to case.  Of several rules that of a group counts, then the longer one, then the first.\n\n"
            "Actions: ceiling (too many sessions), rate (too much in a time), pause D, n, m (the message or recipient "
            "limit is reached), grey (greylisting), fail, defer D, ignore.  A scope may follow: flow, "
            "source, site, org."
        )),
        ("STATES OF A DESTINATION", [
            (state, f"{enters}; until {leaves}; sessions: {sessions}")
            for state, enters, leaves, sessions in states.rows()
        ]),
        ("WHOSE FAULT IT IS", [
            (f"{moment}: {event}", f"{blamed}: {text}")
            for moment, event, blamed, text in blame.rows()
        ]),
        ("NOW", (
            "control/destinations.now has such lines, with `until=TIME` besides.  They win over all others, and are "
            "read whenever the file changes, without being compiled."
        )),
    ],
    see=["pydestcheck(8)", "pysend(8)", "pyqmail-rules(5)", "pyqmail-control(5)"],
)  # fmt: skip


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, work)


def work(call) -> int:
    controls = Controls(find_home(call.environ).control, CONTROLS)
    if call.kind is not None:
        return convert(call, controls)
    if call.files:
        raise PROGRAM.wrong(PROGRAM.line("files belong to -c"))
    return compile_files(controls)


def compile_files(controls) -> int:
    os.umask(0o022)  # pysend reads it as another user
    path = controls.path("responses")
    responses = _content(path) if os.path.lexists(path) else None
    compiled = _compiled(_content(controls.path("destinations")), responses)
    path = controls.path("destinations.cdb")
    try:
        write_cdb(path, f"{path}.tmp", compiled.records)
    except NotWritten as failed:
        raise Temporary(f"unable to {failed.step} {path}", failed.error) from None
    for problem in compiled.warnings:
        log(PROGRAM.line(f"warning: {_place(problem)}: {problem.text}"))
    return 0


def _compiled(destinations, responses):
    """Return what the texts are compiled to.  Raises Permanent for the last of what is wrong; the rest is logged."""
    from pyqmail.system.public_suffixes import PublicSuffixes

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        return compile_rules(
            destinations,
            responses,
            shipped_responses=defaults.SHIPPED_RESPONSES,
            shipped=defaults.SHIPPED,
            is_public_suffix=PublicSuffixes().is_public,
            unbuilt=defaults.UNBUILT,
            date=time.time(),
            most_sessions=0 if most == resource.RLIM_INFINITY else most,
        )
    except BadRules as bad:
        *others, last = [f"{_place(problem)}: {problem.text}" for problem in bad.problems]
        for text in others:
            log(PROGRAM.line(f"fatal: {text}"))
        raise Permanent(last) from None


def _place(problem) -> str:
    name = "responses" if problem.is_of_responses else "destinations"
    return f"control/{name}:{problem.line}:{problem.column}"


def convert(call, controls) -> int:
    """Write settings of others as rules to descriptor 1."""
    from pyqmail.mail.destinations.conversion import convert as ours
    from pyqmail.mail.destinations.conversion import convert_others as others

    files = [os.fsencode(name) for name in call.files]
    if call.kind == "channels" and not files:
        files = [os.path.dirname(os.fsencode(controls.path("destinations")))]
    if not files or len(files) > 1 and call.kind in ("channels", "drate", "powermta"):
        raise PROGRAM.wrong(PROGRAM.line(f"-c {call.kind} needs what is to be converted"))
    if call.kind == "channels":
        text = ours.channels(_files_of(files[0], (b"suppls", b"concurrencysuppl"))[0])
    elif call.kind == "drate":
        text = ours.drate(*_files_of(files[0], (b"",)))
    elif call.kind.startswith("kumomta"):
        destinations, responses = kumomta_rules(files)
        text = destinations if call.kind == "kumomta" else responses
    else:
        first, *rest = [_content(path) for path in files]
        text = {
            "postfix": lambda: others.postfix(first, rest),
            "sendmail": lambda: others.sendmail(first, rest),
            "powermta": lambda: others.powermta(first),
        }[call.kind]()
    try:
        write_all(1, text)
    except OSError as error:
        raise Temporary("unable to write output", error) from None
    return 0


def kumomta_rules(files: list[bytes]) -> tuple[bytes, bytes]:
    """Return the texts of rules and of response rules that shaping files say, in the order in which they are loaded."""
    import tomllib

    from pyqmail.mail.destinations.conversion.kumomta import kumomta, oddity_of

    tables = []
    for path in files:
        try:
            table = tomllib.loads(_content(path).decode())
        except (ValueError, RecursionError) as bad:  # those of int() and of decode() are ValueErrors, too
            raise Permanent(f"{os.fsdecode(path)}: {bad}") from None
        if oddity := oddity_of(table):
            raise Permanent(f"{os.fsdecode(path)}: {oddity}")
        tables.append(table)
    return kumomta(tables)


def _files_of(folder: bytes, starts) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """Return (name -> content of the files in a folder whose names begin so, name -> target of the links)."""
    files, links = {}, {}
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith(starts))
    except OSError as error:
        raise Temporary(f"unable to read {os.fsdecode(folder)}", error) from None
    for name in names:
        path = os.path.join(folder, name)
        if os.path.islink(path) and b"" in starts:
            links[name] = os.path.basename(os.readlink(path))
        elif os.path.isfile(path):
            files[name] = _content(path)
    return files, links


def _content(path: str | bytes) -> bytes:
    try:
        text = read_file(path, MAX_BYTES + 1)
    except OSError as error:
        raise Temporary(f"unable to read {os.fsdecode(path)}", error) from None
    if len(text) > MAX_BYTES:
        raise Permanent(f"{os.fsdecode(path)}: larger than {MAX_BYTES} bytes")
    return text
