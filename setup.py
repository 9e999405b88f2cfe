"""Only what pyproject.toml cannot say: every file in bin/ is a starter, and the services and pages come along.

pyqmail-python goes beside the starters: pip writes its interpreter into its first line, where they read it.
"""

import glob
import os
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


def files(pattern):
    return [path for path in sorted(glob.glob(pattern)) if os.path.isfile(path)]


services = [f"services/{name}{part}" for name in sorted(os.listdir("services")) for part in ("", "/log")]


class Build(build_py):
    """Begin anew: a module that is here no more would otherwise be installed again from the last build."""

    def run(self):
        if not self.editable_mode:
            shutil.rmtree(os.path.join(self.build_lib, "pyqmail"), ignore_errors=True)
        super().run()


setup(
    cmdclass={"build_py": Build},
    scripts=[*files("bin/py*"), "pyqmail/system/pyqmail-python"],
    data_files=[(f"share/pyqmail/{folder}", files(f"{folder}/*")) for folder in services]
    + [(f"share/man/man{section}", files(f"man/*.{section}")) for section in (1, 5, 7, 8)],
)
