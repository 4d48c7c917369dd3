"""Environments of other programs, each made of pinned requirements and known to nothing of ours."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Environment:
    """An environment of Python for other programs.

    Parameters
    ----------
    name
        Its name; the requirements are in ``requirements-peers-NAME.lock``.
    """

    name: str

    @property
    def requirements(self) -> Path:
        """The pinned requirements: all that is installed, and nothing else."""
        return ROOT / f"requirements-peers-{self.name}.lock"

    def folder(self, root: Path) -> Path:
        """Where it is, below the folder of all environments."""
        return root / self.name

    def is_made(self, root: Path) -> bool:
        """Whether it has what the requirements ask for."""
        stamp = self._stamp(root)
        return stamp.is_file() and stamp.read_text("utf-8") == self.requirements.read_text("utf-8")

    def make(self, root: Path) -> None:
        """Make it, unless it is there.

        Raises
        ------
        RuntimeError
            If the requirements cannot be installed.
        """
        if self.is_made(root):
            return
        folder = self.folder(root)
        for words in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            # What the lock names is complete; some programs ask for older versions of libraries.
            [
                *(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"),
                *("--disable-pip-version-check", "--requirement", str(self.requirements)),
            ],
        ):
            done = subprocess.run(words, check=False)
            if done.returncode:
                raise RuntimeError(
                    f"{self.requirements.name}: cannot be installed in {folder}; "
                    "pip says why above. Run again once the package registry can be reached."
                )
        self._stamp(root).write_text(self.requirements.read_text("utf-8"), "utf-8")

    def pinned(self, package: str) -> str:
        """Version of a package in the requirements."""
        return pinned(self.requirements.read_text("utf-8"), package)

    def _stamp(self, root: Path) -> Path:
        return self.folder(root) / "installed.lock"


def pinned(requirements: str, package: str) -> str:
    r"""Version of a package among pinned requirements.

    Raises
    ------
    KeyError
        If the package is not among them.

    Examples
    --------
    >>> pinned("# pins\nantspyx==0.6.3\nnumpy==2.3.5", "numpy")
    '2.3.5'
    """
    for line in requirements.splitlines():
        name, _, version = line.partition("==")
        if name.strip().lower() == package.lower():
            return version.strip()
    raise KeyError(package)


ECLARE = Environment("eclare")
SIMPLEITK = Environment("simpleitk")
ANTS = Environment("ants")
