"""How much of the head the images of each contrast show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...config import Modality
from ...model import Reconstruction


def shares_of_head(result: Reconstruction, modalities: Sequence[Modality]) -> list[float]:
    """Share of the head that the scans of each contrast measured.

    Parameters
    ----------
    result
        Images of all contrasts on one grid.
    modalities
        Of each contrast.

    Returns
    -------
    list of float
        From 0 to 1 for each contrast. The head is what any of the images shows of one: a share
        of 1 says no more than that no other contrast shows what this one does not.
    """
    # Loaded only once there is something to write.
    from ...registration import head_mask
    from ...registration.masks import shown

    head = np.zeros(result.grid.shape, dtype=bool)
    for image in result.images:
        head |= head_mask(image, result.grid.affine)
    count = int(head.sum())
    return [
        float(np.count_nonzero(shown(image, modality)[head]) / count) if count else 1.0
        for image, modality in zip(result.images, modalities, strict=True)
    ]
