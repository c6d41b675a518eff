"""Copy conf/ and experiments/ into the package of a wheel; pyproject.toml has all else."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BESIDE = ("conf", "experiments")
"""Folders that lie beside the package in a checkout, and inside it in a wheel."""


class WithFolders(build_py):
    """Build the package with the folders beside it, unless the installation is editable."""

    def run(self) -> None:
        """Build."""
        super().run()
        if not self.editable_mode:
            for name in BESIDE:
                inside = Path(self.build_lib) / "portraitlab" / name
                shutil.copytree(name, inside, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithFolders})
