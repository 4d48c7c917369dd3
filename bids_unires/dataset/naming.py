"""Paths of the output files, made by pybids from the patterns of this module."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from .entities import ENTITY_KEYS
from .scans import Contrast, Datatype, LabelImage, ParticipantPlan, Scan, datatype_of

SPACE = "individual"
# Label of the space that all participants share at the group level.
STUDY_SPACE = "study"
# Suffix of the ``desc`` label of a map of standard deviations, for which BIDS has no entity.
STD = "Std"
# The same of a map of how much of the detail was measured.
MEASURED = "Measured"

# The patterns of pybids for derivatives drop space, res and desc, so that the result would be the
# name of the raw image. These patterns are filled in completely, or an error is raised.
_UNIT = "sub-{subject}[/ses-{session}]/{datatype}/sub-{subject}[_ses-{session}]"
_ACQUIRED = (
    "[_sample-{sample}][_task-{task}][_acq-{acquisition}][_ce-{ceagent}][_stain-{staining}]"
    "[_rec-{reconstruction}][_dir-{direction}][_run-{run}][_echo-{echo}][_flip-{flip}]"
    "[_inv-{inv}][_mt-{mt}][_part-{part}]"
)
_ON_GRID = "_space-{space}[_chunk-{chunk}][_atlas-{atlas}][_seg-{seg}]_res-{res}[_desc-{desc}]"
IMAGE_PATTERN = f"{_UNIT}{_ACQUIRED}{_ON_GRID}_{{suffix}}.nii.gz"
RAW_PATTERN = f"{_UNIT}{_ACQUIRED}[_chunk-{{chunk}}]_{{suffix}}.nii.gz"
TRANSFORM_PATTERN = (
    f"{_UNIT}{_ACQUIRED}[_chunk-{{chunk}}]_from-{{from}}_to-{{to}}_mode-{{mode}}_xfm.txt"
)
# Pattern of images that belong to no participant: those of a template, whose name is that of the
# space of the study.
STUDY_PATTERN = (
    f"tpl-{{space}}/{{datatype}}/tpl-{{space}}{_ACQUIRED}[_chunk-{{chunk}}]_res-{{res}}"
    "[_desc-{desc}]_{suffix}.nii.gz"
)
_FORMER_STUDY_NAME = re.compile(
    rf"(?P<acquired>(?:[a-z]+-[^_]+_)*)space-{STUDY_SPACE}_(?P<grid>(?:chunk-[^_]+_)?res-[^_]+_)"
    r"desc-(?P<desc>grid|mean|cohort)_(?P<suffix>[0-9A-Za-z]+)(?P<ending>\.nii\.gz|\.json)"
)
# Entities of the scan that BIDS allows in the name of a segmentation.
_LABEL_ENTITIES = frozenset(
    {"task", "acquisition", "ceagent", "reconstruction", "run", "echo", "part", "chunk"}
)


class Unit(Protocol):
    """The properties of a unit of work that the names of its files depend on."""

    @property
    def participant(self) -> str:
        """Label of the participant, without ``sub-``."""

    @property
    def session(self) -> str | None:
        """Label of the session, without ``ses-``; None if there are no sessions."""

    @property
    def shared_datatype(self) -> Datatype:
        """Folder of files that belong to no single contrast."""


def aligned_space(template: str, align: str) -> str:
    """Label of the space of images that were aligned to a template, but not warped to it.

    Parameters
    ----------
    template
        Name of the template in TemplateFlow.
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
    """Path of the reconstructed image of one contrast.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    plan
        The unit of work of the image.
    contrast
        The contrast. The name has its entities, without those that differ among its repeats.
    desc
        Label of the ``desc`` entity: ``sr``, ``denoised`` or ``resliced``. With `STD` or
        `MEASURED` added, the path is that of the map of standard deviations of that image, or of
        the share of its detail that was measured.
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


def raw_image_path(
    participant: str, session: str | None, contrast: Mapping[str, str], *, desc: str
) -> Path:
    """Path, in a raw dataset, of a reconstructed image that is handed over as if it was acquired.

    Parameters
    ----------
    participant, session
        Labels without ``sub-`` and ``ses-``.
    contrast
        Entities of the contrast, including ``suffix``. A ``rec-`` label of the scans is kept, and
        ``desc`` is added to it.
    desc
        How the image was made: ``sr``, ``denoised`` or ``resliced``. A raw name has no ``desc``
        entity, so it becomes the label of ``rec``.

    Examples
    --------
    >>> raw_image_path("01", None, {"suffix": "T1w"}, desc="sr").name
    'sub-01_rec-sr_T1w.nii.gz'
    >>> raw_image_path("01", "a", {"reconstruction": "norm", "suffix": "T1w"}, desc="sr").name
    'sub-01_ses-a_rec-normSr_T1w.nii.gz'
    """
    scanner = contrast.get("reconstruction")
    entities = {
        **contrast,
        "subject": participant,
        **({"session": session} if session else {}),
        "datatype": datatype_of(contrast["suffix"]),
        "reconstruction": scanner + desc.capitalize() if scanner else desc,
    }
    return Path(_build(entities, RAW_PATTERN))


def mask_path(
    output_dir: Path,
    plan: Unit,
    *,
    desc: str,
    voxel_size: Sequence[float],
    space: str = SPACE,
) -> Path:
    """Path of a mask of a participant, where ``desc`` is ``fov``, ``brain`` or ``head``."""
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
    """Path of the mask of the scanned field of view, which also defines the grid."""
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
    """Path of a label image that was resampled to the grid of the results.

    The name has the entities ``atlas``, ``seg`` and ``desc`` of the label image, and those of the
    scan. Entities that BIDS does not allow in the name of a segmentation (``label``, some entities
    of the scan) are added to ``desc``. If two label images of the unit still had the same name, the
    suffix of their scans is added to ``desc``, and then a number.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    plan, scan
        The unit of work, and the scan on which ``label`` was drawn.
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
    """Path of the transform of one scan to the space of the results."""
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
    """Path of the transform from the space of the results to a template or the study space."""
    entities = {
        **_unit(plan, plan.shared_datatype),
        "from": space,
        "to": template,
        "mode": "image",
    }
    return output_dir / _build(entities, TRANSFORM_PATTERN)


def study_grid_path(output_dir: Path, *, voxel_size: Sequence[float]) -> Path:
    """Path of the mask that defines the grid of all participants."""
    entities = {**_grid(STUDY_SPACE, voxel_size), "desc": "grid", "suffix": "mask"}
    return output_dir / _build({**entities, "datatype": "anat"}, STUDY_PATTERN)


def study_image_path(
    output_dir: Path,
    contrast: Mapping[str, str],
    *,
    voxel_size: Sequence[float],
    desc: str | None = None,
) -> Path:
    """Path of an image of all participants, such as the mean of one contrast.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    contrast
        Entities of the contrast, including ``suffix``.
    voxel_size
        Voxel size in mm along x, y and z.
    desc
        Label of the ``desc`` entity; None for the mean over participants, the template itself.
    """
    described = {"desc": desc} if desc else {}
    datatype = {"datatype": datatype_of(contrast["suffix"])}
    entities = {**contrast, **_grid(STUDY_SPACE, voxel_size), **described, **datatype}
    return output_dir / _build(entities, STUDY_PATTERN)


def study_folders(output_dir: Path) -> tuple[Path, ...]:
    """Folders of the images of all participants."""
    return tuple(sorted(output_dir.glob(f"tpl-{STUDY_SPACE}/*")))


def present_study_name(former: str) -> str | None:
    """Present path, in the dataset, of an image of all participants under its former name.

    Version 0.1.0 put these images beside the folders of the participants, because BIDS had no
    place for them before version 1.11.

    Parameters
    ----------
    former
        Name of an image or sidecar in the root of the dataset.

    Returns
    -------
    str or None
        None if it is not the former name of such an image.

    Examples
    --------
    >>> present_study_name("acq-x_space-study_res-1mm_desc-mean_T1w.nii.gz")
    'tpl-study/anat/tpl-study_acq-x_res-1mm_T1w.nii.gz'
    >>> present_study_name("space-study_res-1mm_desc-grid_mask.json")
    'tpl-study/anat/tpl-study_res-1mm_desc-grid_mask.json'
    """
    found = _FORMER_STUDY_NAME.fullmatch(former)
    if found is None:
        return None
    template = f"tpl-{STUDY_SPACE}"
    kind = "" if found["desc"] == "mean" else f"desc-{found['desc']}_"
    name = f"{template}_{found['acquired']}{found['grid']}{kind}{found['suffix']}{found['ending']}"
    return f"{template}/{datatype_of(found['suffix'])}/{name}"


def in_space(path: Path, *, space: str, voxel_size: Sequence[float]) -> Path:
    """Path of an output image after it was resampled to the grid of another space.

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
    """Path of the JSON sidecar of an image or a transform.

    Examples
    --------
    >>> sidecar_path(Path("sub-01_T1w.nii.gz")).name
    'sub-01_T1w.json'
    """
    return path.with_name(path.name.split(".", 1)[0] + ".json")


def lookup_path(path: Path) -> Path:
    """Path of the table of labels of a label image.

    Examples
    --------
    >>> lookup_path(Path("sub-01_dseg.nii.gz")).name
    'sub-01_dseg.tsv'
    """
    return sidecar_path(path).with_suffix(".tsv")


def resolution_label(voxel_size: Sequence[float]) -> str:
    """Label of the ``res`` entity: letters and digits only, with ``p`` for the decimal point.

    Parameters
    ----------
    voxel_size
        Voxel size in mm along x, y and z.

    Examples
    --------
    >>> resolution_label((1.5, 1.5, 1.5)), resolution_label((1, 1, 2))
    ('1p5mm', '1x1x2mm')
    """
    sizes = [_decimal(size).replace(".", "p") for size in voxel_size]
    return (sizes[0] if len(set(sizes)) == 1 else "x".join(sizes)) + "mm"


def resolution_text(voxel_size: Sequence[float]) -> str:
    """Resolution in words, for the sidecar.

    Examples
    --------
    >>> resolution_text((1, 1, 1)), resolution_text((1, 1, 2.5))
    ('1 mm isotropic', '1 x 1 x 2.5 mm')
    """
    sizes = [_decimal(size) for size in voxel_size]
    return f"{sizes[0]} mm isotropic" if len(set(sizes)) == 1 else " x ".join(sizes) + " mm"


def _decimal(size: float) -> str:
    """A size in mm as a decimal number, rounded to micrometres, without an exponent."""
    return np.format_float_positional(round(float(size), 3), trim="-")


def _grid(space: str, voxel_size: Sequence[float]) -> dict[str, str]:
    return {"space": space, "res": resolution_label(voxel_size)}


def _unit(plan: Unit, datatype: Datatype) -> dict[str, str]:
    session = {"session": plan.session} if plan.session else {}
    return {"subject": plan.participant, **session, "datatype": datatype}


def _entities_of(scan: Scan) -> dict[str, str]:
    """Entities by which the scans of a unit of work differ."""
    others = {"subject", "session", "suffix", "datatype", "extension"}
    return {name: value for name, value in scan.entities.items() if name not in others}


def _label_entities(plan: ParticipantPlan) -> dict[str, dict[str, str]]:
    """Entities for the name of each label image of a unit, by its URI; no two are the same."""
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
