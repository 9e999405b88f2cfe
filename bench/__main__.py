"""python -m bench [--runs N] [--scale X] [--dir FOLDER] [ROW ...]: print ours beside the peers, medians of N runs.

Each run has a file system of its own, so that no run finds what another left: as root an ext4 image with a
journal below the folder, on a loop device; otherwise, or with --no-image, a new folder.  The folder should be on
a real disk, not tmpfs.  Nothing is installed; a row whose tools are missing says so.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from contextlib import contextmanager

from bench.machine import ROOT, Missing
from bench.rows import ROWS, remove


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=" ".join(ROWS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="how many messages, 1 is 3000")
    parser.add_argument("--dir", default=os.path.join(ROOT, ".bench"))
    parser.add_argument("--no-image", action="store_true", help="run in a folder, not in an ext4 image")
    options = parser.parse_args()
    for name in options.rows:
        if not rows_of(name):
            parser.error(f"no such row: {name}")
    chosen = [row for name in options.rows for row in rows_of(name)] or ROWS
    image = not options.no_image and os.getuid() == 0 and shutil.which("mkfs.ext4") is not None
    print(
        f"file system: {'a new ext4 image with a journal for each run' if image else 'a folder below ' + options.dir}"
    )
    print(f"{'row':16} {'figures, medians of ' + str(options.runs) + ' (all runs)':76} {'ratio':>7}  bar")
    missing = 0
    for name in chosen:
        work, bar = ROWS[name]
        try:
            print(line(name, [measure(options, image, work, run) for run in range(options.runs)], bar), flush=True)
        except Missing as what:
            print(f"{name:16} not run: {what}")
            missing += 1
    remove(options.dir)
    return 1 if missing else 0


def rows_of(name) -> list[str]:
    """Return the row of this name, otherwise those whose names begin so: `destinations` is all of destinations-*."""
    return [name] if name in ROWS else [row for row in ROWS if row.startswith(f"{name}-")]


def measure(options, image, work, run):
    with fresh(options.dir, run, image) as folder:
        return work(folder, options.scale)


@contextmanager
def fresh(folder, run, image):
    """Give a place for one run that nothing was written to or deleted from before."""
    path = os.path.join(folder, f"run{run}")
    remove(path)
    os.makedirs(path)
    if not image:
        yield path
        return
    file = f"{path}.ext4"
    with open(file, "wb") as made:
        made.truncate(4 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", file], check=True)
    subprocess.run(["mount", "-o", "loop", file, path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)
        os.unlink(file)


def line(name, runs, bar) -> str:
    """Return the row: each peer's median and all its runs.

    Where the bar is a ratio: the median of the ratios of the first two.
    """
    peers = list(runs[0])
    texts = [
        f"{peer} {statistics.median(run[peer] for run in runs):.5g} ({' '.join(f'{run[peer]:.4g}' for run in runs)})"
        for peer in peers
    ]
    ratio = ""
    if " x " in bar:
        ratio = f"{statistics.median(run[peers[0]] / run[peers[1]] for run in runs):.2f}"
    return f"{name:16} {', '.join(texts):76} {ratio:>7}  {bar}"


if __name__ == "__main__":
    sys.exit(main())
