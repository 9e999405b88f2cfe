"""The mail systems that are measured: ours in a private home, Postfix in an instance of its own."""

import os
import re
import shutil
import subprocess

from bench import machine
from bench.machine import BIN, count_files, free_port, tool, until


class Ours:
    """A private home below folder.  accept() starts what takes mail in, deliver() what sends it out.

    All remote mail of most rows goes to one sink: a line of the rules lifts the limit that a destination has.
    """

    name = "pyqmail"
    rules = "remote.example:c=100,i=100,n=10000,k=100000/m~10000\n"
    options = ()  # of pystart

    def __init__(self, folder: str, sink_port: int = 0) -> None:
        self.home = os.path.join(folder, "pyqmail")
        shutil.rmtree(self.home, ignore_errors=True)
        subprocess.run(
            [
                f"{BIN}/python",
                "-c",
                "import sys; from pyqmail.operations import private_home; from pyqmail.programs import registry; "
                "from pyqmail.system.home import Home; private_home.make(Home(sys.argv[1]), registry.load)",
                self.home,
            ],
            check=True,
        )
        self.log, self.port, self._parts = os.path.join(folder, "pyqmail.log"), free_port(), []
        self.environment = {"PYQMAIL_HOME": self.home}
        self._write("rcpthosts", "remote.example\nlocal.example\n")
        self._write("locals", "local.example\n")
        self._write("smtproutes", f"remote.example:127.0.0.1:{sink_port}\n")
        self._write("concurrencyremote", "100\n")
        for name in ("clientconnections", "clientnetwork"):  # all clients of a bench have one address
            self._write(name, "100000\n")
        if self.rules:
            self.write_rules(self.rules)
        self.local_recipient = "demo@local.example"

    def _write(self, name, text):
        with open(f"{self.home}/control/{name}", "w", encoding="ascii") as file:
            file.write(text)

    def write_rules(self, text):
        """Replace the rules for destinations."""
        self._write("destinations", text)
        subprocess.run([f"{BIN}/pydestrules"], check=True, env={"PATH": machine.PATH, **self.environment})

    def _start(self, *argv):
        self._parts.append(machine.start(argv, self.log, **self.environment))
        return self._parts[-1]

    def accept(self):
        self._start("pyqueued")
        until(lambda: os.path.exists(f"{self.home}/run/pyqueued"))
        self.server = self._start(
            "pytcpserver", "-RHl0", "-c", "20000", "-b", "1024", "127.0.0.1", str(self.port), "pysmtpd"
        )
        until(lambda: machine.accepts(self.port))

    def deliver(self):
        self.sender = self._start("pystart", *self.options, "./Maildir/")

    def queued(self) -> int:
        return count_files(f"{self.home}/queue/mess")

    def deferrals(self) -> int:
        """Return how many deliveries were put off so far."""
        return count_in(self.log, r"^delivery \d+: deferral: ")

    def delivered_locally(self) -> int:
        return count_files(f"{self.home}/home/demo/Maildir/new")

    def clear(self):
        shutil.rmtree(f"{self.home}/home/demo/Maildir/new")
        os.mkdir(f"{self.home}/home/demo/Maildir/new")

    def stop(self):
        for part in reversed(self._parts):
            machine.stop(part)
        self._parts = []


class Postfix:
    """An instance with a configuration, a queue and data of its own.  Needs root.

    Mail is held (and not looked at by its queue manager) until deliver().  Local mail goes by local(8) to the Maildir
    of a system user, local_concurrency at once; its own default is two.
    """

    name = "Postfix"

    local_concurrency = 2
    limits = """default_process_limit = 200
default_destination_concurrency_limit = 100
smtp_destination_concurrency_limit = 100
initial_destination_concurrency = 100
"""

    def __init__(self, folder: str, sink_port: int = 0) -> None:
        self._postfix = tool("postfix", "postfix")
        if os.getuid() != 0:
            raise machine.Missing("Postfix needs root to run")
        self.folder = os.path.join(folder, "postfix")
        self.port, self.log = free_port(), os.path.join(folder, "postfix.log")
        self._config, self._queue, self._data = (os.path.join(self.folder, part) for part in ("etc", "queue", "data"))
        shutil.rmtree(self.folder, ignore_errors=True)
        for part in (self._config, self._queue, self._data, f"{self.folder}/mail"):
            os.makedirs(part)
        shutil.chown(self._data, "postfix")
        shutil.chown(f"{self.folder}/mail", "nobody", "nogroup")
        self._sink = sink_port
        self._configure(holding=True)
        self.local_recipient = "nobody@local.example"

    def _configure(self, holding):
        main = f"""compatibility_level = 3.6
queue_directory = {self._queue}
data_directory = {self._data}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {self.log}
maillog_file_prefixes = {os.path.dirname(self.log)}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = bench.example
mydestination = local.example
mail_spool_directory = {self.folder}/mail/
local_destination_concurrency_limit = {self.local_concurrency}
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
relay_domains = remote.example
transport_maps = inline:{{ remote.example=smtp:[127.0.0.1]:{self._sink} }}
smtpd_recipient_restrictions = {"check_client_access static:HOLD, " if holding else ""}permit_mynetworks, reject
smtpd_peername_lookup = no
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
in_flow_delay = 0
{self.limits}"""
        services = f"""127.0.0.1:{self.port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
        for name, text in (("main.cf", main), ("master.cf", services)):
            with open(f"{self._config}/{name}", "w", encoding="ascii") as file:
                file.write(text)

    def _control(self, *words, check=True):
        return subprocess.run(
            [self._postfix, "-c", self._config, *words],
            check=check,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def accept(self):
        self._control("start")
        until(lambda: machine.accepts(self.port))

    def pass_through(self):
        """From now on mail is not held but delivered at once."""
        self._configure(holding=False)
        self._control("reload")

    def deliver(self):
        subprocess.run(
            [tool("postsuper", "postfix"), "-c", self._config, "-H", "ALL"], check=True, stderr=subprocess.DEVNULL
        )
        self._control("flush")

    def queued(self) -> int:
        return count_files(
            *(f"{self._queue}/{part}" for part in ("incoming", "active", "deferred", "hold", "maildrop"))
        )

    def deferrals(self) -> int:
        return count_in(self.log, " status=deferred ")

    def delivered_locally(self) -> int:
        return count_files(f"{self.folder}/mail/nobody/new")

    def clear(self):
        subprocess.run(
            [tool("postsuper", "postfix"), "-c", self._config, "-d", "ALL"], check=False, stderr=subprocess.DEVNULL
        )
        shutil.rmtree(f"{self.folder}/mail/nobody", ignore_errors=True)

    def stop(self):
        self._control("stop", check=False)


class BusierPostfix(Postfix):
    """The same with as many local deliveries at once as ours has by default."""

    name, local_concurrency = "Postfix with 10 at once", 10


class BusierOurs(Ours):
    """With ten local deliveries at once to one recipient, as BusierPostfix."""

    name = "pyqmail with 10 at once"
    rules = f"{Ours.rules}rcpt=:c=10\n"


class OursInNetwork(Ours):
    """In a network with a name server at 127.0.0.1, under the rules of a new home; many sessions at once."""

    rules = ""
    options = ("--sessions", "2")
    places = 2000

    def __init__(self, folder, sink_port=0) -> None:
        super().__init__(folder, sink_port)
        self.environment["PYQMAIL_DNS"] = "127.0.0.1"
        self._write("concurrencyremote", f"{self.places}\n")
        self._write("rcpthosts", ".test\n")


class DefaultPostfix(Postfix):
    """With the limits that it has by itself; it looks names up."""

    limits = ""


class Postfix300(Postfix):
    """With three hundred processes, all for one destination if that is all there is."""

    name = "Postfix with 300 processes"
    limits = """default_process_limit = 300
smtp_destination_concurrency_limit = 300
default_destination_concurrency_limit = 300
initial_destination_concurrency = 300
"""


def count_in(path, pattern) -> int:
    """Return how many times a pattern stands in a file."""
    if not os.path.exists(path):
        return 0
    with open(path, encoding="ascii", errors="replace") as file:
        return len(re.findall(pattern, file.read(), re.MULTILINE))
