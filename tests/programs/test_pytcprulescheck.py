"""pytcprulescheck beside the original: what it prints for each client."""

import os
import shutil
import subprocess

import pytest

SOURCE = b"""1.2.3.4:deny,A="b"
joe@1.2.3.4:allow,WHO="joe",B=""
@1.2.3.4:allow,WHO="nobody"
joe@=a.example:allow
127.:allow,RELAYCLIENT=""
=a.example:deny
=.example:allow,NAMED="1"
=:allow,NAMED="2"
5.6.:allow
"""
CLIENTS = [
    {},
    {"TCPREMOTEIP": "1.2.3.4"},
    {"TCPREMOTEIP": ""},
    {"TCPREMOTEIP": "1.2.3.4", "TCPREMOTEINFO": "joe"},
    {"TCPREMOTEIP": "1.2.3.4", "TCPREMOTEINFO": ""},
    {"TCPREMOTEIP": "9.9.9.9", "TCPREMOTEINFO": "joe", "TCPREMOTEHOST": "a.example"},
    {"TCPREMOTEIP": "9.9.9.9", "TCPREMOTEHOST": "a.example"},
    {"TCPREMOTEIP": "9.9.9.9", "TCPREMOTEHOST": "b.example"},
    {"TCPREMOTEIP": "9.9.9.9", "TCPREMOTEHOST": "c.org"},
    {"TCPREMOTEIP": "9.9.9.9", "TCPREMOTEHOST": ""},
    {"TCPREMOTEIP": "127.0.0.1"},
    {"TCPREMOTEIP": "5.6.7.8"},
]

pytestmark = pytest.mark.skipif(shutil.which("tcprulescheck") is None, reason="needs ucspi-tcp")


def original(*arguments, env=None, cwd=None):
    environ = {"PATH": os.environ["PATH"], **(env or {})}
    done = subprocess.run(["tcprulescheck", *arguments], capture_output=True, env=environ, cwd=cwd, timeout=20)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("default", [b"", b':allow,D="x"\n', b":deny\n"])
def test_every_client_is_told_what_the_original_tells(run, tmp_path, default):
    subprocess.run(["tcprules", "rules.cdb", "tmp"], input=SOURCE + default, check=True, cwd=tmp_path)
    for client in CLIENTS:
        ours = run("pytcprulescheck", "rules.cdb", env=client, cwd=tmp_path)
        assert tuple(ours) == original("rules.cdb", env=client, cwd=tmp_path), client


@pytest.mark.parametrize("arguments", [(), ("absent.cdb",), ("short.cdb",), ("cut.cdb",)])
def test_what_cannot_be_read_is_said_as_the_original_does(run, tmp_path, arguments):
    subprocess.run(["tcprules", "rules.cdb", "tmp"], input=SOURCE, check=True, cwd=tmp_path)
    (tmp_path / "short.cdb").write_bytes(bytes(10))
    (tmp_path / "cut.cdb").write_bytes((tmp_path / "rules.cdb").read_bytes()[:2300])
    assert tuple(run("pytcprulescheck", *arguments, cwd=tmp_path)) == original(*arguments, cwd=tmp_path)


FORKS = b"""2001:db8::1:deny
2001:db8::/32:allow,NET="six"
10.0.0.0/8:allow,NET="ten"
joe@2001:db8::2:deny
unix:deny
1000@unix:allow
"""
SHOWN = [
    # client                                   what is printed
    ({"TCPREMOTEIP": "2001:db8::1"},     b"rule 2001:0DB8:0000:0000:0000:0000:0000:0001:\ndeny connection\n"),
    ({"TCPREMOTEIP": "2001:DB8:0:0::1"}, b"rule 2001:0DB8:0000:0000:0000:0000:0000:0001:\ndeny connection\n"),
    ({"TCPREMOTEIP": "2001:db8::2"},     b"rule 2001:db8::/32:\nset environment variable NET=six\nallow connection\n"),
    ({"TCPREMOTEIP": "2001:db8::2", "TCPREMOTEINFO": "joe"},
                                         b"rule joe@2001:0DB8:0000:0000:0000:0000:0000:0002:\ndeny connection\n"),
    ({"TCPREMOTEIP": "2001:db9::2"},     b"default:\nallow connection\n"),
    ({"TCPREMOTEIP": "10.1.2.3"},        b"rule 10.0.0.0/8:\nset environment variable NET=ten\nallow connection\n"),
    ({"TCPREMOTEIP": "unix"},            b"rule unix:\ndeny connection\n"),
    ({"TCPREMOTEIP": "unix", "TCPREMOTEINFO": "1000"},
                                         b"rule 1000@unix:\nallow connection\n"),
]  # fmt: skip


def test_networks_ipv6_and_unix_are_shown_too(run, tmp_path):
    assert run("pytcprules", "rules.cdb", "tmp", input=FORKS, cwd=tmp_path) == (0, b"", b"")
    for client, shown in SHOWN:
        assert run("pytcprulescheck", "rules.cdb", env=client, cwd=tmp_path) == (0, shown, b""), client


def test_a_file_of_the_ipv6_patch_is_understood(run, tmp_path):
    from pyqmail.system.cdb import write_cdb

    write_cdb(tmp_path / "rules.cdb", tmp_path / "tmp", [(b"2001:db8::1", b"D\0"), (b"2001:db8:", b"+A=b\0")])
    for ip, shown in [
        ("2001:db8::1", b"rule 2001:db8::1:\ndeny connection\n"),
        ("2001:DB8::7", b"rule 2001:db8::\nset environment variable A=b\nallow connection\n"),  # a colon ends the line
    ]:
        assert run("pytcprulescheck", "rules.cdb", env={"TCPREMOTEIP": ip}, cwd=tmp_path) == (0, shown, b"")


UNREADABLE = [
    # file                     ours                     the original
    (None,                     b"is a directory",       "dies of a segmentation fault"),
    (b"",                      b"protocol error",       "says `invalid argument`"),
    (bytes(4096),              b"protocol error",       "takes it for a file without rules: everybody is allowed"),
    (b"\xff" * 4096,           b"protocol error",       "says the same"),
]  # fmt: skip


@pytest.mark.parametrize("content, reason, original_does", UNREADABLE)
def test_what_is_no_rules_file_allows_nobody(run, tmp_path, content, reason, original_does):
    (tmp_path / "rules.cdb").mkdir() if content is None else (tmp_path / "rules.cdb").write_bytes(content)
    line = b"tcprulescheck: fatal: unable to read rules.cdb: " + reason + b"\n"
    assert run("pytcprulescheck", "rules.cdb", cwd=tmp_path) == (111, b"", line)
    if original_does == "says the same":
        assert original("rules.cdb", cwd=tmp_path) == (111, b"", line)
