"""Write the results of a participant."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...config import Method, RunConfig
from ...dataset.entities import listing
from ...dataset.naming import (
    MEASURED,
    STD,
    derivative_path,
    fov_mask_path,
    label_path,
    lookup_path,
    sidecar_path,
    transform_path,
)
from ...dataset.scans import Contrast, LabelImage
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
from ...model import resample_labels
from ...records.image import stated_settings
from ...records.sidecar import SidecarRecord
from ...space.volume import LabelVolume
from .head_coverage import head_of, share_of_head
from .provenance import image_record, measured_record, run_record, uncertainty_record
from .reconstructed import ReconstructedParticipant, ReconstructedScan

logger = logging.getLogger("bids_unires")

DESC: dict[Method, str] = {
    "super-resolution": "sr",
    "denoise": "denoised",
    "linear": "resliced",
}
"""Label of the ``desc`` entity of an image, by the method that made it."""

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


_MEASURED_DESCRIPTION = (
    "Share of the detail of the image with the same name but for the description that the scans "
    "measured, around each voxel, 0 to 1. The rest was inferred by the prior and from learned "
    "detail: had it been different, the scans would be the same"
)


def write_derivatives(participant: ReconstructedParticipant, config: RunConfig) -> tuple[Path, ...]:
    """Write the mask that defines the grid first, then the files that refer to it, the images last.

    Parameters
    ----------
    participant
        The images, and the scans from which they were made.
    config
        The configuration of the run.

    Returns
    -------
    tuple of Path
        The files, in the order of writing.

    Raises
    ------
    UniResError
        If a file cannot be written. No file under its final name is incomplete.
    """
    writer = _Writer(participant, config)
    return (
        *writer.write_field_of_view(),
        *writer.write_transforms(),
        *writer.write_labels(),
        *writer.write_standard_deviations(),
        *writer.write_measured_shares(),
        *writer.write_images(),
    )


def image_path(
    participant: ReconstructedParticipant, contrast: Contrast, config: RunConfig
) -> Path:
    """Path of the image of a contrast."""
    return _path(participant, contrast, DESC[config.model.method], config.output_dir)


def _path(
    participant: ReconstructedParticipant, contrast: Contrast, desc: str, output_dir: Path
) -> Path:
    return derivative_path(
        output_dir,
        participant.plan,
        contrast,
        desc=desc,
        voxel_size=participant.result.grid.voxel_size.tolist(),
        space=participant.space,
    )


def _warn_of_lost_labels(drawn: LabelVolume, carried: NDArray[np.int32]) -> None:
    """Warn about labels of a segmentation that resampling to the grid of the results has lost."""
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

    def __init__(self, participant: ReconstructedParticipant, config: RunConfig) -> None:
        self._participant = participant
        self._plan = participant.plan
        self._config = config
        self._grid = participant.result.grid
        self._space = participant.space
        self._output_dir = config.output_dir
        self._voxel_size = self._grid.voxel_size.tolist()
        self._grid_path = fov_mask_path(
            self._output_dir, self._plan, voxel_size=self._voxel_size, space=self._space
        )
        shared = self._plan.shared_placement
        grid = self._grid_path if shared is None else shared.with_suffix(".nii.gz")
        self._reference = derivative_uri(self._output_dir, grid)

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
            write_mask(self._grid_path, self._participant.result.coverage, self._grid.affine),
        ]

    def write_transforms(self) -> list[Path]:
        written = []
        for scan in self._participant.scans:
            acquired = scan.acquired
            path = transform_path(self._output_dir, self._plan, acquired.scan, space=self._space)
            content = transform_sidecar(
                acquired.scan,
                description=f"Transform of the scan into the space {self._space}",
                spatial_reference=self._reference,
            )
            written += [
                write_json(sidecar_path(path), content),
                write_transform(path, scan.pose @ acquired.shift),
            ]
        return written

    def write_labels(self) -> list[Path]:
        return [
            path
            for scan in self._participant.scans
            for drawn in scan.acquired.labels
            for path in self._write_label(scan, drawn.label, drawn.volume)
        ]

    def _write_label(
        self, scan: ReconstructedScan, label: LabelImage, drawn: LabelVolume
    ) -> Iterator[Path]:
        acquired = scan.acquired
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
        labels = resample_labels(drawn, self._grid, scan.pose @ acquired.shift)
        _warn_of_lost_labels(drawn, labels)
        yield write_json(sidecar_path(path), content)
        if label.lookup is not None:
            yield copy_text(label.lookup, lookup_path(path))
        yield write_labels(path, labels, self._grid.affine)

    def write_standard_deviations(self) -> list[Path]:
        written = []
        for own in self._participant.contrasts:
            if own.sds is None:
                continue
            record = uncertainty_record(own, self._config.model.uncertainty)
            desc = DESC[self._config.model.method] + STD
            written += self._write_image(own.contrast, desc, _STD_DESCRIPTION, record, own.sds)
        return written

    def write_measured_shares(self) -> list[Path]:
        desc = DESC[self._config.model.method] + MEASURED
        written = []
        for own in self._participant.contrasts:
            if self._config.measured_map and own.measured is not None:
                record = measured_record(own, own.measured)
                # With two digits, files are a fraction of the size.
                values = np.round(own.measured, 2)
                written += self._write_image(
                    own.contrast, desc, _MEASURED_DESCRIPTION, record, values
                )
        return written

    def write_images(self) -> list[Path]:
        model = self._config.model
        desc, description = DESC[model.method], _DESCRIPTIONS[model.method]
        settings = stated_settings(model, self._config.space)
        if self._plan.shared_placement is not None:
            reference = self._config.subject_anatomical_reference
            settings["subject_anatomical_reference"] = reference
        run = run_record(self._participant, settings)
        head = head_of(self._participant.result)
        written = []
        for own in self._participant.contrasts:
            share = share_of_head(own.image, own.contrast.modality, head)
            record = replace(image_record(own, run), head_share=round(share, 3))
            written += self._write_image(own.contrast, desc, description, record, own.image)
        return written

    def _write_image(
        self,
        contrast: Contrast,
        desc: str,
        description: str,
        record: SidecarRecord,
        values: NDArray[np.float32],
    ) -> list[Path]:
        path = _path(self._participant, contrast, desc, self._output_dir)
        content = image_sidecar(
            self._plan,
            contrast,
            description=description,
            voxel_size=self._voxel_size,
            spatial_reference=self._reference,
        )
        return [
            write_json(sidecar_path(path), record.in_sidecar(content)),
            write_image(path, values, self._grid.affine),
        ]
