"""The brain mask of an image, taken from the template."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..space.grid import Grid
from .template import Template
from .template_alignment import TemplateAlignment


def brain_mask_from_template(
    grid: Grid, alignment: TemplateAlignment, template: Template
) -> NDArray[np.bool_]:
    """The brain mask of the template, resampled to a participant's image.

    Parameters
    ----------
    grid
        Grid of the image.
    alignment
        Alignment of the image to the template, ``(4, 4)``, world mm -> world mm.
    template
        Template that has the brain mask.

    Returns
    -------
    ndarray
        Bool ``(X, Y, Z)``, the shape of ``grid``: voxels more than half inside the brain by
        trilinear interpolation.
    """
    brain = template.brain
    into_brain = np.linalg.inv(brain.affine) @ alignment.matrix @ grid.affine
    share = ndimage.affine_transform(
        brain.data, into_brain, output_shape=grid.shape, order=1, mode="constant", cval=0.0
    )
    return np.asarray(share > 0.5)
