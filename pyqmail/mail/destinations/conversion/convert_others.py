"""Settings of Postfix, sendmail and PowerMTA as rule text.

What counts here what there counts: a transport's or a macro's limit is one for each domain (`/dom`), that of a queue
group or of a queue that others are rolled up into is one for all.  Settings that have to do with destinations and have
no counterpart become remarks; all others are passed over.
"""

from pyqmail.base.numbers import is_number
from pyqmail.mail.destinations.conversion.convert import RuleText, logical_lines, seconds_there, time_text
from pyqmail.mail.destinations.rules.items import BadValue
from pyqmail.mail.destinations.sources.pools import pool_member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Machines = Mapping[bytes, tuple[bytes, bytes]]

_NO_LIMIT = b"there it means no limit: write the number that you want"

# Postfix

_POSTFIX_NUMBERS = {  # what stands after `_destination_` -> (key, whether a scope follows)
    b"concurrency_limit": (b"c", True),
    b"recipient_limit": (b"m", False),
    b"concurrency_failed_cohort_limit": (b"dead", False),
}
_POSTFIX_REMARKS = {
    b"queue_run_delay": b"there is no scan of the queue",
    b"relayhost": b"write :route=host:port, or :host:port into control/smtproutes",
    b"default_process_limit": b"control/concurrencyremote is the total",
    b"qmgr_message_active_limit": b"all of the queue is in memory",
    b"qmgr_message_recipient_limit": b"all of the queue is in memory",
    b"smtp_connection_cache_destinations": b"every session is used again",
    b"smtp_connection_cache_on_demand": b"every session is used again",
}
_POSTFIX_SOURCES = (b"smtp_bind_address", b"smtp_bind_address6")
_OUR_TRANSPORTS = (b"", b"smtp", b"relay")  # those that limit nothing of their own here


def postfix(main: bytes, transports: "Sequence[bytes]" = ()) -> bytes:
    """Return the rules of main.cf and of the sources of transport maps.  Source: postconf(5), transport(5)."""
    text = RuleText()
    settings = _settings(main)
    for name in (b"default", b"smtp"):  # what smtp has wins
        _transport_limits(text, settings, name, b"")
    if b"local_destination_concurrency_limit" in settings:
        value = settings[b"local_destination_concurrency_limit"]
        _number(text, b"rcpt=", b"c", value, b"local_destination_concurrency_limit = " + value)
    _postfix_times(text, settings)
    _one(text, settings, b"initial_destination_concurrency", b"i")
    _one(text, settings, b"smtp_connection_reuse_count_limit", b"n")
    if relays := settings.get(b"smtp_fallback_relay", settings.get(b"fallback_relay", b"")).replace(b",", b" ").split():
        _fallback(text, relays[0], b"smtp_fallback_relay = " + relays[0])
        for other in relays[1:]:
            text.remark(b"smtp_fallback_relay: not converted: one is enough here: " + other)
    _sources(
        text,
        [(settings[name], settings.get(b"smtp_helo_name", b""), name) for name in _POSTFIX_SOURCES if name in settings],
    )
    for name in settings:
        transport = name.partition(b"_destination_")[0]
        if b"_destination_" in name and transport not in (b"default", b"smtp", b"local", b"virtual", b"initial"):
            _transport_limits(text, settings, transport, b"@" + transport.lower())
        if name in _POSTFIX_REMARKS:
            text.remark(b"%b = %b: %b" % (name, settings[name], _POSTFIX_REMARKS[name]))
    for source in transports:
        _transport_map(text, source)
    return text.text()


def _sources(text: RuleText, found: "Iterable[tuple[bytes, bytes, bytes]]") -> None:
    """Convert the addresses that mail is sent from: [(address, name to greet with or empty, what it was)]."""
    for address, name, origin in found:
        if _pool_item(text, b"%out", address, name, b"%b = %b" % (origin, address)):
            text.set(b"", b"src=%out", origin)


def _pool_item(text: RuleText, pool: bytes, address: bytes, name: bytes, origin: bytes) -> bool:
    """Put a source into a pool; return whether it can be one."""
    item = address + (b"=" + name if name else b"")
    try:
        pool_member(item)
    except BadValue as bad:
        text.remark(b"%b: not converted: %b" % (origin, str(bad).encode()))
        return False
    text.set(pool, item, origin)
    return True


def _settings(main: bytes) -> dict[bytes, bytes]:
    """Return name -> value, the last of each, with $name replaced by its value."""
    settings = {}
    for line in logical_lines(main):
        name, equals, value = line.partition(b"=")
        if equals:
            settings[name.strip()] = value.strip()
    return {name: _expanded(value, settings) for name, value in settings.items()}


def _expanded(value: bytes, settings: "Mapping[bytes, bytes]") -> bytes:
    for _ in range(8):
        if not value.startswith(b"$"):
            return value
        value = settings.get(value[1:].strip(b"{()}"), b"")
    return value


def _transport_limits(text: RuleText, settings: "Mapping[bytes, bytes]", transport: bytes, address: bytes) -> None:
    """Convert NAME_destination_...; smtp's settings replace the default ones."""
    scope = b"/dom" if address else b""
    for what, (key, has_scope) in _POSTFIX_NUMBERS.items():
        name = b"%b_destination_%b" % (transport, what)
        other = b"smtp_destination_" + what
        if name in settings and (transport != b"default" or other not in settings):
            origin = b"%b = %b" % (name, settings[name])
            _number(text, address, key, settings[name], origin, scope if has_scope else b"")
    name = transport + b"_destination_rate_delay"
    seconds = seconds_there(settings.get(name, b""), b"s")
    if seconds and (transport != b"default" or b"smtp_destination_rate_delay" not in settings):
        period = b"s" if seconds == 1 else b"%ds" % seconds
        text.set(address, b"r=1/%b%b" % (period, scope), b"%b = %b" % (name, settings[name]))


def _number(text: RuleText, address: bytes, key: bytes, value: bytes, origin: bytes, scope: bytes = b"") -> None:
    if is_number(value) and not value.strip(b"0") and key != b"dead":
        text.remark(b"%b: not converted: %b" % (origin, _NO_LIMIT))
    else:
        text.set(address, b"%b=%b%b" % (key, value, scope), origin)


def _fallback(text: RuleText, relay: bytes, origin: bytes) -> None:
    """Convert a relay: `host`, of which MX hosts are looked up there, or `[host]:port`."""
    host, bracket, port = relay.removeprefix(b"[").partition(b"]")
    if not bracket:
        text.remark(origin + b": here the addresses of the host are used, never its MX hosts")
    host = b"[%b]" % host if bracket and b":" in host else host
    text.set(b"", b"fall=" + host + port, origin)


def _one(text: RuleText, settings: "Mapping[bytes, bytes]", name: bytes, key: bytes, address: bytes = b"") -> None:
    if name in settings:
        _number(text, address, key, settings[name], b"%b = %b" % (name, settings[name]))


def _postfix_times(text: RuleText, settings: "Mapping[bytes, bytes]") -> None:
    least = seconds_there(settings.get(b"minimal_backoff_time", b"300"), b"s")
    most = seconds_there(settings.get(b"maximal_backoff_time", b"4000"), b"s")
    if least and most and (b"minimal_backoff_time" in settings or b"maximal_backoff_time" in settings):
        text.set(
            b"",
            b"try=%b*2<%b" % (time_text(least), time_text(max(least, most))),
            b"minimal_backoff_time, maximal_backoff_time",
        )
    for name, address, key, unit in (
        (b"maximal_queue_lifetime", b"", b"die", b"d"),
        (b"bounce_queue_lifetime", b"from=", b"die", b"d"),
        (b"smtp_connection_cache_time_limit", b"", b"idle", b"s"),
    ):
        seconds = seconds_there(settings.get(name, b""), unit)
        if seconds:
            text.set(address, b"%b=%b" % (key, time_text(seconds)), b"%b = %b" % (name, settings[name]))
    names = (b"smtp_connect_timeout", b"smtp_helo_timeout", b"smtp_data_done_timeout")
    _timeouts(text, [(name, settings.get(name, b""), b"s") for name in names])


def _timeouts(text: RuleText, settings: "Iterable[tuple[bytes, bytes, bytes]]") -> None:
    """Convert the timeouts of connect, greeting and reply, those there are: [(name, value, unit)]."""
    found = [(name, value, seconds_there(value, unit)) for name, value, unit in settings]
    if any(seconds for _, _, seconds in found):
        item = b"to=" + b"/".join(time_text(seconds) if seconds else b"" for _, _, seconds in found)
        text.set(b"", item, b", ".join(b"%b = %b" % (name, value) for name, value, seconds in found if seconds))


def _transport_map(text: RuleText, source: bytes) -> None:
    for line in logical_lines(source):
        address, _, where = line.partition(b" ") if b" " in line else line.partition(b"\t")
        address, where = address.strip(), where.strip()
        transport, _, hop = where.partition(b":")
        if b"@" in address or address == b"*":
            text.remark(b"transport: %b: not converted: neither a domain nor .domain" % line)
            continue
        if transport not in _OUR_TRANSPORTS:
            text.set(address, b"@" + transport.lower(), b"transport: " + line)
        if hop.startswith(b"["):
            host, _, port = hop[1:].partition(b"]")
            host = b"[%b]" % host if b":" in host else host
            text.set(address, b"route=%b%b" % (host, port), b"transport: " + line)
        elif hop:
            text.remark(b"transport: %b: not converted: a route names a host, [%b]" % (line, hop))


# sendmail

_SENDMAIL_NAMES = {  # names of sendmail.mc -> those of sendmail.cf
    b"confMIN_QUEUE_AGE": b"MinQueueAge",
    b"confFALLBACK_MX": b"FallbackMXhost",
    b"confTO_QUEUERETURN": b"Timeout.queuereturn",
    b"confTO_CONNECT": b"Timeout.connect",
    b"confTO_INITIAL": b"Timeout.initial",
    b"confTO_DATAFINAL": b"Timeout.datafinal",
    b"confMCI_CACHE_TIMEOUT": b"ConnectionCacheTimeout",
    b"confCLIENT_OPTIONS": b"ClientPortOptions",
    b"SMART_HOST": b"SmartHost",
}
_SENDMAIL_TIMES = {b"MinQueueAge": b"try", b"Timeout.queuereturn": b"die", b"ConnectionCacheTimeout": b"idle"}


def sendmail(configuration: bytes, access: "Sequence[bytes]" = ()) -> bytes:
    """Return the rules of sendmail.mc or sendmail.cf, and of sources of access maps.  Source: cf/README, op.me."""
    text = RuleText()
    options, groups = _sendmail_options(configuration)
    for name, key in _SENDMAIL_TIMES.items():
        if name in options:
            seconds, origin = seconds_there(options[name]), b"%b = %b" % (name, options[name])
            if seconds:
                text.set(b"", b"%b=%b" % (key, time_text(seconds)), origin)
            else:
                text.remark(origin + b": not converted: a time without a unit")
    if options.get(b"FallbackMXhost"):
        relay = options[b"FallbackMXhost"]
        _fallback(text, relay, b"FallbackMXhost = " + relay)
    names = (b"Timeout.connect", b"Timeout.initial", b"Timeout.datafinal")
    _timeouts(text, [(name, options.get(name, b""), b"") for name in names])
    _sources(text, _client_addresses(options))
    if options.get(b"SmartHost"):
        text.remark(b"SMART_HOST = %b: %b" % (options[b"SmartHost"], _POSTFIX_REMARKS[b"relayhost"]))
    for name, parameters in groups:
        _queue_group(text, name, parameters)
    for source in access:
        for line in logical_lines(source):
            key, _, value = line.replace(b"\t", b" ").partition(b" ")
            if key[:5].upper() == b"QGRP:":
                text.set(key[5:].removeprefix(b"@"), b"@" + value.strip().lower(), b"access: " + line)
    return text.text()


def _client_addresses(options: "Mapping[bytes, bytes]") -> "Iterable[tuple[bytes, bytes, bytes]]":
    """Yield the Addr= of ClientPortOptions, see _sources()."""
    for item in options.get(b"ClientPortOptions", b"").split(b","):
        key, _, value = item.strip().partition(b"=")
        if key[:4].lower() == b"addr":
            yield value.strip(), b"", b"ClientPortOptions"


def _sendmail_options(configuration: bytes) -> tuple[dict[bytes, bytes], list[tuple[bytes, bytes]]]:
    """Return (name -> value, [(queue group, its parameters)])."""
    options, groups = {}, []
    for line in configuration.split(b"\n"):
        line = line.strip()
        if line.startswith((b"define(", b"QUEUE_GROUP(")):
            word, _, rest = line.partition(b"(")
            name, _, value = rest.rpartition(b")")[0].partition(b",")
            name, value = name.strip(b"`' \t"), value.strip(b"`' \t")
            if word == b"define" and name in _SENDMAIL_NAMES:
                options[_SENDMAIL_NAMES[name]] = value
            elif word == b"QUEUE_GROUP":
                groups.append((name, value))
        elif line.startswith(b"O "):
            name, _, value = line[2:].partition(b"=")
            options[name.strip()] = value.strip()
        elif line.startswith(b"Q") and b"," in line:
            name, _, value = line[1:].partition(b",")
            groups.append((name.strip(), value.strip()))
    return options, groups


def _queue_group(text: RuleText, name: bytes, parameters: bytes) -> None:
    for parameter in parameters.split(b","):
        key, _, value = (part.strip() for part in parameter.partition(b"="))
        origin = b"queue group %b: %b=%b" % (name, key, value)
        if key in (b"R", b"Runners"):
            _number(text, b"@" + name.lower(), b"C", value, origin)
        elif key in (b"r", b"recipients"):
            _number(text, b"@" + name.lower(), b"m", value, origin)
        elif key:
            text.remark(origin + b": no counterpart")


# PowerMTA

_POWERMTA_NUMBERS = {
    b"max-smtp-out": (b"c", True),
    b"max-msg-per-connection": (b"n", False),
    b"max-rcpt-per-transaction": (b"m", False),
    b"max-rcpt-per-message": (b"m", False),
}
_POWERMTA_RATES = {b"max-msg-rate": b"r", b"max-connect-rate": b"k"}
_POWERMTA_TIMES = {b"retry-after": b"try", b"bounce-after": b"die", b"idle-timeout": b"idle"}


def powermta(configuration: bytes) -> bytes:
    """Return the rules of a PowerMTA configuration: its <domain> blocks, domain-macro and queue-to."""
    text = RuleText()
    lines = list(logical_lines(b"\n".join(line.strip() for line in configuration.split(b"\n"))))
    rolled = {line.split()[1].lower() for line in lines if line.startswith(b"queue-to ") and len(line.split()) > 1}
    machines, pools = _virtual_mtas(lines)
    unused = dict(machines)
    blocks: list[tuple[bytes, bytes]] = []
    for line in lines:
        words = line.strip(b"<>").split() or [b""]
        if line.startswith(b"</"):
            blocks = blocks[:-1]
        elif line.startswith(b"<"):
            blocks.append((words[0].lower(), words[1].lower() if len(words) > 1 else b""))
        elif words[0].lower() == b"domain-macro" and len(words) > 2:
            for domain in b" ".join(words[2:]).replace(b",", b" ").split():
                text.set(domain, b"@" + words[1].lower(), line)
        elif blocks == blocks[-1:] and blocks and blocks[0][0] == b"domain":
            _domain_setting(text, blocks[0][1], words, rolled)
        elif blocks and blocks[-1][0] == b"smtp-pattern-list":
            text.remark(b"for control/responses, which has words instead of patterns: " + line)
        elif len(blocks) > 1 and blocks[-1][0] == b"domain":
            _source_setting(text, machines.get(blocks[0][1], (b"", b""))[0], blocks, words, line)
        elif words[0].lower() == b"default-virtual-mta" and len(words) > 1:
            _default_pool(text, words[1].lower(), machines, pools, line)
            for one in pools.get(words[1].lower(), [words[1].lower()]):
                unused.pop(one, None)
    for name, (address, _) in unused.items():
        text.remark(b"virtual-mta %b: smtp-source-host %b: not converted: not of default-virtual-mta" % (name, address))
    return text.text()


def _virtual_mtas(lines: "Sequence[bytes]") -> "tuple[Machines, dict[bytes, list[bytes]]]":
    """Return (virtual MTA -> its smtp-source-host, address and name; pool -> its virtual MTAs)."""
    machines, pools, name, kind = {}, dict[bytes, list[bytes]](), b"", b""
    for line in lines:
        words = line.strip(b"<>").split() or [b""]
        if line.lower().startswith(b"<virtual-mta") and len(words) > 1:
            kind, name = words[0].lower(), words[1].lower()
        elif words[0].lower() == b"smtp-source-host" and kind == b"virtual-mta" and len(words) > 1:
            machines[name] = words[1], words[2] if len(words) > 2 else b""
        elif words[0].lower() == b"virtual-mta" and kind == b"virtual-mta-pool" and len(words) > 1:
            pools.setdefault(name, []).append(words[1].lower())
    return machines, pools


def _default_pool(
    text: RuleText, name: bytes, machines: "Machines", pools: "Mapping[bytes, list[bytes]]", line: bytes
) -> None:
    """Convert the virtual MTA, or the pool of such, that all mail has."""
    found = [machines[one] for one in pools.get(name, [name]) if one in machines]
    if any([_pool_item(text, b"%" + name, *one, b"smtp-source-host " + one[0]) for one in found]):
        text.set(b"", b"src=%" + name, line)
    else:
        text.remark(line + b": not converted: no smtp-source-host")


def _source_setting(
    text: RuleText, address: bytes, blocks: "Sequence[tuple[bytes, bytes]]", words: "Sequence[bytes]", line: bytes
) -> None:
    """Convert what a virtual MTA says of a domain or macro: that is for one source."""
    known, name = _POWERMTA_NUMBERS.keys() | _POWERMTA_RATES.keys(), blocks[-1][1]
    if not address or name in (b"*", b"") or words[0].lower() not in known:
        text.remark(b"%b %b: %b: not converted: of one source only" % (*blocks[0], line))
        return
    group = b"@" + name.lstrip(b"$*.")
    if not name.startswith(b"$"):
        text.set(name.removeprefix(b"*"), group, b"domain %b: of a virtual MTA" % name)
    _domain_setting(text, name, words, set(), group + b"/" + address)


def _domain_setting(
    text: RuleText, name: bytes, words: "Sequence[bytes]", rolled: "set[bytes]", where: bytes = b""
) -> None:
    """Convert a setting of a domain block; where: the address of its line, if that is another one."""
    scope, address = b"", name
    if where:
        address = where
    elif name.startswith(b"$"):
        scope, address = b"/dom", b"@" + name[1:]
    elif name in rolled:
        address = b"@" + name
    elif name == b"*":
        address = b""
    elif name.startswith(b"*."):
        address = name[1:]
    key, value = words[0].lower(), words[1] if len(words) > 1 else b""
    origin = b"domain %b: %b" % (name, b" ".join(words))
    if value == b"unlimited":
        text.remark(b"%b: not converted: %b" % (origin, _NO_LIMIT))
    elif key in _POWERMTA_NUMBERS:
        ours, has_scope = _POWERMTA_NUMBERS[key]
        _number(text, address, ours, value, origin, scope if has_scope else b"")
    elif key in _POWERMTA_RATES:
        number, _, period = value.partition(b"/")
        text.set(address, b"%b=%b/%b%b" % (_POWERMTA_RATES[key], number, period[:1], scope), origin)
    elif key in _POWERMTA_TIMES and (seconds := seconds_there(value, b"s")):
        text.set(address, b"%b=%b" % (_POWERMTA_TIMES[key], time_text(seconds)), origin)
    elif key == b"queue-to":
        text.set(address, b"@" + value.lower(), origin)
    else:
        text.remark(origin + b": no counterpart")
