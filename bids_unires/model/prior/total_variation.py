"""Joint total variation: an edge costs less where another contrast has an edge, too.

Brudfors et al. 2018 (arXiv 1810.03422), section 2.3:
``sum_v sqrt(sum_c lambda_c^2 |D y_c|^2_v)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ...kernels import edges
from ...space.grid import Grid


def differences(image: Tensor, voxel_size: Sequence[float]) -> Tensor:
    """D: forward differences per mm, ``(3, X, Y, Z)``; 0 at the last voxel of each axis.

    Parameters
    ----------
    image
        ``(X, Y, Z)``.
    voxel_size
        mm along each axis.

    Examples
    --------
    >>> differences(torch.tensor([[[1.0, 3.0]]]), (1, 1, 2))[2].tolist()
    [[[1.0, 0.0]]]
    """
    return torch.stack(
        [
            torch.diff(image, dim=axis, append=image.narrow(axis, -1, 1)) / size
            for axis, size in enumerate(voxel_size)
        ]
    )


def differences_adjoint(field: Iterable[Tensor], voxel_size: Sequence[float]) -> Tensor:
    """D': transpose of :func:`differences`, ``(X, Y, Z)``.

    Parameters
    ----------
    field
        Its components along the three axes, ``(X, Y, Z)`` each. They are taken one after the
        other, so that an iterator needs memory for one of them only.
    voxel_size
        mm along each axis.

    Raises
    ------
    ValueError
        If there is not one component for each axis.
    """
    total: Tensor | None = None
    for axis, (component, size) in enumerate(zip(field, voxel_size, strict=True)):
        if total is None:
            total = torch.zeros_like(component)
        inner = component.shape[axis] - 1
        rises = component.narrow(axis, 0, inner)
        total.narrow(axis, 0, inner).sub_(rises, alpha=1 / size)
        total.narrow(axis, 1, inner).add_(rises, alpha=1 / size)
    if total is None:
        raise ValueError("a field of differences has a component for each axis, not none")
    return total


def edge_squares(images: Tensor, grid: Grid, lam: ArrayLike) -> Tensor:
    """``sum_c lambda_c^2 |D y_c|^2``, ``(X, Y, Z)``: guides the fit of other contrasts.

    Parameters
    ----------
    images
        ``(C, X, Y, Z)``.
    grid
        Their grid.
    lam
        Regularisation of each contrast in mm / intensity, ``(C,)``.
    """
    squares = torch.zeros_like(images[0])
    sizes = grid.voxel_size.tolist()
    for image, weight in zip(images, np.asarray(lam, dtype=np.float64).reshape(-1), strict=True):
        squares += differences(image, sizes).mul_(float(weight)).square_().sum(dim=0)
    return squares


class JointTotalVariation:
    """The prior, and the quadratic bound of it that the solver minimises.

    Parameters
    ----------
    grid
        Grid of the wanted images.
    lam
        Regularisation of each contrast in mm / intensity, ``(C,)``.
    device
        Where the images are.
    guide
        ``(X, Y, Z)`` float32 on the device: `edge_squares` of images that do not change. Edges
        cost less where these images have edges. None without such images.

    Raises
    ------
    ValueError
        If a regularisation is not above 0 and finite, or the guide has another shape.
    """

    def __init__(
        self, grid: Grid, lam: ArrayLike, device: torch.device, guide: Tensor | None = None
    ) -> None:
        lams = torch.as_tensor(lam, dtype=torch.float64).reshape(-1)
        if not bool(((lams > 0) & torch.isfinite(lams)).all()):
            raise ValueError(f"lam must be above 0 for every contrast, got {lams.tolist()}")
        if guide is not None and tuple(guide.shape) != grid.shape:
            raise ValueError(f"guide must have shape {grid.shape}, got {tuple(guide.shape)}")
        self._guide = guide
        sizes = torch.as_tensor(grid.voxel_size)
        self._factors = (lams[:, None] / sizes) ** 2
        self._device_factors = self._factors.to(device, torch.float32)

    def value(self, images: Tensor) -> float:
        """Joint total variation of ``images`` ``(C, X, Y, Z)``."""
        return self.majorise(images, 1e-30, torch.empty_like(images[0]))

    def majorise(self, images: Tensor, smoothing: float, weights: Tensor) -> float:
        """Compute the weights of the quadratic bound at ``images``.

        ``sqrt(s) <= sqrt(s0) + (s - s0) / (2 sqrt(s0))`` turns the prior into
        ``sum_v w_v / 2 sum_c lambda_c^2 |D y_c|^2_v + constant``.

        Parameters
        ----------
        images
            ``(C, X, Y, Z)``.
        smoothing
            Added in quadrature below the root (no unit): the weights of flat regions stay finite.
        weights
            ``(X, Y, Z)``, receives w.

        Returns
        -------
        float
            Joint total variation of ``images``, without smoothing.
        """
        return edges.edge_weights(images, self._device_factors, smoothing, weights, self._guide)

    def factor(self, contrast: int) -> tuple[float, float, float]:
        """``(lambda / voxel size)^2`` of one contrast along each axis, in 1 / intensity^2."""
        x, y, z = self._factors[contrast].tolist()
        return x, y, z
