"""Write the mean image of all participants for each contrast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...config import CT_SUFFIX, RunConfig
from ...dataset.naming import resolution_text, sidecar_path, study_image_path
from ...dataset.reading import load_labels, load_volume
from ...dataset.sidecar import derivative_uri
from ...dataset.writing import write_image, write_json
from ...records.image import ImageRecord
from ...records.study import StudyMeanRecord
from ...space.grid import Grid


@dataclass(frozen=True)
class StudyImage:
    """An image of a participant on the grid of the study.

    Parameters
    ----------
    contrast
        Name of the contrast.
    entities
        Entities of the contrast, including ``suffix``.
    path
        The NIfTI file.
    record
        Record of how it was made.
    is_stripped
        Whether its sidecar says that it shows only the brain (``SkullStripped``).
    field_of_view
        Mask of the scanned field of view on the same grid; None if there is none.
    """

    contrast: str
    entities: Mapping[str, str]
    path: Path
    record: ImageRecord
    is_stripped: bool
    field_of_view: Path | None


def write_mean(
    images: Sequence[StudyImage], grid: Grid, reference: Path, config: RunConfig
) -> list[Path]:
    """Average one contrast over the participants, with one image in memory at a time.

    Intensities of MR have no unit. Every MR image is therefore scaled so that its mean brain
    intensity is the average of the mean brain intensities of all images. A participant contributes
    only where its scans measured: where an MR image is not 0, and for CT, in which 0 is water,
    within the field of view of all contrasts of the participant. Where no participant contributes,
    which is mostly air, the images are averaged without scaling.

    Parameters
    ----------
    images
        The images, all of one contrast and on one grid.
    grid
        The grid.
    reference
        The image that defines the grid.
    config
        The configuration of the run.

    Raises
    ------
    UniResError
        If an image cannot be read, or the mean cannot be written.
    """
    common = float(np.mean([_level(image) for image in images]))
    total, as_they_are = (np.zeros(grid.shape, dtype=np.float32) for _ in range(2))
    count = np.zeros(grid.shape, dtype=np.uint16)
    for image in images:
        values = load_volume(image.path).data
        seen = _measured(image, values)
        total += np.where(seen, values, np.float32(0)) * np.float32(common / _level(image))
        as_they_are += values / np.float32(len(images))
        count += seen
    first = images[0]
    mean = np.where(count > 0, total / np.maximum(count, 1), as_they_are)
    path = study_image_path(config.output_dir, first.entities, voxel_size=config.model.voxel_size)
    content = {
        "Description": f"Mean over {len(images)} participants and sessions, wherever they measured",
        "Sources": [derivative_uri(config.output_dir, image.path) for image in images],
        "SpatialReference": derivative_uri(config.output_dir, reference),
        "Resolution": resolution_text(config.model.voxel_size),
        "SkullStripped": any(image.is_stripped for image in images),
    }
    record = StudyMeanRecord(len(images), common)
    return [
        write_json(sidecar_path(path), record.in_sidecar(content)),
        write_image(path, mean, grid.affine),
    ]


def _measured(image: StudyImage, values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mask of the voxels that the scans of a participant measured, ``(X, Y, Z)``."""
    if not _is_ct(image):
        return np.asarray(values != 0)
    if image.field_of_view is None:
        return np.ones(values.shape, dtype=bool)
    return load_labels(image.field_of_view).data > 0


def _is_ct(image: StudyImage) -> bool:
    return image.entities["suffix"] == CT_SUFFIX


def _level(image: StudyImage) -> float:
    """Mean intensity by which an image is scaled; 1 for CT, which keeps its Hounsfield units."""
    if _is_ct(image):
        return 1.0
    quality = image.record.quality
    level = None if quality is None else quality.mean_intensity
    return level if level is not None and level > 0 else 1.0
