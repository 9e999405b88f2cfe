"""python -m bench [--runs N] [--scale X] [--dir FOLDER] [ROW ...]: print ours beside the peers, medians of N runs.

The folder should be on a real disk, not tmpfs.  Nothing is installed; a row whose tools are missing says so.
"""

import argparse
import os
import statistics
import sys

from bench.machine import ROOT, Missing
from bench.rows import ROWS, remove


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=" ".join(ROWS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="how many messages, 1 is 3000")
    parser.add_argument("--dir", default=os.path.join(ROOT, ".bench"))
    options = parser.parse_args()
    for name in set(options.rows) - set(ROWS):
        parser.error(f"no such row: {name}")
    os.makedirs(options.dir, exist_ok=True)
    missing = 0
    print(f"{'row':16} {'figures, medians of ' + str(options.runs) + ' (all runs)':70} {'ratio':>7}  bar")
    for name in options.rows or ROWS:
        work, bar = ROWS[name]
        try:
            runs = [work(options.dir, options.scale) for _ in range(options.runs)]
        except Missing as what:
            print(f"{name:16} not run: {what}")
            missing += 1
            continue
        print(line(name, runs, bar), flush=True)
    remove(options.dir)
    return 1 if missing else 0


def line(name, runs, bar) -> str:
    """Return the row: each peer's median and all its runs, and the median of the ratios of ours to the first peer's."""
    peers = list(runs[0])
    texts = [f"{peer} {statistics.median(run[peer] for run in runs):.5g} ({' '.join(f'{run[peer]:.4g}' for run in runs)})" for peer in peers]
    ratio = statistics.median(run[peers[0]] / run[peers[1]] for run in runs) if len(peers) > 1 else 1
    return f"{name:16} {', '.join(texts):70} {ratio:7.2f}  {bar}"


if __name__ == "__main__":
    sys.exit(main())
