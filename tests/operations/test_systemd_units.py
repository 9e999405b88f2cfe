"""`pyqmail units`: what stands in systemd's units.  That they work is shown in tests/interop/test_units.py."""

import os
import pwd
import shutil
import subprocess

import pytest

from pyqmail.base.failure import Permanent, Temporary
from pyqmail.operations.systemd_units import Units
from pyqmail.programs import registry

SMTP = 'exec pytcpserver -v "${SMTP_ADDRESS:-0}" "${SMTP_PORT:-25}" pysmtpd\n'


@pytest.fixture
def services(tmp_path):
    """services(name=script, ...) -> the directory of those services."""

    def build(**scripts):
        for name, script in scripts.items():
            (tmp_path / "services" / name).mkdir(parents=True)
            (tmp_path / "services" / name / "run").write_text(f"#!/bin/sh\n{script}")
        return str(tmp_path / "services")

    return build


def units(directory, environ=(), is_user=False, has_sockets=False):
    environ = {b"PYQMAIL_HOME": b"/nonexistent", **dict(environ)}
    return Units(environ, is_user, has_sockets, registry.load).make(directory)


def values(text, name):
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")]


def test_one_service(services):
    place = services(pysmtpd=f"exec 2>&1\n{SMTP}", pyqueued="exec pyqueued 2>&1\n")
    made = units(place, {b"SMTP_PORT": b"2525", b"SMTP_LIMIT": b"7"})
    assert sorted(made) == ["pyqueued.service", "pysmtpd.service"]
    lines = made["pysmtpd.service"].splitlines()
    path = next(line for line in lines if line.startswith('Environment="PATH='))
    assert path.endswith(':/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"')
    hardening = lines.index("") + lines[lines.index("") + 1 :].index("") + 1
    assert lines[hardening + 1].startswith("Protect") and "NoNewPrivileges=yes" in lines[hardening:]
    end = hardening + 1 + lines[hardening + 1 :].index("")
    del lines[hardening:end]
    assert [line for line in lines if line != path] == [
        "[Unit]",
        "Description=pysmtpd: receive mail by SMTP",
        "Documentation=man:pysmtpd(8) man:pytcpserver(8)",
        "After=network.target pyqueued.service",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        f'ExecStart="{place}/pysmtpd/run"',
        f"WorkingDirectory={place}/pysmtpd",
        "SyslogIdentifier=pysmtpd",
        'Environment="PYQMAIL_HOME=/nonexistent"',
        'Environment="SMTP_PORT=2525"',
        "Restart=always",
        "RestartSec=1",
        "KillMode=process",
        "LimitNOFILE=1024:262144",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]


@pytest.mark.parametrize(
    "script, kind",
    [
        (SMTP, "notify"),
        ("exec 2>&1\n" + SMTP, "notify"),
        ("[ -e x ] && exec pystart x\n" + SMTP, "exec"),
        ("if [ -e x ]; then\n  exec pystart x\nfi\n" + SMTP, "exec"),
        ("exec pystart ./Maildir/\n", "exec"),
        ("exec tcpserver 0 25 pysmtpd\n", "exec"),
        ("exec pyenvuidgid qmaild pytcpserver 0 25 pysmtpd\n", "exec"),
        ("pytcpserver 0 25 pysmtpd\n", "exec"),
    ],
)
def test_readiness_is_waited_for_where_it_is_told(services, script, kind):
    assert values(units(services(x=script))["x.service"], "Type") == [kind]


def test_a_manager_of_one_user(services):
    text = units(services(pysmtpd=SMTP), is_user=True)["pysmtpd.service"]
    assert values(text, "WantedBy") == ["default.target"]
    assert values(text, "After") == values(text, "User") == []


def test_the_owner_of_a_private_home(services, home):
    def user():
        text = units(services_place, {b"PYQMAIL_HOME": os.fsencode(home.path)})["x.service"]
        return values(text, "User")

    services_place = services(x="exec pyqueued\n")
    uid = os.getuid()
    if uid:
        assert user() == [pwd.getpwuid(uid).pw_name]
    else:
        assert user() == []
        os.chown(f"{home.path}/private", pwd.getpwnam("nobody").pw_uid, -1)
        assert user() == ["nobody"]
        taken = {entry.pw_uid for entry in pwd.getpwall()}
        free = next(number for number in range(54321, 60000) if number not in taken)
        os.chown(f"{home.path}/private", free, -1)
        assert user() == [str(free)]


def test_files_that_only_supervisors_obey_are_named(services):
    place = services(x="exec a\n", y="exec a\n")
    for name in ("down-signal", "finish", "notification-fd"):
        open(f"{place}/x/{name}", "w").close()
    made = units(place)
    assert [line for line in made["x.service"].splitlines() if line[:1] == "#"] == ["# not used: finish, down-signal"]
    assert "#" not in made["y.service"]


def test_normally_down(services):
    place = services(x="exec pyqueued\n")
    open(f"{place}/x/down", "w").close()
    assert "[Install]" not in units(place)["x.service"]


@pytest.mark.parametrize(
    "environ, listening, only",
    [
        ({}, ["0.0.0.0:25", "[::]:25"], "ipv6-only"),
        ({b"SMTP_ADDRESS": b"0"}, ["0.0.0.0:25", "[::]:25"], "ipv6-only"),
        ({b"SMTP_ADDRESS": b"0.0.0.0"}, ["0.0.0.0:25"], "ipv6-only"),
        ({b"SMTP_ADDRESS": b"127.0.0.1,::1", b"SMTP_PORT": b"2525"}, ["127.0.0.1:2525", "[::1]:2525"], "ipv6-only"),
        ({b"SMTP_ADDRESS": b"0,::"}, ["0.0.0.0:25", "[::]:25"], "ipv6-only"),
        ({b"SMTP_ADDRESS": b":0"}, ["[::]:25"], "both"),
    ],
)
def test_sockets(services, environ, listening, only):
    made = units(services(pysmtpd=SMTP, x="exec pyqueued\n"), environ, has_sockets=True)
    assert sorted(made) == ["pysmtpd.service", "pysmtpd.socket", "x.service"]
    assert values(made["pysmtpd.socket"], "ListenStream") == listening
    assert values(made["pysmtpd.socket"], "BindIPv6Only") == [only]
    service = made["pysmtpd.service"]
    assert values(service, "Environment")[-2:] == ['"SMTP_ADDRESS=fd:"', '"SMTP_PORT=-"']
    assert values(service, "Requires") == values(service, "Also") == ["pysmtpd.socket"]


@pytest.mark.parametrize(
    "environ",
    [
        {b"SMTP_ADDRESS": b"mail.example"},
        {b"SMTP_PORT": b"smtp"},
        {b"SMTP_PORT": b"0"},
        {b"SMTP_PORT": b"65536"},
        {b"SMTP_PORT": b"9" * 5000},
    ],
)
def test_what_a_socket_cannot_say(services, environ):
    with pytest.raises(Permanent):
        units(services(pysmtpd=SMTP), environ, has_sockets=True)


@pytest.mark.parametrize("name", ["two words", "a@b", "new\nline", "back\\slash", "q'uote", "\udcff"])
def test_what_a_unit_cannot_name(services, name):
    with pytest.raises(Permanent, match="a unit cannot name"):
        units(services(**{name: SMTP}))


def test_values_that_would_have_to_be_escaped(services):
    with pytest.raises(Permanent, match=r"a unit cannot have \$SMTP_ADDRESS: 0\nUser=x"):
        units(services(pysmtpd=SMTP), {b"SMTP_ADDRESS": b"0\nUser=x"})


def test_no_services(services, tmp_path):
    with pytest.raises(Permanent, match="no services in "):
        units(str(tmp_path))
    with pytest.raises(Temporary, match="unable to read .*/none: file does not exist"):
        units(str(tmp_path / "none"))


def test_as_a_command(run, services, tmp_path):
    place = services(pysmtpd=SMTP, pyqueued="exec pyqueued\n")
    environ = {"PYQMAIL_HOME": "/nonexistent"}
    shown = run("pyqmail", "units", place, env=environ)
    assert (shown.code, shown.err) == (0, b"")
    (tmp_path / "to").mkdir()
    assert run("pyqmail", "units", "--to", str(tmp_path / "to"), place, env=environ) == (0, b"", b"")
    texts = {name: (tmp_path / "to" / name).read_bytes() for name in sorted(os.listdir(tmp_path / "to"))}
    assert shown.out == b"\n".join(b"# %b\n%b" % (name.encode(), text) for name, text in texts.items())
    assert run("pyqmail", "units", str(tmp_path)).code == 100
    failed = run("pyqmail", "units", "--to", str(tmp_path / "none"), place)
    reason = f"pyqmail: fatal: unable to write {tmp_path}/none/pyqueued.service: file does not exist\n"
    assert failed == (111, b"", reason.encode())


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="not installed: systemd-analyze")
@pytest.mark.parametrize("options", [(), ("--sockets",)])
def test_systemd_accepts_them(run, services, tmp_path, options):
    """A directory whose name has everything that may stand in a unit."""
    odd = tmp_path / "50% of $HOME"
    odd.mkdir()
    place = f"{odd}/services"
    os.rename(services(pysmtpd=SMTP, pyqueued="exec pyqueued\n"), place)
    for name in os.listdir(place):
        os.chmod(f"{place}/{name}/run", 0o755)
    (tmp_path / "to").mkdir()
    assert run("pyqmail", "units", *options, "--to", str(tmp_path / "to"), place).code == 0
    paths = [str(path) for path in (tmp_path / "to").iterdir()]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "pysmtpd" in line]
    assert (done.returncode, complaints) == (0, [])


OURS = f"{os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))}/services"


def test_how_ours_are_stopped_and_told_to_read_again():
    """A restart leaves the connections to their end; a signal that would end a service is no way to reload it."""
    made = units(OURS)
    how = {name: values(text, "KillMode") for name, text in made.items()}
    assert how == {"pysmtpd.service": ["process"], "pysend.service": ["mixed"], "pyqueued.service": ["mixed"]}
    for text in made.values():
        assert values(text, "ExecReload") == ["/bin/kill -HUP $MAINPID"] and values(text, "LimitNOFILE")
        assert values(text, "Documentation")[0].startswith("man:py")
    # it would imply NoNewPrivileges
    assert values(units(OURS, is_user=True)["pysend.service"], "SystemCallFilter") == []


@pytest.mark.parametrize("script", ["exec tcpserver 0 25 qmail-smtpd\n", "exec pyqueued\n", "exec something\n"])
def test_what_dies_of_hup_is_not_told_to_reload(services, script):
    assert values(units(services(x=script))["x.service"], "ExecReload") == []


@pytest.mark.parametrize("script", ["exec something\n", "exec pytcpserver 0 25 qmail-smtpd\n"])
def test_what_is_not_ours_is_not_confined(services, script):
    assert "Protect" not in units(services(x=script))["x.service"]


def test_what_would_lose_mail_is_not_printed():
    """Local mail bounces where homes are hidden; users' programs have their rights, their /tmp and a whole /proc."""
    made = units(OURS)
    for bad in ("ProtectHome", "PrivateTmp", "NoNewPrivileges", "RestrictSUIDSGID", "UMask", "PrivateUsers"):
        assert values(made["pysend.service"], bad) == []
    for text in made.values():
        assert "ProcSubset" not in text
        if values(text, "SystemCallFilter"):
            assert values(text, "SystemCallErrorNumber") == ["EPERM"]
        assert {"CAP_SETUID", "CAP_SETGID"} <= set(values(text, "CapabilityBoundingSet")[0].split())


@pytest.mark.parametrize(
    "home, hidden", [("/srv/mail", "yes"), ("/home/joe/mail", "read-only"), ("/root/mail", "read-only")]
)
def test_a_home_below_home_is_seen(services, home, hidden):
    text = units(services(pyqueued="exec pyqueued\n"), {b"PYQMAIL_HOME": home.encode()})["pyqueued.service"]
    assert values(text, "ProtectHome") in ([hidden], ["read-only"])  # the interpreter may be below one, too
    assert f'"-{home}"' in values(text, "ReadWritePaths")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="not installed: systemd-analyze")
@pytest.mark.parametrize("options", [(), ("--sockets",)])
def test_systemd_thinks_them_safe(run, tmp_path, options):
    """At most 5 of 10; what is printed without any option of this kind has 9.6."""
    made = run("pyqmail", "units", *options, "--to", str(tmp_path), OURS, env={"PYQMAIL_HOME": "/nonexistent"})
    assert made.code == 0
    for path in tmp_path.glob("*.service"):
        words = ["systemd-analyze", "security", "--offline=true", "--threshold=50", "--no-pager", str(path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout[-300:] + done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_whose_else_scripts_root_would_run_is_said(run, services):
    place = services(x="exec a\n", y="exec a\n")
    os.chown(f"{place}/x/run", 12345, 0)
    made = run("pyqmail", "units", place, env={"PYQMAIL_HOME": "/nonexistent"})
    said = f"pyqmail: warning: x is run as root, but {place}/x/run belongs to uid 12345\n"
    assert (made.code, made.err) == (0, said.encode())
    assert run("pyqmail", "units", "--user", place, env={"PYQMAIL_HOME": "/nonexistent"}).err == b""


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_unit_is_written_to_nothing_that_stands_there(run, services, tmp_path, link):
    victim, to = tmp_path / "victim", tmp_path / "to"
    victim.write_text("precious")
    to.mkdir()
    link(victim, to / "x.service.new")
    assert (
        run("pyqmail", "units", "--to", str(to), services(x="exec a\n"), env={"PYQMAIL_HOME": "/nonexistent"}).code == 0
    )
    assert victim.read_text() == "precious" and (to / "x.service").stat().st_nlink == 1
