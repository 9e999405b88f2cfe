"""What the tools cost that stand in front of a program, as a row of the table."""

import os
import subprocess
import time

from bench.machine import BIN, PATH


def chain_tools(folder, scale):
    """Milliseconds from the start of each chain tool to the end of a C program behind it; lower is better.

    Beside the bare interpreter with the same C program after it, so that what is more is the tool's own.
    """
    variables, rounds = os.path.join(folder, "env"), max(5, int(40 * scale))
    os.makedirs(variables, exist_ok=True)
    with open(os.path.join(variables, "NAME"), "w", encoding="ascii") as file:
        file.write("value\n")
    chains = {
        "pysetuidgid": [f"{BIN}/pysetuidgid", "nobody" if os.getuid() == 0 else _me()],
        "pyenvdir": [f"{BIN}/pyenvdir", variables],
        "pysoftlimit": [f"{BIN}/pysoftlimit", "-o", "100"],
        "pysetlock": [f"{BIN}/pysetlock", os.path.join(folder, "lock")],
        "bare python": [f"{BIN}/python", "-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"],
    }
    taken = {name: [] for name in chains}
    for _ in range(rounds):  # one after the other in each round: the machine's moods meet all alike
        for name, words in chains.items():
            taken[name].append(_once([*words, "/bin/true"]))
    return {name: sorted(times)[len(times) // 2] for name, times in taken.items()}


def _once(argv):
    began = time.monotonic()
    subprocess.run(argv, env={"PATH": PATH}, check=False, stderr=subprocess.DEVNULL)
    return (time.monotonic() - began) * 1000


def _me():
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
