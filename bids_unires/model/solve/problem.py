"""What is solved for, and when the solver stops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from ...space.grid import Grid
from ..scanner.resampling import fill_where_precise, starting_images
from ..state import ContrastState
from .objective import Objective

Value = TypeVar("Value")

# A fit that starts from learned detail is as close to the truth at so many times the tolerance.
_NEAR_START = 5.0


@dataclass(frozen=True)
class Stop:
    """When a solver stops.

    Parameters
    ----------
    tolerance
        The solver stops after three iterations in a row that each lower the objective by less than
        this fraction of it.
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
        """The same tolerance with another upper bound on iterations."""
        return replace(self, max_iter=iterations)

    def from_detail(self) -> Stop:
        """The same for a fit that starts from learned detail, which is near its end."""
        return replace(self, tolerance=min(_NEAR_START * self.tolerance, 0.5))


@dataclass(frozen=True, eq=False)
class Problem:
    """Contrasts of one head whose images are solved for together.

    Parameters
    ----------
    contrasts
        All that is known of each contrast.
    grid
        Grid of the images.
    device
        Device of the images.
    guide
        ``(X, Y, Z)`` on the device: edges of images that do not change; None without any. See
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
        """Whether the order or the motion of the slices of any scan is known."""
        return any(scan.slices is not None for c in self.contrasts for scan in c.scans)

    @property
    def has_slice_motion(self) -> bool:
        """Whether the slices of any scan moved."""
        return any(contrast.has_slice_motion for contrast in self.contrasts)

    def objective(self) -> Objective:
        """The function of the images that is minimised."""
        terms = [contrast.terms(self.grid) for contrast in self.contrasts]
        return Objective(terms, self.grid, self.weights, self.device, self.guide)

    def start(self, images: Tensor | None) -> Tensor:
        """Images to start from on the device, ``(C, X, Y, Z)``.

        If None, they are `starting_images`, and learned detail where there is some.
        """
        if images is not None:
            return images.to(self.device)
        scans = [contrast.observations for contrast in self.contrasts]
        started = starting_images(scans, self.grid, self.device)
        for image, contrast in zip(started, self.contrasts, strict=True):
            if contrast.detail is not None:
                fill_where_precise(image, contrast.detail.scan, self.grid)
        return started

    def changed(
        self, change: Callable[[ContrastState, Value], ContrastState], values: Iterable[Value]
    ) -> Problem:
        """The same problem with every contrast changed.

        Parameters
        ----------
        change
            Takes a contrast and its value, and returns the changed contrast.
        values
            One for each contrast, such as its image, or the same contrast after another fit.
        """
        pairs = zip(self.contrasts, values, strict=True)
        return self.with_contrasts(change(contrast, value) for contrast, value in pairs)

    def with_contrasts(self, contrasts: Iterable[ContrastState]) -> Problem:
        """The same problem of other contrasts."""
        return replace(self, contrasts=tuple(contrasts))

    def with_weights(self, weights: Iterable[float]) -> Problem:
        """The same problem with these weights of the prior in mm / intensity, ``(C,)``."""
        return self.changed(lambda contrast, weight: replace(contrast, weight=weight), weights)

    @property
    def has_detail_throughout(self) -> bool:
        """Whether detail within slices was learned for every contrast."""
        return all(contrast.detail is not None for contrast in self.contrasts)

    def split_by_motion(self) -> Problem:
        """The same problem with every group of slices that moved as a scan of its own."""
        return self.with_contrasts(contrast.split_by_motion() for contrast in self.contrasts)

    def without_detail(self) -> Problem:
        """The same problem without learned detail within slices."""
        return self.with_contrasts(replace(contrast, detail=None) for contrast in self.contrasts)
