"""Postfix, sendmail and PowerMTA as rules: each setting that has a counterpart, and what becomes a comment."""

import pytest

from pyqmail.mail.destinations.conversion.convert_others import postfix, powermta, sendmail
from pyqmail.mail.destinations.rules.lookup import RuleSet


def lines_of(text):
    """Return the lines that are no comments; all of it compiles."""
    RuleSet.of_text(text)
    return [line for line in text.splitlines() if not line.startswith(b"#")]


POSTFIX = [
    # main.cf                                                     lines
    (b"", []),
    (b"default_destination_concurrency_limit = 20\n", [b":c=20"]),
    (b"smtp_destination_concurrency_limit = 20\ndefault_destination_concurrency_limit = 5\n", [b":c=20"]),
    (b"smtp_destination_concurrency_limit = $default_destination_concurrency_limit\n"
     b"default_destination_concurrency_limit = 7", [b":c=7"]),
    (b"default_destination_concurrency_limit = 0\n", []),
    (b"initial_destination_concurrency=5", [b":i=5"]),
    (b"default_destination_recipient_limit = 1", [b":m=1"]),
    (b"smtp_destination_recipient_limit = 100", [b":m=100"]),
    (b"default_destination_rate_delay = 1s", [b":r=1/s"]),
    (b"smtp_destination_rate_delay = 5s", [b":r=1/5s"]),
    (b"default_destination_rate_delay = 0s", []),
    (b"default_destination_concurrency_failed_cohort_limit = 0", [b":dead=0"]),
    (b"minimal_backoff_time = 300s\nmaximal_backoff_time = 4000s", [b":try=5m*2<4000s"]),
    (b"minimal_backoff_time = 10m", [b":try=10m*2<4000s"]),
    (b"queue_run_delay = 300s", []),
    (b"maximal_queue_lifetime = 5", [b":die=5d"]),
    (b"bounce_queue_lifetime = 1d", [b"from=:die=1d"]),
    (b"smtp_fallback_relay = [fallback.example]:2525, second.example", [b":fall=fallback.example:2525"]),
    (b"smtp_fallback_relay = [2001:db8::1]", [b":fall=[2001:db8::1]"]),
    (b"smtp_connection_cache_time_limit = 2s", [b":idle=2s"]),
    (b"smtp_connection_reuse_count_limit = 100", [b":n=100"]),
    (b"smtp_connection_cache_on_demand = yes", []),
    (b"smtp_connect_timeout = 30s\nsmtp_helo_timeout = 5m", [b":to=30s/5m/"]),
    (b"local_destination_concurrency_limit = 2", [b"rcpt=:c=2"]),
    (b"default_process_limit = 100\nqmgr_message_active_limit = 20000\nrelayhost = [r.example]", []),
    (b"slow_destination_concurrency_limit = 2", []),
    (b"smtp_bind_address = 192.0.2.1\nsmtp_bind_address6 = 2001:db8::1\nsmtp_helo_name = mx.example",
     [b"%out:192.0.2.1=mx.example,2001:db8::1=mx.example", b":src=%out"]),
    (b"smtp_bind_address = 0.0.0.0", []),
]  # fmt: skip


@pytest.mark.parametrize("main, lines", POSTFIX)
def test_postfix(main, lines):
    assert lines_of(postfix(main)) == lines


TRANSPORTS = [
    # transport map                               lines, with slow_destination_concurrency_limit and _rate_delay
    (b"example.com slow:", [b"example.com:@slow", b"@slow:c=2/dom,r=1/5s/dom"]),
    (b".example.com\tslow:", [b".example.com:@slow", b"@slow:c=2/dom,r=1/5s/dom"]),
    (b"example.com slow:[10.0.0.1]:26", [b"example.com:@slow,route=10.0.0.1:26", b"@slow:c=2/dom,r=1/5s/dom"]),
    (b"example.com smtp:[relay.example]", [b"example.com:route=relay.example"]),
    (b"example.com :[::1]:26", [b"example.com:route=[::1]:26"]),
    (b"example.com smtp:relay.example", []),
    (b"example.com other:", []),
    (b"joe@example.com slow:\n* slow:", []),
    (b"example.com :", []),
]


@pytest.mark.parametrize("source, lines", TRANSPORTS)
def test_postfix_transports(source, lines):
    main = b"slow_destination_concurrency_limit = 2\nslow_destination_rate_delay = 5s\n"
    assert lines_of(postfix(main, [source])) == lines


SENDMAIL = [
    # sendmail.mc or sendmail.cf                                         lines
    (b"define(`confMIN_QUEUE_AGE', `30m')dnl", [b":try=30m"]),
    (b"O MinQueueAge=30m", [b":try=30m"]),
    (b"O MinQueueAge=30", []),
    (b"O ClientPortOptions=Family=inet, Addr=192.0.2.1", [b"%out:192.0.2.1", b":src=%out"]),
    (b"define(`confCLIENT_OPTIONS', `Family=inet,Address=nobody')", []),
    (b"define(`confFALLBACK_MX', `[fb.example]')", [b":fall=fb.example"]),
    (b"O FallbackMXhost=fb.example", [b":fall=fb.example"]),
    (b"O Timeout.queuereturn=5d", [b":die=5d"]),
    (b"O Timeout.connect=2m\nO Timeout.initial=5m\nO Timeout.datafinal=1h", [b":to=2m/5m/1h"]),
    (b"O ConnectionCacheTimeout=5m", [b":idle=5m"]),
    (b"QUEUE_GROUP(`big', `P=/q/big, F=f, R=10, r=15, I=1m')dnl", [b"a.example:@big", b"@big:C=10,m=15"]),
    (b"Qbig, P=/q/big, R=10, r=15", [b"a.example:@big", b"@big:C=10,m=15"]),
    (b"Qbig, P=/q/big, Runners=10, recipients=15", [b"a.example:@big", b"@big:C=10,m=15"]),
    (b"Qbig, R=0", []),
    (b"Qother, R=5", []),
    (b"Q", []),
]


@pytest.mark.parametrize("configuration, lines", SENDMAIL)
def test_sendmail(configuration, lines):
    access = b"# map\nConnect:10.0.0.1 RELAY\nQGRP:A.example\tbig\nQGRP:joe@b.example big\n"
    assert lines_of(sendmail(configuration, [access])) == lines


POWERMTA = [
    # settings of <domain *>                            lines
    (b"max-smtp-out 20", [b":c=20"]),
    (b"max-msg-rate 100/h", [b":r=100/h"]),
    (b"max-msg-rate unlimited", []),
    (b"max-connect-rate 10/min", [b":k=10/m"]),
    (b"max-msg-per-connection 50", [b":n=50"]),
    (b"max-msg-per-connection 0", []),
    (b"max-rcpt-per-transaction 100", [b":m=100"]),
    (b"max-rcpt-per-message 100", [b":m=100"]),
    (b"retry-after 10m", [b":try=10m"]),
    (b"bounce-after 4d12h", [b":die=108h"]),
    (b"idle-timeout 5s", [b":idle=5s"]),
    (b"smtp-421-means-mx-unavailable yes", []),
]


@pytest.mark.parametrize("line, lines", POWERMTA)
def test_powermta(line, lines):
    assert (
        lines_of(powermta(b"<domain *>\n    " + line + b"   # comment\n</domain>\n".replace(b"   #", b"\n#"))) == lines
    )


BLOCKS = b"""\
domain-macro yahoo yahoo.com, ymail.com
<domain $yahoo>
    max-smtp-out 10
</domain>
<domain *.example.com>
    max-smtp-out 3
</domain>
<domain aol.example>
    queue-to aol.rollup
</domain>
<domain aol.rollup>
    max-smtp-out 7
</domain>
<virtual-mta a>
    <domain b.example>
        max-smtp-out 4
    </domain>
</virtual-mta>
<smtp-pattern-list blocking>
    reply /generating high volumes/ mode=backoff
</smtp-pattern-list>
"""


def test_powermta_blocks():
    text = powermta(BLOCKS)
    assert lines_of(text) == [
        b"yahoo.com:@yahoo",
        b"ymail.com:@yahoo",
        b".example.com:c=3",
        b"aol.example:@aol.rollup",
        b"@yahoo:c=10/dom",
        b"@aol.rollup:c=7",
    ]
    assert text.splitlines()[:2] == [
        b"# virtual-mta a: max-smtp-out 4: not converted: of one source only",
        b"# for control/responses, which has words instead of patterns: reply /generating high volumes/ mode=backoff",
    ]


@pytest.mark.parametrize(
    "nonsense", [b"<", b">", b"</domain>", b"<domain>\nmax-smtp-out\n", b"\0\xff\n", b"domain-macro x"]
)
def test_nonsense_is_no_traceback(nonsense):
    for convert in (postfix, sendmail, powermta):
        RuleSet.of_text(convert(nonsense))
    assert lines_of(powermta(nonsense)) == []


VIRTUAL = b"""<virtual-mta a>
smtp-source-host 192.0.2.1 mx1.example
<domain example.com>
max-smtp-out 5
max-msg-rate 10/m
log-data yes
</domain>
</virtual-mta>
<virtual-mta b>
smtp-source-host 192.0.2.2
</virtual-mta>
<virtual-mta-pool all>
virtual-mta a
virtual-mta b
</virtual-mta-pool>
default-virtual-mta all
"""


def test_a_relay_for_all_is_named_in_a_comment():
    word = b"write :route=host:port, or :host:port into control/smtproutes"
    assert postfix(b"relayhost = [r.example]:587\n") == b"# relayhost = [r.example]:587: %b\n" % word
    assert sendmail(b"define(`SMART_HOST', `r.example')dnl\n") == b"# SMART_HOST = r.example: %b\n" % word


def test_a_source_that_is_not_for_all_is_named_in_a_comment():
    text = powermta(b"<virtual-mta a>\n smtp-source-host 192.0.2.1 mx.example\n</virtual-mta>\n")
    assert text == b"# virtual-mta a: smtp-source-host 192.0.2.1: not converted: not of default-virtual-mta\n"


def test_powermta_sources():
    text = powermta(VIRTUAL)
    assert sorted(lines_of(text)) == [
        b"%all:192.0.2.1=mx1.example,192.0.2.2",
        b":src=%all",
        b"@example.com/192.0.2.1:c=5,r=10/m",
        b"example.com:@example.com",
    ]
    assert b"# virtual-mta a: log-data yes: not converted: of one source only\n" in text
    assert lines_of(powermta(b"default-virtual-mta none\n")) == []


def test_a_number_of_thousands_of_digits_is_no_number():
    text = postfix(b"default_destination_concurrency_limit = " + b"9" * 5000 + b"\n")
    assert text.startswith(b"# ") and text.count(b"\n") == 1
    assert b"not converted" in postfix(b"default_destination_concurrency_limit = " + b"0" * 5000 + b"\n")
