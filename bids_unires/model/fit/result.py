"""The result of a reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...space.affines import Affine
from ...space.grid import Grid
from ..assess.detectability import Detectability
from ..assess.residuals import ResidualStatement
from ..assess.uncertainty import Uncertainty
from ..detail.term import DetailStatement
from ..intensity.noise import NoiseEstimate
from ..robust.verdict import Verdicts
from ..scanner.profile import SliceProfile
from ..scanner.slice_groups import SliceMotion
from ..solve.solver import Progress


@dataclass(frozen=True, eq=False)
class Fit:
    """Results of a fit besides the images.

    The images minimise its objective; where detail was learned, residuals are then added back.

    Nested tuples are (contrast, repeat), in the order of the input.

    Attributes
    ----------
    noise
        Noise and contrast of every scan.
    profiles
        Slice profile of every scan.
    interleaves
        Logarithm of the factor of even slices of every scan; 0 where it was not estimated.
    scales
        Scale of each scan's residuals in intensity: its noise, or more where repeats of
        one contrast disagree.
    residuals
        Statistics of the residuals of every scan, before they are added back.
    lam
        Regularisation of each contrast in mm / intensity.
    objective
        History of the solver; the last entry holds the final value.
    converged
        Whether the solver stopped by the tolerance, not by the bound on iterations.
    tolerance
        Relative fall of the objective at which it stops.
    uncertainty
        Standard deviations of the images; None unless the settings ask for them.
    slice_motions
        How the slices of every scan moved, None for those that did not; empty if slice motion was
        not asked for.
    slice_verdicts
        Weights and repairs of the slices of every scan; None if they were not judged.
    details
        For each contrast how accurate its learned detail is, None where nothing was learned; empty
        if detail was not asked for.
    detectability
        For each contrast what small lesions would become, None where that cannot be said; empty if
        it was not asked for.
    measured
        ``(C, X, Y, Z)`` float32: share of the detail of the images that the scans measured, 0 to 1;
        None if it was not asked for.
    """

    noise: tuple[tuple[NoiseEstimate, ...], ...]
    profiles: tuple[tuple[SliceProfile, ...], ...]
    interleaves: tuple[tuple[float, ...], ...]
    scales: tuple[tuple[float, ...], ...]
    residuals: tuple[tuple[ResidualStatement, ...], ...]
    lam: tuple[float, ...]
    objective: tuple[Progress, ...]
    converged: bool
    tolerance: float
    uncertainty: Uncertainty | None = None
    slice_motions: tuple[tuple[SliceMotion | None, ...], ...] = ()
    slice_verdicts: Verdicts | None = None
    details: tuple[DetailStatement | None, ...] = ()
    detectability: tuple[Detectability | None, ...] = ()
    measured: NDArray[np.float32] | None = None

    @property
    def iterations(self) -> int:
        """Iterations of the solver in total, over all groups of contrasts and all rounds."""
        states = pairwise(self.objective)
        return sum(after.products > before.products for before, after in states)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Images on one grid, from a fit or from interpolation.

    Nested tuples are (contrast, repeat), in the order of the input.

    Attributes
    ----------
    images
        ``(C, X, Y, Z)`` float32, one image for each contrast, in the units of its scans. Where no
        scan measured anything it is 0, or in CT the darkest value of the scans. Missing voxels next
        to measured ones are interpolated.
    grid
        Their grid.
    coverage
        ``(X, Y, Z)`` bool: voxels within the field of view of at least one scan of every contrast.
    poses
        ``(4, 4)`` matrices, scan world mm -> world mm of the images; rigid unless other matrices
        were given.
    device
        Device of the computation: ``cpu`` or the name of the GPU.
    fit
        Further results of the fit; None if the scans were interpolated without one.
    """

    images: NDArray[np.float32]
    grid: Grid
    coverage: NDArray[np.bool_]
    poses: tuple[tuple[Affine, ...], ...]
    device: str
    fit: Fit | None = None
