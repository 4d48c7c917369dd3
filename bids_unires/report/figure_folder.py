"""The folder of the figures of a participant."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ..dataset.writing import remove_leftovers
from .page import write_bytes


class FigureFolder:
    """Folder of the figures; file names state the participant, the contrast and the figure."""

    def __init__(self, output_dir: Path, label: str) -> None:
        self._relative = PurePosixPath(label.split("_")[0], "figures")
        self._folder = output_dir / self._relative
        self._label = label
        self.written: list[Path] = []
        remove_leftovers(self._folder)

    def save(self, desc: str, suffix: str, content: bytes, contrast: str = "") -> str:
        """Write a figure; return its path relative to the page."""
        *entities, last = contrast.split("_")
        parts = [self._label, *entities, f"desc-{desc}", *([last] if last else ["unires"])]
        name = "_".join(parts) + suffix
        self.written.append(write_bytes(self._folder / name, content))
        return (self._relative / name).as_posix()
