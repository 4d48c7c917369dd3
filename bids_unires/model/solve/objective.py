"""The objective: the negative log-likelihood of the scans plus the prior of the images.

``L(y) = sum_cn tau_cn / 2 |x_cn - A_cn y_c|^2 + sum_v sqrt(sum_c lambda_c^2 |D y_c|^2_v)``,
the sum of squares over voxels that are not missing (Brudfors et al. 2018, equation 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ...kernels.data_term import DataTerm
from ...space.grid import Grid
from ..prior.total_variation import JointTotalVariation
from ..scanner.observation import Observation


@dataclass(frozen=True)
class ObjectiveValue:
    """The objective and its two parts (negative logarithms of probabilities)."""

    likelihood: float
    prior: float

    @property
    def total(self) -> float:
        """The sum of both, which the solver minimises."""
        return self.likelihood + self.prior


class Objective:
    """Data terms of all scans and the prior over all contrasts, on one device.

    Parameters
    ----------
    contrasts
        For each contrast its scans.
    grid
        Grid of the wanted images.
    lam
        Regularisation of each contrast in mm / intensity, ``(C,)``.
    device
        Device of the images.
    guide
        ``(X, Y, Z)``, edges of images that do not change; see `JointTotalVariation`.

    Raises
    ------
    ValueError
        If there is no contrast, one without scans, or not one ``lam`` for each.
    """

    def __init__(
        self,
        contrasts: Sequence[Sequence[Observation]],
        grid: Grid,
        lam: ArrayLike,
        device: torch.device,
        guide: Tensor | None = None,
    ) -> None:
        if not contrasts or not all(contrasts):
            raise ValueError("every contrast needs at least one scan, and there must be one")
        if len(np.atleast_1d(np.asarray(lam))) != len(contrasts):
            raise ValueError(f"{len(contrasts)} contrasts need as many values of lam, got {lam!r}")
        self.grid = grid
        self.device = device
        self.prior = JointTotalVariation(grid, lam, device, guide)
        workspace = torch.empty((2, *grid.shape), device=device)
        self._terms = [
            [data_term(scan, grid, device, workspace) for scan in scans] for scans in contrasts
        ]

    @property
    def contrast_count(self) -> int:
        """Number of contrasts C."""
        return len(self._terms)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the images, ``(C, X, Y, Z)``."""
        return (self.contrast_count, *self.grid.shape)

    def value(self, images: Tensor) -> ObjectiveValue:
        """The objective at ``images`` ``(C, X, Y, Z)``."""
        scratch = torch.empty_like(images[0])
        likelihood = sum(
            self.add_data_gradient(c, images[c], scratch) for c in range(self.contrast_count)
        )
        return ObjectiveValue(likelihood, self.prior.value(images))

    def add_data_gradient(self, contrast: int, image: Tensor, gradient: Tensor) -> float:
        """Add the gradient of the likelihood of one contrast at its image; return its value."""
        return sum(term.add_gradient(image, gradient) for term in self._terms[contrast])

    def add_row_sums(self, contrast: int, sums: Tensor) -> None:
        """Add approximate row sums of ``sum_n tau_n A_n'A_n``, none of them negative."""
        for term in self._terms[contrast]:
            term.add_row_sums(sums)

    def add_normal(self, contrast: int, image: Tensor, product: Tensor) -> float:
        """Add ``sum_n tau_n A_n'A_n image``; return its scalar product with ``image``."""
        return 2 * sum(term.add_normal(image, product) for term in self._terms[contrast])


def data_term(scan: Observation, grid: Grid, device: torch.device, workspace: Tensor) -> DataTerm:
    """The term of the objective that belongs to a scan; its missing voxels have precision 0.

    Parameters
    ----------
    scan
        The scan at its pose.
    grid
        Grid of the image.
    device
        Device of the image.
    workspace
        ``(2, X, Y, Z)``, memory for two images, overwritten by every call of the term.
    """
    operator = scan.operator(grid)
    return operator.data_term(*weighted_data(scan, device), workspace)


def weighted_data(scan: Observation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Intensities and precisions of the voxels of a scan, ``(X, Y, Z)``; 0 where missing."""
    data = torch.as_tensor(np.array(scan.data, dtype=np.float32), device=device)
    missing = torch.as_tensor(scan.missing, device=device)
    precision = scan.tau if scan.slice_weights is None else scan.tau * scan.slice_factor
    tau = torch.as_tensor(precision, dtype=torch.float32, device=device)
    return torch.where(missing, 0.0, data), torch.where(missing, 0.0, tau)
