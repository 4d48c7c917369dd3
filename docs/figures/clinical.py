"""Draw the picture of the README: a clinical visit before and after.

Usage, after ``bids_unires ms-clinical OUT participant``::

    .venv/bin/python docs/figures/clinical.py ms-clinical OUT docs/figures/clinical.png

``ms-clinical`` has the scans of two visits of one patient of the longitudinal data set of Lesjak et
al., Laboratory of Imaging Technologies, University of Ljubljana, CC BY 4.0.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from nitransforms import linear
from planes import Window, cut, scale_bar, viewing_plane

from bids_unires.dataset.reading import load_volume

VISIT = "sub-01_ses-1"
CONTRASTS = {"FLAIR": "FLAIR, 4 mm slices", "T1w": "T1w, 3 mm slices", "T2w": "T2w, 4 mm slices"}
ROWS = ("scan, cubic interpolation", "bids_unires")
SAGITTAL = 0
POSITION = 14.0
"""Where the view cuts, in mm from the middle of the images: beside the ventricles."""


def main(bids: Path, results: Path, picture: Path) -> None:
    """Cut scan and image of every contrast in one sagittal plane, and draw them."""
    figure, axes = plt.subplots(2, 3, figsize=(9.6, 5.1), facecolor="white")
    scans, images = (root / "sub-01" / "ses-1" / "anat" for root in (bids, results))
    for column, (suffix, title) in enumerate(CONTRASTS.items()):
        image = load_volume(images / f"{VISIT}_space-individual_res-1mm_desc-sr_{suffix}.nii.gz")
        corner = image.grid.affine[:3, :3] @ (np.array(image.grid.shape) - 1) / 2
        x, y, z = image.grid.affine[:3, 3] + corner
        window = Window((x, y, z + 10.0), 150.0, 112.0)
        plane = viewing_plane(SAGITTAL, x + POSITION, window)
        name = f"{VISIT}_from-{suffix}_to-individual_mode-image_xfm.txt"
        to_scan = np.asarray(linear.load(images / name, fmt="itk").matrix)
        scan = load_volume(scans / f"{VISIT}_{suffix}.nii.gz")
        shown = cut(scan, plane, to_scan, order=3), cut(image, plane, np.eye(4), order=3)
        # Brain alone: fat below the skin is much brighter in T1w.
        middle = np.s_[60:160, 80:240]
        top = 1.3 * np.percentile(shown[1][middle], 97)
        for row, pixels in enumerate(shown):
            axes[row, column].imshow(pixels, cmap="gray", vmin=0, vmax=top)
            axes[row, column].set(xticks=[], yticks=[])
            axes[row, column].spines[:].set_visible(False)
        axes[0, column].set_title(title, fontsize=12)
    for row, label in zip(axes[:, 0], ROWS, strict=True):
        row.set_ylabel(label, fontsize=12)
    scale_bar(axes[1, 2], window)
    figure.subplots_adjust(0.03, 0.005, 0.998, 0.95, wspace=0.015, hspace=0.015)
    figure.savefig(picture, dpi=100, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
