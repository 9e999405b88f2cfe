"""A service that runs imports nothing: whatever its functions import is there before it begins.

Read from the syntax trees of all modules that it has loaded.  What really is opened when mail comes and goes is seen by
tests/interop/test_services_read_no_code.py.
"""

import ast
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SERVICES = {
    "pytcpserver": ["pysmtpd", "pyrblsmtpd", "pyrecordio", "pyfixcrio", "pyenvdir", "pyargv0"],
    **{name: [] for name in ("pyqueued", "pysend", "pylspawn", "pyrspawn", "pyclean", "pyresolve", "pymultilog")},
    **{name: [] for name in ("pysvscan", "pysupervise", "pyreadproctitle")},
}
# module, what a function of it imports: only at the start of a program, or not by a service
STARTS = {
    ("pyqmail.system.command_line", "pyqmail.base.manual"),  # --help
    ("pyqmail.system.initial", "ctypes"),  # without /proc, at the start
    ("pyqmail.system.startup", "pyqmail.system.initial"),
    ("pyqmail.system.startup", "site"),
    ("pyqmail.system.title", "pyqmail.system.libc"),  # where ctypes is loaded: at the start without /proc
    ("pyqmail.system.libc", "_ctypes"),  # whoever calls it loads it
    ("pyqmail.system.libc", "ctypes"),
    ("pyqmail.system.cdb", "cdblib"),  # writes one
    ("pyqmail.system.fsync_batch", "ctypes"),  # when a FsyncBatch is made: pyqueued and pysend do that at their start
    ("pyqmail.supervise.logs.selection", "re"),  # preload() knows whether the words need it
    ("pyqmail.supervise.logs.logdir", "pyqmail.supervise.logs.processor"),  # when a log that has one is made
    ("pyqmail.programs.pymultilog", "pyqmail.supervise.logs.copying"),  # --copy, at the start
    ("pyqmail.programs.pysupervise", "pyqmail.supervise.diagram"),  # an option that prints
    ("pyqmail.programs.pysupervise", "pyqmail.supervise.safety"),  # as root, at the start
    ("pyqmail.supervise.scan_loop", "pyqmail.supervise.safety"),
    ("pyqmail.supervise.scan_loop", "pyqmail.system.files"),
    ("pyqmail.programs.pyreadproctitle", "ctypes"),
    ("pyqmail.tcp.listener.bind", "pyqmail.tcp.client.connect"),  # a name to listen at
    ("pyqmail.tcp.listener.configure", "pyqmail.tcp.rules.lookup"),  # what options ask for, before rights are given up
    ("pyqmail.tcp.listener.configure", "pyqmail.tcp.listener.readiness"),
    ("pyqmail.tcp.listener.configure", "pyqmail.tcp.listener.status"),
    ("pyqmail.tcp.listener.configure", "pyqmail.tcp.listener.proxy_clients"),
    ("pyqmail.tcp.listener.option_values", "pyqmail.tcp.listener.proxy_clients"),
    ("pyqmail.tcp.listener.proxy_clients", "ipaddress"),
}


def loaded_by(name):
    """Return {name: file} of all modules of a service that is ready."""
    words = [name, *SERVICES[name]]
    call = "load_programs(SimpleNamespace(program=[], environ={}), SimpleNamespace(looks_up=True))"
    code = f"""if 1:
        import sys
        sys.path.insert(0, {ROOT!r})
        from types import SimpleNamespace
        from pyqmail.programs import registry
        modules = [registry.load_ahead(name) for name in {words!r}]
        if hasattr(modules[0], "load_programs"):
            modules[0].{call}
        for module in list(sys.modules.values()):
            print(module.__name__, getattr(module, "__file__", None) or "-")
    """
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def late_imports(path):
    """Yield (module, line) of what the functions of a module import; from a import b gives a and, if it is one, a.b."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) or function.name.startswith("preload"):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module, node.lineno
                for alias in node.names:
                    if os.path.exists(f"{ROOT}/{node.module.replace('.', '/')}/{alias.name}.py"):
                        yield f"{node.module}.{alias.name}", node.lineno


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_function_imports_is_there(name):
    loaded = loaded_by(name)
    missing = {
        f"{module}:{line} imports {wanted}"
        for module, path in loaded.items()
        if module.startswith("pyqmail.")
        for wanted, line in (late_imports(path) if path.endswith(".py") else ())
        if wanted not in loaded and wanted not in sys.builtin_module_names and (module, wanted) not in STARTS
    }
    assert missing == set()


def test_the_test_would_see_one():
    assert ("pyqmail.base.manual", "pyqmail.system.command_line") not in STARTS
    assert any(wanted == "pyqmail.base.manual" for wanted, _ in late_imports(f"{ROOT}/pyqmail/system/command_line.py"))
