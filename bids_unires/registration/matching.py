"""Gradient ascent from one pose to the best pose nearby, by mutual information."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from ..space.affines import Affine, apply_affine
from .pyramid import COARSE, RAS_TO_LPS, Pyramid

SAMPLES_PER_LEVEL = 60_000
HISTOGRAM_BINS = 32
MAX_STEPS = 50
SEED = 1
SMALLEST_OVERLAP = 0.3


@dataclass(frozen=True)
class Candidate:
    """A candidate pose and how well two scans match in it.

    Parameters
    ----------
    pose
        ``(4, 4)``, world mm of the reference to world mm of the moving scan (RAS).
    start
        Name of the starting pose.
    information
        Mattes mutual information at the pose, in nat.
    score
        ``information`` times the fraction of the head that both scans see. Mutual information
        alone prefers poses that push parts that do not match out of the image.
    """

    pose: Affine
    start: str
    information: float = -math.inf
    score: float = -math.inf


class Matcher:
    """Compares two scans at one level of their pyramids.

    Parameters
    ----------
    reference, moving
        The scans.
    level
        Level of the pyramids to compare, one of `pyramid.LEVELS`.
    threads
        Number of threads to use.
    """

    def __init__(self, reference: Pyramid, moving: Pyramid, level: int, threads: int) -> None:
        self._reference = reference
        self._moving = moving
        self._fixed_image = reference.images[level]
        self._moving_image = moving.images[level]
        self._finest_mm = reference.finest
        self._voxel_mm = level * reference.finest
        self._threads = threads
        self._region = reference.measured
        if level < COARSE and reference.region is not None:
            self._region = reference.region
        self._measured = moving.measured

    def information(self, pose: Affine) -> float:
        """Mattes mutual information at a pose (nat); minus infinity without overlap."""
        method = self._method(pose, sitk.Euler3DTransform())
        try:
            return -float(method.MetricEvaluate(self._fixed_image, self._moving_image))
        except RuntimeError:
            return -math.inf

    def refine(self, candidate: Candidate, smallest_step: float) -> Candidate:
        """Refine a candidate: ascend to the closest maximum over rigid motions.

        Parameters
        ----------
        candidate
            Where to start.
        smallest_step
            Step length at which the ascent ends, in voxels of the finest level.
        """
        return self._climb(candidate, smallest_step, sitk.Euler3DTransform())

    def refine_scaled(self, candidate: Candidate, smallest_step: float) -> Candidate:
        """As `refine`, over rigid motions with one scale for all axes."""
        return self._climb(candidate, smallest_step, sitk.Similarity3DTransform())

    def refine_affine(self, candidate: Candidate, smallest_step: float) -> Candidate:
        """As `refine`, over all affine transformations."""
        return self._climb(candidate, smallest_step, sitk.AffineTransform(3))

    def _climb(
        self, candidate: Candidate, smallest_step: float, motion: sitk.Transform
    ) -> Candidate:
        method = self._method(candidate.pose, motion)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=self._voxel_mm / 2,
            minStep=smallest_step * self._finest_mm,
            numberOfIterations=MAX_STEPS,
            relaxationFactor=0.8,
            gradientMagnitudeTolerance=1e-6,
        )
        method.SetOptimizerScalesFromPhysicalShift()
        try:
            found = method.Execute(self._fixed_image, self._moving_image)
        except RuntimeError:
            return replace(candidate, score=-math.inf)
        pose = candidate.pose @ _matrix_of(found)
        shared = shared_head(self._reference, self._moving, pose)
        information = -float(method.GetMetricValue())
        score = shared * information if shared >= SMALLEST_OVERLAP else -math.inf
        return replace(candidate, pose=pose, score=score, information=information)

    def _method(self, pose: Affine, motion: sitk.Transform) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(self._threads)
        method.SetMetricAsMattesMutualInformation(HISTOGRAM_BINS)
        share = SAMPLES_PER_LEVEL / self._voxels_compared()
        if self._region is not None:
            method.SetMetricFixedMask(self._region)
        if self._measured is not None:
            method.SetMetricMovingMask(self._measured)
        if share < 1:
            method.SetMetricSamplingStrategy(method.REGULAR)
            method.SetMetricSamplingPercentage(share, SEED)
        method.SetInterpolator(sitk.sitkLinear)
        # The optimiser searches for a motion that is applied before the pose. That motion stays
        # near the identity, where Euler angles are not singular, however far the pose rotates.
        _set_centre(motion, RAS_TO_LPS[:3, :3] @ self._reference.centre)
        method.SetMovingInitialTransform(transform_of(pose))
        method.SetInitialTransform(motion)
        return method

    def _voxels_compared(self) -> float:
        if self._region is None:
            return float(self._fixed_image.GetNumberOfPixels())
        inside = sitk.GetArrayViewFromImage(self._region).sum()
        return float(inside * np.prod(self._region.GetSpacing()) / self._voxel_mm**3)


def shared_head(reference: Pyramid, moving: Pyramid, pose: Affine) -> float:
    """Fraction of the head seen by both scans, relative to the scan that shows less of the head.

    Parameters
    ----------
    reference, moving
        The two scans.
    pose
        ``(4, 4)``, world mm of ``reference`` -> world mm of ``moving``.
    """
    forth = moving.sees(apply_affine(pose, reference.head))
    back = reference.sees(apply_affine(np.linalg.inv(pose), moving.head))
    return max(forth, back)


def transform_of(pose: Affine) -> sitk.AffineTransform:
    """A pose ``(4, 4)`` (RAS, mm) as a transform of SimpleITK (LPS)."""
    lps = RAS_TO_LPS @ pose @ RAS_TO_LPS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    return transform


def _set_centre(motion: sitk.Transform, centre: NDArray[np.float64]) -> None:
    """Set the centre of rotation ``(3,)`` in mm (LPS): the first three fixed parameters."""
    fixed = motion.GetFixedParameters()
    motion.SetFixedParameters([*centre.tolist(), *fixed[3:]])


def _matrix_of(motion: sitk.Transform) -> Affine:
    """Matrix ``(4, 4)`` (RAS) of a linear transform of SimpleITK, read off four points."""
    lps = np.eye(4)
    lps[:3, 3] = motion.TransformPoint([0.0, 0.0, 0.0])
    for axis, point in enumerate(np.eye(3).tolist()):
        lps[:3, axis] = motion.TransformPoint(point) - lps[:3, 3]
    return np.asarray(RAS_TO_LPS @ lps @ RAS_TO_LPS)
