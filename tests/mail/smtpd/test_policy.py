"""The policy, without a network: from values and from control files."""

import os

import pytest

from pyqmail.mail.smtpd.policy import CONTROLS, NoAddresses, Policy, read_policy
from pyqmail.protocol.smtp.extensions import exceeds
from pyqmail.system.cdb import write_cdb
from pyqmail.system.controls import Controls

OWN = b"192.0.2.1"


def make(**values):
    return Policy(b"here", **{"timeout_seconds": 1, **values})


RECIPIENTS = [
    # recipient                  rcpthosts                        is ours
    (b"a@any.example", None, True),
    (b"a@any.example", [], False),
    (b"postmaster", [], True),
    (b"", [], True),
    (b"a@", [b"x"], False),
    (b"a@B.c", [b"b.C"], True),
    (b"a@x.b.c", [b"b.c"], False),
    (b"a@x.b.c", [b".b.c"], True),
    (b"a@b.c", [b".b.c"], False),
    (b"a@.b.c", [b".b.c"], True),
    (b"a@x.y.b.c", [b".c"], True),
    (b"a@b.c@d", [b"b.c"], False),
    (b"a@b.c.", [b"b.c"], False),
    (b"a@b.c.", [b"."], True),
]


@pytest.mark.parametrize("recipient, rcpthosts, is_ours", RECIPIENTS)
def test_rcpthosts(recipient, rcpthosts, is_ours):
    assert make(rcpthosts=rcpthosts).is_our_recipient(recipient) is is_ours


def test_more_rcpthosts_are_asked_after_rcpthosts_with_every_suffix():
    asked = []
    policy = make(rcpthosts=[b"b.c"], more_rcpthosts=asked.append)
    assert policy.is_our_recipient(b"a@b.c") and not asked
    assert not policy.is_our_recipient(b"a@X.y.z")
    assert asked == [b"x.y.z", b".y.z", b".z"]


SENDERS = [
    # sender                 badmailfrom                is bad
    (b"Joe@b.c", [b"joe@B.c"], True),
    (b"joe@b.c", [b"@B.C"], True),
    (b"joe@x.b.c", [b"@b.c"], False),
    (b"joe@b.c", [b"b.c"], False),
    (b"joe", [b"joe"], True),
    (b"x@y@b.c", [b"@b.c"], True),
    (b"", [b"@", b"x"], False),
    (b"joe@", [b"@"], True),
]


@pytest.mark.parametrize("sender, badmailfrom, is_bad", SENDERS)
def test_badmailfrom(sender, badmailfrom, is_bad):
    assert make(badmailfrom=badmailfrom).is_bad_sender(sender) is is_bad


PATHS = [
    # argument                       local_ip_host   address
    (b"<a@[192.0.2.1]>", b"here", b"a@here"),
    (b"<a@[192.0.2.2]>", b"here", b"a@[192.0.2.2]"),
    (b"<a@[192.0.2.1]>", None, b"a@[192.0.2.1]"),
    (b"<a@x@[448.0.2.257]>", b"here", b"a@x@here"),
    (b"<%b@b>" % (b"a" * 897), b"here", b"a" * 897 + b"@b"),
    (b"<%b@b>" % (b"a" * 898), b"here", None),
    (b"<%b@[192.0.2.1]>" % (b"a" * 894), b"here", b"a" * 894 + b"@here"),
    (b"<%b@[192.0.2.1]>" % (b"a" * 895), b"here", None),
]


@pytest.mark.parametrize("argument, local_ip_host, address", PATHS)
def test_path(argument, local_ip_host, address):
    policy = make(local_ip_host=local_ip_host, own_addresses=lambda: {OWN})
    assert policy.read_path(argument) == (address, {})


def test_own_addresses_are_asked_for_a_literal_only():
    def fail():
        raise OSError

    policy = make(local_ip_host=b"here", own_addresses=fail)
    assert policy.read_path(b"<a@b>")[0] == b"a@b"
    with pytest.raises(NoAddresses):
        policy.read_path(b"<a@[1.2.3.4]>")


LIMITS = [
    # databytes, DATABYTES      limit
    (5, None, 5),
    (5, b"7", 7),
    (5, b"", 0),
    (5, b"-7", 0),
    (5, b"8k", 8),
    (0, b"4294967296", 0),
    (0, b"4294967295", 4294967294),
    (4294967295, None, 4294967294),
]


@pytest.mark.parametrize("databytes, variable, limit", LIMITS)
def test_limit(databytes, variable, limit):
    environ = {} if variable is None else {b"DATABYTES": variable}
    assert make(limit_bytes=databytes).limit_bytes(environ) == limit


@pytest.mark.parametrize(
    "declared, limit, does",
    [
        (b"10", 10, False),
        (b"11", 10, True),
        (b"11", 0, False),
        (b"", 10, False),
        (b"x", 1, False),
        (b"9" * 9000, 1, True),
    ],
)
def test_declared_size(declared, limit, does):
    assert exceeds(declared, limit) is does


@pytest.mark.parametrize("text, seconds", [(b"60\n", 60), (b"0", 1), (b"-5", 1200), (b"4294967295", 1), (None, 1200)])
def test_timeout(home, text, seconds):
    if text is not None:
        (home_path(home) / "control/timeoutsmtpd").write_bytes(text)
    assert read_policy(Controls(home.control)).timeout_seconds == seconds


def test_the_files_as_they_are_read(home):
    control = home_path(home) / "control"
    policy = read_policy(Controls(home.control))
    assert (policy.greeting, policy.local_ip_host) == (b"here.example", b"here.example")
    assert policy.is_our_recipient(b"a@anywhere.example")
    (control / "rcpthosts").write_bytes(b"# none\n")
    policy = read_policy(Controls(home.control))
    assert not policy.is_our_recipient(b"a@anywhere.example")
    records = [(b"more.example", b""), (b".dot.example", b"")]
    write_cdb(str(control / "morercpthosts.cdb"), str(control / "tmp"), records)
    policy = read_policy(Controls(home.control))
    assert [policy.is_our_recipient(b"a@" + host) for host in (b"More.example", b"x.dot.example", b"dot.example")] == [
        True, True, False,
    ]  # fmt: skip


def test_names_of_ours_other_than_me(home):
    (home_path(home) / "control/localiphost").write_bytes(b"mail.example\n")
    (home_path(home) / "control/smtpgreeting").write_bytes(b"hello \n")
    policy = read_policy(Controls(home.control))
    assert (policy.greeting, policy.local_ip_host) == (b"hello", b"mail.example")


def test_a_cdb_without_rcpthosts_does_not_matter(home):
    (home_path(home) / "control/morercpthosts.cdb").mkdir()
    assert read_policy(Controls(home.control)).is_our_recipient(b"a@b")


def test_a_damaged_cdb_is_an_error(home):
    control = home_path(home) / "control"
    (control / "rcpthosts").write_bytes(b"")
    (control / "morercpthosts.cdb").write_bytes(b"\xff" * 100)
    with pytest.raises(OSError):
        read_policy(Controls(home.control)).is_our_recipient(b"a@b")


@pytest.mark.parametrize("name", [name for name in CONTROLS if name != "morercpthosts.cdb"])
def test_what_cannot_be_read_is_an_error(home, name):
    control = home_path(home) / "control"
    if name == "me":
        (control / "me").unlink()
    (control / name).mkdir()
    with pytest.raises(OSError):
        read_policy(Controls(home.control))


def test_without_a_name_there_is_no_greeting(home):
    os.unlink(f"{home.control}/me")
    with pytest.raises(LookupError):
        read_policy(Controls(home.control))


def home_path(home):
    import pathlib

    return pathlib.Path(home.path)
