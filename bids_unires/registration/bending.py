"""A template deformed to match a scan: roughly the anatomy that each slice should show."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from ..errors import BadDataError
from ..space.affines import Affine
from ..space.volume import Volume
from .matching import HISTOGRAM_BINS, Candidate, Matcher, transform_of
from .pyramid import COARSE, Pyramid, build_pyramid, to_image
from .template import Template
from .template_alignment import align_to_template

# A finer level does not describe smooth differences between heads any better, and every halving
# of the voxel size costs eight times as much. Slices that moved are found equally well (95 and 97
# of 100).
_LEVEL = COARSE
# Step length at which the affine refinement ends, in voxels of the finest level.
_SMALLEST_AFFINE_STEP = 0.025
# Distance between the knots of the splines. It is too large for the template to follow a single
# slice of clinical thickness that moved, and small enough to fit the shape of a skull.
_KNOTS_MM = 50.0
_SPLINE_ORDER = 3
# With twice as many iterations the template follows slices that moved; with half as many the
# skulls still differ.
_MOST_STEPS, _MOST_EVALUATIONS = 15, 60


def bent_template(volume: Volume, template: Template, *, threads: int) -> NDArray[np.float32]:
    """Deform a template smoothly until it resembles a scan as closely as possible.

    Parameters
    ----------
    volume
        Scan of a head or of part of a head, of any contrast, resolution and orientation.
    template
        Template to deform.
    threads
        Number of threads to use.

    Returns
    -------
    ndarray
        ``(X, Y, Z)``, the shape of the scan: the deformed template in the voxels of the scan, in
        intensities of the template; 0 outside the template.

    Raises
    ------
    BadDataError
        If the scan has no contrast, or does not match the template in any pose.

    Notes
    -----
    `align_to_template` gives a similarity transformation to start from. First an affine
    transformation and then cubic B-splines (Rueckert et al. 1999, "Nonrigid registration using
    free-form deformations") maximise the mutual information.
    """
    similarity = align_to_template(volume, template, kind="similarity", threads=threads).matrix
    scan, head = build_pyramid(volume, threads), build_pyramid(template.image, threads)
    start = Candidate(similarity, "similarity")
    affine = Matcher(scan, head, _LEVEL, threads).refine_affine(start, _SMALLEST_AFFINE_STEP)
    pose = affine.pose if affine.score > -math.inf else similarity
    straight, bending = transform_of(pose), _bending(scan, head, pose, threads)
    resample = sitk.ResampleImageFilter()
    resample.SetNumberOfThreads(threads)
    resample.SetReferenceImage(to_image(volume.data, volume.affine))
    resample.SetInterpolator(sitk.sitkLinear)
    resample.SetTransform(sitk.CompositeTransform([straight, bending]))
    shown = resample.Execute(to_image(template.image.data, template.image.affine))
    return np.ascontiguousarray(sitk.GetArrayFromImage(shown).transpose(2, 1, 0), np.float32)


def _bending(scan: Pyramid, head: Pyramid, pose: Affine, threads: int) -> sitk.Transform:
    """Deformation of points of the scan, applied before the affine transformation ``pose``."""
    fixed, moving = scan.images[_LEVEL], head.images[_LEVEL]
    extent = np.array(fixed.GetSize()) * fixed.GetSpacing()
    mesh = np.maximum(np.round(extent / _KNOTS_MM), 2).astype(int).tolist()
    bending: sitk.Transform = sitk.BSplineTransformInitializer(fixed, mesh, _SPLINE_ORDER)
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(threads)
    method.SetMetricAsMattesMutualInformation(HISTOGRAM_BINS)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMovingInitialTransform(transform_of(pose))
    method.SetInitialTransform(bending, True)
    method.SetOptimizerAsLBFGSB(
        numberOfIterations=_MOST_STEPS, maximumNumberOfFunctionEvaluations=_MOST_EVALUATIONS
    )
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:
        raise BadDataError(f"{scan.name} and the template do not overlap") from error
    return bending
