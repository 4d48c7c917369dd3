"""The share of the head that the scans of each contrast measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...config import Modality
from ...model import Reconstruction


def head_of(result: Reconstruction) -> NDArray[np.bool_]:
    """Mask of the head, ``(X, Y, Z)``: the region that any of the images shows."""
    # Imported only here, because it loads slowly.
    from ...registration import head_mask

    head = np.zeros(result.grid.shape, dtype=bool)
    for image in result.images:
        head |= head_mask(image, result.grid.affine)
    return head


def share_of_head(image: NDArray[np.float32], modality: Modality, head: NDArray[np.bool_]) -> float:
    """Share of the head that the scans of an image measured.

    Parameters
    ----------
    image
        Image of one contrast, ``(X, Y, Z)``.
    modality
        Modality of that contrast.
    head
        Mask of the head, ``(X, Y, Z)``; see `head_of`.

    Returns
    -------
    float
        From 0 to 1. A share of 1 means only that no other contrast shows more of the head.
    """
    from ...registration.masks import nonempty_voxels

    count = int(head.sum())
    return float(np.count_nonzero(nonempty_voxels(image, modality)[head]) / count) if count else 1.0
