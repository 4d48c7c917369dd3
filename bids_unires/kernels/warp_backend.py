"""The forward operator with compiled kernels: slabs on the CPU, voxels on the GPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import warp as wp
from numpy.typing import NDArray
from torch import Tensor

from . import runtime, slabs, voxels
from .sampling import Sampling
from .trilinear import matrix34

# Two samples share a voxel only if they are less than 2 voxels apart along every axis, so at most
# this distance.
_REACH = 2 * math.sqrt(3)
_MOST_SLABS = 64


class Interpolation(Protocol):
    """Trilinear samples of an image on an intermediate grid, and the transpose."""

    def pull(self, image: Tensor, samples: Tensor) -> None:
        """Interpolate ``image`` into ``samples``."""

    def push(self, samples: Tensor, image: Tensor) -> None:
        """Add the transpose of :meth:`pull` to ``image``."""


class SlabInterpolation:
    """Interpolation on the CPU, in slabs that threads handle in parallel.

    Parameters
    ----------
    image_shape
        Sides of the wanted image, in voxels.
    shape
        Sides of the intermediate grid, in voxels; the first axis is cut into slabs.
    matrix
        ``(3, 4)`` float64, intermediate voxel (in that axis order) -> image voxel.
    ratio, taps
        Stride and length of the slice profile, in intermediate voxels, if it lies across slabs;
        slabs then hold whole slices. Otherwise 1 and 1.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        shape: tuple[int, int, int],
        matrix: NDArray[np.float64],
        ratio: int = 1,
        taps: int = 1,
    ) -> None:
        runtime.load(slabs.__name__, "cpu")
        self.slab_count = _slab_count(shape[0], matrix, ratio, taps)
        self.lattice = slabs.Lattice()
        self.lattice.image_shape = wp.vec3i(*image_shape)
        self.lattice.shape = wp.vec3i(*shape)
        self.lattice.matrix = matrix34(*matrix.ravel().tolist())

    def pull(self, image: Tensor, samples: Tensor) -> None:
        """Interpolate ``image`` into ``samples`` (shape of the intermediate grid)."""
        arrays = [runtime.flat(samples)]
        self.launch(slabs.pull_slabs, runtime.flat(image), lambda _: arrays)

    def push(self, samples: Tensor, image: Tensor) -> None:
        """Add the transpose of :meth:`pull` to ``image``."""
        arrays = [runtime.flat(samples)]
        self.launch(slabs.push_slabs, runtime.flat(image), lambda _: arrays)

    def launch(
        self,
        kernel: wp.Kernel,
        image: wp.array[Any, Any],
        inputs: Callable[[int], Sequence[object]],
    ) -> None:
        """Run a kernel over all even slabs, then over all odd slabs.

        ``inputs`` returns the remaining arguments of the kernel for a given worker.
        """
        for colour in (0, 1):
            slab_total = (self.slab_count - colour + 1) // 2
            workers = min(runtime.thread_count(), slab_total)

            def work(
                worker: int, colour: int = colour, total: int = slab_total, workers: int = workers
            ) -> None:
                mine = (total - worker + workers - 1) // workers
                cut = [self.lattice, self.slab_count, colour + 2 * worker, 2 * workers]
                wp.launch(kernel, mine, inputs=[image, *cut, *inputs(worker)], device="cpu")

            runtime.in_threads(work, range(workers))


def _slab_count(side: int, matrix: NDArray[np.float64], ratio: int, taps: int) -> int:
    slab, row, sample = matrix[:, 0], matrix[:, 1], matrix[:, 2]
    normal = np.cross(row, sample)
    spacing = abs(float(slab @ normal)) / float(np.linalg.norm(normal))
    apart = math.ceil(_REACH / spacing) + 1
    slices = (side - taps) // ratio + 1
    thickness = math.ceil((apart + taps - 1) / ratio)
    return max(1, min(slices // thickness, _MOST_SLABS))


class VoxelInterpolation:
    """Interpolation with one thread per voxel, on any device.

    Parameters
    ----------
    image_shape
        Sides of the wanted image, in voxels.
    matrix
        ``(3, 4)`` float64, intermediate voxel -> image voxel.
    device
        Device that holds the images.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        matrix: NDArray[np.float64],
        device: torch.device,
    ) -> None:
        self._image_shape = wp.vec3i(*image_shape)
        self._matrix = matrix34(*matrix.ravel().tolist())
        self._inverse = voxels.matrix33(*np.linalg.inv(matrix[:, :3]).ravel().tolist())
        self._device = runtime.device_of(device)

    def pull(self, image: Tensor, samples: Tensor) -> None:
        """Interpolate ``image`` into ``samples`` (shape of the intermediate grid)."""
        inputs = [runtime.flat(image), self._image_shape, self._matrix, runtime.as_array(samples)]
        wp.launch(voxels.pull_voxels, samples.shape, inputs=inputs, device=self._device)

    def push(self, samples: Tensor, image: Tensor) -> None:
        """Add the transpose of :meth:`pull` to ``image``."""
        inputs = [runtime.as_array(samples), self._matrix, self._inverse, runtime.as_array(image)]
        wp.launch(voxels.push_voxels, image.shape, inputs=inputs, device=self._device)


class WarpBackend:
    """Applies the forward operator of one scan and its transpose in float32.

    Parameters
    ----------
    sampling
        Geometry and slice profile of the scan.
    device
        Device that holds the images; the CPU computes in slabs, a GPU voxel by voxel.
    """

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        self.sampling = sampling
        self._interpolation = self._interpolating(device)
        self._weights = {
            axis: torch.as_tensor(sampling.weights[axis], dtype=torch.float32, device=device)
            for axis in sampling.blurred_axes
        }

    def forward(self, image: Tensor) -> Tensor:
        """Simulate the scan of ``image``: target shape in, source shape out."""
        sampling = self.sampling
        scan = image.new_empty(sampling.intermediate_shape)
        self._interpolation.pull(image.contiguous(), scan)
        for axis in sampling.blurred_axes:
            scan = self._correlated(scan, axis)
        return scan

    def add_adjoint(self, scan: Tensor, image: Tensor) -> None:
        """Add the transpose of :meth:`forward`, applied to ``scan``, to ``image`` in place."""
        sampling = self.sampling
        fine = scan.contiguous()
        for axis in reversed(sampling.blurred_axes):
            fine = self._spread(fine, axis)
        self._interpolation.push(fine, image)

    def _interpolating(self, device: torch.device) -> Interpolation:
        sampling = self.sampling
        if device.type == "cpu":
            return SlabInterpolation(
                sampling.target_shape, sampling.intermediate_shape, sampling.matrix
            )
        return VoxelInterpolation(sampling.target_shape, sampling.matrix, device)

    def _correlated(self, fine: Tensor, axis: int) -> Tensor:
        """Weighted sums over the slice profile along an axis."""
        sides = list(fine.shape)
        sides[axis] = self.sampling.source_shape[axis]
        if fine.device.type != "cpu":
            return self._along_axis(voxels.correlate_voxels, fine, sides, axis)
        coarse = fine.new_zeros(sides)
        for weight, samples in self._taps(fine, sides[axis], axis):
            coarse.add_(samples, alpha=weight)
        return coarse

    def _spread(self, coarse: Tensor, axis: int) -> Tensor:
        """Transpose of :meth:`_correlated`."""
        sides = list(coarse.shape)
        sides[axis] = self.sampling.intermediate_shape[axis]
        if coarse.device.type != "cpu":
            return self._along_axis(voxels.spread_voxels, coarse, sides, axis)
        fine = coarse.new_zeros(sides)
        for weight, samples in self._taps(fine, coarse.shape[axis], axis):
            samples.add_(coarse, alpha=weight)
        return fine

    def _taps(self, fine: Tensor, count: int, axis: int) -> Iterator[tuple[float, Tensor]]:
        """Each weight of the slice profile, and its samples in ``count`` slices along an axis."""
        ratio = self.sampling.ratio[axis]
        for tap, weight in enumerate(self._weights[axis].tolist()):
            end = tap + (count - 1) * ratio + 1
            selected = [slice(None)] * axis + [slice(tap, end, ratio)]
            yield weight, fine[tuple(selected)]

    def _along_axis(self, kernel: wp.Kernel, values: Tensor, sides: list[int], axis: int) -> Tensor:
        """Correlate or spread along one axis; ``sides`` is the shape of the result."""
        before, after = math.prod(sides[:axis]), math.prod(sides[axis + 1 :])
        result = values.new_empty(sides)
        wp.launch(
            kernel,
            (before, sides[axis], after),
            inputs=[
                runtime.as_array(values.view(before, -1, after)),
                runtime.as_array(self._weights[axis]),
                self.sampling.ratio[axis],
                runtime.as_array(result.view(before, -1, after)),
            ],
            device=runtime.device_of(values.device),
        )
        return result


class VoxelBackend(WarpBackend):
    """As :class:`WarpBackend`, with the kernels for the GPU on every device."""

    def _interpolating(self, device: torch.device) -> Interpolation:
        return VoxelInterpolation(self.sampling.target_shape, self.sampling.matrix, device)
