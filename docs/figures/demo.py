"""Draw the picture of the first run from the demo's output.

Usage, after `make demo`::

    .venv/bin/python docs/figures/demo.py demo_out docs/figures/demo.png
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from nitransforms import linear
from numpy.typing import NDArray
from planes import Window, cut, scale_bar, viewing_plane

from bids_unires.dataset.reading import load_volume
from bids_unires.demo.dataset import DemoPaths
from bids_unires.demo.study import MOTIONS
from bids_unires.space.affines import Affine

PARTICIPANT = "01"
COLUMNS = ("scan, linear interpolation", "bids_unires", "truth")


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
# In the truth's space, centred where the brain is.
WINDOW = Window((0.0, -18.0, 12.0), 150.0, 112.0)


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
    scale_bar(axes[0, -1], WINDOW)
    for axis, title in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(title, fontsize=12)
    figure.subplots_adjust(0.056, 0.004, 0.998, 0.958, wspace=0.015, hspace=0.02)
    figure.savefig(picture, dpi=100, pil_kwargs={"optimize": True})


def cuts(paths: DemoPaths, view: View) -> tuple[NDArray[np.float32], ...]:
    """Scan, result and truth of one contrast in one plane, as rows and columns."""
    plane = viewing_plane(view.plane, view.position, WINDOW)
    to_result = np.linalg.inv(MOTIONS[PARTICIPANT, "T1w"].scanner_to_head)
    scan = load_volume(paths.scan(PARTICIPANT, view.suffix))
    folder = paths.derivatives / f"sub-{PARTICIPANT}" / "anat"
    stem = f"sub-{PARTICIPANT}_space-individual_res-1mm_desc-sr_{view.suffix}.nii.gz"
    transform = folder / f"sub-{PARTICIPANT}_from-{view.suffix}_to-individual_mode-image_xfm.txt"
    to_scan: Affine = np.asarray(linear.load(transform, fmt="itk").matrix)
    truth = load_volume(paths.true_image(PARTICIPANT, view.suffix))
    return (
        cut(scan, plane, to_scan @ to_result, order=1),
        cut(load_volume(folder / stem), plane, to_result, order=3),
        cut(truth, plane, np.eye(4), order=3),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
