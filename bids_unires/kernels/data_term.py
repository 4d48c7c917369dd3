"""The data term of one scan, ``sum(precision * (A y - x)^2) / 2``, and its gradient.

``y`` is the wanted image (target shape), ``x`` the scan (source shape), ``A`` the forward
operator, ``A'`` its transpose and ``P`` the diagonal matrix of the precisions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from . import runtime, slabs
from .sampling import Sampling
from .sharpening import Coefficients, add_sharpened, sharpen
from .warp_backend import SlabInterpolation


class Operator(Protocol):
    """A linear operator with its transpose."""

    def forward(self, image: Tensor) -> Tensor:
        """Apply the operator."""

    def add_adjoint(self, scan: Tensor, image: Tensor) -> None:
        """Apply the transpose to ``scan`` and add the result to ``image``."""


class DataTerm(Protocol):
    """The part of the objective that one scan contributes."""

    def add_gradient(self, image: Tensor, gradient: Tensor) -> float:
        """Add ``A' P (A image - x)`` to ``gradient``; return the value of the term."""

    def add_normal(self, image: Tensor, product: Tensor) -> float:
        """Add ``A' P A image`` to ``product``; return half of ``image' A' P A image``."""

    def add_row_sums(self, sums: Tensor) -> None:
        """Add the row sums of ``A' P A``, or a close approximation, to ``sums``; none negative."""


class ComposedDataTerm:
    """Data term from any operator and its transpose, for any geometry and device.

    Parameters
    ----------
    operator
        The forward operator A.
    scan
        Measured intensities x, source shape.
    precision
        Weight P of every voxel, source shape; 0 for missing voxels.
    """

    def __init__(self, operator: Operator, scan: Tensor, precision: Tensor) -> None:
        self._operator = operator
        self._scan = scan
        self._precision = precision

    def add_gradient(self, image: Tensor, gradient: Tensor) -> float:
        """See :class:`DataTerm`."""
        return self._add(self._operator.forward(image) - self._scan, gradient)

    def add_normal(self, image: Tensor, product: Tensor) -> float:
        """See :class:`DataTerm`."""
        return self._add(self._operator.forward(image), product)

    def add_row_sums(self, sums: Tensor) -> None:
        """See :class:`DataTerm`; no weight of A is negative."""
        self.add_normal(torch.ones_like(sums), sums)

    def _add(self, residual: Tensor, target: Tensor) -> float:
        weighted = self._precision * residual
        self._operator.add_adjoint(weighted, target)
        # Line by line: the order of a sum over all voxels would depend on the number of threads.
        lines = (weighted.double() * residual).sum(dim=2).sum(dim=1)
        return 0.5 * float(lines.sum())


class SharpenedDataTerm:
    """Data term of an image that is sharpened before it is interpolated.

    Parameters
    ----------
    inner
        Data term of the sharpened image.
    coefficients
        Strength of the sharpening along each axis; see `sharpen`.
    workspace
        ``(2, X, Y, Z)`` float32, memory that several data terms may share.
    """

    def __init__(self, inner: DataTerm, coefficients: Coefficients, workspace: Tensor) -> None:
        self._inner = inner
        self._coefficients = coefficients
        self._image, self._gradient = workspace

    def add_gradient(self, image: Tensor, gradient: Tensor) -> float:
        """See :class:`DataTerm`."""
        return self._add(self._inner.add_gradient, image, gradient)

    def add_normal(self, image: Tensor, product: Tensor) -> float:
        """See :class:`DataTerm`."""
        return self._add(self._inner.add_normal, image, product)

    def add_row_sums(self, sums: Tensor) -> None:
        """See :class:`DataTerm`.

        The filter has negative weights, so that row sums could become negative where a scan ends.
        Here the absolute weights are used, scaled to add up to 1.
        """
        overshoot = 4 * sum(self._coefficients)
        x, y, z = self._coefficients
        inner = self._gradient.zero_()
        self._inner.add_row_sums(inner)
        inner.div_(1 + overshoot)
        add_sharpened(inner, (-x, -y, -z), sums)
        sums.add_(inner, alpha=overshoot)

    def _add(self, add: Callable[[Tensor, Tensor], float], image: Tensor, target: Tensor) -> float:
        sharpen(image, self._coefficients, self._image)
        value = add(self._image, self._gradient.zero_())
        # Sharpening is symmetric: it is its own transpose.
        add_sharpened(self._gradient, self._coefficients, target)
        return value


class SlabDataTerm:
    """Data term on the CPU in one pass, without storing the whole intermediate grid.

    Parameters
    ----------
    sampling
        Geometry and slice profile of the scan, which is blurred along one axis at most.
    scan
        Measured intensities x, source shape, float32.
    precision
        Weight P of every voxel, source shape, float32; 0 for missing voxels.
    """

    def __init__(self, sampling: Sampling, scan: Tensor, precision: Tensor) -> None:
        blurred = sampling.blurred_axes[0] if sampling.blurred_axes else 2
        weights = sampling.weights[blurred]
        used = np.flatnonzero(weights)
        first, taps = int(used[0]), int(used[-1] - used[0]) + 1
        order = _axis_order(sampling, blurred, taps)
        matrix = sampling.matrix.copy()
        matrix[:, 3] += first * matrix[:, blurred]
        ratio = sampling.ratio[blurred]
        self._ratio = ratio
        self._weights = torch.as_tensor(weights[first : first + taps], dtype=torch.float32)
        sides = list(sampling.source_shape)
        sides[blurred] = (sides[blurred] - 1) * ratio + taps
        depth, rows, width = (sides[axis] for axis in order)
        self._slabs = SlabInterpolation(
            sampling.target_shape,
            (depth, rows, width),
            matrix[:, [*order, 3]],
            *((ratio, taps) if order[0] == blurred else (1, 1)),
        )
        self._scan = scan.permute(order).contiguous()
        self._precision = precision.permute(order).contiguous()
        if order[2] == blurred:
            self._kernel = slabs.gradient_along_rows
            self._scratch = (width, self._scan.shape[2])
        elif order[0] == blurred:
            self._kernel = slabs.gradient_across_slabs
            self._scratch = (width, width)
        else:
            self._kernel = slabs.gradient_across_rows
            self._scratch = (rows * width, self._scan.shape[1] * width)

    def add_gradient(self, image: Tensor, gradient: Tensor) -> float:
        """See :class:`DataTerm`."""
        return self._add(image, gradient, measured=1)

    def add_normal(self, image: Tensor, product: Tensor) -> float:
        """See :class:`DataTerm`."""
        return self._add(image, product, measured=0)

    def add_row_sums(self, sums: Tensor) -> None:
        """See :class:`DataTerm`; no weight of A is negative."""
        self.add_normal(torch.ones_like(sums), sums)

    def _add(self, image: Tensor, target: Tensor, measured: int) -> float:
        cost = torch.zeros(self._slabs.slab_count, dtype=torch.float64)
        before = [
            runtime.flat(self._weights),
            self._ratio,
            runtime.flat(self._precision),
            runtime.flat(self._scan),
            measured,
        ]
        after = [runtime.flat(target), runtime.as_array(cost)]

        def inputs(_: int) -> list[object]:
            scratch = [runtime.flat(torch.empty(size)) for size in self._scratch]
            return [*before, *scratch, *after]

        self._slabs.launch(self._kernel, runtime.flat(image), inputs)
        return 0.5 * float(cost.sum())


def _axis_order(sampling: Sampling, blurred: int, taps: int) -> tuple[int, int, int]:
    """Order of the scan axes as (slab, row, sample).

    Samples run along the axis closest to the contiguous axis of the image, so that neighbours
    share cache lines.
    The slice profile lies along the rows, across the rows of a slab, or across slabs. Across
    slabs, rows that two slices share are interpolated twice; this pays while such rows are few.
    """
    ratio = sampling.ratio[blurred]
    steps = np.abs(sampling.matrix[:, :3]) / np.linalg.norm(sampling.matrix[:, :3], axis=0)
    sample = int(np.argmax(steps[2]))
    slab, row = sorted((a for a in range(3) if a != sample), key=lambda a: -float(steps[0, a]))
    if slab == blurred and 2 * taps > 3 * ratio:
        slab, row = row, slab
    return slab, row, sample
