"""Work in a network of its own, where every address of 10.0.0.0/8 and 198.18.0.0/15 is there and is no interface's.

networked(function) is a row that runs so: function(folder, scale) -> {peer: figure} in a child, which is
`python -m bench.networked MODULE:FUNCTION FOLDER SCALE`.  As root, /etc/resolv.conf names 127.0.0.1 there.
"""

import functools
import importlib
import json
import os
import subprocess
import sys

from bench.machine import ROOT, Missing, tool

_LINK = """ip link set lo up && ip route add local 198.18.0.0/15 dev lo && ip route add local 10.0.0.0/8 dev lo &&
echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range && """
_NAMES = (
    """names=$(mktemp) && echo nameserver 127.0.0.1 >$names && mount --bind $names /etc/resolv.conf && rm $names && """
)
_EXECUTE = 'exec "$@"'


def words_of_network() -> list[str]:
    """Return the words before a command that is to run in a network of its own.  Raises Missing.

    Root needs no namespace of users, in which a program could become nobody else.
    """
    for name, package in (("unshare", "util-linux"), ("ip", "iproute2")):
        tool(name, package)
    kinds = [(["unshare", "-rn"], _LINK)]
    if os.getuid() == 0:
        kinds.insert(0, (["unshare", "-nm"], _LINK + _NAMES))
    for words, setting_up in kinds:
        made = [*words, "sh", "-c", setting_up + _EXECUTE, "sh"]
        tried = subprocess.run([*made, "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return made
    raise Missing(f"no network namespace: {tried.stderr.decode(errors='replace').strip()}")


def networked(function):
    """Return the row that runs function(folder, scale), of a module, in a network of its own.  Raises Missing."""

    @functools.wraps(function)
    def run(folder, scale):
        place = f"{function.__module__}:{function.__name__}"
        words = [*words_of_network(), sys.executable, "-m", "bench.networked", place, folder, str(scale)]
        done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        answer = json.loads(done.stdout)
        if "missing" in answer:
            raise Missing(answer["missing"])
        return answer

    return run


def main() -> int:
    place, folder, scale = sys.argv[1:]
    module, _, name = place.partition(":")
    try:
        answer = getattr(importlib.import_module(module), name)(folder, float(scale))
    except Missing as what:
        answer = {"missing": str(what)}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
