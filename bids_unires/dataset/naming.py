"""What the results are called: our own path patterns, filled in by pybids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .query import Contrast, ParticipantPlan, Scan

SPACE = "individual"

# pybids' built-in patterns for derivatives drop space, res and desc and hand back
# the name of the raw image; these are filled in strictly or not at all.
_FOLDER = "sub-{subject}[/ses-{session}]/anat/sub-{subject}[_ses-{session}]"
_ACQUIRED = (
    "[_sample-{sample}][_task-{task}][_acq-{acquisition}][_ce-{ceagent}][_stain-{staining}]"
    "[_rec-{reconstruction}][_dir-{direction}][_run-{run}][_echo-{echo}][_flip-{flip}]"
    "[_inv-{inv}][_mt-{mt}][_part-{part}]"
)
IMAGE_PATTERN = f"{_FOLDER}{_ACQUIRED}_space-{{space}}_res-{{res}}_desc-{{desc}}_{{suffix}}.nii.gz"
TRANSFORM_PATTERN = (
    f"{_FOLDER}{_ACQUIRED}[_chunk-{{chunk}}]_from-{{from}}_to-{{to}}_mode-{{mode}}_xfm.txt"
)


def derivative_path(
    output_dir: Path,
    plan: ParticipantPlan,
    contrast: Contrast,
    *,
    desc: str,
    voxel_size: Sequence[float],
) -> Path:
    """Where the reconstructed image of one contrast goes.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    plan
        The participant, and session, the image is of.
    contrast
        Its entities are kept; those of single repeats are not.
    desc
        Label of the ``desc`` entity, such as ``sr``.
    voxel_size
        Voxel size in mm along x, y and z.
    """
    entities = {
        **_unit(plan),
        **contrast.entities,
        "space": SPACE,
        "res": resolution_label(voxel_size),
        "desc": desc,
    }
    return output_dir / _build(entities, IMAGE_PATTERN)


def fov_mask_path(output_dir: Path, plan: ParticipantPlan, *, voxel_size: Sequence[float]) -> Path:
    """Where the mask of the scanned field of view goes; it also defines the grid."""
    entities = {
        **_unit(plan),
        "space": SPACE,
        "res": resolution_label(voxel_size),
        "desc": "fov",
        "suffix": "mask",
    }
    return output_dir / _build(entities, IMAGE_PATTERN)


def transform_path(output_dir: Path, plan: ParticipantPlan, scan: Scan) -> Path:
    """Where the transform of one scan into the individual space goes."""
    kept = {
        name: value
        for name, value in scan.entities.items()
        if name not in ("suffix", "datatype", "extension")
    }
    entities = {
        **_unit(plan),
        **kept,
        "from": scan.entities["suffix"],
        "to": SPACE,
        "mode": "image",
    }
    return output_dir / _build(entities, TRANSFORM_PATTERN)


def sidecar_path(path: Path) -> Path:
    """Name the JSON file that belongs to an image or a transform.

    Examples
    --------
    >>> sidecar_path(Path("sub-01_T1w.nii.gz")).name
    'sub-01_T1w.json'
    """
    return path.with_name(path.name.split(".", 1)[0] + ".json")


def resolution_label(voxel_size: Sequence[float]) -> str:
    """Label of the ``res`` entity: letters and digits only, ``p`` for the point.

    Parameters
    ----------
    voxel_size
        In mm along x, y and z.

    Examples
    --------
    >>> resolution_label((1.5, 1.5, 1.5)), resolution_label((1, 1, 2))
    ('1p5mm', '1x1x2mm')
    """
    sizes = [_decimal(size).replace(".", "p") for size in voxel_size]
    return (sizes[0] if len(set(sizes)) == 1 else "x".join(sizes)) + "mm"


def resolution_text(voxel_size: Sequence[float]) -> str:
    """Put the resolution in words, for the sidecar.

    Examples
    --------
    >>> resolution_text((1, 1, 1)), resolution_text((1, 1, 2.5))
    ('1 mm isotropic', '1 x 1 x 2.5 mm')
    """
    sizes = [_decimal(size) for size in voxel_size]
    return f"{sizes[0]} mm isotropic" if len(set(sizes)) == 1 else " x ".join(sizes) + " mm"


def _decimal(size: float) -> str:
    """Micrometres are enough, and never an exponent."""
    return np.format_float_positional(round(float(size), 3), trim="-")


def _unit(plan: ParticipantPlan) -> dict[str, str]:
    session = {"session": plan.session} if plan.session else {}
    return {"subject": plan.participant, **session}


def _build(entities: Mapping[str, str], pattern: str) -> str:
    from bids.layout.writing import build_path

    path = build_path(dict(entities), [pattern], strict=True)
    if not isinstance(path, str):
        raise ValueError(f"no file name can be built from {dict(entities)}")
    return path
