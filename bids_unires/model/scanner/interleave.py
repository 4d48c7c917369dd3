"""Even slices brighter than odd ones: by how much, estimated from the scan itself.

Interleaved acquisition excites even slices first and odd ones later; cross-talk and
incomplete recovery then scale the two sets differently (Brudfors et al. 2019, section 2.4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The threshold cuts uneven slices at different tissue. Estimating again on the corrected slices
# removes that error.
_PASSES = 3
_FEWEST_VOXELS = 50
_FEWEST_SLICES = 6


def interleave_factors(log_scale: float, count: int) -> NDArray[np.float64]:
    """Brightness factors of slices 0, 1, ..., ``(K,)``: exp(log_scale) if even, else its inverse.

    Examples
    --------
    >>> interleave_factors(0.0, 3).tolist()
    [1.0, 1.0, 1.0]
    """
    return np.asarray(np.exp(log_scale * (1 - 2 * (np.arange(count) % 2))))


def estimate_interleave(data: NDArray[np.float32], slice_axis: int, threshold: float) -> float:
    """Logarithm s of the factor of even slices (0, 2, ...); odd ones have ``exp(-s)``.

    Every slice is compared with the geometric mean of its two neighbours, voxel by voxel
    within the head. The median over a slice is hardly changed by borders of tissue. In the mean
    with alternating signs, anything that varies smoothly from slice to slice cancels.

    Parameters
    ----------
    data
        Intensities ``(X, Y, Z)``; 0 and NaN are missing.
    slice_axis
        The through-plane axis.
    threshold
        Intensity above which a voxel belongs to the head.

    Returns
    -------
    float
        0 where fewer than six slices, and both of their neighbours, show enough of the head.

    Examples
    --------
    >>> slices = np.full((10, 10, 12), 100.0, dtype=np.float32)
    >>> slices[..., ::2] *= np.exp(0.2)
    >>> round(estimate_interleave(slices, 2, 50.0), 6)
    0.1
    """
    slices = np.moveaxis(np.nan_to_num(data, posinf=0.0, neginf=0.0), slice_axis, 0)
    sign = np.where(np.arange(len(slices)) % 2 == 0, 1.0, -1.0)
    scale = 0.0
    for _ in range(_PASSES):
        even = slices * np.exp(-scale * sign).astype(np.float32)[:, None, None]
        scale += _alternation(even, sign, threshold)
    return scale


def _alternation(slices: NDArray[np.float32], sign: NDArray[np.float64], threshold: float) -> float:
    """Half the mean alternating excess of the slices over their neighbours, as a logarithm."""
    excess, voxels = [], []
    for k in range(1, len(slices) - 1):
        before, here, after = slices[k - 1 : k + 2]
        head = (before > threshold) & (here > threshold) & (after > threshold)
        count = int(np.count_nonzero(head))
        if count >= _FEWEST_VOXELS:
            ratio = here[head] ** 2 / (before[head] * after[head])
            excess.append(sign[k] * float(np.log(np.median(ratio))) / 4)
            voxels.append(count)
    if len(excess) < _FEWEST_SLICES:
        return 0.0
    # Means of neighbouring slices: as many even as odd ones count.
    pairs = (np.array(excess[1:]) + np.array(excess[:-1])) / 2
    return float(np.average(pairs, weights=np.minimum(voxels[1:], voxels[:-1])))
