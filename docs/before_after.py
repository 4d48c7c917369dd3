"""Draw the picture of the README from the demo's output.

Usage, after `make demo`::

    .venv/bin/python docs/before_after.py demo_out docs/before_after.png
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patheffects import withStroke
from nitransforms import linear
from numpy.typing import NDArray

from bids_unires.dataset.reading import load_volume
from bids_unires.demo.dataset import DemoPaths
from bids_unires.demo.score import resample
from bids_unires.demo.study import MOTIONS
from bids_unires.space.affines import Affine
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

PARTICIPANT = "01"
COLUMNS = ("scan, linear interpolation", "bids_unires", "truth")
BAR_MM = 20


@dataclass(frozen=True)
class View:
    """One row of the picture.

    Parameters
    ----------
    suffix
        The contrast.
    slices
        What to call the planes its slices were taken in.
    plane
        The world axis (0 x, 1 y, 2 z) that the view looks along; never the slice axis.
    position
        Where the view cuts, in mm of the truth's space.
    """

    suffix: str
    slices: str
    plane: int
    position: float


VIEWS = (
    View("T1w", "sagittal 4 mm slices", 2, 8.0),
    View("T2w", "axial 4 mm slices", 0, 8.0),
    View("FLAIR", "coronal 4 mm slices", 2, 18.0),
)
# Window in mm of the truth's space, centred where the brain is.
CENTRE = (0.0, -18.0, 12.0)
WIDTH, HEIGHT = 150.0, 112.0
STEP = 0.5


def main(demo: Path, picture: Path) -> None:
    """Cut every contrast of one participant three times and draw the cuts side by side."""
    paths = DemoPaths(demo)
    figure, axes = plt.subplots(
        len(VIEWS), len(COLUMNS), figsize=(9.0, 6.72), facecolor="white", squeeze=False
    )
    for row, view in zip(axes, VIEWS, strict=True):
        images = cuts(paths, view)
        top = np.percentile(images[-1], 99.8)
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=top, interpolation="bilinear")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(f"{view.suffix}\n{view.slices}", fontsize=11)
    scale_bar(axes[0, -1])
    for axis, title in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(title, fontsize=12)
    figure.subplots_adjust(0.056, 0.004, 0.998, 0.958, wspace=0.015, hspace=0.02)
    figure.savefig(picture, dpi=100, pil_kwargs={"optimize": True})


def cuts(paths: DemoPaths, view: View) -> tuple[NDArray[np.float32], ...]:
    """Scan, result and truth of one contrast in one plane, as rows and columns."""
    plane = viewing_plane(view)
    to_result = np.linalg.inv(MOTIONS[PARTICIPANT, "T1w"].scanner_to_head)
    scan = load_volume(paths.scan(PARTICIPANT, view.suffix))
    folder = paths.derivatives / f"sub-{PARTICIPANT}" / "anat"
    stem = f"sub-{PARTICIPANT}_space-individual_res-1mm_desc-sr_{view.suffix}.nii.gz"
    transform = folder / f"sub-{PARTICIPANT}_from-{view.suffix}_to-individual_mode-image_xfm.txt"
    to_scan: Affine = np.asarray(linear.load(transform, fmt="itk").matrix)
    truth = load_volume(paths.true_image(PARTICIPANT, view.suffix))
    return (
        cut(scan, plane, to_scan @ to_result, view, order=1),
        cut(load_volume(folder / stem), plane, to_result, view, order=3),
        cut(truth, plane, np.eye(4), view, order=3),
    )


def viewing_plane(view: View) -> Grid:
    """One voxel thick, ``STEP`` mm fine; its first axis runs right, its second up."""
    right, up = [axis for axis in range(3) if axis != view.plane]
    shape = [1, 1, 1]
    affine = np.eye(4)
    affine[:3, 3] = CENTRE
    affine[view.plane, 3] = view.position
    for axis, length in ((right, WIDTH), (up, HEIGHT)):
        shape[axis] = round(length / STEP)
        affine[axis, axis] = STEP
        affine[axis, 3] -= length / 2
    return Grid((shape[0], shape[1], shape[2]), affine)


def cut(
    volume: Volume, plane: Grid, to_volume: Affine, view: View, order: int
) -> NDArray[np.float32]:
    """Interpolate a volume on a plane, up pointing up."""
    image = resample(volume, plane, to_volume, order=order, mode="constant")
    return np.flipud(image.squeeze(view.plane).T)


def scale_bar(axis: plt.Axes) -> None:
    """Draw a bar of ``BAR_MM`` in the lower right corner, legible on light and dark."""
    outline = [withStroke(linewidth=3.5, foreground="black")]
    right, bottom = WIDTH / STEP - 16, HEIGHT / STEP - 12
    left = right - BAR_MM / STEP
    axis.plot([left, right], [bottom, bottom], color="white", linewidth=2, path_effects=outline)
    axis.text(
        (left + right) / 2,
        bottom - 6,
        f"{BAR_MM} mm",
        color="white",
        ha="center",
        fontsize=9,
        path_effects=outline,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
