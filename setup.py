"""Only what pyproject.toml cannot say: every file in bin/ is a starter, installed as it is named."""

import glob

from setuptools import setup

setup(scripts=sorted(glob.glob("bin/py*")))
