"""Scans and images of programs in files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from bids_unires.space.volume import Volume

# Largest difference of the elements of affines, in mm, at which two grids are one.
_SAME = 1e-3


def read_scan(path: Path) -> Volume:
    """Read an image with three axes.

    Parameters
    ----------
    path
        NIfTI file.
    """
    image = nib.load(path)
    return Volume(np.asarray(image.get_fdata(dtype=np.float32)), np.asarray(image.affine))


def write_scan(volume: Volume, path: Path) -> None:
    """Write an image as NIfTI, float32; the file is there as a whole, or not at all."""
    written = path.with_name(f"part-{path.name}")
    nib.Nifti1Image(volume.data, volume.affine).to_filename(written)
    written.replace(path)


def same_grid(a: Volume, b: Volume) -> bool:
    """Whether the voxels of two images lie at the same places, within a thousandth of a mm."""
    return a.grid.shape == b.grid.shape and bool(np.allclose(a.affine, b.affine, atol=_SAME))
