"""How much of the head the images of each contrast show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...config import Modality
from ...model import Reconstruction


def head_of(result: Reconstruction) -> NDArray[np.bool_]:
    """Voxels of the head, ``(X, Y, Z)``: what any of the images shows of one."""
    # Loaded only once there is something to write.
    from ...registration import head_mask

    head = np.zeros(result.grid.shape, dtype=bool)
    for image in result.images:
        head |= head_mask(image, result.grid.affine)
    return head


def share_of_head(image: NDArray[np.float32], modality: Modality, head: NDArray[np.bool_]) -> float:
    """Share of the head that the scans behind an image measured.

    Parameters
    ----------
    image
        ``(X, Y, Z)``, of one contrast.
    modality
        Of that contrast.
    head
        ``(X, Y, Z)``, see `head_of`.

    Returns
    -------
    float
        From 0 to 1. A share of 1 says no more than that no other contrast shows what this one
        does not.
    """
    from ...registration.masks import nonempty_voxels

    count = int(head.sum())
    return float(np.count_nonzero(nonempty_voxels(image, modality)[head]) / count) if count else 1.0
