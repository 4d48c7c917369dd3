"""What the results are called: our own path patterns, filled in by pybids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from .entities import ENTITY_KEYS
from .scans import Contrast, Datatype, LabelImage, ParticipantPlan, Scan

SPACE = "individual"
# The shared space of the group level.
STUDY_SPACE = "study"
# Ends the description of a map of standard deviations: BIDS has no entity for it.
STD = "Std"

# pybids' built-in patterns for derivatives drop space, res and desc and hand back
# the name of the raw image; these are filled in strictly or not at all.
_UNIT = "sub-{subject}[/ses-{session}]/{datatype}/sub-{subject}[_ses-{session}]"
_ACQUIRED = (
    "[_sample-{sample}][_task-{task}][_acq-{acquisition}][_ce-{ceagent}][_stain-{staining}]"
    "[_rec-{reconstruction}][_dir-{direction}][_run-{run}][_echo-{echo}][_flip-{flip}]"
    "[_inv-{inv}][_mt-{mt}][_part-{part}]"
)
_ON_GRID = "_space-{space}[_chunk-{chunk}][_atlas-{atlas}][_seg-{seg}]_res-{res}[_desc-{desc}]"
IMAGE_PATTERN = f"{_UNIT}{_ACQUIRED}{_ON_GRID}_{{suffix}}.nii.gz"
TRANSFORM_PATTERN = (
    f"{_UNIT}{_ACQUIRED}[_chunk-{{chunk}}]_from-{{from}}_to-{{to}}_mode-{{mode}}_xfm.txt"
)
# Of no participant; in BIDS' order of entities, without the mark between the first two.
STUDY_PATTERN = f"{_ACQUIRED}{_ON_GRID}_{{suffix}}.nii.gz"
# What BIDS lets the name of a segmentation tell about the scan it was drawn on.
_LABEL_ENTITIES = frozenset(
    {"task", "acquisition", "ceagent", "reconstruction", "run", "echo", "part", "chunk"}
)


class Unit(Protocol):
    """What names need to know about a unit of work."""

    @property
    def participant(self) -> str:
        """Label without ``sub-``."""

    @property
    def session(self) -> str | None:
        """Label without ``ses-``, if there are sessions."""

    @property
    def shared_datatype(self) -> Datatype:
        """Folder of what belongs to no single contrast."""


def aligned_space(template: str, align: str) -> str:
    """Label of the space of images that were aligned to a template, but not warped to it.

    Parameters
    ----------
    template
        TemplateFlow's name of it.
    align
        ``rigid`` or ``similarity``.

    Examples
    --------
    >>> aligned_space("MNI152NLin2009cAsym", "rigid")
    'MNI152NLin2009cAsymRigid'
    """
    return template + align.capitalize()


def derivative_path(
    output_dir: Path,
    plan: Unit,
    contrast: Contrast,
    *,
    desc: str,
    voxel_size: Sequence[float],
    space: str = SPACE,
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
        Label of the ``desc`` entity: ``sr``, ``denoised`` or ``resliced``; with `STD` added,
        the map of standard deviations of that image.
    voxel_size
        Voxel size in mm along x, y and z.
    space
        Label of the ``space`` entity.
    """
    entities = {
        **_unit(plan, contrast.datatype),
        **contrast.entities,
        **_grid(space, voxel_size),
        "desc": desc,
    }
    return output_dir / _build(entities, IMAGE_PATTERN)


def mask_path(
    output_dir: Path,
    plan: Unit,
    *,
    desc: str,
    voxel_size: Sequence[float],
    space: str = SPACE,
) -> Path:
    """Where a mask of a participant goes: ``desc`` says of what (``fov``, ``brain``, ``head``)."""
    entities = {
        **_unit(plan, plan.shared_datatype),
        **_grid(space, voxel_size),
        "desc": desc,
        "suffix": "mask",
    }
    return output_dir / _build(entities, IMAGE_PATTERN)


def fov_mask_path(
    output_dir: Path, plan: Unit, *, voxel_size: Sequence[float], space: str = SPACE
) -> Path:
    """Where the mask of the scanned field of view goes; it also defines the grid."""
    return mask_path(output_dir, plan, desc="fov", voxel_size=voxel_size, space=space)


def label_path(
    output_dir: Path,
    plan: ParticipantPlan,
    scan: Scan,
    label: LabelImage,
    *,
    voxel_size: Sequence[float],
    space: str = SPACE,
) -> Path:
    """Where a label image goes when it is brought to the grid of the results.

    It keeps ``atlas``, ``seg`` and ``desc``, and the entities of the scan. What BIDS has no
    place for in the name of a segmentation (``label``, some entities of the scan) is added
    to ``desc``, and where two label images of the unit would still get one name, the suffix
    of their scans, then a number.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    plan, scan
        The unit, and the scan of it that ``label`` was drawn on.
    label
        The label image, one of ``scan.labels``.
    voxel_size
        Voxel size in mm along x, y and z.
    space
        Label of the ``space`` entity.
    """
    entities = {
        **_unit(plan, scan.datatype),
        **_label_entities(plan)[label.uri],
        **_grid(space, voxel_size),
        "suffix": "dseg",
    }
    return output_dir / _build(entities, IMAGE_PATTERN)


def transform_path(output_dir: Path, plan: Unit, scan: Scan, *, space: str = SPACE) -> Path:
    """Where the transform of one scan into the space of the results goes."""
    entities = {
        **_unit(plan, scan.datatype),
        **_entities_of(scan),
        "from": scan.entities["suffix"],
        "to": space,
        "mode": "image",
    }
    return output_dir / _build(entities, TRANSFORM_PATTERN)


def template_transform_path(
    output_dir: Path, plan: Unit, template: str, *, space: str = SPACE
) -> Path:
    """Where the transform of a unit's results into a template, or the study space, goes."""
    entities = {
        **_unit(plan, plan.shared_datatype),
        "from": space,
        "to": template,
        "mode": "image",
    }
    return output_dir / _build(entities, TRANSFORM_PATTERN)


def study_grid_path(output_dir: Path, *, voxel_size: Sequence[float]) -> Path:
    """Where the mask goes that defines the grid all participants share."""
    entities = {**_grid(STUDY_SPACE, voxel_size), "desc": "grid", "suffix": "mask"}
    return output_dir / _build(entities, STUDY_PATTERN).removeprefix("_")


def study_image_path(
    output_dir: Path, contrast: Mapping[str, str], *, desc: str, voxel_size: Sequence[float]
) -> Path:
    """Where an image of all participants, such as the mean of one contrast, goes.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    contrast
        Entities of the contrast, ``suffix`` among them.
    desc
        Label of the ``desc`` entity, such as ``mean``.
    voxel_size
        Voxel size in mm along x, y and z.
    """
    entities = {**contrast, **_grid(STUDY_SPACE, voxel_size), "desc": desc}
    return output_dir / _build(entities, STUDY_PATTERN).removeprefix("_")


def in_space(path: Path, *, space: str, voxel_size: Sequence[float]) -> Path:
    """Name of an image of ours after it was resampled to the grid of another space.

    Raises
    ------
    ValueError
        If the name has no ``space`` or no ``res`` to replace.

    Examples
    --------
    >>> image = Path("sub-01_space-individual_res-1mm_desc-sr_T1w.nii.gz")
    >>> in_space(image, space="study", voxel_size=(2, 2, 2)).name
    'sub-01_space-study_res-2mm_desc-sr_T1w.nii.gz'
    """
    name, spaces = re.subn(r"_space-[^_]+_", f"_space-{space}_", path.name)
    name, resolutions = re.subn(r"_res-[^_]+_", f"_res-{resolution_label(voxel_size)}_", name)
    if spaces != 1 or resolutions != 1:
        raise ValueError(f"{path} has no space and res to replace")
    return path.with_name(name)


def sidecar_path(path: Path) -> Path:
    """Name the JSON file that belongs to an image or a transform.

    Examples
    --------
    >>> sidecar_path(Path("sub-01_T1w.nii.gz")).name
    'sub-01_T1w.json'
    """
    return path.with_name(path.name.split(".", 1)[0] + ".json")


def lookup_path(path: Path) -> Path:
    """Name the table of labels that belongs to a label image.

    Examples
    --------
    >>> lookup_path(Path("sub-01_dseg.nii.gz")).name
    'sub-01_dseg.tsv'
    """
    return sidecar_path(path).with_suffix(".tsv")


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


def _grid(space: str, voxel_size: Sequence[float]) -> dict[str, str]:
    return {"space": space, "res": resolution_label(voxel_size)}


def _unit(plan: Unit, datatype: Datatype) -> dict[str, str]:
    session = {"session": plan.session} if plan.session else {}
    return {"subject": plan.participant, **session, "datatype": datatype}


def _entities_of(scan: Scan) -> dict[str, str]:
    """Entities that tell the scans of a unit apart."""
    others = {"subject", "session", "suffix", "datatype", "extension"}
    return {name: value for name, value in scan.entities.items() if name not in others}


def _label_entities(plan: ParticipantPlan) -> dict[str, dict[str, str]]:
    """Entities of every label image of a unit, by its URI, no two of them the same."""
    labels = [(scan, label) for scan in plan.scans for label in scan.labels]
    entities = [_own_label_entities(scan, label) for scan, label in labels]
    suffixes = [scan.entities["suffix"] for scan, _ in labels]
    for tie_breakers in (suffixes, list(map(str, range(1, len(labels) + 1)))):
        frozen = [frozenset(each.items()) for each in entities]
        for each, key, tie_breaker in zip(entities, frozen, tie_breakers, strict=True):
            if frozen.count(key) > 1:
                each["desc"] = each.get("desc", "") + tie_breaker
    return {label.uri: each for (_, label), each in zip(labels, entities, strict=True)}


def _own_label_entities(scan: Scan, label: LabelImage) -> dict[str, str]:
    own = _entities_of(scan)
    entities = {name: value for name, value in own.items() if name in _LABEL_ENTITIES}
    entities |= {key: label.entities[key] for key in ("atlas", "seg") if key in label.entities}
    homeless = [ENTITY_KEYS[name] + own[name] for name in own if name not in _LABEL_ENTITIES]
    desc = [label.entities[key] for key in ("desc", "label") if key in label.entities]
    if desc or homeless:
        entities["desc"] = "".join([*desc, *homeless])
    return entities


def _build(entities: Mapping[str, str], pattern: str) -> str:
    from bids.layout.writing import build_path

    path = build_path(dict(entities), [pattern], strict=True)
    if not isinstance(path, str):
        raise ValueError(f"no file name can be built from {dict(entities)}")
    return path
