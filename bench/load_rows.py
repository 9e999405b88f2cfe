"""The load tools against themselves, Postfix's beside them.

Only one tool changes at a time: ours sends to Postfix's sink, and Postfix's source to ours, so that a figure is the
tool's own.  The CPU seconds of what is measured stand beside its rate: source and sink share the processors.
"""

import json
import os
import resource
import subprocess
import sys
import time

from bench.machine import BIN, accepts, free_port, sink_words, start, stop, tool, until

SESSIONS = 20
HOLD_SECONDS = 30
ADDRESSES = ",".join(f"127.0.1.{number}" for number in range(1, 5))


def source_one(folder, scale):
    """Messages a second, one for each connection, of a source in one process against smtp-sink."""
    return _sources(folder, int(10000 * scale), [f"{BIN}/pysmtpsource"])


def source_four(folder, scale):
    """Likewise in four processes."""
    return _sources(folder, int(10000 * scale), [f"{BIN}/pysmtpsource", "--processes", "4"])


def sink_one(folder, scale):
    """Messages a second, one for each connection, that a sink in one process takes from smtp-source."""
    return _sinks(folder, int(10000 * scale), [f"{BIN}/pysmtpsink"])


def sink_four(folder, scale):
    """Likewise in four processes."""
    return _sinks(folder, int(10000 * scale), [f"{BIN}/pysmtpsink", "--processes", "4"])


def _sources(folder, count, ours):
    figures, port = {}, free_port()
    sink = start(sink_words(f"127.0.0.1:{port}", "1000"), os.path.join(folder, "sink.log"))
    try:
        until(lambda: accepts(port))
        for name, words in (("ours", ours), ("smtp-source", [tool("smtp-source", "postfix")])):
            figures |= _send(name, [*words, "-s", str(SESSIONS), "-m", str(count), f"127.0.0.1:{port}"], count)
    finally:
        stop(sink)
    return dict(sorted(figures.items(), key=lambda figure: "cpu" in figure[0]))  # the rates first


def _send(name, argv, count):
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {name: count / seconds, f"{name} cpu ms for a message": 1000 * used / count}


def _sinks(folder, count, ours):
    figures = {}
    for name, words in (("ours", ours), ("smtp-sink", sink_words())):
        port = free_port()
        sink = start([*words, f"127.0.0.1:{port}", "1000"], os.path.join(folder, "sink.log"))
        try:
            until(lambda port=port: accepts(port))
            began = time.monotonic()
            source = [tool("smtp-source", "postfix"), "-s", str(SESSIONS), "-m", str(count), f"127.0.0.1:{port}"]
            subprocess.run(source, check=True)
            figures[name] = count / (time.monotonic() - began)
        finally:
            stop(sink)
    return figures


def held(folder, scale):
    """Connections that two processes of our source and two of our sink hold at once, and their CPU seconds together."""
    count, port = int(20000 * scale), free_port()
    words = [f"{BIN}/pysmtpsink", "--json", "--processes", "2", "-W", f"DATA:{HOLD_SECONDS}", f":{port}", "4096"]
    with open(os.path.join(folder, "held.json"), "wb") as out:
        sink = subprocess.Popen([sys.executable, *words], stdout=out)
        try:
            until(lambda: accepts(port))
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            sizes = ["-s", str(count), "-m", str(count), "--processes", "2", "--local", ADDRESSES]
            subprocess.run([f"{BIN}/pysmtpsource", *sizes, f"127.0.0.1:{port}"], check=True, stdout=subprocess.DEVNULL)
        finally:
            stop(sink)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(os.path.join(folder, "held.json"), "rb") as file:
        counted = json.load(file)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"held at once": counted["sessions_most"], "messages": counted["messages"], "cpu seconds of all": used}


LOAD_ROWS = {
    "load-source-one": (source_one, ">= 0.5 x smtp-source"),
    "load-source-four": (source_four, ">= 1 x smtp-source"),
    "load-sink-one": (sink_one, ">= 0.5 x smtp-sink"),
    "load-sink-four": (sink_four, ">= 1 x smtp-sink"),
    "load-held": (held, "20,000 held"),
}
