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
