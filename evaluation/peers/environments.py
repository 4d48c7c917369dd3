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
    loose
        Packages that ask for other versions than the requirements have, and run with these.
    """

    name: str
    loose: tuple[str, ...] = ()

    @property
    def requirements(self) -> Path:
        """The pinned requirements."""
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
            *self.installations(folder / "bin" / "python"),
        ):
            if subprocess.run(words, check=False).returncode:
                raise RuntimeError(
                    f"{self.requirements.name}: cannot be installed in {folder}; "
                    "pip says why above. Run again once the package registry can be reached."
                )
        self._stamp(root).write_text(self.requirements.read_text("utf-8"), "utf-8")

    def installations(self, python: Path) -> list[list[str]]:
        """Command lines that install what the requirements name."""
        pins = packages(self.requirements.read_text("utf-8"))
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        specified = {name: f"{name}=={version}" for name, version in pins.items()}
        loose = [specified.pop(name) for name in self.loose]
        found = [[*install, *specified.values()]]
        return [*found, [*install, "--no-deps", *loose]] if loose else found

    def pinned(self, package: str) -> str:
        """Version of a package in the requirements."""
        return packages(self.requirements.read_text("utf-8"))[package]

    def _stamp(self, root: Path) -> Path:
        return self.folder(root) / "installed.lock"


def packages(requirements: str) -> dict[str, str]:
    r"""Names, in lower case, and versions of pinned requirements.

    Examples
    --------
    >>> packages("# pins\nantspyx==0.6.3\nNumPy==2.3.5")
    {'antspyx': '0.6.3', 'numpy': '2.3.5'}
    """
    lines = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    pins = (line.partition("==") for line in lines)
    return {name.strip().lower(): version.strip() for name, _, version in pins}


ECLARE = Environment("eclare", ("eclare", "radifox-utils"))
SIMPLEITK = Environment("simpleitk")
ANTS = Environment("ants")
