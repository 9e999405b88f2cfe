"""What processes use: memory, processor and descriptors of whole trees of them, from /proc by way of psutil."""

import time


class Usage:
    """What a process uses with all its descendants; None is what we may not know, or what has gone.

    memory_bytes: PSS, in which a page that N processes share counts 1/N for each; the sum is what there really is of
    it.
    """

    __slots__ = ("memory_bytes", "cpu_percent", "descriptors")

    def __init__(self, memory_bytes=None, cpu_percent=None, descriptors=None) -> None:
        self.memory_bytes, self.cpu_percent, self.descriptors = memory_bytes, cpu_percent, descriptors


class Meter:
    """Measures again and again: cpu_percent is of the time since the last look, at first since the process began."""

    def __init__(self) -> None:
        import psutil  # only for a program that measures

        self._psutil = psutil
        self._before: dict[
            tuple, tuple[float, float]
        ] = {}  # (pid, when it began) -> (processor seconds, monotonic time)

    def look(self, pids) -> dict[int, Usage]:
        """Return pid -> Usage; without those that are gone."""
        processes, children = self._table()
        found: dict[int, Usage] = {}
        seen: dict[tuple, tuple[float, float]] = {}
        for pid in pids:
            if pid in processes:
                found[pid] = self._measure([processes[one] for one in _tree(pid, children)], seen)
        self._before = seen
        return found

    def _table(self):
        processes, children = {}, {}
        try:
            for process in self._psutil.process_iter():
                try:
                    children.setdefault(process.ppid(), []).append(process.pid)
                    processes[process.pid] = process
                except self._psutil.NoSuchProcess:
                    pass
        except (OSError, IndexError):
            return {}, {}  # no /proc, or one that shows too little
        return processes, children

    def _measure(self, tree, seen):
        # the time of descendants that have ended stands in their parents: so the sum only grows
        seconds = self._sum(tree, lambda one: sum(one.cpu_times()[:4]))
        return Usage(
            self._sum(tree, lambda one: one.memory_full_info().pss),
            None if seconds is None else self._percent(tree[0], seconds, seen),
            self._sum(tree, lambda one: one.num_fds()),
        )

    def _sum(self, tree, measure):
        """Return the sum over a tree; None if we may not know one of them, or the kernel does not know."""
        total = 0
        for process in tree:
            try:
                total += measure(process)
            except self._psutil.NoSuchProcess:
                pass  # it has gone meanwhile, or it is dead and has nothing any more
            except (self._psutil.AccessDenied, AttributeError, OSError):
                return None
        return total

    def _percent(self, root, seconds, seen):
        try:
            began = root.create_time()
        except self._psutil.Error:
            return None
        except OSError:
            began = None  # a /proc that shows too little: known from the second look on
        key, now = (root.pid, began), time.monotonic()
        seen[key] = seconds, now
        if key in self._before:
            seconds_before, moment = self._before[key]
            seconds, passed = seconds - seconds_before, now - moment
        elif began is None:
            return None
        else:
            passed = time.time() - began
        return 100 * max(0.0, seconds) / max(passed, 0.01)


def _tree(pid, children):
    """Return pid and all its descendants."""
    found = [pid]
    for one in found:
        found += children.get(one, ())
    return found
