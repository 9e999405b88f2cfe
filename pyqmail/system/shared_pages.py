"""What many forks of one process share: pages that none of them writes to.

A forked child gets a page of its own with the first byte that it writes there.  Besides what is imported and frozen
(gc.freeze), CPython writes when an attribute is looked up for the first time: one table remembers the look-ups of all
types, and each name is counted.  So the parent looks up what its children will.  Nothing else changes by that.
"""

import gc
import types


def share_with_forks(work) -> None:
    """Call this before the first fork: the children will call work, a function of ours; None: they will exec.

    Whatever exists now is left alone by the garbage collector for good.
    """
    for owner, names in look_ups(work).items():
        for name in names:
            getattr(owner, name, None)
    gc.freeze()


def look_ups(work) -> "dict[type | types.ModuleType, set[str]]":
    """Return class or module -> attributes that a function may look up there, and all of ours that it leads to.

    A function leads to the functions and classes that it names, and a class to those that its methods name.  The module
    gc stands for all modules: they have one type.  What is looked up in vain counts, too.
    """
    found: dict[type | types.ModuleType, set[str]] = {gc: set()}
    todo, seen = [work], set()
    while todo:
        thing = todo.pop()
        if thing in seen:
            continue
        seen.add(thing)
        is_class = isinstance(thing, type)
        if is_class:
            found[thing] = set(vars(thing))
        for code, scope in _codes(vars(thing).values() if is_class else (thing,)):
            named = [scope[name] for name in code.co_names if name in scope]
            todo += filter(_is_ours, named)
            modules = [value for value in named if isinstance(value, types.ModuleType)]
            found[gc].update(name for name in code.co_names if any(name in vars(module) for module in modules))
            if is_class and "__dict__" in vars(thing):  # no slots: the attributes of its instances
                found[thing].update(name for name in code.co_names if name not in scope)
    return found


def _codes(things):
    """Yield (code, global names) of those that are functions."""
    for thing in things:
        if isinstance(thing, types.FunctionType):
            yield thing.__code__, thing.__globals__


def _is_ours(value):
    return isinstance(value, (type, types.FunctionType)) and value.__module__.startswith("pyqmail.")
