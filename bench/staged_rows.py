"""Mail for destinations that limit sessions, are half silent, or dead: ours beside Postfix, both with their defaults.

Both send to the same staged servers (bench/servers), in a network of its own; what counts is what these have counted.
"""

import os
import time

from bench.machine import sink_words, start, stop, until
from bench.mailing import send_mail
from bench.networked import networked
from bench.servers.staged import Staged
from bench.systems import DefaultPostfix, OursInNetwork

SYSTEMS = OursInNetwork, DefaultPostfix
GIVEN_UP = 300.0  # seconds


def staged(*lines, **how):
    """Return Staged servers at port 25, with a name server at 127.0.0.1."""
    return Staged(*lines, port=25, names="127.0.0.1:53", **how)


def host(address: str, *labels: str) -> str:
    """Return a domain whose mail goes to one address."""
    return ".".join([*labels, "h" + address.replace(".", "-"), "test"])


def filled(make, folder, recipients, **how):
    """Return a system that has mail for all recipients in its queue, and has not begun to send it."""
    system = make(folder)
    system.accept()
    send_mail(system.port, recipients, **how)
    return system


def five_sessions(folder, scale):
    """Deferred deliveries: a thousand messages of 0.2 s for a server that takes five sessions at once."""
    count, figures = int(1000 * scale), {}
    recipients = [f"u{n}@{host('198.18.0.1', 'd')}" for n in range(count)]
    for make in SYSTEMS:
        servers = staged("session-limit limit=5 seconds=0.2 198.18.0.1")
        system = filled(make, folder, recipients)
        try:
            system.deliver()
            until(
                lambda: _messages(servers) + system.deferrals() >= count or system.queued() == 0,  # noqa: B023
                GIVEN_UP,
            )
            figures[system.name] = system.deferrals()
            (counts,) = servers.counts().values()
            figures[f"{system.name} refused"] = counts["refused"]
        finally:
            system.stop()
            servers.close()
    return figures


def one_of_two(folder, scale):
    """Messages a second in the first minute, of half a second each, to two hosts of which one never greets."""
    seconds, figures = 60 * scale, {}
    recipients = [f"u{n}@d.h198-18-0-1.h198-18-0-2.test" for n in range(int(2400 * scale))]
    for make in SYSTEMS:
        servers = staged("takes-all seconds=0.5 198.18.0.1", "silent 198.18.0.2")
        system = filled(make, folder, recipients)
        try:
            system.deliver()
            time.sleep(seconds)
            figures[system.name] = _messages(servers) / seconds
        finally:
            system.stop()
            servers.close()
    return figures


def dead(folder, scale):
    """Seconds to the last delivery to healthy ones of 2,000 domains, of which one never greets; lower is better."""
    return _last_healthy(folder, int(2000 * scale), 1)


def third_dead(folder, scale):
    """The same with 600 that never greet, ten messages for each."""
    return _last_healthy(folder, int(2000 * scale), int(600 * scale))


def _last_healthy(folder, sites, silent):
    figures, each = {}, 10
    names = [f"10.{n >> 8}.{n & 255}.1" for n in range(sites)]
    dead_ones = set(range(0, sites, sites // silent)[:silent])
    good = [name for n, name in enumerate(names) if n not in dead_ones]
    bad = [name for n, name in enumerate(names) if n in dead_ones]
    recipients = [f"u{n}@{host(name, 'd')}" for n in range(each) for name in names]
    for make in SYSTEMS:
        servers = staged(f"takes-all {' '.join(good)}", f"silent {' '.join(bad)}")
        system = filled(make, folder, recipients, each=1)
        try:
            began = time.monotonic()
            system.deliver()
            try:
                until(lambda: _messages(servers) == each * len(good), GIVEN_UP, 0.2)  # noqa: B023
            except SystemExit:
                figures[system.name] = GIVEN_UP
            else:
                figures[system.name] = servers.arrivals(f"takes-all@{good[0]}")[-1][0] - began
        finally:
            system.stop()
            servers.close()
    return figures


def _messages(servers):
    return sum(counts["messages"] for counts in servers.counts().values())


def drain_domains(folder, scale):
    """Messages a second out of a full queue to 5,000 domains in networks of their own, with one instant peer."""
    count, figures = int(5000 * scale), {}
    recipients = [f"u@{host(f'10.{n >> 8}.{n & 255}.1', f'd{n}')}" for n in range(count)]
    names = Staged("takes-all 127.0.0.9", names="127.0.0.1:53")
    sink = start(sink_words("inet:0.0.0.0:25", "4000"), os.path.join(folder, "sink.log"))
    try:
        for make in SYSTEMS:
            system = filled(make, folder, recipients)
            try:
                began = time.monotonic()
                system.deliver()
                until(lambda: system.queued() == 0, GIVEN_UP)  # noqa: B023
                figures[system.name] = count / (time.monotonic() - began)
            finally:
                system.stop()
    finally:
        stop(sink)
        names.close()
    return figures


STAGED_ROWS = {
    "destinations-five": (networked(five_sessions), "ours 0"),
    "destinations-half": (networked(one_of_two), ">= 2 x Postfix"),
    "destinations-dead": (networked(dead), "<= Postfix"),
    "destinations-third": (networked(third_dead), "<= 120 s"),
    "drain-domains": (networked(drain_domains), ">= 1.5 x Postfix"),
}
