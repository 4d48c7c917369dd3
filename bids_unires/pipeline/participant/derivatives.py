"""Writing what was found about a participant."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...config import Method, RunConfig
from ...dataset.entities import listing
from ...dataset.naming import (
    STD,
    derivative_path,
    fov_mask_path,
    label_path,
    lookup_path,
    sidecar_path,
    transform_path,
)
from ...dataset.scans import ParticipantPlan
from ...dataset.sidecar import (
    derivative_uri,
    image_sidecar,
    label_sidecar,
    mask_sidecar,
    transform_sidecar,
)
from ...dataset.transforms import write_transform
from ...dataset.writing import (
    copy_text,
    remove_leftovers,
    write_image,
    write_json,
    write_labels,
    write_mask,
)
from ...model import Reconstruction, resample_labels
from ...space.volume import LabelVolume
from .acquired import AcquiredContrast
from .provenance import contrast_provenance, run_provenance, uncertainty_provenance

logger = logging.getLogger("bids_unires")

_DESC: dict[Method, str] = {
    "super-resolution": "sr",
    "denoise": "denoised",
    "linear": "resliced",
}
_DESCRIPTIONS: dict[Method, str] = {
    "super-resolution": (
        "Image reconstructed from all scans of the participant with a joint "
        "total-variation prior (UniRes)"
    ),
    "denoise": (
        "Image denoised together with all scans of the participant by a joint "
        "total-variation prior (UniRes)"
    ),
    "linear": "Scans of the contrast aligned, interpolated trilinearly and averaged",
}
_STD_DESCRIPTION = (
    "Standard deviation of the image with the same name but for the description, voxel by voxel "
    "and in its units: about 95 % of the errors inside the head are meant to lie within two. "
    "Where no scan of the contrast measured, the contrast between head and air"
)


def write_derivatives(
    plan: ParticipantPlan,
    config: RunConfig,
    contrasts: Sequence[AcquiredContrast],
    result: Reconstruction,
    space: str,
    began: float,
) -> tuple[Path, ...]:
    """Write the grid first, then what refers to it, the images last.

    Parameters
    ----------
    space
        Label of the space the images lie in.
    began
        When the participant was begun, by `time.perf_counter`.

    Returns
    -------
    tuple of Path
        The files, in the order of writing.

    Raises
    ------
    UniResError
        If a file cannot be written; none is left half-written under its final name.
    """
    writer = _Writer(plan, config, result, space)
    return (
        *writer.write_field_of_view(),
        *writer.write_transforms(contrasts),
        *writer.write_labels(contrasts),
        *writer.write_standard_deviations(contrasts),
        *writer.write_images(contrasts, began),
    )


def _warn_of_lost_labels(drawn: LabelVolume, carried: NDArray[np.int32]) -> None:
    """Name the labels of a segmentation that its image on the grid of the result has not."""
    present = np.unique(drawn.data)
    lost = np.setdiff1d(present[present != 0], carried)
    if lost.size == 0:
        return
    reason = (
        "these of its labels lie outside of the images, or are smaller than their voxels, and are"
        if carried.any()
        else "nothing of it lies within the images, and all of its labels are"
    )
    logger.warning("%s: %s lost: %s", drawn.path, reason, listing(map(str, lost)))


class _Writer:
    """Writes the results of one participant, all on one grid."""

    def __init__(
        self, plan: ParticipantPlan, config: RunConfig, result: Reconstruction, space: str
    ) -> None:
        self._plan = plan
        self._config = config
        self._result = result
        self._space = space
        self._output_dir = config.output_dir
        self._voxel_size = result.grid.voxel_size.tolist()
        self._grid_path = fov_mask_path(
            self._output_dir, plan, voxel_size=self._voxel_size, space=space
        )
        self._reference = derivative_uri(self._output_dir, self._grid_path)

    def write_field_of_view(self) -> list[Path]:
        remove_leftovers(self._grid_path.parent)
        content = mask_sidecar(
            self._plan,
            description="Voxels that at least one scan of every contrast measured",
            voxel_size=self._voxel_size,
            spatial_reference=self._reference,
        )
        return [
            write_json(sidecar_path(self._grid_path), content),
            write_mask(self._grid_path, self._result.coverage, self._result.grid.affine),
        ]

    def write_transforms(self, contrasts: Sequence[AcquiredContrast]) -> list[Path]:
        written = []
        for contrast, poses in zip(contrasts, self._result.poses, strict=True):
            for acquired, pose in zip(contrast.scans, poses, strict=True):
                path = transform_path(
                    self._output_dir, self._plan, acquired.scan, space=self._space
                )
                content = transform_sidecar(
                    acquired.scan,
                    description=f"Transform of the scan into the space {self._space}",
                    spatial_reference=self._reference,
                )
                written += [
                    write_json(sidecar_path(path), content),
                    write_transform(path, pose @ acquired.shift),
                ]
        return written

    def write_labels(self, contrasts: Sequence[AcquiredContrast]) -> list[Path]:
        written: list[Path] = []
        for contrast, poses in zip(contrasts, self._result.poses, strict=True):
            for acquired, pose in zip(contrast.scans, poses, strict=True):
                for label, drawn in zip(acquired.scan.labels, acquired.labels, strict=True):
                    path = label_path(
                        self._output_dir,
                        self._plan,
                        acquired.scan,
                        label,
                        voxel_size=self._voxel_size,
                        space=self._space,
                    )
                    content = label_sidecar(
                        acquired.scan,
                        label,
                        description="Labels interpolated one by one; the largest share wins",
                        voxel_size=self._voxel_size,
                        spatial_reference=self._reference,
                    )
                    labels = resample_labels(drawn, self._result.grid, pose @ acquired.shift)
                    _warn_of_lost_labels(drawn, labels)
                    written.append(write_json(sidecar_path(path), content))
                    if label.lookup is not None:
                        written.append(copy_text(label.lookup, lookup_path(path)))
                    written.append(write_labels(path, labels, self._result.grid.affine))
        return written

    def write_standard_deviations(self, contrasts: Sequence[AcquiredContrast]) -> list[Path]:
        uncertainty = None if self._result.fit is None else self._result.fit.uncertainty
        if uncertainty is None:
            return []
        written = []
        for index, acquired in enumerate(contrasts):
            path = self._image_path(acquired, _DESC[self._config.model.method] + STD)
            content = image_sidecar(
                self._plan,
                acquired.contrast,
                description=_STD_DESCRIPTION,
                voxel_size=self._voxel_size,
                spatial_reference=self._reference,
                unires=uncertainty_provenance(index, acquired, uncertainty),
            )
            written += [
                write_json(sidecar_path(path), content),
                write_image(path, uncertainty.sds[index], self._result.grid.affine),
            ]
        return written

    def _image_path(self, acquired: AcquiredContrast, desc: str) -> Path:
        return derivative_path(
            self._output_dir,
            self._plan,
            acquired.contrast,
            desc=desc,
            voxel_size=self._voxel_size,
            space=self._space,
        )

    def write_images(self, contrasts: Sequence[AcquiredContrast], began: float) -> list[Path]:
        method = self._config.model.method
        run = run_provenance(self._config, self._result, began)
        written = []
        for index, acquired in enumerate(contrasts):
            path = self._image_path(acquired, _DESC[method])
            content = image_sidecar(
                self._plan,
                acquired.contrast,
                description=_DESCRIPTIONS[method],
                voxel_size=self._voxel_size,
                spatial_reference=self._reference,
                unires={**run, **contrast_provenance(index, acquired, self._result)},
            )
            written += [
                write_json(sidecar_path(path), content),
                write_image(path, self._result.images[index], self._result.grid.affine),
            ]
        return written
