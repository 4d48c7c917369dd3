"""Rigid alignment of two scans by mutual information, from many starting poses.

Scans of one session can lie far apart (the patient turned over) and see only part of the
head, and gradient ascent finds the pose only from nearby. So a coarse search scores many
poses on small smooth images, the best are refined there, and only the winner is refined
on finer ones. SimpleITK does the image work; its world is LPS, ours RAS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..errors import BadDataError
from ..geometry import Affine, apply_affine, translation, voxel_size
from ..volume import Volume

COARSE_MM = 8.0
# For each level the voxel size of its images (mm), how many candidates are refined on it,
# and the smallest step (mm): coarse ones only have to come near.
LEVELS = ((COARSE_MM, 6, 0.2), (4.0, 2, 0.05), (2.0, 1, 0.002))
COARSE_SAMPLES = 8_000
HEAD_POINTS = 1_000
SAMPLES_PER_LEVEL = 60_000
HISTOGRAM_BINS = 32
MAX_STEPS = 50
SEED = 1
SMALLEST_OVERLAP = 0.3
SAME_POSE_MM = 8.0
TILTS_DEGREES = (-30.0, 0.0, 30.0)
# A pose is a decimal number of this many digits in mm and rad, so that the order in which
# threads add up does not show in the result.
POSE_DIGITS = 7

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class RigidAlignment:
    """Where a scan lies relative to a reference.

    Parameters
    ----------
    pose
        ``(4, 4)`` float64, the moving scan's world mm to the reference's world mm (RAS).
        ``pose @ affine`` puts the moving scan onto the reference.
    metric
        Mattes mutual information at the pose, in nat, over the samples of the finest level;
        larger is better. Of the reference itself: with itself, over all voxels.
    start
        Name of the starting pose that led here.
    """

    pose: Affine
    metric: float
    start: str


@dataclass(frozen=True)
class Candidate:
    """A pose on trial; ``pose`` maps the reference's world to the moving scan's (RAS).

    The score is the information times the part of the head that both scans see:
    information alone favours poses that hide outside the image what does not fit.
    """

    pose: Affine
    start: str
    information: float = -math.inf
    score: float = -math.inf


@dataclass(frozen=True)
class Pyramid:
    """A scan as registration sees it: one image for each level, and points in the head."""

    images: dict[float, sitk.Image]
    head: NDArray[np.float64]
    box: tuple[Affine, NDArray[np.float64]]

    @property
    def centre(self) -> NDArray[np.float64]:
        """Centre of the head's points in world mm (RAS), ``(3,)``."""
        return np.asarray(self.head.mean(axis=0))

    def sees(self, points: NDArray[np.float64]) -> float:
        """Fraction of world points ``(N, 3)`` inside the field of view."""
        into_voxels, last = self.box
        voxels = apply_affine(into_voxels, points)
        return float(((voxels >= -0.5) & (voxels <= last + 0.5)).all(axis=1).mean())


def coregister(volumes: Sequence[Volume], *, threads: int) -> tuple[RigidAlignment, ...]:
    """Align every scan to the first one.

    Parameters
    ----------
    volumes
        Scans of one head, of any contrast. At least one.
    threads
        Number of threads to use.

    Returns
    -------
    tuple of RigidAlignment
        One for each scan, in order; the first is the identity.

    Raises
    ------
    BadDataError
        If a scan has no contrast, or does not overlap with the first one.
    """
    reference = _pyramid(volumes[0], threads)
    first = RigidAlignment(np.eye(4), _self_information(reference, threads), "reference")
    others = [_align(reference, _pyramid(volume, threads), threads) for volume in volumes[1:]]
    return (first, *others)


def align_rigid(reference: Volume, moving: Volume, *, threads: int) -> RigidAlignment:
    """Find the rigid pose that puts one scan onto another.

    Parameters
    ----------
    reference, moving
        Scans of one head. Contrasts, resolutions and fields of view may differ, and the
        headers may be wrong by any rotation; a head seen in part is enough.
    threads
        Number of threads to use. The pose depends on it by less than a micrometre.

    Returns
    -------
    RigidAlignment
        The best pose found.

    Raises
    ------
    BadDataError
        If a scan has no contrast, or the two do not overlap in any pose tried.

    References
    ----------
    Mattes et al., *PET-CT image registration in the chest using free-form deformations*,
    2003 (the metric).
    """
    return _align(_pyramid(reference, threads), _pyramid(moving, threads), threads)


def _align(reference: Pyramid, moving: Pyramid, threads: int) -> RigidAlignment:
    """Search, refine the best few a little, and the best of these to the end."""
    found = _coarse_scores(reference, moving, _starting_poses(reference, moving))
    kept = found
    for level, starts, smallest_step in LEVELS:
        matcher = _Matcher(reference, moving, level, threads)
        kept = [
            matcher.refine(start, smallest_step) for start in _best_apart(kept, reference, starts)
        ]
    winner = max(kept, key=lambda one: one.score, default=None)
    if winner is None or winner.score == -math.inf:
        raise BadDataError("two scans do not overlap in any pose: are they of one head?")
    pose = np.round(np.linalg.inv(winner.pose), POSE_DIGITS)
    return RigidAlignment(pose, winner.information, winner.start)


class _Matcher:
    """Compares two scans at one level of their pyramids."""

    def __init__(self, reference: Pyramid, moving: Pyramid, level: float, threads: int) -> None:
        self._reference = reference
        self._moving = moving
        self._fixed_image = reference.images[level]
        self._moving_image = moving.images[level]
        self._level = level
        self._threads = threads

    def information(self, pose: Affine) -> float:
        """Mattes mutual information at a pose (nat); minus infinity without overlap."""
        method = self._method(pose)
        try:
            return -float(method.MetricEvaluate(self._fixed_image, self._moving_image))
        except RuntimeError:
            return -math.inf

    def refine(self, candidate: Candidate, smallest_step: float) -> Candidate:
        """Climb from a candidate to the closest maximum of the information."""
        method = self._method(candidate.pose)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=self._level / 2,
            minStep=smallest_step,
            numberOfIterations=MAX_STEPS,
            relaxationFactor=0.8,
            gradientMagnitudeTolerance=1e-6,
        )
        method.SetOptimizerScalesFromPhysicalShift()
        try:
            transform = method.Execute(self._fixed_image, self._moving_image)
        except RuntimeError:
            return replace(candidate, score=-math.inf)
        pose = candidate.pose @ _pose_of(transform)
        shared = _shared_head(self._reference, self._moving, pose)
        information = -float(method.GetMetricValue())
        score = shared * information if shared >= SMALLEST_OVERLAP else -math.inf
        return replace(candidate, pose=pose, score=score, information=information)

    def _method(self, pose: Affine) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(self._threads)
        method.SetMetricAsMattesMutualInformation(HISTOGRAM_BINS)
        share = SAMPLES_PER_LEVEL / self._fixed_image.GetNumberOfPixels()
        if share < 1:
            method.SetMetricSamplingStrategy(method.REGULAR)
            method.SetMetricSamplingPercentage(share, SEED)
        method.SetInterpolator(sitk.sitkLinear)
        # What is searched for is a motion before the pose: near the identity, where no three
        # angles are singular, however far the pose turns.
        motion = sitk.Euler3DTransform()
        motion.SetCenter((RAS_TO_LPS[:3, :3] @ self._reference.centre).tolist())
        method.SetMovingInitialTransform(_transform_of(pose))
        method.SetInitialTransform(motion)
        return method


def _starting_poses(reference: Pyramid, moving: Pyramid) -> list[Candidate]:
    """Poses to try: headers and centres of the heads, turned every way about these.

    Quarter turns and tilts together leave no rotation further than about 30 degrees
    from one of the starts.
    """
    to_centre = translation(-reference.centre)
    by_header = translation(reference.centre)
    by_centre = translation(moving.centre)
    tilts = Rotation.from_euler("xyz", list(product(TILTS_DEGREES, repeat=3)), degrees=True)
    quarter_turns = Rotation.create_group("O")
    candidates = [
        Candidate(
            by_header @ _turn(tilt) @ to_centre, "header" if index == 13 else "header, tilted"
        )
        for index, tilt in enumerate(tilts)
    ]
    for quarter in quarter_turns:
        name = "centre" if quarter.magnitude() < 0.1 else "centre, turned"
        candidates += [
            Candidate(by_centre @ _turn(quarter * tilt) @ to_centre, name) for tilt in tilts
        ]
    return candidates


def _turn(rotation: Rotation) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.as_matrix()
    return matrix


def _coarse_scores(
    reference: Pyramid, moving: Pyramid, candidates: Sequence[Candidate]
) -> list[Candidate]:
    """Score hundreds of candidates on the smallest images, by nearest neighbours.

    A joint histogram here takes half a millisecond, where setting up SimpleITK's
    metric takes twenty.
    """
    fixed = _grey_bins(reference.images[COARSE_MM])
    compared = np.argwhere(np.ones(fixed.shape, dtype=bool))[:: 1 + fixed.size // COARSE_SAMPLES]
    fixed_bins = fixed[tuple(compared.T)]
    points = apply_affine(_affine_of(reference.images[COARSE_MM]), compared)
    lookup = _grey_bins(moving.images[COARSE_MM])
    into_voxels = np.linalg.inv(_affine_of(moving.images[COARSE_MM]))
    scored = []
    for candidate in candidates:
        voxels = np.rint(apply_affine(into_voxels @ candidate.pose, points)).astype(np.intp)
        inside = ((voxels >= 0) & (voxels < lookup.shape)).all(axis=1)
        pairs = HISTOGRAM_BINS * fixed_bins[inside] + lookup[tuple(voxels[inside].T)]
        joint = np.bincount(pairs, minlength=HISTOGRAM_BINS**2)
        shared = _shared_head(reference, moving, candidate.pose)
        if shared >= SMALLEST_OVERLAP:
            information = _mutual_information(joint.reshape(HISTOGRAM_BINS, HISTOGRAM_BINS))
            scored.append(replace(candidate, information=information, score=shared * information))
    return scored


def _grey_bins(image: sitk.Image) -> NDArray[np.intp]:
    """Bin of the joint histogram for each voxel, axes in the order x, y, z."""
    data = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    share = (data - data.min()) / max(float(np.ptp(data)), float(np.finfo(np.float32).tiny))
    return np.asarray(np.minimum(share * HISTOGRAM_BINS, HISTOGRAM_BINS - 1), dtype=np.intp)


def _mutual_information(joint: NDArray[np.intp]) -> float:
    """Mutual information (nat) of a joint histogram of counts; 0 where it is empty."""
    total = joint.sum()
    if total == 0:
        return 0.0
    probability = joint / total
    independent = probability.sum(axis=1, keepdims=True) * probability.sum(axis=0, keepdims=True)
    seen = probability > 0
    return float((probability[seen] * np.log(probability[seen] / independent[seen])).sum())


def _shared_head(reference: Pyramid, moving: Pyramid, pose: Affine) -> float:
    """Fraction of the head that both scans see, of the scan that shows less of it."""
    forth = moving.sees(apply_affine(pose, reference.head))
    back = reference.sees(apply_affine(np.linalg.inv(pose), moving.head))
    return max(forth, back)


def _best_apart(candidates: Sequence[Candidate], reference: Pyramid, count: int) -> list[Candidate]:
    """The highest scores, at most ``count`` of them, none a near copy of another."""
    chosen: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: -one.score):
        if len(chosen) == count or candidate.score == -math.inf:
            break
        moved = apply_affine(candidate.pose, reference.head)
        if all(
            np.linalg.norm(moved - apply_affine(other.pose, reference.head), axis=1).mean()
            > SAME_POSE_MM
            for other in chosen
        ):
            chosen.append(candidate)
    return chosen


def _pyramid(volume: Volume, threads: int) -> Pyramid:
    """Smooth and resample a scan to isotropic images, and find its head."""
    data, affine = _canonical(volume)
    images: dict[float, sitk.Image] = {}
    image = _to_image(data, affine)
    for level in sorted(level for level, _, _ in LEVELS):
        image = _isotropic(image, level, threads)
        images[level] = image
    head = _head_points(images[COARSE_MM])
    last = np.array(data.shape, dtype=np.float64) - 1
    into_voxels = np.asarray(np.linalg.inv(affine), dtype=np.float64)
    return Pyramid(images, head, (into_voxels, last))


def _canonical(volume: Volume) -> tuple[NDArray[np.float32], Affine]:
    """Data in axial-canonical voxel order without missing values and outliers.

    The same scan stored with other axes or flips gives the same array.
    """
    orientation = nib.orientations.io_orientation(volume.affine)
    data = nib.orientations.apply_orientation(volume.data, orientation)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(orientation, volume.data.shape)
    data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    low, high = np.quantile(data[::2, ::2, ::2], [0.001, 0.999])
    if not low < high:
        where = f"{volume.path}: " if volume.path else ""
        raise BadDataError(f"{where}no contrast to align by: leave this scan out")
    return np.clip(data, low, high), affine


def _to_image(data: NDArray[np.float32], affine: Affine) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
    spacing = voxel_size(affine)
    lps = RAS_TO_LPS @ affine
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


def _isotropic(image: sitk.Image, level: float, threads: int) -> sitk.Image:
    """Blur an image as far as its spacing leaves room, and sample it every ``level`` mm."""
    spacing = np.array(image.GetSpacing())
    extent = np.array(image.GetSize()) * spacing
    variance = np.maximum((0.5 * level) ** 2 - (0.5 * spacing) ** 2, 0)
    blur = sitk.DiscreteGaussianImageFilter()
    blur.SetNumberOfThreads(threads)
    blur.SetVariance(variance.tolist())
    size = np.maximum(np.round(extent / level), 1)
    # Both grids share their centre, so that storage order does not shift one of them.
    inset = (extent - spacing - (size - 1) * level) / 2
    resample = sitk.ResampleImageFilter()
    resample.SetNumberOfThreads(threads)
    resample.SetSize(size.astype(int).tolist())
    resample.SetOutputSpacing([level] * 3)
    resample.SetOutputDirection(image.GetDirection())
    direction = np.array(image.GetDirection()).reshape(3, 3)
    resample.SetOutputOrigin((np.array(image.GetOrigin()) + direction @ inset).tolist())
    resample.SetInterpolator(sitk.sitkLinear)
    resample.UseNearestNeighborExtrapolatorOn()
    resampled: sitk.Image = resample.Execute(blur.Execute(image))
    return resampled


def _head_points(image: sitk.Image) -> NDArray[np.float64]:
    """World points (RAS) of the voxels brighter than Otsu's threshold, ``(N, 3)``."""
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetInsideValue(0)
    otsu.SetOutsideValue(1)
    voxels = np.argwhere(sitk.GetArrayFromImage(otsu.Execute(image)))[:, ::-1]
    return apply_affine(_affine_of(image), voxels[:: 1 + len(voxels) // HEAD_POINTS])


def _affine_of(image: sitk.Image) -> Affine:
    """Voxel index to world mm (RAS) of an image."""
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    return np.asarray(RAS_TO_LPS @ lps)


def _transform_of(pose: Affine) -> sitk.AffineTransform:
    """SimpleITK's form of a pose (RAS)."""
    lps = RAS_TO_LPS @ pose @ RAS_TO_LPS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    return transform


def _pose_of(transform: sitk.Transform) -> Affine:
    """The pose (RAS) of a rigid transform of SimpleITK's."""
    rigid = sitk.Euler3DTransform(transform)
    matrix = np.array(rigid.GetMatrix()).reshape(3, 3)
    centre = np.array(rigid.GetCenter())
    lps = np.eye(4)
    lps[:3, :3] = matrix
    lps[:3, 3] = np.array(rigid.GetTranslation()) + centre - matrix @ centre
    return np.asarray(RAS_TO_LPS @ lps @ RAS_TO_LPS)


def _self_information(reference: Pyramid, threads: int) -> float:
    finest = _Matcher(reference, reference, LEVELS[-1][0], threads)
    return finest.information(np.eye(4))
