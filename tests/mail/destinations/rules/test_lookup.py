"""Which line wins and which limits apply: a table of rules, and random rules beside a slow linear matcher (P10)."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.destinations.rules.overlay import Overlay
from pyqmail.mail.destinations.rules.policies import FOR_EVER, NOT_HELD
from pyqmail.mail.destinations.rules.tables import compile_rules
from pyqmail.system.cdb import Reader, write_cdb

GOOGLE = [b"aspmx.l.google.com", b"alt1.aspmx.l.google.com"]
MIXED = [b"aspmx.l.google.com", b"aspmx2.googlemail.com"]
ELSEWHERE = [b"aspmx.l.google.com", b"mx.elsewhere.example"]


def shown(limits):
    """Return limits as they would be written: `c=5/site`, of a group `c=5@g`."""
    words = []
    for one in limits:
        rate = f"/{one.period_seconds:g}s~{one.burst}" if one.period_seconds else ""
        words.append(f"{one.kind.decode()}={one.value}{rate}" + (one.name.decode() or f"/{one.scope}"))
    return " ".join(words)


# everything but limits: n= of the line that wins
WINS = [
    # rules                                                   domain, hosts, addresses             n
    (b"",                                                     b"a.example", [], [],                100),
    (b":n=1",                                                 b"a.example", [], [],                1),
    (b":n=1\na.example:n=2",                                  b"a.example", [], [],                2),
    (b":n=1\na.example:n=2",                                  b"b.a.example", [], [],              1),
    (b".b.example:n=1\n.a.b.example:n=2",                     b"c.a.b.example", [], [],            2),
    (b".a.example:n=2",                                       b"a.example", [], [],                100),
    (b".a.example:n=2\nb.a.example:n=3",                      b"b.a.example", [], [],              3),
    (b".a.b.example:n=1\nb.a.b.example:n=2",                  b"b.a.b.example", [], [],            2),
    (b"yahoo.*:n=2",                                          b"yahoo.example", [], [],            2),
    (b"yahoo.*:n=2",                                          b"mail.yahoo.example", [], [],       100),
    (b"yahoo.*:n=2",                                          b"yahoo.evil.example", [], [],       100),
    (b"a.*:n=2\nmx=.google.com:n=3",                          b"a.example", GOOGLE, [],            2),
    (b"mx=.google.com:n=3",                                   b"a.example", GOOGLE, [],            3),
    (b"mx=.google.com:n=3",                                   b"a.example", [], [],                100),
    (b"mx=.google.com:n=3",                                   b"a.example", [b"google.com"], [],   100),
    (b"mx=.google.com:n=3",                                   b"a.example", ELSEWHERE, [],         100),
    (b"mx=.google.com:n=3",                                   b"a.example", MIXED, [],             100),
    (b"mx=.google.com:n=3\nmx=.l.google.com:n=4",             b"a.example", GOOGLE, [],            4),
    (b"mx=.google.com:n=3\nmx=mx.google.com:n=4",             b"a.example", [b"mx.google.com"], [], 4),
    (b"mx=mx.a.example:n=4",                                  b"a.example", [b"mx.a.example", b"b"], [], 100),
    (b"mx=.google.com:n=3\nip=10.0.0.0/8:n=4",                b"a.example", GOOGLE, [b"10.1.1.1"], 3),
    (b"ip=10.0.0.0/8:n=4\nip=10.1.0.0/16:n=5",                b"a.example", GOOGLE, [b"10.1.1.1"], 5),
    (b"ip=10.0.0.0/8:n=4",                                    b"a.example", GOOGLE, [b"10.1.1.1", b"11.1.1.1"], 100),
    (b"ip=2001:db8::/32:n=4",                                 b"a.example", GOOGLE, [b"2001:db8::1"], 4),
    (b"ip=10.0.0.0/8:n=4\na.example:@g\n@g:n=6",              b"a.example", GOOGLE, [b"10.1.1.1"], 4),
    (b":n=1\na.example:@g\n@g:n=6",                           b"a.example", [], [],                6),
    (b"a.example:@h,@g\n@g:n=6\n@h:n=7",                      b"a.example", [], [],                7),
    (b"a.example:@g\nmx=.google.com:@h\n@h:n=7\n@g:n=6",      b"a.example", GOOGLE, [],            6),
    (b"mx=.google.com:@g\nmx=.l.google.com:@h\n@g:n=6\n@h:n=7", b"a.example", GOOGLE, [],          7),
    (b"mx=.google.com:@g\nmx=.googlemail.com:@g\n@g:n=6",     b"a.example", MIXED, [],             6),
    (b"mx=.google.com:@g\nmx=.googlemail.com:@g\n@g:n=6",     b"a.example", ELSEWHERE, [],         100),
    (b"a.example:@g\n@g:@h\n@h:n=7",                          b"a.example", [], [],                7),
    (b"a.example:@g\n@g:@h,n=6\n@h:n=7",                      b"a.example", [], [],                6),
    (b"10.0.0.7:n=2",                                         b"[10.0.0.7]", [], [],               2),
    (b"[IPv6:2001:db8::7]:n=2",                               b"[2001:db8:0::7]", [], [],          2),
    (b"relay.example:n=2",                                    b"relay.example", [b"relay.example"], [], 2),
]  # fmt: skip


@pytest.mark.parametrize("text, domain, hosts, addresses, n", WINS)
def test_the_most_specific_line_wins(text, domain, hosts, addresses, n):
    policy = RuleSet.of_text(text).for_site(domain, hosts, addresses)
    assert policy.messages == n
    assert policy.sources[b"n"].values[b"n"] == n
    assert policy.recipients == 50  # what no line sets stays as it is


LIMITS = [
    # rules                                hosts     limits of the site; the least of its organisation; of a host
    (b"",                                  GOOGLE,   "c=10/site k=300/60s~20/site", 0, "c=100/net"),
    # a default: the empty address; the built-in organisation is lifted to it
    (b":c=20",                             GOOGLE,   "c=20/site k=300/60s~20/site", 20, "c=100/net"),
    (b":c=200",                            GOOGLE,   "c=200/site k=300/60s~20/site", 200, "c=200/net"),
    (b":c=5/org",                          GOOGLE,   "c=10/site k=300/60s~20/site c=5/org", None, "c=100/net"),
    (b":C=50",                             GOOGLE,   "C=50/site k=300/60s~20/site", 50, "c=100/net"),
    (b":c=50/net",                         GOOGLE,   "c=10/site k=300/60s~20/site", 50, "c=50/net"),
    # the examples of the specification
    (b"@g:c=25\nmx=.google.com:@g",        GOOGLE,   "k=300/60s~20/site c=25@g", None, ""),
    (b"a.example:c=30",                    GOOGLE,   "c=30/dom c=30/site k=300/60s~20/site", 30, "c=100/net"),
    (b"a.example:c=2\n@g:c=5\nmx=.google.com:@g", GOOGLE, "c=2/dom k=300/60s~20/site c=5@g", None, ""),
    (b"@g:C=100\na.*:@g",                  GOOGLE,   "k=300/60s~20/site C=100@g", None, ""),
    (b"a.example:c=2000,learn=no",         GOOGLE,   "c=2000/dom c=2000/site k=300/60s~20/site", 2000, "c=2000/net"),
    # lines with one scope compete, others all apply
    (b"mx=.google.com:c=7\n:c=20",         GOOGLE,   "c=7/site k=300/60s~20/site", 7, "c=100/net"),
    (b"mx=.google.com:c=70",               GOOGLE,   "c=70/site k=300/60s~20/site", 70, "c=100/net"),
    (b"mx=.google.com:c=7\nmx=.l.google.com:c=8", GOOGLE, "c=8/site k=300/60s~20/site", 8, "c=100/net"),
    (b"a.co.example:c=3\n.co.example:c=4", GOOGLE,   "c=3/dom c=10/site k=300/60s~20/site", 3, "c=100/net"),
    (b"a.co.example:c=3\n.co.example:c=4/site", GOOGLE,   "c=3/dom c=4/site k=300/60s~20/site", 4, "c=100/net"),
    (b"a.co.example:c=3/site\n.co.example:c=4/site", GOOGLE, "c=3/site k=300/60s~20/site", 3, "c=100/net"),
    (b"mx=.google.com:c=9/org",            GOOGLE,   "k=300/60s~20/site c=9/org", None, ""),
    (b".co.example:c=9/rule",              GOOGLE,   "k=300/60s~20/site c=9.co.example", None, ""),
    (b"a.example:@g,@h\n@g:c=5\n@h:c=6\nb:@h", GOOGLE, "k=300/60s~20/site c=5@g c=6@h", None, ""),
    (b"a.example:@g\n@g:c=5,@h\n@h:c=6",   GOOGLE,   "k=300/60s~20/site c=5@g c=6@h", None, ""),
    (b"a.example:@g\n@g:c=5/site",         GOOGLE,   "c=5/site k=300/60s~20/site", 5, "c=100/net"),
    # a family of limits stands for itself
    (b"a.example:k=600/m~50",              GOOGLE,   "k=600/60s~50/dom c=10/site k=600/60s~50/site", 0, "c=100/net"),
    (b"a.example:k=1/m",                   GOOGLE,   "k=1/60s~1/dom c=10/site k=300/60s~20/site", 0, "c=100/net"),
    (b"a.example:@g\n@g:k=1/m",            GOOGLE,   "c=10/site k=1/60s~1@g", 0, "c=100/net"),
    (b"a.example:r=10/s",                  GOOGLE,   "r=10/1s~1/dom c=10/site k=300/60s~20/site", 0, "c=100/net"),
    (b":r=5/s\na.example:R=10/s~3",        GOOGLE,   "R=10/1s~3/dom r=10/1s~3/site c=10/site k=300/60s~20/site", 0,
     "c=100/net"),
    # hosts and networks
    (b"a.example:c=5/host",                GOOGLE,   "c=10/site k=300/60s~20/site", 5, "c=5/host c=100/net"),
    (b"mx=aspmx.l.google.com:c=3/host",    GOOGLE,   "c=10/site k=300/60s~20/site", 0, "c=3/host c=100/net"),
    (b"mx=aspmx.l.google.com:c=3",         GOOGLE,   "c=10/site k=300/60s~20/site", 0, "c=100/net"),
    (b"ip=10.0.0.0/8:c=3",                 GOOGLE,   "c=10/site k=300/60s~20/site", 3, "c=3/ip c=100/net"),
    (b"ip=10.0.0.0/8:c=300",               GOOGLE,   "c=300/site k=300/60s~20/site", 300, "c=300/ip c=300/net"),
    (b"ip=10.0.0.0/8:@g\n@g:c=25",         GOOGLE,   "k=300/60s~20/site c=25@g", None, ""),
    (b"ip=10.0.0.1:@g\n@g:c=25",           GOOGLE,   "c=10/site k=300/60s~20/site", 0, "c=25@g"),
    (b"ip=10.0.0.1:c=300",                 GOOGLE,   "c=10/site k=300/60s~20/site", 0, "c=300/ip c=300/net"),
]  # fmt: skip


@pytest.mark.parametrize("text, hosts, site, least, host", LIMITS)
def test_the_limits_that_apply(text, hosts, site, least, host):
    """Through the first host, 10.0.0.1; the site has 10.0.0.2, too."""
    rules = RuleSet.of_text(text)
    domain = b"a.co.example" if b".co." in text else b"a.example"
    policy = rules.for_site(domain, hosts, [b"10.0.0.1", b"10.0.0.2"])
    assert (shown(policy.limits), policy.organisation_least) == (site, least)
    assert shown(rules.for_address(hosts[0], b"10.0.0.1", policy).limits) == host


def test_a_limit_says_where_it_stands():
    policy = RuleSet.of_text(b"\n@yahoo:c=1\nyahoo.*:@yahoo\n").for_site(b"yahoo.example")
    group, default = policy.limits[1], policy.limits[0]
    assert (group.owner, group.line, group.where, group.is_default) == (b"@yahoo:c=1", 2, "destinations", False)
    assert (default.owner, default.where, default.is_default) == (b":k=300/m~20", "built in", True)
    assert group.scope == "rule" and default.interval_seconds == 0.2


def test_what_an_address_changes():
    rules = RuleSet.of_text(b"ip=10.0.0.1:n=1,m=2,hold\nip=10.0.0.2:@g\n@g:n=3\nmx=mx.b:n=9\nc:n=5,m=6")
    policy = rules.for_site(b"a.example", [b"mx.a", b"mx.b"], [b"10.0.0.1", b"10.0.0.2"])
    first, second = rules.for_address(b"mx.a", b"10.0.0.1", policy), rules.for_address(b"mx.b", b"10.0.0.2", policy)
    assert (first.messages, first.recipients, first.held_until) == (1, 2, FOR_EVER)
    assert (second.messages, second.recipients, second.held_until) == (3, None, NOT_HELD)
    narrower = rules.for_site(b"c", [b"mx.a", b"mx.b"], [b"10.0.0.1", b"10.0.0.2"])
    assert rules.for_address(b"mx.a", b"10.0.0.1", narrower).messages is None
    assert rules.for_address(b"mx.a", b"nonsense", policy).messages is None


def test_all_that_a_line_may_set():
    text = (
        b"a.example:i=3,f=2,n=4,m=5,p=6,idle=7s,to=1s//3m,src=%p,by=sender,spill,try=5m*2<4h,die=1d,dead=0,grey=6m,"
        b"w=bulk,route=relay.example:26,fall=last.example~2h,v=6,hold=2026-11-01,learn=no\n%p:10.0.0.1=mx.example*3\n"
    )
    policy = RuleSet.of_text(text).for_site(b"a.example")
    assert (policy.initial, policy.floor, policy.messages, policy.recipients, policy.parcels) == (3, 2, 4, 5, 6)
    assert (policy.connect_seconds, policy.greeting_seconds, policy.reply_seconds) == (1, None, 180)
    assert (policy.idle_seconds, policy.pool, policy.is_by_sender, policy.spills) == (7, b"%p", True, True)
    assert [policy.retry.delay(tries) for tries in (1, 2, 3, 9)] == [300, 600, 1200, 14400]
    assert (policy.lifetime_seconds, policy.dead_after, policy.grey_seconds) == (86400, 0, 360)
    assert (policy.klass, policy.route, policy.fallback) == (
        b"bulk",
        (b"relay.example", 26),
        (b"last.example", 25, 7200),
    )
    assert (policy.families, policy.held_until, policy.learns) == ("6", 1793491200.0, False)


def test_what_holds_without_a_line():
    policy = RuleSet.of_text(b"").for_site(b"a.example")
    assert (policy.initial, policy.floor, policy.messages, policy.recipients, policy.parcels) == (2, 1, 100, 50, 1)
    assert (policy.connect_seconds, policy.greeting_seconds, policy.reply_seconds) == (None, None, None)
    assert (policy.idle_seconds, policy.pool, policy.is_by_sender, policy.spills) == (2, b"", False, False)
    assert (policy.retry, policy.lifetime_seconds, policy.dead_after, policy.grey_seconds) == (None, None, 3, 330)
    assert (policy.klass, policy.route, policy.fallback, policy.families) == (b"", None, None, "46")
    assert (policy.held_until, policy.learns, policy.groups) == (NOT_HELD, True, ())


RETRIES = [
    (b"30m", [1800, 1800, 1800]),
    (b"5m;1h", [300, 3600, 3600]),
    (b"1s*1.5<2s", [1, 1.5, 2]),
    (b"1s*100<7d", [1, 100, 10000]),
]


@pytest.mark.parametrize("text, delays", RETRIES)
def test_retry_times(text, delays):
    retry = RuleSet.of_text(b":try=" + text).for_site(b"a").retry
    assert [retry.delay(tries) for tries in (1, 2, 3)] == delays
    assert retry.delay(100_000) <= 604800


def test_a_source_has_a_line_of_its_own():
    rules = RuleSet.of_text(b"a.example:@g\n@g:c=5,n=5\n@g/10.0.0.1:c=2\n")
    assert shown(rules.for_site(b"a.example", source=b"10.0.0.1").limits) == "k=300/60s~20/site c=2@g"
    assert rules.for_site(b"a.example", source=b"10.0.0.1").messages == 5
    assert shown(rules.for_site(b"a.example", source=b"10.0.0.2").limits) == "k=300/60s~20/site c=5@g"


def test_senders():
    rules = RuleSet.of_text(b"from=:die=1d,try=1h\nfrom=a.example:w=bulk,src=%p,by=sender,spill\n%p:10.0.0.1")
    null, sender = rules.for_sender(b""), rules.for_sender(b"a.example")
    assert (null.lifetime_seconds, null.retry.delay(1), null.klass, null.pool) == (86400, 3600, b"", None)
    assert (sender.klass, sender.pool, sender.is_by_sender, sender.spills) == (b"bulk", b"%p", True, True)
    assert (rules.for_sender(b"b.example"), rules.sender_line(b"").number) == (None, 1)


def test_pools():
    rules = RuleSet.of_text(b"a:src=%p\n%p:10.0.0.1=mx.example*3,warm=::1@2026-11-01")
    first, second = rules.pool(b"%p")
    assert (first.address, first.helo, first.weight, first.warm_from) == (b"10.0.0.1", b"mx.example", 3, None)
    assert (second.address, second.helo, second.weight, second.warm_from) == (b"::1", b"", 1, 1793491200.0)
    assert rules.pool(b"%q") == ()


RECIPIENTS = [
    (b"", "c=2/dom"),
    (b"rcpt=:c=5", "c=5/dom"),
    (b"rcpt=:c=5,r=1/s\nrcpt=a@b.example:c=1", "c=1/dom r=1/1s~1/dom"),
    (b"rcpt=other@b.example:c=1\n:c=9", "c=2/dom"),
]


@pytest.mark.parametrize("text, limits", RECIPIENTS)
def test_local_recipients(text, limits):
    assert shown(RuleSet.of_text(text).for_recipient(b"a@b.example").limits) == limits


def test_a_local_recipient_may_be_held():
    policy = RuleSet.of_text(b"rcpt=a@b:hold,die=1d,try=1h,w=urgent").for_recipient(b"a@b")
    assert (policy.held_until, policy.lifetime_seconds, policy.klass) == (FOR_EVER, 86400, b"urgent")
    assert policy.retry.delay(1) == 3600


OVERLAYS = [
    # rules                                overlay                  limits                              n
    (b"a.example:c=30",                    b"a.example:c=1,n=1",    "c=1/dom c=10/site k=300/60s~20/site", 1),
    (b"a.example:n=5,c=30",                b":c=1,n=1",             "c=30/dom c=1/site k=300/60s~20/site", 1),
    (b"a.example:@g,n=7\n@g:c=5",          b"@g:c=50,n=1",          "k=300/60s~20/site c=50@g",         1),
    (b"a.example:@g,n=7\n@g:c=5",          b"a.*:@h\n@h:c=1",       "k=300/60s~20/site c=5@g c=1@h",    7),
    (b"a.example:n=7",                     b"b.example:n=1",        "c=10/site k=300/60s~20/site",      7),
]  # fmt: skip


@pytest.mark.parametrize("text, overlay, limits, n", OVERLAYS)
def test_an_overlay_wins(text, overlay, limits, n):
    table = dict(compile_rules(text, None).records)
    rules = RuleSet(table, Overlay.of_text(overlay, table).table(0))
    policy = rules.for_site(b"a.example")
    assert sorted(shown(policy.limits).split()) == sorted(limits.split())
    assert policy.messages == n


def test_policies_are_shared():
    rules = RuleSet.of_text(b"x:c=1")
    assert rules.for_site(b"a.example", GOOGLE) is rules.for_site(b"b.example", [b"mx.b.example"])
    policy = rules.for_site(b"a.example")
    assert rules.for_address(b"a", b"10.0.0.1", policy) is rules.for_address(b"b", b"10.0.0.2", policy)


# random rules, and all lines tried one after the other

LABELS, HOSTS = [b"a", b"b", b"a.b", b"c.a.b"], [b"m.x.b", b"n.x.b", b"m.y", b"x.b"]
GROUPS = [b"@g", b"@h", b"@i"]
ADDRESSES = [b"10.0.0.1", b"10.0.1.1", b"11.0.0.1", b"2001:db8::1", b"2001:db8:1::1"]
NETWORKS = [b"10.0.0.0/8", b"10.0.0.0/24", b"10.0.0.1/32", b"2001:db8::/32", b"2001:db8::/48"]
SITE_ADDRESSES = [
    *LABELS,
    *(b"." + name for name in (b"a.b", b"x.b")),
    *(b"a.*", b"b.*"),
    *(b"mx=" + host for host in HOSTS),
    *(b"mx=." + host for host in (b"x.b", b"a.b")),
    *(b"ip=" + network for network in NETWORKS),
]
SCOPES = ["dom", "ip", "host", "site", "net", "org", "rule"]
ORDER = ["domain", "suffix", "star", "mx", "mxsuffix", "ip"]
BUILT_IN = [(b"", [("c", 10, None), ("k", 300, None), ("c", 100, "net"), ("n", 100), ("m", 50)])]


def kind_of(address):
    if address.startswith(b"mx="):
        return "mxsuffix" if address.startswith(b"mx=.") else "mx"
    if address.startswith(b"ip="):
        return "ip"
    return "suffix" if address.startswith(b".") else "star" if address.endswith(b".*") else "domain"


def is_met(address, domain, host, ip):
    """Return whether a line of this address speaks of a domain, of a host, of an IP address."""
    kind, name = kind_of(address), address.partition(b"=")[2]
    if kind == "mx":
        return host == name
    if kind == "mxsuffix":
        return host is not None and host.endswith(name)
    if kind == "ip":
        return ip is not None and ipaddress.ip_address(ip.decode()) in ipaddress.ip_network(name.decode())
    if kind == "suffix":
        return domain.endswith(address)
    if kind == "star":
        return domain.count(b".") < 2 and domain.split(b".")[0] == address[:-2]
    return domain == address


def rank_of(address):
    length = int(address.partition(b"/")[2]) if kind_of(address) == "ip" else len(address)
    return ORDER.index(kind_of(address)), -length


def with_parents(groups, named):
    found = list(dict.fromkeys(groups))
    for group in found:
        found += [item[1] for item in named[group] if item[0] == "@" and item[1] not in found]
    return found


def slow_lines(rules, domain, hosts, ips, more=()):
    """Return [(address, items)] in the order in which they win, and the groups.

    more: lines that count besides; the groups of those of networks do, too.
    """
    ranked = sorted((one for one in rules if one[0] and not one[0].startswith(b"@")), key=lambda one: rank_of(one[0]))
    of_domain = [one for one in ranked if is_met(one[0], domain, None, None)]
    chosen, groups = list(of_domain), [item[1] for one in of_domain for item in one[1] if item[0] == "@"]
    for each in ([[one for one in ranked if is_met(one[0], b"", host, None)] for host in hosts],
                 [[one for one in ranked if is_met(one[0], b"", None, ip)] for ip in ips]):  # fmt: skip
        chosen += [one for one in (each[0] if each else []) if all(one in others for others in each)]
        named = [[item[1] for one in lines for item in one[1] if item[0] == "@"] for lines in each]
        groups += [group for group in (named[0] if named else []) if all(group in others for others in named)]
    named = dict(rules)
    groups = with_parents(groups, named)
    of_networks = sorted((line for line in more if kind_of(line[0]) == "ip"), key=lambda one: rank_of(one[0]))
    extra = with_parents([item[1] for line in of_networks for item in line[1] if item[0] == "@"], named)
    groups += [group for group in extra if group not in groups]
    chosen += [line for line in more if line not in chosen]
    chosen.sort(key=lambda one: rank_of(one[0]))
    chosen += [(group, named[group]) for group in groups]
    return [*chosen, *((b"", items) for address, items in rules if not address)], groups


def slow_limits(lines):
    """Return {(kind, scope, name): value} of all limits that apply."""
    usual = {"domain": "dom", "suffix": "dom", "star": "dom", "mx": "site", "mxsuffix": "site", "ip": "ip"}
    winning = {}
    for number, (address, items) in enumerate([*lines, *BUILT_IN]):
        origin = "built in" if number >= len(lines) else "default" if not address else "written"
        for item in items:
            if len(item) == 3:
                of_kind = "rule" if address.startswith(b"@") else usual[kind_of(address)] if address else "site"
                scope = item[2] or of_kind
                winning.setdefault((item[0], scope, address if scope == "rule" else b""), (item[1], origin))
    return {key: value for key in winning if (value := slow_value(key, winning)) is not None}


def slow_value(key, winning):
    """Return what a limit becomes beside the others; None: it does not apply."""
    value, origin = winning[key]
    if origin == "written":
        return value
    for (kind, scope, _), (other, its_origin) in winning.items():
        is_family = kind.lower() == key[0].lower()
        counts = its_origin == "written" or origin == "built in" and its_origin == "default"
        if is_family and counts:
            distance = SCOPES.index(scope) - SCOPES.index(key[1])
            if distance == 0 or distance > 0 and its_origin == "written":
                return None
            if distance < 0:
                value = max(value, other)
    return value


def written(items):
    def text(item):
        if item[0] == "@":
            return item[1]
        rate = "/m" if item[0] in "rRk" else ""
        scope = f"/{item[2]}" if len(item) == 3 and item[2] else ""
        return f"{item[0]}={item[1]}{rate}{scope}".encode()

    return b",".join(text(item) for item in items)


def limit_items(scopes):
    return st.tuples(st.sampled_from(["c", "r", "R", "k"]), st.integers(1, 500), st.sampled_from(scopes))


SCOPED = limit_items([None, *SCOPES])
PLAIN = st.tuples(st.sampled_from(["n", "m"]), st.integers(1, 200))
MEMBER = st.tuples(st.just("@"), st.sampled_from(GROUPS))


def unique(item):
    return (item[0], item[1]) if item[0] == "@" else (item[0], item[2] if len(item) == 3 else None)


FILES = st.tuples(
    st.dictionaries(st.sampled_from(SITE_ADDRESSES), st.lists(SCOPED | PLAIN | MEMBER, min_size=1, unique_by=unique)),
    st.lists(limit_items([None, *SCOPES[:-1]]) | PLAIN, unique_by=unique),
    st.lists(st.lists(SCOPED | PLAIN, min_size=1, unique_by=unique), min_size=3, max_size=3),
    st.booleans(),
)
QUERIES = st.tuples(
    st.sampled_from([*LABELS, b"d.x.b"]),
    st.lists(st.sampled_from([*HOSTS, b"q.a.b"]), max_size=3, unique=True),
    st.lists(st.sampled_from(ADDRESSES), max_size=3, unique=True),
)


def compiled(file):
    """Return (rules as pairs, text): every group is there, and somebody is in it."""
    lines, defaults, groups, is_nested = file
    rules = [*lines.items(), (b"nobody.example", [("@", group) for group in GROUPS])]
    rules += [(GROUPS[0], [*groups[0], ("@", GROUPS[2])] if is_nested else groups[0])]
    rules += [(GROUPS[1], groups[1]), (GROUPS[2], groups[2])]
    rules += [(b"", defaults)] if defaults else []
    return rules, b"".join(address + b":" + written(items) + b"\n" for address, items in rules)


def fast(limits):
    return {(one.kind.decode(), one.scope, one.name): one.value for one in limits}


@given(FILES, QUERIES)
@settings(max_examples=200, deadline=None)
def test_the_fast_lookup_is_the_slow_one(file, query):
    rules, text = compiled(file)
    domain, hosts, ips = query
    lines, groups = slow_lines(rules, domain, hosts, ips)
    known = RuleSet.of_text(text)
    policy = known.for_site(domain, hosts, ips)
    expected = slow_limits(lines)
    local = {key: value for key, value in expected.items() if key[1] not in ("ip", "host", "net")}
    assert fast(policy.limits) == local
    assert list(policy.groups) == groups
    for key, value in (("n", policy.messages), ("m", policy.recipients)):
        assert value == next(item[1] for _, items in [*lines, *BUILT_IN] for item in items if item[0] == key)
    for host in hosts:
        for ip in ips:
            more = [one for one in rules if one[0] and not one[0].startswith(b"@") and is_met(one[0], b"", host, ip)]
            all_lines, all_groups = slow_lines(rules, domain, hosts, ips, more)
            limits = slow_limits(all_lines)
            news = [group for group in all_groups if group not in groups]
            wanted = {key: n for key, n in limits.items() if key[1] in ("ip", "host", "net") or key[2] in news}
            assert fast(known.for_address(host, ip, policy).limits) == wanted


@given(FILES, st.lists(QUERIES, min_size=1, max_size=3))
@settings(max_examples=30, deadline=None)
def test_a_cdb_is_looked_up_like_a_dict(tmp_path_factory, file, queries):
    records = compile_rules(compiled(file)[1], None).records
    folder = tmp_path_factory.mktemp("rules")
    write_cdb(f"{folder}/cdb", f"{folder}/tmp", records)
    with Reader(f"{folder}/cdb") as table:
        on_disk, in_memory = RuleSet(table), RuleSet(dict(records))
        for query in queries:
            assert shown(on_disk.for_site(*query).limits) == shown(in_memory.for_site(*query).limits)
