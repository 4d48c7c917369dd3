"""Rigid pose of two scans of different contrasts by how one follows the other place by place.

Mutual information describes the whole head by one joint histogram. Where slices are thick, blurred
borders between tissues, and bright and dark regions of the coils, fill it with intensities that no
tissue has, and a pose can be most of a millimetre off. Here the head is divided into blocks of
about a centimetre. Within a block, the intensities of one scan are a linear function of those of
the other one, with coefficients of its own, plus Gaussian noise of a variance of its own:

    reference = a_p + b_p moving + noise of variance s_p^2,    log L = -1/2 sum_p n_p log s_p^2

where a_p, b_p and s_p^2 are those that fit best, and n_p is the number of points of the block p.
Blocks without contrast say nothing, and blocks where the contrasts differ say little. It is the
correlation coefficient of Hill, Batchelor, Holden and Hawkes 2001 (*Medical image registration*),
within blocks. Gauss-Newton steps ascend it from a pose that is right to a few millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..space.affines import Affine, apply_affine, translation
from ..space.volume import Volume
from .equal_blur import BlurredScan, blurred_alike
from .masks import head_mask
from .pyramid import in_canonical_order

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

RADIUS_MM = 70.0
"""Distance from the middle of a human head at which displacements are stated."""

_LINE_SEARCH = 6


@dataclass(frozen=True)
class LocalParameters:
    """Parameters of the comparison; lengths in mm are those of a human head.

    Parameters
    ----------
    spacing
        Distance between the points that are compared, in mm.
    side
        Points along the side of a block.
    blurs
        Standard deviation in mm to which scans are blurred, from coarse to fine.
    most_blocks
        Blocks that are compared at most.
    least_share
        Share of the points of a block that both scans must show.
    least_variance
        Variance of the noise of a block that is assumed at least, over the variance of the head.
    most_steps
        Gauss-Newton steps at most.
    smallest_step
        Displacement in mm of the last step.
    furthest
        Displacement in mm beyond which the pose found is not believed.
    """

    spacing: float = 3.0
    side: int = 3
    blurs: tuple[float, ...] = (3.0, 1.0)
    most_blocks: int = 5_000
    least_share: float = 0.3
    least_variance: float = 1e-3
    most_steps: int = 20
    smallest_step: float = 0.01
    furthest: float = 6.0


@dataclass(frozen=True, eq=False)
class LocalAlignment:
    """A pose, and how uncertain it is.

    Parameters
    ----------
    pose
        ``(4, 4)``, world mm of the moving scan to world mm of the reference.
    covariance
        ``(6, 6)`` of a small motion that follows the pose: shift in mm, then rotation vector in
        rad about ``centre``.
    centre
        Centre of the head in world mm of the reference, ``(3,)``.
    """

    pose: Affine
    covariance: Values
    centre: Values


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks that cover a head.

    Parameters
    ----------
    points
        Points to compare in each block, ``(P, n, 3)`` world mm.
    counted
        Which of them lie in the head, ``(P, n)``.
    centre
        Centre of the head in world mm, ``(3,)``.
    """

    points: Values
    counted: Mask
    centre: Values

    @property
    def flat(self) -> Values:
        """The points of all blocks, ``(P n, 3)``."""
        return self.points.reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class _Fit:
    """The blocks fitted at a pose: minus the log likelihood, and its derivatives by block."""

    cost: float
    gradients: Values
    hessian: Values


# A lattice along no axis of a scan, so that its points lie everywhere between voxels.
_TURN = Rotation.from_rotvec([0.37, -0.53, 0.71]).as_matrix()
_OFFSET = 0.31
# Blocks whose index along these steps is a multiple of a number lie evenly in the head.
_THINNING = np.array([1, 3, 7])


def align_locally(
    reference: Volume,
    moving: Volume,
    start: Affine,
    unit: float = 1.0,
    parameters: LocalParameters = LocalParameters(),
    blocks: Blocks | None = None,
) -> LocalAlignment | None:
    """Refine a pose by how one contrast follows the other within small blocks.

    Parameters
    ----------
    reference, moving
        Scans of one head.
    start
        ``(4, 4)``, world mm of the moving scan to world mm of the reference, right to a few mm.
    unit
        Size of the head relative to a human head.
    parameters
        Parameters of the comparison.
    blocks
        The blocks of the reference, as from `blocks_of`; found here if None.

    Returns
    -------
    LocalAlignment or None
        None if the scans share too few blocks to determine a pose, or if no pose near the start is
        better than all around it. The covariance is that of the estimate if blocks are independent
        of each other (the "sandwich" of White 1982), without the errors that blocks share.
    """
    # The same scan stored with other axes or flips gives the same pose.
    reference, moving = (
        Volume(*in_canonical_order(scan.data, scan.affine)) for scan in (reference, moving)
    )
    if blocks is None:
        blocks = blocks_of(reference, unit, parameters)
    pose, fit = start, None
    for blur in parameters.blurs:
        placed = Volume(moving.data, pose @ moving.affine)
        fixed, free = blurred_alike(reference, placed, blur * unit, unit)
        comparison = _Comparison(fixed, free, blocks, unit, parameters)
        motion, fit = comparison.ascend()
        if fit is None:
            return None
        pose = motion @ pose
    change = pose @ np.linalg.inv(start)
    if fit is None or displacement(change, blocks.centre, unit) > parameters.furthest * unit:
        return None
    inverse = np.linalg.inv(fit.hessian)
    scatter = fit.gradients.T @ fit.gradients
    return LocalAlignment(pose, inverse @ scatter @ inverse, blocks.centre)


def displacement(motion: Affine, centre: Values, unit: float = 1.0) -> float:
    """Root mean square distance in mm by which a rigid motion moves the surface of a head.

    Parameters
    ----------
    motion
        ``(4, 4)``, world mm to world mm.
    centre
        Centre of the head in world mm, ``(3,)``.
    unit
        Size of the head relative to a human head.

    Examples
    --------
    >>> displacement(translation([0, 3, 4]), np.zeros(3))
    5.0
    """
    points = centre + RADIUS_MM * unit * np.vstack([np.eye(3), -np.eye(3)])
    moved = apply_affine(motion, points) - points
    return float(np.sqrt((moved**2).sum(axis=1).mean()))


def uncertainty_of(covariance: Values, unit: float = 1.0) -> float:
    """Root mean square displacement in mm of the surface of a head, by the covariance of a motion.

    Parameters
    ----------
    covariance
        ``(6, 6)``, as in `LocalAlignment`.
    unit
        Size of the head relative to a human head.
    """
    # A rotation by w displaces a point of the sphere by r |w| sqrt(2/3) in the mean.
    shift, turn = np.trace(covariance[:3, :3]), np.trace(covariance[3:, 3:])
    return float(np.sqrt(shift + 2 / 3 * (RADIUS_MM * unit) ** 2 * turn))


def motion_about(step: Values, centre: Values) -> Affine:
    """Rigid motion ``(4, 4)`` of a shift (mm) and a rotation vector (rad) about a centre."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(step[3:]).as_matrix()
    motion[:3, 3] = step[:3]
    return np.asarray(translation(centre) @ motion @ translation(-centre))


def blocks_of(
    scan: Volume, unit: float = 1.0, parameters: LocalParameters = LocalParameters()
) -> Blocks:
    """The blocks that cover the head in a scan.

    Parameters
    ----------
    scan
        The reference of an alignment.
    unit, parameters
        As for `align_locally`.
    """
    scan = Volume(*in_canonical_order(scan.data, scan.affine))
    head = head_mask(scan.data, scan.affine)
    voxels = np.argwhere(head)
    centre = apply_affine(scan.affine, voxels).mean(axis=0) if len(voxels) else np.zeros(3)
    width = parameters.spacing * unit
    lattice = (apply_affine(scan.affine, voxels) - centre) @ _TURN / (width * parameters.side)
    cells = _occupied(np.floor(lattice + _OFFSET).astype(np.intp))
    steps = np.arange(parameters.side) + 0.5
    within = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    inner = ((cells[:, None] - _OFFSET) * parameters.side + within) * width
    points = inner @ _TURN.T + centre
    at = apply_affine(np.linalg.inv(scan.affine), points.reshape(-1, 3))
    counted = ndimage.map_coordinates(head.astype(np.uint8), at.T, order=0) > 0
    counted = counted.reshape(points.shape[:2])
    shown = counted.mean(axis=1) > parameters.least_share
    # Every so many-th block, by its place: a block more or less does not change the others.
    every = -(-int(shown.sum()) // parameters.most_blocks)
    kept = shown & (cells @ _THINNING % max(every, 1) == 0)
    return Blocks(points[kept], counted[kept], centre)


def _occupied(cells: NDArray[np.intp]) -> NDArray[np.intp]:
    """Cells ``(N, 3)`` without repetition."""
    if not len(cells):
        return cells
    low = cells.min(axis=0)
    occupied = np.zeros(cells.max(axis=0) - low + 1, dtype=bool)
    occupied[tuple((cells - low).T)] = True
    return np.asarray(np.argwhere(occupied) + low)


class _Comparison:
    """Two blurred scans, compared block by block."""

    def __init__(
        self,
        fixed: BlurredScan,
        free: BlurredScan,
        blocks: Blocks,
        unit: float,
        parameters: LocalParameters,
    ) -> None:
        self._free, self._blocks, self._unit, self._parameters = free, blocks, unit, parameters
        shape = blocks.counted.shape
        self._fixed = fixed.at(blocks.flat).reshape(shape)
        self._counted = blocks.counted & fixed.covers(blocks.flat).reshape(shape)
        shown = self._fixed[self._counted]
        self._variance = float(shown.var()) if shown.size else 0.0

    def ascend(self) -> tuple[Affine, _Fit | None]:
        """The motion of the free scan to the likeliest pose nearby; None if nothing determines it.

        Returns
        -------
        motion
            ``(4, 4)``, world mm to world mm.
        fit
            The blocks fitted there.
        """
        motion = np.eye(4)
        fit = self._fit(motion)
        for _ in range(self._parameters.most_steps):
            if fit is None or np.linalg.cond(_scaled(fit.hessian, self._unit)) > 1e6:
                return motion, None
            step = -np.linalg.solve(fit.hessian, fit.gradients.sum(axis=0))
            for _ in range(_LINE_SEARCH):
                change = motion_about(step, self._blocks.centre)
                if self._cost(change @ motion) < fit.cost:
                    break
                step = step / 2
            else:
                break
            motion = change @ motion
            fit = self._fit(motion)
            moved = displacement(change, self._blocks.centre, self._unit)
            if moved < self._parameters.smallest_step * self._unit:
                break
        return motion, fit

    def _cost(self, motion: Affine) -> float:
        sampled = self._sampled(motion)
        return np.inf if sampled is None else sampled.cost

    def _fit(self, motion: Affine) -> _Fit | None:
        sampled = self._sampled(motion)
        if sampled is None:
            return None
        back: Affine = np.asarray(np.linalg.inv(motion), dtype=np.float64)
        gradient = self._gradient(back)
        arms = self._blocks.points - self._blocks.centre
        # A motion of the scan by u + w x arm samples it at a point that moves the other way.
        moved = -np.concatenate([gradient, np.cross(arms, gradient)], axis=-1)
        derivatives = sampled.unexplained(moved)
        scaled = derivatives / np.sqrt(sampled.variance)[:, None, None]
        gradients = -np.einsum("pn,pnk->pk", sampled.residual, derivatives)
        flat = scaled.reshape(-1, 6)
        return _Fit(sampled.cost, gradients / sampled.variance[:, None], flat.T @ flat)

    def _sampled(self, motion: Affine) -> _Regression | None:
        """The linear relation in every block at a motion; None if no block is left."""
        points = apply_affine(np.linalg.inv(motion), self._blocks.flat)
        shape = self._counted.shape
        weight = (self._counted & self._free.covers(points).reshape(shape)).astype(np.float64)
        weight *= weight.mean(axis=1, keepdims=True) > self._parameters.least_share
        if not weight.any() or self._variance == 0:
            return None
        least = self._parameters.least_variance * self._variance
        return _Regression.of(self._fixed, self._free.at(points).reshape(shape), weight, least)

    def _gradient(self, back: Affine) -> Values:
        """Gradient of the free scan at the points moved back, ``(P, n, 3)``, per mm."""
        points = apply_affine(back, self._blocks.flat)
        half = 0.5 * self._unit
        columns = [
            (self._free.at(points + half * axis) - self._free.at(points - half * axis)) / (2 * half)
            for axis in back[:3, :3].T
        ]
        return np.stack(columns, axis=-1).reshape(*self._counted.shape, 3)


@dataclass(frozen=True, eq=False)
class _Regression:
    """In each block, the fixed scan as a linear function of the free one.

    Parameters
    ----------
    weight
        1 for points that count and 0 for all others, ``(P, n)``.
    centred
        Intensities of the free scan minus their mean in the block, ``(P, n)``.
    slope
        b_p, ``(P,)``.
    residual
        What is left of the fixed scan, ``(P, n)``.
    variance
        s_p^2, ``(P,)``.
    """

    weight: Values
    centred: Values
    slope: Values
    residual: Values
    variance: Values

    @classmethod
    def of(cls, fixed: Values, free: Values, weight: Values, least: float) -> _Regression:
        """Fit the relation; noise has at least the variance ``least``."""
        count = np.maximum(weight.sum(axis=1), 1)[:, None]

        def centred(values: Values) -> Values:
            mean = (weight * values).sum(axis=1, keepdims=True) / count
            return np.asarray((values - mean) * weight, dtype=np.float64)

        one, other = centred(fixed), centred(free)
        power = (other**2).sum(axis=1)
        slope = (one * other).sum(axis=1) / np.maximum(power, np.finfo(np.float32).tiny)
        residual = one - slope[:, None] * other
        variance = (residual**2).sum(axis=1) / count[:, 0] + least
        return cls(weight, other, slope, residual, variance)

    @property
    def cost(self) -> float:
        """Minus the log likelihood."""
        return float(0.5 * (self.weight.sum(axis=1) * np.log(self.variance)).sum())

    def unexplained(self, moved: Values) -> Values:
        """Change of the prediction of every point, by change of the free scan ``(P, n, k)``.

        Without the part that other coefficients of the block would make up for.
        """
        count = np.maximum(self.weight.sum(axis=1), 1)[:, None, None]
        change = moved * (self.slope[:, None] * self.weight)[..., None]
        change = (change - change.sum(axis=1, keepdims=True) / count) * self.weight[..., None]
        power = np.maximum((self.centred**2).sum(axis=1), np.finfo(np.float32).tiny)
        along = np.einsum("pn,pnk->pk", self.centred, change) / power[:, None]
        return np.asarray(change - self.centred[..., None] * along[:, None])


def _scaled(hessian: Values, unit: float) -> Values:
    """The Hessian with rotations in mm at the surface of the head."""
    scale = np.array([1.0, 1, 1, *(3 * [RADIUS_MM * unit])])
    return np.asarray(hessian / np.outer(scale, scale))
