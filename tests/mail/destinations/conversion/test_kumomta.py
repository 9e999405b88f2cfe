"""KumoMTA's shaping files as rules; the texts are such as its user guide shows."""

import tomllib

import pytest

from pyqmail.mail.destinations.conversion.kumomta import kumomta, oddity_of, rate_of, seconds_of, words_of
from pyqmail.mail.destinations.rules.tables import compile_rules


def converted(*texts):
    """Return (lines of rules, lines of response rules, remarks of both), and see that they compile."""
    destinations, responses = kumomta([tomllib.loads(text) for text in texts])
    compile_rules(destinations, responses)
    both = destinations.split(b"\n"), responses.split(b"\n")
    rules, replies = ([line for line in lines if line and not line.startswith(b"#")] for lines in both)
    return rules, replies, [line for lines in both for line in lines if line.startswith(b"#")]


GOOGLE = '[provider.google]\nmatch=[{MXSuffix=".google.com"}]\n'
RULES = [
    # shaping file                                                  rules
    ('["default"]\nconnection_limit = 10', [b":c=10"]),
    ('["default"]\nmax_connection_rate = "100/min"\nmax_message_rate = "100/s"', [b":k=100/m,r=100/s"]),
    ('["default"]\nmax_deliveries_per_connection = 100\nmax_recipients_per_batch = 50', [b":n=100,m=50"]),
    (
        '["default"]\nidle_timeout = "60s"\nconnect_timeout = "30s"\ndata_dot_timeout = "5 minutes"',
        [b":idle=1m,to=30s//5m"],
    ),
    ('["default"]\nip_lookup_strategy = "Ipv4Only"\nsmtp_port = 2525', [b":v=4,route=:2525"]),
    ('["default"]\nconsecutive_connection_failures_before_delay = 5', [b":dead=5"]),
    ('["a.example"]\nconnection_limit = 3\nmax_message_rate = "5/h"', [b"a.example:c=3/site,r=5/h/site"]),
    ('["a.example"]\nmx_rollup = false\nconnection_limit = 3', [b"a.example:c=3"]),
    (GOOGLE + "provider_connection_limit = 5", [b"mx=.google.com:@google", b"@google:c=5"]),
    (GOOGLE + "connection_limit = 10", [b"mx=.google.com:@google", b"@google:c=10/site"]),
    (
        GOOGLE + "connection_limit = 2\nprovider_connection_limit = 5",
        [b"mx=.google.com:@google", b"@google:c=2/site,c=5"],
    ),
    (GOOGLE + 'provider_max_message_rate = "10/s"', [b"mx=.google.com:@google", b"@google:r=10/s"]),
    ('[provider.a]\nmatch=[{HostName="mx.A.example"}]\nconnection_limit = 1', [b"mx=mx.a.example:@a", b"@a:c=1/site"]),
    ('[provider.a]\nmatch=[{DomainSuffix=".a.example"}]\nconnection_limit = 1', [b".a.example:@a", b"@a:c=1/site"]),
    (
        '[provider.a]\nmatch=[{MXSuffix="a.example"}]\nconnection_limit = 1',
        [b"mx=a.example:@a", b"mx=.a.example:@a", b"@a:c=1/site"],
    ),
    (
        '[provider."a b"]\nmatch=[{MXSuffix=".a.example"}]\nconnection_limit = 1',
        [b"mx=.a.example:@a-b", b"@a-b:c=1/site"],
    ),
    ("", []),
]


@pytest.mark.parametrize("text, rules", RULES)
def test_options(text, rules):
    assert converted(text)[0] == rules


REMARKS = [
    ('["default"]\nenable_tls = "Required"', b'# "default": enable_tls = Required: no counterpart'),
    ('["default"]\nconnection_limit = "local:5"', b'# "default": connection_limit = local:5: not converted'),
    ('["default"]\nmax_message_rate = "many"', b'# "default": max_message_rate = many: not converted'),
    ('["a.example"]\nconnection_limit = true', b'# "a.example": connection_limit = True: not converted'),
    (
        '["a.example".sources."ip-1"]\nconnection_limit = 1',
        b'# "a.example", source "ip-1": not converted: of one source only',
    ),
    (
        "[provider.a]\nconnection_limit = 1",
        b'# provider "a": connection_limit = 1: not converted: nothing is in the group @a',
    ),
    (
        '[provider.a]\nmatch=[{MXSuffix="-in.a.example"}]',
        b'# provider "a": match MXSuffix "-in.a.example": not converted',
    ),
    ('[provider.a]\nmatch=[{Regex="x"}]', b'# provider "a": match Regex "x": not converted'),
    (
        '["b\\nc"]\nconnection_limit = 1',
        b'# "b c": connection_limit = 1: not converted: not a domain: its letters are ASCII, with dashes and dots',
    ),
]


@pytest.mark.parametrize("text, remark", REMARKS)
def test_what_cannot_be_said_is_a_remark(text, remark):
    assert remark in converted(text)[2]


def test_what_is_loaded_later_wins():
    first, second = (
        '["a.example"]\nmx_rollup=false\nconnection_limit = 1\nidle_timeout = "5s"',
        '["a.example"]\nconnection_limit = 2',
    )
    assert converted(first, second)[0] == [b"a.example:c=2,idle=5s"]
    assert converted(first, second + "\nreplace_base = true\nmx_rollup = false")[0] == [b"a.example:c=2"]


def automation(regex, action='"Suspend"', duration="2 hours", section="provider.google"):
    rule = f'[[{section}.automation]]\nregex = {regex}\naction = {action}\nduration = "{duration}"\n'
    return f"{GOOGLE}connection_limit = 1\n{rule}"


REPLIES = [
    (automation("'TS04'"), [b"@google::TS04:pause 2h site"]),
    (automation("'\\[TS04\\]'"), [b"@google::[TS04]:pause 2h site"]),
    (automation("'421 4\\.7\\.0 \\[TS04\\]'"), [b"@google:421:4.7.0 [TS04]:pause 2h site"]),
    (automation("['one', 'two']"), [b"@google::one:pause 2h site", b"@google::two:pause 2h site"]),
    (automation("'x'", '{SetConfig={name="max_message_rate", value="1/minute"}}'), [b"@google::x:rate site"]),
    (automation("'x'", '{SetConfig={name="connection_limit", value=1}}'), [b"@google::x:ceiling"]),
    (automation("'x'", '{SetConfig={name="max_deliveries_per_connection", value=1}}'), [b"@google::x:n"]),
    (automation("'x'", '["SuspendTenant", "Suspend"]'), [b"@google::x:pause 2h site"]),
    (automation("'x'", section="default"), [b"::x:pause 2h site"]),
    (automation("'a: b'"), [b"@google::a: b:pause 2h site"]),
]


@pytest.mark.parametrize("text, replies", REPLIES)
def test_automation(text, replies):
    assert converted(text)[1] == replies


NO_REPLIES = [
    (automation("'[0-9]+ x'"), b'# provider "google": [0-9]+ x: not converted: a pattern, and here are words only'),
    (automation("'x'", '"SuspendTenant"'), b'# provider "google": x: not converted: no action here is SuspendTenant'),
    (
        automation("'x'", '{SetConfig={name="enable_tls", value="Required"}}'),
        b'# provider "google": x: not converted: no action here is {SetConfig = {name = enable_tls, value = Required}}',
    ),
    (
        '[[provider.b.automation]]\nregex="x"\naction="Suspend"\nduration="1h"',
        b'# provider "b": x: not converted: nothing is in the group @b',
    ),
    (automation("'x'", duration="soon"), b'# provider "google": x: not converted: no action here is Suspend'),
]


@pytest.mark.parametrize("text, remark", NO_REPLIES)
def test_what_no_response_rule_says_is_a_remark(text, remark):
    _, replies, remarks = converted(text)
    assert replies == [] and remark in remarks


def test_a_domain_with_automation_is_a_group():
    rule = '[["a.example".automation]]\nregex = "RL"\naction = "Suspend"\nduration = "1h"'
    rules, replies, _ = converted('["a.example"]\nconnection_limit = 3\n' + rule)
    assert (rules, replies) == ([b"a.example:@a.example", b"@a.example:c=3/site"], [b"@a.example::RL:pause 1h site"])


@pytest.mark.parametrize(
    "value, rate",
    [
        ("100/min", b"100/m"),
        ("1,000/hour", b"1000/h"),
        ("local:5/sec", b"5/s"),
        ("10/d,max_burst=5", b"10/d~5"),
        ("0/s", None),
        ("5", None),
        ("5/week", None),
        ("-1/s", None),
        ("1/s,burst", None),
    ],
)
def test_rates(value, rate):
    assert rate_of(value) == rate


@pytest.mark.parametrize(
    "value, seconds",
    [
        ("60s", 60),
        ("2 hours", 7200),
        ("1h30m", 5400),
        (30, 30),
        ("", None),
        (None, None),
        ("s", None),
        ("5 weeks", None),
        (True, None),
    ],
)
def test_times(value, seconds):
    assert seconds_of(value) == seconds


@pytest.mark.parametrize(
    "pattern, words",
    [
        ("RL0000", (b"", b"RL0000")),
        ("a\\.b", (b"", b"a.b")),
        ("busy. Later.", (b"", b"busy. Later.")),
        ("550 no.*", (b"550", b"no")),
        ("a.b", None),
        ("a|b", None),
        ("\\d", None),
        ("a\\", None),
        ("  ", None),
        ("550", (b"", b"550")),
    ],
)
def test_words(pattern, words):
    assert words_of(pattern) == words


@pytest.mark.parametrize("text, remark", [
    ('provider.p.match = 5', b'# provider "p": match  "5": not converted'),
    ('["a.b"]\nsources = 5', b'# "a.b", source "5": not converted: of one source only'),
    ('["a.b"]\nautomation = 5', b'# "a.b": automation = 5: no counterpart'),
    ('["a.b"]\nidle_timeout = inf', b'# "a.b": idle_timeout = inf: no counterpart'),
    ('["a.b"]\nidle_timeout = nan', b'# "a.b": idle_timeout = nan: no counterpart'),
    ('["a.b"]\nip_lookup_strategy = []', b'# "a.b": ip_lookup_strategy = []: no counterpart'),
    ('["a.b"]\nsmtp_port = 99999999', None),
    ('["a.b"]\nmax_message_rate = "%s/s"' % ("9" * 5000), None),
    ('[[default.automation]]\nregex = 5\naction = [[1]]', None),
    ('[[default.automation]]\nregex = "a"\naction = {SetConfig = {name = [1]}}', None),
])  # fmt: skip
def test_values_of_another_kind_are_remarks(text, remark):
    rules, replies, remarks = converted(text)
    assert (rules, replies) == ([], []) and (remarks if remark is None else remark in remarks)


def test_names_with_line_ends_make_no_lines():
    rules, replies, remarks = converted('["a\\nb.example:hold\\n#"]\nconnection_limit = 5\n"x\\ny.example:hold" = 1')
    assert (rules, replies) == ([], []) and remarks
    assert converted('["a.b"]\nconnection_limit = 5\n[provider."g\\nb.example:hold"]\nmatch = [{HostName = "h.i"}]')[
        0
    ] == [b"a.b:c=5/site"]


@pytest.mark.parametrize("text, why", [
    ("a = 0x" + "f" * 16, "an integer has more than 64 bits"), ("a = [[-9223372036854775808]]", "an integer has more "
     "than 64 bits"), ("a = [{b = [9223372036854775807]}, inf, nan, 1979-05-27]", ""),
    ("a = " + "[" * 49 + "]" * 49, ""), ("a = " + "[" * 51 + "]" * 51, "nested deeper than 50"),
    (".".join("a" * 51) + " = 1", "nested deeper than 50"),
])  # fmt: skip
def test_what_no_file_has(text, why):
    assert oddity_of(tomllib.loads(text)) == why
