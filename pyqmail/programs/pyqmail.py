"""The command for people: run a private mail system, make a home, print systemd's units and limits, render manuals.

`pyqmail run` makes a private home if it is missing, starts every service under pysvscan, sends one message to the
local user over SMTP, shows how it was delivered and stays in the foreground until Ctrl-C.  `pyqmail send` sends another
message, from standard input.

`pyqmail home DIR` makes a home that is not private, for example /var/qmail: what the original's installer and its
config make, the directory of services, and with --users the users and groups.

`pyqmail units` prints a .service for each directory of services in DIR, by default of those that come with pyqmail.  A
unit executes the directory's script run, as it is; the journal gets its output.  log/run, finish, down-signal and the
other files of pysupervise(8) are not used: a comment in the unit names those that exist.  systemd restarts the service
a second after its end, stops its main process alone, and waits until the service is ready if the service can report
that.  Root starts services, and they give up their rights themselves; in a private home (PYQMAIL_HOME) they run as its
owner.

Variables that a script reads (SMTP_ADDRESS, SMTP_PORT, SMTP_LIMIT) are written into the unit if they are set.  Do not
enable a unit whose directory has a file down.  The unit of a service of ours takes away what the service does not need;
with a foreign QMAILQUEUE remove those lines.  A restart of a listener lets its connections go on to their end; one of
pysend waits up to 20 minutes for deliveries.  With --sockets systemd listens for pysmtpd, as root, and still listens
while pysmtpd is restarted.

`pyqmail limits` prints what the numbers of the qmail home need of this machine, what there is, where that comes from,
and the command that raises what is short: descriptors, processes, ports, backlog, memory.  A limit that cannot be read
is unknown, and no shortage.  The limits of descriptors and processes are those of the shell that runs it: `ulimit`
belongs into the script run of a service, where systemd is not the supervisor (LimitNOFILE, LimitNPROC), and `sysctl -w`
lasts until the next boot unless /etc/sysctl.conf has the line, too.  pystart and pytcpserver log at their start what
is short for them.
"""

import sys

import click

import pyqmail
from pyqmail.base.environment import DEFAULTS
from pyqmail.base.options import Declaration


def main(argv: list[str]) -> int:
    try:
        return command.main(argv[1:], prog_name="pyqmail", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Abort:
        return 130


@click.group(help=__doc__)
@click.version_option(pyqmail.__version__, prog_name="pyqmail", message="%(prog)s %(version)s")
def command() -> None:
    pass


@command.command(help="Render man/ from the programs' declarations.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a page is not up to date.")
def man(check: bool) -> int:
    from pyqmail.operations import manuals
    from pyqmail.programs import registry

    return manuals.render([registry.load(name) for name in registry.names()], check)


_address = click.option(
    "--address",
    envvar="SMTP_ADDRESS",
    default=DEFAULTS["SMTP_ADDRESS"],
    help=f"Where SMTP listens, as for pytcpserver(8); default {DEFAULTS['SMTP_ADDRESS']}.",
)


def _port(lowest: int, meaning: str):
    return click.option(
        "--port",
        envvar="SMTP_PORT",
        show_envvar=True,
        default=int(DEFAULTS["SMTP_PORT"]),
        type=click.IntRange(lowest, 65535),
        help=meaning,
    )


@command.command(help="Run everything in a private home, $PYQMAIL_HOME or ./var, in the foreground.")
@click.option("--once", is_flag=True, help="Stop after the first message has arrived.")
@_address
@_port(0, "SMTP port; 0: a free one.")
def run(once: bool, address: str, port: int) -> int:
    from pyqmail.operations import quickstart

    return quickstart.run(once, address, port, _load)


@command.command(
    help="Send the message on standard input to each RECIPIENT through the SMTP port of `pyqmail run`.  "
    "Date, Message-ID, From and To are added if the header lacks them."
)
@_address
@_port(1, "SMTP port.")
@click.option(
    "--sender", help="Envelope sender; empty is the null sender.  Default: the user of a private home, otherwise you."
)
@click.argument("recipients", nargs=-1, required=True)
def send(address: str, port: int, sender: str | None, recipients: tuple[str, ...]) -> int:
    from pyqmail.operations import quickstart

    return quickstart.send(address, port, sender, recipients, sys.stdin.buffer.read())


@command.command(
    help="Make a home with qmail's users at DIR, or complete one: users, queue, control, alias, run and services, with "
    "their owners and modes.  What exists is kept.  Root only."
)
@click.option("--users", is_flag=True, help="Make the users and groups that are missing, with useradd and groupadd.")
@click.argument("directory", metavar="DIR")
def home(users: bool, directory: str) -> int:
    from pyqmail.operations import real_home

    return real_home.make(directory, users, _load)


@command.command(help="Print systemd's units for the directories of services in DIR.")
@click.option("--to", "destination", help="Write them into this directory instead.")
@click.option("--user", is_flag=True, help="For systemd's manager of one user, not the system's.")
@click.option(
    "--sockets", is_flag=True, help="Let systemd listen: a .socket beside each service that it can be had for."
)
@click.argument("directory", required=False, metavar="[DIR]")
def units(destination: str | None, user: bool, sockets: bool, directory: str | None) -> int:
    from pyqmail.operations import systemd_units as systemd

    return systemd.show(directory, destination, user, sockets, _load)


@command.command(help="Print what the numbers of the qmail home need of this machine; exit 1 if something is short.")
@click.option("--json", "is_json", is_flag=True, help="Print it as JSON.")
@click.option(
    "--sessions",
    default=1,
    type=click.IntRange(1, 64),
    help="Remote session processes, as for pystart(8); default 1.",
)
@click.option(
    "--clients",
    envvar="SMTP_LIMIT",
    default=int(DEFAULTS["SMTP_LIMIT"]),
    type=click.IntRange(0),
    help=f"Clients at once, as -c of pytcpserver(8); default SMTP_LIMIT or {DEFAULTS['SMTP_LIMIT']}.",
)
@click.option(
    "--backlog",
    envvar="SMTP_BACKLOG",
    default=int(DEFAULTS["SMTP_BACKLOG"]),
    type=click.IntRange(0),
    help=f"Connections that wait, as -b of pytcpserver(8); default SMTP_BACKLOG or {DEFAULTS['SMTP_BACKLOG']}.",
)
@click.option("--sources", default=1, type=click.IntRange(1), help="Addresses of ours to send from; default 1.")
@click.option("--agent", is_flag=True, help="Another program than ours delivers remotely: QMAILREMOTE.")
def limits(is_json: bool, sessions: int, clients: int, backlog: int, sources: int, agent: bool) -> int:
    from pyqmail.operations import limits as report

    return report.show(is_json, sessions, clients, backlog, sources, agent)


def _options(name):
    """Return (form, meaning) of each option of a command, for the manual."""
    parameters = [one for one in command.commands[name].params if isinstance(one, click.Option)]
    return [(one.opts[0] if one.is_flag else f"{one.opts[0]} {one.name[0].upper()}", one.help) for one in parameters]


def _load(name: str):
    """Return the module of a program: what programs/registry.py does, without which --help does."""
    from pyqmail.programs import registry

    return registry.load(name)


PROGRAM = Declaration(
    name="pyqmail",
    summary="run a private mail system; make a home; print systemd's units, or limits; render the manual pages",
    usage="pyqmail --version | pyqmail run [ --once ] [ --address A ] [ --port P ] | "
    "pyqmail send [ --address A ] [ --port P ] [ --sender S ] recipient ... | pyqmail home [ --users ] DIR | "
    "pyqmail units [ --to D ] [ --user ] [ --sockets ] [ DIR ] | "
    "pyqmail limits [ --json ] [ --sessions N ] [ --clients N ] [ --backlog N ] [ --sources N ] [ --agent ] | "
    "pyqmail man [ --check ]",
    notes=[(f"Options of {name}", _options(name)) for name in ("run", "send", "home", "units", "limits", "man")],
    environment=["PYQMAIL_HOME", "SMTP_ADDRESS", "SMTP_BACKLOG", "SMTP_LIMIT", "SMTP_PORT"],
    exits={
        0: "done",
        1: "the message did not arrive, a limit is too low, or a page is not up to date",
        2: "wrong usage",
        100: "permanent error, for example no services in DIR",
        111: "temporary error: something could not be started, or written",
    },
    see=["pysvscan(8)", "pytcpserver(8)", "pysmtpd(8)", "pyqueued(8)", "pystart(8)", "pyqmail-differences(7)"],
)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
