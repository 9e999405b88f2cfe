"""What the configured numbers need of the machine, as rows: pure, numbers in, rows out (base/shortages.py).

    sessions     concurrencyremote of them, spread over the session processes; two descriptors each, four behind
                 another's agent; one port each, at worst all to one address
    deliveries   concurrencylocal of them: four descriptors in pylspawn; a process for the user, and his program
    clients      -c of pytcpserver, spread over its workers: a descriptor each; a connection to pyqueued for each worker
    backlog      -b of pytcpserver: the kernel cuts it down to net.core.somaxconn, and says nothing

The descriptors of each are those that the programs count with themselves; the tests hold them beside each other.
Bytes are measured: all services idle 96 MB, pystart and its parts 50 MB of that (shared pages counted once); a client
without a message 4 kB, a delivery to another host 17 kB with 200 under way (12 with 2,000), a user's process for
deliveries 2.3 MB.  What the programs of users and other agents need, and messages that are on their way, is not among
them.
"""

from pyqmail.base.shortages import DESCRIPTORS, Need, descriptor_command, raising_command
from pyqmail.system.machine_limits import MOST_PORTS, PORTS, SOFT_DESCRIPTORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.system.machine_limits import MachineLimits

ALL_BYTES, MANAGER_BYTES = 96_000_000, 50_000_000
CLIENT_BYTES, SESSION_BYTES, USER_BYTES = 4_000, 17_000, 2_300_000
OF_PYSEND = 64  # 20 when idle, and what is asked and read meanwhile
BESIDE, FOR_SESSION, FOR_AGENT, FOR_LOCAL = 40, 2, 4, 4
OF_WORKER = 64
MANAGER_PROCESSES = 6  # pysend, the starter, pylspawn, pyclean, pyresolve, and one for a question
OTHER_PROCESSES = 16  # pyqueued and its copies, pytcpserver, supervisors and logs
FLUSHED_FILES = 256  # that pyqueued has under way to disk
INOTIFY_INSTANCES = 3  # pysend, pysvscan, and one that waits for a service


class Configured:
    """The numbers of a home.

    remote, local    deliveries at once, of each channel
    sessions         remote session processes
    has_agent        each session is a process of its own: pyremote's with --classic, or another's
    clients, backlog, workers   -c, -b and --workers of pytcpserver
    sources          addresses of ours that sessions come from
    """

    __slots__ = ("remote", "local", "sessions", "has_agent", "clients", "backlog", "workers", "sources")

    def __init__(
        self, remote: int, local: int, sessions: int, has_agent: bool = False,
        clients: int = 0, backlog: int = 0, workers: int = 1, sources: int = 1,
    ) -> None:  # fmt: skip
        self.remote, self.local, self.sessions, self.has_agent = remote, local, sessions, has_agent
        self.clients, self.backlog, self.workers, self.sources = clients, backlog, max(1, workers), sources


def manager_needs(numbers: Configured, limits: "MachineLimits") -> list[Need]:
    """Return what pystart and its parts need."""
    return [
        *_manager_descriptors(numbers, limits),
        *_processes(_manager_processes(numbers), limits),
        _ports(numbers, limits),
        *_memory(MANAGER_BYTES + _manager_bytes(numbers), limits),
    ]


def all_needs(numbers: Configured, limits: "MachineLimits") -> list[Need]:
    """Return what all services of a home need."""
    processes = _manager_processes(numbers) + OTHER_PROCESSES + numbers.workers
    return [
        *_manager_descriptors(numbers, limits),
        *_door_descriptors(numbers, limits),
        *_processes(processes, limits),
        _ports(numbers, limits),
        *_backlog(numbers, limits),
        *_files(numbers, limits),
        *_memory(ALL_BYTES + _manager_bytes(numbers) + numbers.clients * CLIENT_BYTES, limits),
    ]


def new_sessions_a_second(numbers: Configured, limits: "MachineLimits") -> int | None:
    """Return how many sessions to one address can begin in a second beside all those that are open.

    A port is free again 60 seconds after we have closed its session.  None: unknown.
    """
    ports = limits.present(PORTS)
    return None if ports is None else max(0, ports * numbers.sources - numbers.remote) // 60


def _manager_descriptors(numbers, limits):
    each = FOR_AGENT if numbers.has_agent else FOR_SESSION
    sending = BESIDE + each * -(-numbers.remote // numbers.sessions)
    return [
        _descriptors("pysend", OF_PYSEND + 2 * numbers.sessions, limits, SOFT_DESCRIPTORS),
        _descriptors("each session process (pyrspawn)", sending, limits),
        _descriptors("pylspawn", BESIDE + FOR_LOCAL * numbers.local, limits),
    ]


def _door_descriptors(numbers, limits):
    worker = OF_WORKER + -(-numbers.clients // numbers.workers)
    return [
        _descriptors("each worker of pytcpserver", worker, limits),
        _descriptors("pyqueued", queue_descriptors(numbers.workers + numbers.local + 2), limits),
    ]


def queue_descriptors(connections: int) -> int:
    """Return how many descriptors let pyqueued have so many connections of ours: three each, beside its shares."""
    return (3 * connections + 264) * 8 // 5 + 16


def _descriptors(name, needed, limits, source=DESCRIPTORS):
    command = descriptor_command(needed, limits.present("fs.nr_open"))
    return Need(f"descriptors of {name}", needed, limits.present(source), source, command)


def _manager_processes(numbers):
    return MANAGER_PROCESSES + numbers.sessions + 2 * numbers.local + (numbers.remote if numbers.has_agent else 0)


def _processes(needed, limits):
    return [
        Need("processes", needed, present, source, raising_command(source, needed))
        for source, present in limits.processes
    ]


def _ports(numbers, limits):
    ports = limits.present(PORTS)
    present = None if ports is None else ports * numbers.sources
    can = numbers.remote <= MOST_PORTS * numbers.sources
    command = f'sysctl -w {PORTS}="{65536 - MOST_PORTS} 65535"' if can else ""
    return Need("local ports to one address", numbers.remote, present, PORTS, command)


def _backlog(numbers, limits):
    return [
        _sysctl("connections that wait to be accepted", numbers.backlog, limits, "net.core.somaxconn"),
        # with cookies the kernel needs no room for a connection that is half open
        _sysctl(
            "half-open connections",
            0 if limits.present("net.ipv4.tcp_syncookies") else numbers.backlog,
            limits,
            "net.ipv4.tcp_max_syn_backlog",
        ),
    ]


def _files(numbers, limits):
    each = FOR_AGENT if numbers.has_agent else FOR_SESSION
    sockets = each * numbers.remote + FOR_LOCAL * numbers.local + numbers.clients
    beside = OF_PYSEND + BESIDE * (1 + numbers.sessions) + OF_WORKER * numbers.workers
    largest = max(need.needed for need in (*_manager_descriptors(numbers, limits), *_door_descriptors(numbers, limits)))
    return [
        _sysctl("open files of all", sockets + beside, limits, "fs.file-max"),
        _sysctl("descriptors of any process", largest, limits, "fs.nr_open"),
        _sysctl("files on their way to disk", FLUSHED_FILES, limits, "fs.aio-max-nr"),
        _sysctl("watched descriptors of a user", sockets + beside, limits, "fs.epoll.max_user_watches"),
        _sysctl("watchers of files of a user", INOTIFY_INSTANCES, limits, "fs.inotify.max_user_instances"),
    ]


def _sysctl(name, needed, limits, source):
    return Need(name, needed, limits.present(source), source, raising_command(source, needed))


def _manager_bytes(numbers):
    return numbers.remote * SESSION_BYTES + numbers.local * USER_BYTES


def _memory(needed, limits):
    free = Need("bytes of memory", needed, limits.present("MemAvailable"), "MemAvailable", "")
    groups = [
        Need("bytes of memory of the control group", needed, present, source, raising_command(source, needed))
        for source, present in limits.memory
    ]
    return [free, *groups]
