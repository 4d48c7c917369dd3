"""Small heads in every geometry, datasets of them, and what a run left of its surroundings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

HEAD_CENTRE = np.array([6.0, -9.0, 12.0])
QUICK = [
    *("--voxel-size", "5", "--reg-scale", "4", "--no-learned-detail", "--max-iter", "5"),
    *("--device", "cpu", "--skip-bids-validation"),
]
# After `QUICK`: a prior of any strength is for a fit.
LINEAR = ["--linear", "--reg-scale", "auto"]


def head(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intensity at world points ``(..., 3)`` in mm; no reflection of it is the same head."""
    at = points - HEAD_CENTRE
    intensity = np.zeros(points.shape[:-1])
    for centre, radii, value in (
        ((0, 0, 0), (52, 66, 58), 60.0),
        ((0, -4, 4), (44, 56, 50), 130.0),
        ((-22, 20, 10), (14, 22, 16), 40.0),
        ((16, -18, 26), (14, 20, 16), 220.0),
    ):
        inside = np.linalg.norm((at - np.array(centre)) / np.array(radii), axis=-1) < 1
        intensity[inside] = value
    return intensity


def affine_of(
    shape: tuple[int, ...] = (30, 30, 10),
    sizes: tuple[float, ...] = (5.0, 5.0, 15.0),
    rotation: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Voxels of some size whose box is centred on the head."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if rotation is None else rotation) * np.array(sizes)
    affine[:3, 3] = HEAD_CENTRE - affine[:3, :3] @ (np.array(shape[:3]) - 1) / 2
    return affine


def voxels_of_head(
    shape: tuple[int, ...] = (30, 30, 10), affine: NDArray[np.float64] | None = None, seed: int = 0
) -> NDArray[np.float32]:
    """Magnitudes of the head with noise of 3 units, as an ``(X, Y, Z)`` array."""
    affine = affine_of(shape) if affine is None else affine
    at = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    noise = np.random.default_rng(seed).normal(scale=3.0, size=(2, *shape))
    return np.hypot(head(at) + noise[0], noise[1]).astype(np.float32)


def scan(affine: NDArray[np.float64] | None = None, seed: int = 0) -> nib.Nifti1Image:
    affine = affine_of() if affine is None else affine
    image = nib.Nifti1Image(voxels_of_head(affine=affine, seed=seed), None)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    return image


@dataclass
class Place:
    """Everything a run can see: an input, an output that is not there yet, and other folders."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def anat(self) -> Path:
        return self.raw / "sub-01" / "anat"

    @property
    def t1w(self) -> Path:
        return self.anat / "sub-01_T1w.nii.gz"

    def write(self, name: str, image: nib.Nifti1Image | None = None) -> Path:
        """Write a scan, of the head if nothing else is said, where its name belongs."""
        unit = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
        path = self.raw.joinpath(*unit, "anat", name if "." in name else f"{name}.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        (scan() if image is None else image).to_filename(path)
        return path

    def describe(self, **fields: Any) -> None:
        """Write the description of the dataset."""
        self.raw.mkdir(parents=True, exist_ok=True)
        content = {"Name": "Heads", "BIDSVersion": "1.10.1", "License": "CC0", **fields}
        (self.raw / "dataset_description.json").write_text(json.dumps(content))
        (self.raw / "README").write_text("Heads that are made of ellipsoids. " * 5)

    def image(self) -> nib.Nifti1Image:
        """The one image that a run made, not a map beside it."""
        paths = self.out.glob("sub-*/**/*_T1w.nii.gz")
        (path,) = (path for path in paths if "Measured_" not in path.name)
        return nib.load(path)


@dataclass(frozen=True)
class Told:
    """How a run ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


Snapshot = Mapping[str, tuple[int, int, bytes | str]]


def snapshot(root: Path, but: Path) -> Snapshot:
    """Kind, time and content of everything below a folder, but for another folder."""
    found: dict[str, tuple[int, int, bytes | str]] = {}
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = [name for name in folders if here / name != but]
        for name in [*folders, *files]:
            path = here / name
            status = path.lstat()
            content: bytes | str = ""
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = path.read_bytes()
            found[str(path.relative_to(root))] = (status.st_mode, status.st_mtime_ns, content)
    return found
