"""Local or remote, virtual domains, the percent hack, VERP."""

import pytest

from pyqmail.mail.routing.rewrite import LOCAL, REMOTE, Rewriter

RULES = Rewriter(
    b"noat.example",
    [b"pct", b"pct2"],
    [b"here.example", b"LOCAL.example", b"both.example"],
    {
        b"joe@virtual.example": b"joe-v",
        b"virtual.example": b"virt",
        b".virtual.example": b"sub",
        b"both.example": b"never",
        b"except.virtual.example": b"",
    },
)
EVERYTHING = Rewriter(b"x", [], [], {b"": b"all", b"out.example": b""})

REWRITTEN = [
    # rules      recipient                     channel  address
    (RULES, b"ann", REMOTE, b"ann@noat.example"),
    (RULES, b"", REMOTE, b"@noat.example"),
    (RULES, b"Ann@Here.Example", LOCAL, b"Ann@Here.Example"),
    (RULES, b"ann@local.EXAMPLE", LOCAL, b"ann@local.EXAMPLE"),
    (RULES, b"c%d.e@pct", REMOTE, b"c@d.e"),
    (RULES, b"c%here.example@pct", LOCAL, b"c@here.example"),
    (RULES, b"c%d%pct2@PCT", REMOTE, b"c@d"),
    (RULES, b"plain@pct", REMOTE, b"plain@pct"),
    (RULES, b"a@b%c@pct", REMOTE, b"a@b@c"),
    (RULES, b"joe@Virtual.example", LOCAL, b"joe-v-joe@Virtual.example"),
    (RULES, b"Ann@virtual.example", LOCAL, b"virt-Ann@virtual.example"),
    (RULES, b"ann@a.b.virtual.example", LOCAL, b"sub-ann@a.b.virtual.example"),
    (RULES, b"ann@except.virtual.example", REMOTE, b"ann@except.virtual.example"),
    (RULES, b"ann@both.example", LOCAL, b"ann@both.example"),
    (RULES, b"ann@far.example", REMOTE, b"ann@far.example"),
    (RULES, b"@here.example", LOCAL, b"@here.example"),
    (EVERYTHING, b"ann@far.example", LOCAL, b"all-ann@far.example"),
    (EVERYTHING, b"ann@out.example", REMOTE, b"ann@out.example"),
]


@pytest.mark.parametrize("rules, recipient, channel, address", REWRITTEN)
def test_rewrite(rules, recipient, channel, address):
    assert rules.rewrite(recipient) == (channel, address)


@pytest.mark.parametrize(
    "rules, address, stripped",
    [
        (RULES, b"virt-Ann@virtual.example", b"Ann@virtual.example"),
        (RULES, b"Virt-Ann@virtual.example", b"Virt-Ann@virtual.example"),
        (RULES, b"sub-ann@a.virtual.example", b"ann@a.virtual.example"),
        (RULES, b"joe-v-joe@virtual.example", b"joe-v-joe@virtual.example"),  # virtual users keep it
        (RULES, b"ann@except.virtual.example", b"ann@except.virtual.example"),
        (EVERYTHING, b"all-ann@far.example", b"ann@far.example"),
        (RULES, b"noat", b"noat"),
    ],
)
def test_strip_prepend(rules, address, stripped):
    assert rules.strip_prepend(address) == stripped


def test_hangup_changes_locals_and_virtualdomains():
    rules = Rewriter(b"x", [], [b"a"], {})
    rules.use([b"b"], {b"c": b"v"})
    assert [rules.rewrite(b"u@" + domain)[0] for domain in (b"a", b"b", b"c")] == [REMOTE, LOCAL, LOCAL]
