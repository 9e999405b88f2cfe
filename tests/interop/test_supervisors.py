"""The directories of services/, unchanged, under every supervisor that may find them; and its tools beside ours.

daemontools-encore is in no package here: its programs are looked for in the directory that $ENCORE names.
"""

import filecmp
import os
import re
import shutil
import signal

import pytest

from tests.waiting import until

SECONDS = 30
ENCORE = os.environ.get("ENCORE", "/nonexistent")
SERVICES = ("pyqueued", "pysend", "pysmtpd")
PLACES = [place for name in SERVICES for place in (name, f"{name}/log")]
LINE = rb".*: up \(pid ([0-9]+)\) [0-9]+ seconds"


class Supervisor:
    """How one of them is started on a directory of services, asked, told and stopped; here: daemontools.

    needs: its programs; keeps_status: its supervise/status is one that our pysvstat reads.
    """

    needs = ("svscan", "supervise", "svc", "svstat", "svok")
    scan = ("svscan",)
    bin = ""
    keeps_status = True

    def __init__(self, system):
        self.system, self.folder = system, system.services
        if self.bin:
            system.environ["PATH"] = f"{self.bin}:{system.environ['PATH']}"

    def start(self):
        return self.system.start(*self.scan, self.folder, start_new_session=True)

    def tell(self, *words, code=0):
        done = self.system.run(*words, cwd=self.folder)
        assert done.returncode == code, (words, done)
        return done.stdout

    def pid(self, place):
        """Return the process of a service or a log, 0 if it is down or not known."""
        found = re.match(LINE, self.tell("svstat", place))
        return int(found[1]) if found else 0

    def restart(self, place):
        self.tell("svc", "-t", place)

    def down(self, place):
        self.tell("svc", "-d", place)

    def up(self, place):
        self.tell("svc", "-u", place)

    def is_down(self, place):
        return b": down " in self.tell("svstat", place)

    def is_ready(self, place):
        """Return whether a service is ready, for all that the supervisor knows: to most, running is all there is."""
        return self.pid(place) != 0

    def stop(self, scanner):
        """As its manual says: the scanner first, else it starts again what is left; services, then their logs."""
        scanner.terminate()
        scanner.wait(SECONDS)
        self.tell("svc", "-dx", *SERVICES)
        until(lambda: not any(self.pid(name) for name in SERVICES))
        self.tell("svc", "-dx", *(f"{name}/log" for name in SERVICES))


class Encore(Supervisor):
    needs = tuple(f"{ENCORE}/{name}" for name in ("svscan", "supervise", "svc", "svstat"))
    scan = (f"{ENCORE}/svscan",)
    bin = ENCORE

    def pid(self, place):
        found = re.match(LINE + b", running\n", self.tell("svstat", place))
        return int(found[1]) if found else 0

    def stop(self, scanner):
        scanner.terminate()  # mains, then their logs
        assert scanner.wait(SECONDS) == 0


class Runit(Supervisor):
    needs = ("runsvdir", "runsv", "sv")
    scan = ("runsvdir",)

    def pid(self, place):
        found = re.match(
            rb"run: .*?: \(pid ([0-9]+)\)", self.system.run("sv", "status", f"{self.folder}/{place}").stdout
        )
        return int(found[1]) if found else 0

    def restart(self, place):
        self.tell("sv", "term", f"{self.folder}/{place}")

    def down(self, place):
        assert self.tell("sv", "-w", str(SECONDS), "stop", f"{self.folder}/{place}").startswith(b"ok: down: ")

    def up(self, place):
        self.tell("sv", "-w", str(SECONDS), "start", f"{self.folder}/{place}")

    def is_down(self, place):
        return self.system.run("sv", "status", f"{self.folder}/{place}").stdout.startswith(b"down: ")

    def stop(self, scanner):
        scanner.send_signal(signal.SIGHUP)  # TERM leaves the services alone
        assert scanner.wait(SECONDS) == 111


class S6(Supervisor):
    needs = ("s6-svscan", "s6-supervise", "s6-svc", "s6-svstat", "s6-svscanctl")
    scan = ("s6-svscan",)
    keeps_status = False

    def pid(self, place):
        done = self.system.run("s6-svstat", "-p", place, cwd=self.folder)
        return max(0, int(done.stdout)) if done.returncode == 0 else 0

    def restart(self, place):
        self.tell("s6-svc", "-t", place)

    def down(self, place):
        self.tell("s6-svc", "-wD", "-d", "-T", "30000", place)

    def up(self, place):
        self.tell("s6-svc", "-wu", "-u", "-T", "30000", place)

    def is_down(self, place):
        return self.tell("s6-svstat", "-o", "up", place) == b"false\n"

    def is_ready(self, place):
        return self.tell("s6-svstat", "-o", "ready", place) == b"true\n"

    def stop(self, scanner):
        self.tell("s6-svscanctl", "-t", ".")
        assert scanner.wait(SECONDS) == 0


class Ours(Supervisor):
    needs = ()
    scan = ("pysvscan", "--stop-on-term")

    def tell(self, *words, code=0):
        return super().tell(f"py{words[0]}", *words[1:], code=code)

    def is_ready(self, place):
        return re.search(rb"^%b +ready " % place.encode(), self.tell("svtop", "."), re.MULTILINE)

    def stop(self, scanner):
        scanner.terminate()
        assert scanner.wait(SECONDS) == 0


ALL = {"daemontools": Supervisor, "daemontools-encore": Encore, "runit": Runit, "s6": S6, "ours": Ours}


def needs(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {' '.join(missing)}")


def parameter(name, kind):
    return pytest.param(kind, id=name, marks=needs(*kind.needs))


@pytest.fixture
def services(system):
    """A System whose parts are services."""
    system.make_services()
    return system


def start(kind, services):
    """Start one of them on the services; returns it and its scanner, everything up and at work."""
    supervisor = kind(services)
    services.scanner = supervisor.start()
    until(lambda: services.accepts() and b"listening" in services.log_of("pyqueued"))
    until(lambda: b"status: local 0/10" in services.log_of("pysend"))
    until(lambda: all(map(supervisor.pid, PLACES)))
    return supervisor, services.scanner


def deliver(services, count):
    services.mail(b"ann@client.example", [b"demo@here.example"], b"Subject: %d\r\n" % count)
    assert services.arrived(count)[-1].endswith(b"Subject: %d\n" % count)
    until(lambda: services.log_of("pysend").count(b" end msg ") == count)


@pytest.mark.parametrize("kind", [parameter(*item) for item in ALL.items()])
def test_the_services_run_unchanged(services, kind):
    supervisor, scanner = start(kind, services)
    deliver(services, 1)
    for name in SERVICES:
        before = supervisor.pid(name)
        supervisor.restart(name)
        until(lambda name=name, before=before: supervisor.pid(name) not in (0, before))
    until(lambda: services.accepts() and services.log_of("pyqueued").count(b"listening") == 2)
    until(lambda: services.log_of("pysend").count(b"status: local 0/10 remote 0/20\n") >= 2)
    deliver(services, 2)
    supervisor.down("pysmtpd")
    until(lambda: supervisor.is_down("pysmtpd") and not services.accepts())
    supervisor.up("pysmtpd")
    until(lambda: supervisor.is_ready("pysmtpd"))
    until(services.accepts)
    deliver(services, 3)
    supervisor.stop(scanner)
    until(lambda: not services.pids())
    assert services.log_of("pysend").endswith(b" status: exiting\n")
    assert services.log_of("pysmtpd").count(b" tcpserver: end ") >= 3
    for place in PLACES:
        assert filecmp.cmp(f"{services.services}/{place}/run", f"services/{place}/run", shallow=False)


SIBLINGS = [parameter(*item) for item in ALL.items() if item[1].keeps_status]


@pytest.mark.parametrize("prefix", ["py", pytest.param("", marks=needs(*Supervisor.needs))], ids=["ours", "C"])
@pytest.mark.parametrize("kind", SIBLINGS)
def test_status_and_commands_are_the_same_for_all_of_the_family(services, kind, prefix):
    """runit and daemontools-encore keep daemontools' files: its tools and ours serve them, and one another."""
    supervisor, scanner = start(kind, services)
    path = "/usr/local/bin:/usr/bin:/bin"  # without encore's tools

    def tool(name, *words):
        more = {"env": {**services.environ, "PATH": path}} if not prefix else {}
        return services.run(f"{prefix}{name}", *words, cwd=services.services, **more)

    for place in PLACES:
        said = tool("svstat", place).stdout
        found = re.fullmatch(LINE + b"\n", said)
        assert found and int(found[1]) == supervisor.pid(place), said
        assert tool("svok", place).returncode == 0
        assert re.search(rb"(?m)^%b +(?:up|ready) +[0-9]+s +%b " % (place.encode(), found[1]), tops(services))
    tool("svc", "-d", "pysmtpd")
    until(lambda: supervisor.is_down("pysmtpd"))
    tool("svc", "-u", "pysmtpd")
    until(lambda: supervisor.pid("pysmtpd"))
    supervisor.stop(scanner)
    until(lambda: not services.pids())


def tops(services):
    return services.run("pysvtop", cwd=services.services).stdout


@needs(*S6.needs)
def test_s6_keeps_files_of_its_own(services):
    supervisor, scanner = start(S6, services)
    said = services.run("pysvstat", "pysend", cwd=services.services).stdout
    assert said == b"pysend: unable to open supervise/ok: file does not exist\n"
    assert tops(services).count(b" unsupervised ") == len(PLACES)
    supervisor.stop(scanner)
    until(lambda: not services.pids())


@needs(*Runit.needs, *S6.needs)
def test_what_their_tools_make_of_ours(services):
    """sv asks for two bytes more than daemontools' status has; the commands of s6 are bytes as everybody's."""
    ours, scanner = start(Ours, services)
    done = services.run("sv", "status", f"{services.services}/pysend")
    assert (done.returncode, done.stdout.endswith(b": unable to read supervise/status: bad format\n")) == (1, True)
    assert services.run("s6-svstat", "pysend", cwd=services.services).returncode == 1
    services.run("s6-svc", "-d", "pysmtpd", cwd=services.services)
    until(lambda: ours.is_down("pysmtpd"))
    ours.stop(scanner)
