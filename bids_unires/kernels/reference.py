"""The forward operator in plain torch: slow and short, to test the fast kernels against.

It computes in the dtype (float32 or float64) and on the device of its input.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional

from .sampling import RIM, Sampling


class ReferenceBackend:
    """Applies the forward operator of one scan and its adjoint.

    Parameters
    ----------
    sampling
        Geometry and slice profile of the scan.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling

    def forward(self, image: Tensor) -> Tensor:
        """Simulate the scan of ``image``: target shape in, source shape out."""
        sampling = self.sampling
        scan = image.new_zeros(sampling.intermediate_shape)
        for index, weight in _neighbours(sampling, image):
            scan += weight * image.reshape(-1)[index].reshape(scan.shape)
        for axis in range(3):
            scan = _correlate(scan, self._weights(axis, image), sampling.ratio[axis], axis)
        return scan

    def add_adjoint(self, scan: Tensor, image: Tensor) -> None:
        """Add the transpose of :meth:`forward`, applied to ``scan``, to ``image`` in place."""
        sampling = self.sampling
        fine = scan
        for axis in (2, 1, 0):
            fine = _spread(fine, self._weights(axis, scan), sampling.ratio[axis], axis)
        for index, weight in _neighbours(sampling, scan):
            image.view(-1).index_add_(0, index, (weight * fine).reshape(-1))

    def _weights(self, axis: int, like: Tensor) -> Tensor:
        return torch.as_tensor(self.sampling.weights[axis], dtype=like.dtype, device=like.device)


def _neighbours(sampling: Sampling, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each of the eight corners: flat voxel index and weight at every intermediate sample."""
    matrix = torch.as_tensor(sampling.matrix, dtype=torch.float64, device=like.device)
    ranges = [
        torch.arange(n, dtype=torch.float64, device=like.device)
        for n in sampling.intermediate_shape
    ]
    at = torch.stack(torch.meshgrid(*ranges, indexing="ij"), dim=-1) @ matrix[:, :3].T
    at = at + matrix[:, 3]
    last = torch.tensor(sampling.target_shape, dtype=torch.float64, device=like.device) - 1
    inside = ((at >= -RIM) & (at <= last + RIM)).all(dim=-1)
    base = torch.floor(at)
    fraction = at - base
    found = []
    for corner in itertools.product((0, 1), repeat=3):
        offset = torch.tensor(corner, dtype=torch.float64, device=like.device)
        voxel = base + offset
        weight = torch.where(offset == 1, fraction, 1 - fraction).prod(dim=-1)
        exists = inside & ((voxel >= 0) & (voxel <= last)).all(dim=-1)
        voxel = torch.minimum(voxel.clamp(min=0), last).long()
        sides = sampling.target_shape
        index = (voxel[..., 0] * sides[1] + voxel[..., 1]) * sides[2] + voxel[..., 2]
        found.append((index.reshape(-1), (weight * exists).to(like.dtype)))
    return found


def _kernel_shape(length: int, axis: int) -> list[int]:
    return [1, 1, *(length if axis == other else 1 for other in range(3))]


def _stride(ratio: int, axis: int) -> list[int]:
    return [ratio if axis == other else 1 for other in range(3)]


def _correlate(fine: Tensor, weights: Tensor, ratio: int, axis: int) -> Tensor:
    kernel = weights.reshape(_kernel_shape(len(weights), axis))
    return functional.conv3d(fine[None, None], kernel, stride=_stride(ratio, axis))[0, 0]


def _spread(coarse: Tensor, weights: Tensor, ratio: int, axis: int) -> Tensor:
    kernel = weights.reshape(_kernel_shape(len(weights), axis))
    spread = functional.conv_transpose3d(coarse[None, None], kernel, stride=_stride(ratio, axis))
    return spread[0, 0]
