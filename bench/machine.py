"""What the rows need of the machine: a place on a real disk, tools, processes that are surely stopped."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.join(ROOT, ".venv", "bin")
PATH = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Missing(Exception):
    """A row cannot be run here: the text says what is not installed."""


def tool(name: str, package: str) -> str:
    """Return the path of an installed program.  Raises Missing, naming the package that has it."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise Missing(f"{name} is not installed (package {package})")
    return found


def build(name: str, folder: str) -> str:
    """Compile bench/NAME.c into folder and return the program's path.  Raises Missing without a compiler."""
    made = os.path.join(folder, name)
    if not os.path.exists(made):
        subprocess.run([tool("cc", "gcc"), "-O2", "-o", made, os.path.join(ROOT, "bench", f"{name}.c")], check=True)
    return made


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start(argv, log, **environment) -> subprocess.Popen:
    """Start a program in a session of its own, its output appended to the file log."""
    with open(log, "ab") as out:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={"PATH": PATH, **environment},
        )


def sink_words(*words: str) -> list[str]:
    """Return how to start smtp-sink: as root it wants to become somebody else.  Raises Missing."""
    return [tool("smtp-sink", "postfix"), *(["-u", "nobody"] if os.getuid() == 0 else []), *words]


def stop(process: subprocess.Popen) -> None:
    """TERM the program, KILL its whole session after five seconds."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def until(question, seconds=120.0, pause=0.01):
    """Ask until the answer is true and return it; SystemExit when it does not become so."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(pause)
    sys.exit("bench: it did not come to an end")


def accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def count_files(*folders: str) -> int:
    """Return how many plain files stand below the folders."""
    return sum(len(files) for folder in folders for _, _, files in os.walk(folder))


def send(port, count, sessions, recipient, keep_open=False, size=2048) -> float:
    """Send count messages with smtp-source; returns the seconds it took."""
    argv = [
        tool("smtp-source", "postfix"),
        "-s",
        str(sessions),
        "-m",
        str(count),
        "-l",
        str(size),
        "-f",
        "from@bench.example",
        "-t",
        recipient,
    ]
    began = time.monotonic()
    subprocess.run(
        [*argv, *(["-d"] if keep_open else []), f"inet:127.0.0.1:{port}"], check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - began


def memory_kb(pids) -> int:
    """Return the proportional set size of the processes, added up."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return total


def session_pids(leader: int) -> list[int]:
    """Return the pids of all processes in the session that `leader` started."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                if int(file.read().rpartition(")")[2].split()[3]) == leader:
                    found.append(int(name))
        except OSError:
            continue
    return found
