"""What configured numbers need: tables of limits that no machine has, and the programs' own figures beside ours."""

import pytest

from pyqmail.mail.queue_server.server import Capacity
from pyqmail.operations import sizing
from pyqmail.operations.sizing import Configured, all_needs, manager_needs, new_sessions_a_second
from pyqmail.programs import pylspawn, pyrspawn
from pyqmail.system import fsync_batch
from pyqmail.system.machine_limits import MachineLimits
from pyqmail.tcp.serving import choose

ENOUGH = {
    "ulimit -n": 4000,
    "ulimit -Sn": 1024,
    "fs.nr_open": 1048576,
    "fs.file-max": 1000000,
    "fs.aio-max-nr": 65536,
    "fs.epoll.max_user_watches": 1000000,
    "fs.inotify.max_user_instances": 128,
    "net.core.somaxconn": 4096,
    "net.ipv4.tcp_max_syn_backlog": 2048,
    "net.ipv4.tcp_syncookies": 0,
    "net.ipv4.ip_local_port_range": 28232,
    "MemAvailable": 4_000_000_000,
}


def machine(processes=32768, group=None):
    memory = [] if group is None else [("/sys/fs/cgroup/memory.max", group)]
    return MachineLimits([("kernel.pid_max", processes), ("kernel.threads-max", 100000)], memory, ENOUGH)


def with_limit(source, present):
    return MachineLimits([("kernel.pid_max", 32768)], [], ENOUGH | {source: present})


NUMBERS = Configured(remote=1000, local=100, sessions=2, clients=1000, backlog=1024, workers=2)

NEEDED = {
    ("descriptors of pysend", "ulimit -Sn"): 68,
    ("descriptors of each session process (pyrspawn)", "ulimit -n"): 1040,
    ("descriptors of pylspawn", "ulimit -n"): 440,
    ("descriptors of each worker of pytcpserver", "ulimit -n"): 564,
    ("descriptors of pyqueued", "ulimit -n"): 937,
    ("processes", "kernel.pid_max"): 226,
    ("processes", "kernel.threads-max"): 226,
    ("local ports to one address", "net.ipv4.ip_local_port_range"): 1000,
    ("connections that wait to be accepted", "net.core.somaxconn"): 1024,
    ("half-open connections", "net.ipv4.tcp_max_syn_backlog"): 1024,
    ("open files of all", "fs.file-max"): 3712,
    ("descriptors of any process", "fs.nr_open"): 1040,
    ("files on their way to disk", "fs.aio-max-nr"): 256,
    ("watched descriptors of a user", "fs.epoll.max_user_watches"): 3712,
    ("watchers of files of a user", "fs.inotify.max_user_instances"): 3,
    ("bytes of memory", "MemAvailable"): 347_000_000,
    ("bytes of memory of the control group", "/sys/fs/cgroup/memory.max"): 347_000_000,
}


def test_what_is_needed():
    needs = all_needs(NUMBERS, machine(group=1 << 30))
    assert {(need.name, need.source): need.needed for need in needs} == NEEDED
    assert not any(need.is_short for need in needs)


SHORT = [
    # limit                            present  what is said to raise it
    ("ulimit -n",                      1039,    ["ulimit -n 1040"]),
    ("ulimit -Sn",                     67,      ["ulimit -n 68"]),
    ("fs.nr_open",                     1039,    ["sysctl -w fs.nr_open=1040"]),
    ("fs.file-max",                    3711,    ["sysctl -w fs.file-max=3712"]),
    ("fs.aio-max-nr",                  255,     ["sysctl -w fs.aio-max-nr=256"]),
    ("fs.epoll.max_user_watches",      3711,    ["sysctl -w fs.epoll.max_user_watches=3712"]),
    ("fs.inotify.max_user_instances",  2,       ["sysctl -w fs.inotify.max_user_instances=3"]),
    ("net.core.somaxconn",             1023,    ["sysctl -w net.core.somaxconn=1024"]),
    ("net.ipv4.tcp_max_syn_backlog",   1023,    ["sysctl -w net.ipv4.tcp_max_syn_backlog=1024"]),
    ("net.ipv4.ip_local_port_range",   999,     ['sysctl -w net.ipv4.ip_local_port_range="1024 65535"']),
    ("MemAvailable",                   346_999_999, [""]),
]  # fmt: skip


@pytest.mark.parametrize("source, present, raised", SHORT, ids=lambda value: value if isinstance(value, str) else "")
def test_each_limit_that_is_short_has_its_command(source, present, raised):
    assert [need.command for need in all_needs(NUMBERS, with_limit(source, present)) if need.is_short] == raised


@pytest.mark.parametrize("source", ENOUGH)
def test_what_is_unknown_is_not_short(source):
    needs = all_needs(NUMBERS, with_limit(source, None))
    assert not any(need.is_short for need in needs)
    assert source == "net.ipv4.tcp_syncookies" or any(need.present is None for need in needs)


def test_with_cookies_half_open_connections_need_no_room():
    limits = MachineLimits([], [], ENOUGH | {"net.ipv4.tcp_syncookies": 1, "net.ipv4.tcp_max_syn_backlog": 16})
    assert not any(need.is_short for need in all_needs(NUMBERS, limits))


def test_processes_are_short():
    short = [need for need in all_needs(NUMBERS, machine(processes=225)) if need.is_short]
    assert [(need.present, need.command) for need in short] == [(225, "sysctl -w kernel.pid_max=226")]


def test_memory_of_the_control_group_is_short():
    short = [need for need in all_needs(NUMBERS, machine(group=300_000_000)) if need.is_short]
    assert [need.command for need in short] == ["echo 347000000 >/sys/fs/cgroup/memory.max"]


def test_an_agent_is_a_process_and_four_descriptors():
    needs = manager_needs(Configured(remote=1000, local=10, sessions=1, has_agent=True), machine())
    found = {need.name: need.needed for need in needs}
    assert found["descriptors of each session process (pyrspawn)"] == 4040
    assert found["processes"] == 1027


@pytest.mark.parametrize(
    "remote, sources, is_short, command",
    [
        (28232, 1, False, 'sysctl -w net.ipv4.ip_local_port_range="1024 65535"'),
        (28233, 1, True, 'sysctl -w net.ipv4.ip_local_port_range="1024 65535"'),
        (70000, 1, True, ""),  # no port range is enough
        (70000, 3, False, 'sysctl -w net.ipv4.ip_local_port_range="1024 65535"'),
    ],
)
def test_ports_are_those_of_each_source_address(remote, sources, is_short, command):
    needs = manager_needs(Configured(remote=remote, local=10, sessions=1, sources=sources), machine())
    (ports,) = [need for need in needs if "ports" in need.name]
    assert (ports.is_short, ports.command) == (is_short, command)


@pytest.mark.parametrize("remote, rate", [(0, 470), (1000, 453), (28232, 0), (30000, 0)])
def test_ports_of_ended_sessions_bound_new_ones(remote, rate):
    assert new_sessions_a_second(Configured(remote=remote, local=10, sessions=1), machine()) == rate


def test_the_figures_are_those_of_the_programs():
    assert (sizing.BESIDE, sizing.FOR_SESSION) == (pyrspawn.FILES_BESIDE, pyrspawn.FILES_FOR_SESSION)
    assert sizing.FOR_AGENT == pyrspawn.FILES_FOR_AGENT
    assert (sizing.BESIDE, sizing.FOR_LOCAL) == (pylspawn.FILES_BESIDE, pylspawn.FILES_FOR_ONE)
    assert sizing.OF_WORKER == choose._SPARE_DESCRIPTORS
    assert sizing.FLUSHED_FILES == fsync_batch.MAX_FILES


@pytest.mark.parametrize("connections", [1, 4, 20, 100, 500, 2000, 5000])
def test_pyqueued_has_so_many_connections_with_what_it_is_said_to_need(connections):
    assert Capacity(sizing.queue_descriptors(connections)).connections >= connections
