"""The mean image of a cohort, to which all participants are aligned if there is no template."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...config import RunConfig
from ...dataset.derivatives import ResultImage
from ...dataset.naming import resolution_text, sidecar_path, study_image_path
from ...dataset.reading import load_volume
from ...dataset.sidecar import derivative_uri
from ...dataset.writing import write_image, write_json
from ...errors import BadDataError, UniResError
from ...kernels.runtime import thread_count
from ...records.study import CohortMeanRecord
from ...registration.matching import Candidate, Matcher
from ...registration.pyramid import FINEST_MM, Pyramid, build_pyramid, finest_level
from ...registration.rigid import LEVELS, search, starting_poses
from ...space.affines import Affine, apply_affine
from ...space.boxes import box_between
from ...space.grid import Grid, corners
from ...space.rigid import rigid_matrix, rigid_parameters
from ...space.volume import Volume
from ...work.progress import listener
from .cohort import Cohort
from .study_alignment import Mask, measured_in

logger = logging.getLogger("bids_unires")

ROUNDS = 2
# Percentile of the intensities that is made equal between images. It represents tissue rather than
# the few bright voxels of fat or blood flow.
_BRIGHT_PERCENTILE = 98.0
# Where the sum of the participants' shares is below this, the sum of images is divided by this, so
# that the mean fades to 0 at the edge of the measured region.
_LEAST_COUNT = 0.5
# Largest number of halvings of the voxel size of a mean, from that for human heads to that for the
# smallest heads.
_MOST_HALVINGS = 4


def cohort_mean(cohort: Cohort, config: RunConfig, *, stays: bool) -> Path:
    """Make the mean image of a cohort, or find the one of an earlier run.

    All participants are aligned to the first participant, then to the mean. Each time, the poses
    are corrected so that their mean is the identity. The position and shape of the mean are
    therefore not those of any single participant. Only one image is in memory at a time.

    Parameters
    ----------
    cohort
        The participants.
    config
        The configuration of the run.
    stays
        Whether to keep the mean of an earlier run, to which other participants were aligned.

    Returns
    -------
    Path
        The mean image, in the space of the study. It is kept once made, so that participants who
        join later do not change the alignment of the others.

    Raises
    ------
    BadDataError
        If none of the images can be used.

    References
    ----------
    Joshi et al., *Unbiased diffeomorphic atlas construction for computational anatomy*, 2004
    (the idea, here for rigid motions).
    """
    if stays and (before := _earlier_mean(cohort, config)):
        logger.info("everybody is aligned to the mean of the earlier run: %s", before.name)
        return before
    images = _images_of_one_contrast(cohort)
    readable = _readable(images)
    reference = readable[next(iter(readable))]
    size = finest_level([reference])
    path = _mean_path(next(iter(images.values())), size, config)
    poses: dict[str, Affine] = {}
    for number in range(1, ROUNDS + 1):
        poses = _mean_corrected(_aligned(reference, readable, poses, number))
        reference = _average(readable, poses, size)
    content = {
        "Description": f"Mean of {len(poses)} participants and sessions, aligned rigidly",
        "Sources": [derivative_uri(config.output_dir, images[label].path) for label in poses],
        "SpatialReference": derivative_uri(config.output_dir, path),
        "Resolution": resolution_text((size,) * 3),
        "SkullStripped": any(i.metadata.get("SkullStripped") is True for i in images.values()),
    }
    record = CohortMeanRecord(tuple(poses), ROUNDS)
    write_json(sidecar_path(path), record.in_sidecar(content))
    return write_image(path, reference.data, reference.affine)


def _mean_path(image: ResultImage, size: float, config: RunConfig) -> Path:
    return study_image_path(
        config.output_dir, image.entities, desc="cohort", voxel_size=(size,) * 3
    )


def _earlier_mean(cohort: Cohort, config: RunConfig) -> Path | None:
    """The existing mean image, whose contrast was the most frequent one when it was made."""
    firsts = [member.aligned for member in (*cohort.members, *cohort.others)]
    frequency = Counter(image.contrast for image in firsts)
    for image in sorted(firsts, key=lambda image: -frequency[image.contrast]):
        for halvings in range(_MOST_HALVINGS + 1):
            path = _mean_path(image, FINEST_MM * 0.5**halvings, config)
            if path.is_file():
                return path
    return None


def _images_of_one_contrast(cohort: Cohort) -> dict[str, ResultImage]:
    """The images to align, by label, of all participants where it has the most frequent contrast.

    The contrast is the most frequent one among the images by which participants are aligned.
    """
    firsts = {member.label: member.aligned for member in cohort.members}
    frequent, _ = Counter(image.contrast for image in firsts.values()).most_common(1)[0]
    return {label: image for label, image in firsts.items() if image.contrast == frequent}


class _Images(Mapping[str, Volume]):
    """Images by label, read from disk at each access, so that they are not all in memory."""

    def __init__(self, images: Mapping[str, ResultImage]) -> None:
        self._images = images

    def __getitem__(self, label: str) -> Volume:
        return load_volume(self._images[label].path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)

    def measured(self, label: str, volume: Volume) -> Mask | None:
        """Mask of the voxels that were measured, ``(X, Y, Z)``; None if it is the whole head."""
        return measured_in(self._images[label], volume)


def _readable(images: Mapping[str, ResultImage]) -> _Images:
    readable = {}
    for label, image in images.items():
        try:
            load_volume(image.path)
        except UniResError as error:
            # The alignment of this participant will fail and report the error again.
            logger.warning("%s is not in the mean of the cohort: %s", label, error)
            continue
        readable[label] = image
    if not readable:
        raise BadDataError("no image of the cohort can be read: run the participant level again")
    return _Images(readable)


def _aligned(
    reference: Volume, images: _Images, before: Mapping[str, Affine], number: int
) -> dict[str, Affine]:
    """Approximate poses of all images, ``(4, 4)``: world mm of image -> world mm of reference."""
    threads = thread_count()
    finest = finest_level([reference])
    fixed = build_pyramid(reference, threads, finest=finest)
    poses = {}
    for label in images:
        listener().phase(label, f"alignment to the cohort, round {number} of {ROUNDS}")
        image = images[label]
        measured = images.measured(label, image)
        moving = build_pyramid(image, threads, finest=finest, measured=measured)
        starts = _starts(fixed, moving, before.get(label))
        try:
            found = search(
                fixed, moving, starts, Matcher.refine, levels=LEVELS[:-1], threads=threads
            )
        except BadDataError as error:
            logger.warning("%s is not in the mean of the cohort: %s", label, error)
            continue
        poses[label] = np.asarray(np.linalg.inv(found.pose))
    return poses


def _starts(fixed: Pyramid, moving: Pyramid, before: Affine | None) -> Sequence[Candidate]:
    if before is None:
        return starting_poses(fixed, moving)
    return [Candidate(np.asarray(np.linalg.inv(before)), "the round before")]


def _mean_corrected(poses: Mapping[str, Affine]) -> dict[str, Affine]:
    """Poses relative to their mean, which is computed in the Lie algebra of rigid motions."""
    mean = np.mean([rigid_parameters(pose) for pose in poses.values()], axis=0)
    correction = np.linalg.inv(rigid_matrix(mean))
    return {label: np.asarray(correction @ pose) for label, pose in poses.items()}


def _average(images: _Images, poses: Mapping[str, Affine], size: float) -> Volume:
    """Mean of images scaled to common brightness, in the median of their bounding boxes."""
    boxes = []
    for label, pose in poses.items():
        volume = images[label]
        boxes.append(apply_affine(pose @ volume.affine, corners(volume.grid.shape, 0.5)))
    low = np.median([box.min(axis=0) for box in boxes], axis=0)
    high = np.median([box.max(axis=0) for box in boxes], axis=0)
    grid: Grid = box_between(low, high, (size,) * 3)
    total = np.zeros(grid.shape, dtype=np.float32)
    count = np.zeros(grid.shape, dtype=np.float32)
    for label, pose in poses.items():
        volume = images[label]
        measured = images.measured(label, volume)
        if measured is None:
            measured = np.ones(volume.data.shape, dtype=bool)
        bright = np.percentile(volume.data[measured], _BRIGHT_PERCENTILE).astype(np.float32)
        into_image = np.linalg.inv(pose @ volume.affine) @ grid.affine
        seen, share = (
            ndimage.affine_transform(
                values, into_image, output_shape=grid.shape, output=np.float32, order=1
            )
            for values in (np.where(measured, volume.data, 0), measured.astype(np.float32))
        )
        total += seen / np.maximum(bright, np.finfo(np.float32).tiny)
        count += share
    mean = np.asarray(total / np.maximum(count, _LEAST_COUNT), dtype=np.float32)
    return Volume(mean, grid.affine)
