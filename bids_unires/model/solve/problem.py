"""What is solved for, and when a solver may stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...space.grid import Grid
from ..detail.term import LearnedDetail
from ..scanner.resampling import linear_images
from ..state import ContrastState
from .objective import Objective


@dataclass(frozen=True)
class Stop:
    """When a solver stops.

    Parameters
    ----------
    tolerance
        Three iterations in a row that each lower the objective by less than this fraction of it
        are the last.
    max_iter
        Upper bound on iterations.

    Raises
    ------
    ValueError
        If either is out of range.
    """

    tolerance: float = 1e-4
    max_iter: int = 100

    def __post_init__(self) -> None:
        if self.max_iter < 1:
            raise ValueError(f"max_iter must be at least 1, got {self.max_iter}")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must lie between 0 and 1, got {self.tolerance}")

    def after(self, iterations: int) -> Stop:
        """The same tolerance, and another bound on iterations."""
        return replace(self, max_iter=iterations)


@dataclass(frozen=True, eq=False)
class Problem:
    """Contrasts of one head whose images are to be found together.

    Parameters
    ----------
    contrasts
        What is known of each.
    grid
        Grid of the images.
    device
        Where to work.
    guide
        ``(X, Y, Z)`` on the device: edges of images that are given; None without any. See
        `JointTotalVariation`.
    refines_poses
        Whether poses of scans and of their slices are refined.
    """

    contrasts: tuple[ContrastState, ...]
    grid: Grid
    device: torch.device
    guide: Tensor | None = None
    refines_poses: bool = False

    @property
    def weights(self) -> tuple[float, ...]:
        """Weight of the prior of each contrast in mm / intensity, ``(C,)``."""
        return tuple(contrast.weight for contrast in self.contrasts)

    @property
    def knows_slices(self) -> bool:
        """Whether anything is known of the slices of any scan, so that they may be placed."""
        return any(scan.slices is not None for own in self.contrasts for scan in own.scans)

    def objective(self) -> Objective:
        """The function of the images that is to be least."""
        terms = [contrast.terms(self.grid) for contrast in self.contrasts]
        return Objective(terms, self.grid, self.weights, self.device, self.guide)

    def start(self, images: Tensor | None) -> Tensor:
        """Images to start from on the device, ``(C, X, Y, Z)``; the scans interpolated if None."""
        if images is not None:
            return images.to(self.device)
        scans = [contrast.observations for contrast in self.contrasts]
        return linear_images(scans, self.grid, self.device)

    def of(self, contrasts: tuple[ContrastState, ...]) -> Problem:
        """The same problem of other contrasts."""
        return replace(self, contrasts=contrasts)

    def apart(self) -> Problem:
        """With every group of slices that moved as a scan of its own."""
        return self.of(tuple(contrast.apart() for contrast in self.contrasts))

    def without_detail(self) -> Problem:
        """Without what was learned of what lies within slices."""
        return self.detailed([None] * len(self.contrasts))

    def detailed(self, details: Sequence[LearnedDetail | None]) -> Problem:
        """With this of what lies within the slices of each contrast."""
        pairs = zip(self.contrasts, details, strict=True)
        return self.of(tuple(replace(contrast, detail=detail) for contrast, detail in pairs))

    def weighed(self, weights: tuple[float, ...]) -> Problem:
        """With these weights of the prior in mm / intensity, ``(C,)``."""
        pairs = zip(self.contrasts, weights, strict=True)
        return self.of(tuple(replace(contrast, weight=weight) for contrast, weight in pairs))
